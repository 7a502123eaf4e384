#include "format/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/memory.h"
#include "base/threads.h"

enum { INPUT_BYTES = 1 << 16, OUTPUT_BYTES = 1 << 16 };

typedef enum packing { PLAIN, GZIP, ZSTANDARD } packing;

struct ma_text_file {
  char *path;
  int descriptor;
  packing packing;
  /* What has been read and not been unpacked: input[input_at .. input_end); `offset` is where in
   * the file input_end lies. */
  uint8_t *input;
  size_t input_at, input_end;
  uint64_t offset;
  bool at_end; /* the file has no more bytes */
  /* Unpackers, and whether they are inside a member or frame: a file may only end between two. */
  z_stream gzip;
  bool has_gzip, is_inside;
  ZSTD_DStream *zstandard;
  /* Text that nobody has taken: text[text_at .. text_end), of which text_seen bytes hold no
   * newline. */
  char *text;
  size_t text_at, text_end, text_capacity, text_seen;
};

/* ---- bytes of the file ---- */

static ma_status read_input(ma_text_file *f, ma_error *err) {
  if (f->input_at < f->input_end || f->at_end) return MA_OK;
  if (ma_interrupted()) return ma_fail(err, MA_INTERRUPTED, "interrupted");
  ssize_t got;
  do got = read(f->descriptor, f->input, INPUT_BYTES);
  while (got < 0 && errno == EINTR && !ma_interrupted());
  if (got < 0) return ma_fail(err, MA_IO, "cannot read text '%s': %s", f->path, strerror(errno));
  f->input_at = 0;
  f->input_end = (size_t)got;
  f->offset += (uint64_t)got;
  f->at_end = got == 0;
  return MA_OK;
}

static unsigned long long input_offset(const ma_text_file *f) { return f->offset - (f->input_end - f->input_at); }

/* ---- unpacking: each appends to out[0 .. capacity) and tells how much; nothing and no error is
 * the end ---- */

static ma_status cut_off(const ma_text_file *f, ma_error *err) {
  return ma_fail(err, MA_BAD_FILE, "text '%s' ends at byte %llu, inside its %s data: it is cut off", f->path,
                 input_offset(f), f->packing == GZIP ? "gzip" : "zstandard");
}

static ma_status damaged(const ma_text_file *f, const char *why, ma_error *err) {
  return ma_fail(err, MA_BAD_FILE, "text '%s', at byte %llu: the %s data is damaged: %s", f->path, input_offset(f),
                 f->packing == GZIP ? "gzip" : "zstandard", why ? why : "unknown error");
}

static ma_status take_plain(ma_text_file *f, char *out, size_t capacity, size_t *got, ma_error *err) {
  (void)err;
  size_t n = f->input_end - f->input_at;
  *got = n < capacity ? n : capacity;
  memcpy(out, f->input + f->input_at, *got);
  f->input_at += *got;
  return MA_OK;
}

static ma_status take_gzip(ma_text_file *f, char *out, size_t capacity, size_t *got, ma_error *err) {
  z_stream *z = &f->gzip;
  if (!f->is_inside) {
    if (f->input_at == f->input_end) return MA_OK;
    inflateReset(z);
    f->is_inside = true;
  }
  z->next_in = f->input + f->input_at;
  z->avail_in = (uInt)(f->input_end - f->input_at);
  z->next_out = (Bytef *)out;
  z->avail_out = (uInt)capacity;
  int code = inflate(z, Z_NO_FLUSH);
  f->input_at = f->input_end - z->avail_in;
  *got = capacity - z->avail_out;
  if (code == Z_STREAM_END) f->is_inside = false;
  else if (code == Z_MEM_ERROR) return ma_fail(err, MA_NO_MEMORY, "out of memory unpacking '%s'", f->path);
  else if (code != Z_OK && code != Z_BUF_ERROR)
    return damaged(f, code == Z_NEED_DICT ? "it wants a dictionary" : z->msg, err);
  return MA_OK;
}

static ma_status take_zstandard(ma_text_file *f, char *out, size_t capacity, size_t *got, ma_error *err) {
  ZSTD_inBuffer in = {f->input, f->input_end, f->input_at};
  ZSTD_outBuffer to = {out, capacity, 0};
  if (!f->is_inside && f->input_at == f->input_end) return MA_OK;
  size_t left = ZSTD_decompressStream(f->zstandard, &to, &in);
  f->input_at = in.pos;
  *got = to.pos;
  if (ZSTD_isError(left)) return damaged(f, ZSTD_getErrorName(left), err);
  f->is_inside = left != 0;
  return MA_OK;
}

static ma_status take(ma_text_file *f, char *out, size_t capacity, size_t *got, ma_error *err) {
  ma_status st = MA_OK;
  *got = 0;
  while (*got == 0) {
    MA_TRY(read_input(f, err));
    switch (f->packing) {
      case PLAIN: MA_TRY(take_plain(f, out, capacity, got, err)); break;
      case GZIP: MA_TRY(take_gzip(f, out, capacity, got, err)); break;
      case ZSTANDARD: MA_TRY(take_zstandard(f, out, capacity, got, err)); break;
    }
    if (*got == 0 && f->at_end && f->input_at == f->input_end) {
      if (f->is_inside) MA_TRY(cut_off(f, err));
      break;
    }
  }
done:
  return st;
}

/* ---- pieces of text ---- */

/* Unpacks more behind what is there; *more is false at the end. */
static ma_status fill(ma_text_file *f, bool *more, ma_error *err) {
  size_t got = 0, kept = f->text_end - f->text_at;
  ma_status st = MA_OK;
  if (f->text_at > 0) memmove(f->text, f->text + f->text_at, kept);
  f->text_at = 0;
  f->text_end = kept;
  if (kept > MA_TEXT_LIMIT)
    MA_TRY(ma_fail(err, MA_BAD_FILE,
                   "text '%s': a text or line of more than %d bytes (it unpacks to that at byte %llu)", f->path,
                   MA_TEXT_LIMIT, input_offset(f)));
  if (f->text_capacity - kept < OUTPUT_BYTES) {
    MA_TRY(ma_resize((void **)&f->text, 2 * f->text_capacity, 1, err));
    f->text_capacity *= 2;
  }
  MA_TRY(take(f, f->text + kept, f->text_capacity - kept, &got, err));
  f->text_end += got;
  *more = got > 0;
done:
  return st;
}

ma_status ma_text_file_line(ma_text_file *f, const char **line, size_t *length, ma_error *err) {
  *line = NULL;
  *length = 0;
  for (f->text_seen = 0;;) {
    const char *from = f->text + f->text_at;
    size_t n = f->text_end - f->text_at;
    const char *newline = n > f->text_seen ? memchr(from + f->text_seen, '\n', n - f->text_seen) : NULL;
    if (newline) {
      *line = from;
      *length = (size_t)(newline - from);
      f->text_at += *length + 1;
      return MA_OK;
    }
    bool more;
    f->text_seen = n;
    ma_status st = fill(f, &more, err);
    if (st != MA_OK) return st;
    if (more) continue;
    if (n == 0) return MA_OK;
    *line = f->text;
    *length = n;
    f->text_at = f->text_end;
    return MA_OK;
  }
}

ma_status ma_text_file_block(ma_text_file *f, const char **text, size_t *length, ma_error *err) {
  bool more;
  ma_status st = f->text_at < f->text_end ? MA_OK : fill(f, &more, err);
  if (st != MA_OK) return st;
  *text = f->text + f->text_at;
  *length = f->text_end - f->text_at;
  f->text_at = f->text_end;
  return MA_OK;
}

uint64_t ma_text_file_at(const ma_text_file *f) { return input_offset(f); }

ma_status ma_text_file_rest(ma_text_file *f, const char **text, size_t *length, ma_error *err) {
  bool more = true;
  while (more) {
    ma_status st = fill(f, &more, err);
    if (st != MA_OK) return st;
  }
  *text = f->text;
  *length = f->text_end;
  f->text_at = f->text_end;
  return MA_OK;
}

/* ---- opening and closing ---- */

static bool ends_in(const char *text, const char *ending) {
  size_t n = strlen(text), m = strlen(ending);
  return n >= m && memcmp(text + n - m, ending, m) == 0;
}

static packing packing_of(const ma_text_file *f) {
  static const uint8_t gzip[] = {0x1F, 0x8B}, zstandard[] = {0x28, 0xB5, 0x2F, 0xFD};
  if (ends_in(f->path, ".gz")) return GZIP;
  if (ends_in(f->path, ".zst")) return ZSTANDARD;
  if (f->input_end >= sizeof gzip && memcmp(f->input, gzip, sizeof gzip) == 0) return GZIP;
  if (f->input_end >= sizeof zstandard && memcmp(f->input, zstandard, sizeof zstandard) == 0) return ZSTANDARD;
  return PLAIN;
}

static voidpf gzip_alloc(voidpf self, uInt count, uInt size) {
  void *block;
  (void)self;
  return ma_alloc(&block, count, size, NULL) == MA_OK ? block : Z_NULL;
}

static void gzip_free(voidpf self, voidpf block) {
  (void)self;
  ma_free(block);
}

static ma_status open_packing(ma_text_file *f, ma_error *err) {
  f->packing = packing_of(f);
  if (f->packing == GZIP) {
    f->gzip.zalloc = gzip_alloc;
    f->gzip.zfree = gzip_free;
    f->has_gzip = inflateInit2(&f->gzip, 16 + MAX_WBITS) == Z_OK; /* 16: gzip and nothing else */
    if (!f->has_gzip) return ma_fail(err, MA_NO_MEMORY, "out of memory unpacking '%s'", f->path);
  } else if (f->packing == ZSTANDARD) {
    f->zstandard = ZSTD_createDStream();
    if (!f->zstandard) return ma_fail(err, MA_NO_MEMORY, "out of memory unpacking '%s'", f->path);
  }
  f->is_inside = f->packing != PLAIN; /* a compressed file has at least one member or frame */
  return MA_OK;
}

ma_status ma_text_file_open(ma_text_file **out, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  ma_text_file *f = NULL;
  *out = NULL;
  MA_TRY(MA_NEW(&f, 1, err));
  f->descriptor = -1;
  MA_TRY(ma_strdup(&f->path, path, err));
  MA_TRY(MA_NEW(&f->input, INPUT_BYTES, err));
  MA_TRY(MA_NEW(&f->text, OUTPUT_BYTES, err));
  f->text_capacity = OUTPUT_BYTES;
  f->descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (f->descriptor < 0) MA_TRY(ma_fail(err, MA_IO, "cannot read text '%s': %s", path, strerror(errno)));
  MA_TRY(read_input(f, err));
  MA_TRY(open_packing(f, err));
  *out = f;
  f = NULL;
done:
  ma_text_file_close(f);
  return st;
}

void ma_text_file_close(ma_text_file *f) {
  if (!f) return;
  if (f->descriptor >= 0) close(f->descriptor);
  if (f->has_gzip) inflateEnd(&f->gzip);
  ZSTD_freeDStream(f->zstandard);
  ma_free(f->text);
  ma_free(f->input);
  ma_free(f->path);
  ma_free(f);
}
