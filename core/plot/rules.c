/* Lines across the plot, and notes in it. */
#include <math.h>

#include "plot/plot_internal.h"

/* ---- rule ---- */

static void rule_span(const ma_mark *mark, ma_canvas *canvas, ma_box box, ma_span *x, ma_span *y) {
  const ma_rule *rule = (const ma_rule *)mark;
  (void)canvas;
  (void)box;
  ma_span_add(rule->is_vertical ? x : y, rule->at);
}

static void rule_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  const ma_rule *rule = (const ma_rule *)mark;
  const ma_axis *axis = rule->is_vertical ? &f->x : &f->y;
  if (!ma_axis_takes(axis, rule->at)) return;
  double at = ma_axis_place(axis, rule->at);
  ma_set_color(canvas->cr, mark->color, 1);
  ma_set_stroke(canvas, rule->stroke, 1.2);
  cairo_move_to(canvas->cr, rule->is_vertical ? at : f->box.left, rule->is_vertical ? f->box.top : at);
  cairo_line_to(canvas->cr, rule->is_vertical ? at : f->box.right, rule->is_vertical ? f->box.bottom : at);
  cairo_stroke(canvas->cr);
}

static bool rule_key(const ma_mark *mark, size_t i, ma_key *out) {
  *out = (ma_key){.label = &mark->label,
                  .color = mark->color,
                  .shape = MA_KEY_LINE,
                  .stroke = ((const ma_rule *)mark)->stroke,
                  .width = 1.2,
                  .alpha = 1};
  return i == 0;
}

static void keep_all(ma_mark *mark) { (void)mark; }

const ma_mark_kind ma_rule_kind = {.name = "rule",
                                   .size = sizeof(ma_rule),
                                   .span = rule_span,
                                   .draw = rule_draw,
                                   .key = rule_key,
                                   .release = keep_all};

/* ---- note ---- */

static void note_span(const ma_mark *mark, ma_canvas *canvas, ma_box box, ma_span *x, ma_span *y) {
  const ma_note *note = (const ma_note *)mark;
  (void)canvas;
  (void)box;
  ma_span_add(x, note->x);
  ma_span_add(y, note->y);
}

static void note_draw(const ma_mark *mark, ma_canvas *canvas, const ma_frame *f) {
  const ma_note *note = (const ma_note *)mark;
  ma_text_style style = {
      .size = 10 * canvas->scale, .h = note->h, .v = 0.5, .limit = f->box.right - f->box.left, .lines = 4};
  if (!ma_axis_takes(&f->x, note->x) || !ma_axis_takes(&f->y, note->y)) return;
  ma_text_put(canvas, &mark->label, ma_axis_place(&f->x, note->x), ma_axis_place(&f->y, note->y), style);
}

const ma_mark_kind ma_note_kind = {
    .name = "note", .size = sizeof(ma_note), .span = note_span, .draw = note_draw, .release = keep_all};
