/* Figures and what they hold. */
#include "plot/figure.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

void ma_label_release(ma_label *label) {
  ma_free(label->text);
  *label = (ma_label){0};
}

void ma_ticks_release(ma_ticks *ticks) {
  for (size_t i = 0; i < ticks->n; i++) ma_label_release(&ticks->labels[i]);
  ma_free(ticks->labels);
  ma_free(ticks->places);
  *ticks = (ma_ticks){0};
}

static void axis_release(ma_axis_options *axis) {
  ma_label_release(&axis->label);
  ma_ticks_release(&axis->ticks);
}

static void mark_release(ma_mark *mark) {
  if (!mark) return;
  mark->kind->release(mark);
  ma_label_release(&mark->label);
  ma_free(mark);
}

void ma_figure_init(ma_figure *f) {
  *f = (ma_figure){.width = 8, .height = 5};
  f->x.low = f->x.high = f->y.low = f->y.high = NAN;
}

void ma_figure_release(ma_figure *f) {
  for (size_t i = 0; i < f->n_marks; i++) mark_release(f->marks[i]);
  mark_release(f->pending);
  ma_free(f->marks);
  ma_label_release(&f->title);
  axis_release(&f->x);
  axis_release(&f->y);
  ma_figure_init(f);
}

ma_status ma_figure_begin(ma_mark **out, ma_figure *f, const ma_mark_kind *kind, ma_error *err) {
  *out = NULL;
  mark_release(f->pending);
  f->pending = NULL;
  ma_status st = ma_resize((void **)&f->marks, f->n_marks + 1, sizeof *f->marks, err);
  if (st == MA_OK) st = ma_alloc((void **)&f->pending, 1, kind->size, err);
  if (st != MA_OK) return st;
  f->pending->kind = kind;
  *out = f->pending;
  return MA_OK;
}

ma_status ma_figure_keep(ma_figure *f, ma_error *err) {
  const ma_mark_kind *kind = f->pending->kind;
  for (size_t i = 0; i < f->n_marks; i++)
    if (kind->fills_panel || f->marks[i]->kind->fills_panel)
      return ma_fail(err, MA_BAD_ARGUMENT,
                     "%s: a figure with %s holds nothing else; make a figure for each and a grid of them", kind->name,
                     kind->fills_panel ? kind->name : f->marks[i]->kind->name);
  f->marks[f->n_marks++] = f->pending;
  f->pending = NULL;
  return MA_OK;
}
