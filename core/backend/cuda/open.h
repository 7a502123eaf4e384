/* Rows of ops.def without a CUDA kernel yet: a line leaves with the kernel that takes its place.  Device.c alone includes this. */
#ifndef MASSACT_BACKEND_CUDA_OPEN_H
#define MASSACT_BACKEND_CUDA_OPEN_H

/* reduce.cu */
#define ma_cuda_reduce NULL
#define ma_cuda_sort NULL
#define ma_cuda_topk NULL
#define ma_cuda_quantile NULL
#define ma_cuda_reduce_grad NULL

/* statistics.cu */
#define ma_cuda_statistics NULL

/* matmul.cu */
#define ma_cuda_linear NULL
#define ma_cuda_linear_grad_x NULL
#define ma_cuda_linear_grad_weight NULL

/* attention.cu */
#define ma_cuda_attention NULL
#define ma_cuda_attention_and_tally NULL
#define ma_cuda_attention_scores NULL
#define ma_cuda_attention_mix NULL
#define ma_cuda_attention_tally NULL
#define ma_cuda_attention_grad NULL
#define ma_cuda_attention_scores_grad NULL
#define ma_cuda_attention_mix_grad NULL

/* loss.cu */
#define ma_cuda_cross_entropy NULL
#define ma_cuda_linear_cross_entropy NULL
#define ma_cuda_cross_entropy_grad NULL
#define ma_cuda_linear_cross_entropy_grad NULL
#define ma_cuda_mean_cross_entropy NULL

#endif
