/* Attention against plain loops in double, over every option, odd sizes, and more keys than queries; and its two halves,
 * which must give bit for bit what the whole gives; and tallies against sums over the probabilities. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/threads.h"
#include "tensor/backend.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct attention_case {
  int64_t B, Tq, Tk, H, G, d, window;
  float softcap;
  bool has_alibi, has_extra;
} attention_case;

static const attention_case cases[] = {
    {1, 1, 1, 1, 1, 4, 0, 0, false, false},     {2, 7, 7, 3, 3, 5, 0, 0, false, false},
    {1, 70, 70, 4, 2, 16, 0, 0, false, false},  {1, 129, 129, 6, 1, 8, 0, 0, false, false},
    {2, 65, 65, 4, 4, 12, 10, 0, false, false}, {1, 130, 130, 2, 1, 8, 64, 0, false, false},
    {1, 33, 33, 4, 2, 8, 1, 0, false, false},   {1, 40, 40, 4, 2, 8, 0, 5, false, false},
    {1, 66, 66, 3, 3, 8, 0, 0, true, false},    {2, 67, 67, 4, 2, 8, 0, 0, false, true},
    {1, 1, 90, 4, 2, 8, 0, 0, false, false},    {2, 5, 77, 4, 2, 8, 12, 3, true, true},
    {1, 80, 200, 2, 2, 16, 30, 2, false, true}, {1, 700, 700, 2, 1, 8, 0, 0, false, false},
};

/* A tensor of normal numbers. */
static ma_tensor make(int n_dims, const int64_t *shape, uint64_t seed) {
  ma_error err = {0};
  ma_tensor t;
  ma_random generator = {seed, 0};
  assert_int_equal(ma_tensor_new(&t, ma_device_cpu(), MA_F32, n_dims, shape, &err), MA_OK);
  assert_int_equal(ma_randomize(&t, MA_RANDOM_NORMAL, 0, 1, &generator, &err), MA_OK);
  return t;
}

static double at4(const ma_tensor *t, int64_t a, int64_t b, int64_t c, int64_t e) {
  const float *data = ma_tensor_data(t);
  return (double)data[a * t->strides[0] + b * t->strides[1] + c * t->strides[2] + e * t->strides[3]];
}

/* Scores of one query: [extra?, keys ...], -inf where hidden. */
static void plain_scores(const attention_case *c, const ma_tensor *q, const ma_tensor *k, const ma_attention_how *how,
                         int64_t b, int64_t i, int64_t h, double *scores) {
  int64_t position = c->Tk - c->Tq + i, g = h / (c->H / c->G);
  for (int64_t j = 0; j < c->Tk; j++) {
    double s = 0;
    for (int64_t e = 0; e < c->d; e++) s += at4(q, b, i, h, e) * at4(k, b, j, g, e);
    s *= (double)how->scale;
    if (c->softcap > 0) s = (double)c->softcap * tanh(s / (double)c->softcap);
    if (c->has_alibi) s += (double)how->alibi_slopes[h] * (double)(j - (c->has_extra ? position : c->Tk - 1));
    if (j > position || (c->window > 0 && j <= position - c->window)) s = -INFINITY;
    scores[1 + j] = s;
  }
  scores[0] = -INFINITY;
  if (!c->has_extra) return;
  const float *key = (const float *)ma_tensor_data(how->extra_key) + h * c->d;
  double s = 0;
  for (int64_t e = 0; e < c->d; e++) s += at4(q, b, i, h, e) * (double)key[e];
  s *= (double)how->scale;
  scores[0] = c->softcap > 0 ? (double)c->softcap * tanh(s / (double)c->softcap) : s;
}

static void check_row(const attention_case *c, const ma_tensor *z, const ma_tensor *v, const ma_attention_how *how,
                      int64_t b, int64_t i, int64_t h, const double *scores) {
  double most = -INFINITY, sum = 0;
  for (int64_t j = 0; j <= c->Tk; j++) most = fmax(most, scores[j]);
  for (int64_t j = 0; j <= c->Tk; j++) sum += exp(scores[j] - most);
  for (int64_t e = 0; e < c->d; e++) {
    double expected = c->has_extra ? exp(scores[0] - most) / sum *
                                         (double)((const float *)ma_tensor_data(how->extra_value))[h * c->d + e]
                                   : 0;
    for (int64_t j = 0; j < c->Tk; j++)
      expected += exp(scores[1 + j] - most) / sum * at4(v, b, j, h / (c->H / c->G), e);
    double got = at4(z, b, i, h, e);
    if (!(fabs(got - expected) <= 2e-5))
      fail_msg("B%ld Tq%ld Tk%ld: z[%ld,%ld,%ld,%ld] is %g, not %g", (long)c->B, (long)c->Tq, (long)c->Tk, (long)b,
               (long)i, (long)h, (long)e, got, expected);
  }
}

/* ---- tallies: what each key receives, and each row's entropy ---- */

static void near(const char *what, double got, double expected, double tolerance) {
  if (!(fabs(got - expected) <= tolerance)) fail_msg("%s is %.9g, not %.9g", what, got, expected);
}

/* From probabilities, in double. */
static void check_tallies(const ma_tensor *probs, const ma_tensor *received, const ma_tensor *entropy) {
  int64_t S = probs->shape[3], Tq = probs->shape[2];
  double *sums = malloc(sizeof *sums * (size_t)S);
  assert_non_null(sums);
  for (int64_t head = 0; head < probs->shape[0] * probs->shape[1]; head++) {
    for (int64_t k = 0; k < S; k++) sums[k] = 0;
    for (int64_t i = 0; i < Tq; i++) {
      const float *row = (const float *)ma_tensor_data(probs) + (head * Tq + i) * S;
      double nats = 0;
      for (int64_t k = 0; k < S; k++) {
        sums[k] += (double)row[k];
        if (row[k] > 0) nats -= (double)row[k] * log((double)row[k]);
      }
      near("entropy", (double)((const float *)ma_tensor_data(entropy))[head * Tq + i], nats, 1e-6 * (1 + nats));
    }
    for (int64_t k = 0; k < S; k++)
      near("received", (double)((const float *)ma_tensor_data(received))[head * S + k], sums[k], 1e-6 * sums[k]);
  }
  free(sums);
}

static void same_bytes(const ma_tensor *a, const ma_tensor *b) {
  assert_int_equal(ma_tensor_bytes(a), ma_tensor_bytes(b));
  assert_memory_equal(ma_tensor_data(a), ma_tensor_data(b), ma_tensor_bytes(a));
}

/* z as without tallies; tallies as those of the probabilities that exist, for any number of threads, together and apart. */
static void check_and_tally(const ma_tensor *z, const ma_tensor *probs, const ma_tensor *q, const ma_tensor *k,
                            const ma_tensor *v, const ma_attention_how *how) {
  ma_error err = {0};
  ma_tensor received = {0}, entropy = {0};
  int before = ma_threads();
  assert_int_equal(ma_attention_tally(&received, &entropy, probs, &err), MA_OK);
  check_tallies(probs, &received, &entropy);
  for (int threads = 1; threads <= 3; threads++) {
    ma_tensor other = {0}, by_key = {0}, by_query = {0}, alone = {0};
    ma_threads_set(threads);
    assert_int_equal(ma_attention_and_tally(&other, &by_key, &by_query, q, k, v, how, &err), MA_OK);
    same_bytes(&other, z);
    same_bytes(&by_key, &received);
    same_bytes(&by_query, &entropy);
    ma_tensor_release(&other);
    assert_int_equal(ma_attention_and_tally(&other, NULL, &alone, q, k, v, how, &err), MA_OK);
    same_bytes(&other, z);
    same_bytes(&alone, &entropy);
    ma_tensor_release(&alone);
    assert_int_equal(ma_attention_tally(&alone, NULL, probs, &err), MA_OK);
    same_bytes(&alone, &received);
    ma_tensor *all[] = {&other, &by_key, &by_query, &alone};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ma_tensor_release(all[i]);
  }
  ma_threads_set(before);
  ma_tensor_release(&received);
  ma_tensor_release(&entropy);
}

static void tallies_check_their_inputs(void **state) {
  (void)state;
  ma_error err = {0};
  int64_t shape[4] = {1, 2, 3, 4}, wrong[3] = {1, 2, 5};
  ma_tensor probs = make(4, shape, 1), flat = make(3, wrong, 1), out = {0};
  assert_int_equal(ma_attention_tally(&out, NULL, &flat, &err), MA_BAD_ARGUMENT);
  assert_int_equal(ma_attention_tally(&flat, NULL, &probs, &err), MA_BAD_ARGUMENT);
  assert_non_null(strstr(err.message, "[1 x 2 x 4]"));
  assert_null(out.storage);
  ma_tensor_release(&probs);
  ma_tensor_release(&flat);
}

/* Edited probabilities: zeros and negative ones count as nothing in the entropy, NaN stays, and all count in the sums. */
static void tallies_of_edited_probabilities(void **state) {
  (void)state;
  ma_error err = {0};
  int64_t shape[4] = {1, 1, 2, 3};
  float values[6] = {0.5f, -1, 0.5f, 0.25f, 0, NAN};
  ma_tensor probs = make(4, shape, 1), received = {0}, entropy = {0};
  memcpy(ma_tensor_data(&probs), values, sizeof values);
  assert_int_equal(ma_attention_tally(&received, &entropy, &probs, &err), MA_OK);
  const float *sums = ma_tensor_data(&received), *nats = ma_tensor_data(&entropy);
  assert_true(sums[0] == 0.75f && sums[1] == -1 && isnan(sums[2]));
  near("entropy", (double)nats[0], log(2), 1e-7);
  assert_true(isnan(nats[1]));
  ma_tensor *all[] = {&probs, &received, &entropy};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ma_tensor_release(all[i]);
}

/* With 16-bit steps the probabilities that are counted are the rounded ones. */
static void check_rounded(const ma_tensor *q, const ma_tensor *k, const ma_tensor *v, ma_attention_how how) {
  ma_error err = {0};
  for (int i = 0; i < 2; i++) {
    ma_tensor z = {0}, probs = {0};
    how.step = i == 0 ? MA_BF16 : MA_F16;
    assert_int_equal(ma_attention(&z, q, k, v, &how, &err), MA_OK);
    assert_int_equal(ma_attention_scores(&probs, q, k, &how, &err), MA_OK);
    assert_int_equal(ma_softmax(&probs, &probs, false, &err), MA_OK);
    assert_int_equal(ma_round_to(&probs, how.step, &probs, &err), MA_OK);
    check_and_tally(&z, &probs, q, k, v, &how);
    ma_tensor_release(&z);
    ma_tensor_release(&probs);
  }
}

/* Gradients of q, k, v, with seed 1 everywhere, from attention or from attention with tallies. */
static void gradients(ma_tensor grads[3], bool tallies) {
  ma_error err = {0};
  int64_t q_shape[4] = {2, 70, 4, 8}, k_shape[4] = {2, 70, 2, 8};
  ma_tensor q = make(4, q_shape, 1), k = make(4, k_shape, 2), v = make(4, k_shape, 3);
  ma_tensor z = {0}, received = {0}, entropy = {0}, loss = {0}, probs = {0};
  ma_tensor *inputs[3] = {&q, &k, &v};
  ma_attention_how how = {.scale = 0.3f};
  for (int i = 0; i < 3; i++) assert_int_equal(ma_tensor_require_grad(inputs[i], true, &err), MA_OK);
  if (tallies) assert_int_equal(ma_attention_and_tally(&z, &received, &entropy, &q, &k, &v, &how, &err), MA_OK);
  else assert_int_equal(ma_attention(&z, &q, &k, &v, &how, &err), MA_OK);
  assert_true(ma_tensor_is_tracked(&z) && !ma_tensor_is_tracked(&received) && !ma_tensor_is_tracked(&entropy));
  assert_int_equal(ma_attention_scores(&probs, &q, &k, &how, &err), MA_OK);
  ma_tensor_release(&received);
  assert_int_equal(ma_attention_tally(&received, NULL, &probs, &err), MA_OK);
  assert_false(ma_tensor_is_tracked(&received));
  assert_int_equal(ma_reduce(&loss, MA_REDUCE_sum, &z, MA_ALL, false, &err), MA_OK);
  assert_int_equal(ma_backward(&loss, NULL, false, NULL, &err), MA_OK);
  for (int i = 0; i < 3; i++) assert_int_equal(ma_tensor_grad(&grads[i], inputs[i], &err), MA_OK);
  ma_tensor *all[] = {&q, &k, &v, &z, &received, &entropy, &loss, &probs};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ma_tensor_release(all[i]);
}

/* ---- 16-bit queries, keys and values ---- */

/* What 16-bit inputs give is what the same numbers in f32 give, rounded once into `out`, tallies or not. */
static void check_stored(const ma_tensor narrow[3], const ma_tensor wide[3], ma_dtype out,
                         const ma_attention_how *how) {
  ma_error err = {0};
  ma_tensor in_f32 = {0}, expected = {0}, strided = {0}, room = {0}, packed = {0}, z = {0}, other = {0};
  ma_tensor received = {0}, sums = {0};
  int64_t shape[5] = {0, 0, 0, 0, 2};
  assert_int_equal(ma_attention(&in_f32, &wide[0], &wide[1], &wide[2], how, &err), MA_OK);
  assert_int_equal(ma_tensor_convert(&expected, &in_f32, out, &err), MA_OK);
  assert_int_equal(ma_tensor_new_like(&z, &in_f32, out, &err), MA_OK);
  assert_int_equal(ma_attention(&z, &narrow[0], &narrow[1], &narrow[2], how, &err), MA_OK);
  same_bytes(&z, &expected);
  memcpy(shape, z.shape, 4 * sizeof *shape);
  assert_int_equal(ma_tensor_new(&room, ma_device_cpu(), out, 5, shape, &err), MA_OK);
  assert_int_equal(ma_tensor_select(&strided, &room, 4, 1, &err), MA_OK);
  assert_int_equal(ma_attention(&strided, &narrow[0], &narrow[1], &narrow[2], how, &err), MA_OK);
  assert_int_equal(ma_tensor_convert(&packed, &strided, out, &err), MA_OK);
  same_bytes(&packed, &expected);
  other.dtype = out == MA_F32 ? narrow[0].dtype : out;
  assert_int_equal(ma_attention_and_tally(&other, &received, NULL, &narrow[0], &narrow[1], &narrow[2], how, &err),
                   MA_OK);
  assert_int_equal(ma_attention_and_tally(&z, &sums, NULL, &wide[0], &wide[1], &wide[2], how, &err), MA_OK);
  if (out != MA_F32) same_bytes(&other, &expected);
  same_bytes(&z, &expected);
  same_bytes(&received, &sums);
  ma_tensor *all[] = {&in_f32, &expected, &strided, &room, &packed, &z, &other, &received, &sums};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ma_tensor_release(all[i]);
}

static void sixteen_bits_are_widened_and_stored_once(void **state) {
  (void)state;
  ma_error err = {0};
  int64_t shapes[3][4] = {{2, 70, 4, 8}, {2, 90, 2, 8}, {2, 90, 2, 8}}, extra_shape[2] = {4, 8};
  ma_tensor key = make(2, extra_shape, 4), value = make(2, extra_shape, 5);
  ma_attention_how how = {.scale = 0.3f, .extra_key = &key, .extra_value = &value};
  for (int type = MA_F16; type <= MA_BF16; type++) {
    ma_tensor narrow[3] = {{0}, {0}, {0}}, wide[3] = {{0}, {0}, {0}}, made = {0};
    for (int i = 0; i < 3; i++) {
      ma_tensor numbers = make(4, shapes[i], (uint64_t)i + 1);
      assert_int_equal(ma_tensor_convert(&narrow[i], &numbers, (ma_dtype)type, &err), MA_OK);
      assert_int_equal(ma_tensor_convert(&wide[i], &narrow[i], MA_F32, &err), MA_OK);
      ma_tensor_release(&numbers);
    }
    for (int step = MA_F32; step <= MA_BF16; step++) {
      how.step = (ma_dtype)step;
      for (int out = MA_F32; out <= MA_BF16; out++) check_stored(narrow, wide, (ma_dtype)out, &how);
    }
    assert_int_equal(ma_attention(&made, &narrow[0], &narrow[1], &narrow[2], &how, &err), MA_OK);
    assert_int_equal(made.dtype, type);
    ma_tensor_release(&made);
    assert_int_equal(ma_attention(&made, &narrow[0], &wide[1], &wide[2], &how, &err), MA_BAD_ARGUMENT);
    assert_int_equal(ma_attention_scores(&made, &narrow[0], &narrow[1], &how, &err), MA_BAD_ARGUMENT);
    for (int i = 0; i < 3; i++) ma_tensor_release(&narrow[i]), ma_tensor_release(&wide[i]);
  }
  ma_tensor_release(&key);
  ma_tensor_release(&value);
}

/* The gradient of a sum of z's numbers: of leaves in `type`, which hold what bf16 holds. */
static void gradients_in(ma_tensor grads[3], ma_dtype type) {
  ma_error err = {0};
  int64_t q_shape[4] = {1, 66, 4, 8}, k_shape[4] = {1, 66, 2, 8};
  ma_tensor in[3] = {make(4, q_shape, 1), make(4, k_shape, 2), make(4, k_shape, 3)}, leaves[3], z = {0}, loss = {0};
  ma_attention_how how = {.scale = 0.3f, .step = MA_BF16};
  for (int i = 0; i < 3; i++) {
    assert_int_equal(ma_round_to(&in[i], MA_BF16, &in[i], &err), MA_OK);
    assert_int_equal(ma_tensor_convert(&leaves[i], &in[i], type, &err), MA_OK);
    assert_int_equal(ma_tensor_require_grad(&leaves[i], true, &err), MA_OK);
    ma_tensor_release(&in[i]);
  }
  assert_int_equal(ma_attention(&z, &leaves[0], &leaves[1], &leaves[2], &how, &err), MA_OK);
  assert_int_equal(z.dtype, type);
  assert_int_equal(ma_reduce(&loss, MA_REDUCE_sum, &z, MA_ALL, false, &err), MA_OK);
  assert_int_equal(ma_backward(&loss, NULL, false, NULL, &err), MA_OK);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(ma_tensor_grad(&grads[i], &leaves[i], &err), MA_OK);
    ma_tensor_release(&leaves[i]);
  }
  ma_tensor_release(&z);
  ma_tensor_release(&loss);
}

static void gradients_of_sixteen_bits_are_in_f32(void **state) {
  (void)state;
  ma_tensor of_16[3] = {{0}, {0}, {0}}, of_32[3] = {{0}, {0}, {0}};
  gradients_in(of_16, MA_BF16);
  gradients_in(of_32, MA_F32);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(of_16[i].dtype, MA_F32);
    same_bytes(&of_16[i], &of_32[i]);
    ma_tensor_release(&of_16[i]);
    ma_tensor_release(&of_32[i]);
  }
}

static void tallies_leave_gradients_alone(void **state) {
  (void)state;
  ma_tensor with[3] = {{0}, {0}, {0}}, without[3] = {{0}, {0}, {0}};
  gradients(with, true);
  gradients(without, false);
  for (int i = 0; i < 3; i++) {
    same_bytes(&with[i], &without[i]);
    ma_tensor_release(&with[i]);
    ma_tensor_release(&without[i]);
  }
}

/* ---- all of a case ---- */

static void run_case(const attention_case *c) {
  ma_error err = {0};
  int64_t q_shape[4] = {c->B, c->Tq, c->H, c->d}, k_shape[4] = {c->B, c->Tk, c->G, c->d}, extra_shape[2] = {c->H, c->d};
  ma_tensor q = make(4, q_shape, 1), k = make(4, k_shape, 2), v = make(4, k_shape, 3);
  ma_tensor key = make(2, extra_shape, 4), value = make(2, extra_shape, 5), z = {0}, scores = {0}, mixed = {0};
  float slopes[16];
  for (int h = 0; h < 16; h++) slopes[h] = powf(2, -0.5f * (float)(h + 1));
  ma_attention_how how = {.scale = 1 / sqrtf((float)c->d),
                          .softcap = c->softcap,
                          .window = c->window,
                          .alibi_slopes = c->has_alibi ? slopes : NULL,
                          .extra_key = c->has_extra ? &key : NULL,
                          .extra_value = c->has_extra ? &value : NULL};
  assert_int_equal(ma_attention(&z, &q, &k, &v, &how, &err), MA_OK);
  double *row = malloc(sizeof *row * (size_t)(c->Tk + 1));
  assert_non_null(row);
  for (int64_t b = 0; b < c->B; b++)
    for (int64_t h = 0; h < c->H; h++)
      for (int64_t i = 0; i < c->Tq; i++) {
        plain_scores(c, &q, &k, &how, b, i, h, row);
        check_row(c, &z, &v, &how, b, i, h, row);
      }
  free(row);
  assert_int_equal(ma_attention_scores(&scores, &q, &k, &how, &err), MA_OK);
  assert_int_equal(ma_softmax(&scores, &scores, false, &err), MA_OK);
  assert_int_equal(ma_attention_mix(&mixed, &scores, &v, &how, &err), MA_OK);
  assert_memory_equal(ma_tensor_data(&z), ma_tensor_data(&mixed), ma_tensor_bytes(&z));
  check_and_tally(&z, &scores, &q, &k, &v, &how);
  check_rounded(&q, &k, &v, how);
  ma_tensor *all[] = {&q, &k, &v, &key, &value, &z, &scores, &mixed};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ma_tensor_release(all[i]);
}

static void attention_is_what_its_formula_says(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) run_case(&cases[i]);
}

/* ---- cross-entropy from hidden states against cross-entropy from logits ---- */

static void losses_agree(void **state) {
  (void)state;
  ma_error err = {0};
  enum { N = 515, K = 9, V = 2051 };
  int64_t x_shape[2] = {N, K}, w_shape[2] = {V, K}, b_shape[1] = {V}, n_shape[1] = {N};
  ma_tensor x = make(2, x_shape, 1), w = make(2, w_shape, 2), bias = make(1, b_shape, 3), targets = {0};
  ma_tensor logits = {0}, a = {0}, b = {0};
  ma_logits_how how = {.scale = 1, .softcap = 0};
  assert_int_equal(ma_tensor_new(&targets, ma_device_cpu(), MA_I64, 1, n_shape, &err), MA_OK);
  for (int64_t i = 0; i < N; i++) ((int64_t *)ma_tensor_data(&targets))[i] = i % 50 == 0 ? -1 : i * 977 % V;
  assert_int_equal(ma_linear(&logits, &x, &w, &bias, &err), MA_OK);
  assert_int_equal(ma_cross_entropy(&a, &logits, &targets, &err), MA_OK);
  assert_int_equal(ma_linear_cross_entropy(&b, &x, &w, &bias, &targets, &how, &err), MA_OK);
  for (int64_t i = 0; i < N; i++) {
    const float *row = (const float *)ma_tensor_data(&logits) + i * V;
    double sum = 0;
    for (int64_t j = 0; j < V; j++) sum += exp((double)row[j]);
    int64_t target = ((const int64_t *)ma_tensor_data(&targets))[i];
    double expected = target < 0 ? 0 : log(sum) - (double)row[target];
    assert_true(fabs((double)((const float *)ma_tensor_data(&a))[i] - expected) <= 1e-5 * (1 + expected));
    assert_true(fabs((double)((const float *)ma_tensor_data(&b))[i] - expected) <= 1e-5 * (1 + expected));
  }
  ((int64_t *)ma_tensor_data(&targets))[3] = V;
  assert_int_equal(ma_cross_entropy(&a, &logits, &targets, &err), MA_BAD_ARGUMENT);
  ma_tensor *all[] = {&x, &w, &bias, &targets, &logits, &a, &b};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ma_tensor_release(all[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(attention_is_what_its_formula_says),
                                     cmocka_unit_test(tallies_check_their_inputs),
                                     cmocka_unit_test(tallies_of_edited_probabilities),
                                     cmocka_unit_test(tallies_leave_gradients_alone),
                                     cmocka_unit_test(sixteen_bits_are_widened_and_stored_once),
                                     cmocka_unit_test(gradients_of_sixteen_bits_are_in_f32),
                                     cmocka_unit_test(losses_agree)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
