/* GGUF's packed block types, to f32 and (Q4_0, Q8_0) from it.  Layouts: ggml's block_q4_0 ... block_q6_K.  A
 * legacy block (32 elements) is value = d q + m; a K block (256 elements) has 8 or 16 parts with a scale of their own.
 * Included by rows.c, so that each instruction set has its build. */
#ifndef MASSACT_BACKEND_CPU_BLOCKS_H
#define MASSACT_BACKEND_CPU_BLOCKS_H

#include <math.h>
#include <string.h>

#include "tensor/dtype.h"
#include "tensor/half.h"

/* Blocks lie at any address: 16- and 32-bit fields are read bytewise. */
static inline float block_half(const uint8_t *at) { return ma_f16_to_f32((uint16_t)(at[0] | at[1] << 8)); }

static inline uint32_t block_u32(const uint8_t *at) {
  uint32_t bits;
  memcpy(&bits, at, sizeof bits);
  return bits;
}

/* ---- 32 elements ---- */

/* Low nibbles are elements 0..15, high ones 16..31. */
static inline void widen_nibbles(float *out, const uint8_t *nibbles, float d, float m) {
  for (int i = 0; i < 16; i++) out[i] = d * (float)(nibbles[i] & 15) + m;
  for (int i = 0; i < 16; i++) out[i + 16] = d * (float)(nibbles[i] >> 4) + m;
}

/* The same with a fifth bit, packed in `high` by element. */
static inline void widen_fives(float *out, const uint8_t *nibbles, uint32_t high, float d, float m) {
  for (int i = 0; i < 16; i++) out[i] = d * (float)((nibbles[i] & 15) | (int)((high >> i & 1) << 4)) + m;
  for (int i = 0; i < 16; i++) out[i + 16] = d * (float)(nibbles[i] >> 4 | (int)((high >> (i + 16) & 1) << 4)) + m;
}

static inline void widen_q4_0(float *out, const uint8_t *b) {
  float d = block_half(b);
  widen_nibbles(out, b + 2, d, -8 * d);
}

static inline void widen_q4_1(float *out, const uint8_t *b) {
  widen_nibbles(out, b + 4, block_half(b), block_half(b + 2));
}

static inline void widen_q5_0(float *out, const uint8_t *b) {
  float d = block_half(b);
  widen_fives(out, b + 6, block_u32(b + 2), d, -16 * d);
}

static inline void widen_q5_1(float *out, const uint8_t *b) {
  widen_fives(out, b + 8, block_u32(b + 4), block_half(b), block_half(b + 2));
}

static inline void widen_q8_0(float *out, const uint8_t *b) {
  float d = block_half(b);
  for (int i = 0; i < 32; i++) out[i] = d * (float)(int8_t)b[2 + i];
}

/* ---- 256 elements ---- */

/* Scales and minima of 4 bits each for 16 parts; elements of 2 bits, four a byte, 32 bytes for 128. */
static inline void widen_q2_k(float *out, const uint8_t *b) {
  const uint8_t *scales = b, *bits = b + 16;
  float d = block_half(b + 80), m = block_half(b + 82);
  for (int part = 0; part < 16; part++, out += 16) {
    const uint8_t *from = bits + part / 8 * 32 + part % 2 * 16;
    int shift = part % 8 / 2 * 2;
    float scale = d * (float)(scales[part] & 15), least = m * (float)(scales[part] >> 4);
    for (int i = 0; i < 16; i++) out[i] = scale * (float)(from[i] >> shift & 3) - least;
  }
}

/* The 6-bit scales of 16 parts: 4 low bits in the first 8 bytes, 2 high ones in the last 4. */
static inline int q3_k_scale(const uint8_t *s, int part) {
  int low = part < 8 ? s[part] & 15 : s[part - 8] >> 4;
  int high = s[8 + part % 4] >> (part / 4 * 2) & 3;
  return (low | high << 4) - 32;
}

/* Elements of 3 bits: two in `bits` as above, the third (inverted) in a mask byte a column. */
static inline void widen_q3_k(float *out, const uint8_t *b) {
  const uint8_t *mask = b, *bits = b + 32, *scales = b + 96;
  float d = block_half(b + 108);
  for (int part = 0; part < 16; part++, out += 16) {
    const uint8_t *from = bits + part / 8 * 32 + part % 2 * 16, *high = mask + part % 2 * 16;
    int shift = part % 8 / 2 * 2, bit = part / 2;
    float scale = d * (float)q3_k_scale(scales, part);
    for (int i = 0; i < 16; i++) out[i] = scale * (float)((from[i] >> shift & 3) - ((high[i] >> bit & 1) ? 0 : 4));
  }
}

/* The 6-bit scale and minimum of 8 parts, in 12 bytes. */
static inline void k4_scale(const uint8_t *s, int part, int *scale, int *least) {
  if (part < 4) {
    *scale = s[part] & 63;
    *least = s[part + 4] & 63;
  } else {
    *scale = (s[part + 4] & 15) | s[part - 4] >> 6 << 4;
    *least = s[part + 4] >> 4 | s[part] >> 6 << 4;
  }
}

/* Nibbles, 32 bytes for 64 elements (low first); with `high`, a fifth bit a column. */
static inline void widen_k45(float *out, const uint8_t *b, const uint8_t *nibbles, const uint8_t *high) {
  float d = block_half(b), m = block_half(b + 2);
  for (int part = 0; part < 8; part++, out += 32) {
    const uint8_t *from = nibbles + part / 2 * 32;
    int scale, least, shift = part % 2 * 4;
    k4_scale(b + 4, part, &scale, &least);
    float by = d * (float)scale, minus = m * (float)least;
    for (int i = 0; i < 32; i++) {
      int fifth = high ? (high[i] >> part & 1) << 4 : 0;
      out[i] = by * (float)((from[i] >> shift & 15) | fifth) - minus;
    }
  }
}

static inline void widen_q4_k(float *out, const uint8_t *b) { widen_k45(out, b, b + 16, NULL); }
static inline void widen_q5_k(float *out, const uint8_t *b) { widen_k45(out, b, b + 48, b + 16); }

/* Elements of 6 bits: nibbles in 64 bytes for 128, two high bits in 32 bytes for 128. */
static inline void widen_q6_k(float *out, const uint8_t *b) {
  const uint8_t *low = b, *high = b + 128;
  const int8_t *scales = (const int8_t *)(b + 192);
  float d = block_half(b + 208);
  for (int part = 0; part < 16; part++, out += 16) {
    int half = part / 8, column = part % 2 * 16, quarter = part % 8 / 2;
    const uint8_t *from = low + half * 64 + quarter % 2 * 32 + column;
    const uint8_t *bits = high + half * 32 + column;
    int shift = quarter / 2 * 4;
    float scale = d * (float)scales[part];
    for (int i = 0; i < 16; i++)
      out[i] = scale * (float)(((from[i] >> shift & 15) | (bits[i] >> (quarter * 2) & 3) << 4) - 32);
  }
}

/* `n` elements, a whole number of blocks. */
static inline void ma_blocks_widen(float *out, const void *in, ma_dtype dtype, size_t n) {
  const uint8_t *b = in;
  switch (dtype) {
#define EACH(constant, name, block, bytes)                                                     \
  case constant:                                                                               \
    for (size_t i = 0; i < n / (block); i++) widen_##name(out + i * (block), b + i * (bytes)); \
    break
    EACH(MA_Q4_0, q4_0, 32, 18);
    EACH(MA_Q4_1, q4_1, 32, 20);
    EACH(MA_Q5_0, q5_0, 32, 22);
    EACH(MA_Q5_1, q5_1, 32, 24);
    EACH(MA_Q8_0, q8_0, 32, 34);
    EACH(MA_Q2_K, q2_k, 256, 84);
    EACH(MA_Q3_K, q3_k, 256, 110);
    EACH(MA_Q4_K, q4_k, 256, 144);
    EACH(MA_Q5_K, q5_k, 256, 176);
    EACH(MA_Q6_K, q6_k, 256, 210);
#undef EACH
    default: break;
  }
}

/* ---- the way back, rounded as ggml's reference quantizer does: q is taken with the unrounded scale ---- */

static inline void put_half(uint8_t *at, float x) {
  uint16_t h = ma_f16_from_f32(x);
  at[0] = (uint8_t)(h & 255);
  at[1] = (uint8_t)(h >> 8);
}

/* A whole number in [low, high]; NaN gives 0, so that no conversion is undefined. */
static inline int block_level(float x, float low, float high) {
  return x != x ? 0 : (int)(x < low ? low : x > high ? high : x);
}

/* d = max |x| / 127, q = x / d to nearest, halves away from 0. */
static inline void pack_q8_0(uint8_t *b, const float *x) {
  float largest = 0;
  for (int i = 0; i < 32; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
  float d = largest / 127, inverse = d != 0 ? 1 / d : 0;
  put_half(b, d);
  for (int i = 0; i < 32; i++) b[2 + i] = (uint8_t)block_level(roundf(x[i] * inverse), -127, 127);
}

/* The element of largest magnitude, the first of equals, becomes -8 (level 0): d = x / -8, q = trunc(x / d + 8.5). */
static inline void pack_q4_0(uint8_t *b, const float *x) {
  float extreme = 0;
  for (int i = 0; i < 32; i++)
    if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
  float d = extreme / -8, inverse = d != 0 ? 1 / d : 0;
  put_half(b, d);
  for (int i = 0; i < 16; i++) {
    int low = block_level(x[i] * inverse + 8.5f, 0, 15), high = block_level(x[i + 16] * inverse + 8.5f, 0, 15);
    b[2 + i] = (uint8_t)(low | high << 4);
  }
}

/* `n` elements, a whole number of blocks, to MA_Q4_0 or MA_Q8_0 (ma_dtype_is_written). */
static inline void ma_blocks_pack(void *out, const float *in, ma_dtype dtype, size_t n) {
  uint8_t *b = out;
  for (size_t i = 0; i < n / 32; i++) {
    if (dtype == MA_Q4_0) pack_q4_0(b + i * 18, in + i * 32);
    else pack_q8_0(b + i * 34, in + i * 32);
  }
}

#endif
