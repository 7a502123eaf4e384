/* GGUF files: the directory, every number and text of the metadata, every tensor, and the tokenizer. */
#include <string.h>

#include "fuzz.h"

static void read_metadata(const ma_gguf *g) {
  for (size_t i = 0; i < ma_gguf_n_keys(g); i++) {
    const ma_gguf_value *v = ma_gguf_find(g, ma_gguf_key(g, i));
    for (uint64_t e = 0; v && e <= v->n; e++) {
      double number;
      int64_t integer;
      ma_gguf_number(v, e, &number);
      ma_gguf_integer(v, e, &integer);
      if (v->type == MA_GGUF_STRING && e < v->n) (void)memchr(v->texts[e].data, 0, v->texts[e].length);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char text[] = "Hello, w\xC3\xB6rld 123 \xE2\x96\x81 \0 it's";
  char path[256];
  ma_error err;
  ma_checkpoint *c;
  ma_tokenizer *t;
  fuzz_write(path, "model.gguf", data, size);
  ma_status st = ma_checkpoint_open(&c, path, &err);
  fuzz_check_error(st, &err);
  if (st != MA_OK) return 0;
  read_metadata(ma_checkpoint_gguf(c));
  fuzz_read_tensors(c);
  st = ma_tokenizer_from_gguf(&t, ma_checkpoint_gguf(c), &err);
  fuzz_check_error(st, &err);
  if (st == MA_OK) fuzz_tokenizer(t, text, sizeof text - 1);
  ma_tokenizer_close(t);
  ma_checkpoint_close(c);
  return 0;
}
