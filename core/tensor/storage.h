/* Storage: bytes on a device, shared by the tensors (views) that point into it.
 *
 * Invariant: `data` is readable while `n_refs > 0` and `is_dead` is false.  A pass lends its memory to
 * hooks as storages that it marks dead afterwards: every view then reports an error, none crashes. */
#ifndef MASSACT_TENSOR_STORAGE_H
#define MASSACT_TENSOR_STORAGE_H

#ifndef __cplusplus /* kernels in CUDA's C++ see storages from outside */
#include <stdatomic.h>
#endif
#include <stdbool.h>
#include <stddef.h>

#include "base/file.h"
#include "base/status.h"

typedef struct ma_device ma_device;
typedef struct ma_node ma_node;

/* On the tape (tape.h) a storage is a name for bytes that a second one, its `base`, holds: what the tape has saved
 * refers to bases, so that a write gives the name other bytes where somebody still needs the old ones. */
typedef struct ma_storage ma_storage;
#ifndef __cplusplus
struct ma_storage {
  atomic_int n_refs;
  atomic_bool is_dead;
  atomic_uint n_writes; /* of memory that is not mapped; see ma_storage_n_writes */
  ma_device *device;
  void *data;
  size_t bytes;
  ma_map *map;      /* the file that `data` lies in, or NULL */
  bool owns_data;   /* freed through the device with the last reference */
  char lender[64];  /* what lent the memory ("layers.3.out"), for messages */
  ma_storage *base; /* holds the bytes, or NULL: this one does */
  ma_node *node;    /* how the tape says that the elements came about, or NULL */
};
#endif

/* *out is new with one reference, `bytes` of uninitialised memory on `device`. */
ma_status ma_storage_new(ma_storage **out, ma_device *device, size_t bytes, ma_error *err);
/* Wraps `bytes` at `data` inside `map` (retained) without copying; CPU only. */
ma_status ma_storage_of_map(ma_storage **out, ma_map *map, void *data, size_t bytes, ma_error *err);
/* Wraps memory that somebody else owns and that must outlive the storage or be marked dead. */
ma_status ma_storage_lend(ma_storage **out, ma_device *device, void *data, size_t bytes, const char *lender,
                          ma_error *err);
/* Moves the bytes into a base, where they are not yet in one. */
ma_status ma_storage_split(ma_storage *storage, ma_error *err);
/* Another name for the bytes of `base` (retained), which has no base itself. */
ma_status ma_storage_alias(ma_storage **out, ma_storage *base, ma_error *err);
ma_storage *ma_storage_retain(ma_storage *storage);
void ma_storage_release(ma_storage *storage); /* NULL is fine */
void ma_storage_kill(ma_storage *storage);
/* Counts writes: of the storage, or of the file behind it, which several storages may share. */
void ma_storage_written(ma_storage *storage);
unsigned ma_storage_n_writes(const ma_storage *storage);
/* MA_BAD_ARGUMENT, naming the lender, when the storage is dead. */
ma_status ma_storage_check(const ma_storage *storage, ma_error *err);

#endif
