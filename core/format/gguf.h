/* GGUF, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): metadata as typed
 * key-value pairs, then a directory of tensors, then their bytes.  Everything that the file says is
 * checked before it is believed. */
#ifndef MASSACT_FORMAT_GGUF_H
#define MASSACT_FORMAT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/status.h"
#include "tensor/dtype.h"

typedef enum ma_gguf_type {
  MA_GGUF_U8 = 0,
  MA_GGUF_I8,
  MA_GGUF_U16,
  MA_GGUF_I16,
  MA_GGUF_U32,
  MA_GGUF_I32,
  MA_GGUF_F32,
  MA_GGUF_BOOL,
  MA_GGUF_STRING,
  MA_GGUF_ARRAY,
  MA_GGUF_U64,
  MA_GGUF_I64,
  MA_GGUF_F64,
  MA_GGUF_N_TYPES
} ma_gguf_type;

/* Text inside the mapped file, not NUL-terminated. */
typedef struct ma_gguf_text {
  const char *data;
  size_t length;
} ma_gguf_text;

typedef struct ma_gguf_value {
  ma_gguf_type type; /* of the value, or of an array's elements */
  bool is_array;
  uint64_t n;                /* elements; 1 for a scalar */
  const uint8_t *data;       /* scalars and numeric arrays: little-endian, unaligned */
  const ma_gguf_text *texts; /* strings: `n` of them */
} ma_gguf_value;

typedef struct ma_gguf ma_gguf;

ma_status ma_gguf_open(ma_gguf **out, const char *path, ma_error *err);
void ma_gguf_close(ma_gguf *g); /* NULL is fine */
const char *ma_gguf_path(const ma_gguf *g);
ma_map *ma_gguf_map(const ma_gguf *g); /* borrowed */

size_t ma_gguf_n_keys(const ma_gguf *g);
const char *ma_gguf_key(const ma_gguf *g, size_t i); /* NUL-terminated copy */
const ma_gguf_value *ma_gguf_value_at(const ma_gguf *g, size_t i);
const ma_gguf_value *ma_gguf_find(const ma_gguf *g, const char *key); /* NULL: none */

/* The i-th number of a numeric or bool value, as what is asked; false for text or out of range. */
bool ma_gguf_number(const ma_gguf_value *v, uint64_t i, double *out);
bool ma_gguf_integer(const ma_gguf_value *v, uint64_t i, int64_t *out); /* exact, or false */

/* Bytes of a number or bool; 0 for strings. */
size_t ma_gguf_size_of_type(ma_gguf_type type);
const char *ma_gguf_type_name(ma_gguf_type type); /* "u32" */

/* ggml's number for a dtype; MA_UNSUPPORTED, naming the tensor, where it has none. */
ma_status ma_gguf_number_of_dtype(uint32_t *out, ma_dtype dtype, const char *tensor, ma_error *err);

/* The tensors' directory, filled into checkpoint entries by checkpoint.c. */
struct ma_entry;
size_t ma_gguf_n_tensors(const ma_gguf *g);
const struct ma_entry *ma_gguf_tensor(const ma_gguf *g, size_t i);

#endif
