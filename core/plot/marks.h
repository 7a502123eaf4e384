/* The kinds of marks: each is a ma_mark followed by its own fields, which whoever adds one fills (ma_figure_begin).
 * NaN is a gap everywhere.  A kind's code is in the file of its name; the table of what a kind can do is
 * plot_internal.h's. */
#ifndef MASSACT_PLOT_MARKS_H
#define MASSACT_PLOT_MARKS_H

#include "plot/figure.h"

struct ma_mark {
  const ma_mark_kind *kind;
  ma_label label; /* in the legend */
  ma_color color;
};

typedef enum ma_stroke { MA_STROKE_SOLID, MA_STROKE_DASHED, MA_STROKE_DOTTED } ma_stroke;

extern const ma_mark_kind ma_line_kind, ma_scatter_kind, ma_rule_kind, ma_note_kind, ma_bars_kind, ma_histogram_kind,
    ma_heatmap_kind, ma_bars3d_kind;

/* A line through points, with a band between low and high where there are any. */
typedef struct ma_line {
  ma_mark mark;
  ma_numbers x, y, low, high; /* of one length; low and high may be empty */
  ma_stroke stroke;
  double width; /* points */
  bool has_markers;
} ma_line;

typedef struct ma_scatter {
  ma_mark mark;
  ma_numbers x, y;
  double size, alpha; /* diameter in points; 0 (clear) .. 1 */
} ma_scatter;

/* A line across the plot. */
typedef struct ma_rule {
  ma_mark mark;
  double at;
  bool is_vertical;
  ma_stroke stroke;
} ma_rule;

/* Text at a point; h: 0 it begins there, 0.5 it is centred, 1 it ends there. */
typedef struct ma_note {
  ma_mark mark; /* its label is the text */
  double x, y, h;
} ma_note;

/* Bars side by side at each label, one of each group, with their values written on them. */
typedef struct ma_bar_group {
  ma_label label; /* in the legend where there are several groups */
  ma_color color;
  ma_numbers values, errors; /* one a label; errors may be empty */
} ma_bar_group;

typedef struct ma_bars {
  ma_mark mark;
  ma_ticks ticks; /* at 0, 1, ... */
  ma_bar_group *groups;
  size_t n_groups;
} ma_bars;

typedef struct ma_histogram {
  ma_mark mark;
  ma_numbers edges, counts; /* one edge more than counts, ascending */
  double alpha;
} ma_histogram;

/* Fills edges and counts: `n_bins` bins of one width (of one ratio on a log scale) from low to high, where NaN means
 * the values' own; the last takes its upper edge too.  Values outside are not counted. */
ma_status ma_histogram_count(ma_histogram *out, const ma_numbers *values, int n_bins, double low, double high,
                             ma_scale scale, ma_error *err);

typedef struct ma_matrix {
  double *at; /* row by row */
  size_t rows, columns;
} ma_matrix;

typedef struct ma_colormap ma_colormap;
/* NULL where there is none of that name. */
const ma_colormap *ma_colormap_find(const char *name);

/* Row 0 on top; cell (r, c) is centred at x = c, y = r. */
typedef struct ma_heatmap {
  ma_mark mark;
  ma_matrix values;
  ma_ticks x_ticks, y_ticks; /* numbers where there are none */
  const ma_colormap *map;
  double low, high; /* NaN: from the values */
  ma_scale scale;
  ma_label bar_label;
  bool has_bar, is_square;
} ma_heatmap;

/* A bar for each element, rows along x (front left to right), columns along y (into the picture). */
typedef struct ma_bars3d {
  ma_mark mark;
  ma_matrix values;
  ma_ticks x_ticks, y_ticks;
  ma_label z_label;
} ma_bars3d;

#endif
