/* Elementwise kernels: rows of f32 through the row loops; integers one by one in double, where they are
 * exact up to 2^53. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/threads.h"

/* A walk cut into chunks, so that buffers stay small and threads have something to share. */
typedef struct chunks {
  ma_walk walk;
  int64_t n_in_row, n;
  size_t grain;
} chunks;

static chunks begin(int n, const ma_tensor *const *tensors) {
  chunks c;
  ma_walk_begin(&c.walk, n, tensors);
  c.n_in_row = (c.walk.inner + MA_WALK_CHUNK - 1) / MA_WALK_CHUNK;
  c.n = c.walk.outer * c.n_in_row;
  /* About 32k elements are worth waking a thread for. */
  int64_t length = c.walk.inner < MA_WALK_CHUNK ? c.walk.inner : MA_WALK_CHUNK;
  c.grain = (size_t)(32768 / (length > 0 ? length : 1)) + 1;
  return c;
}

/* Element offsets of chunk i, and its length. */
static size_t locate(const chunks *c, size_t i, int64_t *offsets) {
  int64_t row = (int64_t)i / c->n_in_row, first = (int64_t)i % c->n_in_row * MA_WALK_CHUNK;
  ma_walk_row(&c->walk, row, offsets);
  for (int t = 0; t < c->walk.n; t++) offsets[t] += first * c->walk.inner_stride[t];
  int64_t left = c->walk.inner - first;
  return (size_t)(left < MA_WALK_CHUNK ? left : MA_WALK_CHUNK);
}

static bool is_f32_row(const ma_tensor *t, int64_t stride) { return t->dtype == MA_F32 && stride == 1; }

static float *f32_at(const ma_tensor *t, int64_t at) { return (float *)t->storage->data + at; }

/* ---- fill and copy ---- */

typedef struct job {
  chunks c;
  const ma_rows *rows;
  ma_tensor *out;
  const ma_tensor *a, *b, *condition, *g;
  int kind, side;
  double value;
} job;

/* Copies the first of n elements over the others, doubling what is done. */
static void repeat(char *first, size_t size, size_t n) {
  for (size_t done = 1; done < n; done *= 2)
    memcpy(first + done * size, first, size * (2 * done < n ? done : n - done));
}

static void fill_chunks(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[1];
  size_t size = ma_dtype_describe(j->out->dtype)->bytes;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    int64_t stride = j->c.walk.inner_stride[0];
    ma_element_store(j->out, at[0], j->value);
    if (stride == 1) {
      repeat((char *)j->out->storage->data + (size_t)at[0] * size, size, n);
    } else {
      for (size_t e = 1; e < n; e++) ma_element_store(j->out, at[0] + (int64_t)e * stride, j->value);
    }
  }
}

ma_status ma_cpu_fill(ma_tensor *out, double value, ma_error *err) {
  (void)err;
  const ma_tensor *tensors[] = {out};
  job j = {.c = begin(1, tensors), .out = out, .value = value};
  ma_parallel_for((size_t)j.c.n, j.c.grain, fill_chunks, &j);
  return MA_OK;
}

static void copy_chunks(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[2];
  float buffer[MA_WALK_CHUNK];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    if (is_f32_row(j->out, stride[0]) && stride[1] == 1) {
      /* Straight into place: widening needs no buffer. */
      const float *row = ma_row_load(j->rows, f32_at(j->out, at[0]), j->a, at[1], 1, n);
      if (row != f32_at(j->out, at[0])) memmove(f32_at(j->out, at[0]), row, n * sizeof *row);
    } else if (stride[1] == 0) {
      double value = ma_element_load(j->a, at[1]);
      for (size_t e = 0; e < n; e++) ma_element_store(j->out, at[0] + (int64_t)e * stride[0], value);
    } else {
      const float *row = ma_row_load(j->rows, buffer, j->a, at[1], stride[1], n);
      ma_row_store(j->rows, j->out, at[0], stride[0], row, n);
    }
  }
}

static void copy_elements(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[2];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    for (size_t e = 0; e < n; e++) {
      int64_t to_at = at[0] + (int64_t)e * stride[0], from_at = at[1] + (int64_t)e * stride[1];
      if (j->out->dtype == MA_I64 && j->a->dtype == MA_I64)
        ((int64_t *)j->out->storage->data)[to_at] = ((const int64_t *)j->a->storage->data)[from_at];
      else ma_element_store(j->out, to_at, ma_element_load(j->a, from_at));
    }
  }
}

static void copy_blocks(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[2];
  const ma_dtype_info *info = ma_dtype_describe(j->out->dtype);
  for (size_t i = from; i < to; i++) {
    size_t bytes = locate(&j->c, i, at) / info->block * info->bytes;
    char *there = (char *)j->out->storage->data + (size_t)at[0] / info->block * info->bytes;
    memcpy(there, (const char *)j->a->storage->data + (size_t)at[1] / info->block * info->bytes, bytes);
  }
}

/* Blocks are made a chunk of contiguous elements at a time, or copied as they are. */
static ma_status pack(ma_tensor *out, const ma_tensor *a, ma_error *err) {
  bool is_same = a->dtype == out->dtype;
  ma_tensor rows = {0};
  ma_status st = MA_OK;
  if (a->strides[a->n_dims - 1] == 1) rows = ma_tensor_retain(a);
  else st = ma_tensor_convert(&rows, a, MA_F32, err);
  if (st != MA_OK) return st;
  const ma_tensor *tensors[] = {out, &rows};
  job j = {.c = begin(2, tensors), .rows = ma_rows_get(), .out = out, .a = &rows};
  ma_parallel_for((size_t)j.c.n, j.c.grain, is_same ? copy_blocks : copy_chunks, &j);
  ma_tensor_release(&rows);
  return MA_OK;
}

ma_status ma_cpu_copy(ma_tensor *out, const ma_tensor *a, ma_error *err) {
  if (ma_dtype_is_block(out->dtype)) return pack(out, a, err);
  const ma_tensor *tensors[] = {out, a};
  job j = {.c = begin(2, tensors), .rows = ma_rows_get(), .out = out, .a = a};
  bool widens = ma_dtype_is_float(a->dtype) || ma_dtype_is_block(a->dtype) || a->dtype == MA_U8; /* exactly, to f32 */
  ma_parallel_for((size_t)j.c.n, j.c.grain, ma_dtype_is_float(out->dtype) && widens ? copy_chunks : copy_elements, &j);
  return MA_OK;
}

/* ---- functions of one and two elements ---- */

static void unary_chunks(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[2];
  float in[MA_WALK_CHUNK], result[MA_WALK_CHUNK];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    float *to_row = is_f32_row(j->out, stride[0]) ? f32_at(j->out, at[0]) : result;
    const float *row = ma_row_load(j->rows, in, j->a, at[1], stride[1], n);
    if (stride[1] == 0)
      for (size_t e = 0; e < n; e++) j->rows->unary(to_row + e, (ma_unary_kind)j->kind, row, 1);
    else j->rows->unary(to_row, (ma_unary_kind)j->kind, row, n);
    if (to_row == result) {
      if (ma_dtype_is_float(j->out->dtype) || j->out->dtype == MA_U8)
        ma_row_store(j->rows, j->out, at[0], stride[0], result, n);
      else
        for (size_t e = 0; e < n; e++) ma_element_store(j->out, at[0] + (int64_t)e * stride[0], (double)result[e]);
    }
  }
}

static void round_chunks(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[1], stride = j->c.walk.inner_stride[0];
  float buffer[MA_WALK_CHUNK];
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    bool direct = is_f32_row(j->out, stride);
    const float *row = ma_row_load(j->rows, buffer, j->out, at[0], stride, n);
    j->rows->round_to(direct ? f32_at(j->out, at[0]) : buffer, row, (ma_dtype)j->kind, n);
    if (!direct) ma_row_store(j->rows, j->out, at[0], stride, buffer, n);
  }
}

ma_status ma_cpu_round_to(ma_tensor *out, ma_dtype dtype, const ma_tensor *a, ma_error *err) {
  ma_status st = out == a ? MA_OK : ma_cpu_copy(out, a, err);
  if (st != MA_OK) return st;
  const ma_tensor *tensors[] = {out};
  job j = {.c = begin(1, tensors), .rows = ma_rows_get(), .out = out, .kind = (int)dtype};
  ma_parallel_for((size_t)j.c.n, j.c.grain, round_chunks, &j);
  return MA_OK;
}

static void quantize_chunks(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[2];
  float buffer[MA_WALK_CHUNK];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    float *to_row = is_f32_row(j->out, stride[0]) ? f32_at(j->out, at[0]) : buffer;
    const float *row = ma_row_load_whole(j->rows, buffer, j->a, at[1], stride[1], n);
    j->rows->quantize(to_row, row, (float)j->value, (float)j->kind, n);
    if (to_row == buffer) ma_row_store(j->rows, j->out, at[0], stride[0], buffer, n);
  }
}

ma_status ma_cpu_quantize(ma_tensor *out, const ma_tensor *a, double scale, int64_t levels, ma_error *err) {
  (void)err;
  const ma_tensor *tensors[] = {out, a};
  job j = {.c = begin(2, tensors), .rows = ma_rows_get(), .out = out, .a = a, .value = scale, .kind = (int)levels};
  ma_parallel_for((size_t)j.c.n, j.c.grain, quantize_chunks, &j);
  return MA_OK;
}

/* neg, abs, sign, square and the roundings of integers stay integers. */
static double unary_integer(ma_unary_kind kind, double x) {
  switch (kind) {
    case MA_UNARY_neg: return -x;
    case MA_UNARY_abs: return fabs(x);
    case MA_UNARY_sign: return x > 0 ? 1 : x < 0 ? -1 : 0;
    case MA_UNARY_square: return x * x;
    case MA_UNARY_relu: return x < 0 ? 0 : x;
    default: return x;
  }
}

static void unary_elements(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[2];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    for (size_t e = 0; e < n; e++)
      ma_element_store(j->out, at[0] + (int64_t)e * stride[0],
                       unary_integer((ma_unary_kind)j->kind, ma_element_load(j->a, at[1] + (int64_t)e * stride[1])));
  }
}

ma_status ma_cpu_unary(ma_tensor *out, ma_unary_kind kind, const ma_tensor *a, ma_error *err) {
  (void)err;
  const ma_tensor *tensors[] = {out, a};
  job j = {.c = begin(2, tensors), .rows = ma_rows_get(), .out = out, .a = a, .kind = (int)kind};
  bool is_question = kind == MA_UNARY_isnan || kind == MA_UNARY_isinf || kind == MA_UNARY_isfinite;
  bool integers = !ma_dtype_is_float(a->dtype) && out->dtype == a->dtype && !is_question;
  ma_parallel_for((size_t)j.c.n, j.c.grain, integers ? unary_elements : unary_chunks, &j);
  return MA_OK;
}

static void binary_chunks(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[3];
  float in_a[MA_WALK_CHUNK], in_b[MA_WALK_CHUNK], result[MA_WALK_CHUNK];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    float *to_row = is_f32_row(j->out, stride[0]) ? f32_at(j->out, at[0]) : result;
    const float *a = ma_row_load(j->rows, in_a, j->a, at[1], stride[1], n);
    const float *b = ma_row_load(j->rows, in_b, j->b, at[2], stride[2], n);
    j->rows->binary(to_row, (ma_binary_kind)j->kind, a, stride[1] != 0, b, stride[2] != 0, n);
    if (to_row == result) ma_row_store(j->rows, j->out, at[0], stride[0], result, n);
  }
}

static double binary_number(ma_binary_kind kind, double x, double y) {
  switch (kind) {
    case MA_BINARY_add: return x + y;
    case MA_BINARY_sub: return x - y;
    case MA_BINARY_mul: return x * y;
    case MA_BINARY_div: return x / y;
    case MA_BINARY_pow: return pow(x, y);
    case MA_BINARY_mod: return x - y * floor(x / y);
    case MA_BINARY_minimum: return x < y || x != x ? x : y;
    case MA_BINARY_maximum: return x > y || x != x ? x : y;
    case MA_BINARY_gt: return x > y;
    case MA_BINARY_ge: return x >= y;
    case MA_BINARY_lt: return x < y;
    case MA_BINARY_le: return x <= y;
    case MA_BINARY_eq: return x == y;
    default: return x != y;
  }
}

static void binary_elements(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[3];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    for (size_t e = 0; e < n; e++) {
      double x = ma_element_load(j->a, at[1] + (int64_t)e * stride[1]);
      double y = ma_element_load(j->b, at[2] + (int64_t)e * stride[2]);
      ma_element_store(j->out, at[0] + (int64_t)e * stride[0], binary_number((ma_binary_kind)j->kind, x, y));
    }
  }
}

ma_status ma_cpu_binary(ma_tensor *out, ma_binary_kind kind, const ma_tensor *a, const ma_tensor *b, ma_error *err) {
  (void)err;
  const ma_tensor *tensors[] = {out, a, b};
  job j = {.c = begin(3, tensors), .rows = ma_rows_get(), .out = out, .a = a, .b = b, .kind = (int)kind};
  bool floats = ma_dtype_is_float(a->dtype) && ma_dtype_is_float(b->dtype);
  ma_parallel_for((size_t)j.c.n, j.c.grain, floats ? binary_chunks : binary_elements, &j);
  return MA_OK;
}

/* ---- derivatives ---- */

static void unary_slopes(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[3];
  float in_a[MA_WALK_CHUNK], in_g[MA_WALK_CHUNK], result[MA_WALK_CHUNK];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    float *to_row = is_f32_row(j->out, stride[0]) ? f32_at(j->out, at[0]) : result;
    const float *a = ma_row_load_whole(j->rows, in_a, j->a, at[1], stride[1], n);
    const float *g = ma_row_load_whole(j->rows, in_g, j->g, at[2], stride[2], n);
    j->rows->unary_grad(to_row, (ma_unary_kind)j->kind, a, g, n);
    if (to_row == result) ma_row_store(j->rows, j->out, at[0], stride[0], result, n);
  }
}

ma_status ma_cpu_unary_grad(ma_tensor *out, ma_unary_kind kind, const ma_tensor *a, const ma_tensor *g, ma_error *err) {
  (void)err;
  const ma_tensor *tensors[] = {out, a, g};
  job j = {.c = begin(3, tensors), .rows = ma_rows_get(), .out = out, .a = a, .g = g, .kind = (int)kind};
  ma_parallel_for((size_t)j.c.n, j.c.grain, unary_slopes, &j);
  return MA_OK;
}

static void binary_slopes(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[4];
  float in_a[MA_WALK_CHUNK], in_b[MA_WALK_CHUNK], in_g[MA_WALK_CHUNK], result[MA_WALK_CHUNK];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    size_t n = locate(&j->c, i, at);
    float *to_row = is_f32_row(j->out, stride[0]) ? f32_at(j->out, at[0]) : result;
    const float *a = ma_row_load(j->rows, in_a, j->a, at[1], stride[1], n);
    const float *b = ma_row_load(j->rows, in_b, j->b, at[2], stride[2], n);
    const float *g = ma_row_load_whole(j->rows, in_g, j->g, at[3], stride[3], n);
    j->rows->binary_grad(to_row, (ma_binary_kind)j->kind, j->side, a, stride[1] != 0, b, stride[2] != 0, g, n);
    if (to_row == result) ma_row_store(j->rows, j->out, at[0], stride[0], result, n);
  }
}

ma_status ma_cpu_binary_grad(ma_tensor *out, ma_binary_kind kind, int side, const ma_tensor *a, const ma_tensor *b,
                             const ma_tensor *g, ma_error *err) {
  (void)err;
  const ma_tensor *tensors[] = {out, a, b, g};
  job j = {.c = begin(4, tensors),
           .rows = ma_rows_get(),
           .out = out,
           .a = a,
           .b = b,
           .g = g,
           .kind = (int)kind,
           .side = side};
  ma_parallel_for((size_t)j.c.n, j.c.grain, binary_slopes, &j);
  return MA_OK;
}

static void choose_elements(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[4];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    int64_t n = (int64_t)locate(&j->c, i, at);
    for (int64_t e = 0; e < n; e++) {
      bool first = ma_element_load(j->condition, at[1] + e * stride[1]) != 0;
      ma_element_store(
          j->out, at[0] + e * stride[0],
          first ? ma_element_load(j->a, at[2] + e * stride[2]) : ma_element_load(j->b, at[3] + e * stride[3]));
    }
  }
}

/* The common case: f32, chosen by a comparison. */
static void choose_floats(void *self, size_t from, size_t to) {
  job *j = self;
  int64_t at[4];
  const int64_t *stride = j->c.walk.inner_stride;
  for (size_t i = from; i < to; i++) {
    int64_t n = (int64_t)locate(&j->c, i, at);
    const uint8_t *condition = (const uint8_t *)j->condition->storage->data + at[1];
    const float *a = f32_at(j->a, at[2]), *b = f32_at(j->b, at[3]);
    float *out = f32_at(j->out, at[0]);
    for (int64_t e = 0; e < n; e++) out[e * stride[0]] = condition[e * stride[1]] ? a[e * stride[2]] : b[e * stride[3]];
  }
}

ma_status ma_cpu_where(ma_tensor *out, const ma_tensor *condition, const ma_tensor *a, const ma_tensor *b,
                       ma_error *err) {
  (void)err;
  const ma_tensor *tensors[] = {out, condition, a, b};
  job j = {.c = begin(4, tensors), .out = out, .a = a, .b = b, .condition = condition};
  bool floats = condition->dtype == MA_U8 && out->dtype == MA_F32 && a->dtype == MA_F32 && b->dtype == MA_F32;
  ma_parallel_for((size_t)j.c.n, j.c.grain, floats ? choose_floats : choose_elements, &j);
  return MA_OK;
}

/* In order, one after the other: the numbers depend on the generator alone. */
ma_status ma_cpu_randomize(ma_tensor *out, ma_random_kind kind, double low, double high, ma_random *generator,
                           ma_error *err) {
  (void)err;
  int64_t at[1];
  const ma_tensor *tensors[] = {out};
  chunks c = begin(1, tensors);
  for (int64_t i = 0; i < c.n; i++) {
    size_t n = locate(&c, (size_t)i, at);
    for (size_t e = 0; e < n; e++) {
      double value = kind == MA_RANDOM_UNIFORM ? low + (high - low) * ma_random_uniform(generator)
                                               : low + high * ma_random_normal(generator);
      ma_element_store(out, at[0] + (int64_t)e * c.walk.inner_stride[0], value);
    }
  }
  return MA_OK;
}

/* ---- moving ---- */

ma_status ma_cpu_gather(ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor from = {0}, to = {0};
  for (int64_t i = 0; i < index->shape[0]; i++) {
    int64_t wanted = (int64_t)ma_element_load(index, index->offset + i * index->strides[0]);
    MA_TRY(ma_tensor_narrow(&from, a, dim, wanted, 1, err));
    MA_TRY(ma_tensor_narrow(&to, out, dim, i, 1, err));
    MA_TRY(ma_cpu_copy(&to, &from, err));
    ma_tensor_release(&from);
    ma_tensor_release(&to);
  }
done:
  ma_tensor_release(&from);
  ma_tensor_release(&to);
  return st;
}

/* Whole rows of two matrices that lie as they are. */
static bool adds_rows(const ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index) {
  return dim == 0 && a->n_dims == 2 && index->n_dims == 1 && index->dtype == MA_I64 && out->strides[1] == 1 &&
         a->strides[1] == 1;
}

static ma_status bad_row(int64_t row, const ma_tensor *out, int dim, ma_error *err) {
  return ma_fail(err, MA_BAD_ARGUMENT, "scatter_add: index %lld is outside the %lld of dim %d", (long long)row,
                 (long long)out->shape[dim], dim);
}

static ma_status add_whole_rows(ma_tensor *out, const ma_tensor *a, const ma_tensor *index, ma_error *err) {
  const int64_t *ids = ma_tensor_data(index);
  for (int64_t i = 0; i < a->shape[0]; i++) {
    int64_t row = ids[i * index->strides[0]];
    if (row < 0 || row >= out->shape[0]) return bad_row(row, out, 0, err);
    float *to = f32_at(out, out->offset + row * out->strides[0]);
    const float *from = f32_at(a, a->offset + i * a->strides[0]);
    for (int64_t e = 0; e < a->shape[1]; e++) to[e] += from[e];
  }
  return MA_OK;
}

/* One number after the other: what an index names twice is added twice, in order. */
ma_status ma_cpu_scatter_add(ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index, ma_error *err) {
  bool is_list = !ma_tensor_same_shape(index, a) || a->n_dims == 1;
  int64_t n = ma_tensor_count(a), at[MA_MAX_DIMS] = {0};
  if (adds_rows(out, a, dim, index)) return add_whole_rows(out, a, index, err);
  for (int64_t i = 0; i < n; i++) {
    int64_t from = a->offset, to = out->offset, which = index->offset;
    for (int d = 0; d < a->n_dims; d++) {
      from += at[d] * a->strides[d];
      if (d != dim) to += at[d] * out->strides[d];
      if (!is_list) which += at[d] * index->strides[d];
    }
    if (is_list) which += at[dim] * index->strides[0];
    int64_t row = (int64_t)ma_element_load(index, which);
    if (row < 0 || row >= out->shape[dim]) return bad_row(row, out, dim, err);
    f32_at(out, to + row * out->strides[dim])[0] += f32_at(a, from)[0];
    for (int d = a->n_dims - 1; d >= 0 && ++at[d] == a->shape[d]; d--) at[d] = 0;
  }
  return MA_OK;
}

ma_status ma_cpu_concat(ma_tensor *out, const ma_tensor *const *parts, int n_parts, int dim, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor to = {0};
  int64_t at = 0;
  for (int i = 0; i < n_parts; i++) {
    MA_TRY(ma_tensor_narrow(&to, out, dim, at, parts[i]->shape[dim], err));
    MA_TRY(ma_cpu_copy(&to, parts[i], err));
    ma_tensor_release(&to);
    at += parts[i]->shape[dim];
  }
done:
  ma_tensor_release(&to);
  return st;
}

ma_status ma_cpu_as_f32(ma_tensor *out, const ma_tensor *t, ma_error *err) {
  if (t->dtype == MA_F32 && ma_tensor_is_contiguous(t)) {
    *out = ma_tensor_retain(t);
    return MA_OK;
  }
  return ma_tensor_convert(out, t, MA_F32, err);
}

ma_status ma_cpu_out_f32(ma_tensor *wide, ma_tensor *out, ma_error *err) {
  if (out->dtype != MA_F32 || !ma_tensor_is_contiguous(out)) return ma_tensor_new_like(wide, out, MA_F32, err);
  *wide = ma_tensor_retain(out);
  return MA_OK;
}

ma_status ma_cpu_put_f32(ma_tensor *out, const ma_tensor *wide, ma_error *err) {
  return wide->storage == out->storage ? MA_OK : ma_cpu_copy(out, wide, err);
}
