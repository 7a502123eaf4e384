/* Routing of tokens to experts. */
#include "backend/cuda/rows.cuh"

namespace {

/* Softmax over all, then the k largest divided by their sum: the denominator of the softmax cancels, but for rounding.  A warp
 * has a row, a lane every 32nd share of it, which is negative once it is chosen; all in `out`. */
__global__ void route_kernel(const ma_cuda_rows r, int64_t k) {
  const unsigned lane = threadIdx.x % MA_WARP;
  const int64_t step = r.strides[0];
  for (int64_t row = ma_thread() / MA_WARP; row < r.starts.count; row += ma_n_threads() / MA_WARP) {
    int64_t at[2];
    ma_walk_at<2>(r.starts, row, at);
    float *shares = static_cast<float *>(r.starts.data[0]) + at[0];
    const float *logits = static_cast<const float *>(r.starts.data[1]) + at[1];
    float most = -INFINITY, sum = 0, chosen = 0;
    for (int64_t i = lane; i < r.length; i += MA_WARP) most = fmaxf(most, logits[i * r.strides[1]]);
    most = ma_warp_reduce(most, ma_larger());
    for (int64_t i = lane; i < r.length; i += MA_WARP) sum += shares[i * step] = expf(logits[i * r.strides[1]] - most);
    sum = ma_warp_reduce(sum, ma_add());
    for (int64_t i = lane; i < r.length; i += MA_WARP) shares[i * step] = fabsf(shares[i * step] / sum);
    for (int64_t picked = 0; picked < k; picked++) {
      /* Of what is not negative, the bits order as the numbers do.  Below them the place, counted down: ties go to the first. */
      unsigned long long best = 0;
      for (int64_t i = lane; i < r.length; i += MA_WARP) {
        const unsigned long long bits = __float_as_uint(shares[i * step]);
        const unsigned long long candidate = bits >> 31 ? 0 : bits << 32 | (0xFFFFFFFFu - static_cast<unsigned>(i));
        best = candidate > best ? candidate : best;
      }
      best = ma_warp_reduce(best, ma_larger());
      const int64_t place = 0xFFFFFFFFu - static_cast<unsigned>(best);
      chosen += __uint_as_float(static_cast<unsigned>(best >> 32));
      if (place % MA_WARP == lane) shares[place * step] = -shares[place * step];
    }
    for (int64_t i = lane; i < r.length; i += MA_WARP) {
      const float share = shares[i * step];
      shares[i * step] = __float_as_uint(share) >> 31 ? -share / chosen : 0;
    }
  }
}

} // namespace

ma_status ma_cuda_route(ma_tensor *out, const ma_tensor *logits, int64_t k, ma_error *err) {
  const ma_tensor *tensors[] = {out, logits};
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_cuda_rows r = ma_cuda_rows_of(2, tensors);
  return ma_launch("route", route_kernel, ma_grid_over(ma_tensor_device(out), r.starts.count * MA_WARP), err, r, k);
}
