/* tokenizer.json, then NUL, then the text to encode; a text is made up where there is no NUL. */
#include <string.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char otherwise[] =
      " Hello,  W\xC3\x96rld's 12 345\n\n<s>\xE2\x96\x81 \xCC\x81"
      "e\0";
  char path[256];
  ma_error err;
  ma_tokenizer *t;
  const uint8_t *end = size ? memchr(data, 0, size) : NULL;
  size_t json = end ? (size_t)(end - data) : size;
  fuzz_write(path, "tokenizer.json", data, json);
  ma_status st = ma_tokenizer_open(&t, path, &err);
  fuzz_check_error(st, &err);
  if (st == MA_OK && end) fuzz_tokenizer(t, (const char *)end + 1, size - json - 1);
  if (st == MA_OK) fuzz_tokenizer(t, otherwise, sizeof otherwise - 1);
  ma_tokenizer_close(t);
  return 0;
}
