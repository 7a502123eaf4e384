/* Row operations: one row is one token's vector (or one row of scores). */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"
#include "base/threads.h"

typedef struct row_job {
  const ma_rows *rows;
  const ma_tensor *in[2];
  ma_tensor *out;
  int64_t length, stride[3]; /* of the last dim: out, in 0, in 1 */
  ma_walk walk;              /* over the rows */
  const float *weight, *bias;
  float eps, offset, alpha;
  int kind;
  float *scratch;            /* two rows a thread */
  void (*one)(const struct row_job *, float *, const float *, const float *);
} row_job;

/* A walk over all dims but the last, row starts only. */
static void walk_rows(row_job *j) {
  ma_tensor starts[3] = {*j->out, *j->in[0], *(j->in[1] ? j->in[1] : j->in[0])};
  int last = j->out->n_dims - 1;
  for (int i = 0; i < 3; i++) {
    j->stride[i] = starts[i].strides[last];
    starts[i].n_dims = last;
  }
  ma_walk_begin(&j->walk, 3, (const ma_tensor *const[]){&starts[0], &starts[1], &starts[2]});
}

static void do_rows(void *self, size_t from, size_t to) {
  const row_job *j = self;
  float *mine = j->scratch + 3 * j->length * ma_thread_index();
  size_t n = (size_t)j->length;
  for (size_t i = from; i < to; i++) {
    int64_t at[3];
    ma_walk_row(&j->walk, (int64_t)i / j->walk.inner, at);
    for (int t = 0; t < 3; t++) at[t] += (int64_t)i % j->walk.inner * j->walk.inner_stride[t];
    const float *a = ma_row_load_whole(j->rows, mine, j->in[0], at[1], j->stride[1], n);
    const float *b = j->in[1] ? ma_row_load_whole(j->rows, mine + n, j->in[1], at[2], j->stride[2], n) : NULL;
    bool direct = j->out->dtype == MA_F32 && j->stride[0] == 1;
    float *to_row = direct ? (float *)j->out->storage->data + at[0] : mine + 2 * n;
    j->one(j, to_row, a, b);
    if (!direct) ma_row_store(j->rows, j->out, at[0], j->stride[0], to_row, n);
  }
}

static ma_status run(row_job *j, ma_error *err) {
  j->rows = ma_rows_get();
  j->length = j->out->shape[j->out->n_dims - 1];
  if (ma_tensor_count(j->out) == 0) return MA_OK;
  ma_status st = ma_alloc_aligned((void **)&j->scratch,
                                  (size_t)ma_threads() * 3 * (size_t)j->length * sizeof(float), err);
  if (st != MA_OK) return st;
  walk_rows(j);
  ma_parallel_for((size_t)(j->walk.outer * j->walk.inner), (size_t)(8192 / j->length + 1), do_rows, j);
  ma_free(j->scratch);
  return MA_OK;
}

/* Parameters as contiguous f32, or NULL. */
static ma_status parameter(const float **out, ma_tensor *held, const ma_tensor *t, ma_error *err) {
  *out = NULL;
  if (!t) return MA_OK;
  ma_status st = ma_cpu_as_f32(held, t, err);
  if (st == MA_OK) *out = ma_tensor_data(held);
  return st;
}

/* ---- softmax ---- */

static void one_softmax(const row_job *j, float *out, const float *a, const float *b) {
  (void)b;
  j->rows->softmax(out, a, (size_t)j->length);
}

static void one_log_softmax(const row_job *j, float *out, const float *a, const float *b) {
  (void)b;
  size_t n = (size_t)j->length;
  float most = j->rows->max(a, n), shift = most + logf(j->rows->sum_exp(a, most, n));
  j->rows->binary(out, MA_BINARY_sub, a, 1, &shift, 0, n);
}

ma_status ma_cpu_softmax(ma_tensor *out, const ma_tensor *a, bool is_log, ma_error *err) {
  row_job j = {.in = {a}, .out = out, .one = is_log ? one_log_softmax : one_softmax};
  return run(&j, err);
}

/* ---- norms ---- */

static void one_rms_norm(const row_job *j, float *out, const float *a, const float *b) {
  (void)b;
  j->rows->rms_norm(out, a, j->weight, j->eps, j->offset, (size_t)j->length);
}

static void one_layer_norm(const row_job *j, float *out, const float *a, const float *b) {
  (void)b;
  j->rows->layer_norm(out, a, j->weight, j->bias, j->eps, j->offset, (size_t)j->length);
}

static void one_dyt(const row_job *j, float *out, const float *a, const float *b) {
  (void)b;
  j->rows->dyt(out, a, j->alpha, j->weight, j->bias, (size_t)j->length);
}

static ma_status run_norm(row_job *j, const ma_tensor *weight, const ma_tensor *bias, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor w = {0}, b = {0};
  MA_TRY(parameter(&j->weight, &w, weight, err));
  MA_TRY(parameter(&j->bias, &b, bias, err));
  MA_TRY(run(j, err));
done:
  ma_tensor_release(&w);
  ma_tensor_release(&b);
  return st;
}

ma_status ma_cpu_rms_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, double eps,
                          double offset, ma_error *err) {
  row_job j = {.in = {x}, .out = out, .one = one_rms_norm, .eps = (float)eps, .offset = (float)offset};
  return run_norm(&j, weight, NULL, err);
}

ma_status ma_cpu_layer_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight,
                            const ma_tensor *bias, double eps, double offset, ma_error *err) {
  row_job j = {.in = {x}, .out = out, .one = one_layer_norm, .eps = (float)eps, .offset = (float)offset};
  return run_norm(&j, weight, bias, err);
}

ma_status ma_cpu_dyt(ma_tensor *out, const ma_tensor *x, const ma_tensor *alpha, const ma_tensor *weight,
                     const ma_tensor *bias, ma_error *err) {
  row_job j = {.in = {x}, .out = out, .one = one_dyt, .alpha = (float)ma_element_load(alpha, alpha->offset)};
  return run_norm(&j, weight, bias, err);
}

/* ---- gated activations ---- */

static void one_gated(const row_job *j, float *out, const float *a, const float *b) {
  j->rows->gated(out, (ma_unary_kind)j->kind, a, b, (size_t)j->length);
}

ma_status ma_cpu_gated(ma_tensor *out, ma_unary_kind activation, const ma_tensor *gate, const ma_tensor *up,
                       ma_error *err) {
  row_job j = {.in = {gate, up}, .out = out, .one = one_gated, .kind = (int)activation};
  return run(&j, err);
}
