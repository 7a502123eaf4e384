/* Rewriting the text of one piece: what normalisers do, and the rewriting half of pre-tokenizers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/text_internal.h"

/* ---- characters ---- */

bool ma_is_white_space(int32_t c) {
  if (c == 0x20 || (c >= 9 && c <= 13) || c == 0x85) return true;
  if (c < 0xA0) return false;
  utf8proc_category_t category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

/* The character at `text`; its bytes, 0 where there is none. */
static size_t character_at(const char *text, size_t length, utf8proc_int32_t *c) {
  utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, c);
  return n < 1 ? 0 : (size_t)n;
}

const char *ma_character_name(const char *text, size_t length, char name[16]) {
  utf8proc_int32_t c;
  if (character_at(text, length, &c)) snprintf(name, 16, "U+%04X", (unsigned)c);
  else snprintf(name, 16, "byte 0x%02X", length ? (uint8_t)text[0] : 0u);
  return name;
}

static ma_status add_character(ma_text *out, utf8proc_int32_t c, ma_error *err) {
  utf8proc_uint8_t encoded[4];
  utf8proc_ssize_t n = utf8proc_encode_char(c, encoded);
  return ma_text_add(out, (const char *)encoded, (size_t)n, err);
}

/* ---- the normal forms ----
 *
 * utf8proc's tables are newer than those of Hugging Face's tokenizers (2.8: Unicode 14): characters that came after
 * theirs, a few dozen compatibility letters, are normalised here and left alone there. */

static ma_status map_stretch(int form, ma_text *out, const char *text, size_t length, ma_error *err) {
  utf8proc_uint8_t *made = NULL;
  utf8proc_ssize_t n =
      utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &made, (utf8proc_option_t)form);
  if (n == UTF8PROC_ERROR_NOMEM) return ma_fail(err, MA_NO_MEMORY, "out of memory");
  if (n < 0) return ma_fail(err, MA_BAD_ARGUMENT, "tokenizer: %s", utf8proc_errmsg(n));
  ma_status st = ma_text_add(out, (const char *)made, (size_t)n, err);
  free(made);
  return st;
}

/* ASCII stays as it is in every form, and nothing before it changes because of it; what follows it may join it.  So
 * each run of other characters goes through utf8proc with the one ASCII character before it. */
static ma_status unicode(int form, ma_text *out, const char *text, size_t length, ma_error *err) {
  ma_status st = MA_OK;
  size_t at = 0;
  while (at < length && st == MA_OK) {
    size_t end = at;
    while (end < length && (uint8_t)text[end] < 0x80) end++;
    size_t plain = end < length && end > at ? end - 1 : end;
    st = ma_text_add(out, text + at, plain - at, err);
    at = plain;
    while (end < length && (uint8_t)text[end] >= 0x80) end++;
    if (st == MA_OK && end > at) st = map_stretch(form, out, text + at, end - at, err);
    at = end;
  }
  return st;
}

/* ---- one character after the other ---- */

enum { DROPPED = -1 };

static utf8proc_int32_t without_accent(utf8proc_int32_t c) {
  if (c < 0x300) return c;
  utf8proc_category_t k = utf8proc_category(c);
  return k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME ? DROPPED : c;
}

/* SentencePiece's nmt_nfkc, the part beyond NFKC. */
static utf8proc_int32_t nmt(utf8proc_int32_t c) {
  bool is_dropped = (c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
  bool is_blank = c == 9 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                  c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
  return is_dropped ? DROPPED : is_blank ? ' ' : c;
}

static ma_status lower(ma_text *out, utf8proc_int32_t c, ma_error *err) {
  /* The one character whose lower case is two (SpecialCasing.txt). */
  if (c == 0x130) return ma_text_add(out, "i\xCC\x87", 3, err);
  return add_character(out, utf8proc_tolower(c), err);
}

static ma_status each_character(ma_step_kind kind, ma_text *out, const char *text, size_t length, bool *starts_input,
                                ma_error *err) {
  ma_status st = MA_OK;
  for (size_t at = 0; at < length && st == MA_OK;) {
    utf8proc_int32_t c;
    size_t n = character_at(text + at, length - at, &c);
    if (n == 0) return ma_fail(err, MA_BAD_ARGUMENT, "tokenizer: invalid UTF-8");
    utf8proc_int32_t made = kind == MA_STEP_NMT ? nmt(c) : kind == MA_STEP_STRIP_ACCENTS ? without_accent(c) : c;
    if (kind == MA_STEP_LOWER) st = lower(out, c, err);
    else if (made != DROPPED) st = add_character(out, made, err);
    if (made == DROPPED && at == 0) *starts_input = false;
    at += n;
  }
  return st;
}

/* ---- replacing, stripping ---- */

static bool is_one_character(const char *text, ma_span match) {
  return ma_utf8_sequence(text + match.at, match.length) == match.length;
}

static ma_status replace(const ma_step *step, ma_text *out, const char *text, size_t length, bool *starts_input,
                         ma_error *err) {
  ma_status st = MA_OK;
  size_t done = 0;
  ma_matches matches = {0};
  MA_TRY(ma_matches_open(&matches, &step->pattern, err));
  ma_matches_start(&matches, text, length);
  for (;;) {
    ma_span match;
    bool found;
    MA_TRY(ma_matches_next(&matches, &match, &found, err));
    if (!found) break;
    /* What replaces several characters stands where the last of them stood. */
    if (match.at == 0 && match.length > 0 && (step->content_length == 0 || !is_one_character(text, match)))
      *starts_input = false;
    MA_TRY(ma_text_add(out, text + done, match.at - done, err));
    MA_TRY(ma_text_add(out, step->content, step->content_length, err));
    done = match.at + match.length;
  }
  MA_TRY(ma_text_add(out, text + done, length - done, err));
done:
  ma_matches_close(&matches);
  return st;
}

static ma_status strip(const ma_step *step, ma_text *out, const char *text, size_t length, bool *starts_input,
                       ma_error *err) {
  size_t from = 0, to = length;
  utf8proc_int32_t c;
  while (step->at_start && from < to) {
    size_t n = character_at(text + from, to - from, &c);
    if (n == 0 || !ma_is_white_space(c)) break;
    from += n;
  }
  while (step->at_end && to > from) {
    size_t at = to - 1;
    while (at > from && ((uint8_t)text[at] & 0xC0) == 0x80) at--;
    if (character_at(text + at, to - at, &c) == 0 || !ma_is_white_space(c)) break;
    to = at;
  }
  if (from > 0) *starts_input = false;
  return ma_text_add(out, text + from, to - from, err);
}

/* ---- what pre-tokenizers rewrite ---- */

static ma_status metaspace(const ma_step *step, ma_text *out, const char *text, size_t length, bool starts_input,
                           ma_error *err) {
  ma_status st = MA_OK;
  size_t n = step->content_length, at = 0;
  bool begins = length > 0 && (text[0] == ' ' || (length >= n && memcmp(text, step->content, n) == 0));
  bool prepends = step->scheme == MA_PREPEND_ALWAYS || (step->scheme == MA_PREPEND_FIRST && starts_input);
  if (prepends && !begins) MA_TRY(ma_text_add(out, step->content, n, err));
  while (at < length) {
    const char *blank = memchr(text + at, ' ', length - at);
    size_t end = blank ? (size_t)(blank - text) : length;
    MA_TRY(ma_text_add(out, text + at, end - at, err));
    if (blank) MA_TRY(ma_text_add(out, step->content, n, err));
    at = end + (blank != NULL);
  }
done:
  return st;
}

ma_status ma_step_rewrite(const ma_step *step, ma_text *out, const char *text, size_t length, bool *starts_input,
                          ma_error *err) {
  ma_status st = MA_OK;
  if (length == 0) return MA_OK;
  switch (step->kind) {
    case MA_STEP_UNICODE: return unicode(step->form, out, text, length, err);
    case MA_STEP_LOWER:
    case MA_STEP_STRIP_ACCENTS:
    case MA_STEP_NMT: return each_character(step->kind, out, text, length, starts_input, err);
    case MA_STEP_CHARSMAP: return ma_charsmap_apply(step->content, step->content_length, out, text, length, err);
    case MA_STEP_REPLACE: return replace(step, out, text, length, starts_input, err);
    case MA_STEP_STRIP: return strip(step, out, text, length, starts_input, err);
    case MA_STEP_METASPACE: return metaspace(step, out, text, length, *starts_input, err);
    case MA_STEP_ALPHABET: return ma_alphabet_add(out, text, length, err);
    case MA_STEP_PREPEND: st = ma_text_add(out, step->content, step->content_length, err); break;
    case MA_STEP_SPACE:
      if (text[0] != ' ') st = ma_text_add(out, " ", 1, err);
      break;
    case MA_STEP_SPLIT: break;
  }
  return st == MA_OK ? ma_text_add(out, text, length, err) : st;
}
