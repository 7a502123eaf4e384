/* Products of matrices by cuBLASLt, which is loaded with the first one (blas.c). */
#ifndef MASSACT_BACKEND_CUDA_BLAS_H
#define MASSACT_BACKEND_CUDA_BLAS_H

#include "backend/cuda/cuda_internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A matrix of `a` or `b` as it lies in device memory: rows `step` elements apart, columns next to each other.  Transposed, what
 * is multiplied has its columns as rows. */
typedef struct ma_cuda_matrix {
  const void *data;
  int64_t step;
  int64_t batch_step; /* elements from a batch's matrix to the next one's; 0: the same for all */
  bool is_transposed;
} ma_cuda_matrix;

/* out [m n] = alpha a [m k] b [k n] + beta out + bias, `n_batches` times.  `dtype` (f32, f16, bf16) is that of a and b; sums are in f32
 * whatever it is, and f32 is not cut to TF32 unless the device allows it. */
typedef struct ma_cuda_gemm {
  int64_t m, n, k, n_batches;
  ma_dtype dtype, out_dtype; /* out: f32, or `dtype` */
  ma_cuda_matrix a, b;
  void *out;
  const void
      *bias; /* [n] of out's type, added to every row before it is rounded, at an address that 16 divides; or NULL */
  int64_t out_step, out_batch_step;
  float alpha, beta;
} ma_cuda_gemm;

/* MA_UNSUPPORTED where the library has no kernel for it, as for some products with a bias. */
ma_status ma_cuda_multiply(ma_device *device, const ma_cuda_gemm *gemm, ma_error *err);

#ifdef __cplusplus
}
#endif

#endif
