/* A folder with an index and two shards: the input is the index, NUL, a length byte pair, the first shard, the second. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[256];
  ma_error err;
  ma_checkpoint *c;
  const uint8_t *end = size ? memchr(data, 0, size) : NULL;
  size_t index = end ? (size_t)(end - data) : size, rest = end ? size - index - 1 : 0, first = 0;
  const uint8_t *shards = data + size - rest;
  fuzz_write(path, "model.safetensors.index.json", data, index);
  if (rest >= 2) {
    first = (size_t)shards[0] | (size_t)shards[1] << 8;
    shards += 2;
    rest -= 2;
    if (first > rest) first = rest;
  }
  fuzz_write(path, "a.safetensors", shards, first);
  fuzz_write(path, "b.safetensors", shards + first, rest - first);
  ma_status st = ma_checkpoint_open(&c, fuzz_folder(), &err);
  fuzz_check_error(st, &err);
  if (st == MA_OK) fuzz_read_tensors(c);
  ma_checkpoint_close(c);
  return 0;
}
