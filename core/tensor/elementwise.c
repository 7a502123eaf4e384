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
  ma_status st = MA_OK;
  MA_TRY(ma_op_overwrite(&op));
  MA_TRY(ma_op_run(&op, fill, op.out, value, err));
done:
  return ma_op_end(&op, st);
}

/* What passes its input on as it is, perhaps in another type: so the gradient. */
static ma_status same_grad(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_tensor share = ma_tensor_retain(g);
  return ma_node_give(node, 0, &share, err);
}

static const ma_rule copy_rule = {.name = "copy", .grad = same_grad};

static ma_status copy_as(ma_tensor *out, const ma_tensor *a, ma_dtype dtype, ma_error *err) {
  ma_op op = ma_op_begin("copy", out, err);
  ma_status st = MA_OK;
  ma_tensor held = {0};
  MA_TRY(ma_op_input(&op, a));
  if (!ma_dtype_is_written(dtype) && dtype != a->dtype)
    return ma_fail(err, MA_UNSUPPORTED, "copy cannot write %s", ma_dtype_describe(dtype)->name);
  MA_TRY(ma_op_unalias(&a, &held, out, a, err));
  MA_TRY(ma_op_output(&op, dtype, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, copy, op.out, a, err));
  MA_TRY(ma_op_record(&op, &copy_rule, 0, NULL, 0, a));
done:
  ma_tensor_release(&held);
  return ma_op_end(&op, st);
}

ma_status ma_copy(ma_tensor *out, const ma_tensor *a, ma_error *err) {
  return copy_as(out, a, out->storage ? out->dtype : a->dtype, err);
}

/* Rounding is left out of the gradient, as PyTorch leaves it out where it stores in 16 bits. */
static const ma_rule round_to_rule = {.name = "round_to", .grad = same_grad};

ma_status ma_round_to(ma_tensor *out, ma_dtype dtype, const ma_tensor *a, ma_error *err) {
  ma_op op = ma_op_begin("round_to", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, a));
  if (a->dtype != MA_F32 || (dtype != MA_F16 && dtype != MA_BF16))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "round_to rounds f32 to f16 or bf16, not %s to %s",
                   ma_dtype_describe(a->dtype)->name, ma_dtype_describe(dtype)->name));
  MA_TRY(ma_op_output(&op, MA_F32, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, round_to, op.out, dtype, a, err));
  MA_TRY(ma_op_record(&op, &round_to_rule, 0, NULL, 0, a));
done:
  return ma_op_end(&op, st);
}

static const ma_rule quantize_rule = {.name = "quantize", .grad = NULL};

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
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "quantize: %lld levels on each side of 0; 1 to %d are possible",
                   (long long)levels, MOST_LEVELS));
  MA_TRY(ma_op_output(&op, a->dtype, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, quantize, op.out, a, scale, levels, err));
  MA_TRY(ma_op_record(&op, &quantize_rule, 0, NULL, 0, a));
done:
  return ma_op_end(&op, st);
}

ma_status ma_unary_grad(ma_tensor *out, ma_unary_kind kind, const ma_tensor *a, const ma_tensor *g, ma_error *err) {
  ma_op op = ma_op_begin("unary_grad", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, g));
  if (!ma_tensor_same_shape(a, g)) MA_TRY(ma_op_misfit(&op, a, g));
  MA_TRY(ma_op_output(&op, MA_F32, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, unary_grad, op.out, kind, a, g, err));
done:
  return ma_op_end(&op, st);
}

static ma_status unary_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_tensor share = {0};
  const ma_unary_kind *kind = ma_node_how(node);
  ma_status st = ma_unary_grad(&share, *kind, ma_node_input(node, 0), g, err);
  return st == MA_OK ? ma_node_give(node, 0, &share, err) : st;
}

static const ma_rule unary_rules[] = {
#define MA_UNARY(op_name, doc) {.name = #op_name, .grad = unary_back},
    MA_UNARIES(MA_UNARY)
#undef MA_UNARY
};

ma_status ma_unary(ma_tensor *out, ma_unary_kind kind, const ma_tensor *a, ma_error *err) {
  ma_op op = ma_op_begin(ma_unary_name(kind), out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_output_float(&op, unary_dtype(kind, a->dtype), a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, unary, op.out, kind, a, err));
  MA_TRY(ma_op_record(&op, &unary_rules[kind], 1, &kind, sizeof kind, a));
done:
  return ma_op_end(&op, st);
}

ma_status ma_binary_grad(ma_tensor *out, ma_binary_kind kind, int side, const ma_tensor *a, const ma_tensor *b,
                         const ma_tensor *g, ma_error *err) {
  ma_op op = ma_op_begin("binary_grad", out, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, b));
  MA_TRY(ma_op_plain(&op, g));
  MA_TRY(ma_op_broadcast(&op, &n_dims, shape, a, b));
  if (n_dims != g->n_dims || memcmp(shape, g->shape, (size_t)n_dims * sizeof *shape) != 0)
    MA_TRY(ma_op_misfit(&op, a, g));
  MA_TRY(ma_op_output(&op, MA_F32, n_dims, shape));
  MA_TRY(ma_op_run(&op, binary_grad, op.out, kind, side, a, b, g, err));
done:
  return ma_op_end(&op, st);
}

static ma_status binary_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_binary_kind kind = *(const ma_binary_kind *)ma_node_how(node);
  for (int side = 0; side < 2 && st == MA_OK; side++) {
    ma_tensor share = {0};
    if (!ma_node_wants(node, side)) continue;
    if (kind == MA_BINARY_add || (kind == MA_BINARY_sub && side == 0)) share = ma_tensor_retain(g);
    else if (kind == MA_BINARY_sub) st = ma_unary(&share, MA_UNARY_neg, g, err);
    else if (kind == MA_BINARY_mul) st = ma_binary(&share, kind, g, ma_node_input(node, 1 - side), err);
    else st = ma_binary_grad(&share, kind, side, ma_node_input(node, 0), ma_node_input(node, 1), g, err);
    if (st == MA_OK) st = ma_node_give(node, side, &share, err);
  }
  return st;
}

static const ma_rule binary_rules[] = {
#define MA_BINARY(op_name, doc) {.name = #op_name, .grad = binary_back},
    MA_BINARIES(MA_BINARY)
#undef MA_BINARY
};

/* Which operands the gradient needs: of sums none, of products only the other one. */
static unsigned binary_reads(ma_binary_kind kind, const ma_tensor *a, const ma_tensor *b) {
  if (kind == MA_BINARY_add || kind == MA_BINARY_sub) return 0;
  if (kind == MA_BINARY_mul) return (ma_tensor_is_tracked(b) ? 1u : 0) | (ma_tensor_is_tracked(a) ? 2u : 0);
  return 3;
}

ma_status ma_binary(ma_tensor *out, ma_binary_kind kind, const ma_tensor *a, const ma_tensor *b, ma_error *err) {
  ma_op op = ma_op_begin(ma_binary_name(kind), out, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  ma_tensor held = {0};
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, b));
  MA_TRY(ma_op_broadcast(&op, &n_dims, shape, a, b));
  MA_TRY(ma_op_unalias(&b, &held, out, b, err));
  MA_TRY(ma_op_output_float(&op, binary_dtype(kind, a->dtype, b->dtype), n_dims, shape));
  MA_TRY(ma_op_run(&op, binary, op.out, kind, a, b, err));
  MA_TRY(ma_op_record(&op, &binary_rules[kind], binary_reads(kind, a, b), &kind, sizeof kind, a, b));
done:
  ma_tensor_release(&held);
  return ma_op_end(&op, st);
}

static ma_status where_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor zero = {0}, share = {0};
  MA_TRY(ma_tensor_new(&zero, ma_tensor_device(g), MA_F32, 0, NULL, err));
  MA_TRY(ma_fill(&zero, 0, err));
  for (int side = 1; side <= 2; side++) {
    const ma_tensor *a = side == 1 ? g : &zero, *b = side == 1 ? &zero : g;
    if (!ma_node_wants(node, side)) continue;
    share = (ma_tensor){0};
    MA_TRY(ma_where(&share, ma_node_input(node, 0), a, b, err));
    MA_TRY(ma_node_give(node, side, &share, err));
  }
done:
  ma_tensor_release(&zero);
  return st;
}

static const ma_rule where_rule = {.name = "where", .grad = where_back};

ma_status ma_where(ma_tensor *out, const ma_tensor *condition, const ma_tensor *a, const ma_tensor *b, ma_error *err) {
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
  MA_TRY(ma_op_run(&op, where, op.out, condition, a, b, err));
  MA_TRY(ma_op_record(&op, &where_rule, 1, NULL, 0, condition, a, b));
done:
  return ma_op_end(&op, st);
}

ma_status ma_randomize(ma_tensor *out, ma_random_kind kind, double low, double high, ma_random *generator,
                       ma_error *err) {
  ma_op op = ma_op_begin("randomize", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_overwrite(&op));
  MA_TRY(ma_op_run(&op, randomize, op.out, kind, low, high, generator, err));
done:
  return ma_op_end(&op, st);
}

/* ---- moving elements ---- */

static ma_status check_dim(const ma_op *op, const ma_tensor *a, int dim) {
  char text[MA_SHAPE_TEXT];
  if (dim >= 0 && dim < a->n_dims) return MA_OK;
  return ma_fail(op->err, MA_BAD_ARGUMENT, "%s: dim %d is outside %s (counted from 0)", op->name, dim,
                 ma_shape_text(text, a->n_dims, a->shape));
}

ma_status ma_scatter_add(ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index, ma_error *err) {
  ma_op op = ma_op_begin("scatter_add", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, out));
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, index));
  MA_TRY(check_dim(&op, out, dim));
  bool fits = a->n_dims == out->n_dims && a->dtype == MA_F32 && out->dtype == MA_F32 &&
              (index->dtype == MA_I64 || index->dtype == MA_I32) &&
              (ma_tensor_same_shape(index, a) || (index->n_dims == 1 && index->shape[0] == a->shape[dim]));
  for (int d = 0; fits && d < a->n_dims; d++) fits = d == dim || a->shape[d] == out->shape[d];
  if (!fits) MA_TRY(ma_op_misfit(&op, out, a));
  ma_storage_written(out->storage);
  MA_TRY(ma_op_run(&op, scatter_add, out, a, dim, index, err));
done:
  return ma_op_end(&op, st);
}

static ma_status gather_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  bool adds;
  ma_tensor to = {0};
  const int *dim = ma_node_how(node);
  MA_TRY(ma_node_into(node, 0, &to, &adds, err));
  if (!adds) MA_TRY(ma_fill(&to, 0, err));
  MA_TRY(ma_scatter_add(&to, g, *dim, ma_node_input(node, 1), err));
done:
  ma_tensor_release(&to);
  return st;
}

static const ma_rule gather_rule = {.name = "gather", .grad = gather_back};

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
  MA_TRY(ma_op_run(&op, gather, op.out, a, dim, index, err));
  MA_TRY(ma_op_record(&op, &gather_rule, 2, &dim, sizeof dim, a, index));
done:
  return ma_op_end(&op, st);
}

static ma_status concat_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  int dim = *(const int *)ma_node_how(node);
  int64_t at = 0;
  for (int i = 0; at < g->shape[dim]; i++) {
    ma_tensor share;
    int64_t length = ma_node_input(node, i)->shape[dim];
    MA_TRY(ma_tensor_narrow(&share, g, dim, at, length, err));
    MA_TRY(ma_node_give(node, i, &share, err));
    at += length;
  }
done:
  return st;
}

static const ma_rule concat_rule = {.name = "cat", .grad = concat_back};

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
    if (part->n_dims != parts[0]->n_dims || part->dtype != parts[0]->dtype) MA_TRY(ma_op_misfit(&op, parts[0], part));
    for (int d = 0; d < part->n_dims; d++)
      if (d != dim && part->shape[d] != shape[d]) MA_TRY(ma_op_misfit(&op, parts[0], part));
    shape[dim] += part->shape[dim];
  }
  MA_TRY(ma_op_output(&op, parts[0]->dtype, parts[0]->n_dims, shape));
  MA_TRY(ma_op_run(&op, concat, op.out, parts, n_parts, dim, err));
  MA_TRY(ma_op_note(&op, &(ma_record){&concat_rule, n_parts, parts, 0, &dim, sizeof dim}));
done:
  return ma_op_end(&op, st);
}

/* ---- dtype and device ---- */

ma_status ma_tensor_convert(ma_tensor *out, const ma_tensor *a, ma_dtype dtype, ma_error *err) {
  *out = (ma_tensor){0};
  return copy_as(out, a, dtype, err);
}

ma_status ma_tensor_move(ma_tensor *out, const ma_tensor *a, ma_device *device, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor packed = {0}, moved = {0};
  ma_device *from = ma_tensor_device(a);
  *out = (ma_tensor){0};
  if (device != from && ma_tensor_is_tracked(a))
    return ma_fail(err, MA_UNSUPPORTED, "to: moving to %s has no gradient; detach() the tensor first", device->name);
  MA_TRY(ma_storage_check(a->storage, err));
  if (device == from) return ma_tensor_convert(out, a, a->dtype, err);
  if (ma_tensor_is_contiguous(a)) packed = ma_tensor_retain(a);
  else MA_TRY(ma_tensor_convert(&packed, a, a->dtype, err));
  MA_TRY(ma_tensor_new(&moved, device, a->dtype, a->n_dims, a->shape, err));
  /* One of the two is always the host in this program's backends. */
  if (device == ma_device_cpu())
    MA_TRY(
        from->backend->download(from, ma_tensor_data(&moved), ma_tensor_data(&packed), ma_tensor_bytes(&packed), err));
  else
    MA_TRY(device->backend->upload(device, ma_tensor_data(&moved), ma_tensor_data(&packed), ma_tensor_bytes(&packed),
                                   err));
  const ma_storage *read = packed.storage->base ? packed.storage->base : packed.storage;
  if (read->map) MA_TRY(ma_map_check(read->map, err)); /* nobody asks about the file once its bytes are elsewhere */
  *out = moved;
  moved = (ma_tensor){0};
done:
  ma_tensor_release(&packed);
  ma_tensor_release(&moved);
  return st;
}
