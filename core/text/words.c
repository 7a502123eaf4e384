#include "text/words.h"

#include <string.h>

#include "base/memory.h"

static uint32_t hash(const char *text, size_t length) {
  uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
  for (size_t i = 0; i < length; i++) h = (h ^ (uint8_t)text[i]) * 0x100000001B3u;
  return (uint32_t)(h ^ h >> 32);
}

const char *ma_words_text(const ma_words *w, size_t index) { return w->text.data + w->words[index].at; }

/* The word's slot, or the empty one where it belongs. */
static size_t find(const ma_words *w, const char *text, size_t length, uint32_t h) {
  size_t at = h & (w->n_slots - 1);
  for (; w->slots[at]; at = (at + 1) & (w->n_slots - 1)) {
    const ma_word *word = &w->words[w->slots[at] - 1];
    if (word->hash == h && word->length == length && memcmp(w->text.data + word->at, text, length) == 0) break;
  }
  return at;
}

static ma_status grow(ma_words *w, ma_error *err) {
  size_t n_slots = w->n_slots ? 2 * w->n_slots : 1024;
  uint32_t *slots;
  ma_status st = MA_NEW(&slots, n_slots, err);
  if (st == MA_OK) st = ma_resize((void **)&w->words, n_slots / 2, sizeof *w->words, err);
  if (st != MA_OK) {
    ma_free(slots);
    return st;
  }
  for (size_t i = 0; i < w->n; i++) {
    size_t at = w->words[i].hash & (n_slots - 1);
    while (slots[at]) at = (at + 1) & (n_slots - 1);
    slots[at] = (uint32_t)i + 1;
  }
  ma_free(w->slots);
  w->slots = slots;
  w->n_slots = n_slots;
  w->capacity = n_slots / 2;
  return MA_OK;
}

ma_status ma_words_add(ma_words *w, const char *text, size_t length, uint64_t count, size_t *index, ma_error *err) {
  ma_status st = MA_OK;
  if (w->n == w->capacity) MA_TRY(grow(w, err));
  uint32_t h = hash(text, length);
  size_t slot = find(w, text, length, h);
  if (!w->slots[slot]) {
    if (length > UINT32_MAX || w->n >= UINT32_MAX - 1)
      MA_TRY(ma_fail(err, MA_UNSUPPORTED, "more than %u different words", UINT32_MAX - 1));
    size_t at = w->text.length;
    MA_TRY(ma_text_add(&w->text, text, length, err));
    w->words[w->n++] = (ma_word){.at = at, .length = (uint32_t)length, .hash = h};
    w->slots[slot] = (uint32_t)w->n;
  }
  w->words[w->slots[slot] - 1].count += count;
  if (index) *index = w->slots[slot] - 1;
done:
  return st;
}

ma_status ma_words_join(ma_words *w, const ma_words *from, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < from->n && st == MA_OK; i++)
    st = ma_words_add(w, ma_words_text(from, i), from->words[i].length, from->words[i].count, NULL, err);
  return st;
}

void ma_words_release(ma_words *w) {
  ma_text_release(&w->text);
  ma_free(w->words);
  ma_free(w->slots);
  *w = (ma_words){0};
}
