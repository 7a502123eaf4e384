/* Writing GGUF, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). */
#ifndef MASSACT_FORMAT_GGUF_WRITE_H
#define MASSACT_FORMAT_GGUF_WRITE_H

#include "format/gguf.h"
#include "format/tensor_writer.h"

typedef struct ma_gguf_pair {
  const char *key;
  ma_gguf_value value; /* `data` or `texts` are borrowed */
} ma_gguf_pair;

/* Writes the header beside `path`: metadata in the order given, then the directory of the `n` tensors, of which
 * dtype and shape are looked at.  The tensors follow with ma_tensor_writer_add.  *out is new. */
ma_status ma_gguf_begin(ma_tensor_writer **out, const char *path, const ma_gguf_pair *pairs, size_t n_pairs,
                        const char *const *names, const ma_tensor *layout, size_t n, ma_error *err);

#endif
