#include "tensor/op_common.h"

#include <string.h>

ma_status ma_op_input(ma_op *op, const ma_tensor *t) {
  if (!t) return MA_OK;
  if (!t->storage) return ma_fail(op->err, MA_BAD_ARGUMENT, "%s: an input is missing", op->name);
  ma_status st = ma_storage_check(t->storage, op->err);
  if (st != MA_OK) return st;
  if (!op->device) op->device = t->storage->device;
  if (op->device != t->storage->device)
    return ma_fail(op->err, MA_BAD_ARGUMENT, "%s: tensors lie on %s and %s; move one with to{device=...}", op->name,
                   op->device->name, t->storage->device->name);
  op->is_tracked |= ma_tensor_is_tracked(t);
  op->is_in_place |= t == op->given;
  return MA_OK;
}

ma_status ma_op_plain(ma_op *op, const ma_tensor *t) {
  ma_status st = ma_op_input(op, t);
  if (st != MA_OK || !t || !ma_dtype_is_block(t->dtype)) return st;
  return ma_fail(op->err, MA_UNSUPPORTED, "%s does not take %s; to{dtype=\"f32\"} unpacks it", op->name,
                 ma_dtype_describe(t->dtype)->name);
}

/* Elements of a broadcast view are one: what is written to one of them would be written to all. */
static bool is_broadcast(const ma_tensor *t) {
  for (int i = 0; i < t->n_dims; i++)
    if (t->shape[i] > 1 && t->strides[i] == 0) return true;
  return false;
}

ma_status ma_op_output(ma_op *op, ma_dtype dtype, int n_dims, const int64_t *shape) {
  char has[MA_SHAPE_TEXT], wants[MA_SHAPE_TEXT];
  ma_tensor *out = op->out;
  bool is_tracked = op->is_tracked, is_in_place = op->is_in_place;
  op->is_recorded = is_tracked && ma_dtype_is_float(dtype);
  if (!out->storage) {
    ma_status st = ma_tensor_new(out, op->device, dtype, n_dims, shape, op->err);
    op->has_made = st == MA_OK;
    return st;
  }
  ma_status st = ma_op_input(op, out);
  op->is_in_place = is_in_place;
  op->is_tracked = is_tracked;
  if (st != MA_OK) return st;
  if (out->dtype != dtype)
    return ma_fail(op->err, MA_BAD_ARGUMENT, "%s gives %s, not the %s of its output", op->name,
                   ma_dtype_describe(dtype)->name, ma_dtype_describe(out->dtype)->name);
  if (out->n_dims != n_dims || (n_dims && memcmp(out->shape, shape, (size_t)n_dims * sizeof *shape) != 0))
    return ma_fail(op->err, MA_BAD_ARGUMENT, "%s gives %s, not the %s of its output", op->name,
                   ma_shape_text(wants, n_dims, shape), ma_shape_text(has, out->n_dims, out->shape));
  if (is_broadcast(out))
    return ma_fail(op->err, MA_BAD_ARGUMENT, "%s cannot write to the broadcast view %s; clone() it first", op->name,
                   ma_shape_text(has, out->n_dims, out->shape));
  op->is_recorded = !out->is_detached && (op->is_recorded || ma_tensor_is_tracked(out));
  if (op->is_recorded) {
    op->out = &op->made;
    return ma_tensor_new(op->out, op->device, dtype, n_dims, shape, op->err);
  }
  ma_storage_written(out->storage);
  return MA_OK;
}

ma_status ma_op_output_float(ma_op *op, ma_dtype dtype, int n_dims, const int64_t *shape) {
  ma_dtype wanted = op->out->dtype;
  bool has_choice = ma_dtype_is_float(dtype) && ma_dtype_is_float(wanted) && (op->out->storage || wanted != MA_F32);
  return ma_op_output(op, has_choice ? wanted : dtype, n_dims, shape);
}

ma_status ma_op_overwrite(ma_op *op) {
  ma_status st = ma_op_plain(op, op->given);
  op->is_in_place = false;
  if (st != MA_OK || !ma_tensor_is_tracked(op->given)) {
    if (st == MA_OK) ma_storage_written(op->given->storage);
    return st;
  }
  op->is_recorded = true;
  op->out = &op->made;
  return ma_tensor_new_like(op->out, op->given, op->given->dtype, op->err);
}

ma_status ma_op_note(ma_op *op, const ma_record *record) {
  return op->is_recorded ? ma_tape_record(op->out, record, op->err) : MA_OK;
}

/* Element offset of the last element; strides are never negative. */
static int64_t last_element(const ma_tensor *t) {
  int64_t at = t->offset;
  for (int i = 0; i < t->n_dims; i++) {
    if (t->shape[i] == 0) return -1;
    at += (t->shape[i] - 1) * t->strides[i];
  }
  return at;
}

ma_status ma_op_unalias(const ma_tensor **as, ma_tensor *held, const ma_tensor *out, const ma_tensor *t,
                        ma_error *err) {
  size_t used = (size_t)t->n_dims * sizeof *t->shape;
  *as = t;
  if (!out->storage || out->storage != t->storage || out->offset > last_element(t) || t->offset > last_element(out))
    return MA_OK;
  if (t->offset == out->offset && ma_tensor_same_shape(t, out) && memcmp(t->strides, out->strides, used) == 0)
    return MA_OK;
  *as = held;
  return ma_tensor_convert(held, t, t->dtype, err);
}

ma_status ma_op_misfit(const ma_op *op, const ma_tensor *a, const ma_tensor *b) {
  char of_a[MA_SHAPE_TEXT], of_b[MA_SHAPE_TEXT];
  return ma_fail(op->err, MA_BAD_ARGUMENT, "%s: %s and %s do not fit", op->name,
                 ma_shape_text(of_a, a->n_dims, a->shape), ma_shape_text(of_b, b->n_dims, b->shape));
}

ma_status ma_op_end(ma_op *op, ma_status st) {
  if (st != MA_OK && op->has_made) ma_tensor_release(op->out);
  if (!op->made.storage) return st;
  if (st == MA_OK && op->is_in_place) {
    ma_tensor_release(op->given);
    *op->given = op->made;
    return st;
  }
  if (st == MA_OK) st = ma_tape_write(op->given, &op->made, op->err);
  ma_tensor_release(&op->made);
  return st;
}

ma_status ma_op_lacks_kernel(const ma_op *op) {
  return ma_fail(op->err, MA_UNSUPPORTED, "%s has no %s kernel; use device = \"cpu\"", op->name,
                 op->device->backend->name);
}

ma_status ma_op_broadcast(const ma_op *op, int *n_dims, int64_t *shape, const ma_tensor *a, const ma_tensor *b) {
  int n = a->n_dims > b->n_dims ? a->n_dims : b->n_dims;
  for (int i = 0; i < n; i++) {
    int in_a = i - (n - a->n_dims), in_b = i - (n - b->n_dims);
    int64_t size_a = in_a < 0 ? 1 : a->shape[in_a], size_b = in_b < 0 ? 1 : b->shape[in_b];
    if (size_a != size_b && size_a != 1 && size_b != 1) return ma_op_misfit(op, a, b);
    shape[i] = size_a == 1 ? size_b : size_a;
  }
  *n_dims = n;
  return MA_OK;
}
