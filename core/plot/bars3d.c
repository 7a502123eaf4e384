/* Bars over a floor of rows x columns, as in the paper's figures of activations by token and dim: seen from 60 degrees
 * left of the first axis and 30 above the floor, with a little perspective.  Axis-parallel boxes need no depth buffer:
 * drawn from the far corner to the near one, each hides what it should (painter's algorithm). */
#include <math.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

static const double ELEVATION = M_PI / 6, AZIMUTH = -M_PI / 3, DISTANCE = 14; /* in the units of SIDES */
static const double SIDES[3] = {4, 4, 3};
static const double LABEL_SLANT = -M_PI / 3.6, TICK = 4, GAP = 3;
enum { MAX_BARS_IN_ROW = 256 }; /* of more columns neighbours share a bar, the tallest's */

typedef struct point {
  double x, y;
} point;

typedef struct scene {
  const ma_bars3d *bars;
  ma_canvas *canvas;
  double z_low, z_high; /* values at the floor and at the top */
  ma_axis x, y;         /* for places and labels */
  double scale;         /* points a unit */
  point origin;         /* where the middle of the box is */
  double numbers;       /* width of the z axis' numbers */
} scene;

/* ---- projection ---- */

/* x, y and z in 0 .. 1; units, y upwards. */
static point look(double x, double y, double z) {
  double px = (x - 0.5) * SIDES[0], py = (y - 0.5) * SIDES[1], pz = (z - 0.5) * SIDES[2];
  double right = -sin(AZIMUTH) * px + cos(AZIMUTH) * py;
  double along = cos(AZIMUTH) * px + sin(AZIMUTH) * py; /* towards the viewer, on the floor */
  double up = -sin(ELEVATION) * along + cos(ELEVATION) * pz;
  double nearness = DISTANCE / (DISTANCE - cos(ELEVATION) * along - sin(ELEVATION) * pz);
  return (point){right * nearness, up * nearness};
}

static point project(const scene *s, double x, double y, double z) {
  point p = look(x, y, z);
  return (point){s->origin.x + s->scale * p.x, s->origin.y - s->scale * p.y};
}

/* Scale and place such that the box fills `room`. */
static void fit(scene *s, ma_box room) {
  double left = INFINITY, right = -INFINITY, low = INFINITY, high = -INFINITY;
  for (int corner = 0; corner < 8; corner++) {
    point p = look(corner & 1, corner >> 1 & 1, corner >> 2);
    left = fmin(left, p.x);
    right = fmax(right, p.x);
    low = fmin(low, p.y);
    high = fmax(high, p.y);
  }
  s->scale = fmax(0.01, fmin((room.right - room.left) / (right - left), (room.bottom - room.top) / (high - low)));
  s->origin.x = (room.left + room.right) / 2 - s->scale * (left + right) / 2;
  s->origin.y = (room.top + room.bottom) / 2 + s->scale * (low + high) / 2;
}

static double distance(point a, point b) { return hypot(a.x - b.x, a.y - b.y); }

/* ---- values ---- */

static double value_at(const scene *s, size_t r, size_t c) {
  double value = s->bars->values.at[r * s->bars->values.columns + c];
  return isnan(value) ? 0 : fmin(fmax(value, s->z_low), s->z_high);
}

static void find_heights(scene *s) {
  const ma_matrix *m = &s->bars->values;
  s->z_low = s->z_high = 0;
  for (size_t i = 0; i < m->rows * m->columns; i++) {
    if (!isfinite(m->at[i])) continue;
    s->z_low = fmin(s->z_low, fmax(m->at[i], -1e300));
    s->z_high = fmax(s->z_high, fmin(m->at[i], 1e300));
  }
  if (s->z_low == s->z_high) s->z_high = 1;
}

static double height(const scene *s, double value) { return (value - s->z_low) / (s->z_high - s->z_low); }

/* The number at a mark of the z axis: whole from a hundred on. */
static void height_text(char text[MA_NUMBER_TEXT], double value) {
  double size = fabs(value);
  if (size == 0) ma_fixed_text(text, 0, 0);
  else if (size >= 1e6 || size < 0.01) ma_number_text(text, value);
  else ma_fixed_text(text, value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/* 0, half and maximum; where there are negative values minimum, 0 and maximum. */
static void height_marks(const scene *s, double marks[3]) {
  marks[0] = s->z_low;
  marks[1] = s->z_low < 0 ? (s->z_high > 0 ? 0 : s->z_low / 2) : s->z_high / 2;
  marks[2] = s->z_high;
}

/* ---- walls and axes ---- */

static void path(const scene *s, size_t n, const double (*corners)[3]) {
  for (size_t i = 0; i < n; i++) {
    point p = project(s, corners[i][0], corners[i][1], corners[i][2]);
    cairo_line_to(s->canvas->cr, p.x, p.y);
  }
}

static void segment(const scene *s, double x0, double y0, double z0, double x1, double y1, double z1) {
  point a = project(s, x0, y0, z0), b = project(s, x1, y1, z1);
  cairo_move_to(s->canvas->cr, a.x, a.y);
  cairo_line_to(s->canvas->cr, b.x, b.y);
}

static void draw_walls(const scene *s) {
  static const double walls[3][4][3] = {{{0, 0, 0}, {0, 1, 0}, {0, 1, 1}, {0, 0, 1}},
                                        {{0, 1, 0}, {1, 1, 0}, {1, 1, 1}, {0, 1, 1}},
                                        {{0, 0, 0}, {1, 0, 0}, {1, 1, 0}, {0, 1, 0}}};
  static const double grays[3] = {0.965, 0.945, 0.985};
  cairo_t *cr = s->canvas->cr;
  double marks[3];
  for (int w = 0; w < 3; w++) {
    cairo_set_source_rgb(cr, grays[w], grays[w], grays[w]);
    cairo_new_path(cr);
    path(s, 4, walls[w]);
    cairo_fill(cr);
  }
  ma_set_stroke(s->canvas, MA_STROKE_SOLID, 0.6);
  cairo_set_source_rgb(cr, 0.78, 0.78, 0.78);
  height_marks(s, marks);
  for (int i = 0; i < 3; i++) {
    segment(s, 0, 0, height(s, marks[i]), 0, 1, height(s, marks[i]));
    segment(s, 0, 1, height(s, marks[i]), 1, 1, height(s, marks[i]));
  }
  for (size_t i = 0; i < s->x.n_ticks; i++) {
    double at = ma_axis_part(&s->x, s->x.ticks[i].at);
    segment(s, at, 1, 0, at, 1, 1);
    segment(s, at, 0, 0, at, 1, 0);
  }
  for (size_t i = 0; i < s->y.n_ticks; i++) {
    double at = ma_axis_part(&s->y, s->y.ticks[i].at);
    segment(s, 0, at, 0, 0, at, 1);
    segment(s, 0, at, 0, 1, at, 0);
  }
  segment(s, 0, 1, 0, 0, 1, 1);
  cairo_stroke(cr);
}

static ma_label tick_label(const ma_tick *tick) { return tick->label ? *tick->label : ma_plain(tick->text); }

/* A short mark at a point of an edge, away from the box; returns where its label begins. */
static point draw_tick(const scene *s, point at, double dx, double dy) {
  double length = TICK * s->canvas->scale, gap = GAP * s->canvas->scale;
  cairo_move_to(s->canvas->cr, at.x, at.y);
  cairo_line_to(s->canvas->cr, at.x + dx * length, at.y + dy * length);
  cairo_stroke(s->canvas->cr);
  return (point){at.x + dx * (length + gap), at.y + dy * (length + gap)};
}

static ma_text_style x_style(const scene *s) {
  return (ma_text_style){.size = s->x.size, .h = 1, .v = 0.5, .angle = LABEL_SLANT, .limit = s->x.limit, .lines = 1};
}
static ma_text_style y_style(const scene *s) {
  return (ma_text_style){.size = s->y.size, .h = 0, .v = 0.5, .limit = s->y.limit, .lines = 1};
}
static ma_text_style z_style(const scene *s) {
  return (ma_text_style){.size = 9.5 * s->canvas->scale, .h = 0, .v = 0.5};
}

static void draw_axes(const scene *s) {
  cairo_t *cr = s->canvas->cr;
  double marks[3];
  char text[MA_NUMBER_TEXT];
  ma_set_stroke(s->canvas, MA_STROKE_SOLID, 0.8);
  cairo_set_source_rgb(cr, 0, 0, 0);
  segment(s, 0, 0, 0, 1, 0, 0);
  segment(s, 1, 0, 0, 1, 1, 0);
  segment(s, 1, 1, 0, 1, 1, 1);
  cairo_stroke(cr);
  for (size_t i = 0; i < s->x.n_ticks; i++) {
    ma_label label = tick_label(&s->x.ticks[i]);
    if (s->x.ticks[i].is_hidden) continue;
    cairo_set_source_rgb(cr, 0, 0, 0);
    point at = draw_tick(s, project(s, ma_axis_part(&s->x, s->x.ticks[i].at), 0, 0), -0.4, 0.9);
    ma_text_put(s->canvas, &label, at.x + 2 * s->canvas->scale, at.y, x_style(s));
  }
  for (size_t i = 0; i < s->y.n_ticks; i++) {
    ma_label label = tick_label(&s->y.ticks[i]);
    if (s->y.ticks[i].is_hidden) continue;
    cairo_set_source_rgb(cr, 0, 0, 0);
    point at = draw_tick(s, project(s, 1, ma_axis_part(&s->y, s->y.ticks[i].at), 0), 0.9, 0.25);
    ma_text_put(s->canvas, &label, at.x, at.y + 0.2 * s->y.size, y_style(s));
  }
  height_marks(s, marks);
  for (int i = 0; i < 3; i++) {
    height_text(text, marks[i]);
    ma_label label = ma_plain(text);
    cairo_set_source_rgb(cr, 0, 0, 0);
    point at = draw_tick(s, project(s, 1, 1, height(s, marks[i])), 1, 0);
    /* The floor's number would stand in the last dims' labels. */
    ma_text_put(s->canvas, &label, at.x, at.y - (i == 0 ? 0.35 * z_style(s).size : 0), z_style(s));
  }
}

/* ---- bars ---- */

static void face(const scene *s, ma_color color, const double (*corners)[3]) {
  cairo_new_path(s->canvas->cr);
  path(s, 4, corners);
  cairo_close_path(s->canvas->cr);
  ma_set_color(s->canvas->cr, color, 1);
  cairo_fill_preserve(s->canvas->cr);
  cairo_stroke(s->canvas->cr);
}

/* The three faces that the viewer sees of a box. */
static void draw_bar(const scene *s, double x, double y, double half_x, double half_y, double low, double high) {
  double left = x - half_x, right = x + half_x, front = y - half_y, back = y + half_y;
  ma_color color = s->bars->mark.color;
  const double right_face[4][3] = {{right, front, low}, {right, back, low}, {right, back, high}, {right, front, high}};
  const double front_face[4][3] = {{left, front, low}, {right, front, low}, {right, front, high}, {left, front, high}};
  const double top_face[4][3] = {{left, front, high}, {right, front, high}, {right, back, high}, {left, back, high}};
  face(s, ma_color_mix(color, (ma_color){0, 0, 0}, 0.28), right_face);
  face(s, color, front_face);
  face(s, ma_color_mix(color, (ma_color){1, 1, 1}, 0.25), top_face);
}

/* One row's bars, from the far end.  What hardly rises is in the strip on the floor that each row has. */
static void draw_row(const scene *s, size_t r, double half_x) {
  size_t columns = s->bars->values.columns, n = columns < MAX_BARS_IN_ROW ? columns : MAX_BARS_IN_ROW;
  double half_y = fmax(0.3 / (double)columns, 0.004), floor = height(s, fmax(s->z_low, fmin(0, s->z_high)));
  double x = ma_axis_part(&s->x, (double)r);
  for (size_t i = n; i-- > 0;) {
    size_t tallest = i * columns / n;
    for (size_t c = tallest; c < (i + 1) * columns / n; c++)
      if (fabs(value_at(s, r, c)) > fabs(value_at(s, r, tallest))) tallest = c;
    double top = height(s, value_at(s, r, tallest));
    if (fabs(top - floor) < 0.004) continue;
    draw_bar(s, x, ma_axis_part(&s->y, (double)tallest), half_x, half_y, fmin(floor, top), fmax(floor, top));
  }
}

static void draw_bars(const scene *s) {
  size_t rows = s->bars->values.rows;
  double half_x = fmin(0.08 / (double)rows, 0.015), floor = height(s, fmax(s->z_low, fmin(0, s->z_high)));
  ma_set_stroke(s->canvas, MA_STROKE_SOLID, 0.25);
  for (size_t r = 0; r < rows; r++) {
    double x = ma_axis_part(&s->x, (double)r);
    const double strip[4][3] = {
        {x - half_x, 0, floor}, {x + half_x, 0, floor}, {x + half_x, 1, floor}, {x - half_x, 1, floor}};
    face(s, s->bars->mark.color, strip);
  }
  for (size_t r = 0; r < rows; r++) draw_row(s, r, half_x);
}

/* ---- layout ---- */

static void fit_labels(ma_axis *axis, ma_canvas *canvas, const ma_ticks *ticks, size_t n, double length, double limit) {
  ma_axis_options options = {.low = NAN, .high = NAN, .has_integers = true};
  ma_span span;
  ma_span_init(&span, &options);
  ma_span_add(&span, -0.5);
  ma_span_add(&span, (double)n - 0.5);
  span.is_exact = span.is_upright = true;
  if (ticks->n > 0) span.ticks = ticks;
  axis->has_labels = true;
  ma_axis_fit(axis, canvas, &span, &options, 0, fmax(length, 1), limit);
}

static double widest(ma_canvas *canvas, const ma_axis *axis, ma_text_style style) {
  double most = 0;
  for (size_t i = 0; i < axis->n_ticks; i++) {
    ma_label label = tick_label(&axis->ticks[i]);
    if (!axis->ticks[i].is_hidden) most = fmax(most, ma_text_measure(canvas, &label, style).width);
  }
  return most;
}

/* Labels depend on the edges' lengths, and these on the labels: from a guess, twice. */
static void lay_out(scene *s, ma_box box) {
  double width = box.right - box.left, tall = box.bottom - box.top, more = (TICK + 2 * GAP) * s->canvas->scale,
         marks[3];
  char text[MA_NUMBER_TEXT];
  height_marks(s, marks);
  for (int i = 0; i < 3; i++) {
    height_text(text, marks[i]);
    ma_label label = ma_plain(text);
    s->numbers = fmax(s->numbers, ma_text_measure(s->canvas, &label, z_style(s)).width);
  }
  double beyond = s->numbers + (s->bars->z_label.text ? 18 * s->canvas->scale : 0);
  ma_box room = {box.left + 0.1 * width, box.top, box.right - 0.15 * width, box.bottom - 0.15 * tall};
  for (int round = 0; round < 2 && s->canvas->st == MA_OK; round++) {
    fit(s, room);
    double along_x = distance(project(s, 0, 0, 0), project(s, 1, 0, 0)),
           along_y = project(s, 1, 0, 0).y - project(s, 1, 1, 0).y;
    fit_labels(&s->x, s->canvas, &s->bars->x_ticks, s->bars->values.rows, along_x, 0.3 * tall);
    s->y.is_vertical = true;
    fit_labels(&s->y, s->canvas, &s->bars->y_ticks, s->bars->values.columns, along_y, 0.2 * width);
    double below = widest(s->canvas, &s->x, x_style(s)), beside = widest(s->canvas, &s->y, y_style(s));
    room.left = box.left + fmin(0.7 * below, 0.25 * width);
    /* The lower right edge lies left of the rightmost corner, by a third or so. */
    room.right = box.right - more - fmax(beyond, beside - 0.12 * width);
    room.bottom = box.bottom - more - fmin(0.75 * below, 0.3 * tall);
  }
  fit(s, room);
}

static void bars3d_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  scene s = {.bars = (const ma_bars3d *)mark, .canvas = canvas};
  ma_text_style style = {.size = 10.5 * canvas->scale,
                         .h = 0.5,
                         .v = 0,
                         .angle = -M_PI / 2,
                         .limit = f->box.bottom - f->box.top,
                         .lines = 1};
  find_heights(&s);
  lay_out(&s, f->box);
  if (canvas->st == MA_OK) {
    draw_walls(&s);
    draw_bars(&s);
    draw_axes(&s);
    point low = project(&s, 1, 1, 0), high = project(&s, 1, 1, 1);
    double beside = fmax(low.x, high.x) + s.numbers + (TICK + 3 * GAP) * canvas->scale;
    ma_text_put(canvas, &s.bars->z_label, beside, (low.y + high.y) / 2, style);
  }
  ma_axis_release(&s.x);
  ma_axis_release(&s.y);
}

static void bars3d_release(ma_mark *mark) {
  ma_bars3d *bars = (ma_bars3d *)mark;
  ma_free(bars->values.at);
  ma_ticks_release(&bars->x_ticks);
  ma_ticks_release(&bars->y_ticks);
  ma_label_release(&bars->z_label);
}

const ma_mark_kind ma_bars3d_kind = {
    .name = "bars3d", .size = sizeof(ma_bars3d), .fills_panel = true, .draw = bars3d_draw, .release = bars3d_release};
