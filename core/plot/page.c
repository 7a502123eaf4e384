/* A page: panels whose plots are of one size and stand in rows and columns, with what they share. */
#include <math.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

static const double GAP = 6, PAGE_TITLE = 18, PAGE_LABEL = 14;

typedef struct layout {
  const ma_page *page;
  ma_canvas *canvas;
  ma_panel *panels;
  int columns, rows;
  ma_box room;          /* what the page's own labels leave */
  ma_extent plot;       /* size of each panel's plot */
  double *lefts, *tops; /* of the plots: by column, by row */
} layout;

/* Text of a whole 8 x 5 figure is at scale 1; smaller panels have smaller text, but less so. */
static double text_scale(double width, double height) {
  double part = fmin(width / (8 * 72), height / (5 * 72));
  return fmin(fmax(pow(part, part < 1 ? 0.36 : 0.3), 0.3), 2);
}

static int row_of(const layout *l, size_t i) { return (int)i / l->columns; }
static int column_of(const layout *l, size_t i) { return (int)i % l->columns; }

/* ---- the page's own labels ---- */

static ma_text_style page_style(double size, double limit, double scale) {
  return (ma_text_style){.size = size * scale, .h = 0.5, .limit = limit, .lines = 2};
}

/* Scale of the labels of a grid: by the page's width, not the panels'. */
static double page_scale(const layout *l) { return fmin(fmax(l->page->width / 9, 0.5), 1.2); }

/* Draws them, or (the first time) finds what room they leave to the panels. */
static void page_labels(layout *l, bool draws) {
  const ma_page *page = l->page;
  double width = page->width * 72, height = page->height * 72, s = page_scale(l), edge = 8 * s, old = l->canvas->scale;
  ma_box plots = l->room;
  ma_box room = {0, 0, width, height};
  const struct {
    const ma_label *label;
    double *side, sign, x, y, size, angle, v;
  } texts[] = {{&page->title, &room.top, 1, width / 2, edge, PAGE_TITLE, 0, 0},
               {&page->x_label, &room.bottom, -1, (plots.left + plots.right) / 2, height - edge, PAGE_LABEL, 0, 1},
               {&page->y_label, &room.left, 1, edge, (plots.top + plots.bottom) / 2, PAGE_LABEL, -M_PI / 2, 0}};
  for (size_t i = 0; i < 3; i++) {
    ma_text_style style = page_style(texts[i].size, texts[i].angle == 0 ? width - 2 * edge : height - 2 * edge, s);
    style.angle = texts[i].angle;
    style.v = texts[i].v;
    if (!texts[i].label->text || !texts[i].label->text[0]) continue;
    *texts[i].side += texts[i].sign * (edge + ma_text_measure(l->canvas, texts[i].label, style).height);
    if (draws) ma_text_put(l->canvas, texts[i].label, texts[i].x, texts[i].y, style);
  }
  l->canvas->scale = s;
  if (page->shares_legend) {
    double strip = ma_legend_strip(l->canvas, page->figures, page->n_figures, 2 * edge, width - 2 * edge, 0, false);
    room.top += strip + (strip > 0 ? edge / 2 : 0);
    if (draws) ma_legend_strip(l->canvas, page->figures, page->n_figures, 2 * edge, width - 2 * edge, room.top, true);
  }
  l->canvas->scale = old;
  if (!draws) l->room = room;
}

/* ---- shared axes ---- */

static void share_spans(layout *l) {
  size_t n = l->page->n_figures;
  for (size_t i = 1; i < n; i++) {
    if (l->page->shares_x) ma_span_join(&l->panels[0].x_span, &l->panels[i].x_span);
    if (l->page->shares_y) ma_span_join(&l->panels[0].y_span, &l->panels[i].y_span);
  }
  for (size_t i = 1; i < n; i++) {
    if (l->page->shares_x) l->panels[i].x_span = l->panels[0].x_span;
    if (l->page->shares_y) l->panels[i].y_span = l->panels[0].y_span;
  }
}

/* ---- layout ---- */

/* The plots' size and places, from the widest margins of each column and the highest of each row. */
static void place(layout *l, double *margins) {
  double *left = margins, *right = left + l->columns, *top = right + l->columns, *bottom = top + l->rows;
  double across = 0, down = 0, gap = l->page->n_figures > 1 ? GAP * l->canvas->scale : 0;
  for (int i = 0; i < 2 * (l->columns + l->rows); i++) margins[i] = 0;
  for (size_t i = 0; i < l->page->n_figures; i++) {
    const ma_box *m = &l->panels[i].margins;
    int r = row_of(l, i), c = column_of(l, i);
    left[c] = fmax(left[c], m->left);
    right[c] = fmax(right[c], m->right);
    top[r] = fmax(top[r], m->top);
    bottom[r] = fmax(bottom[r], m->bottom);
  }
  for (int c = 0; c < l->columns; c++) across += left[c] + right[c] + (c ? gap : 0);
  for (int r = 0; r < l->rows; r++) down += top[r] + bottom[r] + (r ? gap : 0);
  double width = l->room.right - l->room.left, height = l->room.bottom - l->room.top;
  /* A fifth of the page at least is for the plots, whatever their labels want. */
  l->plot.width = fmax(width - across, 0.2 * width) / l->columns;
  l->plot.height = fmax(height - down, 0.2 * height) / l->rows;
  double x = l->room.left, y = l->room.top;
  for (int c = 0; c < l->columns; c++) {
    l->lefts[c] = x + left[c];
    x += left[c] + l->plot.width + right[c] + gap;
  }
  for (int r = 0; r < l->rows; r++) {
    l->tops[r] = y + top[r];
    y += top[r] + l->plot.height + bottom[r] + gap;
  }
}

static ma_box plot_box(const layout *l, size_t i) {
  double left = l->lefts[column_of(l, i)], top = l->tops[row_of(l, i)];
  return (ma_box){left, top, left + l->plot.width, top + l->plot.height};
}

/* Margins depend on the plots' size, and it on them: from a guess, twice. */
static void lay_out(layout *l, double *margins) {
  double width = (l->room.right - l->room.left) / l->columns, height = (l->room.bottom - l->room.top) / l->rows;
  size_t n = l->page->n_figures;
  l->canvas->scale = text_scale(width, height);
  for (size_t i = 0; i < n; i++)
    l->panels[i].margins = (ma_box){0.13 * width, 0.1 * height, 0.05 * width, 0.12 * height};
  place(l, margins);
  for (int round = 0; round < 2 && l->canvas->st == MA_OK; round++) {
    for (size_t i = 0; i < n; i++) ma_panel_span(&l->panels[i], l->canvas, plot_box(l, i));
    share_spans(l);
    for (size_t i = 0; i < n && l->canvas->st == MA_OK; i++)
      ma_panel_measure(&l->panels[i], l->canvas, plot_box(l, i), (ma_extent){width, height});
    place(l, margins);
  }
}

static void set_up(layout *l) {
  const ma_page *page = l->page;
  for (size_t i = 0; i < page->n_figures; i++) {
    l->panels[i].figure = page->figures[i];
    l->panels[i].is_small = page->columns > 0;
    l->panels[i].hides_legend = page->shares_legend;
    /* The lowest of a column has the labels, the first of a row. */
    l->panels[i].hides_x = page->shares_x && i + (size_t)l->columns < page->n_figures;
    l->panels[i].hides_y = page->shares_y && column_of(l, i) > 0;
  }
}

void ma_page_draw(const ma_page *page, ma_canvas *canvas) {
  layout l = {.page = page, .canvas = canvas, .columns = page->columns > 0 ? page->columns : 1};
  double *margins = NULL;
  if ((size_t)l.columns > page->n_figures) l.columns = (int)page->n_figures;
  l.rows = (int)((page->n_figures + (size_t)l.columns - 1) / (size_t)l.columns);
  ma_canvas_check(canvas, MA_NEW(&l.panels, page->n_figures, canvas->err));
  if (canvas->st == MA_OK) ma_canvas_check(canvas, MA_NEW(&margins, 3 * (l.columns + l.rows), canvas->err));
  if (canvas->st == MA_OK) {
    l.lefts = margins + 2 * (l.columns + l.rows);
    l.tops = l.lefts + l.columns;
    cairo_set_source_rgb(canvas->cr, 1, 1, 1);
    cairo_paint(canvas->cr);
    set_up(&l);
    l.room = (ma_box){0, 0, page->width * 72, page->height * 72};
    page_labels(&l, false);
    lay_out(&l, margins);
    for (size_t i = 0; i < page->n_figures && canvas->st == MA_OK; i++)
      ma_panel_draw(&l.panels[i], canvas, plot_box(&l, i));
    page_labels(&l, true);
  }
  for (size_t i = 0; l.panels && i < page->n_figures; i++) ma_panel_release(&l.panels[i]);
  ma_free(l.panels);
  ma_free(margins);
}
