/* Lines and scattered points. */
#include <math.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

static const double MARKER = 3; /* radius */

static void span_points(const ma_numbers *x, const ma_numbers *y, ma_span *x_span, ma_span *y_span) {
  for (size_t i = 0; i < x->n; i++) {
    if (!isfinite(x->at[i]) || !isfinite(y->at[i])) continue;
    ma_span_add(x_span, x->at[i]);
    ma_span_add(y_span, y->at[i]);
  }
}

static bool is_drawable(const ma_frame *f, double x, double y) {
  return ma_axis_takes(&f->x, x) && ma_axis_takes(&f->y, y);
}

static void put_dots(ma_canvas *canvas, const ma_frame *f, const ma_numbers *x, const ma_numbers *y, double radius) {
  for (size_t i = 0; i < x->n; i++) {
    if (!is_drawable(f, x->at[i], y->at[i])) continue;
    cairo_arc(canvas->cr, ma_axis_place(&f->x, x->at[i]), ma_axis_place(&f->y, y->at[i]), radius, 0, 2 * M_PI);
    cairo_fill(canvas->cr);
  }
}

/* ---- line ---- */

static void line_span(const ma_mark *mark, ma_canvas *canvas, ma_box box, ma_span *x, ma_span *y) {
  const ma_line *line = (const ma_line *)mark;
  (void)canvas;
  (void)box;
  span_points(&line->x, &line->y, x, y);
  for (size_t i = 0; i < line->low.n; i++) ma_span_add(y, line->low.at[i]);
  for (size_t i = 0; i < line->high.n; i++) ma_span_add(y, line->high.at[i]);
}

/* The outline of points first .. last - 1: along the highs, back along the lows. */
static void fill_band(ma_canvas *canvas, const ma_frame *f, const ma_line *line, size_t first, size_t last) {
  for (size_t i = first; i < last; i++)
    cairo_line_to(canvas->cr, ma_axis_place(&f->x, line->x.at[i]), ma_axis_place(&f->y, line->high.at[i]));
  for (size_t i = last; i-- > first;)
    cairo_line_to(canvas->cr, ma_axis_place(&f->x, line->x.at[i]), ma_axis_place(&f->y, line->low.at[i]));
  cairo_close_path(canvas->cr);
  cairo_fill(canvas->cr);
}

static void draw_band(ma_canvas *canvas, const ma_frame *f, const ma_line *line) {
  size_t first = 0;
  ma_set_color(canvas->cr, line->mark.color, 0.2);
  for (size_t i = 0; i <= line->low.n; i++) {
    if (i < line->low.n && is_drawable(f, line->x.at[i], line->low.at[i]) && ma_axis_takes(&f->y, line->high.at[i]))
      continue;
    if (i > first) fill_band(canvas, f, line, first, i);
    first = i + 1;
  }
}

static void line_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  const ma_line *line = (const ma_line *)mark;
  cairo_t *cr = canvas->cr;
  int n = 0; /* points since the pen went down */
  if (line->low.n > 0) draw_band(canvas, f, line);
  ma_set_color(cr, mark->color, 1);
  ma_set_stroke(canvas, line->stroke, line->width);
  for (size_t i = 0; i < line->x.n; i++) {
    if (!is_drawable(f, line->x.at[i], line->y.at[i])) {
      n = 0;
      continue;
    }
    double x = ma_axis_place(&f->x, line->x.at[i]), y = ma_axis_place(&f->y, line->y.at[i]);
    if (n++ == 0)
      cairo_move_to(cr, x, y);
    else
      cairo_line_to(cr, x, y);
    /* cairo takes long over long paths that cross themselves. */
    if (n % 500 != 0 || line->stroke != MA_STROKE_SOLID) continue;
    cairo_stroke(cr);
    cairo_move_to(cr, x, y);
  }
  cairo_stroke(cr);
  if (line->has_markers) put_dots(canvas, f, &line->x, &line->y, canvas->scale * MARKER * (line->x.n > 60 ? 0.6 : 1));
}

static bool line_key(const ma_mark *mark, size_t i, ma_key *out) {
  const ma_line *line = (const ma_line *)mark;
  *out = (ma_key){.label = &mark->label,
                  .color = mark->color,
                  .shape = MA_KEY_LINE,
                  .stroke = line->stroke,
                  .width = line->width,
                  .alpha = 1,
                  .has_marker = line->has_markers,
                  .has_band = line->low.n > 0};
  return i == 0;
}

static void line_release(ma_mark *mark) {
  ma_line *line = (ma_line *)mark;
  ma_free(line->x.at);
  ma_free(line->y.at);
  ma_free(line->low.at);
  ma_free(line->high.at);
}

const ma_mark_kind ma_line_kind = {.name = "line",
                                   .size = sizeof(ma_line),
                                   .span = line_span,
                                   .draw = line_draw,
                                   .key = line_key,
                                   .release = line_release};

/* ---- scatter ---- */

static void scatter_span(const ma_mark *mark, ma_canvas *canvas, ma_box box, ma_span *x, ma_span *y) {
  const ma_scatter *scatter = (const ma_scatter *)mark;
  (void)canvas;
  (void)box;
  span_points(&scatter->x, &scatter->y, x, y);
}

static void scatter_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  const ma_scatter *scatter = (const ma_scatter *)mark;
  ma_set_color(canvas->cr, mark->color, scatter->alpha);
  put_dots(canvas, f, &scatter->x, &scatter->y, canvas->scale * scatter->size / 2);
}

static bool scatter_key(const ma_mark *mark, size_t i, ma_key *out) {
  const ma_scatter *scatter = (const ma_scatter *)mark;
  *out = (ma_key){.label = &mark->label,
                  .color = mark->color,
                  .shape = MA_KEY_DOT,
                  .width = fmin(scatter->size, 8),
                  .alpha = fmax(scatter->alpha, 0.4)};
  return i == 0;
}

static void scatter_release(ma_mark *mark) {
  ma_scatter *scatter = (ma_scatter *)mark;
  ma_free(scatter->x.at);
  ma_free(scatter->y.at);
}

const ma_mark_kind ma_scatter_kind = {.name = "scatter",
                                      .size = sizeof(ma_scatter),
                                      .span = scatter_span,
                                      .draw = scatter_draw,
                                      .key = scatter_key,
                                      .release = scatter_release};
