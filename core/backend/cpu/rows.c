/* Plain loops that compilers vectorise; built with -ffp-contract=fast but without -ffast-math, so that
 * infinities and NaNs stay what they are.  Reductions say `omp simd reduction`, which allows several partial
 * sums and nothing else. */
#include "backend/cpu/rows.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "backend/cpu/blocks.h"
#include "tensor/half.h"

#define PASTE(a, b) a##b
#define NAME(a, b)  PASTE(a, b)
#define TEXT_OF(a)  #a
#define TEXT(a)     TEXT_OF(a)

/* ---- functions of one number (polynomials: S. Moshier, Cephes; within 2 ulp) ---- */

static inline float exp_of(float x) {
  /* e^x = 2^n e^r with |r| <= ln 2 / 2; adding and subtracting 1.5 x 2^23 rounds to an integer. */
  float clamped = x > -87.33654f ? x : -87.33654f; /* NaN, too, becomes a number that an integer can hold */
  clamped = clamped < 88.72283f ? clamped : 88.72283f;
  float n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;
  float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  /* 2^128 is not a float: multiply by 2^(n - 1) and 2. */
  float y = p * ma_f32_of_bits((uint32_t)((int32_t)n + 126) << 23) * 2.0f;
  y = x < -87.33654f ? 0.0f : y;
  y = x > 88.72283f ? INFINITY : y;
  return x != x ? x : y;
}

/* Of positive normal numbers: x = 2^e m with m in [sqrt 1/2, sqrt 2). */
static inline float log_of(float x) {
  const uint32_t root_half = 0x3F3504F3; /* the bits of sqrt 1/2: exponents counted from there need no branch */
  uint32_t bits = ma_f32_bits(x) - root_half;
  float e = (float)((int32_t)bits >> 23);
  float m = ma_f32_of_bits((bits & 0x7FFFFFu) + root_half) - 1.0f;
  float z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float y = p * m * z - e * 2.12194440e-4f - 0.5f * z;
  return m + y + e * 0.693359375f;
}

static inline float tanh_of(float x) {
  float a = fabsf(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float small = p * z * x + x;
  float large = 1.0f - 2.0f / (exp_of(2.0f * a) + 1.0f);
  return a < 0.625f ? small : copysignf(large, x);
}

static inline float erf_of(float x) {
  float a = fabsf(x), z = x * x;
  float p = 7.853861353153693e-5f;
  p = p * z - 8.010193625184903e-4f;
  p = p * z + 5.188327685732524e-3f;
  p = p * z - 2.685381193529856e-2f;
  p = p * z + 1.128358514861418e-1f;
  p = p * z - 3.761262582423300e-1f;
  p = p * z + 1.128379165726710f;
  float q = 1.0f / (a < 1.0f ? 1.0f : a), y = q * q;
  float near = 2.326819970068386e-2f;
  near = near * y - 1.387039388740657e-1f;
  near = near * y + 3.687424674597105e-1f;
  near = near * y - 5.824733027278666e-1f;
  near = near * y + 6.210004621745983e-1f;
  near = near * y - 4.944515323274145e-1f;
  near = near * y + 3.404879937665872e-1f;
  near = near * y - 2.741127028184656e-1f;
  near = near * y + 5.638259427386472e-1f;
  float far = -1.047766399936249e+1f;
  far = far * y + 1.297719955372516e+1f;
  far = far * y - 7.495518717768503f;
  far = far * y + 2.921019019210786f;
  far = far * y - 1.015265279202700f;
  far = far * y + 4.218463358204948e-1f;
  far = far * y - 2.820767439740514e-1f;
  far = far * y + 5.641895067754075e-1f;
  float tail = 1.0f - exp_of(-z) * q * (a < 2.0f ? near : far);
  return a < 1.0f ? p * x : copysignf(tail, x);
}

static inline float sigmoid_of(float x) { return 1.0f / (1.0f + exp_of(-x)); }
static inline float silu_of(float x) { return x / (1.0f + exp_of(-x)); }
static inline float relu_of(float x) { return x < 0.0f ? 0.0f : x; }
static inline float gelu_of(float x) { return 0.5f * x * (1.0f + erf_of(x * 0.70710678f)); }
static inline float gelu_tanh_of(float x) {
  return 0.5f * x * (1.0f + tanh_of(0.79788456f * (x + 0.044715f * x * x * x)));
}

/* ---- rounding ---- */

static void round_to(float *out, const float *a, ma_dtype dtype, size_t n) {
  if (dtype == MA_BF16)
    for (size_t i = 0; i < n; i++) out[i] = ma_bf16_round(a[i]);
  else
    for (size_t i = 0; i < n; i++) out[i] = ma_f16_round(a[i]);
}

static inline float rounded(float x, ma_dtype dtype) { return dtype == MA_BF16 ? ma_bf16_round(x) : ma_f16_round(x); }

static void quantize(float *out, const float *a, float scale, float levels, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float whole = rintf(a[i] / scale);
    out[i] = scale * (whole < -levels ? -levels : whole > levels ? levels : whole);
  }
}

/* ---- elementwise ---- */

#define MAP(expression)              \
  do {                               \
    for (size_t i = 0; i < n; i++) { \
      float x = a[i];                \
      out[i] = (expression);         \
    }                                \
  } while (0);                       \
  break

static void unary(float *out, ma_unary_kind kind, const float *a, size_t n) {
  switch (kind) {
    case MA_UNARY_neg: MAP(-x);
    case MA_UNARY_abs: MAP(fabsf(x));
    case MA_UNARY_sign: MAP(x > 0 ? 1.0f : x < 0 ? -1.0f : x);
    case MA_UNARY_exp: MAP(exp_of(x));
    case MA_UNARY_log: MAP(logf(x));
    case MA_UNARY_sqrt: MAP(sqrtf(x));
    case MA_UNARY_rsqrt: MAP(1.0f / sqrtf(x));
    case MA_UNARY_square: MAP(x * x);
    case MA_UNARY_reciprocal: MAP(1.0f / x);
    case MA_UNARY_sin: MAP(sinf(x));
    case MA_UNARY_cos: MAP(cosf(x));
    case MA_UNARY_tanh: MAP(tanh_of(x));
    case MA_UNARY_sigmoid: MAP(sigmoid_of(x));
    case MA_UNARY_relu: MAP(relu_of(x));
    case MA_UNARY_silu: MAP(silu_of(x));
    case MA_UNARY_gelu: MAP(gelu_of(x));
    case MA_UNARY_gelu_tanh: MAP(gelu_tanh_of(x));
    case MA_UNARY_floor: MAP(floorf(x));
    case MA_UNARY_ceil: MAP(ceilf(x));
    case MA_UNARY_round: MAP(rintf(x));
    case MA_UNARY_isnan: MAP(x != x ? 1.0f : 0.0f);
    case MA_UNARY_isinf: MAP(fabsf(x) == INFINITY ? 1.0f : 0.0f);
    case MA_UNARY_isfinite: MAP(fabsf(x) < INFINITY ? 1.0f : 0.0f);
    case MA_N_UNARY: break;
  }
}
#undef MAP

#define MAP(expression)                           \
  do {                                            \
    for (size_t i = 0; i < n; i++) {              \
      float x = a[i * a_step], y = b[i * b_step]; \
      out[i] = (expression);                      \
    }                                             \
  } while (0);                                    \
  break

static inline __attribute__((always_inline)) void binary_steps(float *out, ma_binary_kind kind, const float *a,
                                                               size_t a_step, const float *b, size_t b_step, size_t n) {
  switch (kind) {
    case MA_BINARY_add: MAP(x + y);
    case MA_BINARY_sub: MAP(x - y);
    case MA_BINARY_mul: MAP(x * y);
    case MA_BINARY_div: MAP(x / y);
    case MA_BINARY_pow: MAP(powf(x, y));
    case MA_BINARY_mod: MAP(x - y * floorf(x / y));
    case MA_BINARY_minimum: MAP(x < y || x != x ? x : y);
    case MA_BINARY_maximum: MAP(x > y || x != x ? x : y);
    case MA_BINARY_gt: MAP(x > y ? 1.0f : 0.0f);
    case MA_BINARY_ge: MAP(x >= y ? 1.0f : 0.0f);
    case MA_BINARY_lt: MAP(x < y ? 1.0f : 0.0f);
    case MA_BINARY_le: MAP(x <= y ? 1.0f : 0.0f);
    case MA_BINARY_eq: MAP(x == y ? 1.0f : 0.0f);
    case MA_BINARY_ne: MAP(x != y ? 1.0f : 0.0f);
    case MA_N_BINARY: break;
  }
}
#undef MAP

/* Constant steps let the compiler see rows; the three combinations that occur are spelled out. */
static void binary(float *out, ma_binary_kind kind, const float *a, size_t a_step, const float *b, size_t b_step,
                   size_t n) {
  if (a_step == 1 && b_step == 1) binary_steps(out, kind, a, 1, b, 1, n);
  else if (a_step == 1) binary_steps(out, kind, a, 1, b, 0, n);
  else if (b_step == 1) binary_steps(out, kind, a, 0, b, 1, n);
  else binary_steps(out, kind, a, 0, b, 0, n);
}

/* ---- derivatives ---- */

static inline float sigmoid_slope(float x) {
  float s = sigmoid_of(x);
  return s * (1.0f - s);
}
static inline float silu_slope(float x) {
  float s = sigmoid_of(x);
  return s * (1.0f + x * (1.0f - s));
}
static inline float gelu_slope(float x) {
  return 0.5f * (1.0f + erf_of(x * 0.70710678f)) + x * 0.39894228f * exp_of(-0.5f * x * x);
}
static inline float gelu_tanh_slope(float x) {
  float t = tanh_of(0.79788456f * (x + 0.044715f * x * x * x));
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.79788456f * (1.0f + 3 * 0.044715f * x * x);
}
static inline float tanh_slope(float x) {
  float t = tanh_of(x);
  return 1.0f - t * t;
}

#define MAP(expression)              \
  do {                               \
    for (size_t i = 0; i < n; i++) { \
      float x = a[i];                \
      (void)x;                       \
      out[i] = g[i] * (expression);  \
    }                                \
  } while (0);                       \
  break

static void unary_grad(float *out, ma_unary_kind kind, const float *a, const float *g, size_t n) {
  switch (kind) {
    case MA_UNARY_neg: MAP(-1.0f);
    case MA_UNARY_abs: MAP(x > 0 ? 1.0f : x < 0 ? -1.0f : x);
    case MA_UNARY_exp: MAP(exp_of(x));
    case MA_UNARY_log: MAP(1.0f / x);
    case MA_UNARY_sqrt: MAP(0.5f / sqrtf(x));
    case MA_UNARY_rsqrt: MAP(-0.5f / (x * sqrtf(x)));
    case MA_UNARY_square: MAP(2.0f * x);
    case MA_UNARY_reciprocal: MAP(-1.0f / (x * x));
    case MA_UNARY_sin: MAP(cosf(x));
    case MA_UNARY_cos: MAP(-sinf(x));
    case MA_UNARY_tanh: MAP(tanh_slope(x));
    case MA_UNARY_sigmoid: MAP(sigmoid_slope(x));
    case MA_UNARY_relu: MAP(x > 0 ? 1.0f : 0.0f);
    case MA_UNARY_silu: MAP(silu_slope(x));
    case MA_UNARY_gelu: MAP(gelu_slope(x));
    case MA_UNARY_gelu_tanh: MAP(gelu_tanh_slope(x));
    default:
      for (size_t i = 0; i < n; i++) out[i] = 0; /* steps and questions */
  }
}
#undef MAP

#define MAP(expression)                           \
  do {                                            \
    for (size_t i = 0; i < n; i++) {              \
      float x = a[i * a_step], y = b[i * b_step]; \
      (void)x;                                    \
      (void)y;                                    \
      out[i] = g[i] * (expression);               \
    }                                             \
  } while (0);                                    \
  break

static inline __attribute__((always_inline)) void binary_slopes(float *out, ma_binary_kind kind, int side,
                                                                const float *a, size_t a_step, const float *b,
                                                                size_t b_step, const float *g, size_t n) {
  if (side == 0) {
    switch (kind) {
      case MA_BINARY_add:
      case MA_BINARY_sub:
      case MA_BINARY_mod: MAP(1.0f);
      case MA_BINARY_mul: MAP(y);
      case MA_BINARY_div: MAP(1.0f / y);
      case MA_BINARY_pow: MAP(y == 0 ? 0.0f : y * powf(x, y - 1.0f));
      case MA_BINARY_minimum: MAP(x < y || x != x ? 1.0f : x == y ? 0.5f : 0.0f);
      case MA_BINARY_maximum: MAP(x > y || x != x ? 1.0f : x == y ? 0.5f : 0.0f);
      default: MAP(0.0f);
    }
    return;
  }
  switch (kind) {
    case MA_BINARY_add: MAP(1.0f);
    case MA_BINARY_sub: MAP(-1.0f);
    case MA_BINARY_mul: MAP(x);
    case MA_BINARY_div: MAP(-x / (y * y));
    case MA_BINARY_pow: MAP(x == 0 && y >= 0 ? 0.0f : powf(x, y) * logf(x));
    case MA_BINARY_mod: MAP(-floorf(x / y));
    case MA_BINARY_minimum: MAP(x < y || x != x ? 0.0f : x == y ? 0.5f : 1.0f);
    case MA_BINARY_maximum: MAP(x > y || x != x ? 0.0f : x == y ? 0.5f : 1.0f);
    default: MAP(0.0f);
  }
}
#undef MAP

static void binary_grad(float *out, ma_binary_kind kind, int side, const float *a, size_t a_step, const float *b,
                        size_t b_step, const float *g, size_t n) {
  if (a_step == 1 && b_step == 1) binary_slopes(out, kind, side, a, 1, b, 1, g, n);
  else if (a_step == 1) binary_slopes(out, kind, side, a, 1, b, 0, g, n);
  else if (b_step == 1) binary_slopes(out, kind, side, a, 0, b, 1, g, n);
  else binary_slopes(out, kind, side, a, 0, b, 0, g, n);
}

static void gated(float *out, ma_unary_kind kind, const float *gate, const float *up, size_t n) {
#define GATE(f)                                               \
  for (size_t i = 0; i < n; i++) out[i] = f(gate[i]) * up[i]; \
  break
  switch (kind) {
    case MA_UNARY_silu: GATE(silu_of);
    case MA_UNARY_gelu: GATE(gelu_of);
    case MA_UNARY_gelu_tanh: GATE(gelu_tanh_of);
    case MA_UNARY_relu: GATE(relu_of);
    case MA_UNARY_sigmoid: GATE(sigmoid_of);
    default:
      /* No model gates with anything else; correct all the same, eight at a time. */
      for (size_t i = 0; i < n; i += 8) {
        float some[8];
        size_t m = n - i < 8 ? n - i : 8;
        unary(some, kind, gate + i, m);
        for (size_t j = 0; j < m; j++) out[i + j] = some[j] * up[i + j];
      }
  }
#undef GATE
}

static void gated_grad(float *gate_grad, float *up_grad, ma_unary_kind kind, const float *gate, const float *up,
                       const float *g, size_t n) {
  for (size_t i = 0; i < n; i += 512) {
    float some[512];
    size_t m = n - i < 512 ? n - i : 512;
    unary(some, kind, gate + i, m);
    for (size_t j = 0; j < m; j++) up_grad[i + j] = g[i + j] * some[j];
    for (size_t j = 0; j < m; j++) some[j] = g[i + j] * up[i + j];
    unary_grad(gate_grad + i, kind, gate + i, some, m);
  }
}

/* ---- reductions ---- */

static float row_max(const float *a, size_t n) {
  float most = -INFINITY;
  float nan = 0;
#pragma omp simd reduction(max : most) reduction(+ : nan)
  for (size_t i = 0; i < n; i++) {
    most = a[i] > most ? a[i] : most;
    nan += a[i] != a[i] ? 1.0f : 0.0f;
  }
  return nan > 0 ? NAN : most;
}

static float max_abs(const float *a, size_t n) {
  float most = 0;
#pragma omp simd reduction(max : most)
  for (size_t i = 0; i < n; i++) {
    float x = fabsf(a[i]);
    most = x > most ? x : most;
  }
  return most;
}

static float sum_exp(const float *a, float shift, size_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < n; i++) sum += exp_of(a[i] - shift);
  return sum;
}

/* Element i is added in lane i % 16, so that hidden columns (e^-inf = 0) at the end of a row, or 16 at its start, change no
 * bit of the sum: attention sees only part of the rows that attention_scores shows whole. */
static void softmax(float *out, const float *a, size_t n) {
  enum { LANES = 16 };
  float most = row_max(a, n), lanes[LANES] = {0}, sum = 0;
  size_t whole = n - n % LANES;
  for (size_t i = 0; i < whole; i += LANES) {
#pragma omp simd
    for (size_t j = 0; j < LANES; j++) {
      float e = exp_of(a[i + j] - most);
      out[i + j] = e;
      lanes[j] += e;
    }
  }
  for (size_t j = 0; whole + j < n; j++) {
    float e = exp_of(a[whole + j] - most);
    out[whole + j] = e;
    lanes[j] += e;
  }
  for (size_t j = 0; j < LANES; j++) sum += lanes[j];
  float scale = 1.0f / sum;
  for (size_t i = 0; i < n; i++) out[i] *= scale;
}

static void add_to(double *sums, const float *a, size_t n) {
  for (size_t i = 0; i < n; i++) sums[i] += (double)a[i];
}

/* 0 ln 0 = 0; a negative number, which only an edit makes, counts as 0; NaN stays. */
static inline float plogp_of(float p) {
  float term = p * log_of(p > FLT_MIN ? p : FLT_MIN);
  return p <= 0 ? 0 : term;
}

static double entropy(const float *p, size_t n) {
  enum { LANES = 16 };
  double lanes[LANES] = {0}, sum = 0;
  size_t whole = n - n % LANES;
  for (size_t i = 0; i < whole; i += LANES) {
    float terms[LANES]; /* a loop of one width each is what vectorises */
#pragma omp simd
    for (size_t j = 0; j < LANES; j++) terms[j] = plogp_of(p[i + j]);
#pragma omp simd
    for (size_t j = 0; j < LANES; j++) lanes[j] -= (double)terms[j];
  }
  for (size_t j = 0; whole + j < n; j++) lanes[j] -= (double)plogp_of(p[whole + j]);
  for (size_t j = 0; j < LANES; j++) sum += lanes[j];
  return sum;
}

static void soften_in_steps(float *a, float scale, float cap, ma_dtype step, size_t n) {
  float inner = cap == 0 ? 0 : 1.0f / cap;
  for (size_t i = 0; i < n; i++) a[i] = rounded(rounded(a[i], step) * scale, step);
  if (cap == 0) return;
  for (size_t i = 0; i < n; i++) a[i] = rounded(tanh_of(rounded(a[i] * inner, step)), step);
  for (size_t i = 0; i < n; i++) a[i] = rounded(a[i] * cap, step);
}

static void soften(float *a, float scale, float cap, ma_dtype step, size_t n) {
  if (step != MA_F32) {
    soften_in_steps(a, scale, cap, step, n);
  } else if (cap == 0) {
    if (scale == 1) return;
    for (size_t i = 0; i < n; i++) a[i] *= scale;
  } else {
    float inner = scale / cap;
    for (size_t i = 0; i < n; i++) a[i] = cap * tanh_of(a[i] * inner);
  }
}

/* ---- norms and position ---- */

static void scale_row(float *out, const float *x, float mean, float scale, const float *weight, const float *bias,
                      float offset, size_t n) {
  if (weight && bias)
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * scale * (offset + weight[i]) + bias[i];
  else if (weight)
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * scale * (offset + weight[i]);
  else
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * scale + (bias ? bias[i] : 0.0f);
}

static void rms_norm(float *out, const float *x, const float *weight, float eps, float offset, size_t n) {
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (size_t i = 0; i < n; i++) squares += x[i] * x[i];
  scale_row(out, x, 0, 1.0f / sqrtf(squares / (float)n + eps), weight, NULL, offset, n);
}

static void layer_norm(float *out, const float *x, const float *weight, const float *bias, float eps, float offset,
                       size_t n) {
  float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < n; i++) sum += x[i];
  float mean = sum / (float)n;
#pragma omp simd reduction(+ : squares)
  for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
  scale_row(out, x, mean, 1.0f / sqrtf(squares / (float)n + eps), weight, bias, offset, n);
}

static float dot(const float *a, const float *b, size_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

static void softmax_grad(float *out, const float *y, const float *g, int is_log, size_t n) {
  if (is_log) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += g[i];
    for (size_t i = 0; i < n; i++) out[i] = g[i] - exp_of(y[i]) * sum;
  } else {
    float sum = dot(y, g, n);
    for (size_t i = 0; i < n; i++) out[i] = y[i] * (g[i] - sum);
  }
}

/* The gradient of (x - mean) scale, given h = g (offset + weight) and the normalised row z: scale (h - m - z sum(h z) / n), with
 * m the mean of h where there is a mean. */
static void normalise_grad(float *out, float *weight_sum, const float *x, const float *weight, const float *g,
                           float mean, float scale, float offset, int has_mean, size_t n) {
  float sum = 0, along = 0;
#pragma omp simd reduction(+ : sum, along)
  for (size_t i = 0; i < n; i++) {
    float h = weight ? g[i] * (offset + weight[i]) : g[i];
    sum += h;
    along += h * ((x[i] - mean) * scale);
  }
  float m = has_mean ? sum / (float)n : 0;
  along /= (float)n;
  for (size_t i = 0; i < n; i++) {
    float h = weight ? g[i] * (offset + weight[i]) : g[i], z = (x[i] - mean) * scale;
    if (weight_sum) weight_sum[i] += g[i] * z;
    out[i] = scale * (h - m - z * along);
  }
}

static void rms_norm_grad(float *out, float *weight_sum, const float *x, const float *weight, const float *g, float eps,
                          float offset, size_t n) {
  normalise_grad(out, weight_sum, x, weight, g, 0, 1.0f / sqrtf(dot(x, x, n) / (float)n + eps), offset, 0, n);
}

static void layer_norm_grad(float *out, float *weight_sum, const float *x, const float *weight, const float *g,
                            float eps, float offset, size_t n) {
  float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < n; i++) sum += x[i];
  float mean = sum / (float)n;
#pragma omp simd reduction(+ : squares)
  for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
  normalise_grad(out, weight_sum, x, weight, g, mean, 1.0f / sqrtf(squares / (float)n + eps), offset, 1, n);
}

static float dyt_grad(float *out, float *weight_sum, const float *x, float alpha, const float *weight, const float *g,
                      size_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < n; i++) {
    float t = tanh_of(alpha * x[i]), h = g[i] * weight[i] * (1.0f - t * t);
    weight_sum[i] += g[i] * t;
    sum += h * x[i];
    out[i] = h * alpha;
  }
  return sum;
}

static void attention_grad(float *p, const float *g, const float *scores, float scale, float cap, size_t n) {
  float sum = dot(p, g, n);
  if (cap == 0) {
    for (size_t i = 0; i < n; i++) p[i] = scale * (p[i] * (g[i] - sum));
    return;
  }
  for (size_t i = 0; i < n; i++) {
    float t = scores[i] / cap, slope = scale * (1.0f - t * t);
    p[i] = p[i] == 0 ? 0 : slope * (p[i] * (g[i] - sum));
  }
}

static float loss_grad(float *logits, float rate, float cap, int64_t target, size_t n) {
  float most = row_max(logits, n), at = logits[target], sum = 0;
  if (cap == 0) {
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
      float e = exp_of(logits[i] - most);
      logits[i] = e;
      sum += e;
    }
    float scale = rate / sum;
    for (size_t i = 0; i < n; i++) logits[i] *= scale;
    logits[target] -= rate;
    return most + logf(sum) - at;
  }
  sum = sum_exp(logits, most, n);
  float scale = rate / sum;
  for (size_t i = 0; i < n; i++) {
    float t = logits[i] / cap;
    logits[i] = exp_of(logits[i] - most) * scale * (1.0f - t * t);
  }
  logits[target] -= rate * (1.0f - at / cap * (at / cap));
  return most + logf(sum) - at;
}

static void dyt(float *out, const float *x, float alpha, const float *weight, const float *bias, size_t n) {
  for (size_t i = 0; i < n; i++) out[i] = weight[i] * tanh_of(alpha * x[i]) + (bias ? bias[i] : 0.0f);
}

static void turn(float *out, const float *x, const float *cosine, const float *sine, size_t half) {
  for (size_t i = 0; i < half; i++) {
    float first = x[i], second = x[i + half];
    out[i] = first * cosine[i] - second * sine[i];
    out[i + half] = second * cosine[i] + first * sine[i];
  }
}

static void turn_in_steps(float *out, const float *x, const float *cosine, const float *sine, size_t half,
                          ma_dtype step) {
  for (size_t i = 0; i < half; i++) {
    float first = x[i], second = x[i + half];
    out[i] = rounded(first * cosine[i], step) - rounded(second * sine[i], step);
    out[i + half] = rounded(second * cosine[i], step) + rounded(first * sine[i], step);
  }
}

static void rope(float *out, const float *x, const float *cosine, const float *sine, size_t half, ma_dtype step,
                 size_t n) {
  if (step == MA_F32) turn(out, x, cosine, sine, half);
  else turn_in_steps(out, x, cosine, sine, half, step);
  if (out != x) memcpy(out + 2 * half, x + 2 * half, (n - 2 * half) * sizeof *x);
}

/* ---- dtypes ---- */

static void widen(float *out, const void *in, ma_dtype dtype, size_t n) {
  switch (dtype) {
    case MA_F32: memcpy(out, in, n * sizeof *out); break;
    case MA_F16:
      for (size_t i = 0; i < n; i++) out[i] = ma_f16_to_f32(((const uint16_t *)in)[i]);
      break;
    case MA_BF16:
      for (size_t i = 0; i < n; i++) out[i] = ma_bf16_to_f32(((const uint16_t *)in)[i]);
      break;
    case MA_I32:
      for (size_t i = 0; i < n; i++) out[i] = (float)((const int32_t *)in)[i];
      break;
    case MA_I64:
      for (size_t i = 0; i < n; i++) out[i] = (float)((const int64_t *)in)[i];
      break;
    case MA_U8:
      for (size_t i = 0; i < n; i++) out[i] = (float)((const uint8_t *)in)[i];
      break;
    default: ma_blocks_widen(out, in, dtype, n);
  }
}

static void narrow(void *out, const float *in, ma_dtype dtype, size_t n) {
  switch (dtype) {
    case MA_F16:
      for (size_t i = 0; i < n; i++) ((uint16_t *)out)[i] = ma_f16_from_f32(in[i]);
      break;
    case MA_BF16:
      for (size_t i = 0; i < n; i++) ((uint16_t *)out)[i] = ma_bf16_from_f32(in[i]);
      break;
    case MA_U8:
      for (size_t i = 0; i < n; i++) ((uint8_t *)out)[i] = (uint8_t)(in[i] != 0);
      break;
    case MA_Q4_0:
    case MA_Q8_0: ma_blocks_pack(out, in, dtype, n); break;
    default: memcpy(out, in, n * sizeof *in);
  }
}

extern const ma_rows NAME(ma_rows_, MA_ISA);
const ma_rows NAME(ma_rows_, MA_ISA) = {
    .name = TEXT(MA_ISA),
    .widen = widen,
    .narrow = narrow,
    .round_to = round_to,
    .quantize = quantize,
    .unary = unary,
    .binary = binary,
    .unary_grad = unary_grad,
    .binary_grad = binary_grad,
    .gated = gated,
    .max = row_max,
    .max_abs = max_abs,
    .sum_exp = sum_exp,
    .softmax = softmax,
    .add_to = add_to,
    .entropy = entropy,
    .soften = soften,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .softmax_grad = softmax_grad,
    .rms_norm_grad = rms_norm_grad,
    .layer_norm_grad = layer_norm_grad,
    .dyt_grad = dyt_grad,
    .gated_grad = gated_grad,
    .attention_grad = attention_grad,
    .loss_grad = loss_grad,
    .dyt = dyt,
    .rope = rope,
};
