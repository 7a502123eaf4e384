/* A page into a file: PNG, SVG or PDF by the name's ending; or only its texts. */
#include <cairo-pdf.h>
#include <cairo-svg.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "plot/plot_internal.h"

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

/* Draws, and tells what went wrong: in our code, or in cairo. */
static ma_status draw(const ma_page *page, cairo_surface_t *surface, double scale, ma_texts *texts, ma_error *err) {
  ma_canvas canvas;
  ma_status st = ma_canvas_open(&canvas, surface, err);
  if (st != MA_OK) return st;
  canvas.texts = texts;
  cairo_scale(canvas.cr, scale, scale);
  ma_page_draw(page, &canvas);
  st = canvas.st;
  if (st == MA_OK && cairo_status(canvas.cr) != CAIRO_STATUS_SUCCESS)
    st = ma_fail(err, MA_NO_MEMORY, "cannot draw: %s", cairo_status_to_string(cairo_status(canvas.cr)));
  ma_canvas_close(&canvas);
  return st;
}

/* ---- SVG and PDF ---- */

typedef struct sink {
  ma_writer *writer;
  ma_status st;
  ma_error *err;
} sink;

static cairo_status_t write_piece(void *self, const unsigned char *data, unsigned int length) {
  sink *s = self;
  if (s->st == MA_OK) s->st = ma_writer_write(s->writer, data, length, s->err);
  return s->st == MA_OK ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

static const char *find_metadata(const char *const *metadata, const char *key) {
  for (size_t i = 0; metadata && metadata[i]; i += 2)
    if (strcmp(metadata[i], key) == 0) return metadata[i + 1];
  return NULL;
}

static cairo_surface_t *pdf_surface(sink *s, double width, double height, const char *const *metadata) {
  cairo_surface_t *surface = cairo_pdf_surface_create_for_stream(write_piece, s, width, height);
  static const struct {
    const char *key;
    cairo_pdf_metadata_t what;
  } known[] = {{"Title", CAIRO_PDF_METADATA_TITLE},
               {"Source", CAIRO_PDF_METADATA_SUBJECT},
               {"Software", CAIRO_PDF_METADATA_CREATOR}};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    const char *value = find_metadata(metadata, known[i].key);
    if (value) cairo_pdf_surface_set_metadata(surface, known[i].what, value);
  }
  return surface;
}

static ma_status save_vector(const ma_page *page, const char *path, const char *const *metadata, ma_error *err) {
  double width = 72 * page->width, height = 72 * page->height;
  sink s = {.err = err};
  ma_status st = ma_writer_open(&s.writer, path, err);
  if (st != MA_OK) return st;
  cairo_surface_t *surface = ends_with(path, ".svg")
                                 ? cairo_svg_surface_create_for_stream(write_piece, &s, width, height)
                                 : pdf_surface(&s, width, height, metadata);
  st = draw(page, surface, 1, NULL, err);
  cairo_surface_finish(surface);
  if (s.st != MA_OK) st = s.st;
  if (st == MA_OK && cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS)
    st =
        ma_fail(err, MA_NO_MEMORY, "cannot draw '%s': %s", path, cairo_status_to_string(cairo_surface_status(surface)));
  cairo_surface_destroy(surface);
  if (st == MA_OK) st = ma_writer_commit(s.writer, err);
  ma_writer_close(s.writer);
  return st;
}

/* ---- PNG ---- */

static ma_status save_png(const ma_page *page, const char *path, double dpi, const char *const *metadata,
                          ma_error *err) {
  double width = round(page->width * dpi), height = round(page->height * dpi);
  if (!(width >= 16 && height >= 16 && width <= 30000 && height <= 30000))
    return ma_fail(err, MA_BAD_ARGUMENT,
                   "a picture of %g x %g pixels is out of range: each is 16 to 30000; change width, height or dpi",
                   width, height);
  if (width * height > 4e8)
    return ma_fail(err, MA_BAD_ARGUMENT,
                   "a picture of %g x %g pixels is too large: 400 million are the most; change width, height or dpi",
                   width, height);
  cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)width, (int)height);
  ma_status st = draw(page, surface, dpi / 72, NULL, err);
  cairo_surface_flush(surface);
  if (st == MA_OK) st = ma_png_write(surface, path, dpi, metadata, err);
  cairo_surface_destroy(surface);
  return st;
}

/* ---- the two ways ---- */

static ma_status check(const ma_page *page, ma_error *err) {
  if (page->n_figures < 1) return ma_fail(err, MA_BAD_ARGUMENT, "there is no figure to draw");
  if (!(page->width >= 0.2 && page->height >= 0.2 && page->width <= 1000 && page->height <= 1000))
    return ma_fail(err, MA_BAD_ARGUMENT, "a figure of %g x %g inches is out of range: each is 0.2 to 1000", page->width,
                   page->height);
  return MA_OK;
}

ma_status ma_page_save(const ma_page *page, const char *path, double dpi, const char *const *metadata, ma_error *err) {
  ma_status st = check(page, err);
  if (st != MA_OK) return st;
  if (ends_with(path, ".svg") || ends_with(path, ".pdf")) return save_vector(page, path, metadata, err);
  if (ends_with(path, ".png")) return save_png(page, path, dpi, metadata, err);
  return ma_fail(err, MA_BAD_ARGUMENT, "'%s': a picture's name ends in .png, .svg or .pdf", path);
}

ma_status ma_page_texts(const ma_page *page, ma_texts *out, ma_error *err) {
  ma_status st = check(page, err);
  if (st != MA_OK) return st;
  cairo_rectangle_t extent = {0, 0, 72 * page->width, 72 * page->height};
  cairo_surface_t *surface = cairo_recording_surface_create(CAIRO_CONTENT_COLOR, &extent);
  st = draw(page, surface, 1, out, err);
  cairo_surface_destroy(surface);
  return st;
}
