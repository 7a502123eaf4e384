/* A patch narrows the tensor axis by axis to what is picked, then writes to the view that is left. */
#include "model/patch.h"

#include "base/memory.h"
#include "tensor/ops.h"

static ma_status visit(ma_visitor *self, ma_tensor *x, const ma_at *at, ma_error *err);

void ma_patch_init(ma_patch *p, ma_patch_kind kind) { *p = (ma_patch){.visitor = {.visit = visit}, .kind = kind}; }

void ma_patch_release(ma_patch *p) {
  for (int a = 0; a < MA_N_PATCH_AXES; a++) {
    ma_free(p->picked[a]);
    p->picked[a] = NULL;
  }
  ma_free(p->values);
  p->values = NULL;
}

ma_status ma_patch_check(const ma_patch *p, ma_error *err) {
  if (p->n_values == 1) return MA_OK;
  if (p->picked[MA_PATCH_DIMS] && p->n_values == p->n_picked[MA_PATCH_DIMS]) return MA_OK;
  return ma_fail(err, MA_BAD_ARGUMENT, "a patch takes one value, or one for each of its %zu dims, not %zu",
                 p->n_picked[MA_PATCH_DIMS], p->n_values);
}

/* The dim of a tensor of this point that an axis picks from; -1: it has none. */
static int dim_of_axis(ma_patch_axis axis, ma_point point, int n_dims) {
  bool by_head = point == MA_AT_ATTN_SCORES || point == MA_AT_ATTN_PROBS;
  switch (axis) {
    case MA_PATCH_SEQUENCES: return 0;
    case MA_PATCH_POSITIONS: return by_head ? 2 : 1;
    case MA_PATCH_HEADS: return n_dims < 4 ? -1 : by_head ? 1 : 2;
    default: return n_dims - 1;
  }
}

static ma_status write_view(const ma_patch *p, ma_tensor *view, double value, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor scalar = {0};
  if (p->kind == MA_PATCH_SET) return ma_fill(view, value, err);
  MA_TRY(ma_tensor_new(&scalar, ma_tensor_device(view), view->dtype, 0, NULL, err));
  MA_TRY(ma_fill(&scalar, value, err));
  ma_tensor to = *view; /* another ma_tensor than the input: on the tape, too, the write is to the storage */
  MA_TRY(ma_binary(&to, p->kind == MA_PATCH_ADD ? MA_BINARY_add : MA_BINARY_mul, view, &scalar, err));
done:
  ma_tensor_release(&scalar);
  return st;
}

/* How many of the next picks lie one behind the other, and inside of a dim of `size`: these are written to as one. */
static size_t run_length(const int64_t *picked, size_t n, int64_t size) {
  size_t length = 1;
  while (length < n && picked[length] == picked[length - 1] + 1 && picked[length] < size) length++;
  return length;
}

static ma_status write_axis(const ma_patch *p, ma_patch_axis axis, ma_tensor *view, const ma_at *at, double value,
                            ma_error *err) {
  static const char *const names[] = {"sequences", "positions", "heads", "dims"};
  ma_status st = MA_OK;
  ma_tensor one = {0};
  if (axis == MA_N_PATCH_AXES) return write_view(p, view, value, err);
  if (!p->picked[axis]) return write_axis(p, axis + 1, view, at, value, err);
  int dim = dim_of_axis(axis, at->place.point, view->n_dims);
  if (dim < 0) return ma_fail(err, MA_BAD_ARGUMENT, "patch at '%s': this point has no %s", at->name, names[axis]);
  bool has_values = axis == MA_PATCH_DIMS && p->n_values > 1;
  for (size_t i = 0, n; i < p->n_picked[axis]; i += n) {
    int64_t index = p->picked[axis][i];
    n = has_values ? 1 : run_length(p->picked[axis] + i, p->n_picked[axis] - i, view->shape[dim]);
    if (index < 0 || index >= view->shape[dim])
      MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "patch at '%s': %s has %lld, but there are %lld, counted from 0", at->name,
                     names[axis], (long long)index, (long long)view->shape[dim]));
    double here = has_values ? p->values[i] : value;
    MA_TRY(ma_tensor_narrow(&one, view, dim, index, (int64_t)n, err));
    MA_TRY(write_axis(p, axis + 1, &one, at, here, err));
    ma_tensor_release(&one);
  }
done:
  ma_tensor_release(&one);
  return st;
}

static ma_status visit(ma_visitor *self, ma_tensor *x, const ma_at *at, ma_error *err) {
  const ma_patch *p = (const ma_patch *)self;
  return write_axis(p, MA_PATCH_SEQUENCES, x, at, p->values[0], err);
}
