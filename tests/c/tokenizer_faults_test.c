/* Tokenizers when memory runs out: the n-th allocation fails, n = 0, 1, ... until loading, encoding and decoding succeed.  Each
 * failure is MA_NO_MEMORY, and nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/tokenizer.h"

static const char text[] = "Hello, w\xC3\xB6rld  12 \xE4\xB8\xAD";

static ma_status round_trip(const char *path, ma_error *err) {
  ma_status st = MA_OK;
  ma_tokenizer *t = NULL;
  int32_t *ids = NULL;
  char *back = NULL;
  size_t n, length;
  MA_TRY(ma_tokenizer_open(&t, path, err));
  MA_TRY(ma_tokenizer_encode(t, text, sizeof text - 1, true, &ids, &n, err));
  MA_TRY(ma_tokenizer_decode(t, ids, n, true, &back, &length, err));
  assert_true(length > 0);
done:
  ma_free(back);
  ma_free(ids);
  ma_tokenizer_close(t);
  return st;
}

/* Loading allocates once a token: the failing allocation moves on faster and faster, which every kind of it meets. */
static void fail_everywhere(const char *name) {
  char path[1024];
  const char *tests = getenv("MASSACT_TESTS");
  if (!tests) skip();
  snprintf(path, sizeof path, "%s/golden/tokenizers/%s", tests, name);
  ma_error err = {0};
  ma_status st = MA_NO_MEMORY;
#ifdef MASSACT_FAULTS
  long before = ma_live_allocations();
  int n_failures = 0;
  for (long n = 0; st != MA_OK; n += n < 40 ? 1 : 1 + n / 60, n_failures++) {
    assert_true(n_failures < 3000);
    ma_fault_allocations_after(n);
    st = round_trip(path, &err);
    ma_fault_allocations_after(-1);
    assert_int_equal(ma_live_allocations(), before);
    if (st != MA_OK) assert_int_equal(st, MA_NO_MEMORY);
  }
  assert_true(n_failures > 50);
#else
  st = round_trip(path, &err);
#endif
  assert_int_equal(st, MA_OK);
}

static void bpe(void **state) {
  (void)state;
  fail_everywhere("llama2");
}
static void byte_level(void **state) {
  (void)state;
  fail_everywhere("qwen");
}
static void unigram(void **state) {
  (void)state;
  fail_everywhere("unigram");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(bpe), cmocka_unit_test(byte_level), cmocka_unit_test(unigram)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
