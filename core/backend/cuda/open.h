/* Rows of ops.def without a CUDA kernel yet: a line leaves with the kernel that takes its place.  Device.c alone includes this. */
#ifndef MASSACT_BACKEND_CUDA_OPEN_H
#define MASSACT_BACKEND_CUDA_OPEN_H

/* norm.cu */
#define ma_cuda_softmax_grad NULL
#define ma_cuda_rms_norm_grad NULL
#define ma_cuda_layer_norm_grad NULL
#define ma_cuda_dyt_grad NULL
#define ma_cuda_gated_grad NULL

/* experts.cu */
#define ma_cuda_route NULL
#define ma_cuda_add_rows NULL

/* loss.cu */
#define ma_cuda_cross_entropy NULL
#define ma_cuda_linear_cross_entropy NULL
#define ma_cuda_cross_entropy_grad NULL
#define ma_cuda_linear_cross_entropy_grad NULL
#define ma_cuda_mean_cross_entropy NULL

#endif
