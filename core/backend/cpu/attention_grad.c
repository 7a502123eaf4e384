/* The way back through attention: block after block, as attention.c goes forward.  Scores are computed again. */
#include <math.h>
#include <string.h>

#include "backend/cpu/attention.h"
#include "backend/cpu/blas.h"
#include "base/memory.h"
#include "base/threads.h"

/* Shares, contiguous; NULL: none is wanted.  A piece of work is a key/value head of a sequence with all its query heads, so that
 * nobody else adds to the same key; its blocks come in order. */
typedef struct grad_job {
  ma_attention_job a;
  const ma_tensor *g;      /* of z, or of the scores */
  const ma_tensor *scores; /* what attention_scores gave */
  ma_tensor *q_grad, *k_grad, *v_grad, *key_grad, *value_grad, *probs_grad;
  int64_t room; /* floats of scratch a thread: three times MA_ATTENTION_BLOCK rows of scores */
  void (*one)(const struct grad_job *, const ma_attention_block *, float *scratch);
} grad_job;

static float *share_at(const ma_tensor *t, int64_t b, int64_t row, int64_t h) {
  return (float *)ma_tensor_data(t) + b * t->strides[0] + row * t->strides[1] + h * t->strides[2];
}

static float *extra_share(const ma_tensor *t, const ma_attention_block *at) {
  return (float *)ma_tensor_data(t) + at->b * t->strides[0] + at->h * t->strides[1];
}

static const float *extra_of(const ma_attention_job *a, const ma_tensor *extra, const ma_attention_block *at) {
  return (const float *)ma_tensor_data(extra) + at->h * a->d;
}

/* z = p v: the gradients of p (rows `step` apart, into p_grad) and of v. */
static void mix_back(const grad_job *j, const ma_attention_block *at, const float *p, float *p_grad, int64_t step) {
  const ma_attention_job *a = &j->a;
  int64_t keys = at->high - at->low, group = at->h / (a->H / a->G), g_step = j->g->strides[1];
  const float *g = ma_attention_head(j->g, at->b, at->first, at->h);
  ma_sgemm(at->n, keys, a->d, 1, (ma_matrix){g, g_step, false},
           (ma_matrix){ma_attention_head(a->v, at->b, at->low, group), a->v->strides[1], true}, 0, p_grad + a->E, step);
  ma_sgemm(keys, a->d, at->n, 1, (ma_matrix){p + a->E, step, true}, (ma_matrix){g, g_step, false}, 1,
           share_at(j->v_grad, at->b, at->low, group), j->v_grad->strides[1]);
  if (!a->how->extra_value) return;
  const float *value = extra_of(a, a->how->extra_value, at);
  float *to = extra_share(j->value_grad, at);
  for (int64_t i = 0; i < at->n; i++) {
    p_grad[i * step] = ma_attention_dot(g + i * g_step, value, a->d);
    for (int64_t e = 0; e < a->d; e++) to[e] += p[i * step] * g[i * g_step + e];
  }
}

/* raw scores = q k^T: from their gradient those of q and k. */
static void score_back(const grad_job *j, const ma_attention_block *at, const float *s_grad, int64_t step) {
  const ma_attention_job *a = &j->a;
  int64_t keys = at->high - at->low, group = at->h / (a->H / a->G), q_step = a->q->strides[1];
  const float *q = ma_attention_head(a->q, at->b, at->first, at->h);
  float *q_grad = share_at(j->q_grad, at->b, at->first, at->h);
  ma_sgemm(at->n, a->d, keys, 1, (ma_matrix){s_grad + a->E, step, false},
           (ma_matrix){ma_attention_head(a->k, at->b, at->low, group), a->k->strides[1], false}, 0, q_grad,
           j->q_grad->strides[1]);
  ma_sgemm(keys, a->d, at->n, 1, (ma_matrix){s_grad + a->E, step, true}, (ma_matrix){q, q_step, false}, 1,
           share_at(j->k_grad, at->b, at->low, group), j->k_grad->strides[1]);
  if (!a->how->extra_key) return;
  const float *key = extra_of(a, a->how->extra_key, at);
  float *to = extra_share(j->key_grad, at);
  for (int64_t i = 0; i < at->n; i++) {
    for (int64_t e = 0; e < a->d; e++) {
      q_grad[i * j->q_grad->strides[1] + e] += s_grad[i * step] * key[e];
      to[e] += s_grad[i * step] * q[i * q_step + e];
    }
  }
}

/* What was added to a row of capped scores after the cap is taken off again. */
static void without_bias(const ma_attention_job *a, const ma_attention_block *at, float *row, int64_t i) {
  if (!a->how->alibi_slopes) return;
  int64_t position = a->Tk - a->Tq + at->first + i, origin = a->how->extra_key ? position : a->Tk - 1;
  for (int64_t k = at->low; k < at->high; k++)
    row[a->E + k - at->low] -= a->how->alibi_slopes[at->h] * (float)(k - origin);
}

static void attend_back(const grad_job *j, const ma_attention_block *at, float *scratch) {
  const ma_attention_job *a = &j->a;
  int64_t step = a->E + a->Tk;
  float *p = scratch, *p_grad = p + MA_ATTENTION_BLOCK * step, *capped = p_grad + MA_ATTENTION_BLOCK * step;
  size_t n = (size_t)(a->E + at->high - at->low);
  ma_attention_score_rows(a, at, p, step);
  for (int64_t i = 0; i < at->n; i++) {
    float *row = p + i * step;
    if (a->how->softcap != 0) {
      memcpy(capped + i * step, row, n * sizeof *row);
      without_bias(a, at, capped + i * step, i);
    }
    a->rows->softmax(row, row, n);
    if (a->how->step != MA_F32) a->rows->round_to(row, row, a->how->step, n);
  }
  mix_back(j, at, p, p_grad, step);
  for (int64_t i = 0; i < at->n; i++)
    a->rows->attention_grad(p + i * step, p_grad + i * step, capped + i * step, a->how->scale, a->how->softcap, n);
  score_back(j, at, p, step);
}

static void scores_back(const grad_job *j, const ma_attention_block *at, float *scratch) {
  const ma_attention_job *a = &j->a;
  int64_t step = a->E + a->Tk, n = a->E + at->high - at->low;
  for (int64_t i = 0; i < at->n; i++) {
    const int64_t *t = j->g->strides, *u = j->scores->strides;
    const float *g =
        (const float *)j->g->storage->data + j->g->offset + at->b * t[0] + at->h * t[1] + (at->first + i) * t[2];
    const float *s = (const float *)j->scores->storage->data + j->scores->offset + at->b * u[0] + at->h * u[1] +
                     (at->first + i) * u[2];
    float *row = scratch + i * step, *raw = scratch + (MA_ATTENTION_BLOCK + i) * step;
    for (int64_t e = 0; e < n; e++) {
      int64_t from = e < a->E ? e : e + at->low;
      row[e] = s[from] == -INFINITY ? 0 : g[from] * a->how->scale;
      raw[e] = s[from];
    }
    if (a->how->softcap == 0) continue;
    without_bias(a, at, raw, i);
    for (int64_t e = 0; e < n; e++) {
      float t_e = raw[e] / a->how->softcap;
      if (row[e] != 0) row[e] *= 1 - t_e * t_e;
    }
  }
  score_back(j, at, scratch, step);
}

/* All keys, since a hook may have written anywhere. */
static void shown_back(const grad_job *j, const ma_attention_block *at, float *scratch) {
  const ma_attention_job *a = &j->a;
  int64_t step = a->E + a->Tk;
  ma_attention_block all = *at;
  all.low = 0;
  all.high = a->Tk;
  for (int64_t i = 0; i < at->n; i++) {
    const int64_t *s = a->probs->strides;
    memcpy(scratch + i * step,
           (const float *)a->probs->storage->data + a->probs->offset + at->b * s[0] + at->h * s[1] +
               (at->first + i) * s[2],
           (size_t)step * sizeof(float));
  }
  mix_back(j, &all, scratch, share_at(j->probs_grad, at->b, at->h, at->first), step);
}

static void go_back(void *self, size_t from, size_t to) {
  const grad_job *j = self;
  const ma_attention_job *a = &j->a;
  float *scratch = a->scratch + j->room * ma_thread_index();
  int64_t heads = a->H / a->G;
  for (int64_t i = (int64_t)from; i < (int64_t)to; i++) {
    for (int64_t h = 0; h < heads; h++) {
      int64_t head = i % a->G * heads + h, in_order = i / a->G * a->H + head;
      for (int64_t r = 0; r < a->n_blocks; r++) {
        ma_attention_block at = ma_attention_block_of(a, in_order, r);
        j->one(j, &at, scratch);
      }
    }
  }
}

/* Zeros in what blocks add to. */
static ma_status clear(const grad_job *j, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor *const sums[] = {j->k_grad, j->v_grad, j->a.how->extra_key ? j->key_grad : NULL,
                             j->a.how->extra_value ? j->value_grad : NULL};
  for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
    if (sums[i]) MA_TRY(ma_cpu_fill(sums[i], 0, err));
done:
  return st;
}

static ma_status run_back(grad_job *j, ma_error *err) {
  ma_status st = MA_OK;
  ma_attention_job *a = &j->a;
  j->room = 3 * MA_ATTENTION_BLOCK * (a->E + a->Tk);
  a->rows = ma_rows_get();
  a->n_blocks = (a->Tq + MA_ATTENTION_BLOCK - 1) / MA_ATTENTION_BLOCK;
  MA_TRY(clear(j, err));
  MA_TRY(ma_blas_open(err));
  MA_TRY(ma_alloc_aligned((void **)&a->scratch, (size_t)j->room * (size_t)ma_threads() * sizeof(float), err));
  ma_parallel_for((size_t)(a->B * a->G), 1, go_back, j);
done:
  ma_free(a->scratch);
  return st;
}

ma_status ma_cpu_attention_grad(ma_tensor *const *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                                const ma_attention_how *how, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[4] = {{0}, {0}, {0}, {0}};
  grad_job j = {.a = ma_attention_job_of(how, q->shape[2], q->shape[1], k, how->extra_key),
                .g = &heads[3],
                .q_grad = out[0],
                .k_grad = out[1],
                .v_grad = out[2],
                .key_grad = out[3],
                .value_grad = out[4],
                .one = attend_back};
  const ma_tensor *in[4] = {q, k, v, g};
  j.a.q = &heads[0], j.a.k = &heads[1], j.a.v = &heads[2];
  for (int i = 0; i < 4; i++) MA_TRY(ma_attention_as_heads(&heads[i], in[i], err));
  MA_TRY(run_back(&j, err));
done:
  for (int i = 0; i < 4; i++) ma_tensor_release(&heads[i]);
  return st;
}

ma_status ma_cpu_attention_scores_grad(ma_tensor *const *out, const ma_tensor *q, const ma_tensor *k,
                                       const ma_tensor *scores, const ma_attention_how *how, const ma_tensor *g,
                                       ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[4] = {{0}, {0}, {0}, {0}};
  grad_job j = {.a = ma_attention_job_of(how, q->shape[2], q->shape[1], k, how->extra_key),
                .g = &heads[2],
                .scores = &heads[3],
                .q_grad = out[0],
                .k_grad = out[1],
                .key_grad = out[2],
                .one = scores_back};
  const ma_tensor *in[4] = {q, k, g, scores};
  j.a.q = &heads[0], j.a.k = &heads[1];
  for (int i = 0; i < 4; i++) MA_TRY(ma_attention_as_heads(&heads[i], in[i], err));
  MA_TRY(run_back(&j, err));
done:
  for (int i = 0; i < 4; i++) ma_tensor_release(&heads[i]);
  return st;
}

ma_status ma_cpu_attention_mix_grad(ma_tensor *const *out, const ma_tensor *probs, const ma_tensor *v,
                                    const ma_attention_how *how, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[3] = {{0}, {0}, {0}};
  grad_job j = {.a = ma_attention_job_of(how, probs->shape[1], probs->shape[2], v, how->extra_value),
                .g = &heads[2],
                .probs_grad = out[0],
                .v_grad = out[1],
                .value_grad = out[2],
                .one = shown_back};
  const ma_tensor *in[3] = {probs, v, g};
  j.a.probs = &heads[0], j.a.v = &heads[1];
  for (int i = 0; i < 3; i++) MA_TRY(ma_attention_as_heads(&heads[i], in[i], err));
  MA_TRY(run_back(&j, err));
done:
  for (int i = 0; i < 3; i++) ma_tensor_release(&heads[i]);
  return st;
}
