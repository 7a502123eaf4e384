/* The one door to BLAS: single-precision GEMM, row-major. */
#ifndef MASSACT_BACKEND_CPU_BLAS_H
#define MASSACT_BACKEND_CPU_BLAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A matrix in memory: `step` elements from row to row; transposed: from column to column. */
typedef struct ma_matrix {
  const float *data;
  int64_t step;
  bool is_transposed;
} ma_matrix;

/* c [m n] (rows `c_step` apart) = alpha a [m k] b [k n] + beta c.  All threads; one inside a parallel
 * region.  Needs ma_blas_open to have succeeded. */
void ma_sgemm(int64_t m, int64_t n, int64_t k, float alpha, ma_matrix a, ma_matrix b, float beta, float *c,
              int64_t c_step);

/* Loads OpenBLAS, once; every later call is cheap and gives the same answer. */
ma_status ma_blas_open(ma_error *err);
/* "OpenBLAS 0.3.21 SkylakeX, 2 threads", into `text`. */
void ma_blas_describe(char *text, size_t size);

#endif
