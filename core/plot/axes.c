/* Axes with their labels: measured and thinned out until they fit, then drawn. */
#include <math.h>

#include "plot/plot_internal.h"

static const double TICK_LENGTH = 3.5, TICK_GAP = 3, TICK_SIZE = 10, SLANT = -M_PI / 5;

static ma_label tick_label(const ma_tick *tick) { return tick->label ? *tick->label : ma_plain(tick->text); }

static bool is_marked(const ma_tick *tick) {
  const ma_label *l = tick->label;
  return l && (l->is_bold || l->color.r + l->color.g + l->color.b > 0);
}

static bool has_text(const ma_tick *tick) { return !tick->is_minor && tick_label(tick).text[0] != '\0'; }

/* ---- fitting ---- */

/* The least distance of neighbours that have a text. */
static double least_slot(const ma_axis *a) {
  double least = INFINITY, last = NAN;
  for (size_t i = 0; i < a->n_ticks; i++) {
    if (!has_text(&a->ticks[i]) || a->ticks[i].is_hidden) continue;
    double at = ma_axis_place(a, a->ticks[i].at);
    if (!isnan(last)) least = fmin(least, fabs(at - last));
    last = at;
  }
  return least;
}

/* Do level texts along x stand apart? */
static bool are_apart(const ma_axis *a, ma_canvas *canvas, ma_text_style style) {
  double end = -INFINITY, gap = 0.6 * style.size;
  for (size_t i = 0; i < a->n_ticks; i++) {
    if (!has_text(&a->ticks[i]) || a->ticks[i].is_hidden) continue;
    ma_label label = tick_label(&a->ticks[i]);
    double half = ma_text_measure(canvas, &label, style).width / 2, at = ma_axis_place(a, a->ticks[i].at);
    if (at - half < end + gap) return false;
    end = at + half;
  }
  return true;
}

/* Numbers: every second, third ... keeps its text until they stand apart. */
static void thin_numbers(ma_axis *a, ma_canvas *canvas, ma_text_style style) {
  for (size_t every = 2; every < 64 && !are_apart(a, canvas, style); every++) {
    size_t k = 0;
    for (size_t i = 0; i < a->n_ticks; i++) a->ticks[i].is_hidden = has_text(&a->ticks[i]) && k++ % every != 0;
  }
}

/* Labels nearer to each other than `apart` lose their text; marked ones keep theirs before others.  Ticks come in
 * order. */
static void thin_labels(ma_axis *a, double apart) {
  double last_marked = INFINITY, last = INFINITY;
  for (size_t i = 0; i < a->n_ticks; i++) {
    ma_tick *tick = &a->ticks[i];
    double at = ma_axis_place(a, tick->at);
    if (!has_text(tick)) continue;
    bool wins = is_marked(tick) && fabs(at - last_marked) >= apart;
    tick->is_hidden = !wins && (is_marked(tick) || fabs(at - last) < apart);
    if (wins)
      for (size_t k = i; k-- > 0 && fabs(ma_axis_place(a, a->ticks[k].at) - at) < apart;)
        a->ticks[k].is_hidden |= !is_marked(&a->ticks[k]);
    if (wins) last_marked = at;
    if (!tick->is_hidden) last = at;
  }
}

/* Sets size and angle, and hides what has no room. */
static void arrange(ma_axis *a, ma_canvas *canvas, bool is_named) {
  double slot = least_slot(a), size = TICK_SIZE * canvas->scale;
  a->size = size;
  a->angle = 0;
  if (!a->is_vertical && (!isfinite(slot) || are_apart(a, canvas, (ma_text_style){.size = size}))) return;
  if (!a->is_vertical && !is_named) {
    thin_numbers(a, canvas, (ma_text_style){.size = size});
    return;
  }
  if (!a->is_vertical) a->angle = !a->is_upright && slot > 1.4 * size ? SLANT : -M_PI / 2;
  double line = 1.17 * size; /* what DejaVu Serif takes */
  if (slot < line) {
    a->size = size * fmax(0.55, slot / line);
    thin_labels(a, 1.1 * a->size);
  }
}

static ma_text_style label_style(const ma_axis *a, double limit) {
  ma_text_style style = {.size = a->size,
                         .h = a->is_vertical || a->angle != 0 ? 1 : 0.5,
                         .v = a->is_vertical ? 0.5 : 0,
                         .angle = a->angle,
                         .limit = limit,
                         .lines = 1};
  if (a->angle == -M_PI / 2) style.v = 0.5;
  return style;
}

/* How far labels reach: away from the axis, and beyond its ends. */
static void measure(ma_axis *a, ma_canvas *canvas, double limit) {
  double ends[2] = {fmin(a->from, a->to), fmax(a->from, a->to)};
  double deepest = 0, sine = fabs(sin(a->angle)), cosine = fabs(cos(a->angle));
  a->before = a->after = 0;
  a->limit = limit;
  for (size_t i = 0; a->has_labels && i < a->n_ticks; i++) {
    if (a->ticks[i].is_hidden || !has_text(&a->ticks[i])) continue;
    ma_label label = tick_label(&a->ticks[i]);
    ma_extent e = ma_text_measure(canvas, &label, label_style(a, limit));
    double at = ma_axis_place(a, a->ticks[i].at);
    deepest = fmax(deepest, a->is_vertical ? e.width : sine * e.width + cosine * e.height);
    double half = a->is_vertical ? e.height / 2 : a->angle == 0 ? e.width / 2 : e.height / 2;
    double back = a->angle == SLANT ? cosine * e.width : half;
    a->before = fmax(a->before, ends[0] - (at - back));
    a->after = fmax(a->after, at + half - ends[1]);
  }
  a->depth = (TICK_LENGTH + (deepest > 0 ? TICK_GAP : 0)) * canvas->scale + deepest;
}

void ma_axis_fit(ma_axis *a, ma_canvas *canvas, const ma_span *span, const ma_axis_options *options, double from,
                 double to, double limit) {
  double length = fabs(to - from), room = (a->is_vertical ? 4 : 6.5) * TICK_SIZE * canvas->scale;
  a->scale = span->scale;
  a->from = from;
  a->to = to;
  a->is_upright = span->is_upright;
  a->has_grid = !span->has_no_grid;
  ma_axis_range(a, canvas, span, options, (int)fmin(fmax(length / room, 2), 10));
  if (canvas->st != MA_OK) return;
  arrange(a, canvas, options->ticks.n > 0 || span->ticks);
  measure(a, canvas, limit);
}

/* ---- drawing ---- */

void ma_axis_draw_grid(const ma_axis *a, ma_canvas *canvas, ma_box box) {
  cairo_t *cr = canvas->cr;
  if (!a->has_grid) return;
  cairo_save(cr);
  ma_set_stroke(canvas, MA_STROKE_DASHED, 0.7);
  cairo_set_source_rgb(cr, 0.82, 0.82, 0.82);
  for (size_t i = 0; i < a->n_ticks; i++) {
    double at = ma_axis_place(a, a->ticks[i].at);
    if (a->ticks[i].is_minor) continue;
    cairo_move_to(cr, a->is_vertical ? box.left : at, a->is_vertical ? at : box.bottom);
    cairo_line_to(cr, a->is_vertical ? box.right : at, a->is_vertical ? at : box.top);
  }
  cairo_stroke(cr);
  cairo_restore(cr);
}

void ma_axis_draw(const ma_axis *a, ma_canvas *canvas, ma_box box, bool at_right) {
  double length = TICK_LENGTH * canvas->scale, gap = TICK_GAP * canvas->scale, sign = at_right ? 1 : -1;
  cairo_t *cr = canvas->cr;
  ma_text_style style = label_style(a, a->limit);
  if (at_right) style.h = 0;
  ma_set_stroke(canvas, MA_STROKE_SOLID, 0.8);
  cairo_set_source_rgb(cr, 0, 0, 0);
  for (size_t i = 0; i < a->n_ticks; i++) {
    const ma_tick *tick = &a->ticks[i];
    double at = ma_axis_place(a, tick->at), reach = tick->is_minor ? 0.6 * length : length,
           edge = at_right ? box.right : box.left;
    if (tick->is_hidden && tick->label) continue;
    cairo_move_to(cr, a->is_vertical ? edge : at, a->is_vertical ? at : box.bottom);
    cairo_line_to(cr, a->is_vertical ? edge + sign * reach : at, a->is_vertical ? at : box.bottom + reach);
  }
  cairo_stroke(cr);
  for (size_t i = 0; a->has_labels && i < a->n_ticks; i++) {
    const ma_tick *tick = &a->ticks[i];
    ma_label label = tick_label(tick);
    double at = ma_axis_place(a, tick->at), edge = at_right ? box.right : box.left;
    if (tick->is_hidden || !has_text(tick)) continue;
    if (a->is_vertical) ma_text_put(canvas, &label, edge + sign * (length + gap), at, style);
    else ma_text_put(canvas, &label, at + (a->angle == SLANT ? 0.4 * a->size : 0), box.bottom + length + gap, style);
  }
}
