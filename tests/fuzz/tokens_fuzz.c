/* A token file: what opens is read to its end, or fails with one line. */
#include <stdlib.h>

#include "fuzz.h"
#include "text/token_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  enum { AT_ONCE = 64 };
  char path[256];
  int32_t ids[AT_ONCE];
  ma_error err;
  ma_token_file *file;
  fuzz_write(path, "tokens", data, size);
  ma_status st = ma_token_file_open(&file, path, &err);
  fuzz_check_error(st, &err);
  if (st != MA_OK) return 0;
  const ma_token_info *info = ma_token_file_info(file);
  if (info->n_tokens > size) abort();
  for (uint64_t at = 0; at < info->n_tokens && st == MA_OK; at += AT_ONCE) {
    size_t n = info->n_tokens - at < AT_ONCE ? (size_t)(info->n_tokens - at) : AT_ONCE;
    st = ma_token_file_read(file, at, n, MA_I32, ids, &err);
    fuzz_check_error(st, &err);
    for (size_t i = 0; i < n && st == MA_OK; i++)
      if (ids[i] < 0 || (uint32_t)ids[i] >= info->vocab_size) abort();
  }
  ma_token_file_close(file);
  return 0;
}
