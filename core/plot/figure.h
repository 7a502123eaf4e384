/* Figures.  A figure is a description: two axes and a list of marks (marks.h).  A page is one figure, or a grid of them
 * with shared labels.  Nothing is drawn before a page is saved; then it is laid out from measured text and replayed on
 * a cairo surface: PNG, SVG or PDF by the file name's ending.  Sizes are inches, those of text and lines points. */
#ifndef MASSACT_PLOT_FIGURE_H
#define MASSACT_PLOT_FIGURE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef enum ma_scale {
  MA_SCALE_LINEAR,
  MA_SCALE_LOG,
  MA_SCALE_SYMLOG /* log on both sides of zero, linear next to it */
} ma_scale;

typedef struct ma_color {
  double r, g, b; /* 0 .. 1 */
} ma_color;

/* Text with its look; no text, no label. */
typedef struct ma_label {
  char *text;
  ma_color color;
  bool is_bold;
} ma_label;

typedef struct ma_numbers {
  double *at;
  size_t n;
} ma_numbers;

/* Labels at places of an axis. */
typedef struct ma_ticks {
  double *places;
  ma_label *labels;
  size_t n;
} ma_ticks;

typedef struct ma_axis_options {
  ma_label label;
  ma_scale scale;
  double low, high;  /* NaN: from the marks */
  bool has_integers; /* ticks at whole numbers */
  ma_ticks ticks;    /* instead of numbers */
} ma_axis_options;

typedef enum ma_legend_place {
  MA_LEGEND_AUTO, /* the place inside the plot that hides least, else above */
  MA_LEGEND_NONE,
  MA_LEGEND_ABOVE,
  MA_LEGEND_TOP_LEFT,
  MA_LEGEND_TOP_RIGHT,
  MA_LEGEND_BOTTOM_LEFT,
  MA_LEGEND_BOTTOM_RIGHT,
  MA_LEGEND_TOP,
  MA_LEGEND_BOTTOM,
  MA_LEGEND_LEFT,
  MA_LEGEND_RIGHT,
  MA_LEGEND_CENTER
} ma_legend_place;

typedef struct ma_mark ma_mark;
typedef struct ma_mark_kind ma_mark_kind;

typedef struct ma_figure {
  double width, height;
  ma_label title;
  ma_axis_options x, y;
  ma_legend_place legend;
  ma_mark **marks;
  size_t n_marks;
  ma_mark *pending; /* begun and not kept yet */
} ma_figure;

typedef struct ma_page {
  double width, height;
  const ma_figure **figures; /* borrowed; row by row */
  size_t n_figures;
  int columns; /* 0: a single figure, without a grid's labels */
  ma_label title, x_label, y_label;
  bool shares_x, shares_y, shares_legend;
} ma_page;

/* A list of strings. */
typedef struct ma_texts {
  char **at;
  size_t n, capacity;
} ma_texts;

void ma_figure_init(ma_figure *figure);
void ma_figure_release(ma_figure *figure);
/* A zeroed mark of a kind for the caller to fill.  The figure owns it at once (whatever fails, it is released), and
 * shows it from ma_figure_keep on. */
ma_status ma_figure_begin(ma_mark **out, ma_figure *figure, const ma_mark_kind *kind, ma_error *err);
/* Fails where a mark does not go with those that are there. */
ma_status ma_figure_keep(ma_figure *figure, ma_error *err);

void ma_label_release(ma_label *label);
void ma_ticks_release(ma_ticks *ticks);
void ma_texts_release(ma_texts *texts);
/* "blue", "#1f77b4"; false when unknown. */
bool ma_color_parse(ma_color *out, const char *name);

/* Draws a page into a file, beside and renamed.  `metadata`: pairs key, value, ..., NULL, which a PNG keeps in its text
 * chunks, SVG and PDF their title; or NULL.  `dpi` is for PNG. */
ma_status ma_page_save(const ma_page *page, const char *path, double dpi, const char *const *metadata, ma_error *err);
/* Adds every string that would be drawn. */
ma_status ma_page_texts(const ma_page *page, ma_texts *out, ma_error *err);

/* A PNG's pixels, three bytes each (red, green, blue), and its text chunks as key, value, key, ... */
typedef struct ma_picture {
  int width, height;
  unsigned char *pixels;
  ma_texts metadata;
} ma_picture;
ma_status ma_picture_read(ma_picture *out, const char *path, ma_error *err);
void ma_picture_release(ma_picture *picture);

#endif
