/* Cross-entropy in nats, from logits or straight from hidden states. */
#include "tensor/op_common.h"

static ma_status check_targets(ma_op *op, const ma_tensor *rows, const ma_tensor *targets) {
  ma_status st = ma_op_plain(op, targets);
  if (st != MA_OK) return st;
  bool fits = rows->n_dims == 2 && targets->n_dims == 1 && targets->shape[0] == rows->shape[0] &&
              targets->dtype == MA_I64 && rows->dtype == MA_F32;
  return fits ? MA_OK : ma_op_misfit(op, rows, targets);
}

ma_status ma_cross_entropy(ma_tensor *out, const ma_tensor *logits, const ma_tensor *targets,
                           ma_error *err) {
  ma_op op = ma_op_begin("cross_entropy", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, logits));
  MA_TRY(check_targets(&op, logits, targets));
  MA_TRY(ma_op_output(&op, MA_F32, 1, logits->shape));
  MA_TRY(ma_op_run(&op, cross_entropy, out, logits, targets, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_linear_cross_entropy(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight,
                                  const ma_tensor *bias, const ma_tensor *targets,
                                  const ma_logits_how *how, ma_error *err) {
  ma_op op = ma_op_begin("linear_cross_entropy", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, x));
  MA_TRY(ma_op_input(&op, weight));
  MA_TRY(ma_op_plain(&op, bias));
  MA_TRY(check_targets(&op, x, targets));
  if (weight->n_dims != 2 || weight->shape[1] != x->shape[1]) MA_TRY(ma_op_misfit(&op, x, weight));
  if (bias && (bias->n_dims != 1 || bias->shape[0] != weight->shape[0]))
    MA_TRY(ma_op_misfit(&op, weight, bias));
  MA_TRY(ma_op_output(&op, MA_F32, 1, x->shape));
  MA_TRY(ma_op_run(&op, linear_cross_entropy, out, x, weight, bias, targets, how, err));
done:
  return ma_op_end(&op, st);
}
