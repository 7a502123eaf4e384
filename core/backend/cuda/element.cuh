/* Elements of every plain type, as f32 or as double, on the device. */
#ifndef MASSACT_BACKEND_CUDA_ELEMENT_CUH
#define MASSACT_BACKEND_CUDA_ELEMENT_CUH

#include "backend/cuda/launch.cuh"
#include "tensor/half.h"
#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

/* ---- the two 16-bit floats, to nearest, ties to even: half.h for the device ---- */

__device__ inline float ma_dev_bf16_to_f32(uint16_t h) { return __uint_as_float(static_cast<unsigned>(h) << 16); }

__device__ inline uint16_t ma_dev_bf16_from_f32(float x) {
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>(bits >> 16 | 0x40); /* NaN stays NaN */
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

__device__ inline float ma_dev_f16_to_f32(uint16_t h) {
#ifdef __CUDACC__
  return __half2float(__ushort_as_half(h));
#else
  return ma_f16_to_f32(h);
#endif
}

__device__ inline uint16_t ma_dev_f16_from_f32(float x) {
#ifdef __CUDACC__
  return __half_as_ushort(__float2half_rn(x));
#else
  return ma_f16_from_f32(x);
#endif
}

/* The nearest f32 that the type holds; of f32, the number itself. */
__device__ inline float ma_dev_round(float x, ma_dtype dtype) {
  if (dtype == MA_BF16) return ma_dev_bf16_to_f32(ma_dev_bf16_from_f32(x));
  if (dtype == MA_F16) return ma_dev_f16_to_f32(ma_dev_f16_from_f32(x));
  return x;
}

/* ---- a type of C++ for each float, for kernels that are compiled once a type ---- */

struct ma_bf16 {
  uint16_t bits;
};
struct ma_f16 {
  uint16_t bits;
};

__device__ inline float ma_to_f32(float x) { return x; }
__device__ inline float ma_to_f32(ma_bf16 x) { return ma_dev_bf16_to_f32(x.bits); }
__device__ inline float ma_to_f32(ma_f16 x) { return ma_dev_f16_to_f32(x.bits); }
__device__ inline void ma_from_f32(float *to, float x) { *to = x; }
__device__ inline void ma_from_f32(ma_bf16 *to, float x) { to->bits = ma_dev_bf16_from_f32(x); }
__device__ inline void ma_from_f32(ma_f16 *to, float x) { to->bits = ma_dev_f16_from_f32(x); }

/* ---- one element, whatever its type ---- */

/* As f32, which holds f32, f16, bf16 and u8 exactly. */
__device__ inline float ma_load_f32(const void *data, ma_dtype dtype, int64_t at) {
  switch (dtype) {
    case MA_F32: return static_cast<const float *>(data)[at];
    case MA_F16: return ma_dev_f16_to_f32(static_cast<const uint16_t *>(data)[at]);
    case MA_BF16: return ma_dev_bf16_to_f32(static_cast<const uint16_t *>(data)[at]);
    case MA_I32: return static_cast<float>(static_cast<const int32_t *>(data)[at]);
    case MA_I64: return static_cast<float>(static_cast<const int64_t *>(data)[at]);
    case MA_U8: return static_cast<float>(static_cast<const uint8_t *>(data)[at]);
    default: return 0; /* block types have no single elements; operations refuse them */
  }
}

/* As double, which holds whole numbers up to 2^53 exactly. */
__device__ inline double ma_load_double(const void *data, ma_dtype dtype, int64_t at) {
  switch (dtype) {
    case MA_I32: return static_cast<double>(static_cast<const int32_t *>(data)[at]);
    case MA_I64: return static_cast<double>(static_cast<const int64_t *>(data)[at]);
    default: return static_cast<double>(ma_load_f32(data, dtype, at));
  }
}

/* Of an index tensor, i32 or i64. */
__device__ inline int64_t ma_load_index(const void *data, ma_dtype dtype, int64_t at) {
  return dtype == MA_I64 ? static_cast<const int64_t *>(data)[at] : static_cast<const int32_t *>(data)[at];
}

/* Integers saturate, NaN gives 0: C leaves the conversion of what does not fit undefined. */
__device__ inline double ma_saturate(double value, double low, double high) {
  return value != value ? 0 : value < low ? low : value > high ? high : value;
}

__device__ inline void ma_store_double(void *data, ma_dtype dtype, int64_t at, double value) {
  switch (dtype) {
    case MA_F32: static_cast<float *>(data)[at] = static_cast<float>(value); break;
    case MA_F16: static_cast<uint16_t *>(data)[at] = ma_dev_f16_from_f32(static_cast<float>(value)); break;
    case MA_BF16: static_cast<uint16_t *>(data)[at] = ma_dev_bf16_from_f32(static_cast<float>(value)); break;
    case MA_I32:
      static_cast<int32_t *>(data)[at] = static_cast<int32_t>(ma_saturate(value, -2147483648.0, 2147483647.0));
      break;
    case MA_I64:
      static_cast<int64_t *>(data)[at] =
          static_cast<int64_t>(ma_saturate(value, -9223372036854775808.0, 9223372036854774784.0));
      break;
    case MA_U8: static_cast<uint8_t *>(data)[at] = static_cast<uint8_t>(ma_saturate(value, 0, 255)); break;
    default: break; /* block types are written a block at a time */
  }
}

__device__ inline void ma_store_f32(void *data, ma_dtype dtype, int64_t at, float value) {
  switch (dtype) {
    case MA_F32: static_cast<float *>(data)[at] = value; break;
    case MA_F16: static_cast<uint16_t *>(data)[at] = ma_dev_f16_from_f32(value); break;
    case MA_BF16: static_cast<uint16_t *>(data)[at] = ma_dev_bf16_from_f32(value); break;
    default: ma_store_double(data, dtype, at, static_cast<double>(value)); break;
  }
}

#endif
