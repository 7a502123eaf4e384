/* Lines, bars, legend. */
#include <math.h>
#include <string.h>

#include "plot/plot_internal.h"

void ma_set_color(cairo_t *cr, ma_color c) { cairo_set_source_rgb(cr, c.r, c.g, c.b); }

static bool is_drawable(const ma_axis *y, double value) {
  return isfinite(value) && (y->scale != MA_SCALE_LOG || value > 0);
}

/* ---- lines ---- */

void ma_draw_lines(cairo_t *cr, const ma_figure *f, const ma_axis *x, const ma_axis *y) {
  for (size_t s = 0; s < f->n_series; s++) {
    const ma_series *series = &f->series[s];
    bool is_down = false; /* the pen */
    ma_set_color(cr, series->color);
    cairo_set_line_width(cr, 1.5);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
    for (size_t i = 0; i < series->n; i++) {
      if (!is_drawable(y, series->y[i]) || !isfinite(series->x[i])) {
        is_down = false;
        continue;
      }
      double px = ma_axis_place(x, series->x[i]), py = ma_axis_place(y, series->y[i]);
      if (is_down) cairo_line_to(cr, px, py);
      else cairo_move_to(cr, px, py);
      is_down = true;
    }
    cairo_stroke(cr);
    for (size_t i = 0; series->has_markers && i < series->n; i++) {
      if (!is_drawable(y, series->y[i])) continue;
      cairo_arc(cr, ma_axis_place(x, series->x[i]), ma_axis_place(y, series->y[i]), series->n > 60 ? 1.8 : 3, 0, 2 * M_PI);
      cairo_fill(cr);
    }
  }
}

/* ---- bars ---- */

void ma_draw_bars(cairo_t *cr, const ma_figure *f, const ma_axis *y, ma_box box) {
  double slot = (box.right - box.left) / (double)f->n_labels;
  double width = slot * (f->n_groups > 1 ? 0.8 : 0.55) / (double)f->n_groups;
  double size = 10, widest = 0;
  char text[MA_TICK_TEXT];
  for (size_t g = 0; g < f->n_groups; g++) {
    for (size_t i = 0; i < f->n_labels; i++) {
      ma_number_text(text, f->groups[g].values[i]);
      double w = ma_text_width(cr, text, size);
      if (w > widest) widest = w;
    }
  }
  /* Values that would touch their neighbours' are turned. */
  bool turned = widest + 4 > (f->n_groups > 1 ? width : slot);
  for (size_t g = 0; g < f->n_groups; g++) {
    for (size_t i = 0; i < f->n_labels; i++) {
      double value = f->groups[g].values[i];
      if (!is_drawable(y, value)) continue;
      double middle = box.left + ((double)i + 0.5) * slot + ((double)g - 0.5 * (double)(f->n_groups - 1)) * width;
      double top = ma_axis_place(y, value), base = y->scale == MA_SCALE_LOG ? box.bottom : ma_axis_place(y, fmax(y->low, 0));
      ma_set_color(cr, f->groups[g].color);
      cairo_rectangle(cr, middle - 0.46 * width, fmin(top, base), 0.92 * width, fabs(base - top));
      cairo_fill(cr);
      cairo_set_source_rgb(cr, 0, 0, 0);
      ma_number_text(text, value);
      if (turned) ma_text_put(cr, text, middle, top - 4, 0, 0.5, size, -M_PI / 2);
      else ma_text_put(cr, text, middle, top - 3, 0.5, 1, size, 0);
    }
  }
}

/* ---- legend ---- */

static const char *entry_label(const ma_figure *f, size_t i) {
  return i < f->n_series ? f->series[i].label : f->groups[i - f->n_series].label;
}

static size_t n_entries(const ma_figure *f) { return f->n_series + (f->n_groups > 1 ? f->n_groups : 0); }

/* How many points of the lines a box hides. */
static int hidden_points(const ma_figure *f, const ma_axis *x, const ma_axis *y, ma_box at) {
  int hidden = 0;
  for (size_t s = 0; s < f->n_series; s++) {
    for (size_t i = 0; i < f->series[s].n; i++) {
      double px = ma_axis_place(x, f->series[s].x[i]), py = ma_axis_place(y, f->series[s].y[i]);
      hidden += px > at.left - 4 && px < at.right + 4 && py > at.top - 4 && py < at.bottom + 4;
    }
  }
  return hidden;
}

void ma_draw_legend(cairo_t *cr, const ma_figure *f, const ma_axis *x, const ma_axis *y, ma_box box) {
  const double size = 11, line = 16, pad = 6, key = 26, gap = 8;
  double widest = 0;
  int rows = 0;
  for (size_t i = 0; i < n_entries(f); i++) {
    if (!entry_label(f, i)) continue;
    rows++;
    widest = fmax(widest, ma_text_width(cr, entry_label(f, i), size));
  }
  if (rows == 0) return;
  double w = widest + key + 2 * pad + 6, h = rows * line + 2 * pad;
  ma_box best = {0, 0, 0, 0};
  int least = -1;
  /* The corner that hides least; upper left is the first of equals. */
  for (int corner = 0; corner < 6; corner++) {
    double left = corner < 4 ? (corner % 2 ? box.right - gap - w : box.left + gap) : (box.left + box.right - w) / 2;
    double top = (corner < 4 ? corner / 2 : corner - 4) ? box.bottom - gap - h : box.top + gap;
    ma_box at = {left, top, left + w, top + h};
    int hidden = f->n_series ? hidden_points(f, x, y, at) : 0;
    if (least < 0 || hidden < least) least = hidden, best = at;
  }
  cairo_rectangle(cr, best.left, best.top, w, h);
  cairo_set_source_rgba(cr, 1, 1, 1, 0.85);
  cairo_fill_preserve(cr);
  cairo_set_source_rgb(cr, 0.8, 0.8, 0.8);
  cairo_set_line_width(cr, 0.8);
  cairo_stroke(cr);
  double at = best.top + pad + line / 2;
  for (size_t i = 0; i < n_entries(f); i++) {
    if (!entry_label(f, i)) continue;
    bool is_line = i < f->n_series;
    ma_set_color(cr, is_line ? f->series[i].color : f->groups[i - f->n_series].color);
    if (is_line) {
      cairo_set_line_width(cr, 1.5);
      cairo_move_to(cr, best.left + pad, at);
      cairo_line_to(cr, best.left + pad + key - 6, at);
      cairo_stroke(cr);
      if (f->series[i].has_markers) {
        cairo_arc(cr, best.left + pad + (key - 6) / 2, at, 3, 0, 2 * M_PI);
        cairo_fill(cr);
      }
    } else {
      cairo_rectangle(cr, best.left + pad, at - 4, key - 8, 8);
      cairo_fill(cr);
    }
    cairo_set_source_rgb(cr, 0, 0, 0);
    ma_text_put(cr, entry_label(f, i), best.left + pad + key, at, 0, 0.5, size, 0);
    at += line;
  }
}
