/* Making, asking, and single elements.  Views are in views.c, arithmetic in the subjects of ops.def. */
#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "tensor/backend.h"
#include "tensor/half.h"
#include "tensor/tape.h"

/* ---- shapes ---- */

const char *ma_shape_text(char text[MA_SHAPE_TEXT], int n_dims, const int64_t *shape) {
  size_t at = 0;
  at += (size_t)snprintf(text, MA_SHAPE_TEXT, "[");
  for (int i = 0; i < n_dims && at < MA_SHAPE_TEXT - 24; i++)
    at += (size_t)snprintf(text + at, MA_SHAPE_TEXT - at, i ? " x %lld" : "%lld", (long long)shape[i]);
  snprintf(text + at, MA_SHAPE_TEXT - at, "]");
  return text;
}

bool ma_shape_fits(int n_dims, const int64_t *shape) {
  uint64_t count = 1;
  for (int i = 0; i < n_dims; i++) {
    if (shape[i] < 0 || !ma_mul_u64(count, shape[i] > 0 ? (uint64_t)shape[i] : 1, &count) || count > INT64_MAX / 16)
      return false;
  }
  return true;
}

/* Bytes of a contiguous tensor; rows of block types must be whole blocks. */
static ma_status bytes_of(size_t *out, ma_dtype dtype, int n_dims, const int64_t *shape, ma_error *err) {
  char text[MA_SHAPE_TEXT];
  const ma_dtype_info *info = ma_dtype_describe(dtype);
  if (n_dims < 0 || n_dims > MA_MAX_DIMS)
    return ma_fail(err, MA_BAD_ARGUMENT, "a tensor has at most %d dims, not %d", MA_MAX_DIMS, n_dims);
  if (!ma_shape_fits(n_dims, shape))
    return ma_fail(err, MA_BAD_ARGUMENT, "a tensor cannot have shape %s", ma_shape_text(text, n_dims, shape));
  uint64_t count = 1;
  for (int i = 0; i < n_dims; i++) count *= (uint64_t)shape[i];
  if (info->block > 1 && (n_dims == 0 || shape[n_dims - 1] % info->block != 0))
    return ma_fail(err, MA_BAD_ARGUMENT, "rows of a %s tensor are multiples of %u elements, not %s", info->name,
                   info->block, ma_shape_text(text, n_dims, shape));
  *out = (size_t)(count / info->block * info->bytes);
  return MA_OK;
}

static void set_contiguous(ma_tensor *t, ma_dtype dtype, int n_dims, const int64_t *shape) {
  *t = (ma_tensor){.dtype = dtype, .n_dims = n_dims};
  int64_t stride = 1;
  for (int i = n_dims - 1; i >= 0; i--) {
    t->shape[i] = shape[i];
    t->strides[i] = stride;
    stride *= shape[i] > 0 ? shape[i] : 1;
  }
}

/* ---- making and dropping ---- */

ma_status ma_tensor_new(ma_tensor *out, ma_device *device, ma_dtype dtype, int n_dims, const int64_t *shape,
                        ma_error *err) {
  size_t bytes;
  ma_storage *storage;
  *out = (ma_tensor){0};
  ma_status st = bytes_of(&bytes, dtype, n_dims, shape, err);
  if (st == MA_OK) st = ma_storage_new(&storage, device, bytes, err);
  if (st != MA_OK) return st;
  set_contiguous(out, dtype, n_dims, shape);
  out->storage = storage;
  return MA_OK;
}

ma_status ma_tensor_new_like(ma_tensor *out, const ma_tensor *like, ma_dtype dtype, ma_error *err) {
  return ma_tensor_new(out, ma_tensor_device(like), dtype, like->n_dims, like->shape, err);
}

ma_status ma_tensor_over(ma_tensor *out, ma_storage *storage, size_t byte_offset, ma_dtype dtype, int n_dims,
                         const int64_t *shape, ma_error *err) {
  size_t bytes;
  const ma_dtype_info *info = ma_dtype_describe(dtype);
  *out = (ma_tensor){0};
  ma_status st = bytes_of(&bytes, dtype, n_dims, shape, err);
  if (st != MA_OK) return st;
  if (byte_offset > storage->bytes || bytes > storage->bytes - byte_offset)
    return ma_fail(err, MA_BAD_ARGUMENT, "a view of %zu bytes at %zu does not fit in a storage of %zu", bytes,
                   byte_offset, storage->bytes);
  if (byte_offset % info->bytes != 0)
    return ma_fail(err, MA_BAD_ARGUMENT, "byte offset %zu is not a multiple of a %s element", byte_offset, info->name);
  set_contiguous(out, dtype, n_dims, shape);
  out->offset = (int64_t)(byte_offset / info->bytes * info->block);
  out->storage = ma_storage_retain(storage);
  return MA_OK;
}

ma_tensor ma_tensor_retain(const ma_tensor *t) {
  if (t->storage) ma_storage_retain(t->storage);
  return *t;
}

void ma_tensor_release(ma_tensor *t) {
  ma_storage_release(t->storage);
  *t = (ma_tensor){0};
}

/* ---- asking ---- */

int64_t ma_tensor_count(const ma_tensor *t) {
  int64_t count = 1;
  for (int i = 0; i < t->n_dims; i++) count *= t->shape[i];
  return count;
}

size_t ma_tensor_bytes(const ma_tensor *t) {
  const ma_dtype_info *info = ma_dtype_describe(t->dtype);
  return (size_t)ma_tensor_count(t) / info->block * info->bytes;
}

bool ma_tensor_is_contiguous(const ma_tensor *t) {
  int64_t stride = 1;
  bool is_packed = true;
  for (int i = t->n_dims - 1; i >= 0; i--) {
    if (t->shape[i] == 0) return true; /* nothing lies anywhere */
    if (t->shape[i] != 1 && t->strides[i] != stride) is_packed = false;
    stride *= t->shape[i];
  }
  return is_packed;
}

bool ma_tensor_same_shape(const ma_tensor *a, const ma_tensor *b) {
  return a->n_dims == b->n_dims && memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof a->shape[0]) == 0;
}

/* Where element `at` (counted from the storage's start) lies; of block types, its block. */
static size_t byte_at(const ma_tensor *t, int64_t at) {
  const ma_dtype_info *info = ma_dtype_describe(t->dtype);
  return (size_t)at / info->block * info->bytes;
}

void *ma_tensor_data(const ma_tensor *t) { return (char *)t->storage->data + byte_at(t, t->offset); }

ma_device *ma_tensor_device(const ma_tensor *t) { return t->storage->device; }

/* ---- single elements ---- */

static ma_status locate(int64_t *out, const ma_tensor *t, const int64_t *index, ma_error *err) {
  char text[MA_SHAPE_TEXT];
  ma_status st = ma_storage_check(t->storage, err);
  if (st != MA_OK) return st;
  if (ma_dtype_is_block(t->dtype))
    return ma_fail(err, MA_UNSUPPORTED, "single elements of %s are packed; to{dtype=\"f32\"} unpacks them",
                   ma_dtype_describe(t->dtype)->name);
  *out = t->offset;
  for (int i = 0; i < t->n_dims; i++) {
    if (index[i] < 0 || index[i] >= t->shape[i])
      return ma_fail(err, MA_BAD_ARGUMENT, "index %lld of dim %d is outside %s (counted from 0)", (long long)index[i],
                     i, ma_shape_text(text, t->n_dims, t->shape));
    *out += index[i] * t->strides[i];
  }
  return MA_OK;
}

ma_status ma_tensor_get(double *out, const ma_tensor *t, const int64_t *index, ma_error *err) {
  union {
    float f32;
    uint16_t half;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
  } raw;
  int64_t at;
  ma_device *device = ma_tensor_device(t);
  ma_status st = locate(&at, t, index, err);
  if (st != MA_OK) return st;
  st = device->backend->download(device, &raw, (const char *)t->storage->data + byte_at(t, at),
                                 ma_dtype_describe(t->dtype)->bytes, err);
  if (st != MA_OK) return st;
  switch (t->dtype) {
    case MA_F32: *out = (double)raw.f32; break;
    case MA_F16: *out = (double)ma_f16_to_f32(raw.half); break;
    case MA_BF16: *out = (double)ma_bf16_to_f32(raw.half); break;
    case MA_I32: *out = raw.i32; break;
    case MA_I64: *out = (double)raw.i64; break;
    default: *out = raw.u8; break;
  }
  return MA_OK;
}

/* Integers take whole numbers in range only: rounding silently would change data. */
static ma_status check_integer(ma_dtype dtype, double value, ma_error *err) {
  double low = dtype == MA_U8 ? 0 : dtype == MA_I32 ? INT32_MIN : -0x1p63;
  double high = dtype == MA_U8 ? 256 : dtype == MA_I32 ? 0x1p31 : 0x1p63;
  if (value == floor(value) && value >= low && value < high) return MA_OK;
  return ma_fail(err, MA_BAD_ARGUMENT, "%g cannot be an element of a %s tensor", value, ma_dtype_describe(dtype)->name);
}

ma_status ma_tensor_set(ma_tensor *t, const int64_t *index, double value, ma_error *err) {
  union {
    float f32;
    uint16_t half;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
  } raw;
  int64_t at;
  ma_device *device = ma_tensor_device(t);
  ma_status st = locate(&at, t, index, err);
  if (st == MA_OK && !ma_dtype_is_float(t->dtype)) st = check_integer(t->dtype, value, err);
  if (st != MA_OK) return st;
  switch (t->dtype) {
    case MA_F32: raw.f32 = (float)value; break;
    case MA_F16: raw.half = ma_f16_from_f32((float)value); break;
    case MA_BF16: raw.half = ma_bf16_from_f32((float)value); break;
    case MA_I32: raw.i32 = (int32_t)value; break;
    case MA_I64: raw.i64 = (int64_t)value; break;
    default: raw.u8 = (uint8_t)value; break;
  }
  if (ma_tensor_is_tracked(t)) {
    ma_tensor one = *t;
    one.n_dims = 0;
    one.offset = at;
    return ma_fill(&one, value, err);
  }
  ma_storage_written(t->storage);
  return device->backend->upload(device, (char *)t->storage->data + byte_at(t, at), &raw,
                                 ma_dtype_describe(t->dtype)->bytes, err);
}
