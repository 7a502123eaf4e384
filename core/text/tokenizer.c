/* The pipeline: added tokens are cut out first, the rest is normalised, cut into pieces and encoded. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "text/text_internal.h"

/* ---- opening ---- */

static bool ends_with(const char *text, const char *end) {
  size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

static int longest_first(const void *pa, const void *pb) {
  const ma_added *a = pa, *b = pb;
  if (a->length != b->length) return a->length > b->length ? -1 : 1;
  return a->id < b->id ? -1 : a->id > b->id;
}

static ma_status load(ma_tokenizer *t, const char *path, const ma_gguf *g, ma_error *err) {
  ma_status st = MA_OK;
  t->bos = t->eos = -1;
  t->bpe.unknown = t->unigram.unknown = -1;
  MA_TRY(g ? ma_tokenizer_load_gguf(t, g, err) : ma_tokenizer_load_json(t, path, err));
done:
  return st;
}

static ma_status open_with(ma_tokenizer **out, const char *path, const ma_gguf *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tokenizer *t = NULL;
  *out = NULL;
  MA_TRY(MA_NEW(&t, 1, err));
  MA_TRY(load(t, path, g, err));
  *out = t;
  t = NULL;
done:
  ma_tokenizer_close(t);
  return st;
}

ma_status ma_tokenizer_from_gguf(ma_tokenizer **out, const ma_gguf *g, ma_error *err) {
  return open_with(out, NULL, g, err);
}

ma_status ma_tokenizer_open(ma_tokenizer **out, const char *path, ma_error *err) {
  char file[4096];
  ma_gguf *g;
  *out = NULL;
  if (ma_file_is_folder(path)) {
    snprintf(file, sizeof file, "%s/tokenizer.json", path);
    if (!ma_file_exists(file)) return ma_fail(err, MA_IO, "'%s' has no tokenizer.json", path);
    return open_with(out, file, NULL, err);
  }
  if (!ends_with(path, ".gguf")) return open_with(out, path, NULL, err);
  ma_status st = ma_gguf_open(&g, path, err);
  if (st != MA_OK) return st;
  st = open_with(out, path, g, err);
  ma_gguf_close(g);
  return st;
}

void ma_tokenizer_close(ma_tokenizer *t) {
  if (!t) return;
  ma_vocabulary_release(&t->vocabulary);
  ma_bpe_release(&t->bpe);
  ma_unigram_release(&t->unigram);
  ma_steps_release(&t->normalizer);
  ma_steps_release(&t->pre_tokenizer);
  for (size_t i = 0; i < t->n_decoders; i++) ma_decode_step_release(&t->decoders[i]);
  ma_free(t->decoders);
  for (size_t i = 0; i < t->n_added; i++) ma_free(t->added[i].text);
  ma_free(t->added);
  ma_pattern_release(&t->word);
  ma_free(t->prefix.ids);
  ma_free(t->suffix.ids);
  ma_free(t);
}

/* ---- what the loaders share ---- */

ma_status ma_tokenizer_add_added(ma_tokenizer *t, ma_added added, ma_error *err) {
  const char *text = added.text;
  if (added.length == 0) return ma_fail(err, MA_BAD_FILE, "tokenizer: added token %d is empty", added.id);
  ma_status st = ma_resize((void **)&t->added, t->n_added + 1, sizeof *t->added, err);
  if (st == MA_OK) st = ma_strndup(&added.text, text, added.length, err);
  if (st == MA_OK) t->added[t->n_added++] = added;
  return st;
}

ma_status ma_tokenizer_add_decoder(ma_tokenizer *t, ma_decode_kind kind, ma_decode_step **out, ma_error *err) {
  ma_status st = ma_resize((void **)&t->decoders, t->n_decoders + 1, sizeof *t->decoders, err);
  if (st != MA_OK) return st;
  *out = &t->decoders[t->n_decoders++];
  **out = (ma_decode_step){.kind = kind};
  return MA_OK;
}

ma_status ma_tokenizer_finish(ma_tokenizer *t, ma_error *err) {
  /* What Rust's regex calls a word, for added tokens that must be one. */
  static const char word[] = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
  ma_status st = MA_OK;
  bool wants_word = false;
  for (size_t i = 0; i < t->n_added; i++) {
    wants_word |= t->added[i].is_single_word;
    t->vocabulary.tokens[t->added[i].id].is_special = t->added[i].is_special;
  }
  if (wants_word) MA_TRY(ma_pattern_regex(&t->word, word, strlen(word), err));
  if (t->n_added) qsort(t->added, t->n_added, sizeof *t->added, longest_first);
  MA_TRY(ma_vocabulary_index(&t->vocabulary, t->is_byte_level, err));
  if (t->model == MA_MODEL_UNIGRAM) MA_TRY(ma_unigram_finish(&t->unigram, &t->vocabulary, err));
  else MA_TRY(ma_bpe_finish(&t->bpe, &t->vocabulary, err));
  bool falls_back = t->model == MA_MODEL_UNIGRAM ? t->unigram.has_byte_fallback : t->bpe.has_byte_fallback;
  for (int byte = 0; byte < 256 && t->is_byte_level && falls_back; byte++)
    if (t->model == MA_MODEL_UNIGRAM || t->bpe.byte_ids[byte] < 0)
      MA_TRY(ma_fail(err, MA_UNSUPPORTED, "model.byte_fallback beside a ByteLevel pre_tokenizer is not supported"));
done:
  return st;
}

/* ---- added tokens in text ---- */

/* Where the character before `at` begins. */
static size_t before(const char *text, size_t at) {
  do at--;
  while (at > 0 && ((uint8_t)text[at] & 0xC0) == 0x80);
  return at;
}

static bool is_space_at(const char *text, size_t length, size_t at, size_t *n) {
  utf8proc_int32_t c;
  utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &c);
  *n = used < 1 ? 1 : (size_t)used;
  return used >= 1 && ma_is_white_space(c);
}

/* The blanks beside a token that strips. */
static size_t blank_before(const char *text, size_t at) {
  size_t n;
  while (at > 0 && is_space_at(text, at, before(text, at), &n)) at -= n;
  return at;
}

static size_t blank_behind(const char *text, size_t at, size_t length) {
  size_t n;
  while (at < length && is_space_at(text, length, at, &n)) at += n;
  return at;
}

typedef struct encoder {
  const ma_tokenizer *t;
  ma_scratch scratch;
  ma_ids out;
  bool starts[2][256]; /* which bytes an added token (raw, normalised) begins with */
  ma_matches word;     /* open where an added token is a single word */
  ma_error *err;
} encoder;

typedef ma_status segment_fn(encoder *e, const char *text, size_t length, bool starts_input);

/* The longest added token at `at`. */
static const ma_added *added_at(const encoder *e, bool normalized, const char *text, size_t length, size_t at) {
  if (!e->starts[normalized][(uint8_t)text[at]]) return NULL;
  for (size_t i = 0; i < e->t->n_added; i++) {
    const ma_added *a = &e->t->added[i];
    if (a->is_normalized == normalized && a->length <= length - at && memcmp(text + at, a->text, a->length) == 0)
      return a;
  }
  return NULL;
}

static ma_status stands_alone(encoder *e, const ma_added *a, const char *text, size_t length, size_t at, bool *out) {
  ma_status st = MA_OK;
  ma_span match;
  bool found = false;
  size_t end = at + a->length, from = at > 0 ? before(text, at) : 0;
  *out = true;
  if (!a->is_single_word) return MA_OK;
  ma_matches_start(&e->word, text + from, at - from);
  if (at > 0) MA_TRY(ma_matches_next(&e->word, &match, &found, e->err));
  if (!found && end < length) {
    ma_matches_start(&e->word, text + end, ma_utf8_sequence(text + end, length - end));
    MA_TRY(ma_matches_next(&e->word, &match, &found, e->err));
  }
  *out = !found;
done:
  return st;
}

/* Calls `rest` for what lies between added tokens, and puts their ids in between.  `done` can lie behind `at`, where a
 * token has taken blanks that the next one begins with. */
static ma_status cut_added(encoder *e, bool normalized, const char *text, size_t length, bool starts_input,
                           segment_fn *rest) {
  ma_status st = MA_OK;
  size_t done = 0, at = 0;
  while (at < length) {
    const ma_added *a = added_at(e, normalized, text, length, at);
    if (!a) {
      at++;
      continue;
    }
    bool is_alone;
    size_t from = at, to = at + a->length;
    MA_TRY(stands_alone(e, a, text, length, at, &is_alone));
    at = to;
    if (!is_alone) continue;
    if (a->strips_left) {
      from = blank_before(text, from);
      if (from < done) from = done;
    }
    if (a->strips_right) to = blank_behind(text, to, length);
    if (from > done) MA_TRY(rest(e, text + done, from - done, starts_input && done == 0));
    /* One whose text an earlier one has taken whole is dropped. */
    if (to > from) MA_TRY(ma_ids_add(&e->out, a->id, e->err));
    done = to;
  }
  if (length > done) MA_TRY(rest(e, text + done, length - done, starts_input && done == 0));
done:
  return st;
}

/* ---- encoding ---- */

static ma_status one_piece(ma_pieces *p, const char *text, size_t length, bool starts_input, ma_error *err) {
  p->starts_input = starts_input;
  ma_status st = ma_text_add(&p->text, text, length, err);
  return st == MA_OK ? ma_pieces_add(p, 0, length, err) : st;
}

static ma_status encode_piece(encoder *e, const char *text, size_t length) {
  const ma_tokenizer *t = e->t;
  if (t->model == MA_MODEL_UNIGRAM)
    return ma_unigram_encode(&t->unigram, &t->vocabulary, &e->scratch, text, length, &e->out, e->err);
  return ma_bpe_encode(&t->bpe, &t->vocabulary, &e->scratch, text, length, &e->out, e->err);
}

static ma_status encode_normal(encoder *e, const char *text, size_t length, bool starts_input) {
  ma_status st = MA_OK;
  ma_pieces pieces = {0};
  MA_TRY(one_piece(&pieces, text, length, starts_input, e->err));
  MA_TRY(ma_steps_apply(&e->t->pre_tokenizer, &pieces, e->err));
  for (size_t i = 0; i < pieces.n; i++)
    MA_TRY(encode_piece(e, pieces.text.data + pieces.spans[i].at, pieces.spans[i].length));
done:
  ma_pieces_release(&pieces);
  return st;
}

static ma_status encode_raw(encoder *e, const char *text, size_t length, bool starts_input) {
  ma_status st = MA_OK;
  ma_pieces pieces = {0};
  MA_TRY(one_piece(&pieces, text, length, starts_input, e->err));
  MA_TRY(ma_steps_apply(&e->t->normalizer, &pieces, e->err));
  MA_TRY(cut_added(e, true, pieces.text.data, pieces.text.length, pieces.starts_input, encode_normal));
done:
  ma_pieces_release(&pieces);
  return st;
}

static ma_status add_all(ma_ids *out, const ma_ids *ids, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < ids->n && st == MA_OK; i++) st = ma_ids_add(out, ids->ids[i], err);
  return st;
}

ma_status ma_tokenizer_encode(const ma_tokenizer *t, const char *text, size_t length, bool special, int32_t **ids,
                              size_t *n, ma_error *err) {
  ma_status st = MA_OK;
  encoder e = {.t = t, .err = err};
  *ids = NULL;
  *n = 0;
  size_t bad = ma_utf8_bad_byte(text, length);
  if (bad < length)
    return ma_fail(err, MA_BAD_ARGUMENT, "the text is not UTF-8: byte 0x%02X at offset %zu", (uint8_t)text[bad], bad);
  for (size_t i = 0; i < t->n_added; i++) e.starts[t->added[i].is_normalized][(uint8_t)t->added[i].text[0]] = true;
  if (t->word.code) MA_TRY(ma_matches_open(&e.word, &t->word, err));
  if (special) MA_TRY(add_all(&e.out, &t->prefix, err));
  MA_TRY(cut_added(&e, false, text, length, true, encode_raw));
  if (special) MA_TRY(add_all(&e.out, &t->suffix, err));
  *ids = e.out.ids;
  *n = e.out.n;
  e.out.ids = NULL;
done:
  ma_matches_close(&e.word);
  ma_scratch_release(&e.scratch);
  ma_free(e.out.ids);
  return st;
}

/* ---- asking ---- */

size_t ma_tokenizer_size(const ma_tokenizer *t) { return t->vocabulary.n; }
int32_t ma_tokenizer_bos(const ma_tokenizer *t) { return t->bos; }
int32_t ma_tokenizer_eos(const ma_tokenizer *t) { return t->eos; }
const char *ma_tokenizer_describe(const ma_tokenizer *t) { return t->description; }

const char *ma_tokenizer_token(const ma_tokenizer *t, int32_t id, size_t *length) {
  if (id < 0 || (size_t)id >= t->vocabulary.n || !t->vocabulary.tokens[id].text) return NULL;
  const ma_token *token = &t->vocabulary.tokens[id];
  *length = token->length;
  return token->text;
}

int32_t ma_tokenizer_id(const ma_tokenizer *t, const char *token, size_t length) {
  for (size_t i = 0; i < t->vocabulary.n; i++) {
    size_t n;
    const char *text = ma_tokenizer_token(t, (int32_t)i, &n);
    if (text && n == length && memcmp(text, token, n) == 0) return (int32_t)i;
  }
  return -1;
}

bool ma_tokenizer_is_special(const ma_tokenizer *t, int32_t id) {
  return id >= 0 && (size_t)id < t->vocabulary.n && t->vocabulary.tokens[id].is_special;
}
