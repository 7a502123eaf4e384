/* Training a tokenizer, and writing and reading a token file, when memory runs out: the n-th allocation fails, n = 0, 1, ...
 * until it succeeds.  Each failure is MA_NO_MEMORY, and nothing is left behind, no file either. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/token_file.h"
#include "text/train.h"

static const char text[] = "one two two three three three one one\n\nonetwothree 1 12 123 \xE4\xB8\xAD\xE4\xB8\xAD";

static ma_status train(ma_error *err) {
  static const char *const special[] = {"<s>"};
  ma_status st = MA_OK;
  ma_trainer *t = NULL;
  ma_trained made = {0};
  MA_TRY(ma_trainer_open(&t, "llama3", err));
  MA_TRY(ma_trainer_add(t, text, sizeof text - 2, false, err));
  MA_TRY(ma_trainer_add(t, text + sizeof text - 2, 1, true, err));
  MA_TRY(ma_trainer_finish(t, 270, 2, special, 1, &made, err));
  assert_int_equal(made.n_tokens, 257 + made.n_merges);
  assert_true(made.n_merges > 5);
  assert_string_equal(made.tokens[0], "<s>");
done:
  ma_trained_release(&made);
  ma_trainer_close(t);
  return st;
}

static const char tokens_path[] = "train_faults_test.tokens";

static ma_status write_tokens(ma_error *err) {
  static const ma_token_info info = {.bos = 1, .eos = -1};
  ma_status st = MA_OK;
  char path[1024];
  ma_tokenizer *t = NULL;
  ma_token_writer *w = NULL;
  ma_token_file *f = NULL;
  int32_t ids[4];
  snprintf(path, sizeof path, "%s/golden/tokenizers/unigram", getenv("MASSACT_TESTS"));
  MA_TRY(ma_tokenizer_open(&t, path, err));
  MA_TRY(ma_token_writer_open(&w, tokens_path, t, &info, err));
  MA_TRY(ma_token_writer_add(w, text, sizeof text - 1, true, err));
  assert_false(ma_file_exists(tokens_path));
  MA_TRY(ma_token_writer_commit(w, err));
  MA_TRY(ma_token_file_open(&f, tokens_path, err));
  MA_TRY(ma_token_file_read(f, 0, 4, MA_I32, ids, err));
  assert_int_equal(ids[0], 1);
done:
  unlink(tokens_path);
  ma_token_file_close(f);
  ma_token_writer_close(w);
  ma_tokenizer_close(t);
  return st;
}

/* `step`: how much faster the failing allocation moves on. */
static void fail_everywhere(ma_status (*work)(ma_error *err), long step) {
  ma_error err = {0};
#ifdef MASSACT_FAULTS
  long before = ma_live_allocations();
  ma_status st = MA_NO_MEMORY;
  int n_failures = 0;
  for (long n = 0; st != MA_OK; n += 1 + n / step, n_failures++) {
    assert_true(n_failures < 3000);
    ma_fault_allocations_after(n);
    st = work(&err);
    ma_fault_allocations_after(-1);
    assert_int_equal(ma_live_allocations(), before);
    if (st != MA_OK) assert_int_equal(st, MA_NO_MEMORY);
  }
  assert_true(n_failures > 50);
#else
  (void)step;
  assert_int_equal(work(&err), MA_OK);
#endif
}

static void training(void **state) {
  (void)state;
  fail_everywhere(train, LONG_MAX);
}

static void token_files(void **state) {
  (void)state;
  if (!getenv("MASSACT_TESTS")) skip();
  fail_everywhere(write_tokens, 1000);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(training), cmocka_unit_test(token_files)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
