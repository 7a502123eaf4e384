/* What attention and its gradients share: a block of query rows of one head, and its scores. */
#ifndef MASSACT_BACKEND_CPU_ATTENTION_H
#define MASSACT_BACKEND_CPU_ATTENTION_H

#include "backend/cpu/cpu_internal.h"

enum {
  MA_ATTENTION_BLOCK = 64 /* query rows: enough for GEMM, few enough that a causal block wastes little */
};

typedef struct ma_attention_job {
  const ma_rows *rows;
  const ma_attention_how *how;
  const ma_tensor *q, *k, *v;
  ma_tensor *out;                  /* z, or scores */
  const ma_tensor *probs;          /* of attention_mix and attention_tally */
  struct ma_attention_sums *tally; /* NULL: nobody wants one */
  int64_t B, H, G, Tq, Tk, d, E;   /* E: 1 with an extra key, which is column 0 */
  int64_t n_blocks;
  float *scratch; /* MA_ATTENTION_BLOCK * (E + Tk) a thread */
} ma_attention_job;

/* A block of query rows of one head, and the keys that any of them sees. */
typedef struct ma_attention_block {
  int64_t b, h, first, n; /* rows first .. first + n - 1 */
  int64_t low, high;      /* keys low .. high - 1 */
} ma_attention_block;

/* A call's sizes; `keys` are its keys or its values, [B Tk G d]. */
static inline ma_attention_job ma_attention_job_of(const ma_attention_how *how, int64_t H, int64_t Tq,
                                                   const ma_tensor *keys, bool has_extra) {
  return (ma_attention_job){.how = how,
                            .B = keys->shape[0],
                            .H = H,
                            .G = keys->shape[2],
                            .Tq = Tq,
                            .Tk = keys->shape[1],
                            .d = keys->shape[3],
                            .E = has_extra ? 1 : 0};
}

/* The block of rows that is `row_block`-th of a head, which counts over all sequences. */
ma_attention_block ma_attention_block_of(const ma_attention_job *job, int64_t head, int64_t row_block);

/* Scores of a block, softcap and bias included: rows `step` apart, column 0 the extra key, then keys low .. high - 1. */
void ma_attention_score_rows(const ma_attention_job *job, const ma_attention_block *at, float *scores, int64_t step);

/* `t`, or a copy in f32 in which each head is contiguous, as GEMM wants it; the caller releases it. */
ma_status ma_attention_as_heads(ma_tensor *out, const ma_tensor *t, ma_error *err);

static inline const float *ma_attention_head(const ma_tensor *t, int64_t b, int64_t row, int64_t h) {
  return (const float *)t->storage->data + t->offset + b * t->strides[0] + row * t->strides[1] + h * t->strides[2];
}

static inline float ma_attention_dot(const float *a, const float *b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

#endif
