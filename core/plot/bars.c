/* Grouped bars with their values written on them. */
#include <math.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

static const double VALUE_SIZE = 9.5, LEAST_SIZE = 5.5, VALUE_GAP = 3;

/* ---- the numbers on bars ---- */

/* How the numbers are set: level, turned, or (size 0) not at all. */
typedef struct numbers_style {
  double size, angle, room; /* room: what the longest takes beyond its bar */
} numbers_style;

static double bar_width(const ma_bars *bars, double slot) {
  return slot * (bars->n_groups > 1 ? 0.82 : 0.62) / (double)bars->n_groups;
}

static double widest_number(const ma_bars *bars, ma_canvas *canvas, double size) {
  char text[MA_NUMBER_TEXT];
  double widest = 0;
  for (size_t g = 0; g < bars->n_groups; g++) {
    for (size_t i = 0; i < bars->ticks.n; i++) {
      if (!isfinite(bars->groups[g].values.at[i])) continue;
      ma_number_text(text, bars->groups[g].values.at[i]);
      ma_label label = ma_plain(text);
      widest = fmax(widest, ma_text_measure(canvas, &label, (ma_text_style){.size = size}).width);
    }
  }
  return widest;
}

static numbers_style style_numbers(const ma_bars *bars, ma_canvas *canvas, double slot) {
  double size = VALUE_SIZE * canvas->scale, room = bars->n_groups > 1 ? bar_width(bars, slot) : slot;
  double turned = fmin(size, 0.9 * room), gap = VALUE_GAP * canvas->scale;
  if (turned < LEAST_SIZE * fmin(1, canvas->scale)) return (numbers_style){0, 0, 0};
  double widest = widest_number(bars, canvas, size);
  if (widest + 3 <= room) return (numbers_style){size, 0, 1.2 * size + gap};
  return (numbers_style){turned, -M_PI / 2, widest * turned / size + 2 * gap};
}

/* ---- the kind ---- */

static double error_of(const ma_bar_group *group, size_t i) {
  double error = i < group->errors.n ? group->errors.at[i] : 0;
  return isfinite(error) ? fabs(error) : 0;
}

static void bars_span(const ma_mark *mark, ma_canvas *canvas, ma_box box, ma_span *x, ma_span *y) {
  const ma_bars *bars = (const ma_bars *)mark;
  double n = (double)bars->ticks.n, slot = (box.right - box.left) / fmax(n, 1);
  bool any_below = false, any_above = false;
  ma_span_add(x, -0.5);
  ma_span_add(x, n - 0.5);
  x->is_exact = x->has_no_grid = true;
  x->ticks = &bars->ticks;
  y->base = 0;
  for (size_t g = 0; g < bars->n_groups; g++) {
    for (size_t i = 0; i < bars->ticks.n; i++) {
      double value = bars->groups[g].values.at[i], error = error_of(&bars->groups[g], i);
      ma_span_add(y, value - error);
      ma_span_add(y, value + error);
      any_below |= value < 0;
      any_above |= value >= 0;
    }
  }
  double room = style_numbers(bars, canvas, slot).room;
  if (any_above || y->scale == MA_SCALE_LOG) y->room_high = fmax(y->room_high, room);
  if (any_below && y->scale != MA_SCALE_LOG) y->room_low = fmax(y->room_low, room);
}

static void draw_error(ma_canvas *canvas, const ma_frame *f, double x, double low, double high, double cap) {
  if (!ma_axis_takes(&f->y, high)) return;
  double top = ma_axis_place(&f->y, high),
         bottom = ma_axis_takes(&f->y, low) ? ma_axis_place(&f->y, low) : f->box.bottom;
  cairo_set_source_rgb(canvas->cr, 0.15, 0.15, 0.15);
  ma_set_stroke(canvas, MA_STROKE_SOLID, 1);
  cairo_move_to(canvas->cr, x, bottom);
  cairo_line_to(canvas->cr, x, top);
  for (int end = 0; end < 2; end++) {
    cairo_move_to(canvas->cr, x - cap, end ? top : bottom);
    cairo_line_to(canvas->cr, x + cap, end ? top : bottom);
  }
  cairo_stroke(canvas->cr);
}

/* A number beyond the end of its bar: above, or below where the value is negative. */
static void draw_number(ma_canvas *canvas, double x, double end, double value, bool hangs, numbers_style numbers) {
  char text[MA_NUMBER_TEXT];
  double gap = VALUE_GAP * canvas->scale;
  ma_text_style style = {.size = numbers.size, .angle = numbers.angle, .h = 0.5, .v = hangs ? 0 : 1};
  if (numbers.angle != 0) style.h = hangs ? 1 : 0, style.v = 0.5;
  ma_number_text(text, value);
  ma_label label = ma_plain(text);
  ma_text_put(canvas, &label, x, end + (hangs ? 1 : -1) * (numbers.angle != 0 ? gap : gap / 3), style);
}

static void draw_group(const ma_bars *bars, size_t g, ma_canvas *canvas, const ma_frame *f, numbers_style numbers) {
  const ma_bar_group *group = &bars->groups[g];
  double slot = fabs(ma_axis_place(&f->x, 1) - ma_axis_place(&f->x, 0)), width = bar_width(bars, slot);
  double base =
      f->y.scale == MA_SCALE_LOG ? f->box.bottom : fmin(fmax(ma_axis_place(&f->y, 0), f->box.top), f->box.bottom);
  for (size_t i = 0; i < bars->ticks.n; i++) {
    double value = group->values.at[i], error = error_of(group, i);
    if (!ma_axis_takes(&f->y, value)) continue;
    double middle = ma_axis_place(&f->x, (double)i) + ((double)g - 0.5 * (double)(bars->n_groups - 1)) * width;
    double top = ma_axis_place(&f->y, value), inner = bars->n_groups > 1 ? 0.92 * width : width;
    bool hangs = value < 0 && f->y.scale != MA_SCALE_LOG;
    ma_set_color(canvas->cr, group->color, 1);
    cairo_rectangle(canvas->cr, middle - inner / 2, fmin(top, base), inner, fabs(base - top));
    cairo_fill(canvas->cr);
    if (error > 0) draw_error(canvas, f, middle, value - error, value + error, 0.2 * inner);
    double end = error > 0 ? ma_axis_place(&f->y, hangs ? value - error : value + error) : top;
    if (numbers.size > 0) draw_number(canvas, middle, end, value, hangs, numbers);
  }
}

static void bars_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  const ma_bars *bars = (const ma_bars *)mark;
  numbers_style numbers = style_numbers(bars, canvas, fabs(ma_axis_place(&f->x, 1) - ma_axis_place(&f->x, 0)));
  for (size_t g = 0; g < bars->n_groups; g++) draw_group(bars, g, canvas, f, numbers);
  if (f->y.scale == MA_SCALE_LOG || f->y.low >= 0 || f->y.high <= 0) return;
  double zero = ma_axis_place(&f->y, 0);
  cairo_set_source_rgb(canvas->cr, 0, 0, 0);
  ma_set_stroke(canvas, MA_STROKE_SOLID, 0.8);
  cairo_move_to(canvas->cr, f->box.left, zero);
  cairo_line_to(canvas->cr, f->box.right, zero);
  cairo_stroke(canvas->cr);
}

static bool bars_key(const ma_mark *mark, size_t i, ma_key *out) {
  const ma_bars *bars = (const ma_bars *)mark;
  if (i >= bars->n_groups) return false;
  *out = (ma_key){.label = &bars->groups[i].label, .color = bars->groups[i].color, .shape = MA_KEY_BOX, .alpha = 1};
  return true;
}

static void bars_release(ma_mark *mark) {
  ma_bars *bars = (ma_bars *)mark;
  for (size_t g = 0; g < bars->n_groups; g++) {
    ma_label_release(&bars->groups[g].label);
    ma_free(bars->groups[g].values.at);
    ma_free(bars->groups[g].errors.at);
  }
  ma_free(bars->groups);
  ma_ticks_release(&bars->ticks);
}

const ma_mark_kind ma_bars_kind = {.name = "bars",
                                   .size = sizeof(ma_bars),
                                   .span = bars_span,
                                   .draw = bars_draw,
                                   .key = bars_key,
                                   .release = bars_release};
