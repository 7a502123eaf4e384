/* Statistics by ma_statistics; entries are looked for only where the largest value already passes, so
 * that the common case costs nothing more. */
#include "model/probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tensor/backend.h"

static ma_status visit(ma_visitor *self, ma_tensor *x, const ma_at *at, ma_error *err);

ma_status ma_probe_init(ma_probe *p, unsigned wanted, int n_top, ma_error *err) {
  *p = (ma_probe){.visitor = {.visit = visit, .takes_16_bit = true}, .wanted = wanted, .n_top = n_top};
  if (n_top < 0 || n_top > MA_MAX_TOP)
    return ma_fail(err, MA_BAD_ARGUMENT, "a probe gives at most the top %d, not %d", MA_MAX_TOP, n_top);
  return MA_OK;
}

static void clear(ma_measured *m) {
  ma_free(m->entries);
  *m = (ma_measured){0};
}

void ma_probe_release(ma_probe *p) {
  for (size_t i = 0; i < p->n_measured; i++) clear(&p->measured[i]);
  ma_free(p->measured);
  p->measured = NULL;
  p->n_measured = p->capacity = 0;
}

/* The first record of a place, or n_measured. */
static size_t first_of(const ma_probe *p, ma_place place) {
  size_t i = 0;
  while (i < p->n_measured && (p->measured[i].place.point != place.point || p->measured[i].place.layer != place.layer))
    i++;
  return i;
}

/* Forgets what an earlier pass found at this place and makes room for `n` records at the end. */
static ma_status make_room(ma_probe *p, ma_place place, size_t n, ma_error *err) {
  size_t first = first_of(p, place), end = first;
  while (end < p->n_measured && p->measured[end].place.point == place.point &&
         p->measured[end].place.layer == place.layer)
    clear(&p->measured[end++]);
  if (end < p->n_measured) memmove(p->measured + first, p->measured + end, (p->n_measured - end) * sizeof *p->measured);
  p->n_measured -= end - first;
  if (p->n_measured + n <= p->capacity) return MA_OK;
  size_t capacity = 2 * (p->n_measured + n);
  ma_status st = ma_resize((void **)&p->measured, capacity, sizeof *p->measured, err);
  if (st == MA_OK) p->capacity = capacity;
  return st;
}

/* Lists every |a| > threshold of the contiguous f32 values. */
static ma_status list_entries(ma_measured *m, const float *values, int64_t count, float threshold, ma_error *err) {
  size_t n = 0;
  for (int64_t i = 0; i < count; i++) n += fabsf(values[i]) > threshold;
  ma_status st = MA_NEW(&m->entries, n, err);
  if (st != MA_OK) return st;
  for (int64_t i = 0; i < count; i++)
    if (fabsf(values[i]) > threshold) m->entries[m->n_entries++] = (ma_massive){i, values[i]};
  return MA_OK;
}

static int by_index(const void *a, const void *b) {
  int64_t i = ((const ma_massive *)a)->index, j = ((const ma_massive *)b)->index;
  return (i > j) - (i < j);
}

/* The same from the largest values, where these end below the threshold; false where they do not, and there may be more. */
static bool list_top(ma_measured *m, double threshold, ma_status *st, ma_error *err) {
  const ma_stats *s = &m->stats;
  size_t n = 0;
  while (n < (size_t)s->n_top && fabs(s->top_value[n]) > threshold) n++;
  if (n == MA_MAX_TOP) return false;
  *st = MA_NEW(&m->entries, n, err);
  if (*st != MA_OK) return true;
  for (size_t i = 0; i < n; i++) m->entries[i] = (ma_massive){s->top_index[i], (float)s->top_value[i]};
  m->n_entries = n;
  qsort(m->entries, n, sizeof *m->entries, by_index);
  return true;
}

static ma_status find_entries(const ma_probe *p, ma_measured *m, const ma_tensor *x, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor host = {0}, wide = {0};
  double threshold = fmax(p->above, p->ratio * m->stats.median);
  if (m->stats.n_top == 0 || !(fabs(m->stats.top_value[0]) > threshold)) return MA_OK;
  /* |a| > threshold in exact arithmetic: no f32 lies between the threshold and its rounding towards 0. */
  float bound = (float)threshold;
  if ((double)bound > threshold) bound = nextafterf(bound, 0);
  if (ma_tensor_device(x) != ma_device_cpu() && list_top(m, threshold, &st, err)) return st;
  MA_TRY(ma_tensor_move(&host, x, ma_device_cpu(), err));
  if (host.dtype == MA_F32) wide = ma_tensor_retain(&host);
  else MA_TRY(ma_tensor_convert(&wide, &host, MA_F32, err));
  MA_TRY(list_entries(m, ma_tensor_data(&wide), ma_tensor_count(&wide), bound, err));
done:
  ma_tensor_release(&host);
  ma_tensor_release(&wide);
  return st;
}

static ma_status measure(const ma_probe *p, ma_measured *m, const ma_tensor *x, ma_error *err) {
  unsigned wanted = p->wanted;
  int n_top = p->n_top, n_told = n_top;
  if (p->wants_entries) {
    wanted |= MA_STAT_TOP | MA_STAT_MEDIAN;
    if (n_top < 1) n_top = n_told = 1;
    /* A few numbers more are cheaper to bring from a device than all of x. */
    if (ma_tensor_device(x) != ma_device_cpu()) n_top = MA_MAX_TOP;
  }
  m->n_dims = x->n_dims;
  memcpy(m->shape, x->shape, sizeof m->shape);
  ma_status st = ma_statistics(&m->stats, x, wanted, n_top, err);
  if (st == MA_OK && p->wants_entries) st = find_entries(p, m, x, err);
  if (m->stats.n_top > n_told) m->stats.n_top = n_told;
  return st;
}

static ma_status visit(ma_visitor *self, ma_tensor *x, const ma_at *at, ma_error *err) {
  ma_status st = MA_OK;
  ma_probe *p = (ma_probe *)self;
  ma_tensor sequence = {0};
  int64_t n = x->shape[0];
  MA_TRY(make_room(p, at->place, (size_t)n, err));
  for (int64_t b = 0; b < n; b++) {
    ma_measured *m = &p->measured[p->n_measured];
    *m = (ma_measured){.place = at->place, .sequence = b};
    p->n_measured++;
    MA_TRY(ma_tensor_select(&sequence, x, 0, b, err));
    MA_TRY(measure(p, m, &sequence, err));
    ma_tensor_release(&sequence);
  }
done:
  ma_tensor_release(&sequence);
  return st;
}
