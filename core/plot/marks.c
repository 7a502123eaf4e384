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

static const double VALUE_SIZE = 10; /* of the numbers on bars */

static double bar_width(const ma_figure *f, ma_box box) {
  double slot = (box.right - box.left) / (double)f->n_labels;
  return slot * (f->n_groups > 1 ? 0.8 : 0.55) / (double)f->n_groups;
}

/* Values that would touch their neighbours' are turned; *widest is the widest's width. */
static bool values_are_turned(cairo_t *cr, const ma_figure *f, ma_box box, double *widest) {
  char text[MA_TICK_TEXT];
  *widest = 0;
  for (size_t g = 0; g < f->n_groups; g++) {
    for (size_t i = 0; i < f->n_labels; i++) {
      ma_number_text(text, f->groups[g].values[i]);
      *widest = fmax(*widest, ma_text_width(cr, text, VALUE_SIZE));
    }
  }
  double slot = (box.right - box.left) / (double)f->n_labels;
  return *widest + 4 > (f->n_groups > 1 ? bar_width(f, box) : slot);
}

double ma_bar_values_height(cairo_t *cr, const ma_figure *f, ma_box box) {
  double widest;
  return values_are_turned(cr, f, box, &widest) ? widest + 10 : VALUE_SIZE + 10;
}

void ma_draw_bars(cairo_t *cr, const ma_figure *f, const ma_axis *y, ma_box box) {
  double slot = (box.right - box.left) / (double)f->n_labels, width = bar_width(f, box);
  const double size = VALUE_SIZE;
  double widest;
  char text[MA_TICK_TEXT];
  bool turned = values_are_turned(cr, f, box, &widest);
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

enum { LEGEND_LINE = 16, LEGEND_PAD = 6, LEGEND_KEY = 26 };
static const double LEGEND_SIZE = 11;

/* One entry: its key and its label, from (left, middle) on. */
static void draw_entry(cairo_t *cr, const ma_figure *f, size_t i, double left, double middle) {
  bool is_line = i < f->n_series;
  ma_set_color(cr, is_line ? f->series[i].color : f->groups[i - f->n_series].color);
  if (is_line) {
    cairo_set_line_width(cr, 1.5);
    cairo_move_to(cr, left, middle);
    cairo_line_to(cr, left + LEGEND_KEY - 6, middle);
    cairo_stroke(cr);
    if (f->series[i].has_markers) {
      cairo_arc(cr, left + (LEGEND_KEY - 6) / 2.0, middle, 3, 0, 2 * M_PI);
      cairo_fill(cr);
    }
  } else {
    cairo_rectangle(cr, left, middle - 4, LEGEND_KEY - 8, 8);
    cairo_fill(cr);
  }
  cairo_set_source_rgb(cr, 0, 0, 0);
  ma_text_put(cr, entry_label(f, i), left + LEGEND_KEY, middle, 0, 0.5, LEGEND_SIZE, 0);
}

/* Entries side by side above the plot, where bars leave no corner free: rows of them, each centred.  Returns the
 * height that they take. */
double ma_legend_strip(cairo_t *cr, const ma_figure *f, ma_box box, bool draws) {
  const double gap = 18, room = box.right - box.left;
  size_t first = 0;
  int rows = 0;
  if (f->n_groups < 2) return 0;
  while (first < n_entries(f)) {
    double width = 0;
    size_t last = first;
    for (; last < n_entries(f); last++) {
      const char *label = entry_label(f, last);
      double more = label ? LEGEND_KEY + ma_text_width(cr, label, LEGEND_SIZE) + (width > 0 ? gap : 0) : 0;
      if (width > 0 && width + more > room) break;
      width += more;
    }
    double left = (box.left + box.right - width) / 2;
    for (size_t i = first; i < last; i++) {
      if (!entry_label(f, i)) continue;
      if (draws) draw_entry(cr, f, i, left, box.top - 6 - LEGEND_LINE / 2.0 - LEGEND_LINE * rows);
      left += LEGEND_KEY + ma_text_width(cr, entry_label(f, i), LEGEND_SIZE) + gap;
    }
    if (width > 0) rows++;
    first = last;
  }
  return rows > 0 ? rows * LEGEND_LINE + 6 : 0;
}

/* Of lines: a box in the corner that hides the fewest points; upper left is the first of equals. */
void ma_draw_legend(cairo_t *cr, const ma_figure *f, const ma_axis *x, const ma_axis *y, ma_box box) {
  const double gap = 8;
  double widest = 0;
  int rows = 0;
  if (f->n_groups > 1) return;
  for (size_t i = 0; i < n_entries(f); i++) {
    if (!entry_label(f, i)) continue;
    rows++;
    widest = fmax(widest, ma_text_width(cr, entry_label(f, i), LEGEND_SIZE));
  }
  if (rows == 0) return;
  double w = widest + LEGEND_KEY + 2 * LEGEND_PAD + 6, h = rows * LEGEND_LINE + 2 * LEGEND_PAD;
  ma_box best = {0, 0, 0, 0};
  int least = -1;
  for (int corner = 0; corner < 6; corner++) {
    double left = corner < 4 ? (corner % 2 ? box.right - gap - w : box.left + gap) : (box.left + box.right - w) / 2;
    double top = (corner < 4 ? corner / 2 : corner - 4) ? box.bottom - gap - h : box.top + gap;
    ma_box at = {left, top, left + w, top + h};
    int hidden = hidden_points(f, x, y, at);
    if (least < 0 || hidden < least) least = hidden, best = at;
  }
  cairo_rectangle(cr, best.left, best.top, w, h);
  cairo_set_source_rgba(cr, 1, 1, 1, 0.85);
  cairo_fill_preserve(cr);
  cairo_set_source_rgb(cr, 0.8, 0.8, 0.8);
  cairo_set_line_width(cr, 0.8);
  cairo_stroke(cr);
  double at = best.top + LEGEND_PAD + LEGEND_LINE / 2.0;
  for (size_t i = 0; i < n_entries(f); i++) {
    if (!entry_label(f, i)) continue;
    draw_entry(cr, f, i, best.left + LEGEND_PAD, at);
    at += LEGEND_LINE;
  }
}
