/* Rows of tensors of any dtype, shape and strides. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "tensor/half.h"

/* Strides of `t` broadcast to `n_dims` dims of the given shape. */
static void broadcast_strides(int64_t *strides, const ma_tensor *t, int n_dims, const int64_t *shape) {
  int missing = n_dims - t->n_dims;
  for (int i = 0; i < n_dims; i++)
    strides[i] = i < missing || t->shape[i - missing] != shape[i] ? 0 : t->strides[i - missing];
}

void ma_walk_begin(ma_walk *w, int n, const ma_tensor *const *tensors) {
  int64_t strides[MA_WALK_MAX][MA_MAX_DIMS];
  int n_dims = tensors[0]->n_dims;
  *w = (ma_walk){.n = n, .outer = 1, .inner = 1};
  for (int t = 0; t < n; t++) {
    broadcast_strides(strides[t], tensors[t], n_dims, tensors[0]->shape);
    w->offset[t] = tensors[t]->offset;
    w->inner_stride[t] = n_dims ? strides[t][n_dims - 1] : 1;
  }
  int dim = n_dims - 1;
  if (dim >= 0) w->inner = tensors[0]->shape[dim--];
  /* The inner row swallows an outer dim while every tensor's stride continues it. */
  for (; dim >= 0; dim--) {
    bool joins = true;
    for (int t = 0; t < n; t++) joins &= strides[t][dim] == w->inner * w->inner_stride[t];
    if (!joins) break;
    w->inner *= tensors[0]->shape[dim];
  }
  w->n_dims = dim + 1;
  for (int i = 0; i < w->n_dims; i++) {
    w->shape[i] = tensors[0]->shape[i];
    w->outer *= w->shape[i];
    for (int t = 0; t < n; t++) w->strides[t][i] = strides[t][i];
  }
}

void ma_walk_row(const ma_walk *w, int64_t outer, int64_t *offsets) {
  memcpy(offsets, w->offset, (size_t)w->n * sizeof *offsets);
  for (int i = w->n_dims - 1; i >= 0; i--) {
    int64_t index = outer % w->shape[i];
    outer /= w->shape[i];
    for (int t = 0; t < w->n; t++) offsets[t] += index * w->strides[t][i];
  }
}

/* ---- elements ---- */

static char *address(const ma_tensor *t, int64_t at) {
  const ma_dtype_info *info = ma_dtype_describe(t->dtype);
  return (char *)t->storage->data + (size_t)at / info->block * info->bytes;
}

const float *ma_row_load(const ma_rows *rows, float *buffer, const ma_tensor *t, int64_t at, int64_t stride, size_t n) {
  const char *from = address(t, at);
  if (t->dtype == MA_F32 && (stride == 1 || stride == 0 || n == 1)) return (const float *)(const void *)from;
  if (stride == 1 || n == 1) {
    rows->widen(buffer, from, t->dtype, n);
  } else if (stride == 0) {
    rows->widen(buffer, from, t->dtype, 1);
  } else if (t->dtype == MA_F32) {
    const float *f = (const float *)(const void *)from;
    for (size_t i = 0; i < n; i++) buffer[i] = f[(int64_t)i * stride];
  } else {
    for (size_t i = 0; i < n; i++) rows->widen(buffer + i, address(t, at + (int64_t)i * stride), t->dtype, 1);
  }
  return buffer;
}

const float *ma_row_load_whole(const ma_rows *rows, float *buffer, const ma_tensor *t, int64_t at, int64_t stride,
                               size_t n) {
  const float *row = ma_row_load(rows, buffer, t, at, stride, n);
  if (stride != 0 || n < 2) return row;
  float one = *row;
  for (size_t i = 0; i < n; i++) buffer[i] = one;
  return buffer;
}

void ma_row_store(const ma_rows *rows, ma_tensor *t, int64_t at, int64_t stride, const float *from, size_t n) {
  char *to = address(t, at);
  if (stride == 1 || n == 1) {
    if ((const void *)to != (const void *)from) rows->narrow(to, from, t->dtype, n);
    return;
  }
  for (size_t i = 0; i < n; i++) rows->narrow(address(t, at + (int64_t)i * stride), from + i, t->dtype, 1);
}

double ma_element_load(const ma_tensor *t, int64_t at) {
  const void *p = address(t, at);
  switch (t->dtype) {
    case MA_F32: return (double)*(const float *)p;
    case MA_F16: return (double)ma_f16_to_f32(*(const uint16_t *)p);
    case MA_BF16: return (double)ma_bf16_to_f32(*(const uint16_t *)p);
    case MA_I32: return *(const int32_t *)p;
    case MA_I64: return (double)*(const int64_t *)p;
    case MA_U8: return *(const uint8_t *)p;
    default: return 0; /* block types have no single elements; operations refuse them */
  }
}

/* Integers saturate: C leaves the conversion of what does not fit undefined. */
static double clamp(double value, double low, double high) {
  return value != value ? 0 : value < low ? low : value > high ? high : value;
}

void ma_element_store(ma_tensor *t, int64_t at, double value) {
  void *p = address(t, at);
  switch (t->dtype) {
    case MA_F32: *(float *)p = (float)value; break;
    case MA_F16: *(uint16_t *)p = ma_f16_from_f32((float)value); break;
    case MA_BF16: *(uint16_t *)p = ma_bf16_from_f32((float)value); break;
    case MA_I32: *(int32_t *)p = (int32_t)clamp(value, INT32_MIN, INT32_MAX); break;
    case MA_I64: *(int64_t *)p = (int64_t)clamp(value, -0x1p63, 0x1.fffffffffffffp62); break;
    case MA_U8: *(uint8_t *)p = (uint8_t)clamp(value, 0, 255); break;
    default: break; /* block types are read-only */
  }
}
