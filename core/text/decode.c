/* From ids back to text: the tokens' texts go through a list of decoders. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/text_internal.h"

/* The tokens on their way: pieces of one buffer (an empty one is kept: it ends a run of bytes). */
typedef struct tokens {
  ma_text text;
  ma_span *spans;
  size_t n, capacity;
} tokens;

static void tokens_release(tokens *t) {
  ma_text_release(&t->text);
  ma_free(t->spans);
  *t = (tokens){0};
}

static ma_status add_token(tokens *t, const char *text, size_t length, ma_error *err) {
  if (t->n == t->capacity) {
    size_t capacity = t->capacity ? 2 * t->capacity : 64;
    ma_status st = ma_resize((void **)&t->spans, capacity, sizeof *t->spans, err);
    if (st != MA_OK) return st;
    t->capacity = capacity;
  }
  t->spans[t->n++] = (ma_span){t->text.length, length};
  return ma_text_add(&t->text, text, length, err);
}

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Copies what is UTF-8; of the rest each longest beginning of a sequence becomes one U+FFFD (Unicode standard,
 * section 3.9, "substitution of maximal subparts"). */
static ma_status add_lossy(ma_text *out, const char *text, size_t length, ma_error *err) {
  ma_status st = MA_OK;
  size_t at = 0;
  while (at < length && st == MA_OK) {
    size_t good = ma_utf8_bad_byte(text + at, length - at);
    st = ma_text_add(out, text + at, good, err);
    at += good;
    if (at == length || st != MA_OK) break;
    /* The longest prefix that some continuation would make valid. */
    size_t part = 1;
    for (size_t n = 2; n <= 3 && at + n <= length; n++) {
      char trial[4];
      bool may_go_on = false;
      memcpy(trial, text + at, n);
      for (size_t whole = n + 1; whole <= 4 && !may_go_on; whole++) {
        /* Only the second byte is restricted beyond 80..BF, and it is in the prefix. */
        memset(trial + n, 0x80, 4 - n);
        may_go_on = ma_utf8_sequence(trial, whole) == whole;
      }
      if (!may_go_on) break;
      part = n;
    }
    st = ma_text_add(out, replacement, 3, err);
    at += part;
  }
  return st;
}

/* ---- the decoders ---- */

static ma_status join(tokens *out, const tokens *in, bool is_bytes, ma_error *err) {
  ma_status st = add_token(out, "", 0, err);
  if (st != MA_OK) return st;
  if (is_bytes) st = add_lossy(&out->text, in->text.data, in->text.length, err);
  else st = ma_text_add(&out->text, in->text.data, in->text.length, err);
  out->spans[0].length = out->text.length;
  return st;
}

static ma_status replace(tokens *out, const tokens *in, const ma_decode_step *step, ma_error *err) {
  ma_status st = MA_OK;
  size_t n = strlen(step->content), m = strlen(step->with);
  for (size_t i = 0; i < in->n && st == MA_OK; i++) {
    const char *text = in->text.data + in->spans[i].at, *end = text + in->spans[i].length;
    size_t from = out->text.length;
    st = add_token(out, "", 0, err);
    while (text < end && st == MA_OK) {
      const char *hit = n ? memmem(text, (size_t)(end - text), step->content, n) : NULL;
      st = ma_text_add(&out->text, text, (size_t)((hit ? hit : end) - text), err);
      if (hit && st == MA_OK) st = ma_text_add(&out->text, step->with, m, err);
      text = hit ? hit + n : end;
    }
    out->spans[out->n - 1].length = out->text.length - from;
  }
  return st;
}

/* The byte of "<0xNN>"; -1: something else. */
static int byte_token(const char *text, size_t length) {
  if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
  int byte = 0;
  for (int i = 3; i < 5; i++) {
    char c = text[i];
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return -1;
    byte = 16 * byte + digit;
  }
  return byte;
}

/* A run of bytes is text where all of it is UTF-8; else every byte of it becomes U+FFFD. */
static ma_status flush_bytes(tokens *out, ma_text *run, ma_error *err) {
  ma_status st = MA_OK;
  if (run->length == 0) return MA_OK;
  if (ma_utf8_bad_byte(run->data, run->length) == run->length) st = add_token(out, run->data, run->length, err);
  else
    for (size_t i = 0; i < run->length && st == MA_OK; i++) st = add_token(out, replacement, 3, err);
  run->length = 0;
  return st;
}

static ma_status byte_fallback(tokens *out, const tokens *in, ma_error *err) {
  ma_status st = MA_OK;
  ma_text run = {0};
  for (size_t i = 0; i < in->n; i++) {
    const char *text = in->text.data + in->spans[i].at;
    int byte = byte_token(text, in->spans[i].length);
    if (byte >= 0) {
      char c = (char)byte;
      MA_TRY(ma_text_add(&run, &c, 1, err));
    } else {
      MA_TRY(flush_bytes(out, &run, err));
      MA_TRY(add_token(out, text, in->spans[i].length, err));
    }
  }
  MA_TRY(flush_bytes(out, &run, err));
done:
  ma_text_release(&run);
  return st;
}

static ma_status strip(tokens *out, const tokens *in, const ma_decode_step *step, ma_error *err) {
  ma_status st = MA_OK;
  size_t n = strlen(step->content);
  for (size_t i = 0; i < in->n && st == MA_OK; i++) {
    const char *text = in->text.data + in->spans[i].at;
    size_t from = 0, to = in->spans[i].length;
    for (size_t k = 0; k < step->start && to - from >= n && memcmp(text + from, step->content, n) == 0; k++) from += n;
    for (size_t k = 0; k < step->stop && to - from >= n && memcmp(text + to - n, step->content, n) == 0; k++) to -= n;
    st = add_token(out, text + from, to - from, err);
  }
  return st;
}

/* As replace by a blank, but what the first token begins with was put there by the pre-tokenizer. */
static ma_status metaspace(tokens *out, const tokens *in, const ma_decode_step *step, ma_error *err) {
  tokens rest = *in;
  ma_decode_step by_blank = {.content = step->content, .with = (char[]){" "}};
  size_t n = strlen(step->content);
  bool drops = step->start && in->n && in->spans[0].length >= n && memcmp(in->text.data + in->spans[0].at, step->content, n) == 0;
  ma_span first = in->n ? in->spans[0] : (ma_span){0, 0};
  if (drops) rest.spans[0] = (ma_span){first.at + n, first.length - n};
  ma_status st = replace(out, &rest, &by_blank, err);
  if (drops) rest.spans[0] = first;
  return st;
}

static ma_status apply(tokens *all, const ma_decode_step *step, ma_error *err) {
  ma_status st = MA_OK;
  tokens out = {0};
  MA_TRY(ma_text_add(&out.text, "", 0, err));
  switch (step->kind) {
    case MA_DECODE_BYTES: MA_TRY(join(&out, all, true, err)); break;
    case MA_DECODE_FUSE: MA_TRY(join(&out, all, false, err)); break;
    case MA_DECODE_REPLACE: MA_TRY(replace(&out, all, step, err)); break;
    case MA_DECODE_BYTE_FALLBACK: MA_TRY(byte_fallback(&out, all, err)); break;
    case MA_DECODE_STRIP: MA_TRY(strip(&out, all, step, err)); break;
    case MA_DECODE_METASPACE: MA_TRY(metaspace(&out, all, step, err)); break;
  }
  tokens_release(all);
  *all = out;
  out = (tokens){0};
done:
  tokens_release(&out);
  return st;
}

ma_status ma_tokenizer_decode(const ma_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                              char **text, size_t *length, ma_error *err) {
  ma_status st = MA_OK;
  tokens all = {0};
  *text = NULL;
  *length = 0;
  MA_TRY(ma_text_add(&all.text, "", 0, err));
  for (size_t i = 0; i < n; i++) {
    if (ids[i] < 0 || (size_t)ids[i] >= t->vocabulary.n)
      MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "id %d is outside the vocabulary of %zu", ids[i], t->vocabulary.n));
    const ma_token *token = &t->vocabulary.tokens[ids[i]];
    if (!token->text || (skip_special && ma_tokenizer_is_special(t, ids[i]))) continue;
    MA_TRY(add_token(&all, token->text, token->length, err));
  }
  for (size_t i = 0; i < t->n_decoders; i++) MA_TRY(apply(&all, &t->decoders[i], err));
  *text = all.text.data;
  *length = all.text.length;
  all.text = (ma_text){0};
done:
  tokens_release(&all);
  return st;
}
