/* The MLP branch: up (and gate), activation, down. */
#include <math.h>

#include "model/model_internal.h"

/* x^3: torch rounds the square of bf16, but not that of f16. */
static ma_status cube(ma_pass *pass, ma_tensor *out, const ma_tensor *x, ma_error *err) {
  ma_status st = MA_OK;
  MA_TRY(ma_binary(out, MA_BINARY_mul, x, x, err));
  if (pass->model->dtype == MA_BF16) MA_TRY(ma_pass_round(pass, out, err));
  MA_TRY(ma_binary(out, MA_BINARY_mul, out, x, err));
  MA_TRY(ma_pass_round(pass, out, err));
done:
  return st;
}

/* gelu_tanh as transformers' gelu_new writes it in Python, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): every
 * operation rounds.  In place. */
static ma_status gelu_new(ma_pass *pass, ma_tensor *x, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor t = {0};
  ma_arena_mark mark = ma_arena_here(pass->arena);
  MA_TRY(ma_pass_take_shape(pass, &t, x->n_dims, x->shape, err));
  MA_TRY(cube(pass, &t, x, err));
  MA_TRY(ma_pass_scale(pass, &t, 0.044715, err));
  MA_TRY(ma_binary(&t, MA_BINARY_add, &t, x, err));
  MA_TRY(ma_pass_round(pass, &t, err));
  MA_TRY(ma_pass_scale(pass, &t, sqrt(2 / acos(-1.0)), err));
  MA_TRY(ma_unary(&t, MA_UNARY_tanh, &t, err));
  MA_TRY(ma_pass_round(pass, &t, err));
  MA_TRY(ma_pass_apply(pass, &t, MA_BINARY_add, 1, err));
  MA_TRY(ma_pass_scale(pass, x, 0.5, err));
  MA_TRY(ma_binary(x, MA_BINARY_mul, x, &t, err));
  MA_TRY(ma_pass_round(pass, x, err));
done:
  ma_tensor_release(&t);
  ma_arena_back(pass->arena, mark);
  return st;
}

ma_status ma_pass_activate(ma_pass *pass, ma_tensor *gate, ma_tensor *up, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_unary_kind activation = ma_spec_activation(s);
  ma_tensor *x = s->gated ? gate : up;
  if (pass->model->dtype == MA_F32)
    return s->gated ? ma_gated(up, activation, gate, up, err) : ma_unary(up, activation, up, err);
  if (s->activation == MA_ACTIVATION_GELU_NEW) {
    MA_TRY(gelu_new(pass, x, err));
  } else {
    MA_TRY(ma_unary(x, activation, x, err));
    MA_TRY(ma_pass_round(pass, x, err));
  }
  if (s->gated) {
    MA_TRY(ma_binary(up, MA_BINARY_mul, up, gate, err));
    MA_TRY(ma_pass_round(pass, up, err));
  }
done:
  return st;
}

static ma_status mlp(ma_pass *pass, int layer, const ma_tensor *h, ma_tensor *out, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_tensor gate = {0}, up = {0};
  MA_TRY(ma_pass_take(pass, &up, s->d_ff, err));
  if (s->gated) {
    MA_TRY(ma_pass_take(pass, &gate, s->d_ff, err));
    MA_TRY(ma_pass_linear(pass, &gate, h, MA_SLOT_MLP_GATE, MA_SLOT_MLP_GATE_BIAS, layer, err));
    MA_VISIT(MLP_GATE, layer, &gate);
  }
  MA_TRY(ma_pass_linear(pass, &up, h, MA_SLOT_MLP_UP, MA_SLOT_MLP_UP_BIAS, layer, err));
  MA_VISIT(MLP_UP, layer, &up);
  MA_TRY(ma_pass_activate(pass, &gate, &up, err));
  MA_VISIT(MLP_ACT, layer, &up);

  MA_TRY(ma_pass_linear(pass, out, &up, MA_SLOT_MLP_PROJ, MA_SLOT_MLP_PROJ_BIAS, layer, err));
done:
  ma_tensor_release(&gate);
  ma_tensor_release(&up);
  return st;
}

ma_status ma_mlp_branch(ma_pass *pass, int layer, const ma_tensor *h, ma_tensor *out, ma_error *err) {
  ma_status st = MA_OK;
  if (pass->spec->n_experts > 0) MA_STEP(ma_experts(pass, layer, h, out, err));
  else MA_STEP(mlp(pass, layer, h, out, err));
  MA_VISIT(MLP_PROJ, layer, out);
  MA_STEP(ma_pass_branch_out(pass, out, MA_AT_MLP_OUT, MA_SLOT_MLP_NORM_AFTER, layer, err));
done:
  return st;
}
