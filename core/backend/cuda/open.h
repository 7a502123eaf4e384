/* Rows of ops.def without a CUDA kernel yet: a line leaves with the kernel that takes its place.  Device.c alone includes this. */
#ifndef MASSACT_BACKEND_CUDA_OPEN_H
#define MASSACT_BACKEND_CUDA_OPEN_H

/* attention.cu */
#define ma_cuda_attention NULL
#define ma_cuda_attention_and_tally NULL
#define ma_cuda_attention_scores NULL
#define ma_cuda_attention_mix NULL
#define ma_cuda_attention_tally NULL
#define ma_cuda_attention_grad NULL
#define ma_cuda_attention_scores_grad NULL
#define ma_cuda_attention_mix_grad NULL

#endif
