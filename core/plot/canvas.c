/* The canvas: a cairo context, a Pango layout, and the first failure. */
#include <math.h>

#include "plot/plot_internal.h"

void ma_canvas_check(ma_canvas *canvas, ma_status st) {
  if (canvas->st == MA_OK) canvas->st = st;
}

/* Metrics without hinting: a layout is the same at every resolution, and in SVG and PDF. */
static void set_font_options(PangoContext *context) {
  cairo_font_options_t *options = cairo_font_options_create();
  cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
  cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
  pango_cairo_context_set_font_options(context, options);
  pango_context_set_round_glyph_positions(context, FALSE);
  cairo_font_options_destroy(options);
}

ma_status ma_canvas_open(ma_canvas *canvas, cairo_surface_t *surface, ma_error *err) {
  *canvas = (ma_canvas){.cr = cairo_create(surface), .scale = 1, .err = err};
  if (cairo_status(canvas->cr) == CAIRO_STATUS_SUCCESS) canvas->layout = pango_cairo_create_layout(canvas->cr);
  if (canvas->layout) {
    set_font_options(pango_layout_get_context(canvas->layout));
    return MA_OK;
  }
  const char *reason = cairo_status_to_string(cairo_status(canvas->cr));
  ma_canvas_close(canvas);
  return ma_fail(err, MA_NO_MEMORY, "cannot draw: %s", reason);
}

void ma_canvas_close(ma_canvas *canvas) {
  if (canvas->layout) g_object_unref(canvas->layout);
  cairo_destroy(canvas->cr);
  canvas->layout = NULL;
  canvas->cr = NULL;
}

void ma_set_stroke(ma_canvas *canvas, ma_stroke stroke, double width) {
  static const double dashes[] = {4, 3}, dots[] = {1, 2};
  double lengths[2], unit = canvas->scale * fmax(1, width);
  const double *pattern = stroke == MA_STROKE_DOTTED ? dots : dashes;
  for (int i = 0; i < 2; i++) lengths[i] = pattern[i] * unit;
  cairo_set_dash(canvas->cr, lengths, stroke == MA_STROKE_SOLID ? 0 : 2, 0);
  cairo_set_line_width(canvas->cr, width * canvas->scale);
  cairo_set_line_join(canvas->cr, CAIRO_LINE_JOIN_ROUND);
}
