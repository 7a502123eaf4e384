/* safetensors (https://github.com/huggingface/safetensors#format): 8 bytes of header length, a JSON
 * header, then the tensors' bytes, contiguous and without holes. */
#ifndef MASSACT_FORMAT_SAFETENSORS_H
#define MASSACT_FORMAT_SAFETENSORS_H

#include <stddef.h>

#include "base/status.h"
#include "format/checkpoint.h"
#include "format/tensor_writer.h"
#include "tensor/tensor.h"

typedef struct ma_safetensors ma_safetensors;

ma_status ma_safetensors_open(ma_safetensors **out, const char *path, ma_error *err);
void ma_safetensors_close(ma_safetensors *s); /* NULL is fine */
size_t ma_safetensors_count(const ma_safetensors *s);
const ma_entry *ma_safetensors_entry(const ma_safetensors *s, size_t i);
/* Value of a key of "__metadata__", or NULL. */
const char *ma_safetensors_metadata(const ma_safetensors *s, const char *key);

/* Writes the header beside `path`, for `n` tensors of which dtype and shape are looked at (no block dtypes); the
 * tensors follow with ma_tensor_writer_add.  `metadata`: pairs key, value, ..., NULL; or NULL.  *out is new. */
ma_status ma_safetensors_begin(ma_tensor_writer **out, const char *path, const char *const *names,
                               const ma_tensor *layout, size_t n, const char *const *metadata, ma_error *err);
/* Writes `n` tensors (CPU; any strides; no block dtypes) beside `path` and renames. */
ma_status ma_safetensors_save(const char *path, const char *const *names, const ma_tensor *tensors, size_t n,
                              const char *const *metadata, ma_error *err);

#endif
