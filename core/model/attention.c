/* The attention branch: projections, qk-norm, rotation, scores, probabilities, mixing, projection.
 * Where nobody looks at scores or probabilities they never exist; looking does not change the result,
 * since the operations that show them do the same arithmetic on the same blocks. */
#include <math.h>

#include "model/model_internal.h"

/* Projects `h` to [B T heads d], clipped where the spec says. */
static ma_status project(ma_pass *pass, ma_tensor *out, const ma_tensor *h, ma_slot weight, ma_slot bias, int layer,
                         int64_t heads, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_tensor flat = {0};
  int64_t shape[4] = {pass->B, pass->T, heads, s->d_head};
  MA_TRY(ma_pass_take(pass, &flat, heads * s->d_head, err));
  MA_TRY(ma_pass_linear(pass, &flat, h, weight, bias, layer, err));
  if (s->qkv_clip > 0) {
    MA_TRY(ma_pass_apply(pass, &flat, MA_BINARY_minimum, s->qkv_clip, err));
    MA_TRY(ma_pass_apply(pass, &flat, MA_BINARY_maximum, -s->qkv_clip, err));
  }
  MA_TRY(ma_tensor_reshape(out, &flat, 4, shape, err));
done:
  ma_tensor_release(&flat);
  return st;
}

/* Norm of queries or keys, over each head [.. d] or over all heads at once [.. heads d]; in place. */
static ma_status qk_norm(ma_pass *pass, ma_tensor *x, ma_slot slot, int layer, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_tensor rows = {0};
  const ma_tensor *weight;
  int64_t shape[4] = {pass->B, pass->T, x->shape[2], x->shape[3]},
          whole[3] = {pass->B, pass->T, x->shape[2] * x->shape[3]};
  if (s->qk_norm == MA_QK_NORM_NONE) return MA_OK;
  MA_TRY(ma_pass_weight(pass, &weight, slot, layer, err));
  if (s->qk_norm == MA_QK_NORM_ROW) MA_TRY(ma_tensor_reshape(&rows, x, 3, whole, err));
  else rows = ma_tensor_retain(x);
  if (s->norm == MA_NORM_LAYER) {
    MA_TRY(ma_layer_norm(&rows, &rows, weight, NULL, &(ma_norm_how){s->norm_eps, s->norm_offset, MA_F32}, err));
    MA_TRY(ma_pass_round(pass, &rows, err));
  } else {
    MA_TRY(ma_pass_rms_norm(pass, &rows, &rows, weight, err));
  }
  /* The same memory still, or (recorded) the norm's own. */
  ma_tensor_release(x);
  MA_TRY(ma_tensor_reshape(x, &rows, 4, shape, err));
done:
  ma_tensor_release(&rows);
  return st;
}

/* Turns queries and keys by their positions, in place. */
static ma_status rotate(ma_pass *pass, ma_tensor *q, ma_tensor *k, int layer, ma_error *err) {
  const ma_spec *s = pass->spec;
  if (s->position != MA_POSITION_ROPE) return MA_OK;
  int rope = s->rope_of_layer ? s->rope_of_layer[layer] : 0;
  if (rope < 0) return MA_OK;
  ma_status st = MA_OK;
  ma_dtype step = s->rope_in_f32 ? MA_F32 : pass->model->dtype;
  MA_TRY(ma_rope(q, q, &pass->cosine[rope], &pass->sine[rope], step, err));
  MA_TRY(ma_rope(k, k, &pass->cosine[rope], &pass->sine[rope], step, err));
  MA_TRY(ma_pass_round(pass, q, err));
  MA_TRY(ma_pass_round(pass, k, err));
done:
  return st;
}

static double scale_of(const ma_spec *s) { return s->attn_scale != 0 ? s->attn_scale : 1 / sqrt((double)s->d_head); }

static bool scales_queries(const ma_pass *pass) { return pass->spec->attn_scale_q && pass->model->dtype != MA_F32; }

static ma_status describe(ma_pass *pass, ma_attention_how *how, int layer, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  *how = (ma_attention_how){
      .scale = scales_queries(pass) ? 1 : (float)scale_of(s),
      .softcap = (float)s->attn_softcap,
      .window = s->windows ? s->windows[layer] : 0,
      .alibi_slopes = pass->model->alibi_slopes,
      .step = pass->model->dtype,
  };
  if (s->kv_bias) {
    MA_TRY(ma_pass_weight(pass, &how->extra_key, MA_SLOT_ATTN_EXTRA_KEY, layer, err));
    MA_TRY(ma_pass_weight(pass, &how->extra_value, MA_SLOT_ATTN_EXTRA_VALUE, layer, err));
  }
done:
  return st;
}

/* Sums over the probabilities, for whoever stands on their points (empty: nobody); they do not need T x T. */
typedef struct tallies {
  ma_tensor received, entropy;
} tallies;

static ma_tensor *wanted(const ma_tensor *tally) { return tally->storage ? (ma_tensor *)tally : NULL; }

static ma_status take_tallies(ma_pass *pass, tallies *t, const int64_t *probs_shape, int layer, ma_error *err) {
  ma_status st = MA_OK;
  int64_t by_key[3] = {probs_shape[0], probs_shape[1], probs_shape[3]};
  if (ma_pass_watches(pass, MA_AT_ATTN_RECEIVED, layer))
    MA_TRY(ma_pass_new(pass, &t->received, MA_F32, 3, by_key, err));
  if (ma_pass_watches(pass, MA_AT_ATTN_ENTROPY, layer))
    MA_TRY(ma_pass_new(pass, &t->entropy, MA_F32, 3, probs_shape, err));
done:
  return st;
}

/* Who came to these points while this layer's scores were shown has to wait for the next pass. */
static ma_status show_tallies(ma_pass *pass, tallies *t, int layer, ma_error *err) {
  ma_status st = MA_OK;
  if (t->received.storage) MA_VISIT(ATTN_RECEIVED, layer, &t->received);
  if (t->entropy.storage) MA_VISIT(ATTN_ENTROPY, layer, &t->entropy);
done:
  return st;
}

/* `x` as f32, for the operations that show scores and probabilities: itself, or a copy. */
static ma_status widened(ma_pass *pass, ma_tensor *out, const ma_tensor *x, ma_error *err) {
  if (x->dtype == MA_F32) {
    *out = ma_tensor_retain(x);
    return MA_OK;
  }
  if (pass->is_recorded) return ma_tensor_convert(out, x, MA_F32, err);
  ma_status st = ma_pass_take_shape(pass, out, MA_F32, x->n_dims, x->shape, err);
  return st == MA_OK ? ma_copy(out, x, err) : st;
}

/* The same result by way of scores and probabilities, which are shown. */
static ma_status mix_shown(ma_pass *pass, ma_tensor *z, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                           const ma_attention_how *how, const int64_t *shape, const tallies *t, int layer,
                           ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor scores = {0}, wide_q = {0}, wide_k = {0}, wide_v = {0};
  MA_TRY(widened(pass, &wide_q, q, err));
  MA_TRY(widened(pass, &wide_k, k, err));
  MA_TRY(widened(pass, &wide_v, v, err));
  MA_TRY(ma_pass_take_shape(pass, &scores, MA_F32, 4, shape, err));
  MA_TRY(ma_attention_scores(&scores, &wide_q, &wide_k, how, err));
  MA_VISIT(ATTN_SCORES, layer, &scores);
  MA_TRY(ma_softmax(&scores, &scores, false, err));
  MA_TRY(ma_pass_round(pass, &scores, err));
  MA_VISIT(ATTN_PROBS, layer, &scores);
  MA_TRY(ma_attention_mix(z, &scores, &wide_v, how, err));
  if (t->received.storage || t->entropy.storage)
    MA_TRY(ma_attention_tally(wanted(&t->received), wanted(&t->entropy), &scores, err));
done:
  ma_tensor_release(&scores);
  ma_tensor_release(&wide_q);
  ma_tensor_release(&wide_k);
  ma_tensor_release(&wide_v);
  return st;
}

/* z [B T H d]: the values, mixed by the probabilities. */
static ma_status mix(ma_pass *pass, ma_tensor *z, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v, int layer,
                     ma_error *err) {
  ma_status st = MA_OK;
  ma_attention_how how;
  tallies t = {0};
  MA_TRY(describe(pass, &how, layer, err));
  int64_t shape[4] = {pass->B, q->shape[2], pass->T, k->shape[1] + (how.extra_key ? 1 : 0)};
  MA_TRY(take_tallies(pass, &t, shape, layer, err));
  if (ma_pass_watches(pass, MA_AT_ATTN_SCORES, layer) || ma_pass_watches(pass, MA_AT_ATTN_PROBS, layer)) {
    MA_STEP(mix_shown(pass, z, q, k, v, &how, shape, &t, layer, err));
  } else if (t.received.storage || t.entropy.storage) {
    MA_TRY(ma_attention_and_tally(z, wanted(&t.received), wanted(&t.entropy), q, k, v, &how, err));
  } else {
    MA_TRY(ma_attention(z, q, k, v, &how, err));
  }
  MA_STEP(show_tallies(pass, &t, layer, err));
  MA_TRY(ma_pass_round(pass, z, err));
done:
  ma_tensor_release(&t.received);
  ma_tensor_release(&t.entropy);
  return st;
}

ma_status ma_attention_branch(ma_pass *pass, int layer, const ma_tensor *h, ma_tensor *out, ma_error *err) {
  ma_status st = MA_OK;
  const ma_spec *s = pass->spec;
  ma_tensor q = {0}, k = {0}, v = {0}, all_k = {0}, all_v = {0}, flat = {0}, z = {0};
  int64_t heads[4] = {pass->B, pass->T, s->n_heads, s->d_head};
  MA_TRY(project(pass, &q, h, MA_SLOT_ATTN_Q, MA_SLOT_ATTN_Q_BIAS, layer, s->n_heads, err));
  MA_TRY(qk_norm(pass, &q, MA_SLOT_ATTN_Q_NORM, layer, err));
  MA_VISIT(ATTN_Q, layer, &q);
  MA_TRY(project(pass, &k, h, MA_SLOT_ATTN_K, MA_SLOT_ATTN_K_BIAS, layer, s->n_kv_heads, err));
  MA_TRY(qk_norm(pass, &k, MA_SLOT_ATTN_K_NORM, layer, err));
  MA_VISIT(ATTN_K, layer, &k);
  MA_TRY(project(pass, &v, h, MA_SLOT_ATTN_V, MA_SLOT_ATTN_V_BIAS, layer, s->n_kv_heads, err));
  MA_VISIT(ATTN_V, layer, &v);

  MA_TRY(rotate(pass, &q, &k, layer, err));
  MA_VISIT(ATTN_Q_ROT, layer, &q);
  MA_VISIT(ATTN_K_ROT, layer, &k);
  if (pass->request->cache) {
    MA_TRY(ma_cache_extend(pass->request->cache, layer, &k, &v, &all_k, &all_v, err));
  } else {
    all_k = ma_tensor_retain(&k);
    all_v = ma_tensor_retain(&v);
  }

  MA_TRY(ma_pass_take_shape(pass, &z, ma_model_activations(pass->model), 4, heads, err));
  if (scales_queries(pass)) MA_TRY(ma_pass_scale(pass, &q, scale_of(s), err));
  MA_STEP(mix(pass, &z, &q, &all_k, &all_v, layer, err));
  MA_VISIT(ATTN_Z, layer, &z);

  MA_TRY(ma_tensor_reshape(&flat, &z, 3, (int64_t[3]){pass->B, pass->T, s->n_heads * s->d_head}, err));
  MA_TRY(ma_pass_linear(pass, out, &flat, MA_SLOT_ATTN_PROJ, MA_SLOT_ATTN_PROJ_BIAS, layer, err));
  MA_VISIT(ATTN_PROJ, layer, out);
  MA_STEP(ma_pass_branch_out(pass, out, MA_AT_ATTN_OUT, MA_SLOT_ATTN_NORM_AFTER, layer, err));
done:
  ma_tensor_release(&q);
  ma_tensor_release(&k);
  ma_tensor_release(&v);
  ma_tensor_release(&all_k);
  ma_tensor_release(&all_v);
  ma_tensor_release(&flat);
  ma_tensor_release(&z);
  return st;
}
