/* A mixture of experts (Shazeer et al. 2017; Jiang et al. 2024): a router chooses a few MLPs for each token,
 * and what these give is added up by their shares.  The shares may have been written to at `mlp.experts`. */
#include "base/memory.h"
#include "model/model_internal.h"

/* The tokens of expert e, and its shares there, from shares [n_tokens n_experts]. */
static int64_t tokens_of(int64_t *tokens, float *factors, const float *shares, int64_t n_tokens, int64_t n_experts,
                         int64_t e) {
  int64_t n = 0;
  for (int64_t t = 0; t < n_tokens; t++) {
    float share = shares[t * n_experts + e];
    if (share == 0) continue;
    tokens[n] = t;
    factors[n++] = share;
  }
  return n;
}

/* [n width], to be written to. */
static ma_status take_rows(ma_pass *pass, ma_tensor *out, ma_dtype dtype, int64_t n, int64_t width, ma_error *err) {
  return ma_pass_take_shape(pass, out, dtype, 2, (int64_t[2]){n, width}, err);
}

/* What multiplies each row: `factors`, or, on the tape, the shares themselves, column e of router [n_tokens n_experts]. */
static ma_status take_scale(ma_pass *pass, ma_tensor *out, const ma_tensor *router, int64_t e, const ma_tensor *ids,
                            const float *factors, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor rows = {0}, column = {0};
  if (pass->is_recorded) {
    MA_TRY(ma_tensor_reshape(&rows, router, 2, (int64_t[2]){-1, pass->spec->n_experts}, err));
    MA_TRY(ma_tensor_select(&column, &rows, 1, e, err));
    MA_TRY(ma_gather(out, &column, 0, ids, err));
  } else {
    MA_TRY(ma_pass_new(pass, out, MA_F32, 1, ids->shape, err));
    MA_TRY(pass->model->device->backend->upload(pass->model->device, ma_tensor_data(out), factors, ma_tensor_bytes(out),
                                                err));
  }
done:
  ma_tensor_release(&rows);
  ma_tensor_release(&column);
  return st;
}

static ma_status linear(ma_pass *pass, ma_tensor *out, const ma_tensor *x, ma_slot slot, int64_t index, ma_error *err) {
  const ma_tensor *weight;
  ma_status st = ma_pass_weight(pass, &weight, slot, index, err);
  return st == MA_OK ? ma_pass_multiply(pass, out, x, weight, NULL, err) : st;
}

/* sum [B T, D] f32 += factor * expert(h) for the `n` tokens listed; e is the expert, index where its weights are. */
static ma_status add_expert(ma_pass *pass, ma_tensor *sum, const ma_tensor *h, const ma_tensor *router, int64_t e,
                            int64_t index, int64_t n, const int64_t *tokens, const float *factors, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_device *device = pass->model->device;
  ma_dtype dtype = ma_model_activations(pass->model);
  ma_tensor ids = {0}, scale = {0}, column = {0}, x = {0}, gate = {0}, up = {0}, y = {0}, ones = {0};
  ma_arena_mark mark = ma_arena_here(pass->arena);
  MA_TRY(ma_pass_new(pass, &ids, MA_I64, 1, &n, err));
  MA_TRY(device->backend->upload(device, ma_tensor_data(&ids), tokens, ma_tensor_bytes(&ids), err));
  MA_TRY(take_scale(pass, &scale, router, e, &ids, factors, err));
  MA_TRY(take_rows(pass, &x, dtype, n, s->d_model, err));
  MA_TRY(take_rows(pass, &gate, dtype, n, s->d_ff, err));
  MA_TRY(take_rows(pass, &up, dtype, n, s->d_ff, err));
  MA_TRY(take_rows(pass, &y, MA_F32, n, s->d_model, err));
  MA_TRY(ma_gather(&x, h, 0, &ids, err));
  MA_TRY(linear(pass, &gate, &x, MA_SLOT_EXPERT_GATE, index, err));
  MA_TRY(linear(pass, &up, &x, MA_SLOT_EXPERT_UP, index, err));
  MA_TRY(ma_pass_activate(pass, &gate, &up, err));
  MA_TRY(linear(pass, &y, &up, MA_SLOT_EXPERT_PROJ, index, err));
  if (pass->model->dtype != MA_F32) {
    /* Shares are f32 even in 16 bits; their products are rounded, and so is the sum after each expert. */
    MA_TRY(ma_tensor_reshape(&column, &scale, 2, (int64_t[2]){n, 1}, err));
    MA_TRY(ma_binary(&y, MA_BINARY_mul, &y, &column, err));
    MA_TRY(ma_pass_round(pass, &y, err));
    MA_TRY(ma_pass_new(pass, &ones, MA_F32, 1, &n, err));
    MA_TRY(ma_fill(&ones, 1, err));
  }
  MA_TRY(ma_add_rows(sum, &y, &ids, ones.storage ? &ones : &scale, err));
  MA_TRY(ma_pass_round(pass, sum, err));
done:
  ma_tensor_release(&column);
  ma_tensor_release(&ids);
  ma_tensor_release(&scale);
  ma_tensor_release(&x);
  ma_tensor_release(&gate);
  ma_tensor_release(&up);
  ma_tensor_release(&y);
  ma_tensor_release(&ones);
  ma_arena_back(pass->arena, mark);
  return st;
}

ma_status ma_experts(ma_pass *pass, int layer, const ma_tensor *h, ma_tensor *out, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_device *device = pass->model->device;
  int64_t n_tokens = pass->B * pass->T, flat[2] = {n_tokens, -1};
  int64_t *tokens = NULL;
  float *shares = NULL, *factors = NULL;
  ma_tensor router = {0}, rows = {0}, sum = {0}, shaped = {0};
  int64_t by_expert[3] = {pass->B, pass->T, s->n_experts}, whole[3] = {pass->B, pass->T, s->d_model};
  MA_TRY(ma_pass_take_shape(pass, &router, MA_F32, 3, by_expert, err));
  MA_TRY(ma_pass_linear(pass, &router, h, MA_SLOT_MLP_ROUTER, MA_N_SLOTS, layer, err));
  MA_VISIT(MLP_ROUTER, layer, &router);
  MA_TRY(ma_route(&router, &router, s->n_experts_used, err));
  MA_VISIT(MLP_EXPERTS, layer, &router);

  MA_TRY(MA_NEW(&shares, n_tokens * s->n_experts, err));
  MA_TRY(MA_NEW(&tokens, n_tokens, err));
  MA_TRY(MA_NEW(&factors, n_tokens, err));
  MA_TRY(device->backend->download(device, shares, ma_tensor_data(&router), ma_tensor_bytes(&router), err));
  MA_TRY(ma_tensor_reshape(&rows, h, 2, flat, err));
  MA_TRY(ma_pass_new(pass, &sum, MA_F32, 2, (int64_t[2]){n_tokens, s->d_model}, err));
  MA_TRY(ma_fill(&sum, 0, err));
  for (int64_t e = 0; e < s->n_experts; e++) {
    int64_t n = tokens_of(tokens, factors, shares, n_tokens, s->n_experts, e);
    if (n > 0) MA_TRY(add_expert(pass, &sum, &rows, &router, e, layer * s->n_experts + e, n, tokens, factors, err));
  }
  MA_TRY(ma_tensor_reshape(&shaped, &sum, 3, whole, err));
  if (pass->is_recorded) MA_TRY(ma_tensor_convert(out, &shaped, ma_model_activations(pass->model), err));
  else MA_TRY(ma_copy(out, &shaped, err));
done:
  ma_free(shares);
  ma_free(tokens);
  ma_free(factors);
  ma_tensor_release(&router);
  ma_tensor_release(&rows);
  ma_tensor_release(&sum);
  ma_tensor_release(&shaped);
  return st;
}
