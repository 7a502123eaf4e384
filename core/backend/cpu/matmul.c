/* Products through BLAS.  Weights that are not f32 are widened a panel of rows at a time, next to the GEMM
 * that uses them, so that a quantised matrix never exists whole as f32. */
#include "backend/cpu/blas.h"
#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"
#include "base/threads.h"

enum { PANEL_FLOATS = 1 << 20 }; /* 4 MiB: stays in the second- and third-level caches */

/* ---- weights ---- */

/* Whether the dim that is `outer` steps over whole rows of the other: BLAS knows no rows that overlap. */
static bool is_matrix(const ma_tensor *w, int outer) {
  return w->strides[1 - outer] == 1 && (w->strides[outer] >= w->shape[1 - outer] || w->shape[outer] == 1);
}

bool ma_cpu_is_gemm_ready(const ma_tensor *w) {
  return w->dtype == MA_F32 && w->n_dims == 2 && (is_matrix(w, 0) || is_matrix(w, 1));
}

static ma_matrix transposed_weight(const ma_tensor *w, int64_t first) {
  const float *data = (const float *)ma_tensor_data(w) + first * w->strides[0];
  /* [N K] with contiguous rows is read transposed; GPT-2's [K N], seen as [N K], as it lies. */
  if (is_matrix(w, 0)) return (ma_matrix){data, w->shape[0] == 1 ? w->shape[1] : w->strides[0], true};
  return (ma_matrix){data, w->shape[1] == 1 ? w->shape[0] : w->strides[1], false};
}

typedef struct widening {
  const ma_rows *rows;
  const ma_tensor *weight;
  int64_t first, k;
  float *out;
} widening;

/* Element offset of row `index` of a weight whose leading dims may be split. */
static int64_t row_offset(const ma_tensor *w, int64_t index) {
  int64_t at = w->offset;
  for (int d = w->n_dims - 2; d >= 0; d--) {
    at += index % w->shape[d] * w->strides[d];
    index /= w->shape[d];
  }
  return at;
}

static void widen_rows(void *self, size_t from, size_t to) {
  widening *j = self;
  for (size_t i = from; i < to; i++) {
    float *row = j->out + (int64_t)i * j->k;
    int64_t at = row_offset(j->weight, j->first + (int64_t)i);
    const float *got =
        ma_row_load_whole(j->rows, row, j->weight, at, j->weight->strides[j->weight->n_dims - 1], (size_t)j->k);
    if (got != row)
      for (int64_t e = 0; e < j->k; e++) row[e] = got[e];
  }
}

void ma_cpu_times_rows(const ma_rows *rows, const float *x, int64_t x_step, int64_t m, const ma_tensor *w,
                       int64_t first, int64_t n, float *scratch, float beta, float *c, int64_t c_step) {
  int64_t k = w->shape[w->n_dims - 1];
  ma_matrix right;
  if (ma_cpu_is_gemm_ready(w)) {
    right = transposed_weight(w, first);
  } else {
    widening job = {rows, w, first, k, scratch};
    ma_parallel_for((size_t)n, (size_t)(16384 / (k + 1) + 1), widen_rows, &job);
    right = (ma_matrix){scratch, k, true};
  }
  ma_sgemm(m, n, k, 1, (ma_matrix){x, x_step, false}, right, beta, c, c_step);
}

/* ---- linear ---- */

typedef struct bias_job {
  float *out;
  const float *bias;
  int64_t n;
} bias_job;

static void put_bias(void *self, size_t from, size_t to) {
  bias_job *j = self;
  for (size_t i = from; i < to; i++) {
    float *row = j->out + (int64_t)i * j->n;
    for (int64_t e = 0; e < j->n; e++) row[e] = j->bias[e];
  }
}

ma_status ma_cpu_linear(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                        ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor in = {0}, added = {0}, wide = {0};
  float *scratch = NULL;
  int64_t k = x->shape[x->n_dims - 1], n = out->shape[out->n_dims - 1];
  int64_t m = n > 0 ? ma_tensor_count(out) / n : 0, panel = n;
  MA_TRY(ma_blas_open(err));
  MA_TRY(ma_cpu_out_f32(&wide, out, err));
  float *c = ma_tensor_data(&wide);
  MA_TRY(ma_cpu_as_f32(&in, x, err));
  if (!ma_cpu_is_gemm_ready(weight)) {
    panel = PANEL_FLOATS / (k > 0 ? k : 1) + 1;
    if (panel > n) panel = n;
    MA_TRY(ma_alloc_aligned((void **)&scratch, (size_t)(panel * k) * sizeof(float), err));
  }
  if (bias) {
    MA_TRY(ma_cpu_as_f32(&added, bias, err));
    bias_job job = {c, ma_tensor_data(&added), n};
    ma_parallel_for((size_t)m, (size_t)(16384 / (n + 1) + 1), put_bias, &job);
  }
  for (int64_t first = 0; first < n; first += panel) {
    int64_t width = n - first < panel ? n - first : panel;
    ma_cpu_times_rows(ma_rows_get(), ma_tensor_data(&in), k, m, weight, first, width, scratch, bias ? 1 : 0, c + first,
                      n);
  }
  MA_TRY(ma_cpu_put_f32(out, &wide, err));
done:
  ma_free(scratch);
  ma_tensor_release(&in);
  ma_tensor_release(&added);
  ma_tensor_release(&wide);
  return st;
}

/* ---- gradients of linear ---- */

int64_t ma_cpu_panel(const ma_tensor *weight) {
  int64_t k = weight->shape[weight->n_dims - 1], n = k > 0 ? ma_tensor_count(weight) / k : 0;
  int64_t panel = PANEL_FLOATS / (k > 0 ? k : 1) + 1;
  return ma_cpu_is_gemm_ready(weight) || panel > n ? n : panel;
}

void ma_cpu_times_weight(const ma_rows *rows, const float *g, int64_t g_step, int64_t m, const ma_tensor *weight,
                         float *scratch, float *out, int64_t out_step) {
  int64_t k = weight->shape[weight->n_dims - 1], n = ma_tensor_count(weight) / k, panel = ma_cpu_panel(weight);
  for (int64_t first = 0; first < n; first += panel) {
    int64_t width = n - first < panel ? n - first : panel;
    ma_matrix right;
    if (ma_cpu_is_gemm_ready(weight)) {
      right = transposed_weight(weight, first);
      right.is_transposed = !right.is_transposed;
    } else {
      widening job = {rows, weight, first, k, scratch};
      ma_parallel_for((size_t)width, (size_t)(16384 / (k + 1) + 1), widen_rows, &job);
      right = (ma_matrix){scratch, k, false};
    }
    ma_sgemm(m, k, width, 1, (ma_matrix){g + first, g_step, false}, right, first ? 1 : 0, out, out_step);
  }
}

ma_status ma_cpu_linear_grad_x(ma_tensor *out, const ma_tensor *g, const ma_tensor *weight, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor in = {0}, whole = {0};
  float *scratch = NULL;
  int64_t n = g->shape[g->n_dims - 1], k = out->shape[out->n_dims - 1];
  MA_TRY(ma_blas_open(err));
  if (n == 0 || k == 0) MA_TRY(ma_cpu_fill(out, 0, err));
  if (n == 0 || k == 0) goto done;
  MA_TRY(ma_cpu_as_f32(&in, g, err));
  if (ma_tensor_is_contiguous(out)) whole = ma_tensor_retain(out);
  else MA_TRY(ma_tensor_new_like(&whole, out, MA_F32, err));
  if (!ma_cpu_is_gemm_ready(weight))
    MA_TRY(ma_alloc_aligned((void **)&scratch, (size_t)(ma_cpu_panel(weight) * k) * sizeof(float), err));
  ma_cpu_times_weight(ma_rows_get(), ma_tensor_data(&in), n, ma_tensor_count(out) / k, weight, scratch,
                      ma_tensor_data(&whole), k);
  if (whole.storage != out->storage) MA_TRY(ma_cpu_copy(out, &whole, err));
done:
  ma_free(scratch);
  ma_tensor_release(&in);
  ma_tensor_release(&whole);
  return st;
}

ma_status ma_cpu_add_outer(ma_tensor *out, const float *g, int64_t g_step, const float *x, int64_t x_step, int64_t m,
                           bool adds, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor whole = {0};
  int64_t n = out->shape[0], k = out->shape[1];
  float beta = adds ? 1 : 0;
  ma_matrix gs = {g, g_step, true}, xs = {x, x_step, false};
  if (is_matrix(out, 0)) {
    ma_sgemm(n, k, m, 1, gs, xs, beta, ma_tensor_data(out), n == 1 ? k : out->strides[0]);
  } else if (is_matrix(out, 1)) { /* lies transposed, as GPT-2's do */
    gs.is_transposed = false;
    xs.is_transposed = true;
    ma_sgemm(k, n, m, 1, xs, gs, beta, ma_tensor_data(out), k == 1 ? n : out->strides[1]);
  } else {
    MA_TRY(ma_tensor_new_like(&whole, out, MA_F32, err));
    ma_sgemm(n, k, m, 1, gs, xs, 0, ma_tensor_data(&whole), k);
    if (adds) MA_TRY(ma_cpu_binary(out, MA_BINARY_add, out, &whole, err));
    else MA_TRY(ma_cpu_copy(out, &whole, err));
  }
done:
  ma_tensor_release(&whole);
  return st;
}

ma_status ma_cpu_linear_grad_weight(ma_tensor *out, const ma_tensor *g, const ma_tensor *x, bool adds, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor left = {0}, right = {0};
  int64_t n = out->shape[0], k = out->shape[1], m = k > 0 ? ma_tensor_count(x) / k : 0;
  MA_TRY(ma_blas_open(err));
  MA_TRY(ma_cpu_as_f32(&left, g, err));
  MA_TRY(ma_cpu_as_f32(&right, x, err));
  if (m == 0 && !adds) MA_TRY(ma_cpu_fill(out, 0, err));
  if (m > 0) MA_TRY(ma_cpu_add_outer(out, ma_tensor_data(&left), n, ma_tensor_data(&right), k, m, adds, err));
done:
  ma_tensor_release(&left);
  ma_tensor_release(&right);
  return st;
}

/* Columns are shared out, so that each is summed in the order of the rows. */
typedef struct sum_job {
  const float *a;
  float *out;
  int64_t m, n, step;
} sum_job;

static void sum_columns(void *self, size_t from, size_t to) {
  const sum_job *j = self;
  for (size_t i = from; i < to; i++) {
    enum { COLUMNS = 64, ROWS = 256 };
    int64_t first = (int64_t)i * COLUMNS, n = j->n - first < COLUMNS ? j->n - first : COLUMNS;
    float total[COLUMNS] = {0};
    for (int64_t top = 0; top < j->m; top += ROWS) {
      int64_t end = j->m - top < ROWS ? j->m : top + ROWS;
      float part[COLUMNS] = {0};
      for (int64_t r = top; r < end; r++)
        for (int64_t c = 0; c < n; c++) part[c] += j->a[r * j->n + first + c];
      for (int64_t c = 0; c < n; c++) total[c] += part[c];
    }
    for (int64_t c = 0; c < n; c++) j->out[(first + c) * j->step] += total[c];
  }
}

ma_status ma_cpu_sum_rows(ma_tensor *out, const ma_tensor *a, bool adds, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor in = {0};
  int64_t n = out->shape[0];
  sum_job j = {.out = ma_tensor_data(out), .n = n, .step = out->strides[0], .m = n > 0 ? ma_tensor_count(a) / n : 0};
  MA_TRY(ma_cpu_as_f32(&in, a, err));
  if (!adds) MA_TRY(ma_cpu_fill(out, 0, err));
  j.a = ma_tensor_data(&in);
  ma_parallel_for((size_t)((n + 63) / 64), (size_t)(32768 / (64 * j.m + 1) + 1), sum_columns, &j);
done:
  ma_tensor_release(&in);
  return st;
}

/* ---- matmul ---- */

ma_status ma_cpu_matmul(ma_tensor *out, const ma_tensor *a, const ma_tensor *b, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor left = {0}, right = {0}, whole = {0};
  int n_batch = out->n_dims - 2;
  int64_t m = out->shape[n_batch], n = out->shape[n_batch + 1], k = a->shape[a->n_dims - 1];
  ma_walk walk;
  MA_TRY(ma_blas_open(err));
  MA_TRY(ma_cpu_as_f32(&left, a, err));
  MA_TRY(ma_cpu_as_f32(&right, b, err));
  if (ma_tensor_is_contiguous(out)) whole = ma_tensor_retain(out);
  else MA_TRY(ma_tensor_new_like(&whole, out, MA_F32, err));
  /* Walks the batch dims alone: what is left of each tensor is its matrix. */
  ma_tensor batch[3] = {whole, left, right};
  for (int i = 0; i < 3; i++) batch[i].n_dims -= 2;
  ma_walk_begin(&walk, 3, (const ma_tensor *const[]){&batch[0], &batch[1], &batch[2]});
  for (int64_t row = 0; row < walk.outer; row++) {
    int64_t at[3];
    ma_walk_row(&walk, row, at);
    for (int64_t i = 0; i < walk.inner; i++) {
      const float *x = (const float *)left.storage->data + at[1] + i * walk.inner_stride[1];
      const float *y = (const float *)right.storage->data + at[2] + i * walk.inner_stride[2];
      float *z = (float *)whole.storage->data + at[0] + i * walk.inner_stride[0];
      ma_sgemm(m, n, k, 1, (ma_matrix){x, k > 0 ? k : 1, false}, (ma_matrix){y, n, false}, 0, z, n);
    }
  }
  if (whole.storage != out->storage) MA_TRY(ma_cpu_copy(out, &whole, err));
done:
  ma_tensor_release(&left);
  ma_tensor_release(&right);
  ma_tensor_release(&whole);
  return st;
}
