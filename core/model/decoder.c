/* The forward pass, top to bottom: embedding, layers, final norm, head.  What differs between families is
 * in the spec; one MA_VISIT line stands for each point. */
#include "base/threads.h"
#include "model/model_internal.h"
#include "tensor/half.h"

/* ---- into the residual stream ---- */

static ma_status ids_tensor(ma_pass *pass, ma_tensor *out, ma_error *err) {
  int64_t shape[2] = {pass->B, pass->T};
  ma_status st = ma_pass_new(pass, out, MA_I64, 2, shape, err);
  if (st != MA_OK) return st;
  return pass->model->device->backend->upload(pass->model->device, ma_tensor_data(out), pass->request->ids,
                                              ma_tensor_bytes(out), err);
}

/* x += row p + offset of the position table, for the positions of this pass. */
static ma_status add_positions(ma_pass *pass, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor rows = {0};
  const ma_tensor *table;
  ma_dtype dtype = ma_model_activations(pass->model);
  int64_t first = pass->n_past + pass->spec->position_offset;
  MA_TRY(ma_pass_weight(pass, &table, MA_SLOT_EMBED_POSITIONS, -1, err));
  if (first + pass->T > table->shape[0])
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "%lld tokens are too many: the model's position table ends at %lld",
                   (long long)(pass->n_past + pass->T), (long long)(table->shape[0] - pass->spec->position_offset)));
  MA_TRY(ma_tensor_narrow(&rows, table, 0, first, pass->T, err));
  if (rows.dtype != dtype || (dtype == MA_F32 && pass->model->dtype != MA_F32)) {
    ma_tensor stored = rows;
    rows = (ma_tensor){0};
    st = ma_tensor_convert(&rows, &stored, dtype, err);
    ma_tensor_release(&stored);
    if (st == MA_OK) st = ma_pass_round(pass, &rows, err);
    if (st != MA_OK) goto done;
  }
  MA_TRY(ma_binary(&pass->x, MA_BINARY_add, &pass->x, &rows, err));
  MA_TRY(ma_pass_round(pass, &pass->x, err));
done:
  ma_tensor_release(&rows);
  return st;
}

/* Rows of the embedding by id. */
static ma_status embed_rows(ma_pass *pass, ma_tensor *out, const ma_tensor *ids, ma_error *err) {
  ma_status st = MA_OK;
  const ma_tensor *table;
  MA_TRY(ma_pass_weight(pass, &table, MA_SLOT_EMBED_TOKENS, -1, err));
  MA_TRY(ma_embed(out, table, ids, err));
  MA_TRY(ma_pass_round(pass, out, err));
done:
  return st;
}

/* The factor that multiplies the embedding: Gemma's is a tensor, so rounded as all of them are. */
static double embed_scale(const ma_pass *pass) {
  float scale = (float)pass->spec->embed_scale;
  switch (pass->model->dtype) {
    case MA_F16: return (double)ma_f16_round(scale);
    case MA_BF16: return (double)ma_bf16_round(scale);
    default: return pass->spec->embed_scale;
  }
}

static ma_status embed(ma_pass *pass, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_weights *w = pass->model->weights;
  ma_tensor ids = {0}, rows = {0};
  const ma_tensor *scale;
  bool projected = ma_weights_has(w, MA_SLOT_EMBED_PROJECT, -1);
  MA_TRY(ids_tensor(pass, &ids, err));
  if (projected) {
    MA_TRY(ma_pass_take(pass, &rows, s->d_embed, err));
    MA_TRY(embed_rows(pass, &rows, &ids, err));
    MA_TRY(ma_pass_linear(pass, &pass->x, &rows, MA_SLOT_EMBED_PROJECT, MA_N_SLOTS, -1, err));
  } else {
    MA_TRY(embed_rows(pass, &pass->x, &ids, err));
  }
  MA_TRY(ma_pass_scale(pass, &pass->x, embed_scale(pass), err));
  if (s->learned_embed_scale) {
    MA_TRY(ma_pass_weight(pass, &scale, MA_SLOT_EMBED_SCALE, -1, err));
    MA_TRY(ma_binary(&pass->x, MA_BINARY_mul, &pass->x, scale, err));
    MA_TRY(ma_pass_round(pass, &pass->x, err));
  }
  if (s->position == MA_POSITION_LEARNED) MA_TRY(add_positions(pass, err));
done:
  ma_tensor_release(&ids);
  ma_tensor_release(&rows);
  return st;
}

/* ---- a layer ---- */

/* What a branch reads: the stream through its norm.  Without a norm the stream itself, copied where
 * somebody may write to it. */
static ma_status branch_in(ma_pass *pass, ma_tensor *h, ma_point point, ma_slot norm, int layer, ma_error *err) {
  ma_status st = MA_OK;
  if (pass->spec->norm_before) {
    MA_TRY(ma_pass_take(pass, h, pass->spec->d_model, err));
    MA_TRY(ma_pass_norm_stream(pass, h, norm, layer, err));
  } else if (ma_pass_watches(pass, point, layer)) {
    MA_TRY(ma_pass_settle(pass, err));
    MA_TRY(ma_pass_take(pass, h, pass->spec->d_model, err));
    MA_TRY(ma_copy(h, &pass->x, err));
  } else {
    MA_TRY(ma_pass_settle(pass, err));
    *h = ma_tensor_retain(&pass->x);
  }
  MA_STEP(ma_pass_visit(pass, point, layer, h, err));
done:
  return st;
}

/* Where a branch writes to. */
static ma_status take_branch(ma_pass *pass, ma_tensor *out, ma_error *err) {
  if (!pass->branch.storage) return ma_pass_take(pass, out, pass->spec->d_model, err);
  *out = ma_tensor_retain(&pass->branch);
  return MA_OK;
}

/* Off the tape the sum waits for the next norm, or for whoever looks. */
static ma_status add_to_stream(ma_pass *pass, const ma_tensor *branch, ma_slot sum_norm, int layer, ma_error *err) {
  if (pass->branch.storage) {
    pass->is_pending = true;
    return MA_OK;
  }
  ma_status st = ma_binary(&pass->x, MA_BINARY_add, &pass->x, branch, err);
  if (st == MA_OK) st = ma_pass_round(pass, &pass->x, err);
  if (st == MA_OK && pass->spec->norm_sum) st = ma_pass_norm(pass, &pass->x, &pass->x, sum_norm, layer, err);
  return st;
}

/* x = x + attention(norm(x)). */
static ma_status attention_half(ma_pass *pass, int layer, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor h = {0}, out = {0};
  ma_arena_mark mark = ma_arena_here(pass->arena);
  MA_TRY(take_branch(pass, &out, err));
  MA_STEP(branch_in(pass, &h, MA_AT_ATTN_NORM, MA_SLOT_ATTN_NORM, layer, err));
  MA_STEP(ma_attention_branch(pass, layer, &h, &out, err));
  MA_TRY(add_to_stream(pass, &out, MA_SLOT_ATTN_NORM, layer, err));
  MA_VISIT_STREAM(MID, layer);
done:
  ma_tensor_release(&h);
  ma_tensor_release(&out);
  ma_arena_back(pass->arena, mark);
  return st;
}

/* x = x + mlp(norm(x)). */
static ma_status mlp_half(ma_pass *pass, int layer, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor h = {0}, out = {0};
  ma_arena_mark mark = ma_arena_here(pass->arena);
  MA_TRY(take_branch(pass, &out, err));
  MA_STEP(branch_in(pass, &h, MA_AT_MLP_NORM, MA_SLOT_MLP_NORM, layer, err));
  MA_STEP(ma_mlp_branch(pass, layer, &h, &out, err));
  MA_TRY(add_to_stream(pass, &out, MA_SLOT_MLP_NORM, layer, err));
done:
  ma_tensor_release(&h);
  ma_tensor_release(&out);
  ma_arena_back(pass->arena, mark);
  return st;
}

/* x = x + attention(norm(x)) + mlp(norm'(x)); with a shared norm, `mlp.norm` is the same tensor as
 * `attn.norm`, seen again after attention has read it. */
static ma_status parallel_block(ma_pass *pass, int layer, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_tensor h = {0}, h_mlp = {0}, attention = {0}, mlp = {0};
  ma_arena_mark mark = ma_arena_here(pass->arena);
  MA_TRY(ma_pass_take(pass, &attention, s->d_model, err));
  MA_TRY(ma_pass_take(pass, &mlp, s->d_model, err));
  MA_STEP(branch_in(pass, &h, MA_AT_ATTN_NORM, MA_SLOT_ATTN_NORM, layer, err));
  MA_STEP(ma_attention_branch(pass, layer, &h, &attention, err));
  if (s->shared_norm) {
    h_mlp = ma_tensor_retain(&h);
    MA_VISIT(MLP_NORM, layer, &h_mlp);
  } else {
    MA_STEP(branch_in(pass, &h_mlp, MA_AT_MLP_NORM, MA_SLOT_MLP_NORM, layer, err));
  }
  MA_STEP(ma_mlp_branch(pass, layer, &h_mlp, &mlp, err));
  if (pass->model->dtype == MA_F32) {
    MA_TRY(ma_binary(&pass->x, MA_BINARY_add, &pass->x, &attention, err));
  } else { /* Falcon, GPT-NeoX and Phi add the branches to each other first, which matters where sums are rounded */
    MA_TRY(ma_binary(&mlp, MA_BINARY_add, &mlp, &attention, err));
    MA_TRY(ma_pass_round(pass, &mlp, err));
  }
  MA_TRY(ma_binary(&pass->x, MA_BINARY_add, &pass->x, &mlp, err));
  MA_TRY(ma_pass_round(pass, &pass->x, err));
done:
  ma_tensor_release(&h);
  ma_tensor_release(&h_mlp);
  ma_tensor_release(&attention);
  ma_tensor_release(&mlp);
  ma_arena_back(pass->arena, mark);
  return st;
}

ma_status ma_layer(ma_pass *pass, int n, ma_point from, ma_error *err) {
  ma_status st = MA_OK;
  if (ma_interrupted()) return ma_fail(err, MA_INTERRUPTED, "interrupted in layer %d", n);
  if (from == MA_AT_IN && pass->spec->parallel) MA_STEP(parallel_block(pass, n, err));
  else if (from == MA_AT_IN) MA_STEP(attention_half(pass, n, err));
  if (!pass->spec->parallel) MA_STEP(mlp_half(pass, n, err));
done:
  return st;
}

/* One layer from `from` on: its beginning, or what follows its mid. */
static ma_status layer(ma_pass *pass, int n, ma_point from, ma_error *err) {
  ma_status st = MA_OK;
  if (from == MA_AT_IN) MA_VISIT_STREAM(IN, n);
  if (from == MA_AT_IN && ma_layer_can_recompute(pass, n)) MA_STEP(ma_layer_recomputed(pass, n, err));
  else MA_STEP(ma_layer(pass, n, from, err));
  MA_VISIT_STREAM(OUT, n);
done:
  return st;
}

/* ---- out of the residual stream ---- */

/* -log p(id[t + 1]) of every position but the last of each sequence: `losses` [B T - 1], new. */
static ma_status losses(ma_pass *pass, ma_result *out, const ma_tensor *hidden, const ma_tensor *logits,
                        ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_logits_how how = {(float)s->logit_scale, (float)s->logit_softcap, pass->model->dtype};
  ma_tensor ids = {0}, next = {0}, here = {0}, targets = {0}, rows = {0}, each = {0}, all = {0};
  const ma_tensor *weight, *bias;
  int64_t n = pass->B * pass->T, flat[1] = {n}, matrix[2] = {n, -1}, shape[2] = {pass->B, pass->T};
  MA_TRY(ids_tensor(pass, &ids, err));
  MA_TRY(ma_pass_new(pass, &targets, MA_I64, 2, shape, err));
  MA_TRY(ma_fill(&targets, -1, err));
  if (pass->T > 1) {
    MA_TRY(ma_tensor_narrow(&next, &ids, 1, 1, pass->T - 1, err));
    MA_TRY(ma_tensor_narrow(&here, &targets, 1, 0, pass->T - 1, err));
    MA_TRY(ma_copy(&here, &next, err));
    ma_tensor_release(&here);
  }
  MA_TRY(ma_pass_take_shape(pass, &each, MA_F32, 1, flat, err));
  MA_TRY(ma_tensor_reshape(&here, &targets, 1, flat, err));
  if (pass->is_recorded && !pass->request->wants_losses && !logits) {
    MA_TRY(ma_tensor_reshape(&rows, hidden, 2, matrix, err));
    MA_TRY(ma_pass_weight(pass, &weight, MA_SLOT_HEAD, -1, err));
    MA_TRY(ma_pass_weight(pass, &bias, MA_SLOT_HEAD_BIAS, -1, err));
    MA_TRY(ma_mean_cross_entropy(&out->mean, NULL, &rows, weight, bias, &here, &how, err));
    goto done;
  }
  if (logits) {
    MA_TRY(ma_tensor_reshape(&rows, logits, 2, matrix, err));
    MA_TRY(ma_cross_entropy(&each, &rows, &here, err));
  } else {
    MA_TRY(ma_tensor_reshape(&rows, hidden, 2, matrix, err));
    MA_TRY(ma_pass_weight(pass, &weight, MA_SLOT_HEAD, -1, err));
    MA_TRY(ma_pass_weight(pass, &bias, MA_SLOT_HEAD_BIAS, -1, err));
    MA_TRY(ma_linear_cross_entropy(&each, &rows, weight, bias, &here, &how, err));
  }
  ma_tensor_release(&rows);
  MA_TRY(ma_tensor_reshape(&rows, &each, 2, shape, err));
  MA_TRY(ma_tensor_narrow(&all, &rows, 1, 0, pass->T - 1, err));
  MA_TRY(ma_tensor_convert(&out->losses, &all, MA_F32, err));
  if (pass->is_recorded && pass->request->wants_mean)
    MA_TRY(ma_reduce(&out->mean, MA_REDUCE_mean, &out->losses, MA_ALL, false, err));
done:
  ma_tensor_release(&ids);
  ma_tensor_release(&next);
  ma_tensor_release(&here);
  ma_tensor_release(&targets);
  ma_tensor_release(&rows);
  ma_tensor_release(&each);
  ma_tensor_release(&all);
  return st;
}

static ma_status make_logits(ma_pass *pass, ma_tensor *out, const ma_tensor *hidden, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  int64_t shape[3] = {pass->B, pass->T, s->vocab_size};
  MA_TRY(ma_pass_take_shape(pass, out, MA_F32, 3, shape, err));
  MA_TRY(ma_pass_linear(pass, out, hidden, MA_SLOT_HEAD, MA_SLOT_HEAD_BIAS, -1, err));
  MA_TRY(ma_pass_scale(pass, out, s->logit_scale, err));
  if (s->logit_softcap > 0) {
    MA_TRY(ma_pass_scale(pass, out, 1 / s->logit_softcap, err));
    MA_TRY(ma_unary(out, MA_UNARY_tanh, out, err));
    MA_TRY(ma_pass_round(pass, out, err));
    MA_TRY(ma_pass_scale(pass, out, s->logit_softcap, err));
  }
done:
  return st;
}

/* Final norm (unless the pass starts behind it), logits where somebody wants them, losses. */
static ma_status head(ma_pass *pass, bool skips_norm, ma_result *out, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  const ma_request *request = pass->request;
  ma_tensor hidden = {0}, projected = {0}, logits = {0};
  if (skips_norm) {
    hidden = ma_tensor_retain(&pass->x);
  } else {
    MA_TRY(ma_pass_take(pass, &hidden, s->d_model, err));
    if (s->final_norm) MA_TRY(ma_pass_norm_stream(pass, &hidden, MA_SLOT_FINAL_NORM, -1, err));
    else MA_TRY(ma_pass_settle(pass, err));
    if (!s->final_norm) MA_TRY(ma_copy(&hidden, &pass->x, err));
    if (ma_weights_has(pass->model->weights, MA_SLOT_FINAL_PROJECT, -1)) {
      MA_TRY(ma_pass_take(pass, &projected, s->d_embed, err));
      MA_TRY(ma_pass_linear(pass, &projected, &hidden, MA_SLOT_FINAL_PROJECT, MA_N_SLOTS, -1, err));
      ma_tensor_release(&hidden);
      hidden = ma_tensor_retain(&projected);
    }
  }
  MA_VISIT(FINAL_NORM, -1, &hidden);
  if (request->wants_logits || ma_pass_watches(pass, MA_AT_LOGITS, -1)) {
    MA_TRY(make_logits(pass, &logits, &hidden, err));
    MA_VISIT(LOGITS, -1, &logits);
    if (request->wants_logits && pass->is_recorded) out->logits = ma_tensor_retain(&logits);
    else if (request->wants_logits) MA_TRY(ma_tensor_convert(&out->logits, &logits, MA_F32, err));
  }
  if (request->wants_losses || request->wants_mean)
    MA_TRY(losses(pass, out, &hidden, logits.storage ? &logits : NULL, err));
done:
  ma_tensor_release(&hidden);
  ma_tensor_release(&projected);
  ma_tensor_release(&logits);
  return st;
}

/* ---- all of it ---- */

ma_status ma_decode(ma_pass *pass, ma_result *out, ma_error *err) {
  ma_status st = MA_OK;
  const ma_place *start = pass->request->start;
  ma_point from = MA_AT_IN;
  int first = 0;
  MA_TRY(ma_pass_take(pass, &pass->x, start ? pass->request->start_value->shape[2] : pass->spec->d_model, err));
  bool can_wait = !pass->is_recorded && !pass->spec->parallel && !pass->spec->norm_sum;
  if (can_wait) MA_TRY(ma_pass_take(pass, &pass->branch, pass->spec->d_model, err));
  if (!start) {
    MA_TRY(embed(pass, err));
    MA_VISIT(EMBED, -1, &pass->x);
  } else {
    if (pass->is_recorded)
      MA_TRY(ma_tensor_convert(&pass->x, pass->request->start_value, ma_model_activations(pass->model), err));
    else MA_TRY(ma_copy(&pass->x, pass->request->start_value, err));
    MA_TRY(ma_pass_round(pass, &pass->x, err));
    if (start->point == MA_AT_FINAL_NORM) {
      MA_TRY(head(pass, true, out, err));
      goto done;
    }
    if (start->point != MA_AT_IN) MA_STEP(ma_pass_visit(pass, start->point, start->layer, &pass->x, err));
    if (start->point == MA_AT_OUT) first = start->layer + 1;
    else if (start->point != MA_AT_EMBED) first = start->layer;
    if (start->point == MA_AT_MID) from = MA_AT_MID;
  }
  for (int n = first; n < pass->spec->n_layers; n++, from = MA_AT_IN) MA_STEP(layer(pass, n, from, err));
  MA_TRY(head(pass, false, out, err));
done:
  return st;
}
