/* What a mixture of experts needs besides MLPs: who computes what, and the way back into the rows. */
#include "tensor/op_common.h"

/* Shares are a softmax over the chosen, and 0 elsewhere: so is its gradient. */
static ma_status route_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_tensor share = {0};
  ma_status st = ma_softmax_grad(&share, ma_node_output(node), g, false, err);
  return st == MA_OK ? ma_node_give(node, 0, &share, err) : st;
}

static const ma_rule route_rule = {.name = "route", .grad = route_back};

ma_status ma_route(ma_tensor *out, const ma_tensor *logits, int64_t k, ma_error *err) {
  ma_op op = ma_op_begin("route", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, logits));
  if (logits->dtype != MA_F32 || logits->n_dims < 1 || k < 1 || k > logits->shape[logits->n_dims - 1])
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "route: %lld experts of the last dim of f32 logits, which has %lld",
                   (long long)k, (long long)(logits->n_dims ? logits->shape[logits->n_dims - 1] : 0)));
  MA_TRY(ma_op_output(&op, MA_F32, logits->n_dims, logits->shape));
  MA_TRY(ma_op_run(&op, route, op.out, logits, k, err));
  MA_TRY(ma_op_record(&op, &route_rule, 2, NULL, 0, logits));
done:
  return ma_op_end(&op, st);
}

static ma_status add_rows_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  const ma_tensor *x = ma_node_input(node, 1), *index = ma_node_input(node, 2), *scale = ma_node_input(node, 3);
  ma_tensor rows = {0}, column = {0}, products = {0}, share = ma_tensor_retain(g);
  MA_TRY(ma_node_give(node, 0, &share, err));
  MA_TRY(ma_gather(&rows, g, 0, index, err));
  if (ma_node_wants(node, 3)) {
    MA_TRY(ma_binary(&products, MA_BINARY_mul, &rows, x, err));
    MA_TRY(ma_reduce(&share, MA_REDUCE_sum, &products, 1, false, err));
    MA_TRY(ma_node_give(node, 3, &share, err));
  }
  if (ma_node_wants(node, 1)) {
    MA_TRY(ma_tensor_reshape(&column, scale, 2, (int64_t[2]){scale->shape[0], 1}, err));
    MA_TRY(ma_binary(&share, MA_BINARY_mul, &rows, &column, err));
    MA_TRY(ma_node_give(node, 1, &share, err));
  }
done:
  ma_tensor_release(&rows);
  ma_tensor_release(&column);
  ma_tensor_release(&products);
  return st;
}

static const ma_rule add_rows_rule = {.name = "add_rows", .grad = add_rows_back};

/* A recorded call adds to a copy, which takes the place of `out`. */
static ma_status add_rows_recorded(ma_op *op, const ma_tensor *x, const ma_tensor *index, const ma_tensor *scale) {
  ma_status st = MA_OK;
  ma_tensor before = *op->given;
  before.is_detached = true;
  MA_TRY(ma_tensor_convert(&op->made, &before, MA_F32, op->err));
  MA_TRY(ma_op_run(op, add_rows, &op->made, x, index, scale, op->err));
  op->out = &op->made;
  op->is_recorded = op->is_in_place = true;
  MA_TRY(ma_op_record(op, &add_rows_rule, 14, NULL, 0, op->given, x, index, scale));
done:
  return st;
}

ma_status ma_add_rows(ma_tensor *out, const ma_tensor *x, const ma_tensor *index, const ma_tensor *scale,
                      ma_error *err) {
  ma_op op = ma_op_begin("add_rows", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, x));
  MA_TRY(ma_op_plain(&op, index));
  MA_TRY(ma_op_plain(&op, scale));
  if (x->n_dims != 2 || x->dtype != MA_F32) MA_TRY(ma_op_misfit(&op, x, index));
  if (index->n_dims != 1 || index->dtype != MA_I64 || index->shape[0] != x->shape[0])
    MA_TRY(ma_op_misfit(&op, x, index));
  if (scale->n_dims != 1 || scale->dtype != MA_F32 || scale->shape[0] != x->shape[0])
    MA_TRY(ma_op_misfit(&op, x, scale));
  if (!out->storage || out->n_dims != 2 || out->shape[1] != x->shape[1] || out->dtype != MA_F32)
    MA_TRY(ma_op_misfit(&op, out, x));
  if (!out->is_detached && (op.is_tracked || ma_tensor_is_tracked(out)))
    MA_TRY(add_rows_recorded(&op, x, index, scale));
  else MA_TRY(ma_op_run(&op, add_rows, out, x, index, scale, err));
done:
  return ma_op_end(&op, st);
}
