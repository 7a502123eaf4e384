/* Legends: a strip above the plot, or a box in the corner of the plot that hides least of the marks. */
#include <math.h>
#include <string.h>

#include "plot/plot_internal.h"

static const double LEGEND_SIZE = 10, LEGEND_LINE = 15, LEGEND_PAD = 5, LEGEND_KEY = 30, LEGEND_GAP = 16;

/* ---- entries ---- */

/* Walks over the entries of several figures; what has the same text and colour as one before is left out. */
typedef struct entries {
  const ma_figure *const *figures;
  size_t n, figure, mark, key;
} entries;

static bool next_raw(entries *e, ma_key *out) {
  for (; e->figure < e->n; e->figure++, e->mark = 0) {
    const ma_figure *f = e->figures[e->figure];
    for (; e->mark < f->n_marks; e->mark++, e->key = 0) {
      const ma_mark *mark = f->marks[e->mark];
      while (mark->kind->key && mark->kind->key(mark, e->key, out)) {
        e->key++;
        if (out->label->text && *out->label->text) return true;
      }
    }
  }
  return false;
}

static bool is_same(const ma_key *a, const ma_key *b) {
  return strcmp(a->label->text, b->label->text) == 0 && memcmp(&a->color, &b->color, sizeof a->color) == 0 &&
         a->shape == b->shape && a->stroke == b->stroke;
}

static bool next_entry(entries *e, ma_key *out) {
  while (next_raw(e, out)) {
    entries before = {.figures = e->figures, .n = e->n};
    ma_key other;
    while (next_raw(&before, &other) && !is_same(&other, out)) {
    }
    if (other.label == out->label) return true;
  }
  return false;
}

/* ---- one entry ---- */

static ma_text_style key_style(const ma_canvas *canvas, double room) {
  double s = canvas->scale;
  return (ma_text_style){.size = LEGEND_SIZE * s, .v = 0.5, .limit = fmax(room - LEGEND_KEY * s, 20 * s), .lines = 1};
}

static double entry_width(ma_canvas *canvas, const ma_key *key, double room) {
  return LEGEND_KEY * canvas->scale + ma_text_measure(canvas, key->label, key_style(canvas, room)).width;
}

static void draw_sample(ma_canvas *canvas, const ma_key *key, double left, double middle) {
  cairo_t *cr = canvas->cr;
  double s = canvas->scale, length = (LEGEND_KEY - 7) * s, centre = left + length / 2;
  if (key->has_band || key->shape == MA_KEY_BOX) {
    double half = 4 * s, inset = key->shape == MA_KEY_BOX ? 2 * s : 0;
    ma_set_color(cr, key->color, key->shape == MA_KEY_BOX ? key->alpha : 0.2);
    cairo_rectangle(cr, left + inset, middle - half, length - 2 * inset, 2 * half);
    cairo_fill(cr);
  }
  ma_set_color(cr, key->color, key->alpha);
  if (key->shape == MA_KEY_LINE) {
    ma_set_stroke(canvas, key->stroke, key->width);
    cairo_move_to(cr, left, middle);
    cairo_line_to(cr, left + length, middle);
    cairo_stroke(cr);
  }
  if (key->shape == MA_KEY_DOT || key->has_marker) {
    cairo_arc(cr, centre, middle, key->shape == MA_KEY_DOT ? key->width * s / 2 : 3 * s, 0, 2 * M_PI);
    cairo_fill(cr);
  }
}

static void draw_entry(ma_canvas *canvas, const ma_key *key, double left, double middle, double room) {
  draw_sample(canvas, key, left, middle);
  ma_text_put(canvas, key->label, left + LEGEND_KEY * canvas->scale, middle, key_style(canvas, room));
}

/* ---- above the plot ---- */

/* Width of as many entries as fit into one row; how many is left in *n. */
static double row_width(ma_canvas *canvas, entries e, double room, size_t *n) {
  ma_key key;
  double width = 0;
  *n = 0;
  while (next_entry(&e, &key)) {
    double more = entry_width(canvas, &key, room) + (*n ? LEGEND_GAP * canvas->scale : 0);
    if (*n && width + more > room) break;
    width += more;
    ++*n;
  }
  return width;
}

double ma_legend_strip(ma_canvas *canvas, const ma_figure *const *figures, size_t n_figures, double left, double right,
                       double bottom, bool draws) {
  double line = LEGEND_LINE * canvas->scale, room = right - left;
  entries count = {.figures = figures, .n = n_figures};
  size_t n, rows = 0;
  ma_key key;
  for (;; rows++) {
    row_width(canvas, count, room, &n);
    if (n == 0) break;
    while (n-- > 0) next_entry(&count, &key);
  }
  entries e = {.figures = figures, .n = n_figures};
  for (size_t row = 0; draws && row < rows; row++) {
    double width = row_width(canvas, e, room, &n), at = (left + right - width) / 2;
    double middle = bottom - 5 * canvas->scale - line * ((double)(rows - row) - 0.5);
    while (n-- > 0 && next_entry(&e, &key)) {
      draw_entry(canvas, &key, at, middle, room);
      at += entry_width(canvas, &key, room) + LEGEND_GAP * canvas->scale;
    }
  }
  return rows > 0 ? (double)rows * line + 5 * canvas->scale : 0;
}

/* ---- inside the plot ---- */

static ma_extent box_size(ma_canvas *canvas, const ma_figure *figure, double room) {
  entries e = {.figures = &figure, .n = 1};
  ma_key key;
  double widest = 0, rows = 0, s = canvas->scale;
  for (; next_entry(&e, &key); rows++) widest = fmax(widest, entry_width(canvas, &key, room));
  return (ma_extent){widest + 2 * LEGEND_PAD * s, rows > 0 ? rows * LEGEND_LINE * s + 2 * LEGEND_PAD * s : 0};
}

static double box_room(const ma_canvas *canvas, const ma_frame *f) {
  return f->box.right - f->box.left - 4 * LEGEND_PAD * canvas->scale;
}

static ma_box place_box(const ma_canvas *canvas, const ma_frame *f, ma_extent size, ma_legend_place place) {
  /* Parts of the free width and height that lie left of it and above it. */
  static const double parts[][2] = {
      [MA_LEGEND_TOP_LEFT] = {0, 0},    [MA_LEGEND_TOP] = {0.5, 0},      [MA_LEGEND_TOP_RIGHT] = {1, 0},
      [MA_LEGEND_LEFT] = {0, 0.5},      [MA_LEGEND_CENTER] = {0.5, 0.5}, [MA_LEGEND_RIGHT] = {1, 0.5},
      [MA_LEGEND_BOTTOM_LEFT] = {0, 1}, [MA_LEGEND_BOTTOM] = {0.5, 1},   [MA_LEGEND_BOTTOM_RIGHT] = {1, 1}};
  double gap = 6 * canvas->scale;
  double left = f->box.left + gap + parts[place][0] * (f->box.right - f->box.left - 2 * gap - size.width);
  double top = f->box.top + gap + parts[place][1] * (f->box.bottom - f->box.top - 2 * gap - size.height);
  return (ma_box){left, top, left + size.width, top + size.height};
}

/* How many pixels of a box the marks cover; `ink` has them alone, `scale` pixels a point. */
static double covered(cairo_surface_t *ink, const ma_frame *f, ma_box at, double scale) {
  const unsigned char *data = cairo_image_surface_get_data(ink);
  int stride = cairo_image_surface_get_stride(ink), width = cairo_image_surface_get_width(ink),
      height = cairo_image_surface_get_height(ink);
  int left = (int)((at.left - f->box.left) * scale), right = (int)ceil((at.right - f->box.left) * scale);
  int top = (int)((at.top - f->box.top) * scale), bottom = (int)ceil((at.bottom - f->box.top) * scale);
  double sum = 0;
  for (int y = top > 0 ? top : 0; y < bottom && y < height; y++)
    for (int x = left > 0 ? left : 0; x < right && x < width; x++) sum += data[y * stride + x] > 24;
  return sum;
}

ma_legend_place ma_legend_choose(ma_canvas *canvas, const ma_figure *figure, const ma_frame *f) {
  static const ma_legend_place places[] = {MA_LEGEND_TOP_LEFT,    MA_LEGEND_TOP_RIGHT, MA_LEGEND_BOTTOM_RIGHT,
                                           MA_LEGEND_BOTTOM_LEFT, MA_LEGEND_TOP,       MA_LEGEND_BOTTOM,
                                           MA_LEGEND_RIGHT,       MA_LEGEND_LEFT,      MA_LEGEND_CENTER};
  if (figure->legend != MA_LEGEND_AUTO) return figure->legend;
  ma_extent size = box_size(canvas, figure, box_room(canvas, f));
  double width = f->box.right - f->box.left, height = f->box.bottom - f->box.top,
         scale = fmin(1, 300 / fmax(width, height));
  if (size.height == 0 || canvas->st != MA_OK) return MA_LEGEND_NONE;
  if (size.width > 0.8 * width || size.height > 0.6 * height) return MA_LEGEND_ABOVE;
  cairo_surface_t *ink =
      cairo_image_surface_create(CAIRO_FORMAT_A8, (int)ceil(width * scale), (int)ceil(height * scale));
  ma_canvas map;
  ma_canvas_check(canvas, ma_canvas_open(&map, ink, canvas->err));
  ma_legend_place best = MA_LEGEND_TOP_LEFT;
  double least = INFINITY;
  if (canvas->st == MA_OK) {
    map.scale = canvas->scale;
    cairo_scale(map.cr, scale, scale);
    cairo_translate(map.cr, -f->box.left, -f->box.top);
    ma_draw_marks(figure, &map, f);
    ma_canvas_check(canvas, map.st);
    ma_canvas_close(&map);
    cairo_surface_flush(ink);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
      double hidden = covered(ink, f, place_box(canvas, f, size, places[i]), scale);
      if (hidden < least) least = hidden, best = places[i];
    }
    if (least > 0.002 * size.width * size.height * scale * scale) best = MA_LEGEND_ABOVE;
  }
  cairo_surface_destroy(ink);
  return best;
}

void ma_legend_draw(ma_canvas *canvas, const ma_figure *figure, const ma_frame *f, ma_legend_place place) {
  double room = box_room(canvas, f), line = LEGEND_LINE * canvas->scale, pad = LEGEND_PAD * canvas->scale;
  if (place == MA_LEGEND_NONE) return;
  if (place == MA_LEGEND_ABOVE) {
    ma_legend_strip(canvas, &figure, 1, f->box.left, f->box.right, f->box.top, true);
    return;
  }
  ma_extent size = box_size(canvas, figure, room);
  if (size.height == 0) return;
  ma_box box = place_box(canvas, f, size, place);
  cairo_rectangle(canvas->cr, box.left, box.top, size.width, size.height);
  cairo_set_source_rgba(canvas->cr, 1, 1, 1, 0.85);
  cairo_fill_preserve(canvas->cr);
  cairo_set_source_rgb(canvas->cr, 0.8, 0.8, 0.8);
  ma_set_stroke(canvas, MA_STROKE_SOLID, 0.8);
  cairo_stroke(canvas->cr);
  entries e = {.figures = &figure, .n = 1};
  ma_key key;
  for (double at = box.top + pad + line / 2; next_entry(&e, &key); at += line)
    draw_entry(canvas, &key, box.left + pad, at, room);
}
