/* What the files of a figure's drawing share.  Inside, lengths are points (1/72 inch), y grows downwards. */
#ifndef MASSACT_PLOT_INTERNAL_H
#define MASSACT_PLOT_INTERNAL_H

#include <cairo.h>
#include <pango/pangocairo.h>

#include "plot/figure.h"
#include "plot/marks.h"

/* ---- the canvas: where drawing goes ---- */

/* As in cairo, drawing functions return nothing: the first failure stays in `st`, and is asked for at the end. */
typedef struct ma_canvas {
  cairo_t *cr;
  PangoLayout *layout;
  double scale;    /* of text, lines and gaps: smaller in small panels */
  ma_texts *texts; /* every string drawn is added here, or NULL */
  ma_status st;
  ma_error *err;
} ma_canvas;

typedef struct ma_box {
  double left, top, right, bottom;
} ma_box;

ma_status ma_canvas_open(ma_canvas *canvas, cairo_surface_t *surface, ma_error *err);
void ma_canvas_close(ma_canvas *canvas);
/* Says that nothing more can be drawn. */
void ma_canvas_check(ma_canvas *canvas, ma_status st);
void ma_set_color(cairo_t *cr, ma_color color, double alpha);
void ma_set_stroke(ma_canvas *canvas, ma_stroke stroke, double width);
ma_color ma_color_mix(ma_color a, ma_color b, double part_of_b);

/* ---- text ---- */

/* Where a text's box is held: `h` 0 left, 0.5 middle, 1 right; `v` 0 top, 0.5 middle, 1 bottom.  Longer lines than
 * `limit` (0: none) are wrapped, up to `lines` of them, and what is left becomes an ellipsis. */
typedef struct ma_text_style {
  double size, h, v, angle, limit;
  int lines;
} ma_text_style;

typedef struct ma_extent {
  double width, height;
} ma_extent;

ma_label ma_plain(const char *text); /* borrows: not to be released */
ma_extent ma_text_measure(ma_canvas *canvas, const ma_label *label, ma_text_style style);
void ma_text_put(ma_canvas *canvas, const ma_label *label, double x, double y, ma_text_style style);

enum { MA_NUMBER_TEXT = 48 };
/* A number as people write it: 29.12, 213.97, 8977, 2.77×10²⁴, with a real minus sign. */
void ma_number_text(char text[MA_NUMBER_TEXT], double value);
/* mantissa×10ⁿ, or 10ⁿ where the mantissa is ±1 and has no decimals. */
void ma_power_text(char text[MA_NUMBER_TEXT], double mantissa, int decimals, int exponent);
void ma_fixed_text(char text[MA_NUMBER_TEXT], double value, int decimals);

/* ---- axes ---- */

/* What marks want of an axis, gathered over all of them. */
typedef struct ma_span {
  ma_scale scale;
  double low, high, least;    /* of the values seen; least magnitude that is not 0 */
  double base;                /* where bars stand (NaN: nothing stands) */
  double room_low, room_high; /* points that texts need beyond the values */
  bool is_exact;              /* no room beyond low and high */
  bool is_reversed;
  bool has_no_grid;
  bool is_upright; /* labels that do not fit beside each other are turned by 90 degrees, not slanted */
  bool has_integers;
  double aspect; /* of x: width over height that the plot should have; 0: any */
  const ma_ticks *ticks;
} ma_span;

void ma_span_init(ma_span *span, const ma_axis_options *options);
void ma_span_add(ma_span *span, double value);
void ma_span_join(ma_span *span, const ma_span *other);

typedef struct ma_tick {
  double at;
  const ma_label *label; /* NULL: `text` */
  char text[MA_NUMBER_TEXT];
  bool is_hidden; /* its text, for want of room */
  bool is_minor;  /* no text, a short mark */
} ma_tick;

typedef struct ma_axis {
  ma_scale scale;
  double low, high, threshold; /* symlog is linear within +-threshold */
  double from, to;             /* points */
  bool is_vertical, is_upright, has_labels, has_grid;
  ma_tick *ticks;
  size_t n_ticks, capacity;
  /* How labels are set. */
  double size, angle, limit;
  double depth;         /* the room they take, marks included */
  double before, after; /* how far they stick out beyond the ends */
} ma_axis;

/* Range, ticks and their texts for an axis from `from` to `to`; `limit` is the room that labels may take.  Replaces
 * what was there. */
void ma_axis_fit(ma_axis *axis, ma_canvas *canvas, const ma_span *span, const ma_axis_options *options, double from,
                 double to, double limit);
/* The part of it that needs no labels' sizes: range and ticks, about `wanted` of them. */
void ma_axis_range(ma_axis *axis, ma_canvas *canvas, const ma_span *span, const ma_axis_options *options, int wanted);
void ma_axis_release(ma_axis *axis);
double ma_axis_place(const ma_axis *axis, double value);
bool ma_axis_takes(const ma_axis *axis, double value); /* finite, and positive on a log scale */
/* Part 0 .. 1 of the way from low to high, on the axis' scale. */
double ma_axis_part(const ma_axis *axis, double value);
void ma_axis_draw_grid(const ma_axis *axis, ma_canvas *canvas, ma_box box);
/* Marks and texts along the box' left or bottom edge, or (a colour bar's) its right one. */
void ma_axis_draw(const ma_axis *axis, ma_canvas *canvas, ma_box box, bool at_right);

typedef struct ma_frame {
  ma_box box;
  ma_axis x, y;
} ma_frame;

/* ---- marks ---- */

typedef enum ma_key_shape { MA_KEY_LINE, MA_KEY_DOT, MA_KEY_BOX } ma_key_shape;

/* One entry of a legend. */
typedef struct ma_key {
  const ma_label *label;
  ma_color color;
  ma_key_shape shape;
  ma_stroke stroke;
  double width, alpha;
  bool has_marker, has_band;
} ma_key;

struct ma_mark_kind {
  const char *name;
  size_t size;
  bool fills_panel; /* it has axes of its own and shares a figure with nothing */
  /* Tells the axes what to hold; `box` is about where the plot will be. */
  void (*span)(const ma_mark *mark, ma_canvas *canvas, ma_box box, ma_span *x, ma_span *y);
  void (*draw)(const ma_mark *mark, ma_canvas *canvas, const ma_frame *frame);
  /* The i-th entry of the legend; false: there are no more.  NULL: none. */
  bool (*key)(const ma_mark *mark, size_t i, ma_key *out);
  /* Draws what stands right of the plot (`draws`) and returns its width.  NULL: nothing. */
  double (*side)(const ma_mark *mark, ma_canvas *canvas, ma_box box, bool draws);
  void (*release)(ma_mark *mark);
};

bool ma_colormap_diverges(const ma_colormap *map);            /* its middle means 0 */
ma_color ma_colormap_at(const ma_colormap *map, double part); /* 0 .. 1 */

/* ---- legend ---- */

/* Rows of entries side by side, centred, above `bottom`; returns the height that they take, 0 without entries. */
double ma_legend_strip(ma_canvas *canvas, const ma_figure *const *figures, size_t n, double left, double right,
                       double bottom, bool draws);
/* A box inside the plot; AUTO becomes the corner that hides least, or ABOVE where each hides much. */
ma_legend_place ma_legend_choose(ma_canvas *canvas, const ma_figure *figure, const ma_frame *frame);
void ma_legend_draw(ma_canvas *canvas, const ma_figure *figure, const ma_frame *frame, ma_legend_place place);

/* ---- panels and pages ---- */

/* One figure of a page, on its way from description to drawing. */
typedef struct ma_panel {
  const ma_figure *figure;
  ma_span x_span, y_span;
  ma_frame frame;
  ma_legend_place legend;
  bool is_small;         /* one of a grid: its title is bold */
  bool hides_x, hides_y; /* labels that a neighbour has */
  bool hides_legend;     /* the page has one for all */
  ma_box margins;        /* what lies around the plot, as widths */
} ma_panel;

/* Gathers the spans, for a plot in about `box`. */
void ma_panel_span(ma_panel *panel, ma_canvas *canvas, ma_box box);
/* Fits the axes to a plot in `box` and finds the margins around it; `outer` is the room of all. */
void ma_panel_measure(ma_panel *panel, ma_canvas *canvas, ma_box box, ma_extent outer);
void ma_panel_draw(ma_panel *panel, ma_canvas *canvas, ma_box box);
void ma_panel_release(ma_panel *panel);

/* Draws the marks alone, clipped to the plot. */
void ma_draw_marks(const ma_figure *figure, ma_canvas *canvas, const ma_frame *frame);

/* The whole page on a canvas of its size. */
void ma_page_draw(const ma_page *page, ma_canvas *canvas);

/* ---- files ---- */

ma_status ma_png_write(cairo_surface_t *surface, const char *path, double dpi, const char *const *metadata,
                       ma_error *err);

#endif
