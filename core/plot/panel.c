/* One figure on a page: its margins from measured text, so that nothing is clipped, then axes, marks, labels. */
#include <math.h>

#include "plot/plot_internal.h"

static const double TITLE_SIZE = 16, LABEL_SIZE = 13.5, LABEL_GAP = 5, TITLE_GAP = 7, LEAST_MARGIN = 6;

static bool has_text(const ma_label *label) { return label->text && label->text[0]; }

static const ma_mark *filling_mark(const ma_figure *f) {
  return f->n_marks == 1 && f->marks[0]->kind->fills_panel ? f->marks[0] : NULL;
}

static ma_text_style title_style(const ma_canvas *canvas, double room) {
  return (ma_text_style){.size = TITLE_SIZE * canvas->scale, .h = 0.5, .v = 1, .limit = room, .lines = 2};
}

static ma_text_style label_style(const ma_canvas *canvas, double room) {
  return (ma_text_style){.size = LABEL_SIZE * canvas->scale, .h = 0.5, .limit = room, .lines = 2};
}

static ma_label panel_title(const ma_panel *panel) {
  ma_label title = panel->figure->title;
  title.is_bold |= panel->is_small;
  return title;
}

/* ---- layout ---- */

void ma_panel_span(ma_panel *panel, ma_canvas *canvas, ma_box box) {
  const ma_figure *f = panel->figure;
  ma_span_init(&panel->x_span, &f->x);
  ma_span_init(&panel->y_span, &f->y);
  for (size_t i = 0; i < f->n_marks; i++)
    if (!f->marks[i]->kind->fills_panel)
      f->marks[i]->kind->span(f->marks[i], canvas, box, &panel->x_span, &panel->y_span);
}

static double side_width(const ma_figure *f, ma_canvas *canvas, ma_box box, bool draws) {
  double width = 0;
  for (size_t i = 0; i < f->n_marks; i++)
    if (f->marks[i]->kind->side) width = fmax(width, f->marks[i]->kind->side(f->marks[i], canvas, box, draws));
  return width;
}

static void fit_axes(ma_panel *panel, ma_canvas *canvas, ma_box box, ma_extent outer) {
  const ma_figure *f = panel->figure;
  bool is_map = panel->x_span.is_upright; /* labels on both axes: less room for each */
  panel->frame.box = box;
  panel->frame.x.is_vertical = false;
  panel->frame.y.is_vertical = true;
  panel->frame.x.has_labels = !panel->hides_x;
  panel->frame.y.has_labels = !panel->hides_y;
  ma_axis_fit(&panel->frame.x, canvas, &panel->x_span, &f->x, box.left, box.right,
              (is_map ? 0.24 : 0.35) * outer.height);
  ma_axis_fit(&panel->frame.y, canvas, &panel->y_span, &f->y, box.bottom, box.top,
              (is_map ? 0.24 : 0.35) * outer.width);
}

static double label_room(ma_canvas *canvas, const ma_label *label, double room) {
  return has_text(label) ? ma_text_measure(canvas, label, label_style(canvas, room)).height + LABEL_GAP * canvas->scale
                         : 0;
}

static double title_room(const ma_panel *panel, ma_canvas *canvas, double room) {
  ma_label title = panel_title(panel);
  return has_text(&title)
             ? ma_text_measure(canvas, &title, title_style(canvas, room)).height + TITLE_GAP * canvas->scale
             : 0;
}

/* Grouped bars leave no corner free, so that their legend is above them at once; one group needs none. */
static ma_legend_place first_choice(const ma_panel *panel) {
  const ma_figure *f = panel->figure;
  if (panel->hides_legend) return MA_LEGEND_NONE;
  for (size_t i = 0; f->legend == MA_LEGEND_AUTO && i < f->n_marks; i++)
    if (f->marks[i]->kind == &ma_bars_kind)
      return ((const ma_bars *)f->marks[i])->n_groups > 1 || f->n_marks > 1 ? MA_LEGEND_ABOVE : MA_LEGEND_NONE;
  return f->legend;
}

/* The part of the room for a plot that it takes where its aspect is set. */
static ma_box trimmed(const ma_panel *panel, ma_box box) {
  double aspect = panel->x_span.aspect, width = box.right - box.left, height = box.bottom - box.top;
  if (!(aspect > 0)) return box;
  double across = fmax(0, width - height * aspect) / 2, down = fmax(0, height - width / aspect) / 2;
  return (ma_box){box.left + across, box.top + down, box.right - across, box.bottom - down};
}

void ma_panel_measure(ma_panel *panel, ma_canvas *canvas, ma_box box, ma_extent outer) {
  const ma_figure *f = panel->figure;
  double least = LEAST_MARGIN * canvas->scale;
  panel->margins = (ma_box){least, least + title_room(panel, canvas, outer.width - 2 * least), least, least};
  if (filling_mark(f)) {
    panel->margins.bottom +=
        fmax(label_room(canvas, &f->x.label, outer.width / 2), label_room(canvas, &f->y.label, outer.width / 2));
    return;
  }
  box = trimmed(panel, box);
  fit_axes(panel, canvas, box, outer);
  if (canvas->st != MA_OK) return;
  const ma_axis *x = &panel->frame.x, *y = &panel->frame.y;
  panel->legend = first_choice(panel);
  if (panel->legend == MA_LEGEND_AUTO) panel->legend = ma_legend_choose(canvas, f, &panel->frame);
  ma_box *m = &panel->margins;
  if (panel->legend == MA_LEGEND_ABOVE) m->top += ma_legend_strip(canvas, &f, 1, box.left, box.right, 0, false);
  m->top = fmax(m->top, least + y->before);
  m->left = fmax(m->left + y->depth + label_room(canvas, &f->y.label, outer.height), least + x->before);
  m->bottom = fmax(m->bottom + x->depth + label_room(canvas, &f->x.label, outer.width), least + y->after);
  m->right = fmax(m->right + side_width(f, canvas, box, false), least + x->after);
}

/* ---- drawing ---- */

void ma_draw_marks(const ma_figure *f, ma_canvas *canvas, const ma_frame *frame) {
  const ma_box *box = &frame->box;
  cairo_save(canvas->cr);
  cairo_rectangle(canvas->cr, box->left, box->top, box->right - box->left, box->bottom - box->top);
  cairo_clip(canvas->cr);
  for (size_t i = 0; i < f->n_marks; i++) {
    cairo_save(canvas->cr);
    f->marks[i]->kind->draw(f->marks[i], canvas, frame);
    cairo_restore(canvas->cr);
  }
  cairo_restore(canvas->cr);
}

static void draw_frame(const ma_panel *panel, ma_canvas *canvas, ma_box box) {
  ma_axis_draw(&panel->frame.x, canvas, box, false);
  ma_axis_draw(&panel->frame.y, canvas, box, false);
  ma_set_stroke(canvas, MA_STROKE_SOLID, 0.8);
  cairo_set_source_rgb(canvas->cr, 0, 0, 0);
  cairo_rectangle(canvas->cr, box.left, box.top, box.right - box.left, box.bottom - box.top);
  cairo_stroke(canvas->cr);
}

static void draw_labels(const ma_panel *panel, ma_canvas *canvas, ma_box box) {
  const ma_figure *f = panel->figure;
  double gap = LABEL_GAP * canvas->scale, middle = (box.left + box.right) / 2;
  ma_text_style style = label_style(canvas, box.right - box.left + 2 * panel->margins.left);
  ma_text_put(canvas, &f->x.label, middle, box.bottom + panel->frame.x.depth + gap, style);
  style.limit = box.bottom - box.top + panel->margins.bottom;
  style.angle = -M_PI / 2;
  style.v = 1;
  ma_text_put(canvas, &f->y.label, box.left - panel->frame.y.depth - gap, (box.top + box.bottom) / 2, style);
}

/* Where a mark has axes of its own they run below it, one on each side. */
static void draw_labels_below(const ma_panel *panel, ma_canvas *canvas, ma_box box) {
  double width = box.right - box.left, middle = (box.left + box.right) / 2, y = box.bottom + LABEL_GAP * canvas->scale;
  double drawn = fmin(width, 1.35 * (box.bottom - box.top));
  ma_text_put(canvas, &panel->figure->x.label, middle - 0.22 * drawn, y, label_style(canvas, width / 2));
  ma_text_put(canvas, &panel->figure->y.label, middle + 0.3 * drawn, y, label_style(canvas, width / 2));
}

void ma_panel_draw(ma_panel *panel, ma_canvas *canvas, ma_box box) {
  const ma_figure *f = panel->figure;
  ma_frame *frame = &panel->frame;
  ma_box m = panel->margins;
  ma_label title = panel_title(panel);
  double above = TITLE_GAP * canvas->scale;
  if (!filling_mark(f)) {
    box = trimmed(panel, box);
    fit_axes(panel, canvas, box,
             (ma_extent){box.right - box.left + m.left + m.right, box.bottom - box.top + m.top + m.bottom});
    if (canvas->st != MA_OK) return;
    ma_axis_draw_grid(&frame->x, canvas, box);
    ma_axis_draw_grid(&frame->y, canvas, box);
    ma_draw_marks(f, canvas, frame);
    draw_frame(panel, canvas, box);
    draw_labels(panel, canvas, box);
    side_width(f, canvas, box, true);
    ma_legend_draw(canvas, f, frame, panel->legend);
    if (panel->legend == MA_LEGEND_ABOVE) above += ma_legend_strip(canvas, &f, 1, box.left, box.right, 0, false);
  } else {
    frame->box = box;
    f->marks[0]->kind->draw(f->marks[0], canvas, frame);
    draw_labels_below(panel, canvas, box);
  }
  ma_text_put(canvas, &title, (box.left + box.right) / 2, box.top - above,
              title_style(canvas, box.right - box.left + fmin(m.left, m.right) * 2));
}

void ma_panel_release(ma_panel *panel) {
  ma_axis_release(&panel->frame.x);
  ma_axis_release(&panel->frame.y);
}
