/* Training a tokenizer when memory runs out: the n-th allocation fails, n = 0, 1, ... until it succeeds.  Each failure is
 * MA_NO_MEMORY, and nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
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

static void runs_out_of_memory(void **state) {
  (void)state;
  ma_error err = {0};
#ifdef MASSACT_FAULTS
  long before = ma_live_allocations();
  ma_status st = MA_NO_MEMORY;
  int n_failures = 0;
  for (long n = 0; st != MA_OK; n++, n_failures++) {
    assert_true(n < 3000);
    ma_fault_allocations_after(n);
    st = train(&err);
    ma_fault_allocations_after(-1);
    assert_int_equal(ma_live_allocations(), before);
    if (st != MA_OK) assert_int_equal(st, MA_NO_MEMORY);
  }
  assert_true(n_failures > 50);
#else
  assert_int_equal(train(&err), MA_OK);
#endif
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(runs_out_of_memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
