/* SentencePiece's precompiled normalisation rules (the "Precompiled" normaliser): a little-endian u32 with the bytes of a
 * double-array trie, its units (darts-clone's layout), then replacements that end in NUL bytes.  A trie that comes
 * from a file may point anywhere: every step of a walk is checked.
 *
 * As in Hugging Face's tokenizers, text is taken by grapheme: one of fewer than 6 bytes becomes the replacement of the
 * *shortest* rule that it begins with; of other graphemes each character is looked up in the same way. */
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/text_internal.h"

enum { SHORT_GRAPHEME = 6 };

typedef struct charsmap {
  const char *units;
  size_t n_units;
  const char *texts;
  size_t n_texts;
} charsmap;

static uint32_t read_u32(const char *at) {
  const uint8_t *b = (const uint8_t *)at;
  return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static charsmap view(const char *blob, size_t length) {
  size_t trie = read_u32(blob);
  return (charsmap){blob + 4, trie / 4, blob + 4 + trie, length - 4 - trie};
}

ma_status ma_charsmap_check(const char *blob, size_t length, ma_error *err) {
  if (length < 8) return ma_fail(err, MA_BAD_FILE, "precompiled_charsmap is too short");
  size_t trie = read_u32(blob);
  if (trie < 4 || trie % 4 != 0 || trie > length - 4)
    return ma_fail(err, MA_BAD_FILE, "precompiled_charsmap: a trie of %zu bytes in %zu", trie, length);
  charsmap m = view(blob, length);
  if (ma_utf8_bad_byte(m.texts, m.n_texts) < m.n_texts)
    return ma_fail(err, MA_BAD_FILE, "precompiled_charsmap has replacements that are not UTF-8");
  return MA_OK;
}

/* A unit: label in bits 0-7 (with bit 31: a value), bit 8: a leaf follows, offset in bits 10-30, bit 9: times 256. */
static size_t offset_of(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6); }

/* Replacement of the shortest rule that `text` begins with; NULL: none. */
static const char *shortest(const charsmap *m, const char *text, size_t length, size_t *n) {
  size_t at = 0;
  uint32_t unit = read_u32(m->units);
  at ^= offset_of(unit);
  for (size_t i = 0; i < length && text[i]; i++) {
    at ^= (uint8_t)text[i];
    if (at >= m->n_units) return NULL;
    unit = read_u32(m->units + 4 * at);
    if ((unit & (1u << 31 | 0xFF)) != (uint8_t)text[i]) return NULL;
    at ^= offset_of(unit);
    if (at >= m->n_units) return NULL;
    if (!(unit >> 8 & 1)) continue;
    size_t value = read_u32(m->units + 4 * at) & 0x7FFFFFFF;
    /* Rules begin at characters; a value that does not is no rule. */
    if (value >= m->n_texts || ((uint8_t)m->texts[value] & 0xC0) == 0x80) return NULL;
    const char *end = memchr(m->texts + value, '\0', m->n_texts - value);
    *n = end ? (size_t)(end - m->texts) - value : m->n_texts - value;
    return m->texts + value;
  }
  return NULL;
}

static ma_status add_grapheme(const charsmap *m, ma_text *out, const char *text, size_t length, ma_error *err) {
  ma_status st = MA_OK;
  size_t n;
  const char *made = length < SHORT_GRAPHEME ? shortest(m, text, length, &n) : NULL;
  if (made) return ma_text_add(out, made, n, err);
  for (size_t at = 0; at < length && st == MA_OK;) {
    size_t used = ma_utf8_sequence(text + at, length - at);
    if (used == 0) used = 1;
    made = shortest(m, text + at, used, &n);
    st = made ? ma_text_add(out, made, n, err) : ma_text_add(out, text + at, used, err);
    at += used;
  }
  return st;
}

ma_status ma_charsmap_apply(const char *blob, size_t length, ma_text *out, const char *text, size_t n, ma_error *err) {
  ma_status st = MA_OK;
  charsmap m = view(blob, length);
  utf8proc_int32_t state = 0, previous = -1, c;
  size_t from = 0, at = 0;
  while (at < n && st == MA_OK) {
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(n - at), &c);
    if (used < 1) return ma_fail(err, MA_BAD_ARGUMENT, "tokenizer: invalid UTF-8");
    if (previous >= 0 && utf8proc_grapheme_break_stateful(previous, c, &state)) {
      st = add_grapheme(&m, out, text + from, at - from, err);
      from = at;
    }
    previous = c;
    at += (size_t)used;
  }
  return st == MA_OK ? add_grapheme(&m, out, text + from, n - from, err) : st;
}
