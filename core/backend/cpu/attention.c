/* Causal attention in blocks of query rows: a block's scores are one GEMM over the keys that it can see, then
 * rows of softmax, then one GEMM with the values.  A block's scores fit in a thread's scratch, so T x T never
 * exists; the operations that show scores or probabilities run the same steps on the same blocks, so that
 * what they give is bit for bit what the whole would have used.  Tallies of the probabilities (what each key
 * receives, each row's entropy) are taken from a block while it is there. */
#include <math.h>
#include <string.h>

#include "backend/cpu/blas.h"
#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"
#include "base/threads.h"

enum {
  BLOCK = 64, /* query rows: enough for GEMM, few enough that a causal block wastes little */
  STRANDS = 8 /* of a head's blocks: block i is in strand i % STRANDS, whatever the number of threads */
};

/* What is summed up over a head's rows; a strand has sums of its own, added in their order at the end. */
typedef struct tally {
  ma_tensor *received, *entropy;  /* [B H S] and [B H Tq], or NULL */
  double *sums;                   /* [B H STRANDS S], where `received` is wanted */
} tally;

typedef struct attention_job {
  const ma_rows *rows;
  const ma_attention_how *how;
  const ma_tensor *q, *k, *v;
  ma_tensor *out;                 /* z, or scores */
  const ma_tensor *probs;         /* of attention_mix and attention_tally */
  tally *tally;                   /* NULL: nobody wants one */
  int64_t B, H, G, Tq, Tk, d, E;  /* E: 1 with an extra key, which is column 0 */
  int64_t n_blocks;
  float *scratch;                 /* BLOCK * (E + Tk) a thread */
} attention_job;

/* A block of query rows of one head, and the keys that any of them sees. */
typedef struct block {
  int64_t b, h, first, n;         /* rows first .. first + n - 1 */
  int64_t low, high;              /* keys low .. high - 1 */
} block;

static block block_of(const attention_job *j, int64_t head, int64_t row_block) {
  block at = {.b = head / j->H, .h = head % j->H, .first = row_block * BLOCK};
  at.n = j->Tq - at.first < BLOCK ? j->Tq - at.first : BLOCK;
  int64_t past = j->Tk - j->Tq;
  at.high = past + at.first + at.n;
  at.low = j->how->window > 0 ? past + at.first - j->how->window + 1 : 0;
  /* A multiple of the softmax's lanes (rows.c), so that rows sum alike however many columns are left out. */
  at.low = at.low < 0 ? 0 : at.low / 16 * 16;
  return at;
}

/* The longest blocks come first, so that no thread is left with one at the end. */
static block locate(const attention_job *j, int64_t i) {
  int64_t heads = j->B * j->H;
  return block_of(j, i % heads, j->n_blocks - 1 - i / heads);
}

static const float *head_data(const ma_tensor *t, int64_t b, int64_t row, int64_t h) {
  return (const float *)t->storage->data + t->offset + b * t->strides[0] + row * t->strides[1] +
         h * t->strides[2];
}

static float dot(const float *a, const float *b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

/* ---- scores of a block: rows `step` apart, column 0 the extra key, then keys low .. high - 1 ---- */

static void score_rows(const attention_job *j, const block *at, float *scores, int64_t step) {
  int64_t keys = at->high - at->low, past = j->Tk - j->Tq, group = at->h / (j->H / j->G);
  const ma_attention_how *how = j->how;
  const float *q = head_data(j->q, at->b, at->first, at->h);
  ma_sgemm(at->n, keys, j->d, 1, (ma_matrix){q, j->q->strides[1], false},
           (ma_matrix){head_data(j->k, at->b, at->low, group), j->k->strides[1], true}, 0, scores + j->E, step);
  for (int64_t i = 0; i < at->n; i++) {
    float *row = scores + i * step;
    if (how->extra_key)
      row[0] = dot(q + i * j->q->strides[1], (const float *)ma_tensor_data(how->extra_key) + at->h * j->d, j->d);
    j->rows->soften(row, how->scale, how->softcap, how->step, (size_t)(j->E + keys));
    row += j->E;
    int64_t position = past + at->first + i, oldest = how->window > 0 ? position - how->window + 1 : 0;
    /* Distances to the last key, as transformers has them; a row's constant cancels in the softmax, but not
     * against an extra key.  Never rounded: to the 16-bit scores MPT adds an f32 bias, which gives f32. */
    int64_t origin = how->extra_key ? position : j->Tk - 1;
    if (how->alibi_slopes)
      for (int64_t k = 0; k < keys; k++) row[k] += how->alibi_slopes[at->h] * (float)(at->low + k - origin);
    for (int64_t k = at->low; k < oldest; k++) row[k - at->low] = -INFINITY;
    for (int64_t k = position + 1; k < at->high; k++) row[k - at->low] = -INFINITY;
  }
}

/* ---- values mixed by probabilities: rows `step` apart, as above ---- */

static void mix_rows(const attention_job *j, const block *at, const float *probs, int64_t step) {
  int64_t keys = at->high - at->low, group = at->h / (j->H / j->G);
  float *z = (float *)j->out->storage->data + j->out->offset + at->b * j->out->strides[0] +
             at->first * j->out->strides[1] + at->h * j->out->strides[2];
  const ma_tensor *extra = j->how->extra_value;
  for (int64_t i = 0; extra && i < at->n; i++) {
    const float *value = (const float *)ma_tensor_data(extra) + at->h * j->d;
    for (int64_t e = 0; e < j->d; e++) z[i * j->out->strides[1] + e] = probs[i * step] * value[e];
  }
  ma_sgemm(at->n, j->d, keys, 1, (ma_matrix){probs + j->E, step, false},
           (ma_matrix){head_data(j->v, at->b, at->low, group), j->v->strides[1], false}, extra ? 1 : 0, z,
           j->out->strides[1]);
}

/* ---- tallies of a block's probabilities: rows `step` apart, as above ---- */

static void tally_rows(const attention_job *j, const block *at, const float *probs, int64_t step) {
  const tally *t = j->tally;
  int64_t strand = (at->b * j->H + at->h) * STRANDS + at->first / BLOCK % STRANDS, keys = at->high - at->low;
  for (int64_t r = 0; t->received && r < at->n; r++) {
    double *sums = t->sums + strand * (j->E + j->Tk);
    const float *row = probs + r * step;
    j->rows->add_to(sums, row, (size_t)j->E);
    j->rows->add_to(sums + j->E + at->low, row + j->E, (size_t)keys);
  }
  if (!t->entropy) return;
  const int64_t *s = t->entropy->strides;
  float *entropy = (float *)t->entropy->storage->data + t->entropy->offset + at->b * s[0] + at->h * s[1];
  for (int64_t r = 0; r < at->n; r++)
    entropy[(at->first + r) * s[2]] = (float)j->rows->entropy(probs + r * step, (size_t)(j->E + keys));
}

static void add_strands(const attention_job *j) {
  const tally *t = j->tally;
  int64_t S = j->E + j->Tk;
  for (int64_t head = 0; t->received && head < j->B * j->H; head++) {
    const double *sums = t->sums + head * STRANDS * S;
    const int64_t *s = t->received->strides;
    float *received = (float *)t->received->storage->data + t->received->offset + head / j->H * s[0] +
                      head % j->H * s[1];
    for (int64_t k = 0; k < S; k++) {
      double sum = 0;
      for (int64_t strand = 0; strand < STRANDS; strand++) sum += sums[strand * S + k];
      received[k * s[2]] = (float)sum;
    }
  }
}

/* ---- the kernels ---- */

static void attend_block(const attention_job *j, const block *at, float *scores) {
  int64_t step = j->E + j->Tk;
  score_rows(j, at, scores, step);
  for (int64_t r = 0; r < at->n; r++) {
    float *row = scores + r * step;
    size_t n = (size_t)(j->E + at->high - at->low);
    j->rows->softmax(row, row, n);
    if (j->how->step != MA_F32) j->rows->round_to(row, row, j->how->step, n);
  }
  if (j->tally) tally_rows(j, at, scores, step);
  mix_rows(j, at, scores, step);
}

static void attend(void *self, size_t from, size_t to) {
  const attention_job *j = self;
  float *scores = j->scratch + BLOCK * (j->E + j->Tk) * ma_thread_index();
  for (size_t i = from; i < to; i++) {
    block at = locate(j, (int64_t)i);
    attend_block(j, &at, scores);
  }
}

/* The same by strands, each block after block by one thread. */
static void attend_strands(void *self, size_t from, size_t to) {
  const attention_job *j = self;
  float *scores = j->scratch + BLOCK * (j->E + j->Tk) * ma_thread_index();
  for (int64_t i = (int64_t)from; i < (int64_t)to; i++) {
    for (int64_t row_block = i % STRANDS; row_block < j->n_blocks; row_block += STRANDS) {
      block at = block_of(j, i / STRANDS, row_block);
      attend_block(j, &at, scores);
    }
  }
}

/* Probabilities that exist, edited perhaps: a hook may have written to any column. */
static void tally_shown(void *self, size_t from, size_t to) {
  const attention_job *j = self;
  const int64_t *s = j->probs->strides;
  for (int64_t i = (int64_t)from; i < (int64_t)to; i++) {
    for (int64_t row_block = i % STRANDS; row_block < j->n_blocks; row_block += STRANDS) {
      block at = block_of(j, i / STRANDS, row_block);
      at.low = 0;
      at.high = j->Tk;
      tally_rows(j, &at, (const float *)j->probs->storage->data + j->probs->offset + at.b * s[0] +
                             at.h * s[1] + at.first * s[2], s[2]);
    }
  }
}

/* Columns that the block does not cover are hidden from all its rows. */
static void show_scores(void *self, size_t from, size_t to) {
  const attention_job *j = self;
  int64_t step = j->E + j->Tk;
  float *scratch = j->scratch + BLOCK * step * ma_thread_index();
  for (size_t i = from; i < to; i++) {
    block at = locate(j, (int64_t)i);
    score_rows(j, &at, scratch, step);
    for (int64_t r = 0; r < at.n; r++) {
      const int64_t *s = j->out->strides;
      float *row = (float *)j->out->storage->data + j->out->offset + at.b * s[0] + at.h * s[1] +
                   (at.first + r) * s[2];
      for (int64_t k = 0; k < j->E; k++) row[k] = scratch[r * step + k];
      for (int64_t k = 0; k < j->Tk; k++)
        row[j->E + k] = k < at.low || k >= at.high ? -INFINITY : scratch[r * step + j->E + k - at.low];
    }
  }
}

/* A hook may have written anywhere: probabilities outside the block's keys count too, in a product of their
 * own, so that untouched ones give what the whole gives. */
static void mix_shown(void *self, size_t from, size_t to) {
  const attention_job *j = self;
  int64_t step = j->E + j->Tk;
  float *scratch = j->scratch + BLOCK * step * ma_thread_index();
  for (size_t i = from; i < to; i++) {
    block at = locate(j, (int64_t)i);
    bool has_more = false;
    for (int64_t r = 0; r < at.n; r++) {
      const int64_t *s = j->probs->strides;
      const float *row = (const float *)j->probs->storage->data + j->probs->offset + at.b * s[0] +
                         at.h * s[1] + (at.first + r) * s[2];
      memcpy(scratch + r * step, row, (size_t)j->E * sizeof *row);
      memcpy(scratch + r * step + j->E, row + j->E + at.low, (size_t)(at.high - at.low) * sizeof *row);
      for (int64_t k = 0; k < j->Tk && !has_more; k++)
        has_more = (k < at.low || k >= at.high) && row[j->E + k] != 0;
    }
    if (has_more) {
      at.low = 0;
      at.high = j->Tk;
      for (int64_t r = 0; r < at.n; r++) {
        const int64_t *s = j->probs->strides;
        memcpy(scratch + r * step, (const float *)j->probs->storage->data + j->probs->offset + at.b * s[0] +
                                       at.h * s[1] + (at.first + r) * s[2], (size_t)step * sizeof(float));
      }
    }
    mix_rows(j, &at, scratch, step);
  }
}

static ma_status run(attention_job *j, ma_parallel_body *body, int64_t pieces_of_head, ma_error *err) {
  ma_status st = MA_OK;
  size_t floats = (size_t)(BLOCK * (j->E + j->Tk)) * (size_t)ma_threads();
  j->rows = ma_rows_get();
  j->n_blocks = (j->Tq + BLOCK - 1) / BLOCK;
  MA_TRY(ma_blas_open(err));
  MA_TRY(ma_alloc_aligned((void **)&j->scratch, floats * sizeof(float), err));
  ma_parallel_for((size_t)(j->B * j->H * pieces_of_head), 1, body, j);
done:
  ma_free(j->scratch);
  return st;
}

/* One block is a piece of its own: blocks differ in length. */
static ma_status run_blocks(attention_job *j, ma_parallel_body *body, ma_error *err) {
  return run(j, body, (j->Tq + BLOCK - 1) / BLOCK, err);
}

static ma_status run_strands(attention_job *j, ma_parallel_body *body, ma_error *err) {
  ma_status st = MA_OK;
  if (j->tally->received) MA_TRY(MA_NEW(&j->tally->sums, j->B * j->H * STRANDS * (j->E + j->Tk), err));
  MA_TRY(run(j, body, STRANDS, err));
  add_strands(j);
done:
  ma_free(j->tally->sums);
  return st;
}

/* Heads must be contiguous for GEMM; anything else is copied. */
static ma_status as_heads(ma_tensor *out, const ma_tensor *t, ma_error *err) {
  if (t->strides[3] == 1 || t->shape[3] == 1) {
    *out = ma_tensor_retain(t);
    return MA_OK;
  }
  return ma_tensor_convert(out, t, MA_F32, err);
}

static ma_status attention(ma_tensor *out, tally *wanted, const ma_tensor *q, const ma_tensor *k,
                           const ma_tensor *v, const ma_attention_how *how, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[3] = {{0}, {0}, {0}};
  attention_job j = {.how = how, .q = &heads[0], .k = &heads[1], .v = &heads[2], .out = out, .tally = wanted,
                     .B = q->shape[0], .H = q->shape[2], .G = k->shape[2], .Tq = q->shape[1],
                     .Tk = k->shape[1], .d = q->shape[3], .E = how->extra_key ? 1 : 0};
  MA_TRY(as_heads(&heads[0], q, err));
  MA_TRY(as_heads(&heads[1], k, err));
  MA_TRY(as_heads(&heads[2], v, err));
  MA_TRY(wanted ? run_strands(&j, attend_strands, err) : run_blocks(&j, attend, err));
done:
  for (int i = 0; i < 3; i++) ma_tensor_release(&heads[i]);
  return st;
}

ma_status ma_cpu_attention(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                           const ma_attention_how *how, ma_error *err) {
  return attention(out, NULL, q, k, v, how, err);
}

ma_status ma_cpu_attention_and_tally(ma_tensor *out, ma_tensor *received, ma_tensor *entropy, const ma_tensor *q,
                                     const ma_tensor *k, const ma_tensor *v, const ma_attention_how *how,
                                     ma_error *err) {
  tally wanted = {.received = received, .entropy = entropy};
  return attention(out, &wanted, q, k, v, how, err);
}

ma_status ma_cpu_attention_scores(ma_tensor *out, const ma_tensor *q, const ma_tensor *k,
                                  const ma_attention_how *how, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[2] = {{0}, {0}};
  attention_job j = {.how = how, .q = &heads[0], .k = &heads[1], .out = out, .B = q->shape[0],
                     .H = q->shape[2], .G = k->shape[2], .Tq = q->shape[1], .Tk = k->shape[1],
                     .d = q->shape[3], .E = how->extra_key ? 1 : 0};
  MA_TRY(as_heads(&heads[0], q, err));
  MA_TRY(as_heads(&heads[1], k, err));
  MA_TRY(run_blocks(&j, show_scores, err));
done:
  for (int i = 0; i < 2; i++) ma_tensor_release(&heads[i]);
  return st;
}

ma_status ma_cpu_attention_mix(ma_tensor *out, const ma_tensor *probs, const ma_tensor *v,
                               const ma_attention_how *how, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[2] = {{0}, {0}};
  attention_job j = {.how = how, .probs = &heads[0], .v = &heads[1], .out = out, .B = probs->shape[0],
                     .H = probs->shape[1], .G = v->shape[2], .Tq = probs->shape[2], .Tk = v->shape[1],
                     .d = v->shape[3], .E = how->extra_value ? 1 : 0};
  MA_TRY(as_heads(&heads[0], probs, err));
  MA_TRY(as_heads(&heads[1], v, err));
  MA_TRY(run_blocks(&j, mix_shown, err));
done:
  for (int i = 0; i < 2; i++) ma_tensor_release(&heads[i]);
  return st;
}

ma_status ma_cpu_attention_tally(ma_tensor *received, ma_tensor *entropy, const ma_tensor *probs, ma_error *err) {
  ma_status st = MA_OK;
  static const ma_attention_how plain = {0};
  ma_tensor rows = {0};
  tally wanted = {.received = received, .entropy = entropy};
  /* S columns, the extra key's among them: a sum needs not know which it is. */
  attention_job j = {.how = &plain, .probs = &rows, .tally = &wanted, .B = probs->shape[0],
                     .H = probs->shape[1], .Tq = probs->shape[2], .Tk = probs->shape[3]};
  MA_TRY(as_heads(&rows, probs, err));
  MA_TRY(run_strands(&j, tally_shown, err));
done:
  ma_tensor_release(&rows);
  return st;
}

/* ---- gradients ---- */

/* Shares, contiguous; NULL: none is wanted.  A piece of work is a key/value head of a sequence with all its query heads, so that
 * nobody else adds to the same key; its blocks come in order. */
typedef struct grad_job {
  attention_job a;
  const ma_tensor *g;      /* of z, or of the scores */
  const ma_tensor *scores; /* what attention_scores gave */
  ma_tensor *q_grad, *k_grad, *v_grad, *key_grad, *value_grad, *probs_grad;
  int64_t room; /* floats of scratch a thread: three times BLOCK rows of scores */
  void (*one)(const struct grad_job *, const block *, float *scratch);
} grad_job;

static float *share_at(const ma_tensor *t, int64_t b, int64_t row, int64_t h) {
  return (float *)ma_tensor_data(t) + b * t->strides[0] + row * t->strides[1] + h * t->strides[2];
}

static float *extra_share(const ma_tensor *t, const block *at) {
  return (float *)ma_tensor_data(t) + at->b * t->strides[0] + at->h * t->strides[1];
}

static const float *extra_of(const attention_job *a, const ma_tensor *extra, const block *at) {
  return (const float *)ma_tensor_data(extra) + at->h * a->d;
}

/* z = p v: the gradients of p (rows `step` apart, into p_grad) and of v. */
static void mix_back(const grad_job *j, const block *at, const float *p, float *p_grad, int64_t step) {
  const attention_job *a = &j->a;
  int64_t keys = at->high - at->low, group = at->h / (a->H / a->G), g_step = j->g->strides[1];
  const float *g = head_data(j->g, at->b, at->first, at->h);
  ma_sgemm(at->n, keys, a->d, 1, (ma_matrix){g, g_step, false},
           (ma_matrix){head_data(a->v, at->b, at->low, group), a->v->strides[1], true}, 0, p_grad + a->E, step);
  ma_sgemm(keys, a->d, at->n, 1, (ma_matrix){p + a->E, step, true}, (ma_matrix){g, g_step, false}, 1,
           share_at(j->v_grad, at->b, at->low, group), j->v_grad->strides[1]);
  if (!a->how->extra_value) return;
  const float *value = extra_of(a, a->how->extra_value, at);
  float *to = extra_share(j->value_grad, at);
  for (int64_t i = 0; i < at->n; i++) {
    p_grad[i * step] = dot(g + i * g_step, value, a->d);
    for (int64_t e = 0; e < a->d; e++) to[e] += p[i * step] * g[i * g_step + e];
  }
}

/* raw scores = q k^T: from their gradient those of q and k. */
static void score_back(const grad_job *j, const block *at, const float *s_grad, int64_t step) {
  const attention_job *a = &j->a;
  int64_t keys = at->high - at->low, group = at->h / (a->H / a->G), q_step = a->q->strides[1];
  const float *q = head_data(a->q, at->b, at->first, at->h);
  float *q_grad = share_at(j->q_grad, at->b, at->first, at->h);
  ma_sgemm(at->n, a->d, keys, 1, (ma_matrix){s_grad + a->E, step, false},
           (ma_matrix){head_data(a->k, at->b, at->low, group), a->k->strides[1], false}, 0, q_grad, j->q_grad->strides[1]);
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
static void without_bias(const attention_job *a, const block *at, float *row, int64_t i) {
  if (!a->how->alibi_slopes) return;
  int64_t position = a->Tk - a->Tq + at->first + i, origin = a->how->extra_key ? position : a->Tk - 1;
  for (int64_t k = at->low; k < at->high; k++)
    row[a->E + k - at->low] -= a->how->alibi_slopes[at->h] * (float)(k - origin);
}

static void attend_back(const grad_job *j, const block *at, float *scratch) {
  const attention_job *a = &j->a;
  int64_t step = a->E + a->Tk;
  float *p = scratch, *p_grad = p + BLOCK * step, *capped = p_grad + BLOCK * step;
  size_t n = (size_t)(a->E + at->high - at->low);
  score_rows(a, at, p, step);
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

static void scores_back(const grad_job *j, const block *at, float *scratch) {
  const attention_job *a = &j->a;
  int64_t step = a->E + a->Tk, n = a->E + at->high - at->low;
  for (int64_t i = 0; i < at->n; i++) {
    const int64_t *t = j->g->strides, *u = j->scores->strides;
    const float *g = (const float *)j->g->storage->data + j->g->offset + at->b * t[0] + at->h * t[1] + (at->first + i) * t[2];
    const float *s = (const float *)j->scores->storage->data + j->scores->offset + at->b * u[0] + at->h * u[1] +
                     (at->first + i) * u[2];
    float *row = scratch + i * step, *raw = scratch + (BLOCK + i) * step;
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
static void shown_back(const grad_job *j, const block *at, float *scratch) {
  const attention_job *a = &j->a;
  int64_t step = a->E + a->Tk;
  block all = *at;
  all.low = 0;
  all.high = a->Tk;
  for (int64_t i = 0; i < at->n; i++) {
    const int64_t *s = a->probs->strides;
    memcpy(scratch + i * step, (const float *)a->probs->storage->data + a->probs->offset + at->b * s[0] + at->h * s[1] +
                                   (at->first + i) * s[2], (size_t)step * sizeof(float));
  }
  mix_back(j, &all, scratch, share_at(j->probs_grad, at->b, at->h, at->first), step);
}

static void go_back(void *self, size_t from, size_t to) {
  const grad_job *j = self;
  const attention_job *a = &j->a;
  float *scratch = a->scratch + j->room * ma_thread_index();
  int64_t heads = a->H / a->G;
  for (int64_t i = (int64_t)from; i < (int64_t)to; i++) {
    for (int64_t h = 0; h < heads; h++) {
      int64_t head = i % a->G * heads + h, in_order = i / a->G * a->H + head;
      for (int64_t r = 0; r < a->n_blocks; r++) {
        block at = block_of(a, in_order, r);
        j->one(j, &at, scratch);
      }
    }
  }
}

static ma_status run_back(grad_job *j, ma_error *err) {
  ma_status st = MA_OK;
  attention_job *a = &j->a;
  j->room = 3 * BLOCK * (a->E + a->Tk);
  a->rows = ma_rows_get();
  a->n_blocks = (a->Tq + BLOCK - 1) / BLOCK;
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
  grad_job j = {.a = {.how = how, .q = &heads[0], .k = &heads[1], .v = &heads[2], .B = q->shape[0], .H = q->shape[2],
                      .G = k->shape[2], .Tq = q->shape[1], .Tk = k->shape[1], .d = q->shape[3], .E = how->extra_key ? 1 : 0},
                .g = &heads[3], .q_grad = out[0], .k_grad = out[1], .v_grad = out[2], .key_grad = out[3], .value_grad = out[4],
                .one = attend_back};
  const ma_tensor *in[4] = {q, k, v, g};
  for (int i = 0; i < 4; i++) MA_TRY(as_heads(&heads[i], in[i], err));
  MA_TRY(run_back(&j, err));
done:
  for (int i = 0; i < 4; i++) ma_tensor_release(&heads[i]);
  return st;
}

ma_status ma_cpu_attention_scores_grad(ma_tensor *const *out, const ma_tensor *q, const ma_tensor *k,
                                       const ma_tensor *scores, const ma_attention_how *how, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[4] = {{0}, {0}, {0}, {0}};
  grad_job j = {.a = {.how = how, .q = &heads[0], .k = &heads[1], .B = q->shape[0], .H = q->shape[2], .G = k->shape[2],
                      .Tq = q->shape[1], .Tk = k->shape[1], .d = q->shape[3], .E = how->extra_key ? 1 : 0},
                .g = &heads[2], .scores = &heads[3], .q_grad = out[0], .k_grad = out[1], .key_grad = out[2], .one = scores_back};
  const ma_tensor *in[4] = {q, k, g, scores};
  for (int i = 0; i < 4; i++) MA_TRY(as_heads(&heads[i], in[i], err));
  MA_TRY(run_back(&j, err));
done:
  for (int i = 0; i < 4; i++) ma_tensor_release(&heads[i]);
  return st;
}

ma_status ma_cpu_attention_mix_grad(ma_tensor *const *out, const ma_tensor *probs, const ma_tensor *v,
                                    const ma_attention_how *how, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[3] = {{0}, {0}, {0}};
  grad_job j = {.a = {.how = how, .probs = &heads[0], .v = &heads[1], .B = probs->shape[0], .H = probs->shape[1],
                      .G = v->shape[2], .Tq = probs->shape[2], .Tk = v->shape[1], .d = v->shape[3], .E = how->extra_value ? 1 : 0},
                .g = &heads[2], .probs_grad = out[0], .v_grad = out[1], .value_grad = out[2], .one = shown_back};
  const ma_tensor *in[3] = {probs, v, g};
  for (int i = 0; i < 3; i++) MA_TRY(as_heads(&heads[i], in[i], err));
  MA_TRY(run_back(&j, err));
done:
  for (int i = 0; i < 3; i++) ma_tensor_release(&heads[i]);
  return st;
}
