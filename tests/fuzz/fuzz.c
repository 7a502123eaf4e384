#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "tensor/ops.h"

/* A finding ends the process, as a sanitizer's does. */
static void expect(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "fuzz: %s\n", what);
  abort();
}

/* ---- files ---- */

static char folder[200];

/* The names that targets write, and the folder. */
static void remove_folder(void) {
  static const char *const names[] = {"model.safetensors.index.json",
                                      "a.safetensors",
                                      "b.safetensors",
                                      "model.safetensors",
                                      "model.gguf",
                                      "tokenizer.json",
                                      "tokenizer_config.json",
                                      "value.json",
                                      "text"};
  char path[256];
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, names[i]);
    unlink(path);
  }
  rmdir(folder);
}

const char *fuzz_folder(void) {
  if (folder[0]) return folder;
  const char *parent = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%.150s/massact-fuzz-XXXXXX", parent && *parent ? parent : P_tmpdir);
  expect(mkdtemp(folder) != NULL, "no temporary folder");
  atexit(remove_folder);
  return folder;
}

void fuzz_write(char path[256], const char *name, const uint8_t *data, size_t size) {
  snprintf(path, 256, "%s/%s", fuzz_folder(), name);
  FILE *file = fopen(path, "wb");
  expect(file && fwrite(data, 1, size, file) == size && fclose(file) == 0, "cannot write a temporary file");
}

/* ---- what has to hold ---- */

void fuzz_check_error(ma_status st, const ma_error *err) {
  if (st == MA_OK) return;
  expect(err->code == st, "the error's code is not what was returned");
  expect(err->message[0] != '\0' && !strchr(err->message, '\n'), "an error is one line");
}

void fuzz_read_tensors(const ma_checkpoint *c) {
  for (size_t i = 0; i < ma_checkpoint_count(c); i++) {
    ma_error err;
    ma_tensor t, wide = {0};
    ma_status st = ma_checkpoint_tensor(&t, c, ma_checkpoint_entry(c, i)->name, &err);
    fuzz_check_error(st, &err);
    if (st != MA_OK) continue;
    st = ma_tensor_convert(&wide, &t, MA_F32, &err);
    fuzz_check_error(st, &err);
    ma_tensor_release(&wide);
    ma_tensor_release(&t);
  }
}

void fuzz_tokenizer(const ma_tokenizer *t, const char *text, size_t length) {
  ma_error err;
  int32_t *ids = NULL;
  const int32_t strange[] = {0,        (int32_t)ma_tokenizer_size(t) - 1, (int32_t)ma_tokenizer_size(t), -1, INT32_MAX,
                             INT32_MIN};
  size_t n = 0, decoded_length;
  char *decoded = NULL;
  ma_status st = ma_tokenizer_encode(t, text, length, true, &ids, &n, &err);
  fuzz_check_error(st, &err);
  for (size_t i = 0; st == MA_OK && i < n; i++)
    expect(ids[i] >= 0 && (size_t)ids[i] < ma_tokenizer_size(t), "an id outside the vocabulary");
  for (int skip = 0; st == MA_OK && skip < 2; skip++) {
    st = ma_tokenizer_decode(t, ids, n, skip != 0, &decoded, &decoded_length, &err);
    fuzz_check_error(st, &err);
    if (st != MA_OK) break;
    expect(ma_utf8_bad_byte(decoded, decoded_length) == decoded_length, "decoded text is not UTF-8");
    ma_free(decoded);
  }
  ma_free(ids);
  for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
    st = ma_tokenizer_decode(t, &strange[i], 1, false, &decoded, &decoded_length, &err);
    fuzz_check_error(st, &err);
    if (st == MA_OK) ma_free(decoded);
    ma_tokenizer_token(t, strange[i], &decoded_length);
    ma_tokenizer_is_special(t, strange[i]);
  }
}
