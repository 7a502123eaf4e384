/* Reductions, sorting, selection, and the statistics of a probe. */
#include <string.h>

#include "tensor/op_common.h"

const char *ma_reduce_name(ma_reduce_kind kind) {
  static const char *const names[] = {
#define MA_REDUCE(name, doc) #name,
      MA_REDUCES(MA_REDUCE)
#undef MA_REDUCE
  };
  return names[kind];
}

/* Shape of `a` without `dim` (or with size 1 there); MA_ALL: without any. */
static ma_status reduced_shape(const ma_op *op, const ma_tensor *a, int dim, bool keep, int *n_dims, int64_t *shape) {
  char text[MA_SHAPE_TEXT];
  *n_dims = 0;
  if (dim != MA_ALL && (dim < 0 || dim >= a->n_dims))
    return ma_fail(op->err, MA_BAD_ARGUMENT, "%s: dim %d is outside %s (counted from 0)", op->name, dim,
                   ma_shape_text(text, a->n_dims, a->shape));
  for (int i = 0; i < a->n_dims; i++) {
    bool goes = dim == MA_ALL || i == dim;
    if (goes && !keep) continue;
    shape[(*n_dims)++] = goes ? 1 : a->shape[i];
  }
  return MA_OK;
}

/* There is no largest, smallest or middle of nothing. */
static ma_status check_not_empty(const ma_op *op, const ma_tensor *a, int dim) {
  int64_t n = dim == MA_ALL ? ma_tensor_count(a) : a->shape[dim];
  return n > 0 ? MA_OK : ma_fail(op->err, MA_BAD_ARGUMENT, "%s of no elements", op->name);
}

/* ---- reduce ---- */

ma_status ma_reduce_grad(ma_tensor *out, ma_reduce_kind kind, const ma_tensor *a, const ma_tensor *g, int dim,
                         ma_error *err) {
  ma_op op = ma_op_begin("reduce_grad", out, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS], count = 1;
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, g));
  MA_TRY(reduced_shape(&op, a, dim, false, &n_dims, shape));
  for (int i = 0; i < n_dims; i++) count *= shape[i];
  if (count != ma_tensor_count(g) || g->dtype != MA_F32 || !ma_tensor_is_contiguous(g)) MA_TRY(ma_op_misfit(&op, a, g));
  MA_TRY(ma_op_output(&op, MA_F32, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, reduce_grad, op.out, kind, a, g, dim, err));
done:
  return ma_op_end(&op, st);
}

typedef struct reduce_how {
  ma_reduce_kind kind;
  int dim;
} reduce_how;

/* g, which has one number for each line of `a`, seen with the shape of `a`. */
static ma_status spread(ma_tensor *out, const ma_tensor *g, const ma_tensor *a, int dim, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor kept = {0};
  int64_t shape[MA_MAX_DIMS];
  for (int i = 0; i < a->n_dims; i++) shape[i] = dim == MA_ALL || i == dim ? 1 : a->shape[i];
  MA_TRY(ma_tensor_reshape(&kept, g, a->n_dims, shape, err));
  MA_TRY(ma_tensor_expand(out, &kept, a->n_dims, a->shape, err));
done:
  ma_tensor_release(&kept);
  return st;
}

static ma_status reduce_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  const reduce_how *how = ma_node_how(node);
  const ma_tensor *a = ma_node_input(node, 0);
  ma_tensor share = {0}, part = {0}, divisor = {0};
  switch (how->kind) {
    case MA_REDUCE_sum: MA_TRY(spread(&share, g, a, how->dim, err)); break;
    case MA_REDUCE_mean:
      MA_TRY(ma_tensor_new(&divisor, ma_tensor_device(g), MA_F32, 0, NULL, err));
      MA_TRY(ma_fill(&divisor, (double)(how->dim == MA_ALL ? ma_tensor_count(a) : a->shape[how->dim]), err));
      MA_TRY(ma_binary(&part, MA_BINARY_div, g, &divisor, err));
      MA_TRY(spread(&share, &part, a, how->dim, err));
      break;
    default: MA_TRY(ma_reduce_grad(&share, how->kind, a, g, how->dim, err));
  }
  MA_TRY(ma_node_give(node, 0, &share, err));
done:
  ma_tensor_release(&part);
  ma_tensor_release(&divisor);
  return st;
}

static const ma_rule reduce_rules[] = {
#define MA_REDUCE(op_name, doc) {.name = #op_name, .grad = reduce_back},
    MA_REDUCES(MA_REDUCE)
#undef MA_REDUCE
};

ma_status ma_reduce(ma_tensor *out, ma_reduce_kind kind, const ma_tensor *a, int dim, bool keep, ma_error *err) {
  ma_op op = ma_op_begin(ma_reduce_name(kind), out, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  bool is_index = kind == MA_REDUCE_argmax || kind == MA_REDUCE_argmin;
  bool is_flag = kind == MA_REDUCE_any || kind == MA_REDUCE_all;
  bool keeps_type = kind == MA_REDUCE_max || kind == MA_REDUCE_min;
  bool adds = kind == MA_REDUCE_sum || kind == MA_REDUCE_prod;
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(reduced_shape(&op, a, dim, keep, &n_dims, shape));
  if (is_index || keeps_type) MA_TRY(check_not_empty(&op, a, dim));
  ma_dtype dtype = is_index ? MA_I64 : is_flag ? MA_U8 : a->dtype;
  if (!ma_dtype_is_float(a->dtype) && !is_index && !is_flag && !keeps_type) dtype = adds ? MA_I64 : MA_F32;
  MA_TRY(ma_op_output(&op, dtype, n_dims, shape));
  MA_TRY(ma_op_run(&op, reduce, op.out, kind, a, dim, keep, err));
  reduce_how how = {kind, dim};
  bool is_linear = kind == MA_REDUCE_sum || kind == MA_REDUCE_mean;
  MA_TRY(ma_op_record(&op, &reduce_rules[kind], is_linear ? 0 : 1, &how, sizeof how, a));
done:
  return ma_op_end(&op, st);
}

/* ---- sorting and selection ---- */

/* Elements that were picked along a dim, by an index shaped as the result. */
static ma_status picked_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  bool adds;
  ma_tensor to = {0};
  MA_TRY(ma_node_into(node, 0, &to, &adds, err));
  if (!adds) MA_TRY(ma_fill(&to, 0, err));
  MA_TRY(ma_scatter_add(&to, g, *(const int *)ma_node_how(node), ma_node_input(node, 1), err));
done:
  ma_tensor_release(&to);
  return st;
}

static const ma_rule sort_rule = {.name = "sort", .grad = picked_back},
                     topk_rule = {.name = "topk", .grad = picked_back};

ma_status ma_sort(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int dim, bool descending, ma_error *err) {
  ma_op op = ma_op_begin("sort", out, err), second = ma_op_begin("sort", index, err);
  ma_status st = MA_OK;
  ma_tensor own_index = {0};
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(reduced_shape(&op, a, dim, true, &n_dims, shape));
  MA_TRY(ma_op_output(&op, a->dtype, a->n_dims, a->shape));
  second.device = op.device;
  if (!index && op.is_recorded) index = second.out = &own_index;
  if (index) MA_TRY(ma_op_output(&second, MA_I64, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, sort, op.out, index, a, dim, descending, err));
  MA_TRY(ma_op_record(&op, &sort_rule, 2, &dim, sizeof dim, a, index));
done:
  ma_tensor_release(&own_index);
  ma_op_end(&second, st);
  return ma_op_end(&op, st);
}

ma_status ma_topk(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int64_t k, bool largest, ma_error *err) {
  ma_op op = ma_op_begin("topk", out, err), second = ma_op_begin("topk", index, err);
  ma_status st = MA_OK;
  int64_t shape[MA_MAX_DIMS];
  MA_TRY(ma_op_plain(&op, a));
  if (a->n_dims < 1 || k < 0 || k > a->shape[a->n_dims - 1])
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "topk: %lld of the last dim, which has %lld", (long long)k,
                   (long long)(a->n_dims ? a->shape[a->n_dims - 1] : 0)));
  memcpy(shape, a->shape, sizeof shape);
  shape[a->n_dims - 1] = k;
  MA_TRY(ma_op_output(&op, a->dtype, a->n_dims, shape));
  second.device = op.device;
  MA_TRY(ma_op_output(&second, MA_I64, a->n_dims, shape));
  MA_TRY(ma_op_run(&op, topk, op.out, index, a, k, largest, err));
  int dim = a->n_dims - 1;
  MA_TRY(ma_op_record(&op, &topk_rule, 2, &dim, sizeof dim, a, index));
done:
  ma_op_end(&second, st);
  return ma_op_end(&op, st);
}

/* The first element of each line that is the quantile gets all. */
static ma_status quantile_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  int dim = *(const int *)ma_node_how(node), line = dim == MA_ALL ? 0 : dim;
  const ma_tensor *a = ma_node_input(node, 0), *result = ma_node_output(node);
  ma_tensor lines = {0}, wide = {0}, is_it = {0}, index = {0}, kept = {0}, zeros = {0}, share = {0};
  int64_t flat[1] = {ma_tensor_count(a)}, shape[MA_MAX_DIMS];
  MA_TRY(spread(&wide, result, a, dim, err));
  MA_TRY(ma_binary(&is_it, MA_BINARY_eq, a, &wide, err));
  if (dim == MA_ALL) MA_TRY(ma_tensor_reshape(&lines, &is_it, 1, flat, err));
  else lines = ma_tensor_retain(&is_it);
  MA_TRY(ma_reduce(&index, MA_REDUCE_argmax, &lines, line, true, err));
  memcpy(shape, lines.shape, sizeof shape);
  shape[line] = 1;
  MA_TRY(ma_tensor_reshape(&kept, g, lines.n_dims, shape, err));
  MA_TRY(ma_tensor_new(&zeros, ma_tensor_device(a), MA_F32, lines.n_dims, lines.shape, err));
  MA_TRY(ma_fill(&zeros, 0, err));
  MA_TRY(ma_scatter_add(&zeros, &kept, line, &index, err));
  MA_TRY(ma_tensor_reshape(&share, &zeros, a->n_dims, a->shape, err));
  ma_tensor_release(&zeros);
  MA_TRY(ma_node_give(node, 0, &share, err));
done:
  ma_tensor_release(&lines);
  ma_tensor_release(&wide);
  ma_tensor_release(&is_it);
  ma_tensor_release(&index);
  ma_tensor_release(&kept);
  ma_tensor_release(&zeros);
  return st;
}

static const ma_rule quantile_rule = {.name = "quantile", .grad = quantile_back};

ma_status ma_quantile(ma_tensor *out, const ma_tensor *a, double q, int dim, bool keep, ma_error *err) {
  ma_op op = ma_op_begin("quantile", out, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  MA_TRY(ma_op_plain(&op, a));
  if (!(q >= 0 && q <= 1)) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "quantile %g is not within 0 and 1", q));
  MA_TRY(reduced_shape(&op, a, dim, keep, &n_dims, shape));
  MA_TRY(check_not_empty(&op, a, dim));
  MA_TRY(ma_op_output(&op, a->dtype, n_dims, shape));
  MA_TRY(ma_op_run(&op, quantile, op.out, a, q, dim, keep, err));
  MA_TRY(ma_op_record(&op, &quantile_rule, 3, &dim, sizeof dim, a));
done:
  return ma_op_end(&op, st);
}

ma_status ma_statistics(ma_stats *out, const ma_tensor *a, unsigned wanted, int n_top, ma_error *err) {
  ma_op op = ma_op_begin("statistics", NULL, err);
  ma_status st = ma_op_plain(&op, a);
  if (st != MA_OK) return st;
  if (n_top < 0 || n_top > MA_MAX_TOP)
    return ma_fail(err, MA_BAD_ARGUMENT, "statistics gives at most the top %d, not %d", MA_MAX_TOP, n_top);
  if (ma_tensor_count(a) == 0) return ma_fail(err, MA_BAD_ARGUMENT, "statistics of no elements");
  return ma_op_run(&op, statistics, out, a, wanted, n_top, err);
}
