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
static ma_status reduced_shape(const ma_op *op, const ma_tensor *a, int dim, bool keep, int *n_dims,
                               int64_t *shape) {
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

ma_status ma_reduce(ma_tensor *out, ma_reduce_kind kind, const ma_tensor *a, int dim, bool keep,
                    ma_error *err) {
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
  MA_TRY(ma_op_run(&op, reduce, out, kind, a, dim, keep, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_sort(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int dim, bool descending,
                  ma_error *err) {
  ma_op op = ma_op_begin("sort", out, err), second = ma_op_begin("sort", index, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(reduced_shape(&op, a, dim, true, &n_dims, shape));
  MA_TRY(ma_op_output(&op, a->dtype, a->n_dims, a->shape));
  second.device = op.device;
  if (index) MA_TRY(ma_op_output(&second, MA_I64, a->n_dims, a->shape));
  MA_TRY(ma_op_run(&op, sort, out, index, a, dim, descending, err));
done:
  ma_op_end(&second, st);
  return ma_op_end(&op, st);
}

ma_status ma_topk(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int64_t k, bool largest,
                  ma_error *err) {
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
  MA_TRY(ma_op_run(&op, topk, out, index, a, k, largest, err));
done:
  ma_op_end(&second, st);
  return ma_op_end(&op, st);
}

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
  MA_TRY(ma_op_run(&op, quantile, out, a, q, dim, keep, err));
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
