/* Setting a pass up, checking what it is asked, and the small steps that decoder.c is written in. */
#include "model/pass.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "model/model_internal.h"

/* ---- points ---- */

bool ma_place_can_start(ma_place place) {
  switch (place.point) {
    case MA_AT_EMBED:
    case MA_AT_IN:
    case MA_AT_MID:
    case MA_AT_OUT:
    case MA_AT_FINAL_NORM: return true;
    default: return false;
  }
}

bool ma_pass_watches(const ma_pass *pass, ma_point point, int layer) {
  if (pass->is_quiet) return false;
  const ma_place *stop = pass->request->stop;
  return ma_visitors_watch(&pass->model->visitors, point, layer) ||
         (stop && stop->point == point && stop->layer == layer);
}

/* What transformers keeps in f32 in a model of 16 bits as well, and what is no part of the model. */
static bool stays_f32(const ma_pass *pass, ma_point point) {
  switch (point) {
    case MA_AT_MLP_EXPERTS:
    case MA_AT_ATTN_RECEIVED:
    case MA_AT_ATTN_ENTROPY: return true;
    case MA_AT_ATTN_SCORES: return pass->spec->position == MA_POSITION_ALIBI;
    default: return false;
  }
}

/* Visitors see f32, whatever the device keeps: 16 bits are shown as a copy, and what was written to it goes back. */
static ma_status visit_copy(ma_pass *pass, ma_place place, ma_tensor *x, ma_error *err) {
  ma_status st = MA_OK;
  ma_dtype dtype = x->dtype;
  ma_tensor wide = {0};
  ma_arena_mark mark = ma_arena_here(pass->arena);
  MA_TRY(ma_pass_take_shape(pass, &wide, MA_F32, x->n_dims, x->shape, err));
  if (pass->is_recorded) MA_TRY(ma_tensor_convert(&wide, x, MA_F32, err));
  else MA_TRY(ma_copy(&wide, x, err));
  MA_TRY(ma_visitors_visit(&pass->model->visitors, place, &wide, pass->is_recorded, err));
  if (pass->is_recorded) {
    ma_tensor_release(x);
    MA_TRY(ma_tensor_convert(x, &wide, dtype, err));
  } else {
    MA_TRY(ma_copy(x, &wide, err));
  }
done:
  ma_tensor_release(&wide);
  ma_arena_back(pass->arena, mark);
  return st;
}

/* What a visitor may have written is rounded too, as a tensor of that dtype would round it. */
ma_status ma_pass_visit(ma_pass *pass, ma_point point, int layer, ma_tensor *x, ma_error *err) {
  ma_status st = MA_OK;
  ma_place place = {point, layer};
  ma_visitors *visitors = &pass->model->visitors;
  if (pass->is_quiet) return MA_OK;
  if (ma_visitors_watch(visitors, point, layer)) {
    if (x->dtype != MA_F32 && !ma_visitors_take_16_bit(visitors, place)) {
      MA_TRY(visit_copy(pass, place, x, err));
    } else {
      MA_TRY(ma_visitors_visit(visitors, place, x, pass->is_recorded, err));
      if (!stays_f32(pass, point)) MA_TRY(ma_pass_round(pass, x, err));
    }
  }
  const ma_place *stop = pass->request->stop;
  if (stop && stop->point == point && stop->layer == layer) pass->has_stopped = true;
done:
  return st;
}

ma_status ma_pass_visit_stream(ma_pass *pass, ma_point point, int layer, ma_error *err) {
  ma_status st = ma_pass_watches(pass, point, layer) ? ma_pass_settle(pass, err) : MA_OK;
  return st == MA_OK ? ma_pass_visit(pass, point, layer, &pass->x, err) : st;
}

/* ---- steps ---- */

ma_status ma_pass_round(ma_pass *pass, ma_tensor *x, ma_error *err) {
  bool is_exact = pass->model->dtype == MA_F32 || x->dtype == pass->model->dtype;
  return is_exact ? MA_OK : ma_round_to(x, pass->model->dtype, x, err);
}

ma_status ma_pass_take(ma_pass *pass, ma_tensor *out, int64_t last, ma_error *err) {
  int64_t shape[3] = {pass->B, pass->T, last};
  return ma_pass_take_shape(pass, out, ma_model_activations(pass->model), 3, shape, err);
}

ma_status ma_pass_take_shape(ma_pass *pass, ma_tensor *out, ma_dtype dtype, int n_dims, const int64_t *shape,
                             ma_error *err) {
  *out = (ma_tensor){.dtype = dtype};
  return pass->is_recorded ? MA_OK : ma_arena_take(pass->arena, out, dtype, n_dims, shape, err);
}

ma_status ma_pass_new(ma_pass *pass, ma_tensor *out, ma_dtype dtype, int n_dims, const int64_t *shape, ma_error *err) {
  if (pass->is_recorded) return ma_tensor_new(out, pass->model->device, dtype, n_dims, shape, err);
  return ma_arena_take(pass->arena, out, dtype, n_dims, shape, err);
}

struct ma_converted {
  ma_tensor weight;
  ma_converted *next;
};

ma_status ma_pass_weight(ma_pass *pass, const ma_tensor **out, ma_slot slot, int64_t index, ma_error *err) {
  ma_converted *held;
  if (!pass->is_recorded || pass->request->skips_weights)
    return ma_weights_get(out, pass->model->weights, slot, index, err);
  *out = NULL;
  ma_status st = MA_NEW(&held, 1, err);
  if (st != MA_OK) return st;
  held->next = pass->converted;
  pass->converted = held;
  st = ma_weights_follow(&held->weight, pass->model->weights, slot, index, err);
  if (st == MA_OK && held->weight.storage) *out = &held->weight;
  return st;
}

void ma_pass_release(ma_pass *pass) {
  while (pass->converted) {
    ma_converted *held = pass->converted;
    pass->converted = held->next;
    ma_tensor_release(&held->weight);
    ma_free(held);
  }
  ma_tensor_release(&pass->x);
  ma_tensor_release(&pass->branch);
  for (int i = 0; i < MA_MAX_ROPES; i++) {
    ma_tensor_release(&pass->cosine[i]);
    ma_tensor_release(&pass->sine[i]);
  }
}

ma_status ma_pass_multiply(ma_pass *pass, ma_tensor *out, const ma_tensor *x, const ma_tensor *weight,
                           const ma_tensor *bias, ma_error *err) {
  ma_status st = ma_linear(out, x, weight, bias, err);
  return st == MA_OK ? ma_pass_round(pass, out, err) : st;
}

ma_status ma_pass_linear(ma_pass *pass, ma_tensor *out, const ma_tensor *x, ma_slot weight, ma_slot bias, int layer,
                         ma_error *err) {
  const ma_tensor *w, *b = NULL;
  ma_status st = ma_pass_weight(pass, &w, weight, layer, err);
  if (st == MA_OK && bias != MA_N_SLOTS) st = ma_pass_weight(pass, &b, bias, layer, err);
  if (st == MA_OK) st = ma_pass_multiply(pass, out, x, w, b, err);
  return st;
}

/* In 16 bits transformers rounds before it multiplies by the weight, unless a family computes that in f32. */
static ma_norm_how norm_how(const ma_pass *pass) {
  const ma_spec *s = pass->spec;
  bool in_steps = !s->norm_weight_in_f32 && s->norm_offset == 0;
  return (ma_norm_how){s->norm_eps, s->norm_offset, in_steps ? pass->model->dtype : MA_F32};
}

ma_status ma_pass_rms_norm(ma_pass *pass, ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, ma_error *err) {
  ma_norm_how how = norm_how(pass);
  ma_status st = ma_rms_norm(out, x, weight, &how, err);
  return st == MA_OK ? ma_pass_round(pass, out, err) : st;
}

ma_status ma_pass_norm(ma_pass *pass, ma_tensor *out, const ma_tensor *x, ma_slot slot, int layer, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_norm_how how = norm_how(pass);
  const ma_tensor *weight, *bias, *alpha;
  MA_TRY(ma_pass_weight(pass, &weight, slot, layer, err));
  MA_TRY(ma_pass_weight(pass, &bias, slot + 1, layer, err));
  MA_TRY(ma_pass_weight(pass, &alpha, slot + 2, layer, err));
  switch ((ma_norm_kind)s->norm) {
    case MA_NORM_RMS: return ma_pass_rms_norm(pass, out, x, weight, err);
    case MA_NORM_LAYER: MA_TRY(ma_layer_norm(out, x, weight, bias, &how, err)); break;
    case MA_NORM_DYT: MA_TRY(ma_dyt(out, x, alpha, weight, bias, err)); break;
  }
  MA_TRY(ma_pass_round(pass, out, err));
done:
  return st;
}

ma_status ma_pass_settle(ma_pass *pass, ma_error *err) {
  if (!pass->is_pending) return MA_OK;
  pass->is_pending = false;
  ma_status st = ma_binary(&pass->x, MA_BINARY_add, &pass->x, &pass->branch, err);
  return st == MA_OK ? ma_pass_round(pass, &pass->x, err) : st;
}

/* Sums that have to be rounded as f32 are not taken together with the norm. */
ma_status ma_pass_norm_stream(ma_pass *pass, ma_tensor *out, ma_slot slot, int layer, ma_error *err) {
  ma_status st = MA_OK;
  ma_norm_kind kind = (ma_norm_kind)pass->spec->norm;
  ma_norm_how how = norm_how(pass);
  const ma_tensor *weight, *bias;
  if (!pass->is_pending || kind == MA_NORM_DYT || pass->x.dtype != pass->model->dtype) {
    MA_TRY(ma_pass_settle(pass, err));
    return ma_pass_norm(pass, out, &pass->x, slot, layer, err);
  }
  pass->is_pending = false;
  MA_TRY(ma_pass_weight(pass, &weight, slot, layer, err));
  MA_TRY(ma_pass_weight(pass, &bias, slot + 1, layer, err));
  if (kind == MA_NORM_RMS) MA_TRY(ma_add_rms_norm(out, &pass->x, &pass->branch, weight, &how, err));
  else MA_TRY(ma_add_layer_norm(out, &pass->x, &pass->branch, weight, bias, &how, err));
done:
  return st;
}

ma_status ma_pass_apply(ma_pass *pass, ma_tensor *x, ma_binary_kind kind, double number, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor scalar = {0};
  ma_arena_mark mark = ma_arena_here(pass->arena);
  MA_TRY(ma_pass_new(pass, &scalar, MA_F32, 0, NULL, err));
  MA_TRY(ma_fill(&scalar, number, err));
  MA_TRY(ma_binary(x, kind, x, &scalar, err));
  MA_TRY(ma_pass_round(pass, x, err));
done:
  ma_tensor_release(&scalar);
  ma_arena_back(pass->arena, mark);
  return st;
}

ma_status ma_pass_scale(ma_pass *pass, ma_tensor *x, double factor, ma_error *err) {
  return factor == 1 ? MA_OK : ma_pass_apply(pass, x, MA_BINARY_mul, factor, err);
}

ma_status ma_pass_branch_out(ma_pass *pass, ma_tensor *out, ma_point point, ma_slot norm, int layer, ma_error *err) {
  ma_status st = MA_OK;
  if (pass->spec->norm_after) MA_TRY(ma_pass_norm(pass, out, out, norm, layer, err));
  MA_TRY(ma_pass_scale(pass, out, pass->spec->residual_scale, err));
  MA_TRY(ma_pass_visit(pass, point, layer, out, err));
done:
  return st;
}

/* ---- rotation tables ---- */

/* Angles as the reference computes them: position times frequency in f32, then cosine and sine, which a model of 16
 * bits stores rounded. */
static ma_status extend_table(ma_model *m, int rope, int64_t n_positions, ma_error *err) {
  ma_status st = MA_OK;
  const ma_rotation *r = &m->spec.ropes[rope];
  ma_rope_table *table = &m->ropes[rope], made = {.n_positions = n_positions};
  int64_t shape[2] = {n_positions, r->n};
  float *cosine = NULL, *sine = NULL;
  size_t count = (size_t)(n_positions * r->n), bytes = count * sizeof(float);
  const ma_backend *backend = m->device->backend;
  MA_TRY(MA_NEW(&cosine, count, err));
  MA_TRY(MA_NEW(&sine, count, err));
  for (int64_t p = 0; p < n_positions; p++) {
    for (int64_t i = 0; i < r->n; i++) {
      double angle = (double)((float)p * r->frequencies[i]);
      cosine[p * r->n + i] = (float)cos(angle) * r->scale;
      sine[p * r->n + i] = (float)sin(angle) * r->scale;
    }
  }
  MA_TRY(ma_tensor_new(&made.cosine, m->device, MA_F32, 2, shape, err));
  MA_TRY(ma_tensor_new(&made.sine, m->device, MA_F32, 2, shape, err));
  MA_TRY(backend->upload(m->device, ma_tensor_data(&made.cosine), cosine, bytes, err));
  MA_TRY(backend->upload(m->device, ma_tensor_data(&made.sine), sine, bytes, err));
  if (m->dtype != MA_F32 && !m->spec.rope_in_f32) {
    MA_TRY(ma_round_to(&made.cosine, m->dtype, &made.cosine, err));
    MA_TRY(ma_round_to(&made.sine, m->dtype, &made.sine, err));
  }
  ma_tensor_release(&table->cosine);
  ma_tensor_release(&table->sine);
  *table = made;
  made = (ma_rope_table){0};
done:
  ma_tensor_release(&made.cosine);
  ma_tensor_release(&made.sine);
  ma_free(cosine);
  ma_free(sine);
  return st;
}

/* The rows of this pass's positions; views, so that a nested pass may extend the table meanwhile. */
ma_status ma_pass_rotation(ma_pass *pass, ma_error *err) {
  ma_status st = MA_OK;
  ma_model *m = pass->model;
  if (pass->spec->position != MA_POSITION_ROPE) return MA_OK;
  int64_t need = pass->n_past + pass->T;
  for (int i = 0; i < m->spec.n_ropes; i++) {
    ma_rope_table *table = &m->ropes[i];
    if (table->n_positions < need) {
      int64_t n = 2 * table->n_positions > need ? 2 * table->n_positions : need;
      MA_TRY(extend_table(m, i, n, err));
    }
    MA_TRY(ma_tensor_narrow(&pass->cosine[i], &table->cosine, 0, pass->n_past, pass->T, err));
    MA_TRY(ma_tensor_narrow(&pass->sine[i], &table->sine, 0, pass->n_past, pass->T, err));
  }
done:
  return st;
}

/* ---- the request ---- */

static ma_status check_start(const ma_spec *s, const ma_request *r, ma_error *err) {
  char name[MA_PLACE_NAME], has[MA_SHAPE_TEXT], wants[MA_SHAPE_TEXT];
  const ma_tensor *v = r->start_value;
  ma_place_name(name, *r->start);
  if (!ma_place_can_start(*r->start))
    return ma_fail(err, MA_BAD_ARGUMENT,
                   "a pass cannot start at '%s', only at embed, layers.n.in, .mid, .out or final.norm", name);
  bool at_head = r->start->point == MA_AT_FINAL_NORM;
  int64_t shape[3] = {r->n_sequences, r->n_tokens, at_head && s->d_embed ? s->d_embed : s->d_model};
  if (v->n_dims != 3 || memcmp(v->shape, shape, sizeof shape) != 0)
    return ma_fail(err, MA_BAD_ARGUMENT, "start_at '%s': the value has shape %s, these ids need %s", name,
                   ma_shape_text(has, v->n_dims, v->shape), ma_shape_text(wants, 3, shape));
  if (r->stop && ma_place_order(*r->stop, s) < ma_place_order(*r->start, s))
    return ma_fail(err, MA_BAD_ARGUMENT, "stop_at lies before start_at '%s'", name);
  return MA_OK;
}

static ma_status check_request(const ma_model *m, const ma_request *r, ma_error *err) {
  const ma_spec *s = &m->spec;
  int64_t n_past = r->cache ? r->cache->n_past : 0;
  if (r->n_sequences < 1 || r->n_tokens < 1) return ma_fail(err, MA_BAD_ARGUMENT, "a pass needs at least one token");
  if (r->n_tokens > INT32_MAX || r->n_sequences > INT32_MAX / r->n_tokens)
    return ma_fail(err, MA_BAD_ARGUMENT, "%lld sequences of %lld tokens are too many", (long long)r->n_sequences,
                   (long long)r->n_tokens);
  for (int64_t i = 0; i < r->n_sequences * r->n_tokens; i++) {
    if (r->ids[i] < 0 || r->ids[i] >= s->vocab_size)
      return ma_fail(err, MA_BAD_ARGUMENT, "token id %lld at position %lld is outside the vocabulary of %lld",
                     (long long)r->ids[i], (long long)(i % r->n_tokens), (long long)s->vocab_size);
  }
  if (r->cache && (r->cache->n_sequences != r->n_sequences || n_past + r->n_tokens > r->cache->capacity))
    return ma_fail(err, MA_BAD_ARGUMENT, "the cache holds %lld sequences of %lld tokens; %lld of %lld do not fit",
                   (long long)r->cache->n_sequences, (long long)r->cache->capacity, (long long)r->n_sequences,
                   (long long)(n_past + r->n_tokens));
  if (r->cache && (r->start || r->stop))
    return ma_fail(err, MA_BAD_ARGUMENT, "a pass with a cache runs whole: no start_at, no stop_at");
  if (r->cache && r->is_recorded) return ma_fail(err, MA_UNSUPPORTED, "a pass with a cache has no gradient");
  return r->start ? check_start(s, r, err) : MA_OK;
}

ma_status ma_model_forward(ma_result *out, ma_model *m, const ma_request *request, ma_error *err) {
  ma_status st = check_request(m, request, err);
  *out = (ma_result){0};
  if (st != MA_OK) return st;
  if (m->n_running == MA_MAX_NESTED_PASSES)
    return ma_fail(err, MA_UNSUPPORTED, "passes are nested more than %d deep", MA_MAX_NESTED_PASSES);
  ma_pass pass = {
      .model = m,
      .spec = &m->spec,
      .request = request,
      .arena = &m->arenas[m->n_running++],
      .B = request->n_sequences,
      .T = request->n_tokens,
      .n_past = request->cache ? request->cache->n_past : 0,
      .is_recorded = request->is_recorded,
  };
  MA_TRY(ma_pass_rotation(&pass, err));
  MA_TRY(ma_decode(&pass, out, err));
  MA_TRY(ma_model_check_files(m, err));
  if (request->cache) request->cache->n_past += request->n_tokens;
done:
  ma_pass_release(&pass);
  ma_arena_reset(pass.arena);
  m->n_running--;
  if (st != MA_OK) ma_result_release(out);
  return st;
}

void ma_result_release(ma_result *result) {
  ma_tensor_release(&result->logits);
  ma_tensor_release(&result->losses);
  ma_tensor_release(&result->mean);
}
