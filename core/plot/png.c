/* PNG through libpng, written with where the picture comes from in its text chunks, and read back. */
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "plot/plot_internal.h"

/* ---- writing ---- */

typedef struct sink {
  ma_writer *writer;
  ma_status st;
  ma_error *err;
  jmp_buf back; /* libpng's only way out; nothing of ours lies between here and there */
} sink;

static void on_error(png_structp png, png_const_charp message) {
  sink *s = png_get_error_ptr(png);
  if (s->st == MA_OK) s->st = ma_fail(s->err, MA_IO, "libpng: %s", message);
  longjmp(s->back, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
  (void)png;
  (void)message;
}

static void on_write(png_structp png, png_bytep data, size_t length) {
  sink *s = png_get_io_ptr(png);
  s->st = ma_writer_write(s->writer, data, length, s->err);
  if (s->st != MA_OK) png_error(png, "write");
}

static void on_flush(png_structp png) { (void)png; }

static void put_texts(png_structp png, png_infop info, const char *const *metadata) {
  for (size_t i = 0; metadata && metadata[i]; i += 2) {
    png_text text = {.compression = PNG_ITXT_COMPRESSION_NONE,
                     .key = (char *)(uintptr_t)metadata[i],
                     .text = (char *)(uintptr_t)metadata[i + 1]};
    png_set_text(png, info, &text, 1);
  }
}

/* cairo's pixels are 0x00RRGGBB words. */
static void unpack_row(png_bytep to, const unsigned char *row, int width) {
  for (int x = 0; x < width; x++) {
    uint32_t pixel;
    memcpy(&pixel, row + 4 * (size_t)x, 4);
    to[3 * x] = (png_byte)(pixel >> 16);
    to[3 * x + 1] = (png_byte)(pixel >> 8);
    to[3 * x + 2] = (png_byte)pixel;
  }
}

static ma_status encode(sink *s, cairo_surface_t *surface, png_bytep line, double dpi, const char *const *metadata) {
  int width = cairo_image_surface_get_width(surface), height = cairo_image_surface_get_height(surface);
  png_infop info = NULL;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, s, on_error, on_warning);
  if (!png) return ma_fail(s->err, MA_NO_MEMORY, "libpng: out of memory");
  info = png_create_info_struct(png);
  if (!info) {
    s->st = ma_fail(s->err, MA_NO_MEMORY, "libpng: out of memory");
  } else if (setjmp(s->back) == 0) {
    png_uint_32 per_meter = (png_uint_32)lround(dpi / 0.0254);
    png_set_write_fn(png, s, on_write, on_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE); /* even areas pack better as they are */
    png_set_pHYs(png, info, per_meter, per_meter, PNG_RESOLUTION_METER);
    put_texts(png, info, metadata);
    png_write_info(png, info);
    for (int y = 0; y < height; y++) {
      unpack_row(line,
                 cairo_image_surface_get_data(surface) + (size_t)y * (size_t)cairo_image_surface_get_stride(surface),
                 width);
      png_write_row(png, line);
    }
    png_write_end(png, info);
  }
  png_destroy_write_struct(&png, &info);
  return s->st;
}

ma_status ma_png_write(cairo_surface_t *surface, const char *path, double dpi, const char *const *metadata,
                       ma_error *err) {
  ma_status st = MA_OK;
  sink *s = NULL;
  png_bytep line = NULL;
  MA_TRY(MA_NEW(&s, 1, err));
  s->err = err;
  MA_TRY(ma_alloc((void **)&line, 3 * (size_t)cairo_image_surface_get_width(surface), 1, err));
  MA_TRY(ma_writer_open(&s->writer, path, err));
  MA_TRY(encode(s, surface, line, dpi, metadata));
  MA_TRY(ma_writer_commit(s->writer, err));
done:
  if (s) ma_writer_close(s->writer);
  ma_free(s);
  ma_free(line);
  return st;
}

/* ---- reading ---- */

typedef struct source {
  const char *path, *data;
  size_t size, at;
  ma_picture *picture;
  ma_status st;
  ma_error *err;
  png_bytep *rows;
  jmp_buf back;
} source;

static void on_read_error(png_structp png, png_const_charp message) {
  source *s = png_get_error_ptr(png);
  if (s->st == MA_OK) s->st = ma_fail(s->err, MA_BAD_FILE, "'%s' is no picture that can be read: %s", s->path, message);
  longjmp(s->back, 1);
}

static void on_read(png_structp png, png_bytep data, size_t length) {
  source *s = png_get_io_ptr(png);
  if (length > s->size - s->at) png_error(png, "it ends too early");
  memcpy(data, s->data + s->at, length);
  s->at += length;
}

static ma_status keep_text(ma_texts *texts, const char *text, ma_error *err) {
  ma_status st = ma_resize((void **)&texts->at, texts->n + 1, sizeof *texts->at, err);
  if (st == MA_OK) st = ma_strdup(&texts->at[texts->n], text ? text : "", err);
  if (st == MA_OK) texts->n++;
  return st;
}

/* Everything is turned into 8-bit RGB. */
static ma_status decode_header(source *s, png_structp png, png_infop info) {
  ma_status st = MA_OK;
  png_read_info(png, info);
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  ma_picture *p = s->picture;
  p->width = (int)png_get_image_width(png, info);
  p->height = (int)png_get_image_height(png, info);
  size_t row = png_get_rowbytes(png, info);
  if (row != 3 * (size_t)p->width) return ma_fail(s->err, MA_BAD_FILE, "'%s' is no picture that can be read", s->path);
  MA_TRY(ma_alloc((void **)&p->pixels, (size_t)p->height, row, s->err));
  MA_TRY(MA_NEW(&s->rows, p->height, s->err));
  for (int y = 0; y < p->height; y++) s->rows[y] = p->pixels + (size_t)y * row;
done:
  return st;
}

static ma_status decode(source *s) {
  png_textp texts;
  int n = 0;
  png_infop info = NULL;
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, s, on_read_error, on_warning);
  if (png) info = png_create_info_struct(png);
  if (!info) {
    s->st = ma_fail(s->err, MA_NO_MEMORY, "libpng: out of memory");
  } else if (setjmp(s->back) == 0) {
    png_set_user_limits(png, 30000, 30000);
    png_set_read_fn(png, s, on_read);
    s->st = decode_header(s, png, info);
    if (s->st == MA_OK) {
      png_read_image(png, s->rows);
      png_read_end(png, info);
      png_get_text(png, info, &texts, &n);
    }
    for (int i = 0; s->st == MA_OK && i < n; i++) {
      s->st = keep_text(&s->picture->metadata, texts[i].key, s->err);
      if (s->st == MA_OK) s->st = keep_text(&s->picture->metadata, texts[i].text, s->err);
    }
  }
  png_destroy_read_struct(&png, &info, NULL);
  return s->st;
}

ma_status ma_picture_read(ma_picture *out, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  char *data = NULL;
  size_t size = 0;
  source *s = NULL;
  *out = (ma_picture){0};
  MA_TRY(ma_file_read(&data, &size, path, (size_t)1 << 30, err));
  MA_TRY(MA_NEW(&s, 1, err));
  s->path = path;
  s->data = data;
  s->size = size;
  s->picture = out;
  s->err = err;
  MA_TRY(decode(s));
done:
  if (s) ma_free(s->rows);
  ma_free(s);
  ma_free(data);
  if (st != MA_OK) ma_picture_release(out);
  return st;
}

void ma_picture_release(ma_picture *picture) {
  ma_free(picture->pixels);
  ma_texts_release(&picture->metadata);
  *picture = (ma_picture){0};
}
