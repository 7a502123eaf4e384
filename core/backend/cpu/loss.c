/* Cross-entropy.  From hidden states, logits exist a tile at a time: a block of rows against a tile of the
 * vocabulary, folded into each row's running maximum and sum of exponentials. */
#include <math.h>
#include <string.h>

#include "backend/cpu/blas.h"
#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"
#include "base/threads.h"

/* -log p(target) of a row whose logits have been seen in tiles. */
typedef struct tally {
  float most;   /* largest logit so far */
  double sum;   /* of e^(logit - most) */
  float target; /* the target's logit */
} tally;

static void fold(const ma_rows *rows, tally *t, const float *logits, int64_t first, int64_t n, int64_t target) {
  float most = rows->max(logits, (size_t)n);
  if (!(most <= t->most)) {
    /* Also where it is NaN: then everything after is. */
    t->sum *= exp((double)(t->most - most));
    t->most = most;
  }
  if (t->most != -INFINITY) t->sum += (double)rows->sum_exp(logits, t->most, (size_t)n);
  if (target >= first && target < first + n) t->target = logits[target - first];
}

static float loss_of(const tally *t) { return (float)((double)t->most + log(t->sum) - (double)t->target); }

static ma_status check_target(int64_t target, int64_t n, ma_error *err) {
  if (target < n) return MA_OK;
  return ma_fail(err, MA_BAD_ARGUMENT, "cross_entropy: target %lld is outside the vocabulary of %lld",
                 (long long)target, (long long)n);
}

static ma_status check_targets(const ma_tensor *targets, int64_t n, ma_error *err) {
  ma_status st = MA_OK;
  for (int64_t i = 0; i < targets->shape[0] && st == MA_OK; i++)
    st = check_target(((const int64_t *)targets->storage->data)[targets->offset + i * targets->strides[0]], n, err);
  return st;
}

typedef struct loss_job {
  const ma_rows *rows;
  const ma_tensor *targets;
  float *logits; /* written to only where there is a bias, a scale, a cap or a rounding */
  const float *bias;
  int64_t step, first, n, first_row;
  float scale, cap;
  ma_dtype dtype; /* see ma_logits_how.step */
  tally *tallies;
} loss_job;

static int64_t target_of(const loss_job *j, int64_t row) {
  return ((const int64_t *)j->targets->storage->data)[j->targets->offset + row * j->targets->strides[0]];
}

static void fold_rows(void *self, size_t from, size_t to) {
  const loss_job *j = self;
  for (size_t i = from; i < to; i++) {
    float *row = j->logits + (int64_t)i * j->step;
    if (j->bias) j->rows->binary(row, MA_BINARY_add, row, 1, j->bias + j->first, 1, (size_t)j->n);
    j->rows->soften(row, j->scale, j->cap, j->dtype, (size_t)j->n);
    fold(j->rows, &j->tallies[i], row, j->first, j->n, target_of(j, j->first_row + (int64_t)i));
  }
}

static void store_losses(const loss_job *j, ma_tensor *out, int64_t n_rows) {
  for (int64_t i = 0; i < n_rows; i++) {
    int64_t row = j->first_row + i;
    ma_element_store(out, out->offset + row * out->strides[0],
                     target_of(j, row) < 0 ? 0 : (double)loss_of(&j->tallies[i]));
  }
}

static void start_tallies(tally *tallies, int64_t n) {
  for (int64_t i = 0; i < n; i++) tallies[i] = (tally){.most = -INFINITY};
}

ma_status ma_cpu_cross_entropy(ma_tensor *out, const ma_tensor *logits, const ma_tensor *targets, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor rows = {0};
  loss_job j = {.rows = ma_rows_get(), .targets = targets, .n = logits->shape[1], .step = logits->shape[1], .scale = 1};
  int64_t n = logits->shape[0];
  MA_TRY(check_targets(targets, j.n, err));
  MA_TRY(ma_cpu_as_f32(&rows, logits, err));
  MA_TRY(MA_NEW(&j.tallies, n, err));
  start_tallies(j.tallies, n);
  j.logits = ma_tensor_data(&rows);
  ma_parallel_for((size_t)n, (size_t)(16384 / (j.n + 1) + 1), fold_rows, &j);
  store_losses(&j, out, n);
done:
  ma_free(j.tallies);
  ma_tensor_release(&rows);
  return st;
}

ma_status ma_cpu_linear_cross_entropy(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight,
                                      const ma_tensor *bias, const ma_tensor *targets, const ma_logits_how *how,
                                      ma_error *err) {
  enum { ROWS = 512, TILE = 1024 }; /* 2 MiB of logits: what fold_rows reads is still in the cache */
  ma_status st = MA_OK;
  ma_tensor in = {0}, added = {0};
  float *logits = NULL, *scratch = NULL;
  int64_t n = x->shape[0], k = x->shape[1], vocabulary = weight->shape[0];
  loss_job j = {.rows = ma_rows_get(),
                .targets = targets,
                .step = TILE,
                .cap = how->softcap,
                .scale = how->scale == 0 ? 1 : how->scale,
                .dtype = how->step};
  MA_TRY(ma_blas_open(err));
  MA_TRY(check_targets(targets, vocabulary, err));
  MA_TRY(ma_cpu_as_f32(&in, x, err));
  if (bias) {
    MA_TRY(ma_cpu_as_f32(&added, bias, err));
    j.bias = ma_tensor_data(&added);
  }
  MA_TRY(ma_alloc_aligned((void **)&logits, sizeof(float) * ROWS * TILE, err));
  if (!ma_cpu_is_gemm_ready(weight))
    MA_TRY(ma_alloc_aligned((void **)&scratch, (size_t)(TILE * k) * sizeof(float), err));
  MA_TRY(MA_NEW(&j.tallies, ROWS, err));
  j.logits = logits;
  for (j.first_row = 0; j.first_row < n; j.first_row += ROWS) {
    int64_t rows = n - j.first_row < ROWS ? n - j.first_row : ROWS;
    start_tallies(j.tallies, rows);
    for (j.first = 0; j.first < vocabulary; j.first += TILE) {
      j.n = vocabulary - j.first < TILE ? vocabulary - j.first : TILE;
      ma_cpu_times_rows(j.rows, (const float *)ma_tensor_data(&in) + j.first_row * k, k, rows, weight, j.first, j.n,
                        scratch, 0, logits, TILE);
      ma_parallel_for((size_t)rows, 16, fold_rows, &j);
    }
    store_losses(&j, out, rows);
  }
done:
  ma_free(logits);
  ma_free(scratch);
  ma_free(j.tallies);
  ma_tensor_release(&in);
  ma_tensor_release(&added);
  return st;
}

/* ---- gradients ---- */

/* A block of rows of logits, which become their own gradients. */
typedef struct slope_job {
  const ma_rows *rows;
  const ma_tensor *targets, *rates; /* [N] */
  float rate;                       /* of all rows, where `rates` is NULL */
  float *losses;                    /* [rows of a block], or NULL */
  const float *bias;
  float *logits;
  int64_t n, first_row;
  float scale, cap;
  ma_dtype dtype;
} slope_job;

/* Of -log p(target): p - 1 at the target, p elsewhere; through cap and scale. */
static void slope_rows(void *self, size_t from, size_t to) {
  const slope_job *j = self;
  for (size_t i = from; i < to; i++) {
    float *row = j->logits + (int64_t)i * j->n;
    int64_t at = j->first_row + (int64_t)i;
    int64_t target = ((const int64_t *)j->targets->storage->data)[j->targets->offset + at * j->targets->strides[0]];
    float rate = j->rate;
    if (j->rates) rate = ((const float *)j->rates->storage->data)[j->rates->offset + at * j->rates->strides[0]];
    if (j->losses) j->losses[i] = 0;
    if (target < 0 || rate == 0) {
      memset(row, 0, (size_t)j->n * sizeof *row);
      continue;
    }
    if (j->bias) j->rows->binary(row, MA_BINARY_add, row, 1, j->bias, 1, (size_t)j->n);
    j->rows->soften(row, j->scale, j->cap, j->dtype, (size_t)j->n);
    float loss = j->rows->loss_grad(row, j->scale * rate, j->cap, target, (size_t)j->n);
    if (j->losses) j->losses[i] = loss;
  }
}

ma_status ma_cpu_cross_entropy_grad(ma_tensor *out, const ma_tensor *logits, const ma_tensor *targets,
                                    const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  slope_job j = {.rows = ma_rows_get(), .targets = targets, .rates = g, .n = logits->shape[1], .scale = 1};
  MA_TRY(check_targets(targets, j.n, err));
  MA_TRY(ma_cpu_copy(out, logits, err));
  j.logits = ma_tensor_data(out);
  ma_parallel_for((size_t)logits->shape[0], (size_t)(16384 / (j.n + 1) + 1), slope_rows, &j);
done:
  return st;
}

static void sum_block(float *sums, const float *rows, int64_t n_rows, int64_t n) {
  for (int64_t r = 0; r < n_rows; r++)
    for (int64_t i = 0; i < n; i++) sums[i] += rows[r * n + i];
}

/* What a block of rows of logits is for: the gradients that are wanted (NULL: not), and their losses, if anybody wants these. */
typedef struct head_job {
  slope_job j;
  const ma_tensor *weight;
  ma_tensor *out, *weight_grad, *bias_grad;
  bool adds;
  double sum; /* of the losses */
} head_job;

static ma_status run_head(head_job *h, const ma_tensor *x, const ma_tensor *bias, ma_error *err) {
  /* 128 MiB of logits: enough rows for GEMM to be fast where vocabularies are large. */
  enum { BLOCK_FLOATS = 1 << 25, LEAST = 64 };
  ma_status st = MA_OK;
  slope_job *j = &h->j;
  ma_tensor in = {0}, added = {0}, whole = {0};
  float *scratch = NULL, *sums = NULL;
  const ma_tensor *weight = h->weight;
  int64_t n = x->shape[0], k = x->shape[1], vocabulary = weight->shape[0], block = BLOCK_FLOATS / (vocabulary + 1);
  j->rows = ma_rows_get();
  j->n = vocabulary;
  block = block < LEAST ? LEAST : block;
  if (block > n) block = n;
  else block = (n + (n + block - 1) / block - 1) / ((n + block - 1) / block); /* blocks of one size */
  MA_TRY(ma_blas_open(err));
  MA_TRY(check_targets(j->targets, vocabulary, err));
  MA_TRY(ma_cpu_as_f32(&in, x, err));
  if (bias) {
    MA_TRY(ma_cpu_as_f32(&added, bias, err));
    j->bias = ma_tensor_data(&added);
  }
  if (h->out && !ma_tensor_is_contiguous(h->out)) MA_TRY(ma_tensor_new_like(&whole, h->out, MA_F32, err));
  else if (h->out) whole = ma_tensor_retain(h->out);
  if (h->bias_grad) MA_TRY(MA_NEW(&sums, vocabulary, err));
  if (h->weight_grad && !h->adds && n == 0) MA_TRY(ma_cpu_fill(h->weight_grad, 0, err));
  MA_TRY(MA_NEW(&j->losses, block, err));
  MA_TRY(ma_alloc_aligned((void **)&j->logits, (size_t)(block * vocabulary) * sizeof(float), err));
  if (!ma_cpu_is_gemm_ready(weight))
    MA_TRY(ma_alloc_aligned((void **)&scratch, (size_t)(vocabulary * k) * sizeof(float), err));
  for (j->first_row = 0; j->first_row < n; j->first_row += block) {
    int64_t rows = n - j->first_row < block ? n - j->first_row : block;
    const float *from = (const float *)ma_tensor_data(&in) + j->first_row * k;
    if (ma_interrupted()) MA_TRY(ma_fail(err, MA_INTERRUPTED, "interrupted in the output head"));
    ma_cpu_times_rows(j->rows, from, k, rows, weight, 0, vocabulary, scratch, 0, j->logits, vocabulary);
    ma_parallel_for((size_t)rows, 1, slope_rows, j);
    for (int64_t r = 0; r < rows; r++) h->sum += (double)j->losses[r];
    if (h->out)
      ma_cpu_times_weight(j->rows, j->logits, vocabulary, rows, weight, scratch,
                          (float *)ma_tensor_data(&whole) + j->first_row * k, k);
    if (h->weight_grad)
      MA_TRY(ma_cpu_add_outer(h->weight_grad, j->logits, vocabulary, from, k, rows, h->adds || j->first_row > 0, err));
    if (h->bias_grad) sum_block(sums, j->logits, rows, vocabulary);
  }
  if (h->bias_grad) {
    for (int64_t i = 0; i < vocabulary; i++) {
      float *to = (float *)ma_tensor_data(h->bias_grad) + i * h->bias_grad->strides[0];
      *to = (h->adds ? *to : 0) + sums[i];
    }
  }
  if (h->out && whole.storage != h->out->storage) MA_TRY(ma_cpu_copy(h->out, &whole, err));
done:
  ma_free(j->logits);
  ma_free(j->losses);
  ma_free(scratch);
  ma_free(sums);
  ma_tensor_release(&in);
  ma_tensor_release(&added);
  ma_tensor_release(&whole);
  return st;
}

static slope_job slopes_of(const ma_tensor *targets, const ma_logits_how *how) {
  return (slope_job){
      .targets = targets, .cap = how->softcap, .scale = how->scale == 0 ? 1 : how->scale, .dtype = how->step};
}

ma_status ma_cpu_linear_cross_entropy_grad(ma_tensor *out, ma_tensor *weight_grad, ma_tensor *bias_grad, bool adds,
                                           const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                                           const ma_tensor *targets, const ma_logits_how *how, const ma_tensor *g,
                                           ma_error *err) {
  head_job h = {slopes_of(targets, how), weight, out, weight_grad, bias_grad, adds, 0};
  h.j.rates = g;
  return run_head(&h, x, bias, err);
}

ma_status ma_cpu_mean_cross_entropy(ma_tensor *out, ma_tensor *const *grads, const ma_tensor *x,
                                    const ma_tensor *weight, const ma_tensor *bias, const ma_tensor *targets,
                                    const ma_logits_how *how, ma_error *err) {
  head_job h = {slopes_of(targets, how), weight, grads[0], grads[1], grads[2], false, 0};
  int64_t count = 0;
  for (int64_t i = 0; i < targets->shape[0]; i++)
    count += ((const int64_t *)targets->storage->data)[targets->offset + i * targets->strides[0]] >= 0;
  h.j.rate = count > 0 ? (float)(1 / (double)count) : 0;
  ma_status st = run_head(&h, x, bias, err);
  if (st == MA_OK) ma_element_store(out, out->offset, h.sum / (double)count);
  return st;
}
