/* GGUF's packed block types on the device, 16 elements at a time; core/backend/cpu/blocks.h describes the layouts. */
#ifndef MASSACT_BACKEND_CUDA_BLOCKS_CUH
#define MASSACT_BACKEND_CUDA_BLOCKS_CUH

#include "backend/cuda/element.cuh"

enum { MA_BLOCK_PART = 16 };

/* Blocks lie at any address: 16- and 32-bit fields are read bytewise. */
__device__ inline float ma_block_half(const uint8_t *at) {
  return ma_dev_f16_to_f32(static_cast<uint16_t>(at[0] | at[1] << 8));
}

/* The 6-bit scales of Q3_K's 16 parts: 4 low bits in the first 8 bytes, 2 high ones in the last 4. */
__device__ inline int ma_q3_k_scale(const uint8_t *s, int part) {
  const int low = part < 8 ? s[part] & 15 : s[part - 8] >> 4;
  const int high = s[8 + part % 4] >> (part / 4 * 2) & 3;
  return (low | high << 4) - 32;
}

/* The 6-bit scale and minimum of the 8 parts (of 32) of Q4_K and Q5_K, in 12 bytes. */
__device__ inline void ma_k4_scale(const uint8_t *s, int part, int *scale, int *least) {
  *scale = part < 4 ? s[part] & 63 : (s[part + 4] & 15) | s[part - 4] >> 6 << 4;
  *least = part < 4 ? s[part + 4] & 63 : s[part + 4] >> 4 | s[part] >> 6 << 4;
}

/* Nibbles of 32 elements (low ones 0..15, high ones 16..31), with a fifth bit an element in `high` where there is one. */
__device__ inline void ma_widen_nibbles(float *out, const uint8_t *nibbles, const uint8_t *high, int part, float d,
                                        float m) {
  for (int i = 0; i < MA_BLOCK_PART; i++) {
    const int element = part * MA_BLOCK_PART + i;
    const int fifth = high ? (high[element / 8] >> element % 8 & 1) << 4 : 0;
    out[i] = d * static_cast<float>((nibbles[i] >> part * 4 & 15) | fifth) + m;
  }
}

/* The 16 elements `part` (0, 1, ...) of block `b`. */
__device__ inline void ma_widen_part(float *out, ma_dtype dtype, const uint8_t *b, int part) {
  switch (dtype) {
    case MA_Q4_0: ma_widen_nibbles(out, b + 2, nullptr, part, ma_block_half(b), -8 * ma_block_half(b)); break;
    case MA_Q4_1: ma_widen_nibbles(out, b + 4, nullptr, part, ma_block_half(b), ma_block_half(b + 2)); break;
    case MA_Q5_0: ma_widen_nibbles(out, b + 6, b + 2, part, ma_block_half(b), -16 * ma_block_half(b)); break;
    case MA_Q5_1: ma_widen_nibbles(out, b + 8, b + 4, part, ma_block_half(b), ma_block_half(b + 2)); break;
    case MA_Q8_0:
      for (int i = 0; i < MA_BLOCK_PART; i++)
        out[i] = ma_block_half(b) * static_cast<float>(static_cast<int8_t>(b[2 + part * MA_BLOCK_PART + i]));
      break;
    case MA_Q2_K: {
      const uint8_t *from = b + 16 + part / 8 * 32 + part % 2 * 16;
      const int shift = part % 8 / 2 * 2;
      const float scale = ma_block_half(b + 80) * static_cast<float>(b[part] & 15);
      const float least = ma_block_half(b + 82) * static_cast<float>(b[part] >> 4);
      for (int i = 0; i < MA_BLOCK_PART; i++) out[i] = scale * static_cast<float>(from[i] >> shift & 3) - least;
      break;
    }
    case MA_Q3_K: {
      const uint8_t *from = b + 32 + part / 8 * 32 + part % 2 * 16, *high = b + part % 2 * 16;
      const int shift = part % 8 / 2 * 2, bit = part / 2;
      const float scale = ma_block_half(b + 108) * static_cast<float>(ma_q3_k_scale(b + 96, part));
      for (int i = 0; i < MA_BLOCK_PART; i++)
        out[i] = scale * static_cast<float>((from[i] >> shift & 3) - ((high[i] >> bit & 1) ? 0 : 4));
      break;
    }
    case MA_Q4_K:
    case MA_Q5_K: {
      const int whole = part / 2, column = part % 2 * 16, shift = whole % 2 * 4;
      const uint8_t *high = dtype == MA_Q5_K ? b + 16 + column : nullptr;
      const uint8_t *from = b + (high ? 48 : 16) + whole / 2 * 32 + column;
      int scale, least;
      ma_k4_scale(b + 4, whole, &scale, &least);
      const float by = ma_block_half(b) * static_cast<float>(scale),
                  minus = ma_block_half(b + 2) * static_cast<float>(least);
      for (int i = 0; i < MA_BLOCK_PART; i++) {
        const int fifth = high ? (high[i] >> whole & 1) << 4 : 0;
        out[i] = by * static_cast<float>((from[i] >> shift & 15) | fifth) - minus;
      }
      break;
    }
    case MA_Q6_K: {
      const int half = part / 8, column = part % 2 * 16, quarter = part % 8 / 2, shift = quarter / 2 * 4;
      const uint8_t *from = b + half * 64 + quarter % 2 * 32 + column, *bits = b + 128 + half * 32 + column;
      const float scale = ma_block_half(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + part]));
      for (int i = 0; i < MA_BLOCK_PART; i++)
        out[i] = scale * static_cast<float>(((from[i] >> shift & 15) | (bits[i] >> quarter * 2 & 3) << 4) - 32);
      break;
    }
    default: break;
  }
}

/* ---- the way back, rounded as ggml's reference quantizer does: q is taken with the unrounded scale ---- */

__device__ inline void ma_put_half(uint8_t *at, float x) {
  const uint16_t h = ma_dev_f16_from_f32(x);
  at[0] = static_cast<uint8_t>(h & 255);
  at[1] = static_cast<uint8_t>(h >> 8);
}

/* A whole number in [low, high]; NaN gives 0, so that no conversion is undefined. */
__device__ inline int ma_block_level(float x, float low, float high) {
  return x != x ? 0 : static_cast<int>(x < low ? low : x > high ? high : x);
}

/* d = max |x| / 127, q = x / d to nearest, halves away from 0. */
__device__ inline void ma_pack_q8_0(uint8_t *b, const float *x) {
  float largest = 0;
  for (int i = 0; i < 32; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
  const float d = largest / 127, inverse = d != 0 ? 1 / d : 0;
  ma_put_half(b, d);
  for (int i = 0; i < 32; i++) b[2 + i] = static_cast<uint8_t>(ma_block_level(roundf(x[i] * inverse), -127, 127));
}

/* The element of largest magnitude, the first of equals, becomes -8 (level 0): d = x / -8, q = trunc(x / d + 8.5). */
__device__ inline void ma_pack_q4_0(uint8_t *b, const float *x) {
  float extreme = 0;
  for (int i = 0; i < 32; i++)
    if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
  const float d = extreme / -8, inverse = d != 0 ? 1 / d : 0;
  ma_put_half(b, d);
  for (int i = 0; i < 16; i++) {
    const int low = ma_block_level(x[i] * inverse + 8.5f, 0, 15),
              high = ma_block_level(x[i + 16] * inverse + 8.5f, 0, 15);
    b[2 + i] = static_cast<uint8_t>(low | high << 4);
  }
}

#endif
