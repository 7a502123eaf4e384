/* Text to words with their counts, on all threads: each counts pieces by itself, and the counts are added up at the end. */
#include "text/train.h"

#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "base/utf8.h"
#include "text/feed.h"
#include "text/train_internal.h"

typedef struct counter {
  ma_words words;
  ma_status st;
  ma_error err;
} counter;

struct ma_trainer {
  ma_steps steps;
  ma_feed feed;
  counter *counters; /* one a thread */
  size_t n_counters;
};

/* ---- opening and closing ---- */

const char *ma_trainer_regex(const char *pattern) {
  if (strcmp(pattern, "gpt2") == 0) return ma_regex_gpt2;
  if (strcmp(pattern, "llama3") == 0) return ma_regex_llama3;
  if (strcmp(pattern, "qwen2") == 0) return ma_regex_qwen2;
  return pattern;
}

ma_status ma_trainer_open(ma_trainer **out, const char *pattern, ma_error *err) {
  ma_status st = MA_OK;
  ma_trainer *t = NULL;
  *out = NULL;
  if (!*pattern)
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "the pattern is empty; gpt2, llama3, qwen2 or a regular expression"));
  MA_TRY(MA_NEW(&t, 1, err));
  MA_TRY(ma_steps_add_split(&t->steps, ma_trainer_regex(pattern), MA_SPLIT_ISOLATED, false, err));
  *out = t;
  t = NULL;
done:
  ma_trainer_close(t);
  return st;
}

void ma_trainer_close(ma_trainer *t) {
  if (!t) return;
  for (size_t i = 0; i < t->n_counters; i++) ma_words_release(&t->counters[i].words);
  ma_free(t->counters);
  ma_feed_release(&t->feed);
  ma_steps_release(&t->steps);
  ma_free(t);
}

/* ---- counting ---- */

static ma_status count_piece(const ma_trainer *t, ma_feed_piece piece, ma_words *words, ma_error *err) {
  ma_status st = MA_OK;
  ma_pieces cut = {0};
  MA_TRY(ma_text_add(&cut.text, t->feed.text.data + piece.at, piece.length, err));
  MA_TRY(ma_pieces_add(&cut, 0, piece.length, err));
  MA_TRY(ma_steps_apply(&t->steps, &cut, err));
  for (size_t i = 0; i < cut.n; i++)
    MA_TRY(ma_words_add(words, cut.text.data + cut.spans[i].at, cut.spans[i].length, 1, NULL, err));
done:
  ma_pieces_release(&cut);
  return st;
}

static void count_pieces(void *self, size_t begin, size_t end) {
  const ma_trainer *t = self;
  counter *c = &t->counters[ma_thread_index()];
  for (size_t i = begin; i < end && c->st == MA_OK; i++) c->st = count_piece(t, t->feed.pieces[i], &c->words, &c->err);
}

static ma_status have_counters(ma_trainer *t, ma_error *err) {
  size_t n = (size_t)ma_threads();
  if (n <= t->n_counters) return MA_OK;
  ma_status st = ma_resize((void **)&t->counters, n, sizeof *t->counters, err);
  if (st != MA_OK) return st;
  memset(t->counters + t->n_counters, 0, (n - t->n_counters) * sizeof *t->counters);
  t->n_counters = n;
  return MA_OK;
}

/* Counts the pieces that have come together. */
static ma_status count_round(ma_trainer *t, ma_error *err) {
  ma_status st = MA_OK;
  MA_TRY(have_counters(t, err));
  ma_parallel_for(t->feed.n_pieces, 1, count_pieces, t);
  for (size_t i = 0; i < t->n_counters; i++) {
    counter *c = &t->counters[i];
    if (c->st == MA_OK) continue;
    if (err) *err = c->err;
    MA_TRY(c->st);
  }
  ma_feed_drop(&t->feed);
done:
  return st;
}

ma_status ma_trainer_add(ma_trainer *t, const char *text, size_t length, bool ends, ma_error *err) {
  ma_status st = MA_OK;
  MA_TRY(ma_feed_add(&t->feed, text, length, ends, err));
  if (ma_feed_is_full(&t->feed)) MA_TRY(count_round(t, err));
done:
  return st;
}

/* ---- merging ---- */

static ma_status check_special(const char *token, ma_words *tokens, ma_error *err) {
  size_t before = tokens->n, index, length = strlen(token);
  if (length == 0) return ma_fail(err, MA_BAD_ARGUMENT, "a special token is empty");
  if (ma_utf8_bad_byte(token, length) < length) return ma_fail(err, MA_BAD_ARGUMENT, "a special token is not UTF-8");
  ma_status st = ma_words_add(tokens, token, length, 0, &index, err);
  if (st == MA_OK && tokens->n == before)
    st = ma_fail(err, MA_BAD_ARGUMENT, "special token '%.60s' is there twice", token);
  return st;
}

/* The special tokens, then the bytes in the order of the letters that stand for them. */
static ma_status first_tokens(const char *const *special, size_t n_special, ma_words *tokens, uint32_t byte_ids[256],
                              ma_error *err) {
  ma_status st = MA_OK;
  ma_text letter = {0};
  for (size_t i = 0; i < n_special; i++) MA_TRY(check_special(special[i], tokens, err));
  for (int is_shifted = 0; is_shifted < 2; is_shifted++)
    for (int byte = 0; byte < 256; byte++) {
      const char c = (char)byte;
      size_t index, before = tokens->n;
      letter.length = 0;
      MA_TRY(ma_alphabet_add(&letter, &c, 1, err));
      /* Letters of the printable bytes, below U+0100, come before those of the others, above it. */
      if ((letter.length == 2 && (uint8_t)letter.data[0] >= 0xC4) != is_shifted) continue;
      MA_TRY(ma_words_add(tokens, letter.data, letter.length, 0, &index, err));
      if (tokens->n == before)
        MA_TRY(ma_fail(err, MA_BAD_ARGUMENT,
                       "special token '%s' is how the vocabulary spells a byte; choose another name", letter.data));
      byte_ids[byte] = (uint32_t)index;
    }
done:
  ma_text_release(&letter);
  return st;
}

static ma_status copy_tokens(const ma_words *tokens, ma_trained *out, ma_error *err) {
  ma_status st = MA_NEW(&out->tokens, tokens->n, err);
  for (size_t i = 0; i < tokens->n && st == MA_OK; i++) {
    st = ma_strndup(&out->tokens[i], ma_words_text(tokens, i), tokens->words[i].length, err);
    if (st == MA_OK) out->n_tokens++;
  }
  return st;
}

ma_status ma_trainer_finish(ma_trainer *t, size_t vocab_size, uint64_t min_frequency, const char *const *special,
                            size_t n_special, ma_trained *out, ma_error *err) {
  ma_status st = MA_OK;
  ma_words words = {0}, tokens = {0};
  uint32_t byte_ids[256];
  *out = (ma_trained){0};
  if (vocab_size < 256 + n_special)
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "vocab_size is %zu, but the 256 bytes and %zu special tokens are %zu already",
                   vocab_size, n_special, 256 + n_special));
  if (vocab_size > INT32_MAX / 8) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "vocab_size %zu is too large", vocab_size));
  MA_TRY(first_tokens(special, n_special, &tokens, byte_ids, err));
  MA_TRY(ma_feed_end(&t->feed, err));
  MA_TRY(count_round(t, err));
  for (size_t i = 0; i < t->n_counters; i++) {
    MA_TRY(ma_words_join(&words, &t->counters[i].words, err));
    ma_words_release(&t->counters[i].words);
  }
  if (words.n == 0) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "there is no text to train a tokenizer on"));
  MA_TRY(ma_merge_words(&words, vocab_size, min_frequency, &tokens, byte_ids, &out->merges, &out->n_merges, err));
  MA_TRY(copy_tokens(&tokens, out, err));
done:
  if (st != MA_OK) ma_trained_release(out);
  ma_words_release(&tokens);
  ma_words_release(&words);
  return st;
}

void ma_trained_release(ma_trained *trained) {
  for (size_t i = 0; i < trained->n_tokens; i++) ma_free(trained->tokens[i]);
  ma_free(trained->tokens);
  ma_free(trained->merges);
  *trained = (ma_trained){0};
}
