/* The memory of a pass: tensors taken in order and given back in order, so that a pass in its steady
 * state allocates nothing.  Blocks live on the model's device. */
#ifndef MASSACT_MODEL_ARENA_H
#define MASSACT_MODEL_ARENA_H

#include "tensor/tensor.h"

enum { MA_ARENA_BLOCKS = 24 };

typedef struct ma_arena {
  ma_device *device;
  ma_storage *blocks[MA_ARENA_BLOCKS]; /* each at least twice the one before */
  int n_blocks, block;                 /* how many there are; which one is in use */
  size_t used;                         /* bytes of that block */
  size_t peak;                         /* most bytes in use at once, over all blocks */
  size_t n_allocations;                /* blocks ever made: a test asserts that it stops growing */
} ma_arena;

/* Where a scope began: what was taken since then is given back together. */
typedef struct ma_arena_mark {
  int block;
  size_t used;
} ma_arena_mark;

/* A contiguous tensor, uninitialised.  Release it as any other; its memory comes back with the mark. */
ma_status ma_arena_take(ma_arena *arena, ma_tensor *out, ma_dtype dtype, int n_dims, const int64_t *shape,
                        ma_error *err);
ma_arena_mark ma_arena_here(const ma_arena *arena);
void ma_arena_back(ma_arena *arena, ma_arena_mark mark);
/* Gives everything back; several blocks become one that holds the peak. */
void ma_arena_reset(ma_arena *arena);
void ma_arena_close(ma_arena *arena);

#endif
