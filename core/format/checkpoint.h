/* A checkpoint: one list of named tensors over whatever files hold them: a .safetensors file, a folder
 * with model.safetensors or model.safetensors.index.json and its shards, or a .gguf file.
 * Tensors are views of the mapped files; nothing is read before somebody looks. */
#ifndef MASSACT_FORMAT_CHECKPOINT_H
#define MASSACT_FORMAT_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/status.h"
#include "format/gguf.h"
#include "tensor/tensor.h"

typedef struct ma_entry {
  const char *name;
  ma_dtype dtype;
  bool is_readable;       /* false: a dtype that massact has no use for (bool, f64 ...); see dtype_name */
  const char *dtype_name; /* as the file spells it */
  int n_dims;
  int64_t shape[MA_MAX_DIMS]; /* row-major, outermost first (GGUF's order is reversed on reading) */
  ma_map *map;                /* borrowed */
  uint64_t offset, bytes;     /* in the map */
} ma_entry;

typedef struct ma_checkpoint ma_checkpoint;

/* Opens and checks the directory of every file: *out is new (ma_checkpoint_close). */
ma_status ma_checkpoint_open(ma_checkpoint **out, const char *path, ma_error *err);
void ma_checkpoint_close(ma_checkpoint *c); /* NULL is fine; tensors made from it stay valid */
size_t ma_checkpoint_count(const ma_checkpoint *c);
/* Borrowed; in file order. */
const ma_entry *ma_checkpoint_entry(const ma_checkpoint *c, size_t i);
const ma_entry *ma_checkpoint_find(const ma_checkpoint *c, const char *name); /* NULL: none */
/* *out views the mapped bytes (new; release). */
ma_status ma_checkpoint_tensor(ma_tensor *out, const ma_checkpoint *c, const char *name, ma_error *err);
/* The GGUF behind it (its metadata), or NULL. */
const ma_gguf *ma_checkpoint_gguf(const ma_checkpoint *c);
/* MA_IO when any of its files shrank or failed under us. */
ma_status ma_checkpoint_check(const ma_checkpoint *c, ma_error *err);

#endif
