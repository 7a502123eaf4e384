/* Softmax, the norms and what stands in for them, and gated activations. */
#include "tensor/op_common.h"

/* A parameter of a row operation: [D], D the last dim of x. */
static ma_status check_parameter(ma_op *op, const ma_tensor *x, const ma_tensor *parameter) {
  if (!parameter) return MA_OK;
  ma_status st = ma_op_plain(op, parameter);
  if (st != MA_OK) return st;
  bool fits = x->n_dims > 0 && parameter->n_dims == 1 && parameter->shape[0] == x->shape[x->n_dims - 1];
  return fits ? MA_OK : ma_op_misfit(op, x, parameter);
}

static ma_status check_rows(ma_op *op, const ma_tensor *x) {
  ma_status st = ma_op_plain(op, x);
  if (st != MA_OK) return st;
  if (!ma_dtype_is_float(x->dtype) || x->n_dims < 1)
    return ma_fail(op->err, MA_BAD_ARGUMENT, "%s works on floats of at least one dim", op->name);
  return ma_op_output(op, x->dtype, x->n_dims, x->shape);
}

ma_status ma_softmax(ma_tensor *out, const ma_tensor *a, bool is_log, ma_error *err) {
  ma_op op = ma_op_begin(is_log ? "log_softmax" : "softmax", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_rows(&op, a));
  MA_TRY(ma_op_run(&op, softmax, out, a, is_log, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_rms_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, double eps,
                      double offset, ma_error *err) {
  ma_op op = ma_op_begin("rms_norm", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_rows(&op, x));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(ma_op_run(&op, rms_norm, out, x, weight, eps, offset, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_layer_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight,
                        const ma_tensor *bias, double eps, double offset, ma_error *err) {
  ma_op op = ma_op_begin("layer_norm", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_rows(&op, x));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(check_parameter(&op, x, bias));
  MA_TRY(ma_op_run(&op, layer_norm, out, x, weight, bias, eps, offset, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_dyt(ma_tensor *out, const ma_tensor *x, const ma_tensor *alpha, const ma_tensor *weight,
                 const ma_tensor *bias, ma_error *err) {
  ma_op op = ma_op_begin("dyt", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_rows(&op, x));
  MA_TRY(ma_op_plain(&op, alpha));
  if (!alpha || !weight) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "dyt wants alpha and a weight"));
  if (ma_tensor_count(alpha) != 1) MA_TRY(ma_op_misfit(&op, x, alpha));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(check_parameter(&op, x, bias));
  MA_TRY(ma_op_run(&op, dyt, out, x, alpha, weight, bias, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_gated(ma_tensor *out, ma_unary_kind activation, const ma_tensor *gate, const ma_tensor *up,
                   ma_error *err) {
  ma_op op = ma_op_begin("gated", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, gate));
  MA_TRY(ma_op_plain(&op, up));
  if (gate->n_dims < 1 || !ma_dtype_is_float(gate->dtype))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "gated works on floats of at least one dim"));
  if (!ma_tensor_same_shape(gate, up) || gate->dtype != up->dtype) MA_TRY(ma_op_misfit(&op, gate, up));
  MA_TRY(ma_op_output(&op, gate->dtype, gate->n_dims, gate->shape));
  MA_TRY(ma_op_run(&op, gated, out, activation, gate, up, err));
done:
  return ma_op_end(&op, st);
}
