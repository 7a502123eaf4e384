/* Operations that work element by element, and the ones that move elements. */
#include <math.h>
#include <string.h>

#include "tensor/op_common.h"

const char *ma_unary_name(ma_unary_kind kind) {
  static const char *const names[] = {
#define MA_UNARY(name, doc) #name,
      MA_UNARIES(MA_UNARY)
#undef MA_UNARY
  };
  return names[kind];
}

const char *ma_binary_name(ma_binary_kind kind) {
  static const char *const names[] = {
#define MA_BINARY(name, doc) #name,
      MA_BINARIES(MA_BINARY)
#undef MA_BINARY
  };
  return names[kind];
}

/* ---- result types ---- */

/* Two floats: the wider, and f32 for f16 with bf16.  A float and an integer: the float.  Two integers: the
 * wider. */
static ma_dtype common_dtype(ma_dtype a, ma_dtype b) {
  if (a == b) return a;
  if (ma_dtype_is_float(a) != ma_dtype_is_float(b)) return ma_dtype_is_float(a) ? a : b;
  if (ma_dtype_is_float(a)) return MA_F32;
  return a == MA_I64 || b == MA_I64 ? MA_I64 : MA_I32;
}

static ma_dtype unary_dtype(ma_unary_kind kind, ma_dtype a) {
  switch (kind) {
    case MA_UNARY_isnan:
    case MA_UNARY_isinf:
    case MA_UNARY_isfinite: return MA_U8;
    case MA_UNARY_neg:
    case MA_UNARY_abs:
    case MA_UNARY_sign:
    case MA_UNARY_square:
    case MA_UNARY_relu:
    case MA_UNARY_floor:
    case MA_UNARY_ceil:
    case MA_UNARY_round: return a;
    default: return ma_dtype_is_float(a) ? a : MA_F32;
  }
}

static ma_dtype binary_dtype(ma_binary_kind kind, ma_dtype a, ma_dtype b) {
  if (kind >= MA_BINARY_gt) return MA_U8;
  ma_dtype common = common_dtype(a, b);
  return kind == MA_BINARY_div && !ma_dtype_is_float(common) ? MA_F32 : common;
}

/* ---- element by element ---- */

ma_status ma_fill(ma_tensor *out, double value, ma_error *err) {
  ma_op op = ma_op_begin("fill", out, err);
  ma_status st = ma_op_plain(&op, out);
  if (st != MA_OK) return st;
  ma_storage_written(out->storage);
  return ma_op_run(&op, fill, out, value, err);
}

ma_status ma_copy(ma_tensor *out, const ma_tensor *a, ma_error *err) {
  ma_op op = ma_op_begin("copy", out, err);
  ma_status st = MA_OK;
  ma_tensor held = {0};
  MA_TRY(ma_op_input(&op, a));
  if (out->storage && !ma_dtype_is_written(out->dtype) && out->dtype != a->dtype)
    return ma_fail(err, MA_UNSUPPORTED, "copy cannot write %s", ma_dtype_describe(out->dtype)->name);
  MA_TRY(ma_op_unalias(&a, &held, out, a, err));
  MA_TRY(ma_op_output(&op, out->storage ? out->dtype : a->dtype, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, copy, out, a, err));
done:
  ma_tensor_release(&held);
  return ma_op_end(&op, st);
}

ma_status ma_round_to(ma_tensor *out, ma_dtype dtype, const ma_tensor *a, ma_error *err) {
  ma_op op = ma_op_begin("round_to", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, a));
  if (a->dtype != MA_F32 || (dtype != MA_F16 && dtype != MA_BF16))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "round_to rounds f32 to f16 or bf16, not %s to %s",
                   ma_dtype_describe(a->dtype)->name, ma_dtype_describe(dtype)->name));
  MA_TRY(ma_op_output(&op, MA_F32, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, round_to, out, dtype, a, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_quantize(ma_tensor *out, const ma_tensor *a, double scale, int64_t levels, ma_error *err) {
  enum { MOST_LEVELS = 1 << 23 }; /* whole numbers that f32 tells apart, with room for a sign */
  ma_op op = ma_op_begin("quantize", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, a));
  if (!ma_dtype_is_float(a->dtype))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "quantize takes floats, not %s", ma_dtype_describe(a->dtype)->name));
  if (!((float)scale > 0 && isfinite((float)scale)))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "quantize: the scale is %g; it should be finite and above 0", scale));
  if (levels < 1 || levels > MOST_LEVELS)
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "quantize: %lld levels on each side of 0; 1 to %d are possible", (long long)levels,
                   MOST_LEVELS));
  MA_TRY(ma_op_output(&op, a->dtype, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, quantize, out, a, scale, levels, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_unary(ma_tensor *out, ma_unary_kind kind, const ma_tensor *a, ma_error *err) {
  ma_op op = ma_op_begin(ma_unary_name(kind), out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_output(&op, unary_dtype(kind, a->dtype), a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, unary, out, kind, a, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_binary(ma_tensor *out, ma_binary_kind kind, const ma_tensor *a, const ma_tensor *b,
                    ma_error *err) {
  ma_op op = ma_op_begin(ma_binary_name(kind), out, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  ma_tensor held = {0};
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, b));
  MA_TRY(ma_op_broadcast(&op, &n_dims, shape, a, b));
  MA_TRY(ma_op_unalias(&b, &held, out, b, err));
  MA_TRY(ma_op_output(&op, binary_dtype(kind, a->dtype, b->dtype), n_dims, shape));
  MA_TRY(ma_op_run(&op, binary, out, kind, a, b, err));
done:
  ma_tensor_release(&held);
  return ma_op_end(&op, st);
}

ma_status ma_where(ma_tensor *out, const ma_tensor *condition, const ma_tensor *a, const ma_tensor *b,
                   ma_error *err) {
  ma_op op = ma_op_begin("where", out, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  ma_tensor both = {0};
  MA_TRY(ma_op_plain(&op, condition));
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, b));
  MA_TRY(ma_op_broadcast(&op, &both.n_dims, both.shape, a, b));
  MA_TRY(ma_op_broadcast(&op, &n_dims, shape, condition, &both));
  MA_TRY(ma_op_output(&op, common_dtype(a->dtype, b->dtype), n_dims, shape));
  MA_TRY(ma_op_run(&op, where, out, condition, a, b, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_randomize(ma_tensor *out, ma_random_kind kind, double low, double high,
                       ma_random *generator, ma_error *err) {
  ma_op op = ma_op_begin("randomize", out, err);
  ma_status st = ma_op_plain(&op, out);
  if (st != MA_OK) return st;
  ma_storage_written(out->storage);
  return ma_op_run(&op, randomize, out, kind, low, high, generator, err);
}

/* ---- moving elements ---- */

static ma_status check_dim(const ma_op *op, const ma_tensor *a, int dim) {
  char text[MA_SHAPE_TEXT];
  if (dim >= 0 && dim < a->n_dims) return MA_OK;
  return ma_fail(op->err, MA_BAD_ARGUMENT, "%s: dim %d is outside %s (counted from 0)", op->name, dim,
                 ma_shape_text(text, a->n_dims, a->shape));
}

ma_status ma_gather(ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index, ma_error *err) {
  ma_op op = ma_op_begin("gather", out, err);
  ma_status st = MA_OK;
  int64_t shape[MA_MAX_DIMS];
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, index));
  MA_TRY(check_dim(&op, a, dim));
  if (index->n_dims != 1 || (index->dtype != MA_I64 && index->dtype != MA_I32))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "gather: the index is a list of i64 or i32"));
  memcpy(shape, a->shape, sizeof shape);
  shape[dim] = index->shape[0];
  MA_TRY(ma_op_output(&op, a->dtype, a->n_dims, shape));
  MA_TRY(ma_op_run(&op, gather, out, a, dim, index, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_concat(ma_tensor *out, const ma_tensor *const *parts, int n_parts, int dim, ma_error *err) {
  ma_op op = ma_op_begin("cat", out, err);
  ma_status st = MA_OK;
  int64_t shape[MA_MAX_DIMS];
  if (n_parts < 1) return ma_fail(err, MA_BAD_ARGUMENT, "cat needs at least one tensor");
  MA_TRY(ma_op_plain(&op, parts[0]));
  MA_TRY(check_dim(&op, parts[0], dim));
  memcpy(shape, parts[0]->shape, sizeof shape);
  for (int i = 1; i < n_parts; i++) {
    const ma_tensor *part = parts[i];
    MA_TRY(ma_op_plain(&op, part));
    if (part->n_dims != parts[0]->n_dims || part->dtype != parts[0]->dtype)
      MA_TRY(ma_op_misfit(&op, parts[0], part));
    for (int d = 0; d < part->n_dims; d++)
      if (d != dim && part->shape[d] != shape[d]) MA_TRY(ma_op_misfit(&op, parts[0], part));
    shape[dim] += part->shape[dim];
  }
  MA_TRY(ma_op_output(&op, parts[0]->dtype, parts[0]->n_dims, shape));
  MA_TRY(ma_op_run(&op, concat, out, parts, n_parts, dim, err));
done:
  return ma_op_end(&op, st);
}

/* ---- dtype and device ---- */

ma_status ma_tensor_convert(ma_tensor *out, const ma_tensor *a, ma_dtype dtype, ma_error *err) {
  ma_status st = ma_storage_check(a->storage, err);
  if (st == MA_OK) st = ma_tensor_new_like(out, a, dtype, err);
  if (st != MA_OK) return st;
  st = ma_copy(out, a, err);
  if (st != MA_OK) ma_tensor_release(out);
  return st;
}

ma_status ma_tensor_move(ma_tensor *out, const ma_tensor *a, ma_device *device, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor packed = {0}, moved = {0};
  ma_device *from = ma_tensor_device(a);
  *out = (ma_tensor){0};
  MA_TRY(ma_storage_check(a->storage, err));
  if (device == from) return ma_tensor_convert(out, a, a->dtype, err);
  if (ma_tensor_is_contiguous(a)) packed = ma_tensor_retain(a);
  else MA_TRY(ma_tensor_convert(&packed, a, a->dtype, err));
  MA_TRY(ma_tensor_new(&moved, device, a->dtype, a->n_dims, a->shape, err));
  /* One of the two is always the host in this program's backends. */
  if (device == ma_device_cpu())
    MA_TRY(from->backend->download(from, ma_tensor_data(&moved), ma_tensor_data(&packed),
                                   ma_tensor_bytes(&packed), err));
  else
    MA_TRY(device->backend->upload(device, ma_tensor_data(&moved), ma_tensor_data(&packed),
                                   ma_tensor_bytes(&packed), err));
  *out = moved;
  moved = (ma_tensor){0};
done:
  ma_tensor_release(&packed);
  ma_tensor_release(&moved);
  return st;
}
