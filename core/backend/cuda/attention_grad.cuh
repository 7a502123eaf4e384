/* What the gradients of attention and of its halves share. */
#ifndef MASSACT_BACKEND_CUDA_ATTENTION_GRAD_CUH
#define MASSACT_BACKEND_CUDA_ATTENTION_GRAD_CUH

#include "backend/cuda/attention.cuh"

/* The extra key's column, [B H Tq] each: its probabilities, and the gradients of its raw scores. */
struct ma_extra_rows {
  float *p, *s_grad;
};

/* How a softened score, without its bias, follows the raw one. */
__device__ inline float ma_score_slope(const ma_attention_job &j, float softened) {
  if (j.softcap == 0) return j.scale;
  const float t = softened / j.softcap;
  return j.scale * (1.0f - t * t);
}

/* What the extra key adds to the gradient of a row of q; 0 without one. */
template <int D>
__device__ inline void ma_begin_q_grad(float (&o)[D / 16], const ma_attention_job &j, const ma_extra_rows &extra, int h,
                                       int64_t row) {
  const float s_grad = j.E ? extra.s_grad[row] : 0;
  MA_UNROLL for (int x = 0; x < D / 16; x++) {
    const int e = ma_column_of(x);
    o[x] = j.E && e < j.d ? s_grad * j.extra_key[static_cast<int64_t>(h) * j.d + e] : 0;
  }
}

/* A call of the gradient as kernels see it. */
struct ma_attention_grad_job {
  ma_attention_job a;
  ma_heads g;   /* of z */
  float *delta; /* [B H Tq] sum of p dp over each row, which is g z */
  ma_extra_rows extra;
  ma_heads q_grad, k_grad, v_grad;
};

/* The gradient of a raw score, from the score (which becomes its probability) and the gradient of the probability. */
__device__ inline float ma_score_grad(const ma_attention_job &a, float &s, float p_grad, float slope, int query,
                                      int key, float most, float inverse, float delta) {
  const float softened = ma_soften(a, s);
  s = ma_probability(a, ma_biased(a, softened, slope, query, key), most, inverse);
  return s == 0 ? 0 : ma_score_slope(a, softened) * (s * (p_grad - delta));
}

inline ma_heads ma_extra_column(const ma_attention_job &j, float *rows) {
  return {rows, int64_t{j.H} * j.Tq, 1, j.Tq, 1};
}

/* out [B H d]: of each head, the sum of its rows, each weighted by the first column of its row in `weights`. */
ma_status ma_attention_extra_grad(ma_tensor *out, const ma_attention_job &job, const ma_heads &weights,
                                  const ma_heads &rows, ma_error *err);

/* On tensor cores, where queries, keys and values are bf16 and so is the step: the gradients of q, k and v, once delta and the extra
 * key's column are there.  Gradients of probabilities and scores, and g, are rounded to bf16 for the products. */
bool ma_attention_half_goes_back(const ma_tensor *q, ma_dtype step);
ma_status ma_attention_half_grad(const ma_attention_grad_job &job, const ma_tensor *q, const ma_tensor *k,
                                 const ma_tensor *v, const ma_tensor *g, ma_error *err);

#endif
