/* Lines and scattered points. */
#include <math.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

static const double MARKER = 3;     /* radius */
static const double COLUMN = 0.125; /* points nearer to each other along x than that are drawn as one stroke */

/* The pen on its way along a line. */
typedef struct point_run {
  int n; /* points since it went down */
  bool is_dashed;
  int n_column; /* points of the column where it is */
  double column, x, y, low, high;
} point_run;

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

/* Draws on, and by pieces: cairo takes long over long paths that cross themselves. */
static void go_to(ma_canvas *canvas, point_run *run, double x, double y) {
  if (run->n++ == 0) cairo_move_to(canvas->cr, x, y);
  else cairo_line_to(canvas->cr, x, y);
  if (run->n % 500 != 0 || run->is_dashed) return;
  cairo_stroke(canvas->cr);
  cairo_move_to(canvas->cr, x, y);
}

/* Of points in one column a line shows its lowest, its highest and where it leaves; ends the column. */
static void leave_column(ma_canvas *canvas, point_run *run) {
  if (run->n_column > 2) go_to(canvas, run, run->x, run->low);
  if (run->n_column > 2) go_to(canvas, run, run->x, run->high);
  if (run->n_column > 1) go_to(canvas, run, run->x, run->y);
  run->n_column = 0;
}

static void add_point(ma_canvas *canvas, point_run *run, double x, double y) {
  double column = floor(x / COLUMN);
  if (run->n_column > 0 && column != run->column) leave_column(canvas, run);
  if (run->n_column++ == 0) {
    go_to(canvas, run, x, y);
    run->column = column;
    run->low = run->high = y;
  }
  run->low = fmin(run->low, y);
  run->high = fmax(run->high, y);
  run->x = x;
  run->y = y;
}

/* Lifts the pen; a point alone is a dot, which the round cap makes of a line without length. */
static void end_run(ma_canvas *canvas, point_run *run) {
  leave_column(canvas, run);
  if (run->n == 1) cairo_line_to(canvas->cr, run->x, run->y);
  run->n = 0;
}

static void line_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  const ma_line *line = (const ma_line *)mark;
  cairo_t *cr = canvas->cr;
  point_run run = {.is_dashed = line->stroke != MA_STROKE_SOLID};
  if (line->low.n > 0) draw_band(canvas, f, line);
  ma_set_color(cr, mark->color, 1);
  ma_set_stroke(canvas, line->stroke, line->width);
  cairo_set_line_cap(cr, run.is_dashed ? CAIRO_LINE_CAP_BUTT : CAIRO_LINE_CAP_ROUND);
  for (size_t i = 0; i < line->x.n; i++) {
    if (is_drawable(f, line->x.at[i], line->y.at[i])) {
      add_point(canvas, &run, ma_axis_place(&f->x, line->x.at[i]), ma_axis_place(&f->y, line->y.at[i]));
      continue;
    }
    end_run(canvas, &run);
  }
  end_run(canvas, &run);
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
