/* Rounding f32 to what bf16 and f16 hold: the loops of every instruction set against conversion there and back, one number
 * at a time, over every exponent and all that decides a rounding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/rows.h"
#include "tensor/backend.h"
#include "tensor/half.h"

/* The bits below a half of the type's last place: nothing, a little, almost half, half, more, almost one. */
enum { N_TAILS = 7, HEADS = 64 }; /* rows are long enough for vectors, with some left over */

static uint32_t tail(int i, int dropped_bits) {
  uint32_t half = 1u << (dropped_bits - 1);
  const uint32_t tails[N_TAILS] = {0, 1, half / 2, half - 1, half, half + 1, 2 * half - 1};
  return tails[i];
}

static float expected(float x, ma_dtype dtype) {
  return dtype == MA_BF16 ? ma_bf16_to_f32(ma_bf16_from_f32(x)) : ma_f16_to_f32(ma_f16_from_f32(x));
}

static void check_row(const float *x, ma_dtype dtype, int n) {
  float out[HEADS * N_TAILS];
  ma_rows_get()->round_to(out, x, dtype, (size_t)n);
  for (int i = 0; i < n; i++) {
    float want = expected(x[i], dtype);
    if (isnan(want)) assert_true(isnan(out[i]));
    else assert_int_equal(ma_f32_bits(out[i]), ma_f32_bits(want));
  }
}

static void rounds_as_conversion_does(void **state) {
  const struct {
    ma_dtype dtype;
    int dropped;
  } types[] = {{MA_BF16, 16}, {MA_F16, 13}};
  static const char *const builds[] = {"baseline", "avx2", "avx512"};
  (void)state;
  for (int build = 0; build < 3; build++) {
    assert_int_equal(setenv("MASSACT_ISA", builds[build], 1), 0);
    for (int t = 0; t < 2; t++) {
      for (uint32_t first = 0; first < 1u << (32 - types[t].dropped); first += HEADS) {
        float row[HEADS * N_TAILS];
        for (uint32_t i = 0; i < HEADS * N_TAILS; i++)
          row[i] =
              ma_f32_of_bits((first + i / N_TAILS) << types[t].dropped | tail((int)(i % N_TAILS), types[t].dropped));
        check_row(row, types[t].dtype, HEADS * N_TAILS);
      }
      /* f16's subnormals drop more bits: halves between them, and their neighbours. */
      for (int i = 0; i < 2048; i++) {
        float between = ((float)i + 0.5f) * 0x1p-24f;
        check_row((float[]){between, nextafterf(between, 0), nextafterf(between, 1), -between}, types[t].dtype, 4);
      }
    }
  }
  assert_int_equal(unsetenv("MASSACT_ISA"), 0);
}

static void known_values(void **state) {
  (void)state;
  float x[] = {2481, 2487, 2488, 65519, 65520, -1e6f, 1e-8f, -0.0f}, y[8];
  ma_rows_get()->round_to(y, x, MA_BF16, 8);
  assert_true(y[0] == 2480 && y[1] == 2480 && y[2] == 2496);
  ma_rows_get()->round_to(y, x, MA_F16, 8);
  assert_true(y[0] == 2480 && y[1] == 2488 && y[3] == 65504 && y[4] == INFINITY && y[5] == -INFINITY && y[6] == 0);
  assert_true(signbit(y[7]));
}

/* Views, and types that there is nothing to round to. */
static void works_on_tensors(void **state) {
  (void)state;
  ma_error err = {0};
  int64_t shape[2] = {3, 5};
  ma_tensor t, turned, out = {0};
  assert_int_equal(ma_tensor_new(&t, ma_device_cpu(), MA_F32, 2, shape, &err), MA_OK);
  for (int i = 0; i < 15; i++) ((float *)ma_tensor_data(&t))[i] = 2481 + (float)i;
  assert_int_equal(ma_tensor_transpose(&turned, &t, 0, 1, &err), MA_OK);
  assert_int_equal(ma_round_to(&out, MA_BF16, &turned, &err), MA_OK);
  for (int i = 0; i < 15; i++) {
    double value;
    assert_int_equal(ma_tensor_get(&value, &out, (int64_t[2]){i % 5, i / 5}, &err), MA_OK);
    assert_true(value == (double)expected(2481 + (float)i, MA_BF16));
  }
  assert_int_equal(ma_round_to(&turned, MA_F16, &turned, &err), MA_OK);
  for (int i = 0; i < 15; i++) assert_true(((float *)ma_tensor_data(&t))[i] == expected(2481 + (float)i, MA_F16));
  assert_int_equal(ma_round_to(&t, MA_I32, &t, &err), MA_BAD_ARGUMENT);
  assert_string_equal(err.message, "round_to rounds f32 to f16 or bf16, not f32 to i32");
  ma_tensor_release(&t);
  ma_tensor_release(&turned);
  ma_tensor_release(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rounds_as_conversion_does),
      cmocka_unit_test(known_values),
      cmocka_unit_test(works_on_tensors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
