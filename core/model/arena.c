/* Blocks grow geometrically within a pass and are joined between passes. */
#include "model/arena.h"

#include "base/bytes.h"

enum { ALIGNMENT = 256, FIRST_BLOCK = 1 << 20 };

static ma_status add_block(ma_arena *a, size_t bytes, ma_error *err) {
  if (a->n_blocks == MA_ARENA_BLOCKS)
    return ma_fail(err, MA_NO_MEMORY, "a pass needs more than %d blocks of memory", MA_ARENA_BLOCKS);
  size_t size = a->n_blocks ? 2 * a->blocks[a->n_blocks - 1]->bytes : FIRST_BLOCK;
  if (size < bytes) size = bytes;
  ma_status st = ma_storage_new(&a->blocks[a->n_blocks], a->device, size, err);
  if (st != MA_OK) return st;
  a->n_blocks++;
  a->n_allocations++;
  return MA_OK;
}

ma_status ma_arena_take(ma_arena *a, ma_tensor *out, ma_dtype dtype, int n_dims, const int64_t *shape, ma_error *err) {
  const ma_dtype_info *info = ma_dtype_describe(dtype);
  size_t bytes = info->bytes;
  for (int i = 0; i < n_dims; i++) {
    if (shape[i] < 0 || !ma_mul_size(bytes, (size_t)shape[i], &bytes) || bytes > SIZE_MAX / 4)
      return ma_fail(err, MA_NO_MEMORY, "a tensor of the pass is larger than memory can be");
  }
  bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  while (a->block < a->n_blocks && a->blocks[a->block]->bytes - a->used < bytes) {
    a->block++;
    a->used = 0;
  }
  if (a->block == a->n_blocks) {
    ma_status st = add_block(a, bytes, err);
    if (st != MA_OK) return st;
  }
  ma_status st = ma_tensor_over(out, a->blocks[a->block], a->used, dtype, n_dims, shape, err);
  if (st != MA_OK) return st;
  a->used += bytes;
  size_t in_use = a->used;
  for (int i = 0; i < a->block; i++) in_use += a->blocks[i]->bytes;
  if (in_use > a->peak) a->peak = in_use;
  return MA_OK;
}

ma_arena_mark ma_arena_here(const ma_arena *a) { return (ma_arena_mark){a->block, a->used}; }

void ma_arena_back(ma_arena *a, ma_arena_mark mark) {
  a->block = mark.block;
  a->used = mark.used;
}

void ma_arena_reset(ma_arena *a) {
  a->block = 0;
  a->used = 0;
  if (a->n_blocks < 2) return;
  ma_arena_close(a);
  if (add_block(a, a->peak, NULL) != MA_OK) a->n_blocks = 0; /* the next pass starts small again */
}

void ma_arena_close(ma_arena *a) {
  for (int i = 0; i < a->n_blocks; i++) ma_storage_release(a->blocks[i]);
  a->n_blocks = 0;
  a->block = 0;
  a->used = 0;
}
