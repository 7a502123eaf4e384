/* The operations that Lua does not reach, against plain loops in double: odd sizes, strided and broadcast views, every dtype,
 * NaN and infinities, and the errors of wrong shapes.  tests/lua/ops_spec.lua has the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "tensor/backend.h"
#include "tensor/half.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

static ma_tensor make(ma_dtype dtype, int n_dims, const int64_t *shape, uint64_t seed) {
  ma_error err = {0};
  ma_tensor t;
  ma_random generator = {seed, 0};
  assert_int_equal(ma_tensor_new(&t, ma_device_cpu(), dtype, n_dims, shape, &err), MA_OK);
  assert_int_equal(ma_randomize(&t, MA_RANDOM_NORMAL, 0, 1, &generator, &err), MA_OK);
  return t;
}

static ma_tensor make_ids(int64_t n, const int64_t *ids) {
  ma_error err = {0};
  ma_tensor t;
  assert_int_equal(ma_tensor_new(&t, ma_device_cpu(), MA_I64, 1, &n, &err), MA_OK);
  if (n) memcpy(ma_tensor_data(&t), ids, (size_t)n * sizeof *ids);
  return t;
}

/* Ways to see a matrix [rows, columns]: as it lies, transposed, every third column, with rows or columns broadcast. */
enum { LIES, TRANSPOSED, STEPPED, SAME_ROWS, SAME_COLUMNS, N_VIEWS };

static ma_tensor view_of(int kind, ma_dtype dtype, int64_t rows, int64_t columns, uint64_t seed) {
  ma_error err = {0};
  ma_tensor whole, view = {0};
  int64_t shape[3] = {rows, columns, 3}, wanted[2] = {rows, columns};
  if (kind == LIES) return make(dtype, 2, shape, seed);
  if (kind == TRANSPOSED) {
    whole = make(dtype, 2, (int64_t[]){columns, rows}, seed);
    assert_int_equal(ma_tensor_transpose(&view, &whole, 0, 1, &err), MA_OK);
  } else if (kind == STEPPED) {
    whole = make(dtype, 3, shape, seed);
    assert_int_equal(ma_tensor_select(&view, &whole, 2, 1, &err), MA_OK);
  } else {
    whole = make(dtype, 2, kind == SAME_ROWS ? (int64_t[]){1, columns} : (int64_t[]){rows, 1}, seed);
    assert_int_equal(ma_tensor_expand(&view, &whole, 2, wanted, &err), MA_OK);
  }
  ma_tensor_release(&whole);
  return view;
}

static double at(const ma_tensor *t, int64_t i, int64_t j) {
  ma_error err = {0};
  double value;
  int64_t index[2] = {i, j};
  assert_int_equal(ma_tensor_get(&value, t, index, &err), MA_OK);
  return value;
}

static double at1(const ma_tensor *t, int64_t i) { return at(t, i, 0); }

static void release(int n, ma_tensor **all) {
  for (int i = 0; i < n; i++) ma_tensor_release(all[i]);
}
#define RELEASE(...) release(sizeof((ma_tensor *[]){__VA_ARGS__}) / sizeof(ma_tensor *), (ma_tensor *[]){__VA_ARGS__})

static void check(const char *what, double got, double expected, double tolerance) {
  bool fits =
      isnan(expected) ? isnan(got) : got == expected || fabs(got - expected) <= tolerance * fmax(1, fabs(expected));
  if (!fits) fail_msg("%s: %.9g, not %.9g", what, got, expected);
}

static void expect_error(ma_status st, const ma_error *err, const char *message) {
  assert_int_equal(st, MA_BAD_ARGUMENT);
  if (!strstr(err->message, message)) fail_msg("expected '%s' in '%s'", message, err->message);
}

static const ma_dtype floats[] = {MA_F32, MA_F16, MA_BF16};
static const double units[] = {2e-6, 2e-3, 1.6e-2};

/* ---- matmul.c ---- */

static void linear_of(int64_t m, int64_t k, int64_t n, ma_dtype dtype, int x_view, int w_view, bool has_bias) {
  ma_error err = {0};
  ma_tensor x = view_of(x_view, MA_F32, m, k, 1), w = view_of(w_view, dtype, n, k, 2), bias = make(MA_F32, 1, &n, 3),
            out = {0};
  assert_int_equal(ma_linear(&out, &x, &w, has_bias ? &bias : NULL, &err), MA_OK);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double sum = has_bias ? at1(&bias, j) : 0;
      for (int64_t e = 0; e < k; e++) sum += at(&x, i, e) * at(&w, j, e);
      check("linear", at(&out, i, j), sum, 1e-5 * (double)(k + 1));
    }
  RELEASE(&x, &w, &bias, &out);
}

static void op_linear(void **state) {
  (void)state;
  ma_error err = {0};
  static const int64_t sizes[][3] = {{1, 1, 1}, {3, 17, 5}, {33, 65, 1}, {2, 0, 3},
                                     {0, 4, 3}, {4, 3, 0},  {1, 33, 17}, {5, 1, 65}};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
    for (int w = 0; w < N_VIEWS; w++)
      for (int d = 0; d < 3; d++) {
        if ((w == SAME_ROWS && sizes[s][2] == 0) || (w == SAME_COLUMNS && sizes[s][1] == 0)) continue;
        linear_of(sizes[s][0], sizes[s][1], sizes[s][2], floats[d], w % 3, w, (w + d) % 2 == 0);
      }
  /* Leading dims of a weight may be split and turned: [2 3 4] seen as [3 2 4] is six rows. */
  ma_tensor x = make(MA_F32, 2, (int64_t[]){2, 4}, 1), w = make(MA_F32, 3, (int64_t[]){2, 3, 4}, 2), turned = {0},
            out = {0};
  assert_int_equal(ma_tensor_transpose(&turned, &w, 0, 1, &err), MA_OK);
  assert_int_equal(ma_linear(&out, &x, &turned, NULL, &err), MA_OK);
  for (int64_t j = 0; j < 6; j++) {
    double sum = 0;
    for (int64_t e = 0; e < 4; e++)
      sum += at(&x, 1, e) * (double)((float *)ma_tensor_data(&w))[(j % 2 * 3 + j / 2) * 4 + e];
    check("linear of a split weight", at(&out, 1, j), sum, 1e-5);
  }
  ma_tensor bad = make(MA_F32, 2, (int64_t[]){6, 5}, 1), none = {0};
  expect_error(ma_linear(&none, &x, &bad, NULL, &err), &err, "linear: [2 x 4] and [6 x 5] do not fit");
  expect_error(ma_linear(&none, &x, &turned, &bad, &err), &err, "[3 x 2 x 4] and [6 x 5]");
  RELEASE(&x, &w, &turned, &out, &bad);
}

/* Given, made, or made for the tape: in the type that was asked for, rounded once. */
static void op_linear_in_16_bits(void **state) {
  (void)state;
  ma_error err = {0};
  int64_t shape[2] = {3, 5};
  for (int d = 1; d < 3; d++) {
    ma_tensor x = make(floats[d], 2, (int64_t[]){3, 17}, 1), w = make(MA_F32, 2, (int64_t[]){5, 17}, 2);
    ma_tensor bias = make(MA_F32, 1, &shape[1], 3), wide = {0}, rounded = {0}, given, leaf = {0}, grad = {0};
    ma_tensor made = {.dtype = floats[d]}, recorded = {.dtype = floats[d]};
    assert_int_equal(ma_tensor_new(&given, ma_device_cpu(), floats[d], 2, shape, &err), MA_OK);
    assert_int_equal(ma_linear(&wide, &x, &w, &bias, &err), MA_OK);
    assert_int_equal(wide.dtype, MA_F32);
    assert_int_equal(ma_tensor_convert(&rounded, &wide, floats[d], &err), MA_OK);
    assert_int_equal(ma_linear(&given, &x, &w, &bias, &err), MA_OK);
    assert_int_equal(ma_linear(&made, &x, &w, &bias, &err), MA_OK);
    assert_int_equal(ma_tensor_convert(&leaf, &w, MA_F32, &err), MA_OK);
    assert_int_equal(ma_tensor_require_grad(&leaf, true, &err), MA_OK);
    assert_int_equal(ma_linear(&recorded, &x, &leaf, &bias, &err), MA_OK);
    assert_true(ma_tensor_is_tracked(&recorded));
    const ma_tensor *const outs[] = {&given, &made, &recorded};
    for (int i = 0; i < 3; i++) {
      assert_int_equal(outs[i]->dtype, floats[d]);
      assert_memory_equal(ma_tensor_data(outs[i]), ma_tensor_data(&rounded), ma_tensor_bytes(&rounded));
    }
    ma_tensor seed = make(MA_F32, 2, shape, 4);
    assert_int_equal(ma_backward(&recorded, &seed, false, NULL, &err), MA_OK);
    assert_int_equal(ma_tensor_grad(&grad, &leaf, &err), MA_OK);
    assert_int_equal(grad.dtype, MA_F32);
    for (int64_t j = 0; j < 5; j++) {
      double sum = 0;
      for (int64_t i = 0; i < 3; i++) sum += at(&seed, i, j) * at(&x, i, 6);
      check("gradient of linear in 16 bits", at(&grad, j, 6), sum, 1e-5);
    }
    RELEASE(&x, &w, &bias, &wide, &rounded, &given, &made, &recorded, &leaf, &grad, &seed);
  }
}

/* ---- norm.c ---- */

static void op_dyt(void **state) {
  (void)state;
  ma_error err = {0};
  for (int d = 0; d < 3; d++)
    for (int v = 0; v < N_VIEWS; v++) {
      int64_t D = v == SAME_COLUMNS ? 1500 : 33, one = 1;
      ma_tensor x = view_of(v, floats[d], 3, D, 1), w = make(MA_F32, 1, &D, 2), b = make(MA_F32, 1, &D, 3);
      ma_tensor alpha = make(MA_F32, 1, &one, 4), out = {0};
      bool has_bias = v % 2 == 0;
      assert_int_equal(ma_dyt(&out, &x, &alpha, &w, has_bias ? &b : NULL, &err), MA_OK);
      for (int64_t i = 0; i < 3; i++)
        for (int64_t j = 0; j < D; j++)
          check("dyt", at(&out, i, j), at1(&w, j) * tanh(at1(&alpha, 0) * at(&x, i, j)) + (has_bias ? at1(&b, j) : 0),
                units[d]);
      ma_tensor none = {0};
      expect_error(ma_dyt(&none, &x, &alpha, NULL, NULL, &err), &err, "dyt wants alpha and a weight");
      expect_error(ma_dyt(&none, &x, &w, &w, NULL, &err), &err, "dyt: [3 x ");
      RELEASE(&x, &w, &b, &alpha, &out);
    }
}

static double plain_unary(ma_unary_kind kind, double x) {
  switch (kind) {
    case MA_UNARY_silu: return x / (1 + exp(-x));
    case MA_UNARY_gelu: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case MA_UNARY_gelu_tanh: return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case MA_UNARY_relu: return x < 0 ? 0 : x;
    case MA_UNARY_sigmoid: return 1 / (1 + exp(-x));
    default: return tanh(x);
  }
}

/* x and what is normed are, bit for bit, what the two operations give one after the other. */
static void add_and_norm(int view, ma_dtype dtype, bool is_rms) {
  ma_error err = {0};
  const ma_norm_how how = {.eps = 1e-5, .offset = 1};
  const int64_t width = 17;
  ma_tensor x = view_of(view, dtype, 5, width, 1), more = view_of((view + 1) % SAME_ROWS, dtype, 5, width, 2),
            weight = make(MA_F32, 1, &width, 3), out = {0}, sum = {0}, normed = {0};
  assert_int_equal(ma_binary(&sum, MA_BINARY_add, &x, &more, &err), MA_OK);
  if (is_rms) {
    assert_int_equal(ma_rms_norm(&normed, &sum, &weight, &how, &err), MA_OK);
    assert_int_equal(ma_add_rms_norm(&out, &x, &more, &weight, &how, &err), MA_OK);
  } else {
    assert_int_equal(ma_layer_norm(&normed, &sum, &weight, &weight, &how, &err), MA_OK);
    assert_int_equal(ma_add_layer_norm(&out, &x, &more, &weight, &weight, &how, &err), MA_OK);
  }
  for (int64_t i = 0; i < 5; i++)
    for (int64_t j = 0; j < width; j++) {
      check("the sum", at(&x, i, j), at(&sum, i, j), 0);
      check("its norm", at(&out, i, j), at(&normed, i, j), 0);
    }
  RELEASE(&x, &more, &weight, &out, &sum, &normed);
}

static void add_and_norm_of_all(bool is_rms) {
  for (int d = 0; d < 3; d++)
    for (int v = 0; v < SAME_ROWS; v++) add_and_norm(v, floats[d], is_rms);
}

static void op_add_rms_norm(void **state) {
  (void)state;
  ma_error err = {0};
  add_and_norm_of_all(true);
  ma_tensor a = make(MA_F32, 2, (int64_t[]){2, 3}, 1), b = make(MA_F32, 2, (int64_t[]){3, 2}, 1), none = {0};
  expect_error(ma_add_rms_norm(&none, &a, &b, NULL, &(ma_norm_how){0}, &err), &err,
               "add_rms_norm: [2 x 3] and [3 x 2] do not fit");
  assert_int_equal(ma_tensor_require_grad(&a, true, &err), MA_OK);
  assert_int_equal(ma_add_rms_norm(&none, &a, &a, NULL, &(ma_norm_how){0}, &err), MA_UNSUPPORTED);
  RELEASE(&a, &b);
}

static void op_add_layer_norm(void **state) {
  (void)state;
  add_and_norm_of_all(false);
}

/* Rounded steps, against the operations that they are. */
static void gated_in_steps(ma_dtype step) {
  ma_error err = {0};
  ma_tensor gate = make(MA_F32, 2, (int64_t[]){3, 300}, 1), up = make(MA_F32, 2, (int64_t[]){3, 300}, 2), f = {0},
            expected = {0}, out = {0};
  assert_int_equal(ma_unary(&f, MA_UNARY_silu, &gate, &err), MA_OK);
  assert_int_equal(ma_round_to(&f, step, &f, &err), MA_OK);
  assert_int_equal(ma_binary(&expected, MA_BINARY_mul, &f, &up, &err), MA_OK);
  assert_int_equal(ma_gated(&out, &gate, &up, &(ma_gated_how){MA_UNARY_silu, step, false}, &err), MA_OK);
  for (int64_t j = 0; j < 300; j++) check("gated in steps", at(&out, 2, j), at(&expected, 2, j), 0);
  ma_tensor_release(&out);
  assert_int_equal(ma_gated(&out, &gate, NULL, &(ma_gated_how){MA_UNARY_gelu_tanh, step, true}, &err), MA_OK);
  for (int64_t j = 0; j < 300; j++)
    check("gelu_new", at(&out, 1, j), plain_unary(MA_UNARY_gelu_tanh, at(&gate, 1, j)), step == MA_F16 ? 4e-3 : 3e-2);
  RELEASE(&gate, &up, &f, &expected, &out);
}

static void op_gated(void **state) {
  (void)state;
  ma_error err = {0};
  static const ma_unary_kind kinds[] = {MA_UNARY_silu, MA_UNARY_gelu,    MA_UNARY_gelu_tanh,
                                        MA_UNARY_relu, MA_UNARY_sigmoid, MA_UNARY_tanh};
  for (int f = 0; f < 6; f++)
    for (int d = 0; d < 3; d++)
      for (int v = 0; v < N_VIEWS; v++) {
        ma_tensor gate = view_of(v, floats[d], 5, 17, 1), up = view_of((v + 1) % N_VIEWS, floats[d], 5, 17, 2),
                  out = {0};
        assert_int_equal(ma_gated(&out, &gate, &up, &(ma_gated_how){.activation = kinds[f]}, &err), MA_OK);
        for (int64_t i = 0; i < 5; i++)
          for (int64_t j = 0; j < 17; j++)
            check("gated", at(&out, i, j), plain_unary(kinds[f], at(&gate, i, j)) * at(&up, i, j), 2 * units[d]);
        if (v < SAME_ROWS) {
          /* In place, on either. */
          ma_tensor copy = {0};
          assert_int_equal(ma_tensor_convert(&copy, &gate, gate.dtype, &err), MA_OK);
          assert_int_equal(ma_gated(&copy, &copy, &up, &(ma_gated_how){.activation = kinds[f]}, &err), MA_OK);
          for (int64_t j = 0; j < 17; j++) check("gated in place", at(&copy, 4, j), at(&out, 4, j), 0);
          ma_tensor_release(&copy);
        }
        RELEASE(&gate, &up, &out);
      }
  ma_tensor a = make(MA_F32, 2, (int64_t[]){2, 3}, 1), b = make(MA_F32, 2, (int64_t[]){3, 2}, 1), none = {0};
  gated_in_steps(MA_F16);
  gated_in_steps(MA_BF16);
  expect_error(ma_gated(&none, &a, &b, &(ma_gated_how){.activation = MA_UNARY_silu}, &err), &err,
               "gated: [2 x 3] and [3 x 2] do not fit");
  RELEASE(&a, &b);
}

/* ---- position.c ---- */

static void op_rope(void **state) {
  (void)state;
  ma_error err = {0};
  enum { B = 2, T = 3, H = 5, d = 7, HALF = 2 };
  for (int k = 0; k < 3; k++)
    for (int in_place = 0; in_place < 2; in_place++) {
      ma_tensor whole = make(floats[k], 4, (int64_t[]){B, H, T, d}, 1), x = {0}, out = {0};
      ma_tensor cosine = make(MA_F32, 2, (int64_t[]){T, HALF}, 2), sine = make(MA_F32, 2, (int64_t[]){T, HALF}, 3),
                before = {0};
      assert_int_equal(ma_tensor_transpose(&x, &whole, 1, 2, &err), MA_OK);
      assert_int_equal(ma_tensor_convert(&before, &x, MA_F32, &err), MA_OK);
      if (in_place) out = ma_tensor_retain(&x);
      assert_int_equal(ma_rope(&out, &x, &cosine, &sine, MA_F32, &err), MA_OK);
      for (int64_t n = 0; n < B * T * H; n++) {
        int64_t index[4] = {n / (T * H), n / H % T, n % H, 0};
        const float *row = (const float *)ma_tensor_data(&before) + n * d;
        for (int64_t e = 0; e < d; e++) {
          double got, expected = (double)row[e];
          index[3] = e;
          if (e < HALF)
            expected = (double)row[e] * at(&cosine, index[1], e) - (double)row[e + HALF] * at(&sine, index[1], e);
          else if (e < 2 * HALF)
            expected = (double)row[e] * at(&cosine, index[1], e - HALF) +
                       (double)row[e - HALF] * at(&sine, index[1], e - HALF);
          assert_int_equal(ma_tensor_get(&got, &out, index, &err), MA_OK);
          check("rope", got, expected, units[k]);
        }
      }
      ma_tensor none = {0};
      expect_error(ma_rope(&none, &x, &x, &sine, MA_F32, &err), &err,
                   "rope: [2 x 3 x 5 x 7] and [2 x 3 x 5 x 7] do not fit");
      RELEASE(&whole, &x, &out, &cosine, &sine, &before);
    }
}

/* ---- embed.c ---- */

static void op_embed(void **state) {
  (void)state;
  ma_error err = {0};
  static const int64_t picks[] = {4, 0, 4, 2};
  for (int d = 0; d < 3; d++)
    for (int v = 0; v < N_VIEWS; v++) {
      ma_tensor table = view_of(v, floats[d], 5, 17, 1), ids = make_ids(4, picks), out = {0}, none = {0},
                empty = make_ids(0, picks);
      assert_int_equal(ma_embed(&out, &table, &ids, &err), MA_OK);
      for (int64_t i = 0; i < 4; i++)
        for (int64_t j = 0; j < 17; j++) check("embed", at(&out, i, j), at(&table, picks[i], j), 0);
      ma_tensor narrow = {.dtype = MA_BF16};
      assert_int_equal(ma_embed(&narrow, &table, &ids, &err), MA_OK);
      assert_int_equal(narrow.dtype, MA_BF16);
      for (int64_t j = 0; j < 17; j++)
        check("embed in 16 bits", at(&narrow, 3, j), (double)ma_bf16_to_f32(ma_bf16_from_f32((float)at(&table, 2, j))),
              0);
      ma_tensor_release(&narrow);
      assert_int_equal(ma_embed(&none, &table, &empty, &err), MA_OK);
      assert_int_equal(ma_tensor_count(&none), 0);
      ma_tensor_release(&none);
      for (int bad = 0; bad < 2; bad++) {
        ((int64_t *)ma_tensor_data(&ids))[1] = bad ? 5 : -1;
        expect_error(ma_embed(&none, &table, &ids, &err), &err, "is outside the table of 5");
      }
      RELEASE(&table, &ids, &out, &empty);
    }
}

/* ---- loss.c ---- */

static void op_losses(void **state) {
  (void)state;
  ma_error err = {0};
  enum { N = 5, V = 33, K = 3 };
  static const int64_t wanted[N] = {0, 32, -1, 7, 8};
  for (int v = 0; v < N_VIEWS; v++) {
    ma_tensor x = view_of(LIES, MA_F32, N, K, 1), w = view_of(v, MA_F32, V, K, 2), targets = make_ids(N, wanted);
    ma_tensor logits = view_of(v, MA_F32, N, V, 3), a = {0}, b = {0}, none = {0};
    ma_logits_how how = {.scale = 2, .softcap = 3};
    assert_int_equal(ma_cross_entropy(&a, &logits, &targets, &err), MA_OK);
    assert_int_equal(ma_linear_cross_entropy(&b, &x, &w, NULL, &targets, &how, &err), MA_OK);
    for (int64_t i = 0; i < N; i++) {
      double sum = 0, capped_sum = 0, capped[V];
      for (int64_t j = 0; j < V; j++) {
        double dot = 0;
        for (int64_t e = 0; e < K; e++) dot += at(&x, i, e) * at(&w, j, e);
        capped[j] = 3 * tanh(2 * dot / 3);
        capped_sum += exp(capped[j]);
        sum += exp(at(&logits, i, j));
      }
      check("cross_entropy", at1(&a, i), wanted[i] < 0 ? 0 : log(sum) - at(&logits, i, wanted[i]), 1e-5);
      check("linear_cross_entropy", at1(&b, i), wanted[i] < 0 ? 0 : log(capped_sum) - capped[wanted[i]], 1e-5);
    }
    for (int d = 1; d < 3; d++) {
      ma_tensor narrow = {0}, same = {0}, of_narrow = {0}, of_same = {0};
      assert_int_equal(ma_tensor_convert(&narrow, &x, floats[d], &err), MA_OK);
      assert_int_equal(ma_tensor_convert(&same, &narrow, MA_F32, &err), MA_OK);
      assert_int_equal(ma_linear_cross_entropy(&of_narrow, &narrow, &w, NULL, &targets, &how, &err), MA_OK);
      assert_int_equal(ma_linear_cross_entropy(&of_same, &same, &w, NULL, &targets, &how, &err), MA_OK);
      for (int64_t i = 0; i < N; i++) check("loss of 16-bit x", at1(&of_narrow, i), at1(&of_same, i), 0);
      RELEASE(&narrow, &same, &of_narrow, &of_same);
    }
    ((int64_t *)ma_tensor_data(&targets))[0] = V;
    expect_error(ma_linear_cross_entropy(&none, &x, &w, NULL, &targets, &how, &err), &err,
                 "target 33 is outside the vocabulary of 33");
    expect_error(ma_cross_entropy(&none, &x, &w, &err), &err, "cross_entropy: [5 x 3] and [33 x 3] do not fit");
    expect_error(ma_linear_cross_entropy(&none, &x, &logits, NULL, &targets, &how, &err), &err, "[5 x 3] and [5 x 33]");
    RELEASE(&x, &w, &targets, &logits, &a, &b);
  }
  /* Hidden logits count for nothing, NaN for everything. */
  ma_tensor two = view_of(LIES, MA_F32, 2, 3, 1), first = make_ids(2, (int64_t[]){1, 1}), out = {0};
  float *logits = ma_tensor_data(&two);
  memcpy(logits, (float[]){-INFINITY, 5, -INFINITY, 1, 2, NAN}, 6 * sizeof *logits);
  assert_int_equal(ma_cross_entropy(&out, &two, &first, &err), MA_OK);
  check("cross_entropy of a sure thing", at1(&out, 0), 0, 0);
  check("cross_entropy of NaN", at1(&out, 1), NAN, 0);
  RELEASE(&two, &first, &out);
}

/* ---- reduce.c ---- */

static void op_statistics(void **state) {
  (void)state;
  ma_error err = {0};
  const unsigned everything =
      MA_STAT_TOP | MA_STAT_MEDIAN | MA_STAT_MOMENTS | MA_STAT_NORMS | MA_STAT_NONFINITE | MA_STAT_EXTREMES;
  for (int d = 0; d < 3; d++)
    for (int v = 0; v < N_VIEWS; v++)
      for (int64_t columns = 1; columns < 70; columns += 17) {
        ma_tensor x = view_of(v, floats[d], 3, columns, 7);
        ma_stats got;
        double mean = 0, l1 = 0, l2 = 0, second = 0, fourth = 0, n = 3 * (double)columns, top = -1, value[3 * 70];
        int64_t top_index = 0, smaller = 0, equal = 0;
        for (int64_t i = 0; i < 3 * columns; i++) {
          value[i] = at(&x, i / columns, i % columns);
          mean += value[i] / n;
          l1 += fabs(value[i]);
          l2 += value[i] * value[i];
          if (fabs(value[i]) > top) top = fabs(value[i]), top_index = i;
        }
        for (int64_t i = 0; i < 3 * columns; i++) {
          second += pow(value[i] - mean, 2) / n;
          fourth += pow(value[i] - mean, 4) / n;
        }
        assert_int_equal(ma_statistics(&got, &x, everything, 3, &err), MA_OK);
        for (int64_t i = 0; i < 3 * columns; i++) {
          smaller += fabs(value[i]) < got.median;
          equal += fabs(value[i]) == got.median;
        }
        assert_true(smaller <= (3 * columns - 1) / 2 && smaller + equal > (3 * columns - 1) / 2);
        assert_int_equal(got.count, 3 * columns);
        assert_int_equal(got.n_top, 3);
        assert_int_equal(got.top_index[0], top_index);
        check("top", got.top_value[0], value[top_index], 0);
        assert_true(fabs(got.top_value[1]) >= fabs(got.top_value[2]));
        check("mean", got.mean, mean, 1e-9);
        check("std", got.std, sqrt(second), 1e-9);
        if (second > 0) check("kurtosis", got.kurtosis, fourth / (second * second), 1e-6);
        check("l1", got.l1, l1, 1e-9);
        check("l2", got.l2, sqrt(l2), 1e-9);
        ma_tensor_release(&x);
      }
  ma_tensor odd = make(MA_F32, 1, (int64_t[]){6}, 1), none = make(MA_F32, 1, (int64_t[]){0}, 1);
  ma_stats got;
  memcpy(ma_tensor_data(&odd), (float[]){NAN, -INFINITY, 3, -7e4f, 65519, 0}, 6 * sizeof(float));
  assert_int_equal(ma_statistics(&got, &odd, everything, 4, &err), MA_OK);
  assert_int_equal(got.n_nonfinite, 2);
  assert_int_equal(got.n_over_f16, 1);
  assert_int_equal(got.top_index[0], 1);
  assert_int_equal(got.top_index[1], 3);
  check("median of magnitudes", got.median, 65519, 0); /* 0 3 65519 7e4 inf NaN: the third of six */
  expect_error(ma_statistics(&got, &none, everything, 1, &err), &err, "statistics of no elements");
  expect_error(ma_statistics(&got, &odd, everything, MA_MAX_TOP + 1, &err), &err, "at most the top 64");
  RELEASE(&odd, &none);
}

/* ---- experts.c ---- */

/* How many of the row come before element j: larger ones, and equal ones with a lower index. */
static int rank_in_row(const ma_tensor *t, int64_t i, int64_t j) {
  int rank = 0;
  for (int64_t o = 0; o < t->shape[1]; o++) rank += at(t, i, o) > at(t, i, j) || (o < j && at(t, i, o) == at(t, i, j));
  return rank;
}

/* Softmax, the k largest, their sum 1: whichever way the logits lie, in place too. */
static void op_route(void **state) {
  (void)state;
  ma_error err = {0};
  for (int v = 0; v < N_VIEWS; v++)
    for (int64_t k = 1; k <= 7; k += 3) {
      ma_tensor logits = view_of(v, MA_F32, 5, 7, 9), out = {0}, none = {0};
      assert_int_equal(ma_route(&out, &logits, k, &err), MA_OK);
      for (int64_t i = 0; i < 5; i++) {
        double sum = 0;
        for (int64_t j = 0; j < 7; j++)
          if (rank_in_row(&logits, i, j) < k) sum += exp(at(&logits, i, j));
        for (int64_t j = 0; j < 7; j++)
          check("route", at(&out, i, j), rank_in_row(&logits, i, j) < k ? exp(at(&logits, i, j)) / sum : 0, 2e-6);
      }
      expect_error(ma_route(&none, &logits, 8, &err), &err,
                   "route: 8 experts of the last dim of f32 logits, which has 7");
      expect_error(ma_route(&none, &logits, 0, &err), &err, "route: 0 experts");
      RELEASE(&logits, &out);
    }
}

static void op_add_rows(void **state) {
  (void)state;
  ma_error err = {0};
  static const int64_t picks[] = {3, 0, 3}, wrong[] = {3, 0, 4};
  for (int v = 0; v < N_VIEWS; v++) {
    ma_tensor x = view_of(v, MA_F32, 3, 5, 2), index = make_ids(3, picks), outside = make_ids(3, wrong),
              scale = make(MA_F32, 1, (int64_t[]){3}, 4);
    ma_tensor out = make(MA_F32, 2, (int64_t[]){4, 5}, 5), before = {0}, few = {0};
    assert_int_equal(ma_tensor_convert(&before, &out, MA_F32, &err), MA_OK);
    assert_int_equal(ma_add_rows(&out, &x, &index, &scale, &err), MA_OK);
    for (int64_t i = 0; i < 4; i++)
      for (int64_t j = 0; j < 5; j++) {
        double expected = at(&before, i, j);
        for (int64_t r = 0; r < 3; r++) expected += picks[r] == i ? at1(&scale, r) * at(&x, r, j) : 0;
        check("add_rows", at(&out, i, j), expected, 2e-6);
      }
    assert_int_equal(ma_tensor_narrow(&few, &scale, 0, 0, 2, &err), MA_OK);
    expect_error(ma_add_rows(&out, &x, &outside, &scale, &err), &err, "row 4 is outside the 4");
    expect_error(ma_add_rows(&out, &x, &index, &few, &err), &err, "add_rows: [3 x 5] and [2] do not fit");
    RELEASE(&x, &index, &outside, &scale, &out, &before, &few);
  }
}

/* ---- round_to; its loops are in round_test.c ---- */

static void op_round_to(void **state) {
  (void)state;
  ma_error err = {0};
  for (int v = 0; v < N_VIEWS; v++)
    for (int d = 1; d < 3; d++) {
      ma_tensor x = view_of(v, MA_F32, 17, 33, 3), out = {0}, there = {0}, back = {0};
      assert_int_equal(ma_round_to(&out, floats[d], &x, &err), MA_OK);
      assert_int_equal(ma_tensor_convert(&there, &x, floats[d], &err), MA_OK);
      assert_int_equal(ma_tensor_convert(&back, &there, MA_F32, &err), MA_OK);
      for (int64_t i = 0; i < 17; i++)
        for (int64_t j = 0; j < 33; j++) check("round_to", at(&out, i, j), at(&back, i, j), 0);
      RELEASE(&x, &out, &there, &back);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(op_route),
                                     cmocka_unit_test(op_add_rows),
                                     cmocka_unit_test(op_round_to),
                                     cmocka_unit_test(op_linear),
                                     cmocka_unit_test(op_linear_in_16_bits),
                                     cmocka_unit_test(op_dyt),
                                     cmocka_unit_test(op_gated),
                                     cmocka_unit_test(op_add_rms_norm),
                                     cmocka_unit_test(op_add_layer_norm),
                                     cmocka_unit_test(op_rope),
                                     cmocka_unit_test(op_embed),
                                     cmocka_unit_test(op_losses),
                                     cmocka_unit_test(op_statistics)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
