/* What a mixture of experts needs besides MLPs: who computes what, and the way back into the rows. */
#include "tensor/op_common.h"

ma_status ma_route(ma_tensor *out, const ma_tensor *logits, int64_t k, ma_error *err) {
  ma_op op = ma_op_begin("route", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, logits));
  if (logits->dtype != MA_F32 || logits->n_dims < 1 || k < 1 || k > logits->shape[logits->n_dims - 1])
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "route: %lld experts of the last dim of f32 logits, which has %lld",
                   (long long)k, (long long)(logits->n_dims ? logits->shape[logits->n_dims - 1] : 0)));
  MA_TRY(ma_op_output(&op, MA_F32, logits->n_dims, logits->shape));
  MA_TRY(ma_op_run(&op, route, out, logits, k, err));
done:
  return ma_op_end(&op, st);
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
  MA_TRY(ma_op_run(&op, add_rows, out, x, index, scale, err));
done:
  return ma_op_end(&op, st);
}
