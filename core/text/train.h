/* Byte-pair encodings from text: Sennrich et al. 2016 (arXiv 1508.07909), over bytes as in GPT-2.
 *
 * Text is cut into words by a pattern and the words are counted (train.c); then the pair of neighbours that occurs most often
 * becomes a token, again and again (merge.c).  Among equally frequent pairs that of the smaller ids comes first, as in Hugging
 * Face's BpeTrainer, so that the same text gives the same tokenizer on any number of threads. */
#ifndef MASSACT_TEXT_TRAIN_H
#define MASSACT_TEXT_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ma_trainer ma_trainer;

/* `pattern`: gpt2, llama3, qwen2, or a regular expression in Oniguruma's syntax whose matches, and what lies between them, are
 * the words.  *out is new (ma_trainer_close). */
ma_status ma_trainer_open(ma_trainer **out, const char *pattern, ma_error *err);
void ma_trainer_close(ma_trainer *t); /* NULL is fine */
/* The expression that `pattern` stands for. */
const char *ma_trainer_regex(const char *pattern);

/* The next part of a document, `ends` with its last one; words do not reach over documents.  What is not UTF-8 fails with its
 * offset in the document. */
ma_status ma_trainer_add(ma_trainer *t, const char *text, size_t length, bool ends, ma_error *err);

typedef struct ma_trained {
  size_t n_tokens, n_merges;
  char **tokens;    /* by id, in the byte-level alphabet, each with a NUL: special tokens, 256 bytes, merged ones */
  uint32_t *merges; /* left, right; left, right; ... by rank */
} ma_trained;

/* Merges until there are `vocab_size` tokens, or no pair occurs `min_frequency` times.  `special` are the tokens 0 to
 * n_special - 1.  *out is released with ma_trained_release. */
ma_status ma_trainer_finish(ma_trainer *t, size_t vocab_size, uint64_t min_frequency, const char *const *special,
                            size_t n_special, ma_trained *out, ma_error *err);
void ma_trained_release(ma_trained *trained);

#endif
