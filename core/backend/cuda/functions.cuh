/* The functions of one and two numbers, and their derivatives: core/backend/cpu/rows.c has the same, term by term. */
#ifndef MASSACT_BACKEND_CUDA_FUNCTIONS_CUH
#define MASSACT_BACKEND_CUDA_FUNCTIONS_CUH

#include "backend/cuda/launch.cuh"

__device__ inline float ma_sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ inline float ma_gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678f)); }
__device__ inline float ma_gelu_tanh_inner(float x) { return tanhf(0.79788456f * (x + 0.044715f * x * x * x)); }
__device__ inline float ma_sign(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }

/* Kinds with a u8 result give 0 and 1. */
__device__ inline float ma_unary_of(ma_unary_kind kind, float x) {
  switch (kind) {
    case MA_UNARY_neg: return -x;
    case MA_UNARY_abs: return fabsf(x);
    case MA_UNARY_sign: return ma_sign(x);
    case MA_UNARY_exp: return expf(x);
    case MA_UNARY_log: return logf(x);
    case MA_UNARY_sqrt: return sqrtf(x);
    case MA_UNARY_rsqrt: return 1.0f / sqrtf(x);
    case MA_UNARY_square: return x * x;
    case MA_UNARY_reciprocal: return 1.0f / x;
    case MA_UNARY_sin: return sinf(x);
    case MA_UNARY_cos: return cosf(x);
    case MA_UNARY_tanh: return tanhf(x);
    case MA_UNARY_sigmoid: return ma_sigmoid(x);
    case MA_UNARY_relu: return x < 0.0f ? 0.0f : x;
    case MA_UNARY_silu: return x / (1.0f + expf(-x));
    case MA_UNARY_gelu: return ma_gelu(x);
    case MA_UNARY_gelu_tanh: return 0.5f * x * (1.0f + ma_gelu_tanh_inner(x));
    case MA_UNARY_floor: return floorf(x);
    case MA_UNARY_ceil: return ceilf(x);
    case MA_UNARY_round: return rintf(x);
    case MA_UNARY_isnan: return x != x ? 1.0f : 0.0f;
    case MA_UNARY_isinf: return fabsf(x) == INFINITY ? 1.0f : 0.0f;
    case MA_UNARY_isfinite: return fabsf(x) < INFINITY ? 1.0f : 0.0f;
    default: return 0;
  }
}

__device__ inline float ma_unary_slope(ma_unary_kind kind, float x) {
  switch (kind) {
    case MA_UNARY_neg: return -1.0f;
    case MA_UNARY_abs: return ma_sign(x);
    case MA_UNARY_exp: return expf(x);
    case MA_UNARY_log: return 1.0f / x;
    case MA_UNARY_sqrt: return 0.5f / sqrtf(x);
    case MA_UNARY_rsqrt: return -0.5f / (x * sqrtf(x));
    case MA_UNARY_square: return 2.0f * x;
    case MA_UNARY_reciprocal: return -1.0f / (x * x);
    case MA_UNARY_sin: return cosf(x);
    case MA_UNARY_cos: return -sinf(x);
    case MA_UNARY_tanh: {
      const float t = tanhf(x);
      return 1.0f - t * t;
    }
    case MA_UNARY_sigmoid: {
      const float s = ma_sigmoid(x);
      return s * (1.0f - s);
    }
    case MA_UNARY_relu: return x > 0 ? 1.0f : 0.0f;
    case MA_UNARY_silu: {
      const float s = ma_sigmoid(x);
      return s * (1.0f + x * (1.0f - s));
    }
    case MA_UNARY_gelu: return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    case MA_UNARY_gelu_tanh: {
      const float t = ma_gelu_tanh_inner(x);
      return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.79788456f * (1.0f + 3 * 0.044715f * x * x);
    }
    default: return 0; /* steps and questions */
  }
}

/* Whether a slope that is 0 everywhere passes nothing on, not even NaN: 0 times g is then 0. */
__device__ inline bool ma_unary_is_flat(ma_unary_kind kind) {
  return kind == MA_UNARY_sign || (kind >= MA_UNARY_floor && kind <= MA_UNARY_isfinite);
}

__device__ inline float ma_pow(float x, float y) { return powf(x, y); }
__device__ inline double ma_pow(double x, double y) { return pow(x, y); }
__device__ inline float ma_floor(float x) { return floorf(x); }
__device__ inline double ma_floor(double x) { return floor(x); }

/* Of f32, or of double for integers. */
template <typename T>
__device__ inline T ma_binary_of(ma_binary_kind kind, T x, T y) {
  switch (kind) {
    case MA_BINARY_add: return x + y;
    case MA_BINARY_sub: return x - y;
    case MA_BINARY_mul: return x * y;
    case MA_BINARY_div: return x / y;
    case MA_BINARY_pow: return ma_pow(x, y);
    case MA_BINARY_mod: return x - y * ma_floor(x / y);
    case MA_BINARY_minimum: return x < y || x != x ? x : y;
    case MA_BINARY_maximum: return x > y || x != x ? x : y;
    case MA_BINARY_gt: return static_cast<T>(x > y);
    case MA_BINARY_ge: return static_cast<T>(x >= y);
    case MA_BINARY_lt: return static_cast<T>(x < y);
    case MA_BINARY_le: return static_cast<T>(x <= y);
    case MA_BINARY_eq: return static_cast<T>(x == y);
    default: return static_cast<T>(x != y);
  }
}

/* By x (side 0) or y (1). */
__device__ inline float ma_binary_slope(ma_binary_kind kind, int side, float x, float y) {
  if (side == 0) {
    switch (kind) {
      case MA_BINARY_add:
      case MA_BINARY_sub:
      case MA_BINARY_mod: return 1.0f;
      case MA_BINARY_mul: return y;
      case MA_BINARY_div: return 1.0f / y;
      case MA_BINARY_pow: return y == 0 ? 0.0f : y * powf(x, y - 1.0f);
      case MA_BINARY_minimum: return x < y || x != x ? 1.0f : x == y ? 0.5f : 0.0f;
      case MA_BINARY_maximum: return x > y || x != x ? 1.0f : x == y ? 0.5f : 0.0f;
      default: return 0;
    }
  }
  switch (kind) {
    case MA_BINARY_add: return 1.0f;
    case MA_BINARY_sub: return -1.0f;
    case MA_BINARY_mul: return x;
    case MA_BINARY_div: return -x / (y * y);
    case MA_BINARY_pow: return x == 0 && y >= 0 ? 0.0f : powf(x, y) * logf(x);
    case MA_BINARY_mod: return -floorf(x / y);
    case MA_BINARY_minimum: return x < y || x != x ? 0.0f : x == y ? 0.5f : 1.0f;
    case MA_BINARY_maximum: return x > y || x != x ? 0.0f : x == y ? 0.5f : 1.0f;
    default: return 0;
  }
}

#endif
