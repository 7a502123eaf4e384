/* The two 16-bit floats, one number at a time; rounding is to nearest, ties to even. */
#ifndef MASSACT_TENSOR_HALF_H
#define MASSACT_TENSOR_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t ma_f32_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float ma_f32_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static inline float ma_bf16_to_f32(uint16_t h) { return ma_f32_of_bits((uint32_t)h << 16); }

static inline uint16_t ma_bf16_from_f32(float x) {
  uint32_t bits = ma_f32_bits(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40); /* NaN stays NaN */
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* Multiplying by 2^112 moves the exponent from f16's bias to f32's and makes subnormals right as well. */
static inline float ma_f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7FFFu) << 13;
  float magnitude = ma_f32_of_bits(rest) * 0x1p112f;
  uint32_t bits = ma_f32_bits(magnitude);
  if ((h & 0x7C00u) == 0x7C00u) bits = rest | 0x7F800000u; /* infinity and NaN */
  return ma_f32_of_bits(bits | sign);
}

static inline uint16_t ma_f16_from_f32(float x) {
  uint32_t bits = ma_f32_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00u);
  if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); /* rounds above 65504: infinity */
  if (magnitude < 0x38800000u) {
    /* Subnormal: adding 0.5 leaves the result, rounded, in the low bits. */
    uint32_t shifted = ma_f32_bits(ma_f32_of_bits(magnitude) + 0.5f) - 0x3F000000u;
    return (uint16_t)(sign | shifted);
  }
  uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1) - 0x38000000u;
  return (uint16_t)(sign | rounded >> 13);
}

/* The nearest f32 that the type holds.  Without branches, so that loops over it become vector code. */

static inline float ma_bf16_round(float x) {
  uint32_t bits = ma_f32_bits(x), rounded = bits + 0x7FFF + (bits >> 16 & 1);
  return ma_f32_of_bits((x != x ? bits | 0x400000u : rounded) & 0xFFFF0000u);
}

static inline float ma_f16_round(float x) {
  uint32_t bits = ma_f32_bits(x), sign = bits & 0x80000000u, magnitude = bits & 0x7FFFFFFFu;
  uint32_t rounded = (magnitude + 0xFFF + (magnitude >> 13 & 1)) & 0xFFFFE000u;
  /* Subnormals are multiples of 2^-24, as are the f32 around 0.75. */
  uint32_t subnormal = ma_f32_bits((ma_f32_of_bits(magnitude) + 0.75f) - 0.75f);
  rounded = magnitude < 0x38800000u ? subnormal : rounded;
  rounded = magnitude >= 0x477FF000u ? 0x7F800000u : rounded; /* rounds above 65504: infinity */
  rounded = magnitude > 0x7F800000u ? 0x7FC00000u : rounded;
  return ma_f32_of_bits(rounded | sign);
}

#endif
