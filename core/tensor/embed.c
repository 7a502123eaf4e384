/* Rows of a table by id. */
#include "tensor/op_common.h"

ma_status ma_embed(ma_tensor *out, const ma_tensor *table, const ma_tensor *ids, ma_error *err) {
  ma_op op = ma_op_begin("embed", out, err);
  ma_status st = MA_OK;
  int64_t shape[MA_MAX_DIMS];
  MA_TRY(ma_op_input(&op, table));
  MA_TRY(ma_op_plain(&op, ids));
  if (table->n_dims != 2 || ids->dtype != MA_I64 || ids->n_dims >= MA_MAX_DIMS)
    MA_TRY(ma_op_misfit(&op, table, ids));
  for (int i = 0; i < ids->n_dims; i++) shape[i] = ids->shape[i];
  shape[ids->n_dims] = table->shape[1];
  MA_TRY(ma_op_output(&op, MA_F32, ids->n_dims + 1, shape));
  MA_TRY(ma_op_run(&op, embed, out, table, ids, err));
done:
  return ma_op_end(&op, st);
}
