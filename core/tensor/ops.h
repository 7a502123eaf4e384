/* Operations on tensors: one typed function for each row of ops.def, which documents them. */
#ifndef MASSACT_TENSOR_OPS_H
#define MASSACT_TENSOR_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"
#include "base/status.h"
#include "tensor/tensor.h"

/* MA_UNARY(kind, doc): one row an elementwise function; the Lua method has the row's name. */
#define MA_UNARIES(MA_UNARY)                                                        \
  MA_UNARY(neg, "-x")                                                               \
  MA_UNARY(abs, "|x|")                                                              \
  MA_UNARY(sign, "-1, 0 or 1")                                                      \
  MA_UNARY(exp, "e^x")                                                              \
  MA_UNARY(log, "natural logarithm")                                                \
  MA_UNARY(sqrt, "square root")                                                     \
  MA_UNARY(rsqrt, "1 / square root")                                                \
  MA_UNARY(square, "x^2")                                                           \
  MA_UNARY(reciprocal, "1 / x")                                                     \
  MA_UNARY(sin, "sine")                                                             \
  MA_UNARY(cos, "cosine")                                                           \
  MA_UNARY(tanh, "hyperbolic tangent")                                              \
  MA_UNARY(sigmoid, "1 / (1 + e^-x)")                                               \
  MA_UNARY(relu, "max(x, 0)")                                                       \
  MA_UNARY(silu, "x sigmoid(x)")                                                    \
  MA_UNARY(gelu, "x Phi(x), exact (erf)")                                           \
  MA_UNARY(gelu_tanh, "the tanh approximation of gelu (Hendrycks and Gimpel 2016)") \
  MA_UNARY(floor, "largest integer not above x")                                    \
  MA_UNARY(ceil, "smallest integer not below x")                                    \
  MA_UNARY(round, "nearest integer, ties to even")                                  \
  MA_UNARY(isnan, "1 where x is NaN (u8)")                                          \
  MA_UNARY(isinf, "1 where x is infinite (u8)")                                     \
  MA_UNARY(isfinite, "1 where x is finite (u8)")

#define MA_ARITHMETICS(MA_BINARY)             \
  MA_BINARY(add, "a + b")                     \
  MA_BINARY(sub, "a - b")                     \
  MA_BINARY(mul, "a * b")                     \
  MA_BINARY(div, "a / b (float result)")      \
  MA_BINARY(pow, "a ^ b")                     \
  MA_BINARY(mod, "a - b floor(a / b)")        \
  MA_BINARY(minimum, "the smaller; NaN wins") \
  MA_BINARY(maximum, "the larger; NaN wins")

#define MA_COMPARISONS(MA_BINARY) \
  MA_BINARY(gt, "a > b (u8)")     \
  MA_BINARY(ge, "a >= b (u8)")    \
  MA_BINARY(lt, "a < b (u8)")     \
  MA_BINARY(le, "a <= b (u8)")    \
  MA_BINARY(eq, "a == b (u8)")    \
  MA_BINARY(ne, "a ~= b (u8)")

#define MA_BINARIES(MA_BINARY) MA_ARITHMETICS(MA_BINARY) MA_COMPARISONS(MA_BINARY)

#define MA_REDUCES(MA_REDUCE)                                     \
  MA_REDUCE(sum, "sum")                                           \
  MA_REDUCE(mean, "mean")                                         \
  MA_REDUCE(prod, "product")                                      \
  MA_REDUCE(max, "largest; NaN wins")                             \
  MA_REDUCE(min, "smallest; NaN wins")                            \
  MA_REDUCE(argmax, "index of the largest, the first of equals")  \
  MA_REDUCE(argmin, "index of the smallest, the first of equals") \
  MA_REDUCE(var, "variance, n - 1")                               \
  MA_REDUCE(std, "standard deviation, n - 1")                     \
  MA_REDUCE(norm, "Euclidean norm")                               \
  MA_REDUCE(any, "1 when any is not 0 (u8)")                      \
  MA_REDUCE(all, "1 when none is 0 (u8)")

typedef enum ma_unary_kind {
#define MA_UNARY(name, doc) MA_UNARY_##name,
  MA_UNARIES(MA_UNARY)
#undef MA_UNARY
      MA_N_UNARY
} ma_unary_kind;

typedef enum ma_binary_kind {
#define MA_BINARY(name, doc) MA_BINARY_##name,
  MA_BINARIES(MA_BINARY)
#undef MA_BINARY
      MA_N_BINARY
} ma_binary_kind;

typedef enum ma_reduce_kind {
#define MA_REDUCE(name, doc) MA_REDUCE_##name,
  MA_REDUCES(MA_REDUCE)
#undef MA_REDUCE
      MA_N_REDUCE
} ma_reduce_kind;

typedef enum ma_random_kind { MA_RANDOM_UNIFORM, MA_RANDOM_NORMAL } ma_random_kind;

enum { MA_ALL = -1, MA_MAX_TOP = 64 };

/* ---- statistics of one tensor (what a probe reports) ---- */

enum {
  MA_STAT_TOP = 1,        /* the n_top largest |a|, with their flat index and signed value */
  MA_STAT_MEDIAN = 2,     /* lower median of |a|, exact */
  MA_STAT_MOMENTS = 4,    /* mean, std (n), kurtosis E[(a - mean)^4] / std^4, of a, in f64 */
  MA_STAT_NORMS = 8,      /* l1, l2 */
  MA_STAT_NONFINITE = 16, /* how many are NaN or infinite, and how many would overflow f16 */
  MA_STAT_EXTREMES = 32   /* signed min and max */
};

typedef struct ma_stats {
  int64_t count;
  int n_top;
  int64_t top_index[MA_MAX_TOP]; /* row-major flat index; larger |a| first, ties by lower index */
  double top_value[MA_MAX_TOP];  /* signed */
  double median, mean, std, kurtosis, l1, l2, min, max;
  int64_t n_nonfinite, n_over_f16;
} ma_stats;

/* ---- norms and activations ---- */

typedef struct ma_norm_how {
  double eps, offset; /* the weight is added to the offset */
  ma_dtype step;      /* of rms_norm: what the weight multiplies is rounded to it; f32: not */
} ma_norm_how;

typedef struct ma_gated_how {
  ma_unary_kind activation;
  ma_dtype step; /* the activation is rounded to it before it multiplies; f32: not */
  bool
      is_eager; /* of gelu_tanh: each operation in it is rounded to the step, as where transformers' gelu_new runs in Python */
} ma_gated_how;

/* ---- attention (Vaswani et al. 2017, eq. 1, and what later models added) ---- */

typedef struct ma_attention_how {
  float scale;                  /* multiplies q k^T */
  float softcap;                /* c tanh(s / c) after scaling, 0: none (Gemma 2) */
  int64_t window;               /* a query sees its last `window` keys, itself among them; 0: all */
  const float *alibi_slopes;    /* [H] host array, score += slope (k - last key); with an extra
                                 * key, slope (k - q); or NULL (Press et al. 2022) */
  const ma_tensor *extra_key;   /* [H d] one more key and value a head, first, never rotated, seen by */
  const ma_tensor *extra_value; /* every query (Sun et al. 2024, section 4), or NULL */
  ma_dtype step;                /* scores and probabilities are rounded to it after each step; f32: not at all */
} ma_attention_how;

/* How hidden states become logits. */
typedef struct ma_logits_how {
  float scale;   /* multiplies the logits; 0 means 1 */
  float softcap; /* then c tanh(l / c); 0: none */
  ma_dtype step; /* they are rounded to it after each step; f32: not at all */
} ma_logits_how;

/* ---- training ---- */

typedef struct ma_adamw_how {
  double rate, beta1, beta2, eps, weight_decay;
  double scale; /* multiplies the gradient, where its norm is clipped */
  int64_t step; /* from 1 */
} ma_adamw_how;

#define MA_OP(name, params, doc) ma_status ma_##name params;
#include "tensor/ops.def"
#undef MA_OP

/* Names and docs of the rows, for bindings, completion and tests. */
const char *ma_unary_name(ma_unary_kind kind);
const char *ma_binary_name(ma_binary_kind kind);
const char *ma_reduce_name(ma_reduce_kind kind);

/* A new contiguous copy with another dtype (or the same), on the same device. */
ma_status ma_tensor_convert(ma_tensor *out, const ma_tensor *a, ma_dtype dtype, ma_error *err);
/* A new contiguous copy on another device. */
ma_status ma_tensor_move(ma_tensor *out, const ma_tensor *a, ma_device *device, ma_error *err);

#endif
