/* A figure is a description: axes and a list of marks.  Nothing is drawn before it is saved; then the list is
 * replayed on a cairo surface: PNG, SVG or PDF by the file name's ending.  Sizes are in inches and points. */
#ifndef MASSACT_PLOT_FIGURE_H
#define MASSACT_PLOT_FIGURE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef enum ma_scale { MA_SCALE_LINEAR, MA_SCALE_LOG } ma_scale;

typedef struct ma_color {
  double r, g, b; /* 0 .. 1 */
} ma_color;

/* A line through points; NaNs break it. */
typedef struct ma_series {
  double *x, *y;
  size_t n;
  char *label; /* in the legend, or NULL */
  ma_color color;
  bool has_markers;
} ma_series;

/* Bars side by side at each label, one of each group, with their values written above. */
typedef struct ma_bar_group {
  double *values; /* n_labels of them */
  char *label;    /* in the legend where there are several groups */
  ma_color color;
} ma_bar_group;

typedef struct ma_figure {
  double width, height; /* inches */
  char *title, *x_label, *y_label;
  ma_scale y_scale;
  bool has_integer_x;   /* ticks of x at whole numbers */
  ma_series *series;
  size_t n_series;
  ma_bar_group *groups;
  size_t n_groups;
  char **labels;        /* of the bars */
  size_t n_labels;
} ma_figure;

void ma_figure_init(ma_figure *figure);
void ma_figure_release(ma_figure *figure);
/* "blue", "#1f77b4"; false when unknown. */
bool ma_color_parse(ma_color *out, const char *name);

/* Draws the figure into a file, beside and renamed.  `metadata`: pairs key, value, ..., NULL, which a PNG keeps in its
 * text chunks; or NULL.  `dpi` is for PNG. */
ma_status ma_figure_save(const ma_figure *figure, const char *path, double dpi, const char *const *metadata,
                         ma_error *err);

#endif
