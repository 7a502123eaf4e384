/* Lines: the elements along one dim of a tensor, or all of them, for each place in the rest, in row-major order. */
#ifndef MASSACT_BACKEND_CUDA_LINES_CUH
#define MASSACT_BACKEND_CUDA_LINES_CUH

#include "backend/cuda/walk.cuh"

/* Handed to kernels by value. */
struct ma_lines {
  ma_cuda_walk first; /* the lines' first elements */
  void *data;
  ma_dtype dtype;
  int64_t n, length, step;
};

/* `t` with one element along `dim`, the first. */
inline ma_tensor ma_first_along(const ma_tensor *t, int dim) {
  ma_tensor view = *t;
  view.shape[dim] = 1;
  view.strides[dim] = 0;
  return view;
}

/* Along `dim`, where they lie. */
inline ma_lines ma_lines_along(const ma_tensor *t, int dim) {
  ma_lines l{};
  const ma_tensor first = ma_first_along(t, dim), *tensors[] = {&first};
  l.first = ma_cuda_walk_over(1, tensors);
  l.data = ma_tensor_data(t), l.dtype = t->dtype;
  l.n = l.first.count, l.length = t->shape[dim], l.step = t->strides[dim];
  return l;
}

/* Along `dim`, or of MA_ALL a single one; *held keeps the elements. */
inline ma_status ma_lines_of(ma_lines *out, ma_held *held, const ma_tensor *t, int dim, ma_error *err) {
  if (dim != MA_ALL || ma_tensor_is_contiguous(t)) held->tensor = ma_tensor_retain(t);
  else MA_CUDA_TRY(ma_tensor_convert(&held->tensor, t, t->dtype, err));
  if (dim != MA_ALL) {
    *out = ma_lines_along(&held->tensor, dim);
    return MA_OK;
  }
  ma_tensor flat = held->tensor;
  flat.n_dims = 1;
  flat.shape[0] = ma_tensor_count(t);
  flat.strides[0] = 1;
  *out = ma_lines_along(&flat, 0);
  return MA_OK;
}

__device__ inline int64_t ma_line_start(const ma_lines &l, int64_t line) {
  int64_t at[1];
  ma_walk_at<1>(l.first, line, at);
  return at[0];
}

#endif
