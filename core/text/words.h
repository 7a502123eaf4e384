/* A set of byte strings, each with a number: how often a word occurs, which id a token has. */
#ifndef MASSACT_TEXT_WORDS_H
#define MASSACT_TEXT_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "text/text_internal.h"

typedef struct ma_word {
  size_t at; /* in `text` */
  uint32_t length, hash;
  uint64_t count;
} ma_word;

typedef struct ma_words {
  ma_text text;   /* of all words, one behind the other */
  ma_word *words; /* in the order in which they came */
  size_t n, capacity;
  uint32_t *slots; /* index + 1, open addressing */
  size_t n_slots;
} ma_words;

/* Adds `count` to a word's, which is new where it has not been seen; *index (may be NULL) is its place in `words`. */
ma_status ma_words_add(ma_words *w, const char *text, size_t length, uint64_t count, size_t *index, ma_error *err);
/* Adds all of `from`. */
ma_status ma_words_join(ma_words *w, const ma_words *from, ma_error *err);
const char *ma_words_text(const ma_words *w, size_t index);
void ma_words_release(ma_words *w);

#endif
