/* One .safetensors file. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[256];
  ma_error err;
  ma_checkpoint *c;
  fuzz_write(path, "model.safetensors", data, size);
  ma_status st = ma_checkpoint_open(&c, path, &err);
  fuzz_check_error(st, &err);
  if (st == MA_OK) fuzz_read_tensors(c);
  ma_checkpoint_close(c);
  return 0;
}
