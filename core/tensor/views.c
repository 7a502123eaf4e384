/* Views: other shapes and strides over the same storage. */
#include <string.h>

#include "tensor/tensor.h"

static ma_status bad_dim(const ma_tensor *t, int dim, ma_error *err) {
  char text[MA_SHAPE_TEXT];
  return ma_fail(err, MA_BAD_ARGUMENT, "dim %d is outside %s (counted from 0)", dim,
                 ma_shape_text(text, t->n_dims, t->shape));
}

/* The last dim of a block type stays as it is: its blocks cannot be cut or moved. */
static ma_status check_whole_rows(const ma_tensor *t, int dim, ma_error *err) {
  if (!ma_dtype_is_block(t->dtype) || dim != t->n_dims - 1) return MA_OK;
  return ma_fail(err, MA_UNSUPPORTED, "rows of a %s tensor cannot be cut; to{dtype=\"f32\"} unpacks it",
                 ma_dtype_describe(t->dtype)->name);
}

/* Fills the -1 in `shape` and compares the counts. */
static ma_status resolve(int64_t *full, const ma_tensor *t, int n_dims, const int64_t *shape, ma_error *err) {
  char has[MA_SHAPE_TEXT], wants[MA_SHAPE_TEXT];
  int64_t count = ma_tensor_count(t), known = 1;
  int open = -1;
  if (n_dims < 0 || n_dims > MA_MAX_DIMS)
    return ma_fail(err, MA_BAD_ARGUMENT, "a tensor has at most %d dims, not %d", MA_MAX_DIMS, n_dims);
  for (int i = 0; i < n_dims; i++) {
    full[i] = shape[i];
    if (shape[i] == -1 && open < 0) open = i;
    else if (shape[i] < 0 || (shape[i] > 0 && known > count / shape[i] + 1)) known = -1;
    else if (known >= 0) known *= shape[i];
  }
  bool fits = known >= 0 && (count > 0 || open >= 0 || ma_shape_fits(n_dims, shape)) &&
              (open < 0 ? known == count : known > 0 && count % known == 0);
  if (!fits)
    return ma_fail(err, MA_BAD_ARGUMENT, "%s cannot become %s: other number of elements",
                   ma_shape_text(has, t->n_dims, t->shape), ma_shape_text(wants, n_dims, shape));
  if (open >= 0) full[open] = count / known;
  return MA_OK;
}

/* Strides for `full` over the strides of `t`, run by run: dims of `t` that lie contiguously over each other
 * are one run, and each run is split anew.  False where a new dim would straddle two runs. */
static bool restride(int64_t *strides, const ma_tensor *t, int n_dims, const int64_t *full) {
  int from = 0, to = 0;
  if (ma_tensor_count(t) == 0) {
    for (int i = 0; i < n_dims; i++) strides[i] = 1;
    return true;
  }
  while (from < t->n_dims || to < n_dims) {
    int64_t size = 1, made = 1, stride = 1;
    int end = from, last = to;
    if (end < t->n_dims) size = t->shape[end++];
    if (last < n_dims) made = full[last++];
    while (size != made) {
      if (size < made) {
        if (end == t->n_dims) return false;
        size *= t->shape[end++];
      } else {
        if (last == n_dims) return false;
        made *= full[last++];
      }
    }
    for (int i = end - 1, inner = -1; i >= from; i--) {
      if (t->shape[i] == 1) continue;
      if (inner >= 0 && t->strides[i] != t->strides[inner] * t->shape[inner]) return false;
      inner = i;
    }
    for (int i = end - 1; i >= from; i--)
      if (t->shape[i] != 1) {
        stride = t->strides[i];
        break;
      }
    for (int i = last - 1; i >= to; i--) {
      strides[i] = stride;
      stride *= full[i];
    }
    from = end;
    to = last;
  }
  return true;
}

ma_status ma_tensor_reshape(ma_tensor *out, const ma_tensor *t, int n_dims, const int64_t *shape, ma_error *err) {
  char has[MA_SHAPE_TEXT], wants[MA_SHAPE_TEXT];
  int64_t full[MA_MAX_DIMS] = {0}, strides[MA_MAX_DIMS] = {0};
  *out = (ma_tensor){0};
  ma_status st = resolve(full, t, n_dims, shape, err);
  if (st != MA_OK) return st;
  if (ma_dtype_is_block(t->dtype) && (n_dims == 0 || full[n_dims - 1] != t->shape[t->n_dims - 1]))
    return check_whole_rows(t, t->n_dims - 1, err);
  if (!restride(strides, t, n_dims, full))
    return ma_fail(err, MA_BAD_ARGUMENT, "%s cannot be seen as %s without a copy; clone() it first",
                   ma_shape_text(has, t->n_dims, t->shape), ma_shape_text(wants, n_dims, full));
  *out = ma_tensor_retain(t);
  out->n_dims = n_dims;
  memcpy(out->shape, full, sizeof full);
  memcpy(out->strides, strides, sizeof strides);
  return MA_OK;
}

ma_status ma_tensor_transpose(ma_tensor *out, const ma_tensor *t, int a, int b, ma_error *err) {
  int order[MA_MAX_DIMS];
  *out = (ma_tensor){0};
  if (a < 0 || a >= t->n_dims) return bad_dim(t, a, err);
  if (b < 0 || b >= t->n_dims) return bad_dim(t, b, err);
  for (int i = 0; i < t->n_dims; i++) order[i] = i == a ? b : i == b ? a : i;
  return ma_tensor_permute(out, t, order, err);
}

ma_status ma_tensor_permute(ma_tensor *out, const ma_tensor *t, const int *order, ma_error *err) {
  bool seen[MA_MAX_DIMS] = {false};
  *out = (ma_tensor){0};
  for (int i = 0; i < t->n_dims; i++) {
    if (order[i] < 0 || order[i] >= t->n_dims) return bad_dim(t, order[i], err);
    if (seen[order[i]]) return ma_fail(err, MA_BAD_ARGUMENT, "permute names dim %d twice", order[i]);
    seen[order[i]] = true;
  }
  if (t->n_dims > 0 && order[t->n_dims - 1] != t->n_dims - 1) {
    ma_status st = check_whole_rows(t, t->n_dims - 1, err);
    if (st != MA_OK) return st;
  }
  *out = ma_tensor_retain(t);
  for (int i = 0; i < t->n_dims; i++) {
    out->shape[i] = t->shape[order[i]];
    out->strides[i] = t->strides[order[i]];
  }
  return MA_OK;
}

ma_status ma_tensor_narrow(ma_tensor *out, const ma_tensor *t, int dim, int64_t start, int64_t length, ma_error *err) {
  char text[MA_SHAPE_TEXT];
  *out = (ma_tensor){0};
  if (dim < 0 || dim >= t->n_dims) return bad_dim(t, dim, err);
  if (start < 0 || length < 0 || start > t->shape[dim] || length > t->shape[dim] - start)
    return ma_fail(err, MA_BAD_ARGUMENT, "%lld elements from %lld on of dim %d are outside %s (counted from 0)",
                   (long long)length, (long long)start, dim, ma_shape_text(text, t->n_dims, t->shape));
  if (length != t->shape[dim]) {
    ma_status st = check_whole_rows(t, dim, err);
    if (st != MA_OK) return st;
  }
  *out = ma_tensor_retain(t);
  out->offset += start * t->strides[dim];
  out->shape[dim] = length;
  return MA_OK;
}

ma_status ma_tensor_select(ma_tensor *out, const ma_tensor *t, int dim, int64_t index, ma_error *err) {
  char text[MA_SHAPE_TEXT];
  *out = (ma_tensor){0};
  if (dim < 0 || dim >= t->n_dims) return bad_dim(t, dim, err);
  if (index < 0 || index >= t->shape[dim])
    return ma_fail(err, MA_BAD_ARGUMENT, "index %lld of dim %d is outside %s (counted from 0)", (long long)index, dim,
                   ma_shape_text(text, t->n_dims, t->shape));
  ma_status st = check_whole_rows(t, dim, err);
  if (st != MA_OK) return st;
  *out = ma_tensor_retain(t);
  out->offset += index * t->strides[dim];
  out->n_dims--;
  for (int i = dim; i < out->n_dims; i++) {
    out->shape[i] = t->shape[i + 1];
    out->strides[i] = t->strides[i + 1];
  }
  return MA_OK;
}

ma_status ma_tensor_expand(ma_tensor *out, const ma_tensor *t, int n_dims, const int64_t *shape, ma_error *err) {
  char has[MA_SHAPE_TEXT], wants[MA_SHAPE_TEXT];
  int missing = n_dims - t->n_dims;
  ma_tensor view = *t;
  *out = (ma_tensor){0};
  bool fits = missing >= 0 && n_dims <= MA_MAX_DIMS;
  for (int i = 0; fits && i < n_dims; i++) {
    int64_t size = i < missing ? 1 : t->shape[i - missing];
    fits = shape[i] >= 0 && (size == shape[i] || size == 1);
    view.shape[i] = shape[i];
    view.strides[i] = i < missing || size != shape[i] ? 0 : t->strides[i - missing];
  }
  if (!fits || !ma_shape_fits(n_dims, shape))
    return ma_fail(err, MA_BAD_ARGUMENT, "%s does not broadcast to %s", ma_shape_text(has, t->n_dims, t->shape),
                   ma_shape_text(wants, n_dims, shape));
  view.n_dims = n_dims;
  *out = ma_tensor_retain(&view);
  return MA_OK;
}
