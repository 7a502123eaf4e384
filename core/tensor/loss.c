/* Cross-entropy in nats, from logits or straight from hidden states. */
#include <math.h>

#include "tensor/op_common.h"

static ma_status check_targets(ma_op *op, const ma_tensor *rows, const ma_tensor *targets, bool may_be_narrow) {
  ma_status st = ma_op_plain(op, targets);
  if (st != MA_OK) return st;
  bool fits = rows->n_dims == 2 && targets->n_dims == 1 && targets->shape[0] == rows->shape[0] &&
              targets->dtype == MA_I64 && (may_be_narrow ? ma_dtype_is_float(rows->dtype) : rows->dtype == MA_F32);
  return fits ? MA_OK : ma_op_misfit(op, rows, targets);
}

static ma_status check_rates(ma_op *op, const ma_tensor *targets, const ma_tensor *g) {
  ma_status st = ma_op_plain(op, g);
  if (st != MA_OK) return st;
  bool fits = g->n_dims == 1 && g->shape[0] == targets->shape[0] && g->dtype == MA_F32;
  return fits ? MA_OK : ma_op_misfit(op, targets, g);
}

/* ---- from logits ---- */

ma_status ma_cross_entropy_grad(ma_tensor *out, const ma_tensor *logits, const ma_tensor *targets, const ma_tensor *g,
                                ma_error *err) {
  ma_op op = ma_op_begin("cross_entropy_grad", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, logits));
  MA_TRY(check_targets(&op, logits, targets, false));
  MA_TRY(check_rates(&op, targets, g));
  MA_TRY(ma_op_output(&op, MA_F32, 2, logits->shape));
  if (!ma_tensor_is_contiguous(op.out))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "cross_entropy_grad: the output must be contiguous"));
  MA_TRY(ma_op_run(&op, cross_entropy_grad, op.out, logits, targets, g, err));
done:
  return ma_op_end(&op, st);
}

static ma_status cross_entropy_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_tensor share = {0};
  ma_status st = ma_cross_entropy_grad(&share, ma_node_input(node, 0), ma_node_input(node, 1), g, err);
  return st == MA_OK ? ma_node_give(node, 0, &share, err) : st;
}

static const ma_rule cross_entropy_rule = {.name = "cross_entropy", .grad = cross_entropy_back};

ma_status ma_cross_entropy(ma_tensor *out, const ma_tensor *logits, const ma_tensor *targets, ma_error *err) {
  ma_op op = ma_op_begin("cross_entropy", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, logits));
  MA_TRY(check_targets(&op, logits, targets, false));
  MA_TRY(ma_op_output(&op, MA_F32, 1, logits->shape));
  MA_TRY(ma_op_run(&op, cross_entropy, op.out, logits, targets, err));
  MA_TRY(ma_op_record(&op, &cross_entropy_rule, 3, NULL, 0, logits, targets));
done:
  return ma_op_end(&op, st);
}

/* ---- from hidden states ---- */

static ma_status check_head(ma_op *op, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                            const ma_tensor *targets) {
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(op, x));
  MA_TRY(ma_op_input(op, weight));
  MA_TRY(ma_op_plain(op, bias));
  MA_TRY(check_targets(op, x, targets, true));
  if (weight->n_dims != 2 || weight->shape[1] != x->shape[1]) MA_TRY(ma_op_misfit(op, x, weight));
  if (bias && (bias->n_dims != 1 || bias->shape[0] != weight->shape[0])) MA_TRY(ma_op_misfit(op, weight, bias));
done:
  return st;
}

/* An output that is there already. */
static ma_status check_share(ma_op *op, ma_tensor *share, const ma_tensor *like) {
  if (!share) return MA_OK;
  ma_op other = ma_op_begin(op->name, share, op->err);
  other.device = op->device;
  return ma_op_output(&other, MA_F32, like->n_dims, like->shape);
}

ma_status ma_linear_cross_entropy_grad(ma_tensor *out, ma_tensor *weight_grad, ma_tensor *bias_grad, bool adds,
                                       const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                                       const ma_tensor *targets, const ma_logits_how *how, const ma_tensor *g,
                                       ma_error *err) {
  ma_op op = ma_op_begin("linear_cross_entropy_grad", NULL, err);
  ma_status st = MA_OK;
  MA_TRY(check_head(&op, x, weight, bias, targets));
  MA_TRY(check_rates(&op, targets, g));
  MA_TRY(check_share(&op, out, x));
  MA_TRY(check_share(&op, weight_grad, weight));
  if (bias) MA_TRY(check_share(&op, bias_grad, bias));
  MA_TRY(ma_op_run(&op, linear_cross_entropy_grad, out, weight_grad, bias_grad, adds, x, weight, bias, targets, how, g,
                   err));
done:
  return st;
}

static ma_status linear_cross_entropy_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  bool weight_adds = false, bias_adds = false;
  const ma_tensor *x = ma_node_input(node, 0), *weight = ma_node_input(node, 1), *bias = ma_node_input(node, 2);
  ma_tensor share = {0}, of_weight = {0}, of_bias = {0};
  bool wants[3];
  for (int i = 0; i < 3; i++) wants[i] = ma_node_wants(node, i);
  if (wants[1]) MA_TRY(ma_node_into(node, 1, &of_weight, &weight_adds, err));
  if (wants[2]) MA_TRY(ma_node_into(node, 2, &of_bias, &bias_adds, err));
  if (wants[1] && wants[2] && weight_adds != bias_adds) {
    MA_TRY(ma_fill(weight_adds ? &of_bias : &of_weight, 0, err));
    weight_adds = bias_adds = true;
  }
  MA_TRY(ma_linear_cross_entropy_grad(wants[0] ? &share : NULL, wants[1] ? &of_weight : NULL,
                                      wants[2] ? &of_bias : NULL, weight_adds || bias_adds, x, weight,
                                      bias->storage ? bias : NULL, ma_node_input(node, 3), ma_node_how(node), g, err));
  if (wants[0]) MA_TRY(ma_node_give(node, 0, &share, err));
done:
  ma_tensor_release(&share);
  ma_tensor_release(&of_weight);
  ma_tensor_release(&of_bias);
  return st;
}

/* ---- their mean, with gradients on the way there ---- */

/* Inputs are x, weight, bias, and the gradients of these three. */
static ma_status mean_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  double rate = NAN;
  ma_tensor share = {0}, scaled = {0};
  /* Most often the rate is 1, which saves a pass over the gradients; asking a device for it would wait for all that it has to do. */
  if (ma_tensor_device(g) == ma_device_cpu()) MA_TRY(ma_tensor_get(&rate, g, NULL, err));
  for (int i = 0; i < 3; i++) {
    if (!ma_node_wants(node, i)) continue;
    share = ma_node_take(node, i + 3);
    if (rate != 1) {
      MA_TRY(ma_binary(&scaled, MA_BINARY_mul, &share, g, err));
      ma_tensor_release(&share);
      share = scaled;
      scaled = (ma_tensor){0};
    }
    MA_TRY(ma_node_give(node, i, &share, err));
  }
done:
  ma_tensor_release(&share);
  return st;
}

static const ma_rule mean_rule = {.name = "mean_cross_entropy", .grad = mean_back};

ma_status ma_mean_cross_entropy(ma_tensor *out, ma_tensor *const *grads, const ma_tensor *x, const ma_tensor *weight,
                                const ma_tensor *bias, const ma_tensor *targets, const ma_logits_how *how,
                                ma_error *err) {
  ma_op op = ma_op_begin("mean_cross_entropy", out, err);
  ma_status st = MA_OK;
  const ma_tensor *in[3] = {x, weight, bias};
  ma_tensor made[3] = {{0}, {0}, {0}};
  ma_tensor *shares[3] = {NULL, NULL, NULL};
  MA_TRY(check_head(&op, x, weight, bias, targets));
  MA_TRY(ma_op_output(&op, MA_F32, 0, NULL));
  for (int i = 0; i < 3; i++) {
    shares[i] = grads ? grads[i] : op.is_recorded && in[i] && ma_tensor_is_tracked(in[i]) ? &made[i] : NULL;
    MA_TRY(check_share(&op, shares[i], in[i] ? in[i] : x));
  }
  MA_TRY(ma_op_run(&op, mean_cross_entropy, op.out, shares, x, weight, bias, targets, how, err));
  MA_TRY(ma_op_record(&op, &mean_rule, 7u << 3, NULL, 0, x, weight, bias, made[0].storage ? &made[0] : NULL,
                      made[1].storage ? &made[1] : NULL, made[2].storage ? &made[2] : NULL));
done:
  for (int i = 0; i < 3; i++) ma_tensor_release(&made[i]);
  return ma_op_end(&op, st);
}

static const ma_rule linear_cross_entropy_rule = {.name = "linear_cross_entropy", .grad = linear_cross_entropy_back};

ma_status ma_linear_cross_entropy(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                                  const ma_tensor *targets, const ma_logits_how *how, ma_error *err) {
  ma_op op = ma_op_begin("linear_cross_entropy", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_head(&op, x, weight, bias, targets));
  MA_TRY(ma_op_output(&op, MA_F32, 1, x->shape));
  MA_TRY(ma_op_run(&op, linear_cross_entropy, op.out, x, weight, bias, targets, how, err));
  MA_TRY(ma_op_record(&op, &linear_cross_entropy_rule, 15, how, sizeof *how, x, weight, bias, targets));
done:
  return ma_op_end(&op, st);
}
