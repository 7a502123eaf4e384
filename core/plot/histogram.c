/* Histograms: counted when they are made, drawn as steps. */
#include <math.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

/* ---- counting ---- */

static bool is_countable(double value, ma_scale scale) {
  return isfinite(value) && (scale != MA_SCALE_LOG || value > 0);
}

/* Bins' edges are even on this scale; symlog's stay even in the values. */
static double even(double value, ma_scale scale) { return scale == MA_SCALE_LOG ? log(value) : value; }

static void find_range(const ma_numbers *values, double *low, double *high, ma_scale scale) {
  double least = INFINITY, most = -INFINITY;
  for (size_t i = 0; i < values->n; i++) {
    if (!is_countable(values->at[i], scale)) continue;
    least = fmin(least, values->at[i]);
    most = fmax(most, values->at[i]);
  }
  if (!(least <= most)) least = scale == MA_SCALE_LOG ? 1 : 0, most = least + 1;
  if (isnan(*low)) *low = fmax(least, -1e300);
  if (isnan(*high)) *high = fmin(most, 1e300);
  if (*low == *high && scale == MA_SCALE_LOG) *low /= 2, *high *= 2;
  else if (*low == *high) *low -= 0.5 * fmax(1, fabs(*low)), *high += 0.5 * fmax(1, fabs(*high));
}

ma_status ma_histogram_count(ma_histogram *out, const ma_numbers *values, int n_bins, double low, double high,
                             ma_scale scale, ma_error *err) {
  size_t n = (size_t)n_bins;
  if (n_bins < 1 || n_bins > 100000)
    return ma_fail(err, MA_BAD_ARGUMENT, "histogram: %d bins; there may be 1 to 100000", n_bins);
  find_range(values, &low, &high, scale);
  if (!(low < high) || !is_countable(low, scale) || !isfinite(high))
    return ma_fail(err, MA_BAD_ARGUMENT, "histogram: a range goes from a low to a high%s number; this one is %g .. %g",
                   scale == MA_SCALE_LOG ? " positive" : "", low, high);
  ma_status st = MA_NEW(&out->edges.at, n + 1, err);
  if (st == MA_OK) st = MA_NEW(&out->counts.at, n, err);
  if (st != MA_OK) return st;
  out->edges.n = n + 1;
  out->counts.n = n;
  double from = even(low, scale), width = (even(high, scale) - from) / n_bins;
  for (size_t i = 0; i <= n; i++) {
    double edge = from + width * (double)i;
    out->edges.at[i] = scale == MA_SCALE_LOG ? exp(edge) : edge;
  }
  out->edges.at[0] = low;
  out->edges.at[n] = high;
  for (size_t i = 0; i < values->n; i++) {
    double value = values->at[i];
    if (!is_countable(value, scale) || value < low || value > high) continue;
    size_t bin = (size_t)fmax(0, (even(value, scale) - from) / width);
    out->counts.at[bin < n ? bin : n - 1]++;
  }
  return MA_OK;
}

/* ---- the kind ---- */

static void histogram_span(const ma_mark *mark, ma_canvas *canvas, ma_box box, ma_span *x, ma_span *y) {
  const ma_histogram *h = (const ma_histogram *)mark;
  (void)canvas;
  (void)box;
  ma_span_add(x, h->edges.at[0]);
  ma_span_add(x, h->edges.at[h->edges.n - 1]);
  for (size_t i = 0; i < h->counts.n; i++) ma_span_add(y, h->counts.at[i]);
  y->base = y->scale == MA_SCALE_LOG ? 0.6 : 0; /* so that a count of 1 is seen */
}

static void histogram_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  const ma_histogram *h = (const ma_histogram *)mark;
  cairo_t *cr = canvas->cr;
  double base = f->y.scale == MA_SCALE_LOG ? f->box.bottom : ma_axis_place(&f->y, 0);
  for (size_t i = 0; i < h->counts.n; i++) {
    if (!(h->counts.at[i] > 0)) continue;
    double left = ma_axis_place(&f->x, h->edges.at[i]), right = ma_axis_place(&f->x, h->edges.at[i + 1]);
    double top = ma_axis_place(&f->y, h->counts.at[i]);
    ma_set_color(cr, mark->color, h->alpha);
    cairo_rectangle(cr, left, top, right - left, base - top);
    cairo_fill_preserve(cr);
    /* Thin lines part the bins where there is room for them. */
    if (right - left > 4 * canvas->scale) cairo_set_source_rgb(cr, 1, 1, 1);
    ma_set_stroke(canvas, MA_STROKE_SOLID, 0.4);
    if (h->alpha == 1) cairo_stroke(cr);
    else cairo_new_path(cr);
  }
}

static bool histogram_key(const ma_mark *mark, size_t i, ma_key *out) {
  *out = (ma_key){
      .label = &mark->label, .color = mark->color, .shape = MA_KEY_BOX, .alpha = ((const ma_histogram *)mark)->alpha};
  return i == 0;
}

static void histogram_release(ma_mark *mark) {
  ma_free(((ma_histogram *)mark)->edges.at);
  ma_free(((ma_histogram *)mark)->counts.at);
}

const ma_mark_kind ma_histogram_kind = {.name = "histogram",
                                        .size = sizeof(ma_histogram),
                                        .span = histogram_span,
                                        .draw = histogram_draw,
                                        .key = histogram_key,
                                        .release = histogram_release};
