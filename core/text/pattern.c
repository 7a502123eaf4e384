/* Patterns: what a regular expression or a literal string matches, one match after the other.  A
 * pattern that backtracks without end runs into PCRE2's limits, which is an error, never a hang. */
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/text_internal.h"

enum {
  MATCH_LIMIT = 5000000,   /* backtracking steps of one match: a second or so */
  HEAP_LIMIT_KIB = 1 << 18 /* memory of a match without JIT */
};

/* Newlines are \n alone and ^ and $ are at each line, as in Oniguruma. */
static ma_status compile(pcre2_code **out, const char *regex, size_t length, ma_error *err) {
  int code;
  PCRE2_SIZE at;
  pcre2_compile_context *context = pcre2_compile_context_create(NULL);
  if (!context) return ma_fail(err, MA_NO_MEMORY, "out of memory");
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  /* Text is checked to be UTF-8 before it comes here. */
  *out = pcre2_compile((PCRE2_SPTR)regex, length,
                       PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C | PCRE2_MULTILINE, &code,
                       &at, context);
  pcre2_compile_context_free(context);
  if (*out) return MA_OK;
  PCRE2_UCHAR message[128];
  pcre2_get_error_message(code, message, sizeof message);
  return ma_fail(err, MA_BAD_FILE, "%s", (char *)message);
}

ma_status ma_pattern_regex(ma_pattern *out, const char *regex, size_t length, ma_error *err) {
  ma_status st = MA_OK;
  ma_text translated = {0};
  *out = (ma_pattern){0};
  MA_TRY(ma_regex_translate(&translated, regex, length, err));
  MA_TRY(compile(&out->code, translated.data, translated.length, err));
  pcre2_jit_compile(out->code, PCRE2_JIT_COMPLETE); /* without it matching is slower, not wrong */
done:
  ma_text_release(&translated);
  return st == MA_OK ? MA_OK : ma_fail_at(err, "regular expression '%.80s'", regex);
}

ma_status ma_pattern_literal(ma_pattern *out, const char *text, size_t length, ma_error *err) {
  *out = (ma_pattern){.literal_length = length};
  if (length == 0) return ma_fail(err, MA_BAD_FILE, "a pattern is an empty string");
  return ma_strndup(&out->literal, text, length, err);
}

void ma_pattern_release(ma_pattern *p) {
  pcre2_code_free(p->code);
  ma_free(p->literal);
  *p = (ma_pattern){0};
}

/* ---- matching ---- */

ma_status ma_matches_open(ma_matches *m, const ma_pattern *pattern, ma_error *err) {
  *m = (ma_matches){.pattern = pattern};
  if (!pattern->code) return MA_OK;
  m->data = pcre2_match_data_create(1, NULL);
  m->context = pcre2_match_context_create(NULL);
  if (!m->data || !m->context) return ma_fail(err, MA_NO_MEMORY, "out of memory");
  pcre2_set_match_limit(m->context, MATCH_LIMIT);
  pcre2_set_heap_limit(m->context, HEAP_LIMIT_KIB);
  return MA_OK;
}

void ma_matches_close(ma_matches *m) {
  pcre2_match_data_free(m->data);
  pcre2_match_context_free(m->context);
  *m = (ma_matches){0};
}

void ma_matches_start(ma_matches *m, const char *text, size_t length) {
  m->text = text;
  m->length = length;
  m->from = 0;
  m->last_end = SIZE_MAX;
}

static ma_status find(ma_matches *m, ma_span *match, bool *found, ma_error *err) {
  const ma_pattern *p = m->pattern;
  *found = false;
  if (!p->code) {
    const char *at = memmem(m->text + m->from, m->length - m->from, p->literal, p->literal_length);
    *found = at != NULL;
    if (at) *match = (ma_span){(size_t)(at - m->text), p->literal_length};
    return MA_OK;
  }
  int result = pcre2_match(p->code, (PCRE2_SPTR)m->text, m->length, m->from, PCRE2_NO_UTF_CHECK, m->data, m->context);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT)
    result = pcre2_match(p->code, (PCRE2_SPTR)m->text, m->length, m->from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data,
                         m->context);
  if (result == PCRE2_ERROR_NOMATCH) return MA_OK;
  const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(m->data);
  if (result < 0) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(result, message, sizeof message);
    return ma_fail(err, MA_UNSUPPORTED, "tokenizer: matching a pattern stopped behind byte %zu: %s", m->from,
                   (char *)message);
  }
  *match = (ma_span){ends[0], ends[1] - ends[0]};
  *found = true;
  return MA_OK;
}

ma_status ma_matches_next(ma_matches *m, ma_span *match, bool *found, ma_error *err) {
  for (;;) {
    *found = false;
    if (m->from > m->length) return MA_OK;
    ma_status st = find(m, match, found, err);
    if (st != MA_OK || !*found) return st;
    if (match->length > 0 || match->at != m->last_end) break;
    /* An empty match directly behind the last one: look on behind the next character. */
    size_t n = ma_utf8_sequence(m->text + m->from, m->length - m->from);
    m->from += n ? n : 1;
  }
  m->from = m->last_end = match->at + match->length;
  return MA_OK;
}
