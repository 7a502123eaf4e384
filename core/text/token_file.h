/* Token files: the ids of texts, for training.
 *
 * Version 1, little-endian:
 *
 *   0    8  "MASSACTT"
 *   8    4  version, 1
 *   12   4  bytes an id, 2 or 4
 *   16   8  number of ids
 *   24   8  number of documents
 *   32   4  size of the vocabulary: every id is below it
 *   36   4  id that stands before every document, 0xFFFFFFFF: none
 *   40   4  id that stands behind every document, 0xFFFFFFFF: none
 *   44   4  zero
 *   48  32  SHA-256 of the vocabulary (tokenizer:sha256() in Lua)
 *   80  48  zero
 *   128     the ids, one document after the other, up to the end of the file
 */
#ifndef MASSACT_TEXT_TOKEN_FILE_H
#define MASSACT_TEXT_TOKEN_FILE_H

#include "tensor/dtype.h"
#include "text/tokenizer.h"

enum { MA_SHA256_BYTES = 32 };

typedef struct ma_token_info {
  unsigned id_bytes;
  uint64_t n_tokens, n_documents;
  uint32_t vocab_size;
  int32_t bos, eos; /* -1: none */
  uint8_t vocabulary[MA_SHA256_BYTES];
} ma_token_info;

/* ---- reading ---- */

typedef struct ma_token_file ma_token_file;

/* Maps the file; its header and its size have to agree.  *out is new (ma_token_file_close). */
ma_status ma_token_file_open(ma_token_file **out, const char *path, ma_error *err);
void ma_token_file_close(ma_token_file *f); /* NULL is fine */
const ma_token_info *ma_token_file_info(const ma_token_file *f);
/* Ids at .. at + n - 1 into `out`, i32 or i64.  An id beyond the vocabulary fails. */
ma_status ma_token_file_read(const ma_token_file *f, uint64_t at, size_t n, ma_dtype dtype, void *out, ma_error *err);

/* ---- writing ---- */

typedef struct ma_token_writer ma_token_writer;

/* A file beside `path`, which appears with ma_token_writer_commit.  `info` says bos, eos and vocabulary; the tokenizer has to
 * outlive the writer.  *out is new (ma_token_writer_close). */
ma_status ma_token_writer_open(ma_token_writer **out, const char *path, const ma_tokenizer *tokenizer,
                               const ma_token_info *info, ma_error *err);
/* The next part of a document, `ends` with its last one; encoded on all threads. */
ma_status ma_token_writer_add(ma_token_writer *w, const char *text, size_t length, bool ends, ma_error *err);
ma_status ma_token_writer_commit(ma_token_writer *w, ma_error *err);
void ma_token_writer_close(ma_token_writer *w); /* NULL is fine */

#endif
