#include "text/feed.h"

#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

enum {
  PIECE_BYTES = 1 << 18, /* at least, except at the end of a document */
  FULL_BYTES = 1 << 23,
  FULL_PIECES = 1 << 14,
  PATIENCE_BYTES = 1 << 20, /* how far a good place is looked for */
  CONTEXT_BYTES = 256,      /* behind a place, for may_cut */
  MAX_REFUSED = 16          /* then no other place is tried: it is how whoever reads the pieces works */
};

static ma_status check_text(ma_feed *f, bool ends, ma_error *err) {
  const char *text = f->text.data + f->checked;
  size_t length = f->text.length - f->checked, bad = length ? ma_utf8_bad_byte(text, length) : 0;
  f->checked += bad;
  /* The rest of a character may come with the next part. */
  if (bad == length || (!ends && length - bad < 4)) return MA_OK;
  return ma_fail(err, MA_BAD_ARGUMENT, "the text is not UTF-8: byte 0x%02X at offset %zu", (uint8_t)text[bad],
                 f->offset + f->checked);
}

static ma_status add_piece(ma_feed *f, size_t end, bool ends, ma_error *err) {
  if (f->n_pieces == f->piece_capacity) {
    size_t wanted = f->piece_capacity ? 2 * f->piece_capacity : 64;
    ma_status st = ma_resize((void **)&f->pieces, wanted, sizeof *f->pieces, err);
    if (st != MA_OK) return st;
    f->piece_capacity = wanted;
  }
  f->pieces[f->n_pieces++] = (ma_feed_piece){f->open, end - f->open, !f->is_inside, ends};
  f->is_inside = !ends;
  f->open = f->searched = end;
  return MA_OK;
}

/* ---- where to cut ---- */

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Any place between two characters, better behind a line end. */
static size_t bad_place(const char *text, size_t at) {
  const char *newline = memrchr(text, '\n', at);
  if (newline) return (size_t)(newline - text) + 1;
  while (((uint8_t)text[at] & 0xC0) == 0x80) at--;
  return at;
}

/* The next place, 0 where more text has to come. */
static size_t find_place(ma_feed *f, bool ends) {
  const char *text = f->text.data;
  size_t least = f->open + PIECE_BYTES, last = f->checked;
  if (f->may_cut) last = ends || last < CONTEXT_BYTES ? last : last - CONTEXT_BYTES;
  if (f->searched < least) f->searched = least;
  for (size_t at = f->searched; at < last && f->n_refused < MAX_REFUSED; f->searched = ++at) {
    if (text[at - 1] != '\n' || is_blank(text[at - 2]) || is_blank(text[at])) continue;
    if (!f->may_cut || f->may_cut(f->self, text + f->open, f->checked - f->open, at - f->open))
      return f->n_refused = 0, at;
    f->n_refused++;
  }
  if (f->may_cut || f->checked < least + PATIENCE_BYTES) return 0;
  return f->open + bad_place(text + f->open, PIECE_BYTES + PATIENCE_BYTES);
}

/* ---- the feed ---- */

ma_status ma_feed_add(ma_feed *f, const char *text, size_t length, bool ends, ma_error *err) {
  ma_status st = MA_OK;
  size_t at;
  if (length > MA_FEED_LIMIT - (f->text.length - f->open))
    MA_TRY(ma_fail(err, MA_UNSUPPORTED, "a document of more than %d bytes that cannot be cut", MA_FEED_LIMIT));
  MA_TRY(ma_text_add(&f->text, text, length, err));
  MA_TRY(check_text(f, ends, err));
  while ((at = find_place(f, ends)) != 0) MA_TRY(add_piece(f, at, false, err));
  if (!ends) goto done;
  MA_TRY(add_piece(f, f->text.length, true, err));
  f->offset = 0 - f->open; /* the next document's offsets count from here */
done:
  return st;
}

ma_status ma_feed_end(ma_feed *f, ma_error *err) {
  return f->is_inside || f->open < f->text.length ? ma_feed_add(f, "", 0, true, err) : MA_OK;
}

bool ma_feed_is_full(const ma_feed *f) { return f->open >= FULL_BYTES || f->n_pieces >= FULL_PIECES; }

void ma_feed_drop(ma_feed *f) {
  if (f->open) memmove(f->text.data, f->text.data + f->open, f->text.length - f->open);
  f->text.length -= f->open;
  f->checked -= f->open;
  f->searched -= f->open;
  f->offset += f->open;
  f->open = 0;
  f->n_pieces = 0;
}

void ma_feed_release(ma_feed *f) {
  ma_text_release(&f->text);
  ma_free(f->pieces);
  *f = (ma_feed){0};
}
