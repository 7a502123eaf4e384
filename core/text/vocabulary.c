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

ma_status ma_vocabulary_set(ma_vocabulary *v, int32_t id, const char *text, size_t length, bool is_model,
                            ma_error *err) {
  ma_token *token = &v->tokens[id];
  ma_free(token->text);
  *token = (ma_token){.length = length, .is_model = is_model};
  return ma_strndup(&token->text, text, length, err);
}

bool ma_vocabulary_key(const ma_vocabulary *v, size_t id, const char **text, size_t *length) {
  const ma_token *token = &v->tokens[id];
  if (!token->text || !token->is_model) return false;
  *text = v->is_byte_level ? token->bytes : token->text;
  *length = v->is_byte_level ? token->n_bytes : token->length;
  return *text != NULL;
}

static ma_status to_bytes(ma_vocabulary *v, ma_error *err) {
  for (size_t id = 0; id < v->n; id++) {
    ma_token *token = &v->tokens[id];
    if (!token->text || !token->is_model || token->bytes) continue;
    ma_status st = MA_NEW(&token->bytes, token->length + 1, err);
    if (st != MA_OK) return st;
    if (ma_alphabet_bytes(token->text, token->length, token->bytes, &token->n_bytes)) continue;
    ma_free(token->bytes);
    token->bytes = NULL;
  }
  return MA_OK;
}

ma_status ma_vocabulary_index(ma_vocabulary *v, bool byte_level, ma_error *err) {
  ma_status st = MA_OK;
  const char *text, *other;
  size_t length, n;
  if (byte_level) MA_TRY(to_bytes(v, err));
  ma_free(v->slots);
  v->slots = NULL;
  v->n_slots = 64;
  while (v->n_slots < 3 * v->n) v->n_slots *= 2;
  MA_TRY(MA_NEW(&v->slots, v->n_slots, err));
  v->is_byte_level = byte_level;
  for (size_t id = 0; id < v->n; id++) {
    if (!ma_vocabulary_key(v, id, &text, &length)) continue;
    size_t at = hash(text, length) & (v->n_slots - 1);
    for (; v->slots[at]; at = (at + 1) & (v->n_slots - 1))
      if (ma_vocabulary_key(v, v->slots[at] - 1, &other, &n) && n == length && memcmp(other, text, n) == 0) break;
    v->slots[at] = (uint32_t)id + 1;
  }
done:
  return st;
}

int32_t ma_vocabulary_find(const ma_vocabulary *v, const char *text, size_t length) {
  const char *key;
  size_t n;
  if (!v->slots) return -1;
  for (size_t at = hash(text, length) & (v->n_slots - 1); v->slots[at]; at = (at + 1) & (v->n_slots - 1))
    if (ma_vocabulary_key(v, v->slots[at] - 1, &key, &n) && n == length && memcmp(key, text, n) == 0)
      return (int32_t)(v->slots[at] - 1);
  return -1;
}

void ma_vocabulary_find_bytes(const ma_vocabulary *v, bool fallback, int32_t ids[256]) {
  for (int byte = 0; byte < 256; byte++) {
    char text[8] = {(char)byte};
    size_t length = fallback ? (size_t)snprintf(text, sizeof text, "<0x%02X>", byte) : 1;
    ids[byte] = ma_vocabulary_find(v, text, length);
  }
}

void ma_vocabulary_release(ma_vocabulary *v) {
  for (size_t i = 0; i < v->n; i++) {
    ma_free(v->tokens[i].text);
    ma_free(v->tokens[i].bytes);
    ma_free(v->tokens[i].decoded);
  }
  ma_free(v->tokens);
  ma_free(v->slots);
  *v = (ma_vocabulary){0};
}

/* ---- the alphabet of byte-level models (GPT-2's bytes_to_unicode) ---- */

static bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* Printable bytes stand for themselves; the others, 0 to 32, 127 to 160 and 173, are counted from U+0100 on. */
static int byte_of(int32_t character) {
  if (character < 0x100) return is_printable((int)character) ? (int)character : -1;
  int32_t n = character - 0x100;
  return n < 33 ? n : n < 67 ? n - 33 + 127 : n == 67 ? 173 : -1;
}

static int32_t character_of(int byte) {
  if (is_printable(byte)) return byte;
  return 0x100 + (byte < 33 ? byte : byte < 173 ? byte - 127 + 33 : 67);
}

bool ma_alphabet_bytes(const char *text, size_t length, char *bytes, size_t *n) {
  *n = 0;
  for (size_t at = 0; at < length;) {
    int32_t character;
    utf8proc_ssize_t used =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &character);
    int byte = used < 1 ? -1 : byte_of(character);
    if (byte < 0) return false;
    bytes[(*n)++] = (char)byte;
    at += (size_t)used;
  }
  return true;
}

ma_status ma_alphabet_add(ma_text *out, const char *bytes, size_t length, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < length && st == MA_OK; i++) {
    uint8_t encoded[4];
    utf8proc_ssize_t n = utf8proc_encode_char(character_of((uint8_t)bytes[i]), encoded);
    st = ma_text_add(out, (const char *)encoded, (size_t)n, err);
  }
  return st;
}
