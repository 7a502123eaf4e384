/* Growing text, pieces, patterns. */
#include <string.h>

#include "base/memory.h"
#include "text/text_internal.h"

/* Doubles *block until `needed` items fit. */
static ma_status grow(void **block, size_t *capacity, size_t needed, size_t size, ma_error *err) {
  if (needed <= *capacity) return MA_OK;
  size_t wanted = *capacity ? *capacity : 64;
  while (wanted < needed) wanted = wanted > SIZE_MAX / 2 ? needed : 2 * wanted;
  ma_status st = ma_resize(block, wanted, size, err);
  if (st == MA_OK) *capacity = wanted;
  return st;
}

ma_status ma_text_add(ma_text *t, const char *data, size_t length, ma_error *err) {
  ma_status st = grow((void **)&t->data, &t->capacity, t->length + length + 1, 1, err);
  if (st != MA_OK) return st;
  if (length) memcpy(t->data + t->length, data, length);
  t->length += length;
  t->data[t->length] = '\0';
  return MA_OK;
}

void ma_text_release(ma_text *t) {
  ma_free(t->data);
  *t = (ma_text){0};
}

ma_status ma_pieces_add(ma_pieces *p, size_t at, size_t length, ma_error *err) {
  if (length == 0) return MA_OK;
  ma_status st = grow((void **)&p->spans, &p->capacity, p->n + 1, sizeof *p->spans, err);
  if (st == MA_OK) p->spans[p->n++] = (ma_span){at, length};
  return st;
}

void ma_pieces_release(ma_pieces *p) {
  ma_text_release(&p->text);
  ma_free(p->spans);
  *p = (ma_pieces){0};
}

ma_status ma_ids_add(ma_ids *out, int32_t id, ma_error *err) {
  ma_status st = grow((void **)&out->ids, &out->capacity, out->n + 1, sizeof *out->ids, err);
  if (st == MA_OK) out->ids[out->n++] = id;
  return st;
}

/* ---- patterns ---- */

ma_status ma_pattern_regex(ma_pattern *out, const char *regex, ma_error *err) {
  int code;
  PCRE2_SIZE at;
  *out = (ma_pattern){0};
  /* Text is checked to be UTF-8 before it comes here; \C would cut characters, and what follows would not be. */
  out->code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
  if (!out->code) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(code, message, sizeof message);
    return ma_fail(err, MA_BAD_FILE, "tokenizer: regular expression '%.80s': %s at %zu", regex, (char *)message, (size_t)at);
  }
  pcre2_jit_compile(out->code, PCRE2_JIT_COMPLETE); /* without it matching is slower, not wrong */
  return MA_OK;
}

ma_status ma_pattern_literal(ma_pattern *out, const char *text, size_t length, ma_error *err) {
  *out = (ma_pattern){.literal_length = length};
  if (length == 0) return ma_fail(err, MA_BAD_FILE, "tokenizer: a pattern is an empty string");
  return ma_strndup(&out->literal, text, length, err);
}

void ma_pattern_release(ma_pattern *p) {
  pcre2_code_free(p->code);
  ma_free(p->literal);
  *p = (ma_pattern){0};
}

ma_status ma_pattern_find(const ma_pattern *p, pcre2_match_data *data, const char *text, size_t length,
                          size_t from, ma_span *match, bool *found, ma_error *err) {
  *found = false;
  if (!p->code) {
    const char *at = from <= length ? memmem(text + from, length - from, p->literal, p->literal_length) : NULL;
    if (!at) return MA_OK;
    *match = (ma_span){(size_t)(at - text), p->literal_length};
    *found = true;
    return MA_OK;
  }
  int result = pcre2_match(p->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, data, NULL);
  if (result == PCRE2_ERROR_NOMATCH) return MA_OK;
  if (result < 0) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(result, message, sizeof message);
    return ma_fail(err, MA_UNSUPPORTED, "tokenizer: matching stopped at byte %zu: %s", from, (char *)message);
  }
  const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(data);
  *match = (ma_span){ends[0], ends[1] - ends[0]};
  *found = true;
  return MA_OK;
}
