/* Loops over contiguous rows, in one build for each instruction set. */
#ifndef MASSACT_BACKEND_CPU_ROWS_H
#define MASSACT_BACKEND_CPU_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/ops.h"

typedef struct ma_rows {
  const char *name; /* "avx512" */

  /* `n` elements at `in` (a whole number of blocks) as f32; i32, i64 and u8 too. */
  void (*widen)(float *out, const void *in, ma_dtype dtype, size_t n);
  /* The way back, to f32, f16, bf16, or whole blocks of q4_0 or q8_0. */
  void (*narrow)(void *out, const float *in, ma_dtype dtype, size_t n);

  /* The nearest values that f16 or bf16 holds; out may be a. */
  void (*round_to)(float *out, const float *a, ma_dtype dtype, size_t n);

  /* scale times the nearest whole number of a / scale within +-levels; out may be a */
  void (*quantize)(float *out, const float *a, float scale, float levels, size_t n);

  /* out = f(a); out may be a.  Kinds with a u8 result give 0 and 1 here. */
  void (*unary)(float *out, ma_unary_kind kind, const float *a, size_t n);
  /* out = f(a, b); a_step and b_step are 1, or 0 for one number that serves all. */
  void (*binary)(float *out, ma_binary_kind kind, const float *a, size_t a_step, const float *b, size_t b_step,
                 size_t n);
  /* out = g f'(a), and g df/da (side 0) or g df/db; out may be g */
  void (*unary_grad)(float *out, ma_unary_kind kind, const float *a, const float *g, size_t n);
  void (*binary_grad)(float *out, ma_binary_kind kind, int side, const float *a, size_t a_step, const float *b,
                      size_t b_step, const float *g, size_t n);
  void (*gated)(float *out, ma_unary_kind kind, const float *gate, const float *up, size_t n);

  float (*max)(const float *a, size_t n);                  /* NaN where there is one; -inf for n = 0 */
  float (*max_abs)(const float *a, size_t n);              /* NaNs are passed over */
  float (*sum_exp)(const float *a, float shift, size_t n); /* sum of e^(a - shift) */
  void (*softmax)(float *out, const float *a, size_t n);   /* out may be a */
  void (*add_to)(double *sums, const float *a, size_t n);  /* sums += a */
  /* -sum p ln p over p > 0; lanes as in softmax, so that zeros left out at the same places change no bit */
  double (*entropy)(const float *p, size_t n);
  /* a = cap tanh(scale a / cap), or scale a; rounded to `step` before and after each of these */
  void (*soften)(float *a, float scale, float cap, ma_dtype step, size_t n);

  void (*rms_norm)(float *out, const float *x, const float *weight, float eps, float offset, size_t n);
  void (*layer_norm)(float *out, const float *x, const float *weight, const float *bias, float eps, float offset,
                     size_t n);
  /* Gradients: out for x; `weight` may be NULL; weight_sum, which may be, too, is added to. */
  void (*softmax_grad)(float *out, const float *y, const float *g, int is_log, size_t n);
  void (*rms_norm_grad)(float *out, float *weight_sum, const float *x, const float *weight, const float *g, float eps,
                        float offset, size_t n);
  void (*layer_norm_grad)(float *out, float *weight_sum, const float *x, const float *weight, const float *g, float eps,
                          float offset, size_t n);
  /* Returns alpha's. */
  float (*dyt_grad)(float *out, float *weight_sum, const float *x, float alpha, const float *weight, const float *g,
                    size_t n);
  void (*gated_grad)(float *gate_grad, float *up_grad, ma_unary_kind kind, const float *gate, const float *up,
                     const float *g, size_t n);
  /* p, a row of probabilities, becomes scale p (g - sum p g), the gradient of the scores; with a cap, these, without what was
   * added after it, are in `scores`. */
  void (*attention_grad)(float *p, const float *g, const float *scores, float scale, float cap, size_t n);
  /* A row of logits (scaled and capped) becomes the gradient of -log softmax at `target`, times `rate`, through the cap; gives that
   * loss. */
  float (*loss_grad)(float *logits, float rate, float cap, int64_t target, size_t n);
  void (*dyt)(float *out, const float *x, float alpha, const float *weight, const float *bias, size_t n);
  /* One head: pairs (i, i + half) turn, products rounded to `step`; the rest of the head is copied. */
  void (*rope)(float *out, const float *x, const float *cosine, const float *sine, size_t half, ma_dtype step,
               size_t n);
} ma_rows;

/* The best build that this processor runs, or the one that MASSACT_ISA names. */
const ma_rows *ma_rows_get(void);

#endif
