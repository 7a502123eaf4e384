/* What an optimiser does to a parameter. */
#include "tensor/op_common.h"

static ma_status check_state(ma_op *op, const ma_tensor *parameter, const ma_tensor *t) {
  ma_status st = ma_op_plain(op, t);
  if (st != MA_OK) return st;
  bool fits = ma_tensor_same_shape(parameter, t) && t->dtype == MA_F32 && ma_tensor_is_contiguous(t);
  return fits ? MA_OK : ma_op_misfit(op, parameter, t);
}

ma_status ma_adamw(ma_tensor *out, ma_tensor *mean, ma_tensor *square, const ma_tensor *gradient,
                   const ma_adamw_how *how, ma_error *err) {
  ma_op op = ma_op_begin("adamw", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_state(&op, out, out));
  MA_TRY(check_state(&op, out, mean));
  MA_TRY(check_state(&op, out, square));
  MA_TRY(check_state(&op, out, gradient));
  if (how->step < 1) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "adamw: steps count from 1"));
  MA_TRY(ma_op_run(&op, adamw, out, mean, square, gradient, how, err));
done:
  return ma_op_end(&op, st);
}
