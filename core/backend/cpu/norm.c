/* Row operations: one row is one token's vector (or one row of scores). */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"
#include "base/threads.h"

enum { BLOCK = 256 }; /* elements that steps of an activation keep on the stack */

typedef struct row_job {
  const ma_rows *rows;
  const ma_tensor *in[2];
  ma_tensor *out;
  ma_tensor *sum;            /* in 0, which in 1 is added to before anything else; or NULL */
  int64_t length, stride[3]; /* of the last dim: out, in 0, in 1 */
  ma_walk walk;              /* over the rows */
  const float *weight, *bias;
  float eps, offset, alpha;
  ma_dtype step;
  int kind;
  bool is_eager;
  float *scratch; /* three rows a thread */
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

/* A row of in 0, `a`, becomes a + b, in its own type; `room` has space for it. */
static const float *add_row(const row_job *j, float *room, int64_t at, const float *a, const float *b) {
  bool direct = j->sum->dtype == MA_F32 && j->stride[1] == 1;
  float *to = direct ? (float *)j->sum->storage->data + at : room;
  j->rows->binary(to, MA_BINARY_add, a, 1, b, 1, (size_t)j->length);
  if (j->sum->dtype != MA_F32) j->rows->round_to(to, to, j->sum->dtype, (size_t)j->length);
  if (!direct) ma_row_store(j->rows, j->sum, at, j->stride[1], to, (size_t)j->length);
  return to;
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
    if (j->sum) a = add_row(j, mine, at[1], a, b);
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
  ma_status st =
      ma_alloc_aligned((void **)&j->scratch, (size_t)ma_threads() * 3 * (size_t)j->length * sizeof(float), err);
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
  size_t n = (size_t)j->length;
  if (j->step == MA_F32 || !j->weight) {
    j->rows->rms_norm(out, a, j->weight, j->eps, j->offset, n);
    return;
  }
  float offset = j->offset;
  j->rows->rms_norm(out, a, NULL, j->eps, 0, n);
  j->rows->round_to(out, out, j->step, n);
  for (size_t i = 0; i < n; i++) out[i] *= offset + j->weight[i];
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

static row_job norm_job(ma_tensor *out, const ma_tensor *x, const ma_norm_how *how) {
  return (row_job){.in = {x}, .out = out, .eps = (float)how->eps, .offset = (float)how->offset, .step = how->step};
}

ma_status ma_cpu_rms_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_norm_how *how,
                          ma_error *err) {
  row_job j = norm_job(out, x, how);
  j.one = one_rms_norm;
  return run_norm(&j, weight, NULL, err);
}

ma_status ma_cpu_layer_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                            const ma_norm_how *how, ma_error *err) {
  row_job j = norm_job(out, x, how);
  j.one = one_layer_norm;
  return run_norm(&j, weight, bias, err);
}

ma_status ma_cpu_add_rms_norm(ma_tensor *out, ma_tensor *x, const ma_tensor *more, const ma_tensor *weight,
                              const ma_norm_how *how, ma_error *err) {
  row_job j = norm_job(out, x, how);
  j.one = one_rms_norm;
  j.in[1] = more;
  j.sum = x;
  return run_norm(&j, weight, NULL, err);
}

ma_status ma_cpu_add_layer_norm(ma_tensor *out, ma_tensor *x, const ma_tensor *more, const ma_tensor *weight,
                                const ma_tensor *bias, const ma_norm_how *how, ma_error *err) {
  row_job j = norm_job(out, x, how);
  j.one = one_layer_norm;
  j.in[1] = more;
  j.sum = x;
  return run_norm(&j, weight, bias, err);
}

ma_status ma_cpu_dyt(ma_tensor *out, const ma_tensor *x, const ma_tensor *alpha, const ma_tensor *weight,
                     const ma_tensor *bias, ma_error *err) {
  row_job j = {.in = {x}, .out = out, .one = one_dyt, .alpha = (float)ma_element_load(alpha, alpha->offset)};
  return run_norm(&j, weight, bias, err);
}

/* ---- gated activations ---- */

/* gelu_tanh as transformers' gelu_new has it in Python, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), where every operation
 * rounds, but for the square of f16 (torch's pow); x and out may be one. */
static void gelu_eager(const ma_rows *r, float *out, const float *x, ma_dtype step, size_t n) {
  float t[BLOCK];
  const float half = 0.5f, one = 1, cubic = 0.044715f, inner = (float)sqrt(2 / acos(-1.0));
  r->binary(t, MA_BINARY_mul, x, 1, x, 1, n);
  if (step == MA_BF16) r->round_to(t, t, step, n);
  r->binary(t, MA_BINARY_mul, t, 1, x, 1, n);
  r->round_to(t, t, step, n);
  r->binary(t, MA_BINARY_mul, t, 1, &cubic, 0, n);
  r->round_to(t, t, step, n);
  r->binary(t, MA_BINARY_add, t, 1, x, 1, n);
  r->round_to(t, t, step, n);
  r->binary(t, MA_BINARY_mul, t, 1, &inner, 0, n);
  r->round_to(t, t, step, n);
  r->unary(t, MA_UNARY_tanh, t, n);
  r->round_to(t, t, step, n);
  r->binary(t, MA_BINARY_add, t, 1, &one, 0, n);
  r->round_to(t, t, step, n);
  r->binary(out, MA_BINARY_mul, x, 1, &half, 0, n);
  r->round_to(out, out, step, n);
  r->binary(out, MA_BINARY_mul, out, 1, t, 1, n);
}

static void one_gated(const row_job *j, float *out, const float *a, const float *b) {
  const ma_rows *r = j->rows;
  ma_unary_kind kind = (ma_unary_kind)j->kind;
  bool is_eager = j->is_eager && kind == MA_UNARY_gelu_tanh;
  if (j->step == MA_F32) {
    if (b) r->gated(out, kind, a, b, (size_t)j->length);
    else r->unary(out, kind, a, (size_t)j->length);
    return;
  }
  for (size_t i = 0, n; i < (size_t)j->length; i += n) {
    float f[BLOCK];
    n = (size_t)j->length - i < BLOCK ? (size_t)j->length - i : BLOCK;
    if (is_eager) gelu_eager(r, f, a + i, j->step, n);
    else r->unary(f, kind, a + i, n);
    r->round_to(f, f, j->step, n);
    if (b) r->binary(out + i, MA_BINARY_mul, f, 1, b + i, 1, n);
    else memcpy(out + i, f, n * sizeof *f);
  }
}

ma_status ma_cpu_gated(ma_tensor *out, const ma_tensor *gate, const ma_tensor *up, const ma_gated_how *how,
                       ma_error *err) {
  row_job j = {.in = {gate, up},
               .out = out,
               .one = one_gated,
               .kind = (int)how->activation,
               .step = how->step,
               .is_eager = how->is_eager};
  return run(&j, err);
}

/* ---- gradients ---- */

enum { MAX_PARTS = 64 };

/* Rows in parts, each with sums of its own for the parameters, which are added up in order: what comes out does not depend on
 * the number of threads. */
typedef struct grad_job {
  const ma_rows *rows;
  const float *x, *g, *weight;
  float *out, *sums, *alpha_sums; /* [n_parts D] or NULL, [n_parts] */
  int64_t n_rows, length, n_parts;
  float eps, offset, alpha;
  float (*one)(const struct grad_job *, float *out, float *sums, const float *x, const float *g);
} grad_job;

static void do_parts(void *self, size_t from, size_t to) {
  const grad_job *j = self;
  for (int64_t part = (int64_t)from; part < (int64_t)to; part++) {
    float *sums = j->sums ? j->sums + part * j->length : NULL;
    double alpha = 0;
    for (int64_t r = j->n_rows * part / j->n_parts; r < j->n_rows * (part + 1) / j->n_parts; r++)
      alpha += (double)j->one(j, j->out + r * j->length, sums, j->x + r * j->length, j->g + r * j->length);
    if (j->alpha_sums) j->alpha_sums[part] = (float)alpha;
  }
}

static ma_status add_parts(ma_tensor *out, const float *sums, int64_t n_parts, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor whole = {0};
  int64_t n = ma_tensor_count(out);
  MA_TRY(ma_tensor_new_like(&whole, out, MA_F32, err));
  float *to = ma_tensor_data(&whole);
  for (int64_t i = 0; i < n; i++) to[i] = 0;
  for (int64_t p = 0; p < n_parts; p++)
    for (int64_t i = 0; i < n; i++) to[i] += sums[p * n + i];
  MA_TRY(ma_cpu_copy(out, &whole, err));
done:
  ma_tensor_release(&whole);
  return st;
}

static ma_status run_grad(grad_job *j, ma_tensor *out, ma_tensor *weight_grad, ma_tensor *alpha_grad,
                          const ma_tensor *x, const ma_tensor *weight, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor xs = {0}, gs = {0}, w = {0}, whole = {0};
  j->rows = ma_rows_get();
  j->length = x->shape[x->n_dims - 1];
  j->n_rows = j->length > 0 ? ma_tensor_count(x) / j->length : 0;
  j->n_parts = j->n_rows < MAX_PARTS ? j->n_rows : MAX_PARTS;
  MA_TRY(ma_cpu_as_f32(&xs, x, err));
  MA_TRY(ma_cpu_as_f32(&gs, g, err));
  MA_TRY(parameter(&j->weight, &w, weight, err));
  if (ma_tensor_is_contiguous(out)) whole = ma_tensor_retain(out);
  else MA_TRY(ma_tensor_new_like(&whole, out, MA_F32, err));
  if (weight_grad) MA_TRY(MA_NEW(&j->sums, j->n_parts * j->length, err));
  if (alpha_grad) MA_TRY(MA_NEW(&j->alpha_sums, j->n_parts, err));
  j->x = ma_tensor_data(&xs);
  j->g = ma_tensor_data(&gs);
  j->out = ma_tensor_data(&whole);
  ma_parallel_for((size_t)j->n_parts, (size_t)(8192 / (j->n_rows / MAX_PARTS * j->length + 1) + 1), do_parts, j);
  if (weight_grad) MA_TRY(add_parts(weight_grad, j->sums, j->n_parts, err));
  if (alpha_grad) MA_TRY(add_parts(alpha_grad, j->alpha_sums, j->n_parts, err));
  if (whole.storage != out->storage) MA_TRY(ma_cpu_copy(out, &whole, err));
done:
  ma_free(j->sums);
  ma_free(j->alpha_sums);
  ma_tensor_release(&xs);
  ma_tensor_release(&gs);
  ma_tensor_release(&w);
  ma_tensor_release(&whole);
  return st;
}

static float rms_norm_slope(const grad_job *j, float *out, float *sums, const float *x, const float *g) {
  j->rows->rms_norm_grad(out, sums, x, j->weight, g, j->eps, j->offset, (size_t)j->length);
  return 0;
}

static float layer_norm_slope(const grad_job *j, float *out, float *sums, const float *x, const float *g) {
  j->rows->layer_norm_grad(out, sums, x, j->weight, g, j->eps, j->offset, (size_t)j->length);
  return 0;
}

static float dyt_slope(const grad_job *j, float *out, float *sums, const float *x, const float *g) {
  return j->rows->dyt_grad(out, sums, x, j->alpha, j->weight, g, (size_t)j->length);
}

ma_status ma_cpu_rms_norm_grad(ma_tensor *out, ma_tensor *weight_grad, const ma_tensor *x, const ma_tensor *weight,
                               const ma_tensor *g, double eps, double offset, ma_error *err) {
  grad_job j = {.one = rms_norm_slope, .eps = (float)eps, .offset = (float)offset};
  return run_grad(&j, out, weight_grad, NULL, x, weight, g, err);
}

ma_status ma_cpu_layer_norm_grad(ma_tensor *out, ma_tensor *weight_grad, const ma_tensor *x, const ma_tensor *weight,
                                 const ma_tensor *g, double eps, double offset, ma_error *err) {
  grad_job j = {.one = layer_norm_slope, .eps = (float)eps, .offset = (float)offset};
  return run_grad(&j, out, weight_grad, NULL, x, weight, g, err);
}

ma_status ma_cpu_dyt_grad(ma_tensor *out, ma_tensor *alpha_grad, ma_tensor *weight_grad, const ma_tensor *x,
                          const ma_tensor *alpha, const ma_tensor *weight, const ma_tensor *g, ma_error *err) {
  grad_job j = {.one = dyt_slope, .alpha = (float)ma_element_load(alpha, alpha->offset)};
  return run_grad(&j, out, weight_grad, alpha_grad, x, weight, g, err);
}

static void one_softmax_grad(const row_job *j, float *out, const float *a, const float *b) {
  j->rows->softmax_grad(out, a, b, j->kind, (size_t)j->length);
}

ma_status ma_cpu_softmax_grad(ma_tensor *out, const ma_tensor *y, const ma_tensor *g, bool is_log, ma_error *err) {
  row_job j = {.in = {y, g}, .out = out, .one = one_softmax_grad, .kind = is_log};
  return run(&j, err);
}

typedef struct gated_job {
  const ma_rows *rows;
  ma_unary_kind kind;
  const float *gate, *up, *g;
  float *gate_grad, *up_grad;
} gated_job;

static void gated_slopes(void *self, size_t from, size_t to) {
  const gated_job *j = self;
  j->rows->gated_grad(j->gate_grad + from, j->up_grad + from, j->kind, j->gate + from, j->up + from, j->g + from,
                      to - from);
}

ma_status ma_cpu_gated_grad(ma_tensor *gate_grad, ma_tensor *up_grad, ma_unary_kind activation, const ma_tensor *gate,
                            const ma_tensor *up, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor in[3] = {{0}, {0}, {0}};
  MA_TRY(ma_cpu_as_f32(&in[0], gate, err));
  MA_TRY(ma_cpu_as_f32(&in[1], up, err));
  MA_TRY(ma_cpu_as_f32(&in[2], g, err));
  gated_job j = {ma_rows_get(),          activation,
                 ma_tensor_data(&in[0]), ma_tensor_data(&in[1]),
                 ma_tensor_data(&in[2]), ma_tensor_data(gate_grad),
                 ma_tensor_data(up_grad)};
  ma_parallel_for((size_t)ma_tensor_count(gate), 16384, gated_slopes, &j);
done:
  for (int i = 0; i < 3; i++) ma_tensor_release(&in[i]);
  return st;
}
