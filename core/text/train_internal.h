/* Between counting words and merging them. */
#ifndef MASSACT_TEXT_TRAIN_INTERNAL_H
#define MASSACT_TEXT_TRAIN_INTERNAL_H

#include "text/train.h"
#include "text/words.h"

/* `tokens`: the special ones and the 256 bytes, spelled in the alphabet; the merged ones are added.  `byte_ids` says which
 * are the bytes.  *merges is new (ma_free), a pair of ids each. */
ma_status ma_merge_words(const ma_words *words, size_t vocab_size, uint64_t min_frequency, ma_words *tokens,
                         const uint32_t byte_ids[256], uint32_t **merges, size_t *n_merges, ma_error *err);

#endif
