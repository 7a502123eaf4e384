/* Causal attention in blocks of query rows: a block's scores are one GEMM over the keys that it can see, then
 * rows of softmax, then one GEMM with the values.  A block's scores fit in a thread's scratch, so T x T never
 * exists; the operations that show scores or probabilities run the same steps on the same blocks, so that
 * what they give is bit for bit what the whole would have used.  Tallies of the probabilities (what each key
 * receives, each row's entropy) are taken from a block while it is there. */
#include <math.h>
#include <string.h>

#include "backend/cpu/attention.h"
#include "backend/cpu/blas.h"
#include "base/memory.h"
#include "base/threads.h"

enum {
  STRANDS = 8 /* of a head's blocks: block i is in strand i % STRANDS, whatever the number of threads */
};

/* What is summed up over a head's rows; a strand has sums of its own, added in their order at the end. */
typedef struct ma_attention_sums {
  ma_tensor *received, *entropy; /* [B H S] and [B H Tq], or NULL */
  double *sums;                  /* [B H STRANDS S], where `received` is wanted */
} ma_attention_sums;

ma_attention_block ma_attention_block_of(const ma_attention_job *j, int64_t head, int64_t row_block) {
  ma_attention_block at = {.b = head / j->H, .h = head % j->H, .first = row_block * MA_ATTENTION_BLOCK};
  at.n = j->Tq - at.first < MA_ATTENTION_BLOCK ? j->Tq - at.first : MA_ATTENTION_BLOCK;
  int64_t past = j->Tk - j->Tq;
  at.high = past + at.first + at.n;
  at.low = j->how->window > 0 ? past + at.first - j->how->window + 1 : 0;
  /* A multiple of the softmax's lanes (rows.c), so that rows sum alike however many columns are left out. */
  at.low = at.low < 0 ? 0 : at.low / 16 * 16;
  return at;
}

/* The longest blocks come first, so that no thread is left with one at the end. */
static ma_attention_block locate(const ma_attention_job *j, int64_t i) {
  int64_t heads = j->B * j->H;
  return ma_attention_block_of(j, i % heads, j->n_blocks - 1 - i / heads);
}

/* ---- scores of a block: rows `step` apart, column 0 the extra key, then keys low .. high - 1 ---- */

void ma_attention_score_rows(const ma_attention_job *j, const ma_attention_block *at, float *scores, int64_t step) {
  int64_t keys = at->high - at->low, past = j->Tk - j->Tq, group = at->h / (j->H / j->G);
  const ma_attention_how *how = j->how;
  const float *q = ma_attention_head(j->q, at->b, at->first, at->h);
  ma_sgemm(at->n, keys, j->d, 1, (ma_matrix){q, j->q->strides[1], false},
           (ma_matrix){ma_attention_head(j->k, at->b, at->low, group), j->k->strides[1], true}, 0, scores + j->E, step);
  for (int64_t i = 0; i < at->n; i++) {
    float *row = scores + i * step;
    if (how->extra_key)
      row[0] = ma_attention_dot(q + i * j->q->strides[1], (const float *)ma_tensor_data(how->extra_key) + at->h * j->d,
                                j->d);
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

static void mix_rows(const ma_attention_job *j, const ma_attention_block *at, const float *probs, int64_t step) {
  int64_t keys = at->high - at->low, group = at->h / (j->H / j->G);
  float *z = (float *)j->out->storage->data + j->out->offset + at->b * j->out->strides[0] +
             at->first * j->out->strides[1] + at->h * j->out->strides[2];
  const ma_tensor *extra = j->how->extra_value;
  for (int64_t i = 0; extra && i < at->n; i++) {
    const float *value = (const float *)ma_tensor_data(extra) + at->h * j->d;
    for (int64_t e = 0; e < j->d; e++) z[i * j->out->strides[1] + e] = probs[i * step] * value[e];
  }
  ma_sgemm(at->n, j->d, keys, 1, (ma_matrix){probs + j->E, step, false},
           (ma_matrix){ma_attention_head(j->v, at->b, at->low, group), j->v->strides[1], false}, extra ? 1 : 0, z,
           j->out->strides[1]);
}

/* ---- tallies of a block's probabilities: rows `step` apart, as above ---- */

static void tally_rows(const ma_attention_job *j, const ma_attention_block *at, const float *probs, int64_t step) {
  const ma_attention_sums *t = j->tally;
  int64_t strand = (at->b * j->H + at->h) * STRANDS + at->first / MA_ATTENTION_BLOCK % STRANDS,
          keys = at->high - at->low;
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

static void add_strands(const ma_attention_job *j) {
  const ma_attention_sums *t = j->tally;
  int64_t S = j->E + j->Tk;
  for (int64_t head = 0; t->received && head < j->B * j->H; head++) {
    const double *sums = t->sums + head * STRANDS * S;
    const int64_t *s = t->received->strides;
    float *received =
        (float *)t->received->storage->data + t->received->offset + head / j->H * s[0] + head % j->H * s[1];
    for (int64_t k = 0; k < S; k++) {
      double sum = 0;
      for (int64_t strand = 0; strand < STRANDS; strand++) sum += sums[strand * S + k];
      received[k * s[2]] = (float)sum;
    }
  }
}

/* ---- the kernels ---- */

static void attend_block(const ma_attention_job *j, const ma_attention_block *at, float *scores) {
  int64_t step = j->E + j->Tk;
  ma_attention_score_rows(j, at, scores, step);
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
  const ma_attention_job *j = self;
  float *scores = j->scratch + MA_ATTENTION_BLOCK * (j->E + j->Tk) * ma_thread_index();
  for (size_t i = from; i < to; i++) {
    ma_attention_block at = locate(j, (int64_t)i);
    attend_block(j, &at, scores);
  }
}

/* The same by strands, each block after block by one thread. */
static void attend_strands(void *self, size_t from, size_t to) {
  const ma_attention_job *j = self;
  float *scores = j->scratch + MA_ATTENTION_BLOCK * (j->E + j->Tk) * ma_thread_index();
  for (int64_t i = (int64_t)from; i < (int64_t)to; i++) {
    for (int64_t row_block = i % STRANDS; row_block < j->n_blocks; row_block += STRANDS) {
      ma_attention_block at = ma_attention_block_of(j, i / STRANDS, row_block);
      attend_block(j, &at, scores);
    }
  }
}

/* Probabilities that exist, edited perhaps: a hook may have written to any column. */
static void tally_shown(void *self, size_t from, size_t to) {
  const ma_attention_job *j = self;
  const int64_t *s = j->probs->strides;
  for (int64_t i = (int64_t)from; i < (int64_t)to; i++) {
    for (int64_t row_block = i % STRANDS; row_block < j->n_blocks; row_block += STRANDS) {
      ma_attention_block at = ma_attention_block_of(j, i / STRANDS, row_block);
      at.low = 0;
      at.high = j->Tk;
      tally_rows(
          j, &at,
          (const float *)j->probs->storage->data + j->probs->offset + at.b * s[0] + at.h * s[1] + at.first * s[2],
          s[2]);
    }
  }
}

/* Columns that the block does not cover are hidden from all its rows. */
static void show_scores(void *self, size_t from, size_t to) {
  const ma_attention_job *j = self;
  int64_t step = j->E + j->Tk;
  float *scratch = j->scratch + MA_ATTENTION_BLOCK * step * ma_thread_index();
  for (size_t i = from; i < to; i++) {
    ma_attention_block at = locate(j, (int64_t)i);
    ma_attention_score_rows(j, &at, scratch, step);
    for (int64_t r = 0; r < at.n; r++) {
      const int64_t *s = j->out->strides;
      float *row = (float *)j->out->storage->data + j->out->offset + at.b * s[0] + at.h * s[1] + (at.first + r) * s[2];
      for (int64_t k = 0; k < j->E; k++) row[k] = scratch[r * step + k];
      for (int64_t k = 0; k < j->Tk; k++)
        row[j->E + k] = k < at.low || k >= at.high ? -INFINITY : scratch[r * step + j->E + k - at.low];
    }
  }
}

/* A hook may have written anywhere: probabilities outside the block's keys count too, in a product of their
 * own, so that untouched ones give what the whole gives. */
static void mix_shown(void *self, size_t from, size_t to) {
  const ma_attention_job *j = self;
  int64_t step = j->E + j->Tk;
  float *scratch = j->scratch + MA_ATTENTION_BLOCK * step * ma_thread_index();
  for (size_t i = from; i < to; i++) {
    ma_attention_block at = locate(j, (int64_t)i);
    bool has_more = false;
    for (int64_t r = 0; r < at.n; r++) {
      const int64_t *s = j->probs->strides;
      const float *row =
          (const float *)j->probs->storage->data + j->probs->offset + at.b * s[0] + at.h * s[1] + (at.first + r) * s[2];
      memcpy(scratch + r * step, row, (size_t)j->E * sizeof *row);
      memcpy(scratch + r * step + j->E, row + j->E + at.low, (size_t)(at.high - at.low) * sizeof *row);
      for (int64_t k = 0; k < j->Tk && !has_more; k++) has_more = (k < at.low || k >= at.high) && row[j->E + k] != 0;
    }
    if (has_more) {
      at.low = 0;
      at.high = j->Tk;
      for (int64_t r = 0; r < at.n; r++) {
        const int64_t *s = j->probs->strides;
        memcpy(scratch + r * step,
               (const float *)j->probs->storage->data + j->probs->offset + at.b * s[0] + at.h * s[1] +
                   (at.first + r) * s[2],
               (size_t)step * sizeof(float));
      }
    }
    mix_rows(j, &at, scratch, step);
  }
}

static ma_status run(ma_attention_job *j, ma_parallel_body *body, int64_t pieces_of_head, ma_error *err) {
  ma_status st = MA_OK;
  size_t floats = (size_t)(MA_ATTENTION_BLOCK * (j->E + j->Tk)) * (size_t)ma_threads();
  j->rows = ma_rows_get();
  j->n_blocks = (j->Tq + MA_ATTENTION_BLOCK - 1) / MA_ATTENTION_BLOCK;
  MA_TRY(ma_blas_open(err));
  MA_TRY(ma_alloc_aligned((void **)&j->scratch, floats * sizeof(float), err));
  ma_parallel_for((size_t)(j->B * j->H * pieces_of_head), 1, body, j);
done:
  ma_free(j->scratch);
  return st;
}

/* One block is a piece of its own: blocks differ in length. */
static ma_status run_blocks(ma_attention_job *j, ma_parallel_body *body, ma_error *err) {
  return run(j, body, (j->Tq + MA_ATTENTION_BLOCK - 1) / MA_ATTENTION_BLOCK, err);
}

static ma_status run_strands(ma_attention_job *j, ma_parallel_body *body, ma_error *err) {
  ma_status st = MA_OK;
  if (j->tally->received) MA_TRY(MA_NEW(&j->tally->sums, j->B * j->H * STRANDS * (j->E + j->Tk), err));
  MA_TRY(run(j, body, STRANDS, err));
  add_strands(j);
done:
  ma_free(j->tally->sums);
  return st;
}

/* Heads must be contiguous f32 for GEMM; anything else is copied. */
static bool are_heads(const ma_tensor *t) { return t->dtype == MA_F32 && (t->strides[3] == 1 || t->shape[3] == 1); }

ma_status ma_attention_as_heads(ma_tensor *out, const ma_tensor *t, ma_error *err) {
  if (!are_heads(t)) return ma_tensor_convert(out, t, MA_F32, err);
  *out = ma_tensor_retain(t);
  return MA_OK;
}

/* Heads to write, as ma_cpu_out_f32 gives whole tensors; ma_cpu_put_f32 brings them to `out`. */
static ma_status make_room(ma_tensor *room, const ma_tensor *out, ma_error *err) {
  if (!are_heads(out)) return ma_tensor_new_like(room, out, MA_F32, err);
  *room = ma_tensor_retain(out);
  return MA_OK;
}

static ma_status attention(ma_tensor *out, ma_attention_sums *wanted, const ma_tensor *q, const ma_tensor *k,
                           const ma_tensor *v, const ma_attention_how *how, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[3] = {{0}, {0}, {0}}, room = {0};
  ma_attention_job j = ma_attention_job_of(how, q->shape[2], q->shape[1], k, how->extra_key);
  j.q = &heads[0], j.k = &heads[1], j.v = &heads[2], j.out = &room, j.tally = wanted;
  MA_TRY(ma_attention_as_heads(&heads[0], q, err));
  MA_TRY(ma_attention_as_heads(&heads[1], k, err));
  MA_TRY(ma_attention_as_heads(&heads[2], v, err));
  MA_TRY(make_room(&room, out, err));
  MA_TRY(wanted ? run_strands(&j, attend_strands, err) : run_blocks(&j, attend, err));
  MA_TRY(ma_cpu_put_f32(out, &room, err));
done:
  for (int i = 0; i < 3; i++) ma_tensor_release(&heads[i]);
  ma_tensor_release(&room);
  return st;
}

ma_status ma_cpu_attention(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                           const ma_attention_how *how, ma_error *err) {
  return attention(out, NULL, q, k, v, how, err);
}

ma_status ma_cpu_attention_and_tally(ma_tensor *out, ma_tensor *received, ma_tensor *entropy, const ma_tensor *q,
                                     const ma_tensor *k, const ma_tensor *v, const ma_attention_how *how,
                                     ma_error *err) {
  ma_attention_sums wanted = {.received = received, .entropy = entropy};
  return attention(out, &wanted, q, k, v, how, err);
}

ma_status ma_cpu_attention_scores(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_attention_how *how,
                                  ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[2] = {{0}, {0}}, room = {0};
  ma_attention_job j = ma_attention_job_of(how, q->shape[2], q->shape[1], k, how->extra_key);
  j.q = &heads[0], j.k = &heads[1], j.out = &room;
  MA_TRY(ma_attention_as_heads(&heads[0], q, err));
  MA_TRY(ma_attention_as_heads(&heads[1], k, err));
  MA_TRY(make_room(&room, out, err));
  MA_TRY(run_blocks(&j, show_scores, err));
  MA_TRY(ma_cpu_put_f32(out, &room, err));
done:
  for (int i = 0; i < 2; i++) ma_tensor_release(&heads[i]);
  ma_tensor_release(&room);
  return st;
}

ma_status ma_cpu_attention_mix(ma_tensor *out, const ma_tensor *probs, const ma_tensor *v, const ma_attention_how *how,
                               ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor heads[2] = {{0}, {0}}, room = {0};
  ma_attention_job j = ma_attention_job_of(how, probs->shape[1], probs->shape[2], v, how->extra_value);
  j.probs = &heads[0], j.v = &heads[1], j.out = &room;
  MA_TRY(ma_attention_as_heads(&heads[0], probs, err));
  MA_TRY(ma_attention_as_heads(&heads[1], v, err));
  MA_TRY(make_room(&room, out, err));
  MA_TRY(run_blocks(&j, mix_shown, err));
  MA_TRY(ma_cpu_put_f32(out, &room, err));
done:
  for (int i = 0; i < 2; i++) ma_tensor_release(&heads[i]);
  ma_tensor_release(&room);
  return st;
}

ma_status ma_cpu_attention_tally(ma_tensor *received, ma_tensor *entropy, const ma_tensor *probs, ma_error *err) {
  ma_status st = MA_OK;
  static const ma_attention_how plain = {0};
  ma_tensor rows = {0};
  ma_attention_sums wanted = {.received = received, .entropy = entropy};
  /* S columns, the extra key's among them: a sum needs not know which it is. */
  ma_attention_job j = {.how = &plain,
                        .probs = &rows,
                        .tally = &wanted,
                        .B = probs->shape[0],
                        .H = probs->shape[1],
                        .Tq = probs->shape[2],
                        .Tk = probs->shape[3]};
  MA_TRY(ma_attention_as_heads(&rows, probs, err));
  MA_TRY(run_strands(&j, tally_shown, err));
done:
  ma_tensor_release(&rows);
  return st;
}
