/* Normalisers and pre-tokenizers of tokenizer.json. */
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/load_json.h"

static ma_status set_content(const ma_json_reader *r, ma_step *step, const char *text) {
  step->content_length = strlen(text);
  return ma_strndup(&step->content, text, step->content_length, r->err);
}

static ma_status add_step(const ma_json_reader *r, ma_steps *steps, ma_step_kind kind, ma_step **out) {
  ma_status st = ma_steps_add(steps, out, r->err);
  if (st == MA_OK) (*out)->kind = kind;
  return st;
}

/* ---- normalisers ---- */

static int digit_of(char c) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *hit = c ? strchr(digits, c) : NULL;
  return hit ? (int)(hit - digits) : -1;
}

/* RFC 4648, section 4. */
static bool decode_base64(const char *text, char *out, size_t *n) {
  size_t length = strlen(text);
  if (length % 4 != 0) return false;
  while (length && text[length - 1] == '=' && strlen(text) - length < 2) length--;
  uint32_t bits = 0;
  *n = 0;
  for (size_t i = 0; i < length; i++) {
    int digit = digit_of(text[i]);
    if (digit < 0) return false;
    bits = bits << 6 | (uint32_t)digit;
    if (i % 4 != 0) out[(*n)++] = (char)(bits >> (6 - 2 * (i % 4)) & 0xFF);
  }
  return true;
}

static ma_status read_charsmap(const ma_json_reader *r, const json_t *c, ma_steps *steps) {
  ma_status st = MA_OK;
  const char *text;
  ma_step *step;
  MA_TRY(ma_json_text(r, c, "precompiled_charsmap", &text));
  if (!text) MA_TRY(ma_json_bad(r, "precompiled_charsmap is missing"));
  MA_TRY(add_step(r, steps, MA_STEP_CHARSMAP, &step));
  MA_TRY(MA_NEW(&step->content, strlen(text) + 1, r->err));
  if (!decode_base64(text, step->content, &step->content_length))
    MA_TRY(ma_json_bad(r, "precompiled_charsmap is not base64"));
  MA_TRY(ma_json_at(r, ma_charsmap_check(step->content, step->content_length, r->err)));
done:
  return st;
}

static ma_status read_replace(const ma_json_reader *r, const json_t *c, ma_steps *steps) {
  ma_status st = MA_OK;
  ma_step *step;
  const char *content;
  MA_TRY(add_step(r, steps, MA_STEP_REPLACE, &step));
  MA_TRY(ma_json_pattern(r, c, &step->pattern));
  MA_TRY(ma_json_needed(r, c, "content", &content));
  MA_TRY(set_content(r, step, content));
done:
  return st;
}

ma_status ma_json_normalizer(ma_json_reader *r, const json_t *c) {
  static const struct {
    const char *type;
    ma_step_kind kind;
    int form;
  } plain[] = {
      {"NFC", MA_STEP_UNICODE, UTF8PROC_STABLE | UTF8PROC_COMPOSE},
      {"NFD", MA_STEP_UNICODE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
      {"NFKC", MA_STEP_UNICODE, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
      {"NFKD", MA_STEP_UNICODE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
      {"Lowercase", MA_STEP_LOWER, 0},
      {"StripAccents", MA_STEP_STRIP_ACCENTS, 0},
      {"Nmt", MA_STEP_NMT, 0},
      {"ByteLevel", MA_STEP_ALPHABET, 0},
  };
  ma_status st = MA_OK;
  ma_steps *steps = &r->t->normalizer;
  ma_step *step;
  const char *text;
  for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
    if (!ma_json_is(r, plain[i].type)) continue;
    MA_TRY(add_step(r, steps, plain[i].kind, &step));
    step->form = plain[i].form;
    return MA_OK;
  }
  if (ma_json_is(r, "Replace")) return read_replace(r, c, steps);
  if (ma_json_is(r, "Precompiled")) return read_charsmap(r, c, steps);
  if (ma_json_is(r, "Prepend")) {
    MA_TRY(ma_json_needed(r, c, "prepend", &text));
    MA_TRY(add_step(r, steps, MA_STEP_PREPEND, &step));
    return set_content(r, step, text);
  }
  if (ma_json_is(r, "Strip")) {
    MA_TRY(add_step(r, steps, MA_STEP_STRIP, &step));
    MA_TRY(ma_json_flag(r, c, "strip_left", true, &step->at_start));
    return ma_json_flag(r, c, "strip_right", true, &step->at_end);
  }
  return ma_json_lacks(r);
done:
  return st;
}

/* ---- pre-tokenizers ---- */

static ma_status read_behaviour(const ma_json_reader *r, const json_t *c, bool is_needed, ma_behaviour *out) {
  static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  const char *name;
  ma_status st = is_needed ? ma_json_needed(r, c, "behavior", &name) : ma_json_text(r, c, "behavior", &name);
  *out = MA_SPLIT_ISOLATED;
  if (st != MA_OK || !name) return st;
  for (int i = 0; i < 5; i++)
    if (strcmp(name, names[i]) == 0) return *out = (ma_behaviour)i, MA_OK;
  return ma_json_bad(r, "behavior '%.40s' is unknown", name);
}

static ma_status read_byte_level(const ma_json_reader *r, const json_t *c, ma_steps *steps) {
  ma_status st = MA_OK;
  ma_step *step;
  bool adds_space, uses_regex;
  MA_TRY(ma_json_flag(r, c, "add_prefix_space", true, &adds_space));
  MA_TRY(ma_json_flag(r, c, "use_regex", true, &uses_regex));
  if (adds_space) MA_TRY(add_step(r, steps, MA_STEP_SPACE, &step));
  if (uses_regex) MA_TRY(ma_steps_add_split(steps, ma_regex_gpt2, MA_SPLIT_ISOLATED, false, r->err));
  MA_TRY(add_step(r, steps, MA_STEP_ALPHABET, &step));
done:
  return st;
}

/* The one character under a key. */
static ma_status read_character(const ma_json_reader *r, const json_t *c, const char *key, const char **out) {
  ma_status st = ma_json_needed(r, c, key, out);
  if (st != MA_OK) return st;
  size_t n = strlen(*out);
  return n && ma_utf8_sequence(*out, n) == n ? MA_OK : ma_json_bad(r, "%s is not one character", key);
}

static ma_status read_metaspace(const ma_json_reader *r, const json_t *c, ma_steps *steps) {
  ma_status st = MA_OK;
  ma_step *step;
  const char *replacement;
  int scheme = 0;
  MA_TRY(read_character(r, c, "replacement", &replacement));
  MA_TRY(add_step(r, steps, MA_STEP_METASPACE, &step));
  step->behaviour = MA_SPLIT_MERGED_WITH_NEXT;
  MA_TRY(ma_json_flag(r, c, "split", true, &step->splits));
  MA_TRY(ma_json_scheme(r, c, &scheme));
  step->scheme = scheme == MA_PREPEND_FIRST   ? MA_PREPEND_FIRST
                 : scheme == MA_PREPEND_NEVER ? MA_PREPEND_NEVER
                                              : MA_PREPEND_ALWAYS;
  MA_TRY(set_content(r, step, replacement));
  MA_TRY(ma_pattern_literal(&step->pattern, replacement, strlen(replacement), r->err));
done:
  return st;
}

static ma_status read_split(const ma_json_reader *r, const json_t *c, ma_steps *steps) {
  ma_status st = MA_OK;
  ma_step *step;
  MA_TRY(add_step(r, steps, MA_STEP_SPLIT, &step));
  MA_TRY(ma_json_flag(r, c, "invert", false, &step->is_inverted));
  MA_TRY(read_behaviour(r, c, true, &step->behaviour));
  MA_TRY(ma_json_pattern(r, c, &step->pattern));
done:
  return st;
}

static ma_status read_delimiter(const ma_json_reader *r, const json_t *c, ma_steps *steps) {
  ma_status st = MA_OK;
  ma_step *step;
  const char *delimiter;
  MA_TRY(read_character(r, c, "delimiter", &delimiter));
  MA_TRY(add_step(r, steps, MA_STEP_SPLIT, &step));
  step->behaviour = MA_SPLIT_REMOVED;
  MA_TRY(ma_pattern_literal(&step->pattern, delimiter, strlen(delimiter), r->err));
done:
  return st;
}

ma_status ma_json_pre_tokenizer(ma_json_reader *r, const json_t *c) {
  /* A word as Rust's regex has it, which Hugging Face's Whitespace uses. */
  static const char words[] =
      "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]+|"
      "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}\\s]+";
  ma_status st = MA_OK;
  ma_steps *steps = &r->t->pre_tokenizer;
  ma_behaviour behaviour;
  bool flag;
  if (ma_json_is(r, "ByteLevel")) return read_byte_level(r, c, steps);
  if (ma_json_is(r, "Metaspace")) return read_metaspace(r, c, steps);
  if (ma_json_is(r, "Split")) return read_split(r, c, steps);
  if (ma_json_is(r, "CharDelimiterSplit")) return read_delimiter(r, c, steps);
  if (ma_json_is(r, "Whitespace")) return ma_steps_add_split(steps, words, MA_SPLIT_REMOVED, true, r->err);
  if (ma_json_is(r, "WhitespaceSplit")) return ma_steps_add_split(steps, "\\s+", MA_SPLIT_REMOVED, false, r->err);
  if (ma_json_is(r, "Digits")) {
    MA_TRY(ma_json_flag(r, c, "individual_digits", false, &flag));
    return ma_steps_add_split(steps, flag ? "\\p{N}" : "\\p{N}+", MA_SPLIT_ISOLATED, false, r->err);
  }
  if (ma_json_is(r, "Punctuation")) {
    MA_TRY(read_behaviour(r, c, false, &behaviour));
    return ma_steps_add_split(steps, "[!-/:-@\\[-`{-~\\p{P}]", behaviour, false, r->err);
  }
  return ma_json_lacks(r);
done:
  return st;
}
