/* The figure as a whole: layout from measured text, so that nothing is clipped, then axes and marks; saving. */
#include "plot/figure.h"

#include <cairo-pdf.h>
#include <cairo-svg.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "plot/plot_internal.h"

enum { TITLE_SIZE = 17, LABEL_SIZE = 15, TICK_SIZE = 10, MARGIN = 10, TICK_LENGTH = 4 };

void ma_figure_init(ma_figure *f) { *f = (ma_figure){.width = 8, .height = 5}; }

void ma_figure_release(ma_figure *f) {
  for (size_t i = 0; i < f->n_series; i++) {
    ma_free(f->series[i].x);
    ma_free(f->series[i].y);
    ma_free(f->series[i].label);
  }
  for (size_t i = 0; i < f->n_groups; i++) {
    ma_free(f->groups[i].values);
    ma_free(f->groups[i].label);
  }
  for (size_t i = 0; i < f->n_labels; i++) ma_free(f->labels[i]);
  ma_free(f->series);
  ma_free(f->groups);
  ma_free(f->labels);
  ma_free(f->title);
  ma_free(f->x_label);
  ma_free(f->y_label);
  ma_figure_init(f);
}

bool ma_color_parse(ma_color *out, const char *name) {
  static const struct {
    const char *name;
    ma_color color;
  } known[] = {{"blue", {0, 0, 1}},      {"gray", {0.5, 0.5, 0.5}}, {"grey", {0.5, 0.5, 0.5}},
               {"red", {0.8, 0.1, 0.1}}, {"green", {0.1, 0.55, 0.2}}, {"black", {0, 0, 0}},
               {"orange", {1, 0.55, 0.1}}, {"purple", {0.5, 0.25, 0.65}}, {"steelblue", {0.27, 0.51, 0.71}}};
  unsigned r, g, b;
  char rest;
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (strcmp(known[i].name, name) != 0) continue;
    *out = known[i].color;
    return true;
  }
  if (sscanf(name, "#%2x%2x%2x%c", &r, &g, &b, &rest) != 3) return false;
  *out = (ma_color){r / 255.0, g / 255.0, b / 255.0};
  return true;
}

/* ---- text ---- */

static void set_font(cairo_t *cr, double size) {
  cairo_select_font_face(cr, "DejaVu Serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(cr, size);
}

double ma_text_width(cairo_t *cr, const char *text, double size) {
  cairo_text_extents_t e;
  set_font(cr, size);
  cairo_text_extents(cr, text, &e);
  return e.x_advance;
}

void ma_text_put(cairo_t *cr, const char *text, double x, double y, double h, double v, double size, double angle) {
  cairo_font_extents_t font;
  double width = ma_text_width(cr, text, size);
  cairo_font_extents(cr, &font);
  cairo_save(cr);
  cairo_translate(cr, x, y);
  cairo_rotate(cr, angle);
  cairo_move_to(cr, -h * width, font.ascent - v * (font.ascent + font.descent));
  cairo_show_text(cr, text);
  cairo_restore(cr);
}

/* ---- ranges ---- */

static void widen(double *low, double *high, double value, bool is_log) {
  if (!isfinite(value) || (is_log && value <= 0)) return;
  if (value < *low) *low = value;
  if (value > *high) *high = value;
}

/* `above` is the share of the height that the numbers on bars need above them. */
static void fit_y(const ma_figure *f, ma_axis *y, double above) {
  double low = INFINITY, high = -INFINITY;
  bool is_log = f->y_scale == MA_SCALE_LOG;
  for (size_t s = 0; s < f->n_series; s++)
    for (size_t i = 0; i < f->series[s].n; i++) widen(&low, &high, f->series[s].y[i], is_log);
  for (size_t g = 0; g < f->n_groups; g++)
    for (size_t i = 0; i < f->n_labels; i++) widen(&low, &high, f->groups[g].values[i], is_log);
  if (!(low <= high)) low = high = 1;
  if (is_log) {
    /* Bars stand on the axis, so the least has to rise above it. */
    double ratio = fmax(high / low, 2);
    low /= f->n_groups ? pow(ratio, 0.25) : pow(ratio, 0.05);
    high *= f->n_groups ? pow(high / low, above / (1 - above)) : pow(ratio, 0.05);
  } else if (f->n_groups) {
    low = fmin(low, 0);
    high += (high - low) * above / (1 - above);
  } else if (high > low) {
    double room = 0.05 * (high - low);
    low -= room;
    high += room;
  }
  ma_axis_fit(y, f->y_scale, low, high, false, 6);
}

static void fit_x(const ma_figure *f, ma_axis *x) {
  double low = INFINITY, high = -INFINITY;
  for (size_t s = 0; s < f->n_series; s++)
    for (size_t i = 0; i < f->series[s].n; i++) widen(&low, &high, f->series[s].x[i], false);
  if (!(low <= high)) low = high = 0;
  double room = 0.045 * (high - low);
  ma_axis_fit(x, MA_SCALE_LINEAR, low - room, high + room, f->has_integer_x, 7);
}

/* ---- frame ---- */

static void draw_grid(cairo_t *cr, const ma_axis *x, const ma_axis *y, ma_box box, bool has_x) {
  const double dashes[] = {4, 3};
  cairo_save(cr);
  cairo_set_dash(cr, dashes, 2, 0);
  cairo_set_line_width(cr, 0.8);
  cairo_set_source_rgb(cr, 0.8, 0.8, 0.8);
  for (int i = 0; i < y->n_ticks; i++) {
    double at = ma_axis_place(y, y->ticks[i]);
    cairo_move_to(cr, box.left, at);
    cairo_line_to(cr, box.right, at);
  }
  for (int i = 0; has_x && i < x->n_ticks; i++) {
    double at = ma_axis_place(x, x->ticks[i]);
    cairo_move_to(cr, at, box.top);
    cairo_line_to(cr, at, box.bottom);
  }
  cairo_stroke(cr);
  cairo_restore(cr);
}

/* Numbers of y are turned, as in the paper's figures, unless they are short. */
static void draw_ticks(cairo_t *cr, const ma_axis *x, const ma_axis *y, ma_box box, bool has_x) {
  cairo_set_source_rgb(cr, 0, 0, 0);
  cairo_set_line_width(cr, 0.8);
  for (int i = 0; i < y->n_ticks; i++) {
    double at = ma_axis_place(y, y->ticks[i]);
    cairo_move_to(cr, box.left - TICK_LENGTH, at);
    cairo_line_to(cr, box.left, at);
    cairo_stroke(cr);
    ma_text_put(cr, y->texts[i], box.left - TICK_LENGTH - 3, at, 1, 0.5, TICK_SIZE, 0);
  }
  for (int i = 0; has_x && i < x->n_ticks; i++) {
    double at = ma_axis_place(x, x->ticks[i]);
    cairo_move_to(cr, at, box.bottom);
    cairo_line_to(cr, at, box.bottom + TICK_LENGTH);
    cairo_stroke(cr);
    ma_text_put(cr, x->texts[i], at, box.bottom + TICK_LENGTH + 2, 0.5, 0, TICK_SIZE, 0);
  }
  cairo_rectangle(cr, box.left, box.top, box.right - box.left, box.bottom - box.top);
  cairo_stroke(cr);
}

/* Labels of bars: level where they fit beside each other, else slanted.  Returns the height they take. */
static double bar_labels(cairo_t *cr, const ma_figure *f, ma_box box, bool draws) {
  double slot = (box.right - box.left) / (double)f->n_labels, widest = 0;
  const double angle = -M_PI / 6;
  for (size_t i = 0; i < f->n_labels; i++) widest = fmax(widest, ma_text_width(cr, f->labels[i], TICK_SIZE + 1));
  bool slanted = widest + 8 > slot;
  for (size_t i = 0; draws && i < f->n_labels; i++) {
    double middle = box.left + ((double)i + 0.5) * slot;
    if (slanted) ma_text_put(cr, f->labels[i], middle + 4, box.bottom + 6, 1, 0, TICK_SIZE + 1, angle);
    else ma_text_put(cr, f->labels[i], middle, box.bottom + 5, 0.5, 0, TICK_SIZE + 1, 0);
  }
  return slanted ? widest * sin(-angle) + 24 : 22;
}

void ma_figure_draw(const ma_figure *f, cairo_t *cr, double width, double height) {
  ma_axis x, y;
  double widest = 0;
  bool has_bars = f->n_labels > 0;
  fit_x(f, &x);
  fit_y(f, &y, 0.1); /* for the width of its numbers */
  for (int i = 0; i < y.n_ticks; i++) widest = fmax(widest, ma_text_width(cr, y.texts[i], TICK_SIZE));
  ma_box box = {MARGIN + widest + TICK_LENGTH + 5 + (f->y_label ? LABEL_SIZE + 10 : 0),
                MARGIN + (f->title ? TITLE_SIZE + 12 : 4), width - MARGIN - 4, height - MARGIN};
  box.bottom -= f->x_label ? LABEL_SIZE + 10 : 0;
  box.bottom -= has_bars ? bar_labels(cr, f, box, false) : TICK_SIZE + TICK_LENGTH + 8;
  if (has_bars) {
    box.top += ma_legend_strip(cr, f, box, false);
    fit_y(f, &y, fmin(0.5, ma_bar_values_height(cr, f, box) / (box.bottom - box.top)));
  }
  x.from = box.left;
  x.to = box.right;
  y.from = box.bottom;
  y.to = box.top;
  cairo_set_source_rgb(cr, 1, 1, 1);
  cairo_paint(cr);
  draw_grid(cr, &x, &y, box, !has_bars);
  if (has_bars) ma_draw_bars(cr, f, &y, box);
  ma_draw_lines(cr, f, &x, &y);
  draw_ticks(cr, &x, &y, box, !has_bars);
  if (has_bars) bar_labels(cr, f, box, true);
  if (f->title) ma_text_put(cr, f->title, (box.left + box.right) / 2, MARGIN, 0.5, 0, TITLE_SIZE, 0);
  if (f->x_label) ma_text_put(cr, f->x_label, (box.left + box.right) / 2, height - MARGIN, 0.5, 1, LABEL_SIZE, 0);
  if (f->y_label) ma_text_put(cr, f->y_label, MARGIN, (box.top + box.bottom) / 2, 0.5, 0, LABEL_SIZE, -M_PI / 2);
  ma_legend_strip(cr, f, box, true);
  ma_draw_legend(cr, f, &x, &y, box);
}

/* ---- saving ---- */

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

typedef struct sink {
  ma_writer *writer;
  ma_status st;
  ma_error *err;
} sink;

static cairo_status_t write_piece(void *self, const unsigned char *data, unsigned int length) {
  sink *s = self;
  if (s->st == MA_OK) s->st = ma_writer_write(s->writer, data, length, s->err);
  return s->st == MA_OK ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

static ma_status save_vector(const ma_figure *f, const char *path, ma_error *err) {
  double width = 72 * f->width, height = 72 * f->height;
  sink s = {.err = err};
  ma_status st = ma_writer_open(&s.writer, path, err);
  if (st != MA_OK) return st;
  cairo_surface_t *surface = ends_with(path, ".svg") ? cairo_svg_surface_create_for_stream(write_piece, &s, width, height)
                                                     : cairo_pdf_surface_create_for_stream(write_piece, &s, width, height);
  cairo_t *cr = cairo_create(surface);
  ma_figure_draw(f, cr, width, height);
  cairo_status_t problem = cairo_status(cr);
  cairo_destroy(cr);
  cairo_surface_finish(surface);
  if (problem == CAIRO_STATUS_SUCCESS) problem = cairo_surface_status(surface);
  cairo_surface_destroy(surface);
  st = s.st;
  if (st == MA_OK && problem != CAIRO_STATUS_SUCCESS)
    st = ma_fail(err, MA_NO_MEMORY, "cannot draw '%s': %s", path, cairo_status_to_string(problem));
  if (st == MA_OK) st = ma_writer_commit(s.writer, err);
  ma_writer_close(s.writer);
  return st;
}

static ma_status save_png(const ma_figure *f, const char *path, double dpi, const char *const *metadata, ma_error *err) {
  double scale = dpi / 72;
  int width = (int)lround(f->width * dpi), height = (int)lround(f->height * dpi);
  if (width < 16 || height < 16 || width > 30000 || height > 30000)
    return ma_fail(err, MA_BAD_ARGUMENT, "a picture of %d x %d pixels is out of range", width, height);
  cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
  cairo_t *cr = cairo_create(surface);
  cairo_scale(cr, scale, scale);
  ma_figure_draw(f, cr, width / scale, height / scale);
  cairo_status_t problem = cairo_status(cr);
  cairo_destroy(cr);
  cairo_surface_flush(surface);
  ma_status st = problem == CAIRO_STATUS_SUCCESS ? ma_png_write(surface, path, dpi, metadata, err)
                                                 : ma_fail(err, MA_NO_MEMORY, "cannot draw '%s': %s", path, cairo_status_to_string(problem));
  cairo_surface_destroy(surface);
  return st;
}

ma_status ma_figure_save(const ma_figure *f, const char *path, double dpi, const char *const *metadata, ma_error *err) {
  if (ends_with(path, ".svg") || ends_with(path, ".pdf")) return save_vector(f, path, err);
  if (ends_with(path, ".png")) return save_png(f, path, dpi, metadata, err);
  return ma_fail(err, MA_BAD_ARGUMENT, "'%s': a picture's name ends in .png, .svg or .pdf", path);
}
