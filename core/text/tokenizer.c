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
  t->bpe.unknown = -1;
  MA_TRY(g ? ma_tokenizer_load_gguf(t, g, err) : ma_tokenizer_load_json(t, path, err));
  if (t->n_added) qsort(t->added, t->n_added, sizeof *t->added, longest_first);
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
  ma_steps_release(&t->normalizer);
  ma_steps_release(&t->pre_tokenizer);
  for (size_t i = 0; i < t->n_decoders; i++) {
    ma_free(t->decoders[i].content);
    ma_free(t->decoders[i].with);
  }
  ma_free(t->decoders);
  for (size_t i = 0; i < t->n_added; i++) ma_free(t->added[i].text);
  ma_free(t->added);
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

void ma_tokenizer_find_bytes(ma_tokenizer *t) {
  for (int byte = 0; byte < 256; byte++) {
    char text[8] = {(char)byte};
    size_t length = 1;
    if (!t->bpe.is_byte_level) length = (size_t)snprintf(text, sizeof text, "<0x%02X>", byte);
    t->bpe.byte_ids[byte] = ma_vocabulary_find(&t->vocabulary, text, length);
  }
}

/* ---- added tokens in text ---- */

static bool is_word_character(const char *text, size_t length, size_t at, bool before) {
  utf8proc_int32_t c;
  if (before) {
    if (at == 0) return false;
    do at--;
    while (at > 0 && ((uint8_t)text[at] & 0xC0) == 0x80);
  }
  if (at >= length || utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &c) < 1) return false;
  utf8proc_category_t k = utf8proc_category(c);
  return c == '_' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO);
}

static const ma_added *added_at(const ma_tokenizer *t, bool normalized, const char *text, size_t length, size_t at) {
  for (size_t i = 0; i < t->n_added; i++) {
    const ma_added *a = &t->added[i];
    if (a->is_normalized != normalized || a->length > length - at || memcmp(text + at, a->text, a->length) != 0) continue;
    if (a->is_single_word && (is_word_character(text, length, at, true) || is_word_character(text, length, at + a->length, false)))
      continue;
    return a;
  }
  return NULL;
}

/* ASCII and Unicode blanks beside a token that strips. */
static size_t blank_before(const char *text, size_t from, size_t at) {
  while (at > from && memchr(" \t\n\r\v\f", text[at - 1], 6)) at--;
  return at;
}

static size_t blank_behind(const char *text, size_t at, size_t length) {
  while (at < length && memchr(" \t\n\r\v\f", text[at], 6)) at++;
  return at;
}

typedef struct encoder {
  const ma_tokenizer *t;
  ma_bpe_scratch scratch;
  ma_ids out;
  bool starts[2][256]; /* which bytes an added token (raw, normalised) begins with */
  ma_error *err;
} encoder;

typedef ma_status segment_fn(encoder *e, const char *text, size_t length, bool is_first);

/* Calls `rest` for what lies between added tokens, and puts their ids in between. */
static ma_status cut_added(encoder *e, bool normalized, const char *text, size_t length, bool is_first, segment_fn *rest) {
  ma_status st = MA_OK;
  size_t done = 0, at = 0;
  while (at < length) {
    const ma_added *a = e->starts[normalized][(uint8_t)text[at]] ? added_at(e->t, normalized, text, length, at) : NULL;
    if (!a) {
      at++;
      continue;
    }
    size_t from = a->strips_left ? blank_before(text, done, at) : at;
    if (from > done) MA_TRY(rest(e, text + done, from - done, is_first && done == 0));
    MA_TRY(ma_ids_add(&e->out, a->id, e->err));
    done = at = a->strips_right ? blank_behind(text, at + a->length, length) : at + a->length;
  }
  if (length > done) MA_TRY(rest(e, text + done, length - done, is_first && done == 0));
done:
  return st;
}

/* ---- encoding ---- */

static ma_status one_piece(ma_pieces *p, const char *text, size_t length, ma_error *err) {
  ma_status st = ma_text_add(&p->text, text, length, err);
  return st == MA_OK ? ma_pieces_add(p, 0, length, err) : st;
}

static ma_status encode_normal(encoder *e, const char *text, size_t length, bool is_first) {
  ma_status st = MA_OK;
  ma_pieces pieces = {0};
  const ma_tokenizer *t = e->t;
  MA_TRY(one_piece(&pieces, text, length, e->err));
  MA_TRY(ma_steps_apply(&t->pre_tokenizer, &pieces, is_first, e->err));
  for (size_t i = 0; i < pieces.n; i++)
    MA_TRY(ma_bpe_encode(&t->bpe, &t->vocabulary, &e->scratch, pieces.text.data + pieces.spans[i].at,
                         pieces.spans[i].length, &e->out, e->err));
done:
  ma_pieces_release(&pieces);
  return st;
}

static ma_status encode_raw(encoder *e, const char *text, size_t length, bool is_first) {
  ma_status st = MA_OK;
  ma_pieces pieces = {0};
  MA_TRY(one_piece(&pieces, text, length, e->err));
  MA_TRY(ma_steps_apply(&e->t->normalizer, &pieces, is_first, e->err));
  MA_TRY(cut_added(e, true, pieces.text.data, pieces.text.length, is_first, encode_normal));
done:
  ma_pieces_release(&pieces);
  return st;
}

static ma_status add_all(ma_ids *out, const ma_ids *ids, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < ids->n && st == MA_OK; i++) st = ma_ids_add(out, ids->ids[i], err);
  return st;
}

ma_status ma_tokenizer_encode(const ma_tokenizer *t, const char *text, size_t length, bool special,
                              int32_t **ids, size_t *n, ma_error *err) {
  ma_status st = MA_OK;
  encoder e = {.t = t, .err = err};
  *ids = NULL;
  *n = 0;
  size_t bad = ma_utf8_bad_byte(text, length);
  if (bad < length)
    return ma_fail(err, MA_BAD_ARGUMENT, "the text is not UTF-8: byte 0x%02X at offset %zu", (uint8_t)text[bad], bad);
  for (size_t i = 0; i < t->n_added; i++) e.starts[t->added[i].is_normalized][(uint8_t)t->added[i].text[0]] = true;
  if (special) MA_TRY(add_all(&e.out, &t->prefix, err));
  MA_TRY(cut_added(&e, false, text, length, true, encode_raw));
  if (special) MA_TRY(add_all(&e.out, &t->suffix, err));
  *ids = e.out.ids;
  *n = e.out.n;
  e.out.ids = NULL;
done:
  ma_bpe_scratch_release(&e.scratch);
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
  if (token->spelling) {
    *length = strlen(token->spelling);
    return token->spelling;
  }
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
  for (size_t i = 0; i < t->n_added; i++)
    if (t->added[i].id == id && t->added[i].is_special) return true;
  return false;
}
