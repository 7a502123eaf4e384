/* Reductions, sorting and selection along a dim.  Sums are in double, in index order within a thread's
 * share, so that results do not depend on the number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"
#include "base/threads.h"

/* ---- lines: the elements along one dim (or all of them) for each place in the rest ---- */

typedef struct lines {
  ma_tensor in; /* contiguous as [n_lines, length], or strided along `dim` */
  int64_t n, length, step;
  int dim;
} lines;

/* Start of line i, in elements from the storage's start. */
static int64_t line_start(const lines *l, const ma_tensor *t, int64_t i) {
  int64_t at = t->offset;
  for (int d = t->n_dims - 1; d >= 0; d--) {
    if (d == l->dim) continue;
    at += i % t->shape[d] * t->strides[d];
    i /= t->shape[d];
  }
  return at;
}

static ma_status lines_of(lines *l, const ma_tensor *a, int dim, ma_error *err) {
  *l = (lines){.dim = dim};
  int64_t count[1] = {ma_tensor_count(a)};
  if (dim != MA_ALL) {
    l->in = ma_tensor_retain(a);
    l->length = a->shape[dim];
    l->step = a->strides[dim];
    l->n = l->length > 0 ? count[0] / l->length : 0;
    if (l->length == 0) {
      l->n = 1;
      for (int d = 0; d < a->n_dims; d++)
        if (d != dim) l->n *= a->shape[d];
    }
    return MA_OK;
  }
  ma_tensor whole = {0};
  ma_status st = ma_tensor_is_contiguous(a) ? MA_OK : ma_tensor_convert(&whole, a, a->dtype, err);
  if (st != MA_OK) return st;
  if (!whole.storage) whole = ma_tensor_retain(a);
  st = ma_tensor_reshape(&l->in, &whole, 1, count, err);
  ma_tensor_release(&whole);
  l->n = 1;
  l->length = count[0];
  l->step = 1;
  l->dim = 0;
  return st;
}

/* ---- reduce ---- */

typedef struct folded {
  double sum, squares, product, most, least;
  int64_t argmax, argmin;
  bool any, all;
} folded;

static void fold_element(folded *f, double x, int64_t i) {
  bool nan = x != x;
  f->sum += x;
  f->squares += x * x;
  f->product *= x;
  if (x > f->most || (nan && f->most == f->most) || i == 0) f->most = x, f->argmax = i;
  if (x < f->least || (nan && f->least == f->least) || i == 0) f->least = x, f->argmin = i;
  f->any |= x != 0;
  f->all &= x != 0;
}

/* Sum of squared deviations: a second pass, exact where squares would cancel. */
static double deviations(const lines *l, int64_t start, double mean) {
  double sum = 0;
  const float *floats = l->in.dtype == MA_F32 ? (const float *)l->in.storage->data + start : NULL;
  for (int64_t i = 0; i < l->length; i++) {
    double x = (floats ? (double)floats[i * l->step] : ma_element_load(&l->in, start + i * l->step)) - mean;
    sum += x * x;
  }
  return sum;
}

static double result_of(const folded *f, ma_reduce_kind kind, const lines *l, int64_t start) {
  double n = (double)l->length;
  switch (kind) {
    case MA_REDUCE_sum: return f->sum;
    case MA_REDUCE_mean: return f->sum / n;
    case MA_REDUCE_prod: return f->product;
    case MA_REDUCE_max: return f->most;
    case MA_REDUCE_min: return f->least;
    case MA_REDUCE_argmax: return (double)f->argmax;
    case MA_REDUCE_argmin: return (double)f->argmin;
    case MA_REDUCE_var: return deviations(l, start, f->sum / n) / (n - 1);
    case MA_REDUCE_std: return sqrt(deviations(l, start, f->sum / n) / (n - 1));
    case MA_REDUCE_norm: return sqrt(f->squares);
    case MA_REDUCE_any: return f->any;
    default: return f->all;
  }
}

/* In eight sums, which need not wait for each other. */
static double squares_of(const float *row, int64_t n) {
  double sums[8] = {0};
  int64_t whole = n - n % 8;
  for (int64_t e = 0; e < whole; e += 8)
    for (int i = 0; i < 8; i++) sums[i] += (double)row[e + i] * (double)row[e + i];
  for (int64_t e = whole; e < n; e++) sums[0] += (double)row[e] * (double)row[e];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

/* n elements, the first of them number `first`: the usual reductions need little of them.  Sums in the same order as by
 * fold_element, but for squares. */
static void fold_row(folded *f, ma_reduce_kind kind, const ma_rows *rows, const float *row, int64_t n, int64_t first) {
  double top;
  switch (kind) {
    case MA_REDUCE_max:
      top = (double)rows->max(row, (size_t)n);
      if (first == 0 || top > f->most || (top != top && f->most == f->most)) f->most = top;
      return;
    case MA_REDUCE_sum:
    case MA_REDUCE_mean:
    case MA_REDUCE_var:
    case MA_REDUCE_std:
      for (int64_t e = 0; e < n; e++) f->sum += (double)row[e];
      return;
    case MA_REDUCE_norm: f->squares += squares_of(row, n); return;
    default:
      for (int64_t e = 0; e < n; e++) fold_element(f, (double)row[e], first + e);
  }
}

typedef struct reduce_job {
  lines l;
  ma_tensor *out;
  ma_tensor flat_out; /* the output without its kept dim, in the order of the lines */
  ma_reduce_kind kind;
} reduce_job;

static void reduce_lines(void *self, size_t from, size_t to) {
  reduce_job *j = self;
  const ma_rows *rows = ma_rows_get();
  for (size_t i = from; i < to; i++) {
    folded f = {.product = 1, .all = true};
    int64_t start = line_start(&j->l, &j->l.in, (int64_t)i);
    bool floats = ma_dtype_is_float(j->l.in.dtype);
    float buffer[MA_WALK_CHUNK];
    for (int64_t first = 0; first < j->l.length; first += MA_WALK_CHUNK) {
      int64_t n = j->l.length - first < MA_WALK_CHUNK ? j->l.length - first : MA_WALK_CHUNK;
      int64_t at = start + first * j->l.step;
      const float *row = floats ? ma_row_load(rows, buffer, &j->l.in, at, j->l.step, (size_t)n) : NULL;
      if (floats && j->l.step != 0) {
        fold_row(&f, j->kind, rows, row, n, first);
        continue;
      }
      for (int64_t e = 0; e < n; e++)
        fold_element(&f, floats ? (double)*row : ma_element_load(&j->l.in, at + e * j->l.step), first + e);
    }
    ma_element_store(&j->flat_out, j->flat_out.offset + (int64_t)i, result_of(&f, j->kind, &j->l, start));
  }
}

/* An output that takes lines in order: `out` itself where contiguous, else a buffer copied back. */
static ma_status ordered_output(ma_tensor *flat, const ma_tensor *out, ma_error *err) {
  if (!ma_tensor_is_contiguous(out)) return ma_tensor_new_like(flat, out, out->dtype, err);
  *flat = ma_tensor_retain(out);
  return MA_OK;
}

ma_status ma_cpu_reduce(ma_tensor *out, ma_reduce_kind kind, const ma_tensor *a, int dim, bool keep, ma_error *err) {
  (void)keep;
  ma_status st = MA_OK;
  reduce_job j = {.out = out, .kind = kind};
  MA_TRY(lines_of(&j.l, a, dim, err));
  MA_TRY(ordered_output(&j.flat_out, out, err));
  ma_parallel_for((size_t)j.l.n, (size_t)(16384 / (j.l.length + 1) + 1), reduce_lines, &j);
  if (j.flat_out.storage != out->storage) MA_TRY(ma_cpu_copy(out, &j.flat_out, err));
done:
  ma_tensor_release(&j.l.in);
  ma_tensor_release(&j.flat_out);
  return st;
}

/* ---- gradients ---- */

typedef struct slope_job {
  lines l;
  ma_tensor *out;
  const float *g;
  ma_reduce_kind kind;
} slope_job;

/* The product of all but the element x, given that of those that are not 0 and how many are. */
static double product_without(double x, double others, int64_t n_zeros) {
  if (n_zeros == 0) return others / x;
  return n_zeros == 1 && x == 0 ? others : 0;
}

static void slope_lines(void *self, size_t from, size_t to) {
  slope_job *j = self;
  const lines *l = &j->l;
  for (size_t i = from; i < to; i++) {
    folded f = {.product = 1, .all = true};
    int64_t start = line_start(l, &l->in, (int64_t)i), n_zeros = 0;
    int64_t put = line_start(l, j->out, (int64_t)i), put_step = j->out->strides[l->dim];
    double product = 1, n = (double)l->length, g = (double)j->g[i];
    for (int64_t e = 0; e < l->length; e++) {
      double x = ma_element_load(&l->in, start + e * l->step);
      fold_element(&f, x, e);
      if (x == 0) n_zeros++;
      else product *= x;
    }
    double mean = f.sum / n, norm = sqrt(f.squares);
    double std = j->kind == MA_REDUCE_std ? sqrt(deviations(l, start, mean) / (n - 1)) : 0;
    for (int64_t e = 0; e < l->length; e++) {
      double x = ma_element_load(&l->in, start + e * l->step), slope = 0;
      switch (j->kind) {
        case MA_REDUCE_sum: slope = 1; break;
        case MA_REDUCE_mean: slope = 1 / n; break;
        case MA_REDUCE_prod: slope = product_without(x, product, n_zeros); break;
        case MA_REDUCE_max: slope = e == f.argmax; break;
        case MA_REDUCE_min: slope = e == f.argmin; break;
        case MA_REDUCE_var: slope = 2 * (x - mean) / (n - 1); break;
        case MA_REDUCE_std: slope = (x - mean) / ((n - 1) * std); break;
        case MA_REDUCE_norm: slope = norm > 0 ? x / norm : 0; break;
        default: break;
      }
      ma_element_store(j->out, put + e * put_step, g * slope);
    }
  }
}

ma_status ma_cpu_reduce_grad(ma_tensor *out, ma_reduce_kind kind, const ma_tensor *a, const ma_tensor *g, int dim,
                             ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor whole = {0};
  slope_job j = {.out = &whole, .g = ma_tensor_data(g), .kind = kind};
  MA_TRY(ordered_output(&whole, out, err));
  MA_TRY(lines_of(&j.l, a, dim, err));
  if (dim == MA_ALL) {
    ma_tensor flat;
    MA_TRY(ma_tensor_reshape(&flat, &whole, 1, &j.l.length, err));
    ma_tensor_release(&whole);
    whole = flat;
  }
  ma_parallel_for((size_t)j.l.n, (size_t)(16384 / (j.l.length + 1) + 1), slope_lines, &j);
  if (whole.storage != out->storage) MA_TRY(ma_cpu_copy(out, &whole, err));
done:
  ma_tensor_release(&j.l.in);
  ma_tensor_release(&whole);
  return st;
}

/* ---- sorting and selection ---- */

typedef struct item {
  double value;
  int64_t index;
} item;

/* NaN is larger than everything; equals keep their order. */
static int ascending(const void *pa, const void *pb) {
  const item *a = pa, *b = pb;
  bool a_nan = a->value != a->value, b_nan = b->value != b->value;
  if (a_nan != b_nan) return a_nan ? 1 : -1;
  if (a->value != b->value && !a_nan) return a->value < b->value ? -1 : 1;
  return a->index < b->index ? -1 : 1;
}

static int descending(const void *pa, const void *pb) {
  const item *a = pa, *b = pb;
  bool a_nan = a->value != a->value, b_nan = b->value != b->value;
  if (a_nan != b_nan) return a_nan ? 1 : -1; /* last here too */
  if (a->value != b->value && !a_nan) return a->value > b->value ? -1 : 1;
  return a->index < b->index ? -1 : 1;
}

static void load_line(item *items, const lines *l, int64_t i) {
  int64_t start = line_start(l, &l->in, i);
  for (int64_t e = 0; e < l->length; e++) items[e] = (item){ma_element_load(&l->in, start + e * l->step), e};
}

ma_status ma_cpu_sort(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int dim, bool is_descending,
                      ma_error *err) {
  ma_status st = MA_OK;
  lines l;
  item *items = NULL;
  MA_TRY(lines_of(&l, a, dim, err));
  MA_TRY(MA_NEW(&items, l.length, err));
  for (int64_t i = 0; i < l.n; i++) {
    load_line(items, &l, i);
    qsort(items, (size_t)l.length, sizeof *items, is_descending ? descending : ascending);
    int64_t to = line_start(&l, out, i), to_index = index ? line_start(&l, index, i) : 0;
    for (int64_t e = 0; e < l.length; e++) {
      ma_element_store(out, to + e * out->strides[dim], items[e].value);
      if (index) ma_element_store(index, to_index + e * index->strides[dim], (double)items[e].index);
    }
  }
done:
  ma_free(items);
  ma_tensor_release(&l.in);
  return st;
}

/* The k first in order, by a heap of k whose top is the worst that is kept. */
static void keep_best(item *heap, int64_t *n, int64_t k, item x, int (*order)(const void *, const void *)) {
  int64_t at;
  if (*n < k) {
    for (at = (*n)++; at > 0 && order(&x, &heap[(at - 1) / 2]) > 0; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  } else {
    if (k == 0 || order(&x, &heap[0]) > 0) return;
    for (at = 0;;) {
      int64_t child = 2 * at + 1;
      if (child >= k) break;
      if (child + 1 < k && order(&heap[child + 1], &heap[child]) > 0) child++;
      if (order(&heap[child], &x) <= 0) break;
      heap[at] = heap[child];
      at = child;
    }
  }
  heap[at] = x;
}

ma_status ma_cpu_topk(ma_tensor *out, ma_tensor *index, const ma_tensor *a, int64_t k, bool largest, ma_error *err) {
  ma_status st = MA_OK;
  lines l;
  item *heap = NULL;
  int dim = a->n_dims - 1;
  int (*order)(const void *, const void *) = largest ? descending : ascending;
  MA_TRY(lines_of(&l, a, dim, err));
  MA_TRY(MA_NEW(&heap, k, err));
  for (int64_t i = 0; i < l.n; i++) {
    int64_t n = 0, start = line_start(&l, &l.in, i);
    for (int64_t e = 0; e < l.length; e++)
      keep_best(heap, &n, k, (item){ma_element_load(&l.in, start + e * l.step), e}, order);
    qsort(heap, (size_t)n, sizeof *heap, order);
    int64_t to = line_start(&l, out, i), to_index = line_start(&l, index, i);
    for (int64_t e = 0; e < n; e++) {
      ma_element_store(out, to + e * out->strides[dim], heap[e].value);
      ma_element_store(index, to_index + e * index->strides[dim], (double)heap[e].index);
    }
  }
done:
  ma_free(heap);
  ma_tensor_release(&l.in);
  return st;
}

/* Hoare's selection: items[rank] is what sorting would put there. */
static double select_rank(item *items, int64_t n, int64_t rank) {
  int64_t low = 0, high = n - 1;
  while (low < high) {
    item pivot = items[low + (high - low) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (ascending(&items[i], &pivot) < 0 && items[i].index != pivot.index) i++;
      while (ascending(&pivot, &items[j]) < 0 && items[j].index != pivot.index) j--;
      if (i > j) break;
      item swapped = items[i];
      items[i++] = items[j];
      items[j--] = swapped;
    }
    if (rank <= j) high = j;
    else if (rank >= i) low = i;
    else break;
  }
  return items[rank].value;
}

ma_status ma_cpu_quantile(ma_tensor *out, const ma_tensor *a, double q, int dim, bool keep, ma_error *err) {
  (void)keep;
  ma_status st = MA_OK;
  lines l;
  item *items = NULL;
  ma_tensor flat = {0};
  MA_TRY(lines_of(&l, a, dim, err));
  MA_TRY(MA_NEW(&items, l.length, err));
  MA_TRY(ordered_output(&flat, out, err));
  for (int64_t i = 0; i < l.n; i++) {
    load_line(items, &l, i);
    int64_t rank = (int64_t)floor(q * (double)(l.length - 1));
    ma_element_store(&flat, flat.offset + i, select_rank(items, l.length, rank));
  }
  if (flat.storage != out->storage) MA_TRY(ma_cpu_copy(out, &flat, err));
done:
  ma_free(items);
  ma_tensor_release(&flat);
  ma_tensor_release(&l.in);
  return st;
}
