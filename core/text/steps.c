/* Normalisers and pre-tokenizers: each step rewrites the text of the pieces or cuts them. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/text_internal.h"

const char ma_regex_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char ma_regex_llama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char ma_regex_qwen2[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

ma_status ma_steps_add(ma_steps *s, ma_step **out, ma_error *err) {
  ma_status st = ma_resize((void **)&s->steps, s->n + 1, sizeof *s->steps, err);
  if (st != MA_OK) return st;
  *out = &s->steps[s->n++];
  **out = (ma_step){0};
  return MA_OK;
}

ma_status ma_steps_add_split(ma_steps *s, const char *regex, ma_behaviour behaviour, bool inverted,
                             ma_error *err) {
  ma_step *step;
  ma_status st = ma_steps_add(s, &step, err);
  if (st != MA_OK) return st;
  step->kind = MA_STEP_SPLIT;
  step->behaviour = behaviour;
  step->is_inverted = inverted;
  return ma_pattern_regex(&step->pattern, regex, err);
}

void ma_steps_release(ma_steps *s) {
  for (size_t i = 0; i < s->n; i++) {
    ma_pattern_release(&s->steps[i].pattern);
    ma_free(s->steps[i].content);
  }
  ma_free(s->steps);
  *s = (ma_steps){0};
}

/* ---- cutting ---- */

/* A stretch of a piece: a match or what lies between two. */
typedef struct stretch {
  size_t at, length;
  bool is_match;
} stretch;

/* Collects stretches into new spans, as the behaviour says. */
typedef struct cutter {
  const ma_step *step;
  ma_pieces *out;
  stretch held; /* not added yet: the next one may join it */
  bool holds;
  ma_error *err;
} cutter;

static ma_status flush(cutter *c) {
  if (!c->holds) return MA_OK;
  c->holds = false;
  return ma_pieces_add(c->out, c->held.at, c->held.length, c->err);
}

static ma_status take(cutter *c, stretch s) {
  bool joins = false;
  if (s.length == 0) return MA_OK;
  if (c->step->is_inverted) s.is_match = !s.is_match;
  switch (c->step->behaviour) {
    case MA_SPLIT_REMOVED:
      if (s.is_match) return flush(c);
      break;
    case MA_SPLIT_ISOLATED: break;
    case MA_SPLIT_MERGED_WITH_PREVIOUS: joins = c->holds && s.is_match && !c->held.is_match; break;
    case MA_SPLIT_MERGED_WITH_NEXT: joins = c->holds && !s.is_match && c->held.is_match; break;
    case MA_SPLIT_CONTIGUOUS: joins = c->holds && s.is_match == c->held.is_match; break;
  }
  if (joins) {
    c->held.length += s.length;
    /* A joined pair ends a chain in both merging behaviours. */
    if (c->step->behaviour != MA_SPLIT_CONTIGUOUS) return flush(c);
    return MA_OK;
  }
  ma_status st = flush(c);
  c->held = s;
  c->holds = true;
  return st;
}

static ma_status split_piece(cutter *c, pcre2_match_data *data, const char *text, ma_span piece) {
  size_t from = 0, done = 0;
  while (from <= piece.length) {
    ma_span match;
    bool found;
    ma_status st = ma_pattern_find(&c->step->pattern, data, text + piece.at, piece.length, from, &match, &found, c->err);
    if (st != MA_OK) return st;
    if (!found) break;
    if (match.length == 0) {
      /* An empty match cuts nothing: look on behind the next character. */
      size_t n = ma_utf8_sequence(text + piece.at + match.at, piece.length - match.at);
      from = match.at + (n ? n : 1);
      continue;
    }
    st = take(c, (stretch){piece.at + done, match.at - done, false});
    if (st == MA_OK) st = take(c, (stretch){piece.at + match.at, match.length, true});
    if (st != MA_OK) return st;
    from = done = match.at + match.length;
  }
  ma_status st = take(c, (stretch){piece.at + done, piece.length - done, false});
  return st == MA_OK ? flush(c) : st;
}

static ma_status split(const ma_step *step, ma_pieces *pieces, ma_error *err) {
  ma_status st = MA_OK;
  ma_pieces out = {0};
  cutter c = {.step = step, .out = &out, .err = err};
  pcre2_match_data *data = NULL;
  if (step->pattern.code) {
    data = pcre2_match_data_create_from_pattern(step->pattern.code, NULL);
    if (!data) MA_TRY(ma_fail(err, MA_NO_MEMORY, "out of memory"));
  }
  for (size_t i = 0; i < pieces->n; i++) MA_TRY(split_piece(&c, data, pieces->text.data, pieces->spans[i]));
  ma_free(pieces->spans);
  pieces->spans = out.spans;
  pieces->n = out.n;
  pieces->capacity = out.capacity;
  out = (ma_pieces){0};
done:
  pcre2_match_data_free(data);
  ma_pieces_release(&out);
  return st;
}

/* ---- rewriting one piece: appends to `out` ---- */

static ma_status unicode(const ma_step *step, ma_text *out, const char *text, size_t length, ma_error *err) {
  utf8proc_uint8_t *made = NULL;
  utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &made,
                                    (utf8proc_option_t)step->form);
  if (n < 0) return ma_fail(err, MA_BAD_ARGUMENT, "tokenizer: %s", utf8proc_errmsg(n));
  ma_status st = ma_text_add(out, (const char *)made, (size_t)n, err);
  free(made);
  return st;
}

static ma_status lower(ma_text *out, const char *text, size_t length, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t at = 0; at < length && st == MA_OK;) {
    utf8proc_int32_t character;
    utf8proc_uint8_t encoded[4];
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &character);
    if (n < 1) return ma_fail(err, MA_BAD_ARGUMENT, "tokenizer: invalid UTF-8");
    utf8proc_ssize_t m = utf8proc_encode_char(utf8proc_tolower(character), encoded);
    st = ma_text_add(out, (const char *)encoded, (size_t)m, err);
    at += (size_t)n;
  }
  return st;
}

static ma_status replace(const ma_step *step, ma_text *out, const char *text, size_t length, ma_error *err) {
  ma_status st = MA_OK;
  size_t from = 0, done = 0;
  pcre2_match_data *data = NULL;
  if (step->pattern.code) {
    data = pcre2_match_data_create_from_pattern(step->pattern.code, NULL);
    if (!data) MA_TRY(ma_fail(err, MA_NO_MEMORY, "out of memory"));
  }
  while (from <= length) {
    ma_span match;
    bool found;
    MA_TRY(ma_pattern_find(&step->pattern, data, text, length, from, &match, &found, err));
    if (!found) break;
    MA_TRY(ma_text_add(out, text + done, match.at - done, err));
    MA_TRY(ma_text_add(out, step->content, step->content_length, err));
    done = match.at + match.length;
    from = match.length ? done : done + 1;
  }
  MA_TRY(ma_text_add(out, text + done, length - done, err));
done:
  pcre2_match_data_free(data);
  return st;
}

static bool is_space(utf8proc_int32_t c) {
  if (c == 0x20 || (c >= 9 && c <= 13) || c == 0x85) return true;
  utf8proc_category_t category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

static ma_status strip(const ma_step *step, ma_text *out, const char *text, size_t length, ma_error *err) {
  const utf8proc_uint8_t *s = (const utf8proc_uint8_t *)text;
  size_t from = 0, to = length;
  utf8proc_int32_t c;
  while (step->at_start && from < to) {
    utf8proc_ssize_t n = utf8proc_iterate(s + from, (utf8proc_ssize_t)(to - from), &c);
    if (n < 1 || !is_space(c)) break;
    from += (size_t)n;
  }
  while (step->at_end && to > from) {
    size_t at = to - 1;
    while (at > from && (s[at] & 0xC0) == 0x80) at--;
    if (utf8proc_iterate(s + at, (utf8proc_ssize_t)(to - at), &c) < 1 || !is_space(c)) break;
    to = at;
  }
  return ma_text_add(out, text + from, to - from, err);
}

static ma_status metaspace(const ma_step *step, ma_text *out, const char *text, size_t length, bool is_first, ma_error *err) {
  ma_status st = MA_OK;
  bool begins = length >= step->content_length && memcmp(text, step->content, step->content_length) == 0;
  bool prepends = step->scheme == MA_PREPEND_ALWAYS || (step->scheme == MA_PREPEND_FIRST && is_first);
  if (prepends && !begins && !(length > 0 && text[0] == ' ')) MA_TRY(ma_text_add(out, step->content, step->content_length, err));
  for (size_t i = 0; i < length; i++) {
    if (text[i] == ' ') MA_TRY(ma_text_add(out, step->content, step->content_length, err));
    else MA_TRY(ma_text_add(out, text + i, 1, err));
  }
done:
  return st;
}

static ma_status rewrite_piece(const ma_step *step, ma_text *out, const char *text, size_t length,
                               bool is_first, ma_error *err) {
  ma_status st = MA_OK;
  switch (step->kind) {
    case MA_STEP_UNICODE: return unicode(step, out, text, length, err);
    case MA_STEP_LOWER: return lower(out, text, length, err);
    case MA_STEP_REPLACE: return replace(step, out, text, length, err);
    case MA_STEP_STRIP: return strip(step, out, text, length, err);
    case MA_STEP_METASPACE: return metaspace(step, out, text, length, is_first, err);
    case MA_STEP_PREPEND:
      if (length) st = ma_text_add(out, step->content, step->content_length, err);
      break;
    case MA_STEP_SPACE: {
      utf8proc_int32_t c = 0;
      utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &c);
      if (length && !is_space(c)) st = ma_text_add(out, " ", 1, err);
      break;
    }
    case MA_STEP_SPLIT: break;
  }
  return st == MA_OK ? ma_text_add(out, text, length, err) : st;
}

static ma_status rewrite(const ma_step *step, ma_pieces *pieces, bool is_first, ma_error *err) {
  ma_status st = MA_OK;
  ma_pieces out = {0};
  MA_TRY(ma_text_add(&out.text, "", 0, err));
  for (size_t i = 0; i < pieces->n; i++) {
    ma_span piece = pieces->spans[i];
    size_t at = out.text.length;
    MA_TRY(rewrite_piece(step, &out.text, pieces->text.data + piece.at, piece.length, is_first && piece.at == 0, err));
    MA_TRY(ma_pieces_add(&out, at, out.text.length - at, err));
  }
  ma_pieces_release(pieces);
  *pieces = out;
  out = (ma_pieces){0};
done:
  ma_pieces_release(&out);
  return st;
}

ma_status ma_steps_apply(const ma_steps *s, ma_pieces *pieces, bool is_first, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < s->n && st == MA_OK; i++) {
    const ma_step *step = &s->steps[i];
    if (step->kind != MA_STEP_SPLIT) st = rewrite(step, pieces, is_first, err);
    bool cuts = step->kind == MA_STEP_SPLIT || (step->kind == MA_STEP_METASPACE && step->splits);
    if (st == MA_OK && cuts) st = split(step, pieces, err);
  }
  return st;
}
