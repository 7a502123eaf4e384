/* What the files of a figure's drawing share.  Inside, lengths are points (1/72 inch), y grows downwards. */
#ifndef MASSACT_PLOT_INTERNAL_H
#define MASSACT_PLOT_INTERNAL_H

#include <cairo.h>

#include "plot/figure.h"

enum { MA_MAX_TICKS = 64, MA_TICK_TEXT = 32 };

/* One axis: values low .. high on pixels from .. to. */
typedef struct ma_axis {
  ma_scale scale;
  double low, high, from, to;
  double ticks[MA_MAX_TICKS];
  char texts[MA_MAX_TICKS][MA_TICK_TEXT];
  int n_ticks;
} ma_axis;

typedef struct ma_box {
  double left, top, right, bottom;
} ma_box;

/* Range and ticks for values low .. high. */
void ma_axis_fit(ma_axis *axis, ma_scale scale, double low, double high, bool integers, int wanted);
double ma_axis_place(const ma_axis *axis, double value);

/* Text with its anchor at (x, y): `h` 0 left, 0.5 middle, 1 right; `v` 0 top, 0.5 middle, 1 bottom of its box. */
void ma_text_put(cairo_t *cr, const char *text, double x, double y, double h, double v, double size, double angle);
double ma_text_width(cairo_t *cr, const char *text, double size);
void ma_set_color(cairo_t *cr, ma_color color);

void ma_draw_lines(cairo_t *cr, const ma_figure *f, const ma_axis *x, const ma_axis *y);
void ma_draw_bars(cairo_t *cr, const ma_figure *f, const ma_axis *y, ma_box box);
/* Room that the numbers on bars take above the highest. */
double ma_bar_values_height(cairo_t *cr, const ma_figure *f, ma_box box);
/* The legend of grouped bars, right above the box; returns its height (0: none), draws it where asked. */
double ma_legend_strip(cairo_t *cr, const ma_figure *f, ma_box box, bool draws);
/* The legend of lines, inside the box. */
void ma_draw_legend(cairo_t *cr, const ma_figure *f, const ma_axis *x, const ma_axis *y, ma_box box);

/* A number as people write it on a bar: 29.12, 213.97, 8976.9, 2.77e24, with a real minus sign. */
void ma_number_text(char text[MA_TICK_TEXT], double value);

ma_status ma_png_write(cairo_surface_t *surface, const char *path, double dpi, const char *const *metadata,
                       ma_error *err);

/* The whole figure on a context of width x height points. */
void ma_figure_draw(const ma_figure *f, cairo_t *cr, double width, double height);

#endif
