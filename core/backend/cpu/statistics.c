/* The statistics of a probe.  The median is exact, by radix select on the bits of |a|: as integers they are
 * ordered like the numbers.  One pass counts the top 12 of 31 bits, a second collects the one bucket that holds
 * the median, and the rest is done within it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"
#include "base/threads.h"
#include "tensor/half.h"

enum { TOP_BITS = 12, REST_BITS = 31 - TOP_BITS, N_BUCKETS = 1 << TOP_BITS, SHARE = 1 << 15 };

typedef struct stats_job {
  const ma_rows *rows;
  const float *a;
  size_t n;
  uint32_t *counts; /* N_BUCKETS a thread */
  int n_top;
  ma_stats *tops; /* one a share: top_index and top_value only */
} stats_job;

static uint32_t magnitude_bits(float x) { return ma_f32_bits(x) & 0x7FFFFFFFu; }

/* ---- median ---- */

static void count_buckets(void *self, size_t from, size_t to) {
  stats_job *j = self;
  uint32_t *counts = j->counts + (size_t)ma_thread_index() * N_BUCKETS;
  for (size_t i = from; i < to; i++) counts[magnitude_bits(j->a[i]) >> REST_BITS]++;
}

static int by_bits(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

/* The rank-th smallest of `n` numbers below 2^REST_BITS, by a histogram of their upper bits and a sort of the
 * few that share them. */
static uint32_t select_bits(uint32_t *bits, size_t n, size_t rank) {
  enum { UPPER = 1 << 10, LOWER_BITS = REST_BITS - 10 };
  uint32_t counts[UPPER] = {0}, bucket = 0;
  for (size_t i = 0; i < n; i++) counts[bits[i] >> LOWER_BITS]++;
  for (; rank >= counts[bucket]; bucket++) rank -= counts[bucket];
  size_t kept = 0;
  for (size_t i = 0; i < n; i++)
    if (bits[i] >> LOWER_BITS == bucket) bits[kept++] = bits[i];
  qsort(bits, kept, sizeof *bits, by_bits);
  return bits[rank];
}

static ma_status median(double *out, stats_job *j, ma_error *err) {
  ma_status st = MA_OK;
  size_t n_threads = (size_t)ma_threads(), rank = (j->n - 1) / 2, kept = 0;
  uint32_t *bits = NULL, bucket = 0, size;
  MA_TRY(MA_NEW(&j->counts, n_threads * N_BUCKETS, err));
  ma_parallel_for(j->n, SHARE, count_buckets, j);
  for (;; bucket++) {
    size = 0;
    for (size_t t = 0; t < n_threads; t++) size += j->counts[t * N_BUCKETS + bucket];
    if (rank < size) break;
    rank -= size;
  }
  MA_TRY(ma_alloc_aligned((void **)&bits, ((size_t)size + 1) * sizeof *bits, err));
  /* Written without a branch: whether an element is kept is a coin toss to the predictor. */
  for (size_t i = 0; i < j->n; i++) {
    uint32_t b = magnitude_bits(j->a[i]);
    bits[kept] = b & ((1u << REST_BITS) - 1);
    kept += b >> REST_BITS == bucket;
  }
  *out = (double)ma_f32_of_bits(bucket << REST_BITS | select_bits(bits, kept, rank));
done:
  ma_free(j->counts);
  ma_free(bits);
  return st;
}

/* ---- the largest ---- */

/* Puts |x| in order among the n_top; earlier elements win ties. */
static void insert_top(ma_stats *top, int n_top, float x, int64_t index) {
  int at = top->n_top < n_top ? top->n_top++ : n_top - 1;
  while (at > 0 && fabs(top->top_value[at - 1]) < (double)fabsf(x)) {
    top->top_value[at] = top->top_value[at - 1];
    top->top_index[at] = top->top_index[at - 1];
    at--;
  }
  top->top_value[at] = (double)x;
  top->top_index[at] = index;
}

static void top_shares(void *self, size_t from, size_t to) {
  enum { STRETCH = 512 };
  stats_job *j = self;
  for (size_t share = from; share < to; share++) {
    ma_stats *top = &j->tops[share];
    size_t end = (share + 1) * SHARE < j->n ? (share + 1) * SHARE : j->n;
    for (size_t first = share * SHARE; first < end; first += STRETCH) {
      size_t n = end - first < STRETCH ? end - first : STRETCH;
      double least = top->n_top < j->n_top ? -1 : fabs(top->top_value[j->n_top - 1]);
      if ((double)j->rows->max_abs(j->a + first, n) <= least) continue;
      for (size_t i = first; i < first + n; i++) {
        bool is_full = top->n_top == j->n_top;
        if (j->a[i] == j->a[i] && (!is_full || (double)fabsf(j->a[i]) > fabs(top->top_value[j->n_top - 1])))
          insert_top(top, j->n_top, j->a[i], (int64_t)i);
      }
    }
  }
}

static ma_status find_top(ma_stats *out, stats_job *j, ma_error *err) {
  size_t n_shares = (j->n + SHARE - 1) / SHARE;
  ma_status st = MA_NEW(&j->tops, n_shares, err);
  if (st != MA_OK) return st;
  ma_parallel_for(n_shares, 1, top_shares, j);
  for (size_t s = 0; s < n_shares; s++)
    for (int i = 0; i < j->tops[s].n_top; i++) {
      float x = (float)j->tops[s].top_value[i];
      bool is_full = out->n_top == j->n_top;
      if (!is_full || (double)fabsf(x) > fabs(out->top_value[j->n_top - 1]))
        insert_top(out, j->n_top, x, j->tops[s].top_index[i]);
    }
  ma_free(j->tops);
  return MA_OK;
}

/* ---- sums ---- */

static void sums(ma_stats *out, const stats_job *j, unsigned wanted) {
  const double f16_limit = 65520; /* rounds to infinity from here on */
  double sum = 0, n = (double)j->n, second = 0, fourth = 0;
  out->min = INFINITY;
  out->max = -INFINITY;
  for (size_t i = 0; i < j->n; i++) {
    double x = (double)j->a[i], magnitude = fabs(x);
    sum += x;
    out->l1 += magnitude;
    out->l2 += x * x;
    if (x < out->min) out->min = x;
    if (x > out->max) out->max = x;
    bool is_finite = magnitude < INFINITY;
    out->n_nonfinite += !is_finite;
    out->n_over_f16 += is_finite && magnitude >= f16_limit;
  }
  out->l2 = sqrt(out->l2);
  out->mean = sum / n;
  if (!(wanted & MA_STAT_MOMENTS)) return;
  for (size_t i = 0; i < j->n; i++) {
    double x = (double)j->a[i] - out->mean, squared = x * x;
    second += squared;
    fourth += squared * squared;
  }
  out->std = sqrt(second / n);
  out->kurtosis = second > 0 ? fourth * n / (second * second) : NAN;
}

ma_status ma_cpu_statistics(ma_stats *out, const ma_tensor *a, unsigned wanted, int n_top, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor whole = {0};
  stats_job j = {.rows = ma_rows_get(), .n_top = n_top};
  *out = (ma_stats){.count = ma_tensor_count(a)};
  MA_TRY(ma_cpu_as_f32(&whole, a, err));
  j.a = ma_tensor_data(&whole);
  j.n = (size_t)out->count;
  if ((wanted & MA_STAT_TOP) && n_top > 0) MA_TRY(find_top(out, &j, err));
  if (wanted & MA_STAT_MEDIAN) MA_TRY(median(&out->median, &j, err));
  if (wanted & (MA_STAT_MOMENTS | MA_STAT_NORMS | MA_STAT_NONFINITE | MA_STAT_EXTREMES)) sums(out, &j, wanted);
done:
  ma_tensor_release(&whole);
  return st;
}
