/* The tokenizer in GGUF metadata, past the directory that gguf_fuzz spends its time on: lines of text become a GGUF file.
 *   first line: a letter a choice: g or l (model), then any of: p (smollm), q (qwen2), 3 (llama-bpe), b (adds BOS), e (adds EOS), n (no prefix)
 *   other lines: TYPE SCORE TOKEN (one character each for the first two), or "m LEFT RIGHT" for a merge. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { LIMIT = 1 << 16, MAX_LINES = 2048 };

typedef struct bytes {
  uint8_t data[4 * LIMIT];
  size_t n;
} bytes;

typedef struct line {
  const char *text;
  size_t length;
} line;

static void put(bytes *b, const void *data, size_t n) {
  if (n) memcpy(b->data + b->n, data, n);
  b->n += n;
}
static void put32(bytes *b, uint32_t x) { put(b, &x, 4); }
static void put64(bytes *b, uint64_t x) { put(b, &x, 8); }
static void put_text(bytes *b, const char *text, size_t n) {
  put64(b, n);
  put(b, text, n);
}
static void key(bytes *b, const char *name, uint32_t type) {
  put_text(b, name, strlen(name));
  put32(b, type);
}
static void list(bytes *b, const char *name, uint32_t type, uint64_t n) {
  key(b, name, MA_GGUF_ARRAY);
  put32(b, type);
  put64(b, n);
}

/* A line becomes at most itself and 16 bytes (a length, a type, a score): with LIMIT and MAX_LINES all of it fits. */
static void make_file(bytes *b, const line *lines, size_t n) {
  static const char *const pre[] = {"gpt-2", "smollm", "qwen2", "llama-bpe"};
  const line *how = &lines[0];
  uint64_t n_tokens = 0, n_merges = 0;
  for (size_t i = 1; i < n; i++) *(lines[i].length > 0 && lines[i].text[0] == 'm' ? &n_merges : &n_tokens) += 1;
  bool has[256] = {false};
  for (size_t i = 0; i < how->length; i++) has[(uint8_t)how->text[i]] = true;
  const char *named = pre[has['p'] ? 1 : has['q'] ? 2 : has['3'] ? 3 : 0];
  put(b, "GGUF", 4);
  put32(b, 3);
  put64(b, 0);
  put64(b, 11);
  key(b, "tokenizer.ggml.model", MA_GGUF_STRING);
  put_text(b, has['l'] ? "llama" : "gpt2", has['l'] ? 5 : 4);
  key(b, "tokenizer.ggml.pre", MA_GGUF_STRING);
  put_text(b, named, strlen(named));
  key(b, "tokenizer.ggml.add_bos_token", MA_GGUF_BOOL);
  put(b, &has['b'], 1);
  key(b, "tokenizer.ggml.add_eos_token", MA_GGUF_BOOL);
  put(b, &has['e'], 1);
  key(b, "tokenizer.ggml.add_space_prefix", MA_GGUF_BOOL);
  put(b, has['n'] ? "" : "\1", 1);
  key(b, "tokenizer.ggml.bos_token_id", MA_GGUF_U32);
  put32(b, how->length > 1 ? (uint32_t)(how->text[1] - '0') : 0);
  key(b, "tokenizer.ggml.unknown_token_id", MA_GGUF_U32);
  put32(b, 0);
  list(b, "tokenizer.ggml.tokens", MA_GGUF_STRING, n_tokens);
  for (size_t i = 1; i < n; i++) {
    if (lines[i].length > 0 && lines[i].text[0] == 'm') continue;
    size_t skipped = lines[i].length < 4 ? lines[i].length : 4;
    put_text(b, lines[i].text + skipped, lines[i].length - skipped);
  }
  list(b, "tokenizer.ggml.token_type", MA_GGUF_I32, n_tokens);
  for (size_t i = 1; i < n; i++)
    if (lines[i].length == 0 || lines[i].text[0] != 'm')
      put32(b, lines[i].length ? (uint32_t)(lines[i].text[0] - '0') : 1);
  list(b, "tokenizer.ggml.scores", MA_GGUF_F32, n_tokens);
  for (size_t i = 1; i < n; i++) {
    float score = lines[i].length > 2 ? -(float)(uint8_t)lines[i].text[2] : 0;
    if (lines[i].length == 0 || lines[i].text[0] != 'm') put(b, &score, 4);
  }
  list(b, "tokenizer.ggml.merges", MA_GGUF_STRING, n_merges);
  for (size_t i = 1; i < n; i++) {
    if (lines[i].length == 0 || lines[i].text[0] != 'm') continue;
    size_t skipped = lines[i].length < 2 ? lines[i].length : 2;
    put_text(b, lines[i].text + skipped, lines[i].length - skipped);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char text[] = "Hello,  w\xC3\xB6rld's 123 \xE2\x96\x81 <s>\0ab aab\n";
  char path[256];
  ma_error err;
  ma_gguf *g;
  ma_tokenizer *t = NULL;
  size_t n = 0;
  line *lines = calloc(MAX_LINES, sizeof *lines);
  bytes *b = calloc(1, sizeof *b);
  if (!lines || !b) abort();
  const char *at = (const char *)data, *end = at + (size < LIMIT ? size : LIMIT);
  while (at < end && n < MAX_LINES) {
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    if (!stop) stop = end;
    lines[n++] = (line){at, (size_t)(stop - at)};
    at = stop < end ? stop + 1 : end;
  }
  if (n > 0) {
    make_file(b, lines, n);
    fuzz_write(path, "model.gguf", b->data, b->n);
    ma_status st = ma_gguf_open(&g, path, &err);
    fuzz_check_error(st, &err);
    if (st == MA_OK) {
      st = ma_tokenizer_from_gguf(&t, g, &err);
      fuzz_check_error(st, &err);
    }
    if (st == MA_OK) fuzz_tokenizer(t, text, sizeof text - 1);
    ma_tokenizer_close(t);
    ma_gguf_close(g);
  }
  free(b);
  free(lines);
  return 0;
}
