/* The MLP branch: up (and gate), activation, down. */
#include "model/model_internal.h"

ma_status ma_pass_activate(ma_pass *pass, ma_tensor *gate, ma_tensor *up, ma_error *err) {
  const ma_spec *s = pass->spec;
  ma_gated_how how = {.activation = ma_spec_activation(s),
                      .step = pass->model->dtype,
                      .is_eager = s->activation == MA_ACTIVATION_GELU_NEW};
  ma_status st = ma_gated(up, s->gated ? gate : up, s->gated ? up : NULL, &how, err);
  return st == MA_OK ? ma_pass_round(pass, up, err) : st;
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
