/* Row operations: softmax, the norms and what stands in for them, and gated activations. */
#include "backend/cuda/functions.cuh"
#include "backend/cuda/rows.cuh"

namespace {

/* ---- softmax: tensors out, a ---- */

template <bool HELD> MA_ROW_KERNEL softmax_kernel(const ma_cuda_rows r, bool is_log) {
  for MA_EACH_ROW(i, r) {
    const ma_row<2, HELD> row(r, i);
    const auto a = row.keep(1);
    const float most = row.max(a), sum = row.sum([=](float x) { return expf(x - most); }, a);
    const float scale = 1.0f / sum, shift = most + logf(sum);
    if (is_log) row.write(0, [=](float x) { return x - shift; }, a);
    else row.write(0, [=](float x) { return expf(x - most) * scale; }, a);
  }
}

/* ---- norms: tensors out, x, weight, bias ---- */

template <bool HELD> MA_ROW_KERNEL rms_norm_kernel(const ma_cuda_rows r, float eps, float offset) {
  const bool has_weight = r.starts.data[2] != nullptr;
  for MA_EACH_ROW(i, r) {
    const ma_row<3, HELD> row(r, i);
    const auto x = row.keep(1);
    const float squares = row.sum([](float v) { return v * v; }, x);
    const float scale = 1.0f / sqrtf(squares / static_cast<float>(r.length) + eps);
    row.write(0, [=](float v, float w) { return v * scale * (has_weight ? offset + w : 1.0f); }, x, row.read(2));
  }
}

template <bool HELD> MA_ROW_KERNEL layer_norm_kernel(const ma_cuda_rows r, float eps, float offset) {
  const bool has_weight = r.starts.data[2] != nullptr;
  const float n = static_cast<float>(r.length);
  for MA_EACH_ROW(i, r) {
    const ma_row<4, HELD> row(r, i);
    const auto x = row.keep(1);
    const float mean = row.sum([](float v) { return v; }, x) / n;
    const float squares = row.sum([=](float v) { return (v - mean) * (v - mean); }, x);
    const float scale = 1.0f / sqrtf(squares / n + eps);
    row.write(0, [=](float v, float w, float b) { return (v - mean) * scale * (has_weight ? offset + w : 1.0f) + b; }, x,
              row.read(2), row.read(3));
  }
}

/* Alpha stays on the device: nobody waits for it. */
template <bool HELD> MA_ROW_KERNEL dyt_kernel(const ma_cuda_rows r, const void *of_alpha, ma_dtype dtype) {
  const float alpha = ma_load_f32(of_alpha, dtype, 0);
  for MA_EACH_ROW(i, r) {
    const ma_row<4, HELD> row(r, i);
    row.write(0, [=](float v, float w, float b) { return w * tanhf(alpha * v) + b; }, row.read(1), row.read(2), row.read(3));
  }
}

/* ---- gated activations ---- */

__global__ void gated_kernel(const ma_cuda_walk w, ma_unary_kind kind) {
  for MA_EACH_FOUR(i, w.count) {
    ma_walk_four<3>(w, i, [=](const ma_four *in, ma_four &out) {
      for (int e = 0; e < 4; e++) out.x[e] = ma_unary_of(kind, in[1].x[e]) * in[2].x[e];
    });
  }
}

}  // namespace

ma_status ma_cuda_softmax(ma_tensor *out, const ma_tensor *a, bool is_log, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, a};
  const ma_cuda_rows r = ma_cuda_rows_of(2, tensors);
  return ma_launch("softmax", r.is_held ? softmax_kernel<true> : softmax_kernel<false>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, is_log);
}

ma_status ma_cuda_rms_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, double eps, double offset, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, x, weight};
  const ma_cuda_rows r = ma_cuda_rows_of(3, tensors);
  return ma_launch("rms_norm", r.is_held ? rms_norm_kernel<true> : rms_norm_kernel<false>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, static_cast<float>(eps), static_cast<float>(offset));
}

ma_status ma_cuda_layer_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias, double eps,
                             double offset, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, x, weight, bias};
  const ma_cuda_rows r = ma_cuda_rows_of(4, tensors);
  return ma_launch("layer_norm", r.is_held ? layer_norm_kernel<true> : layer_norm_kernel<false>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, static_cast<float>(eps), static_cast<float>(offset));
}

ma_status ma_cuda_dyt(ma_tensor *out, const ma_tensor *x, const ma_tensor *alpha, const ma_tensor *weight, const ma_tensor *bias,
                      ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, x, weight, bias};
  const ma_cuda_rows r = ma_cuda_rows_of(4, tensors);
  return ma_launch("dyt", r.is_held ? dyt_kernel<true> : dyt_kernel<false>, ma_grid_teams(ma_tensor_device(out), r), err, r,
                   ma_tensor_data(alpha), alpha->dtype);
}

ma_status ma_cuda_gated(ma_tensor *out, ma_unary_kind activation, const ma_tensor *gate, const ma_tensor *up, ma_error *err) {
  const ma_tensor *tensors[] = {out, gate, up};
  const ma_cuda_walk w = ma_cuda_walk_over(3, tensors);
  return ma_launch("gated", gated_kernel, ma_grid_fours(ma_tensor_device(out), w), err, w, activation);
}
