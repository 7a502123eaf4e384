/* From ids back to text: the tokens' texts go through a list of decoders. */
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

/* Letters of the byte-level alphabet to bytes; a token with any other character stays as it is. */
static ma_status add_bytes(ma_text *out, const char *text, size_t length, ma_error *err) {
  char few[256], *bytes = few;
  size_t n;
  ma_status st = MA_OK;
  if (length > sizeof few) MA_TRY(MA_NEW(&bytes, length, err));
  bool is_spelled = ma_alphabet_bytes(text, length, bytes, &n);
  MA_TRY(ma_text_add(out, is_spelled ? bytes : text, is_spelled ? n : length, err));
done:
  if (bytes != few) ma_free(bytes);
  return st;
}

/* All bytes first: a character may be cut over several tokens. */
static ma_status to_bytes(tokens *out, const tokens *in, ma_error *err) {
  ma_status st = MA_OK;
  ma_text bytes = {0};
  MA_TRY(ma_text_add(&bytes, "", 0, err));
  for (size_t i = 0; i < in->n; i++)
    MA_TRY(add_bytes(&bytes, in->text.data + in->spans[i].at, in->spans[i].length, err));
  MA_TRY(add_token(out, "", 0, err));
  MA_TRY(add_lossy(&out->text, bytes.data, bytes.length, err));
  out->spans[0].length = out->text.length;
done:
  ma_text_release(&bytes);
  return st;
}

static ma_status fuse(tokens *out, const tokens *in, ma_error *err) {
  return add_token(out, in->text.data, in->text.length, err);
}

static ma_status replace(tokens *out, const tokens *in, const ma_decode_step *step, ma_error *err) {
  ma_status st = MA_OK;
  ma_matches matches = {0};
  size_t m = strlen(step->with);
  MA_TRY(ma_matches_open(&matches, &step->pattern, err));
  for (size_t i = 0; i < in->n; i++) {
    const char *text = in->text.data + in->spans[i].at;
    size_t length = in->spans[i].length, from = out->text.length, done = 0;
    bool found = length > 0;
    MA_TRY(add_token(out, "", 0, err));
    ma_matches_start(&matches, text, length);
    while (found) {
      ma_span match;
      MA_TRY(ma_matches_next(&matches, &match, &found, err));
      if (!found) break;
      MA_TRY(ma_text_add(&out->text, text + done, match.at - done, err));
      MA_TRY(ma_text_add(&out->text, step->with, m, err));
      done = match.at + match.length;
    }
    MA_TRY(ma_text_add(&out->text, text + done, length - done, err));
    out->spans[out->n - 1].length = out->text.length - from;
  }
done:
  ma_matches_close(&matches);
  return st;
}

/* The byte of "<0xNN>"; -1: something else. */
static int byte_token(const char *text, size_t length) {
  if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
  int byte = 0;
  for (int i = 3; i < 5; i++) {
    char c = text[i];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : -1;
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

/* `content` is a blank; in the first token it was put there by the pre-tokenizer, all of it. */
static ma_status metaspace(tokens *out, const tokens *in, const ma_decode_step *step, ma_error *err) {
  ma_status st = MA_OK;
  size_t n = strlen(step->content);
  for (size_t i = 0; i < in->n && st == MA_OK; i++) {
    const char *text = in->text.data + in->spans[i].at, *end = text + in->spans[i].length;
    size_t from = out->text.length;
    st = add_token(out, "", 0, err);
    while (text < end && st == MA_OK) {
      const char *hit = memmem(text, (size_t)(end - text), step->content, n);
      st = ma_text_add(&out->text, text, (size_t)((hit ? hit : end) - text), err);
      if (hit && st == MA_OK && !(i == 0 && step->start)) st = ma_text_add(&out->text, " ", 1, err);
      text = hit ? hit + n : end;
    }
    out->spans[out->n - 1].length = out->text.length - from;
  }
  return st;
}

void ma_decode_step_release(ma_decode_step *step) {
  ma_pattern_release(&step->pattern);
  ma_free(step->content);
  ma_free(step->with);
  *step = (ma_decode_step){0};
}

static ma_status apply(tokens *all, const ma_decode_step *step, ma_error *err) {
  ma_status st = MA_OK;
  tokens out = {0};
  MA_TRY(ma_text_add(&out.text, "", 0, err));
  switch (step->kind) {
    case MA_DECODE_BYTES: MA_TRY(to_bytes(&out, all, err)); break;
    case MA_DECODE_FUSE: MA_TRY(fuse(&out, all, err)); break;
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

ma_status ma_tokenizer_decode(const ma_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, char **text,
                              size_t *length, ma_error *err) {
  ma_status st = MA_OK;
  tokens all = {0};
  *text = NULL;
  *length = 0;
  MA_TRY(ma_text_add(&all.text, "", 0, err));
  for (size_t i = 0; i < n; i++) {
    if (ids[i] < 0 || (size_t)ids[i] >= t->vocabulary.n)
      MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "id %d is outside the vocabulary of %zu", ids[i], t->vocabulary.n));
    const ma_token *token = &t->vocabulary.tokens[ids[i]];
    /* Hugging Face's finds special tokens by their text here: one that was normalised is not found. */
    if (!token->text || (skip_special && token->is_special && !token->decoded)) continue;
    if (t->joins_with_blank && all.n > 0) MA_TRY(ma_text_add(&all.text, " ", 1, err));
    MA_TRY(add_token(&all, token->decoded ? token->decoded : token->text,
                     token->decoded ? strlen(token->decoded) : token->length, err));
  }
  for (size_t i = 0; i < t->n_decoders; i++) MA_TRY(apply(&all, &t->decoders[i], err));
  *text = all.text.data;
  *length = all.text.length;
  all.text = (ma_text){0};
done:
  tokens_release(&all);
  return st;
}
