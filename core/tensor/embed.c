/* Rows of a table by id. */
#include "tensor/op_common.h"

static ma_status embed_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  bool adds;
  const ma_tensor *ids = ma_node_input(node, 1);
  int64_t n[1] = {ma_tensor_count(ids)}, rows[2] = {n[0], g->shape[g->n_dims - 1]};
  ma_tensor to = {0}, packed = {0}, flat_ids = {0}, flat = {0};
  MA_TRY(ma_node_into(node, 0, &to, &adds, err));
  if (!adds) MA_TRY(ma_fill(&to, 0, err));
  if (ma_tensor_is_contiguous(ids)) packed = ma_tensor_retain(ids);
  else MA_TRY(ma_tensor_convert(&packed, ids, MA_I64, err));
  MA_TRY(ma_tensor_reshape(&flat_ids, &packed, 1, n, err));
  MA_TRY(ma_tensor_reshape(&flat, g, 2, rows, err));
  MA_TRY(ma_scatter_add(&to, &flat, 0, &flat_ids, err));
done:
  ma_tensor_release(&to);
  ma_tensor_release(&packed);
  ma_tensor_release(&flat_ids);
  ma_tensor_release(&flat);
  return st;
}

static const ma_rule embed_rule = {.name = "embed", .grad = embed_back};

ma_status ma_embed(ma_tensor *out, const ma_tensor *table, const ma_tensor *ids, ma_error *err) {
  ma_op op = ma_op_begin("embed", out, err);
  ma_status st = MA_OK;
  int64_t shape[MA_MAX_DIMS];
  MA_TRY(ma_op_input(&op, table));
  MA_TRY(ma_op_plain(&op, ids));
  if (table->n_dims != 2 || ids->dtype != MA_I64 || ids->n_dims >= MA_MAX_DIMS) MA_TRY(ma_op_misfit(&op, table, ids));
  for (int i = 0; i < ids->n_dims; i++) shape[i] = ids->shape[i];
  shape[ids->n_dims] = table->shape[1];
  MA_TRY(ma_op_output_float(&op, MA_F32, ids->n_dims + 1, shape));
  MA_TRY(ma_op_run(&op, embed, op.out, table, ids, err));
  MA_TRY(ma_op_record(&op, &embed_rule, 2, NULL, 0, table, ids));
done:
  return ma_op_end(&op, st);
}
