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

inline ma_heads ma_extra_column(const ma_attention_job &j, float *rows) {
  return {rows, int64_t{j.H} * j.Tq, 1, j.Tq, 1};
}

/* out [B H d]: of each head, the sum of its rows, each weighted by the first column of its row in `weights`. */
ma_status ma_attention_extra_grad(ma_tensor *out, const ma_attention_job &job, const ma_heads &weights,
                                  const ma_heads &rows, ma_error *err);

#endif
