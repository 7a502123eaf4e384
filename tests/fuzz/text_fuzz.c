/* A text file, plain or packed: as lines and as a whole it is the same text, or fails with one
 * line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/text_file.h"
#include "fuzz.h"

enum { LIMIT = 1 << 20 }; /* bytes looked at: what unpacks to more is cut */

static size_t put(char *joined, size_t at, const char *text, size_t length) {
  if (length > LIMIT - at) length = LIMIT - at;
  memcpy(joined + at, text, length);
  return at + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[256];
  char *by_line = malloc(LIMIT);
  size_t n = 0;
  const char *text;
  size_t length;
  ma_error err;
  ma_text_file *file;
  if (!by_line) abort();
  fuzz_write(path, "text", data, size);
  ma_status st = ma_text_file_open(&file, path, &err);
  fuzz_check_error(st, &err);
  while (st == MA_OK && n < LIMIT) {
    st = ma_text_file_line(file, &text, &length, &err);
    fuzz_check_error(st, &err);
    if (st != MA_OK || !text) break;
    n = put(by_line, n, text, length);
    n = put(by_line, n, "\n", 1);
  }
  ma_text_file_close(file);
  if (st == MA_OK && n < LIMIT) {
    if (ma_text_file_open(&file, path, &err) != MA_OK || ma_text_file_rest(file, &text, &length, &err) != MA_OK)
      abort();
    /* The last line may have no newline. */
    if (!(n == length || n == length + 1) || memcmp(by_line, text, length) != 0) {
      fprintf(stderr, "fuzz: lines and the whole differ\n");
      abort();
    }
    ma_text_file_close(file);
  }
  free(by_line);
  return 0;
}
