/* Products through cuBLASLt. */
#include "backend/cuda/blas.h"
#include "backend/cuda/launch.cuh"

namespace {

/* The step from matrix to matrix of a tensor's leading dims; false where there is not one step for all. */
bool batch_step_of(const ma_tensor *t, int64_t *step) {
  int64_t next = -1; /* what the next outer dim's stride has to be */
  *step = 0;
  for (int d = t->n_dims - 3; d >= 0; d--) {
    if (t->shape[d] == 1) continue;
    if (next < 0) *step = t->strides[d];
    else if (t->strides[d] != next) return false;
    next = t->strides[d] * t->shape[d];
  }
  return true;
}

/* The last two dims as GEMM reads them; false where they do not lie like that. */
bool as_matrix(const ma_tensor *t, ma_cuda_matrix *out) {
  const int row = t->n_dims - 2, column = t->n_dims - 1;
  const int64_t rows = t->shape[row], columns = t->shape[column];
  *out = {ma_tensor_data(t), 0, 0, false};
  if (!batch_step_of(t, &out->batch_step)) return false;
  if ((t->strides[column] == 1 || columns == 1) && (rows == 1 || t->strides[row] >= columns)) {
    out->step = rows == 1 ? columns : t->strides[row];
    return true;
  }
  if ((t->strides[row] == 1 || rows == 1) && (columns == 1 || t->strides[column] >= rows)) {
    out->step = columns == 1 ? rows : t->strides[column];
    out->is_transposed = true;
    return true;
  }
  return false;
}

/* `t`, broadcast to the batch dims of `like`, as GEMM reads it in `dtype`: where it lies, or a copy in *held. */
ma_status ready(ma_cuda_matrix *out, ma_held *held, const ma_tensor *t, const ma_tensor *like, ma_dtype dtype, ma_error *err) {
  ma_held view, copy;
  int64_t shape[MA_MAX_DIMS];
  std::memcpy(shape, like->shape, sizeof shape);
  shape[like->n_dims - 2] = t->shape[t->n_dims - 2];
  shape[like->n_dims - 1] = t->shape[t->n_dims - 1];
  if (t->dtype == dtype) copy.tensor = ma_tensor_retain(t);
  else MA_CUDA_TRY(ma_tensor_convert(&copy.tensor, t, dtype, err));
  MA_CUDA_TRY(ma_tensor_expand(&view.tensor, &copy.tensor, like->n_dims, shape, err));
  if (as_matrix(&view.tensor, out)) {
    held->tensor = ma_tensor_retain(&view.tensor);
    return MA_OK;
  }
  MA_CUDA_TRY(ma_tensor_convert(&held->tensor, &view.tensor, dtype, err));
  as_matrix(&held->tensor, out);
  return MA_OK;
}

/* Two 16-bit operands of one type are multiplied as they are, their products being exact in f32. */
ma_dtype product_dtype(ma_dtype a, ma_dtype b) { return a == b && ma_dtype_is_float(a) ? a : MA_F32; }

}  // namespace

ma_status ma_cuda_matmul(ma_tensor *out, const ma_tensor *a, const ma_tensor *b, ma_error *err) {
  ma_cuda_gemm g{};
  ma_cuda_matrix to;
  ma_held ready_a, ready_b, made;
  g.m = out->shape[out->n_dims - 2], g.n = out->shape[out->n_dims - 1], g.k = a->shape[a->n_dims - 1];
  if (ma_tensor_count(out) == 0) return MA_OK;
  if (g.k == 0) return ma_cuda_fill(out, 0, err);
  g.n_batches = ma_tensor_count(out) / (g.m * g.n);
  g.dtype = product_dtype(a->dtype, b->dtype), g.out_dtype = MA_F32, g.alpha = 1;
  MA_CUDA_TRY(ready(&g.a, &ready_a, a, out, g.dtype, err));
  MA_CUDA_TRY(ready(&g.b, &ready_b, b, out, g.dtype, err));
  const bool is_direct = as_matrix(out, &to) && !to.is_transposed;
  if (!is_direct) {
    MA_CUDA_TRY(ma_tensor_new_like(&made.tensor, out, MA_F32, err));
    as_matrix(&made.tensor, &to);
  }
  g.out = const_cast<void *>(to.data), g.out_step = to.step, g.out_batch_step = to.batch_step;
  MA_CUDA_TRY(ma_cuda_multiply(ma_tensor_device(out), &g, err));
  return is_direct ? MA_OK : ma_cuda_copy(out, &made.tensor, err);
}
