/* What the CPU's kernels share. */
#ifndef MASSACT_BACKEND_CPU_INTERNAL_H
#define MASSACT_BACKEND_CPU_INTERNAL_H

#include "backend/cpu/rows.h"
#include "tensor/backend.h"

/* One kernel for each row of ops.def; device.c puts them in the table. */
#define MA_OP(name, params, doc) ma_status ma_cpu_##name params;
#include "tensor/ops.def"
#undef MA_OP

/* ---- walking several tensors of one shape ---- */

enum { MA_WALK_MAX = 4, MA_WALK_CHUNK = 1024 };

/* Tensors of one shape as rows: the inner dim is as long as their strides allow, the rest is counted by
 * `outer`.  Broadcast dims have stride 0. */
typedef struct ma_walk {
  int n, n_dims; /* tensors; outer dims */
  int64_t outer, inner;
  int64_t shape[MA_MAX_DIMS];
  int64_t strides[MA_WALK_MAX][MA_MAX_DIMS];
  int64_t inner_stride[MA_WALK_MAX];
  int64_t offset[MA_WALK_MAX];
} ma_walk;

/* `tensors` broadcast to the shape of the first. */
void ma_walk_begin(ma_walk *walk, int n, const ma_tensor *const *tensors);
/* Element offsets (from each storage's start) of row `outer`. */
void ma_walk_row(const ma_walk *walk, int64_t outer, int64_t *offsets);

/* ---- elements as f32 ---- */

/* `n` elements of `t` from element offset `at` on, `stride` apart: a pointer into the tensor where it is f32
 * and contiguous, else `buffer` filled.  A stride of 0 gives one element. */
const float *ma_row_load(const ma_rows *rows, float *buffer, const ma_tensor *t, int64_t at, int64_t stride, size_t n);
/* The same, but always `n` elements: a stride of 0 repeats the one. */
const float *ma_row_load_whole(const ma_rows *rows, float *buffer, const ma_tensor *t, int64_t at, int64_t stride,
                               size_t n);
/* The way back, for f32, f16, bf16 and u8. */
void ma_row_store(const ma_rows *rows, ma_tensor *t, int64_t at, int64_t stride, const float *from, size_t n);

/* One element exactly, whatever its type. */
double ma_element_load(const ma_tensor *t, int64_t at);
void ma_element_store(ma_tensor *t, int64_t at, double value);

/* ---- matrices ---- */

/* `t` as contiguous f32: itself (retained) where it is, else a copy.  *out is released by the caller. */
ma_status ma_cpu_as_f32(ma_tensor *out, const ma_tensor *t, ma_error *err);
/* Contiguous f32 for a kernel to write what `out` is to hold: `out` itself, or new; and what was written there goes to `out`. */
ma_status ma_cpu_out_f32(ma_tensor *wide, ma_tensor *out, ma_error *err);
ma_status ma_cpu_put_f32(ma_tensor *out, const ma_tensor *wide, ma_error *err);

/* c [m n] = x [m k] times the rows [first, first + n) of `weight` transposed, plus beta c.  `weight` may have
 * any dtype and split leading dims; `scratch` has room for n * k floats where it is not f32. */
void ma_cpu_times_rows(const ma_rows *rows, const float *x, int64_t x_step, int64_t m, const ma_tensor *weight,
                       int64_t first, int64_t n, float *scratch, float beta, float *c, int64_t c_step);
/* out [m k] = g [m n] times `weight` [n k], of any dtype; `scratch` has room for ma_cpu_panel rows where it is not ready. */
void ma_cpu_times_weight(const ma_rows *rows, const float *g, int64_t g_step, int64_t m, const ma_tensor *weight,
                         float *scratch, float *out, int64_t out_step);
int64_t ma_cpu_panel(const ma_tensor *weight); /* rows that are widened at a time */
/* out [n k], of any strides, = g [m n] transposed times x [m k], plus what was there. */
ma_status ma_cpu_add_outer(ma_tensor *out, const float *g, int64_t g_step, const float *x, int64_t x_step, int64_t m,
                           bool adds, ma_error *err);
/* Whether GEMM reads the weight where it is. */
bool ma_cpu_is_gemm_ready(const ma_tensor *weight);

#endif
