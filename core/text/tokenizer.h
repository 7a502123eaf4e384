/* Tokenizers, as Hugging Face's tokenizer.json and GGUF's metadata describe them: normalise, split off
 * added tokens, pre-tokenize, apply the model (BPE or unigram), add the template's tokens; and back.
 * A component that massact lacks is an error that names it, never a silent difference. */
#ifndef MASSACT_TEXT_TOKENIZER_H
#define MASSACT_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "format/gguf.h"

typedef struct ma_tokenizer ma_tokenizer;

/* `path`: a tokenizer.json, a folder that holds one (tokenizer_config.json beside it names BOS and EOS),
 * or a .gguf file.  *out is new (ma_tokenizer_close). */
ma_status ma_tokenizer_open(ma_tokenizer **out, const char *path, ma_error *err);
ma_status ma_tokenizer_from_gguf(ma_tokenizer **out, const ma_gguf *g, ma_error *err);
void ma_tokenizer_close(ma_tokenizer *t); /* NULL is fine */

/* *ids is new (ma_free), *n its length.  `special`: add what the template adds (BOS ...).  Text is UTF-8
 * of any length, NUL bytes included; invalid UTF-8 fails with the byte's position. */
ma_status ma_tokenizer_encode(const ma_tokenizer *t, const char *text, size_t length, bool special, int32_t **ids,
                              size_t *n, ma_error *err);
/* *text is new (ma_free) with a NUL behind its *length bytes; always valid UTF-8.  An id outside the
 * vocabulary fails. */
ma_status ma_tokenizer_decode(const ma_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, char **text,
                              size_t *length, ma_error *err);

size_t ma_tokenizer_size(const ma_tokenizer *t); /* ids are 0 .. size - 1 */
/* The token as the vocabulary spells it (borrowed), NULL when the id is not used. */
const char *ma_tokenizer_token(const ma_tokenizer *t, int32_t id, size_t *length);
int32_t ma_tokenizer_id(const ma_tokenizer *t, const char *token, size_t length); /* -1: none */
/* -1 where there is none. */
int32_t ma_tokenizer_bos(const ma_tokenizer *t);
int32_t ma_tokenizer_eos(const ma_tokenizer *t);
bool ma_tokenizer_is_special(const ma_tokenizer *t, int32_t id);
/* "bpe (byte-level, gpt2)", for `massact info`. */
const char *ma_tokenizer_describe(const ma_tokenizer *t);

#endif
