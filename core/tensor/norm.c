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
  return ma_op_output_float(op, x->dtype, x->n_dims, x->shape);
}

/* ---- softmax ---- */

/* A gradient of a row operation: g shaped as x, the output f32. */
static ma_status check_grad(ma_op *op, const ma_tensor *x, const ma_tensor *g) {
  ma_status st = ma_op_plain(op, x);
  if (st == MA_OK) st = ma_op_plain(op, g);
  if (st != MA_OK) return st;
  if (!ma_tensor_same_shape(x, g) || g->dtype != MA_F32 || x->n_dims < 1) return ma_op_misfit(op, x, g);
  return ma_op_output(op, MA_F32, x->n_dims, x->shape);
}

ma_status ma_softmax_grad(ma_tensor *out, const ma_tensor *y, const ma_tensor *g, bool is_log, ma_error *err) {
  ma_op op = ma_op_begin("softmax_grad", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_grad(&op, y, g));
  MA_TRY(ma_op_run(&op, softmax_grad, op.out, y, g, is_log, err));
done:
  return ma_op_end(&op, st);
}

static ma_status softmax_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_tensor share = {0};
  ma_status st = ma_softmax_grad(&share, ma_node_output(node), g, *(const bool *)ma_node_how(node), err);
  return st == MA_OK ? ma_node_give(node, 0, &share, err) : st;
}

static const ma_rule softmax_rules[] = {{.name = "softmax", .grad = softmax_back},
                                        {.name = "log_softmax", .grad = softmax_back}};

ma_status ma_softmax(ma_tensor *out, const ma_tensor *a, bool is_log, ma_error *err) {
  ma_op op = ma_op_begin(is_log ? "log_softmax" : "softmax", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_rows(&op, a));
  MA_TRY(ma_op_run(&op, softmax, op.out, a, is_log, err));
  MA_TRY(ma_op_record(&op, &softmax_rules[is_log], 2, &is_log, sizeof is_log, a));
done:
  return ma_op_end(&op, st);
}

/* ---- norms: inputs are x, weight, and what else there is ---- */

/* Where to make the gradient of an input; NULL: nobody wants it. */
static ma_tensor *wanted(ma_node *node, int input, ma_tensor *made) { return ma_node_wants(node, input) ? made : NULL; }

static ma_status bias_back(ma_node *node, int input, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  bool adds;
  ma_tensor to = {0};
  if (!ma_node_wants(node, input)) return MA_OK;
  MA_TRY(ma_node_into(node, input, &to, &adds, err));
  MA_TRY(ma_sum_rows(&to, g, adds, err));
done:
  ma_tensor_release(&to);
  return st;
}

static ma_status check_weight_grad(ma_op *op, ma_tensor *weight_grad, const ma_tensor *x) {
  if (!weight_grad) return MA_OK;
  ma_op second = ma_op_begin(op->name, weight_grad, op->err);
  second.device = op->device;
  return ma_op_output(&second, MA_F32, 1, &x->shape[x->n_dims - 1]);
}

ma_status ma_rms_norm_grad(ma_tensor *out, ma_tensor *weight_grad, const ma_tensor *x, const ma_tensor *weight,
                           const ma_tensor *g, double eps, double offset, ma_error *err) {
  ma_op op = ma_op_begin("rms_norm_grad", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_grad(&op, x, g));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(check_weight_grad(&op, weight_grad, x));
  MA_TRY(ma_op_run(&op, rms_norm_grad, op.out, weight_grad, x, weight, g, eps, offset, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_layer_norm_grad(ma_tensor *out, ma_tensor *weight_grad, const ma_tensor *x, const ma_tensor *weight,
                             const ma_tensor *g, double eps, double offset, ma_error *err) {
  ma_op op = ma_op_begin("layer_norm_grad", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_grad(&op, x, g));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(check_weight_grad(&op, weight_grad, x));
  MA_TRY(ma_op_run(&op, layer_norm_grad, op.out, weight_grad, x, weight, g, eps, offset, err));
done:
  return ma_op_end(&op, st);
}

static ma_status rms_norm_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  const ma_norm_how *how = ma_node_how(node);
  const ma_tensor *x = ma_node_input(node, 0), *weight = ma_node_input(node, 1);
  ma_tensor share = {0}, of_weight = {0};
  if (!weight->storage) weight = NULL;
  MA_TRY(ma_rms_norm_grad(&share, wanted(node, 1, &of_weight), x, weight, g, how->eps, how->offset, err));
  MA_TRY(ma_node_give(node, 0, &share, err));
  if (of_weight.storage) MA_TRY(ma_node_give(node, 1, &of_weight, err));
done:
  ma_tensor_release(&of_weight);
  return st;
}

static ma_status layer_norm_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  const ma_norm_how *how = ma_node_how(node);
  const ma_tensor *x = ma_node_input(node, 0), *weight = ma_node_input(node, 1);
  ma_tensor share = {0}, of_weight = {0};
  if (!weight->storage) weight = NULL;
  MA_TRY(ma_layer_norm_grad(&share, wanted(node, 1, &of_weight), x, weight, g, how->eps, how->offset, err));
  MA_TRY(ma_node_give(node, 0, &share, err));
  if (of_weight.storage) MA_TRY(ma_node_give(node, 1, &of_weight, err));
  MA_TRY(bias_back(node, 2, g, err));
done:
  ma_tensor_release(&of_weight);
  return st;
}

static const ma_rule rms_norm_rule = {.name = "rms_norm", .grad = rms_norm_back},
                     layer_norm_rule = {.name = "layer_norm", .grad = layer_norm_back};

ma_status ma_rms_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_norm_how *how,
                      ma_error *err) {
  ma_op op = ma_op_begin("rms_norm", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_rows(&op, x));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(ma_op_run(&op, rms_norm, op.out, x, weight, how, err));
  MA_TRY(ma_op_record(&op, &rms_norm_rule, 3, how, sizeof *how, x, weight));
done:
  return ma_op_end(&op, st);
}

ma_status ma_layer_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                        const ma_norm_how *how, ma_error *err) {
  ma_op op = ma_op_begin("layer_norm", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_rows(&op, x));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(check_parameter(&op, x, bias));
  MA_TRY(ma_op_run(&op, layer_norm, op.out, x, weight, bias, how, err));
  MA_TRY(ma_op_record(&op, &layer_norm_rule, 3, how, sizeof *how, x, weight, bias));
done:
  return ma_op_end(&op, st);
}

/* x is written to as well as read. */
static ma_status check_sum(ma_op *op, ma_tensor *x, const ma_tensor *more) {
  ma_status st = ma_op_plain(op, more);
  if (st == MA_OK) st = check_rows(op, x);
  if (st != MA_OK) return st;
  if (!ma_tensor_same_shape(x, more)) return ma_op_misfit(op, x, more);
  if (op->is_recorded || ma_tensor_is_tracked(x))
    return ma_fail(op->err, MA_UNSUPPORTED, "%s has no gradient; add, then take the norm", op->name);
  ma_storage_written(x->storage);
  return MA_OK;
}

ma_status ma_add_rms_norm(ma_tensor *out, ma_tensor *x, const ma_tensor *more, const ma_tensor *weight,
                          const ma_norm_how *how, ma_error *err) {
  ma_op op = ma_op_begin("add_rms_norm", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_sum(&op, x, more));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(ma_op_run(&op, add_rms_norm, op.out, x, more, weight, how, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_add_layer_norm(ma_tensor *out, ma_tensor *x, const ma_tensor *more, const ma_tensor *weight,
                            const ma_tensor *bias, const ma_norm_how *how, ma_error *err) {
  ma_op op = ma_op_begin("add_layer_norm", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_sum(&op, x, more));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(check_parameter(&op, x, bias));
  MA_TRY(ma_op_run(&op, add_layer_norm, op.out, x, more, weight, bias, how, err));
done:
  return ma_op_end(&op, st);
}

/* ---- what stands in for a norm ---- */

ma_status ma_dyt_grad(ma_tensor *out, ma_tensor *alpha_grad, ma_tensor *weight_grad, const ma_tensor *x,
                      const ma_tensor *alpha, const ma_tensor *weight, const ma_tensor *g, ma_error *err) {
  ma_op op = ma_op_begin("dyt_grad", out, err), second = ma_op_begin("dyt_grad", alpha_grad, err);
  ma_status st = MA_OK;
  MA_TRY(check_grad(&op, x, g));
  MA_TRY(ma_op_plain(&op, alpha));
  MA_TRY(check_parameter(&op, x, weight));
  MA_TRY(check_weight_grad(&op, weight_grad, x));
  second.device = op.device;
  MA_TRY(ma_op_output(&second, MA_F32, alpha->n_dims, alpha->shape));
  MA_TRY(ma_op_run(&op, dyt_grad, op.out, alpha_grad, weight_grad, x, alpha, weight, g, err));
done:
  return ma_op_end(&op, st);
}

static ma_status dyt_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor share = {0}, of_alpha = {0}, of_weight = {0};
  MA_TRY(ma_dyt_grad(&share, &of_alpha, &of_weight, ma_node_input(node, 0), ma_node_input(node, 1),
                     ma_node_input(node, 2), g, err));
  MA_TRY(ma_node_give(node, 0, &share, err));
  MA_TRY(ma_node_give(node, 1, &of_alpha, err));
  MA_TRY(ma_node_give(node, 2, &of_weight, err));
  MA_TRY(bias_back(node, 3, g, err));
done:
  ma_tensor_release(&of_alpha);
  ma_tensor_release(&of_weight);
  return st;
}

static const ma_rule dyt_rule = {.name = "dyt", .grad = dyt_back};

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
  MA_TRY(ma_op_run(&op, dyt, op.out, x, alpha, weight, bias, err));
  MA_TRY(ma_op_record(&op, &dyt_rule, 7, NULL, 0, x, alpha, weight, bias));
done:
  return ma_op_end(&op, st);
}

/* ---- gated activations ---- */

ma_status ma_gated_grad(ma_tensor *gate_grad, ma_tensor *up_grad, ma_unary_kind activation, const ma_tensor *gate,
                        const ma_tensor *up, const ma_tensor *g, ma_error *err) {
  ma_op op = ma_op_begin("gated_grad", gate_grad, err), second = ma_op_begin("gated_grad", up_grad, err);
  ma_status st = MA_OK;
  if (!ma_tensor_same_shape(gate, up)) MA_TRY(ma_op_misfit(&op, gate, up));
  MA_TRY(check_grad(&op, gate, g));
  second.device = op.device;
  MA_TRY(ma_op_output(&second, MA_F32, gate->n_dims, gate->shape));
  if (!ma_tensor_is_contiguous(gate_grad) || !ma_tensor_is_contiguous(up_grad))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "gated_grad: the outputs must be contiguous"));
  MA_TRY(ma_op_run(&op, gated_grad, op.out, up_grad, activation, gate, up, g, err));
done:
  return ma_op_end(&op, st);
}

static ma_status gated_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_unary_kind activation = ((const ma_gated_how *)ma_node_how(node))->activation;
  const ma_tensor *gate = ma_node_input(node, 0), *up = ma_node_input(node, 1);
  ma_tensor of_gate = {0}, of_up = {0};
  if (up->storage) MA_TRY(ma_gated_grad(&of_gate, &of_up, activation, gate, up, g, err));
  else MA_TRY(ma_unary_grad(&of_gate, activation, gate, g, err));
  MA_TRY(ma_node_give(node, 0, &of_gate, err));
  if (up->storage) MA_TRY(ma_node_give(node, 1, &of_up, err));
done:
  ma_tensor_release(&of_gate);
  ma_tensor_release(&of_up);
  return st;
}

static const ma_rule gated_rule = {.name = "gated", .grad = gated_back};

ma_status ma_gated(ma_tensor *out, const ma_tensor *gate, const ma_tensor *up, const ma_gated_how *how, ma_error *err) {
  ma_op op = ma_op_begin("gated", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, gate));
  MA_TRY(ma_op_plain(&op, up));
  if (gate->n_dims < 1 || !ma_dtype_is_float(gate->dtype))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "gated works on floats of at least one dim"));
  if (up && (!ma_tensor_same_shape(gate, up) || gate->dtype != up->dtype)) MA_TRY(ma_op_misfit(&op, gate, up));
  MA_TRY(ma_op_output_float(&op, gate->dtype, gate->n_dims, gate->shape));
  MA_TRY(ma_op_run(&op, gated, op.out, gate, up, how, err));
  MA_TRY(ma_op_record(&op, &gated_rule, 3, how, sizeof *how, gate, up));
done:
  return ma_op_end(&op, st);
}
