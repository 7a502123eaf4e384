/* Tokens by id and by text. */
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "text/text_internal.h"

static uint64_t hash(const char *text, size_t length) {
  uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
  for (size_t i = 0; i < length; i++) h = (h ^ (uint8_t)text[i]) * 0x100000001B3u;
  return h ^ h >> 29;
}

ma_status ma_vocabulary_reserve(ma_vocabulary *v, size_t n, ma_error *err) {
  if (n <= v->n) return MA_OK;
  if (n > INT32_MAX / 2) return ma_fail(err, MA_BAD_FILE, "tokenizer: %zu tokens are too many", n);
  ma_status st = ma_resize((void **)&v->tokens, n, sizeof *v->tokens, err);
  if (st != MA_OK) return st;
  memset(v->tokens + v->n, 0, (n - v->n) * sizeof *v->tokens);
  v->n = n;
  return MA_OK;
}

ma_status ma_vocabulary_set(ma_vocabulary *v, int32_t id, const char *text, size_t length, ma_error *err) {
  ma_token *token = &v->tokens[id];
  ma_free(token->text);
  token->text = NULL;
  token->length = length;
  return ma_strndup(&token->text, text, length, err);
}

ma_status ma_vocabulary_index(ma_vocabulary *v, ma_error *err) {
  ma_free(v->slots);
  v->slots = NULL;
  v->n_slots = 64;
  while (v->n_slots < 3 * v->n) v->n_slots *= 2;
  ma_status st = MA_NEW(&v->slots, v->n_slots, err);
  if (st != MA_OK) return st;
  for (size_t id = 0; id < v->n; id++) {
    const ma_token *token = &v->tokens[id];
    if (!token->text) continue;
    size_t at = hash(token->text, token->length) & (v->n_slots - 1);
    for (; v->slots[at]; at = (at + 1) & (v->n_slots - 1)) {
      const ma_token *other = &v->tokens[v->slots[at] - 1];
      if (other->length == token->length && memcmp(other->text, token->text, token->length) == 0) break;
    }
    v->slots[at] = (uint32_t)id + 1;
  }
  return MA_OK;
}

int32_t ma_vocabulary_find(const ma_vocabulary *v, const char *text, size_t length) {
  if (!v->slots) return -1;
  for (size_t at = hash(text, length) & (v->n_slots - 1); v->slots[at]; at = (at + 1) & (v->n_slots - 1)) {
    const ma_token *token = &v->tokens[v->slots[at] - 1];
    if (token->length == length && memcmp(token->text, text, length) == 0) return (int32_t)(v->slots[at] - 1);
  }
  return -1;
}

void ma_vocabulary_release(ma_vocabulary *v) {
  for (size_t i = 0; i < v->n; i++) {
    ma_free(v->tokens[i].text);
    ma_free(v->tokens[i].spelling);
  }
  ma_free(v->tokens);
  ma_free(v->slots);
  *v = (ma_vocabulary){0};
}

/* ---- the alphabet of byte-level models (GPT-2's bytes_to_unicode) ---- */

static bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* The byte that a character stands for; -1: none.  Printable bytes stand for themselves, the others are counted
 * from U+0100 on. */
static int byte_of(int32_t character) {
  if (character < 0x100) return is_printable((int)character) ? (int)character : -1;
  int32_t wanted = character - 0x100;
  for (int byte = 0; byte < 256; byte++) {
    if (is_printable(byte)) continue;
    if (wanted-- == 0) return byte;
  }
  return -1;
}

ma_status ma_vocabulary_to_bytes(ma_vocabulary *v, ma_error *err) {
  for (size_t id = 0; id < v->n; id++) {
    ma_token *token = &v->tokens[id];
    char *bytes;
    size_t n = 0, at = 0;
    if (!token->text) continue;
    ma_status st = ma_strndup(&bytes, token->text, token->length, err);
    if (st != MA_OK) return st;
    while (at < token->length) {
      int32_t character;
      utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)token->text + at,
                                               (utf8proc_ssize_t)(token->length - at), &character);
      int byte = used < 1 ? -1 : byte_of(character);
      if (byte < 0) break;
      bytes[n++] = (char)byte;
      at += (size_t)used;
    }
    if (at < token->length) {
      ma_free(bytes); /* an added token in plain text */
      continue;
    }
    bytes[n] = '\0';
    token->spelling = token->text;
    token->text = bytes;
    token->length = n;
  }
  return MA_OK;
}
