/* Runs a target over the files of a folder: what the fuzzer found once is tested for ever, with any compiler. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "fuzz.h"

enum { LIMIT = 1 << 24 };

int main(int argc, char **argv) {
  ma_error err;
  char path[4096], *data;
  size_t size, n = 0;
  DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
  if (!folder) {
    fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
    if (ma_file_read(&data, &size, path, LIMIT, &err) != MA_OK) {
      fprintf(stderr, "%s\n", err.message);
      closedir(folder);
      return 1;
    }
    /* A copy of the exact size, so that sanitizers see a read behind it. */
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) abort();
    memcpy(exact, data, size);
    ma_free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    n++;
  }
  closedir(folder);
  printf("%zu files\n", n);
  return n > 0 ? 0 : 1;
}
