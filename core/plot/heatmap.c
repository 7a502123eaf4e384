/* Heat maps: a cell an element, row 0 on top, with a colour bar.  NaN and minus infinity (masked scores) are masked
 * cells. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

static const ma_color MASKED = {0.96, 0.96, 0.96}; /* whitesmoke */
static const double BAR_GAP = 7, BAR_WIDTH = 9, BAR_LABEL = 11, BAR_LABEL_GAP = 5;
enum { MAX_RECTANGLES = 10000 }; /* more cells than that become an image, smaller ones than two pixels too */

/* ---- colours ---- */

/* The colour bar's axis, from the lowest colour at `from` to the highest at `to`. */
static void fit_colors(const ma_heatmap *h, ma_canvas *canvas, ma_axis *axis, double from, double to) {
  ma_axis_options options = {.scale = h->scale, .low = h->low, .high = h->high};
  ma_span span;
  ma_span_init(&span, &options);
  span.is_exact = true;
  for (size_t i = 0; i < h->values.rows * h->values.columns; i++) ma_span_add(&span, h->values.at[i]);
  if (ma_colormap_diverges(h->map) && h->scale != MA_SCALE_LOG && span.low <= span.high) {
    /* Zero in the middle. */
    double most = fmax(fabs(span.low), fabs(span.high));
    ma_span_add(&span, -most);
    ma_span_add(&span, most);
  }
  *axis = (ma_axis){.is_vertical = true, .has_labels = true};
  ma_axis_fit(axis, canvas, &span, &options, from, to, fabs(to - from));
}

static bool is_masked(double value) { return isnan(value) || value == -INFINITY; }

static ma_color color_of(const ma_heatmap *h, const ma_axis *colors, double value) {
  if (is_masked(value)) return MASKED;
  if (value == INFINITY) return ma_colormap_at(h->map, 1);
  return ma_colormap_at(h->map, ma_axis_takes(colors, value) ? ma_axis_part(colors, value) : 0);
}

/* ---- cells ---- */

static void draw_rectangles(const ma_heatmap *h, ma_canvas *canvas, const ma_frame *f, const ma_axis *colors) {
  cairo_t *cr = canvas->cr;
  /* Without smoothed edges, and a bit larger, cells leave no seams between them. */
  cairo_set_antialias(cr, CAIRO_ANTIALIAS_NONE);
  for (size_t r = 0; r < h->values.rows; r++) {
    for (size_t c = 0; c < h->values.columns; c++) {
      double left = ma_axis_place(&f->x, (double)c - 0.5), right = ma_axis_place(&f->x, (double)c + 0.5);
      double top = ma_axis_place(&f->y, (double)r - 0.5), bottom = ma_axis_place(&f->y, (double)r + 0.5);
      ma_set_color(cr, color_of(h, colors, h->values.at[r * h->values.columns + c]), 1);
      cairo_rectangle(cr, left, top, right - left + 0.3, bottom - top + 0.3);
      cairo_fill(cr);
    }
  }
}

/* Of a block of cells, the value of the largest magnitude: what is massive is never lost to the picture's resolution.
 */
static double block_value(const ma_matrix *m, size_t r0, size_t r1, size_t c0, size_t c1) {
  double best = NAN;
  for (size_t r = r0; r < r1; r++) {
    for (size_t c = c0; c < c1; c++) {
      double value = m->at[r * m->columns + c];
      if (!is_masked(value) && !(fabs(value) <= fabs(best))) best = value;
    }
  }
  return best;
}

static void fill_image(const ma_heatmap *h, const ma_axis *colors, cairo_surface_t *image, size_t width,
                       size_t height) {
  unsigned char *data = cairo_image_surface_get_data(image);
  size_t stride = (size_t)cairo_image_surface_get_stride(image), rows = h->values.rows, columns = h->values.columns;
  cairo_surface_flush(image);
  for (size_t y = 0; y < height; y++) {
    for (size_t x = 0; x < width; x++) {
      double value = block_value(&h->values, y * rows / height, (y + 1) * rows / height, x * columns / width,
                                 (x + 1) * columns / width);
      ma_color c = color_of(h, colors, value);
      uint32_t pixel =
          (uint32_t)lround(255 * c.r) << 16 | (uint32_t)lround(255 * c.g) << 8 | (uint32_t)lround(255 * c.b);
      memcpy(data + y * stride + 4 * x, &pixel, 4);
    }
  }
  cairo_surface_mark_dirty(image);
}

/* Pixels of an image that is `points` long: no more than the picture has, so that each of them shows.  In SVG and PDF
 * it is one a point, since viewers that make an image smaller leave pixels out. */
static size_t image_length(ma_canvas *canvas, double points, size_t cells) {
  double across = points, down = 0;
  cairo_user_to_device_distance(canvas->cr, &across, &down);
  return (size_t)fmax(1, fmin((double)cells, fmin(floor(across), 16000)));
}

static void draw_image(const ma_heatmap *h, ma_canvas *canvas, const ma_frame *f, const ma_axis *colors) {
  cairo_t *cr = canvas->cr;
  double left = ma_axis_place(&f->x, -0.5), right = ma_axis_place(&f->x, (double)h->values.columns - 0.5);
  double top = ma_axis_place(&f->y, -0.5), bottom = ma_axis_place(&f->y, (double)h->values.rows - 0.5);
  size_t width = image_length(canvas, right - left, h->values.columns);
  size_t height = image_length(canvas, bottom - top, h->values.rows);
  cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)width, (int)height);
  if (cairo_surface_status(image) == CAIRO_STATUS_SUCCESS) fill_image(h, colors, image, width, height);
  cairo_translate(cr, left, top);
  cairo_scale(cr, (right - left) / (double)width, (bottom - top) / (double)height);
  cairo_set_source_surface(cr, image, 0, 0);
  cairo_pattern_set_filter(cairo_get_source(cr), CAIRO_FILTER_NEAREST);
  cairo_paint(cr);
  cairo_surface_destroy(image);
}

static bool are_large(const ma_heatmap *h, const ma_canvas *canvas, const ma_frame *f) {
  double width = ma_axis_place(&f->x, 1) - ma_axis_place(&f->x, 0);
  double height = ma_axis_place(&f->y, 1) - ma_axis_place(&f->y, 0);
  cairo_user_to_device_distance(canvas->cr, &width, &height);
  return width >= 2 && height >= 2 && h->values.rows * h->values.columns <= MAX_RECTANGLES;
}

/* ---- the kind ---- */

static void heatmap_span(const ma_mark *mark, ma_canvas *canvas, ma_box box, ma_span *x, ma_span *y) {
  const ma_heatmap *h = (const ma_heatmap *)mark;
  (void)canvas;
  (void)box;
  ma_span_add(x, -0.5);
  ma_span_add(x, (double)h->values.columns - 0.5);
  ma_span_add(y, -0.5);
  ma_span_add(y, (double)h->values.rows - 0.5);
  if (h->x_ticks.n > 0) x->ticks = &h->x_ticks;
  if (h->y_ticks.n > 0) y->ticks = &h->y_ticks;
  x->is_exact = x->has_no_grid = x->is_upright = x->has_integers = true;
  y->is_exact = y->has_no_grid = y->is_reversed = y->has_integers = true;
  if (h->is_square) x->aspect = (double)h->values.columns / (double)h->values.rows;
}

static void heatmap_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  const ma_heatmap *h = (const ma_heatmap *)mark;
  ma_axis colors;
  fit_colors(h, canvas, &colors, 1, 0);
  if (are_large(h, canvas, f)) draw_rectangles(h, canvas, f, &colors);
  else draw_image(h, canvas, f, &colors);
  ma_axis_release(&colors);
}

static void draw_bar(const ma_heatmap *h, ma_canvas *canvas, ma_box bar, const ma_axis *colors) {
  cairo_t *cr = canvas->cr;
  cairo_pattern_t *gradient = cairo_pattern_create_linear(0, bar.bottom, 0, bar.top);
  for (int i = 0; i <= 64; i++) {
    ma_color c = ma_colormap_at(h->map, i / 64.0);
    cairo_pattern_add_color_stop_rgb(gradient, i / 64.0, c.r, c.g, c.b);
  }
  cairo_rectangle(cr, bar.left, bar.top, bar.right - bar.left, bar.bottom - bar.top);
  cairo_set_source(cr, gradient);
  cairo_fill(cr);
  cairo_pattern_destroy(gradient);
  ma_axis_draw(colors, canvas, bar, true);
}

static double heatmap_side(const ma_mark *mark, ma_canvas *canvas, ma_box box, bool draws) {
  const ma_heatmap *h = (const ma_heatmap *)mark;
  double s = canvas->scale;
  ma_box bar = {box.right + BAR_GAP * s, box.top, box.right + (BAR_GAP + BAR_WIDTH) * s, box.bottom};
  ma_text_style style = {
      .size = BAR_LABEL * s, .h = 0.5, .v = 0, .angle = -M_PI / 2, .limit = box.bottom - box.top, .lines = 2};
  ma_axis colors;
  if (!h->has_bar) return 0;
  fit_colors(h, canvas, &colors, box.bottom, box.top);
  double width = bar.right - box.right + colors.depth, label_at = box.right + width + BAR_LABEL_GAP * s;
  if (h->bar_label.text) width += BAR_LABEL_GAP * s + ma_text_measure(canvas, &h->bar_label, style).height;
  if (draws) {
    draw_bar(h, canvas, bar, &colors);
    ma_text_put(canvas, &h->bar_label, label_at, (box.top + box.bottom) / 2, style);
  }
  ma_axis_release(&colors);
  return width;
}

static void heatmap_release(ma_mark *mark) {
  ma_heatmap *h = (ma_heatmap *)mark;
  ma_free(h->values.at);
  ma_ticks_release(&h->x_ticks);
  ma_ticks_release(&h->y_ticks);
  ma_label_release(&h->bar_label);
}

const ma_mark_kind ma_heatmap_kind = {.name = "heatmap",
                                      .size = sizeof(ma_heatmap),
                                      .span = heatmap_span,
                                      .draw = heatmap_draw,
                                      .side = heatmap_side,
                                      .release = heatmap_release};
