/* Row operations: softmax, the norms and what stands in for them, and gated activations. */
#include "backend/cuda/functions.cuh"
#include "backend/cuda/rows.cuh"

namespace {

/* ---- softmax: tensors out, a ---- */

template <bool HELD>
MA_ROW_KERNEL softmax_kernel(const ma_cuda_rows r, bool is_log) {
  for
    MA_EACH_ROW(i, r) {
      const ma_row<2, HELD> row(r, i);
      const auto a = row.keep(1);
      const float most = row.max(a), sum = row.sum([=](float x) { return expf(x - most); }, a);
      const float scale = 1.0f / sum, shift = most + logf(sum);
      if (is_log)
        row.write(
            0, [=](float x) { return x - shift; }, a);
      else
        row.write(
            0, [=](float x) { return expf(x - most) * scale; }, a);
    }
}

/* ---- norms: tensors out, x, weight, bias; and, with SUM, what is added to x first ---- */

template <bool SUM, typename ROW>
__device__ auto what_is_normed(const ROW &row) {
  if constexpr (SUM) return row.keep_sum(1, 4);
  else return row.keep(1);
}

template <bool HELD, bool SUM>
MA_ROW_KERNEL rms_norm_kernel(const ma_cuda_rows r, float eps, float offset, ma_dtype step) {
  const bool has_weight = r.starts.data[2] != nullptr;
  for
    MA_EACH_ROW(i, r) {
      const ma_row<SUM ? 5 : 3, HELD> row(r, i);
      const auto x = what_is_normed<SUM>(row);
      const float squares = row.sum([](float v) { return v * v; }, x);
      const float scale = 1.0f / sqrtf(squares / static_cast<float>(r.length) + eps);
      row.write(
          0, [=](float v, float w) { return ma_dev_round(v * scale, step) * (has_weight ? offset + w : 1.0f); }, x,
          row.read(2));
    }
}

template <bool HELD, bool SUM>
MA_ROW_KERNEL layer_norm_kernel(const ma_cuda_rows r, float eps, float offset) {
  const bool has_weight = r.starts.data[2] != nullptr;
  const float n = static_cast<float>(r.length);
  for
    MA_EACH_ROW(i, r) {
      const ma_row<SUM ? 5 : 4, HELD> row(r, i);
      const auto x = what_is_normed<SUM>(row);
      const float mean = row.sum([](float v) { return v; }, x) / n;
      const float squares = row.sum([=](float v) { return (v - mean) * (v - mean); }, x);
      const float scale = 1.0f / sqrtf(squares / n + eps);
      row.write(
          0, [=](float v, float w, float b) { return (v - mean) * scale * (has_weight ? offset + w : 1.0f) + b; }, x,
          row.read(2), row.read(3));
    }
}

/* Alpha stays on the device: nobody waits for it. */
template <bool HELD>
MA_ROW_KERNEL dyt_kernel(const ma_cuda_rows r, const void *of_alpha, ma_dtype dtype) {
  const float alpha = ma_load_f32(of_alpha, dtype, 0);
  for
    MA_EACH_ROW(i, r) {
      const ma_row<4, HELD> row(r, i);
      row.write(
          0, [=](float v, float w, float b) { return w * tanhf(alpha * v) + b; }, row.read(1), row.read(2),
          row.read(3));
    }
}

/* ---- gated activations ---- */

/* One number through the activation: core/backend/cpu/norm.c, one_gated. */
__device__ float activated(const ma_gated_how &how, float x) {
  if (!how.is_eager || how.activation != MA_UNARY_gelu_tanh || how.step == MA_F32)
    return ma_dev_round(ma_unary_of(how.activation, x), how.step);
  const auto rounded = [&](float v) { return ma_dev_round(v, how.step); };
  const float square = how.step == MA_BF16 ? rounded(x * x) : x * x;
  const float inner = rounded(rounded(rounded(rounded(square * x) * 0.044715f) + x) * 0.79788456f);
  return rounded(rounded(0.5f * x) * rounded(rounded(tanhf(inner)) + 1.0f));
}

template <bool HAS_UP>
__global__ void gated_kernel(const ma_cuda_walk w, const ma_gated_how how) {
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<HAS_UP ? 3 : 2>(w, i, [=](const ma_four *in, ma_four &out) {
        for (int e = 0; e < 4; e++) out.x[e] = activated(how, in[1].x[e]) * (HAS_UP ? in[HAS_UP ? 2 : 1].x[e] : 1.0f);
      });
    }
}

/* ---- gradients: tensors out, x (of softmax, y), g, weight ---- */

template <bool HELD>
MA_ROW_KERNEL softmax_grad_kernel(const ma_cuda_rows r, bool is_log) {
  for
    MA_EACH_ROW(i, r) {
      const ma_row<3, HELD> row(r, i);
      const auto y = row.keep(1), g = row.keep(2);
      const float sum = row.sum([=](float p, float h) { return is_log ? h : p * h; }, y, g);
      row.write(
          0, [=](float p, float h) { return is_log ? h - expf(p) * sum : p * (h - sum); }, y, g);
    }
}

/* The gradient of z = (x - mean) scale, given h = g (offset + weight): scale (h - m - z sum(h z) / n), with m the mean of h
 * where there is a mean. */
template <bool HELD>
MA_ROW_KERNEL norm_grad_kernel(const ma_cuda_rows r, float *parts, float eps, float offset, bool has_mean) {
  const bool has_weight = r.starts.data[3] != nullptr;
  const float n = static_cast<float>(r.length);
  const auto weighted = [=](float h, float w) { return has_weight ? h * (offset + w) : h; };
  ma_row_sums<HELD> sums(r, parts);
  for
    MA_EACH_ROW(i, r) {
      const ma_row<4, HELD> row(r, i);
      const auto x = row.keep(1), g = row.keep(2);
      const auto weight = row.read(3);
      const float mean = has_mean ? row.sum([](float v) { return v; }, x) / n : 0;
      const float squares = row.sum([=](float v) { return (v - mean) * (v - mean); }, x);
      const float scale = 1.0f / sqrtf(squares / n + eps);
      const auto z = [=](float v) { return (v - mean) * scale; };
      const float m = has_mean ? row.sum(weighted, g, weight) / n : 0;
      const float along = row.sum([=](float v, float h, float w) { return weighted(h, w) * z(v); }, x, g, weight) / n;
      sums.add(
          row, [=](float v, float h) { return h * z(v); }, x, g);
      row.write(
          0, [=](float v, float h, float w) { return scale * (weighted(h, w) - m - z(v) * along); }, x, g, weight);
    }
  sums.finish();
}

template <bool HELD>
MA_ROW_KERNEL dyt_grad_kernel(const ma_cuda_rows r, float *parts, float *alpha_parts, const void *of_alpha,
                              ma_dtype dtype) {
  const float alpha = ma_load_f32(of_alpha, dtype, 0);
  const auto slope = [=](float v, float h, float w) {
    const float t = tanhf(alpha * v);
    return h * w * (1.0f - t * t);
  };
  ma_row_sums<HELD> sums(r, parts);
  double alpha_sum = 0;
  for
    MA_EACH_ROW(i, r) {
      const ma_row<4, HELD> row(r, i);
      const auto x = row.keep(1), g = row.keep(2);
      const auto weight = row.read(3);
      alpha_sum += static_cast<double>(row.gather(
          0.0f, ma_add(), [=](float v, float h, float w) { return slope(v, h, w) * v; }, x, g, weight));
      sums.add(
          row, [=](float v, float h) { return h * tanhf(alpha * v); }, x, g);
      row.write(
          0, [=](float v, float h, float w) { return slope(v, h, w) * alpha; }, x, g, weight);
    }
  sums.finish();
  alpha_sum = sums.together(alpha_sum, 0.0, ma_add());
  if (sums.rank == 0) alpha_parts[ma_team(r)] = static_cast<float>(alpha_sum);
}

__global__ void gated_grad_kernel(const ma_cuda_walk w, ma_unary_kind kind) {
  const bool is_flat = ma_unary_is_flat(kind);
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<5, 2>(w, i, [=](const ma_four *in, ma_four *out) {
        for (int e = 0; e < 4; e++) {
          const float gate = in[2].x[e], up = in[3].x[e], g = in[4].x[e];
          out[0].x[e] = is_flat ? 0 : g * up * ma_unary_slope(kind, gate);
          out[1].x[e] = g * ma_unary_of(kind, gate);
        }
      });
    }
}

/* Blocks that share the rows where a parameter's gradient is summed over them. */
constexpr int64_t PART_BLOCKS = MA_IS_EMULATED ? 4 : 512;

/* Memory for what ma_row_sums leaves, a row a team. */
ma_status make_parts(ma_held *parts, const ma_cuda_rows &r, const ma_grid &grid, int64_t length, ma_error *err) {
  const int64_t shape[] = {static_cast<int64_t>(grid.blocks.x) * ma_teams_of_block(r), length};
  return ma_tensor_new(&parts->tensor, grid.device, MA_F32, 2, shape, err);
}

float *data_of(const ma_held &held) {
  return held.tensor.storage ? static_cast<float *>(ma_tensor_data(&held.tensor)) : nullptr;
}

ma_status norm_grad(const char *name, ma_tensor *out, ma_tensor *weight_grad, const ma_tensor *x,
                    const ma_tensor *weight, const ma_tensor *g, double eps, double offset, bool has_mean,
                    ma_error *err) {
  if (ma_tensor_count(x) == 0) return weight_grad ? ma_cuda_fill(weight_grad, 0, err) : MA_OK;
  const ma_tensor *tensors[] = {out, x, g, weight};
  const ma_cuda_rows r = ma_cuda_rows_of(4, tensors);
  ma_grid grid = ma_grid_teams(ma_tensor_device(out), r);
  ma_held parts;
  if (weight_grad) {
    grid = ma_grid_teams(grid.device, r, PART_BLOCKS * ma_teams_of_block(r));
    MA_CUDA_TRY(make_parts(&parts, r, grid, r.length, err));
  }
  MA_CUDA_TRY(ma_launch(name, r.is_held ? norm_grad_kernel<true> : norm_grad_kernel<false>, grid, err, r,
                        data_of(parts), static_cast<float>(eps), static_cast<float>(offset), has_mean));
  return weight_grad ? ma_cuda_sum_rows(weight_grad, &parts.tensor, false, err) : MA_OK;
}

} // namespace

ma_status ma_cuda_softmax(ma_tensor *out, const ma_tensor *a, bool is_log, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, a};
  const ma_cuda_rows r = ma_cuda_rows_of(2, tensors);
  return ma_launch("softmax", r.is_held ? softmax_kernel<true> : softmax_kernel<false>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, is_log);
}

ma_status ma_cuda_rms_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_norm_how *how,
                           ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, x, weight};
  const ma_cuda_rows r = ma_cuda_rows_of(3, tensors);
  return ma_launch("rms_norm", r.is_held ? rms_norm_kernel<true, false> : rms_norm_kernel<false, false>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, static_cast<float>(how->eps),
                   static_cast<float>(how->offset), how->step);
}

ma_status ma_cuda_layer_norm(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                             const ma_norm_how *how, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, x, weight, bias};
  const ma_cuda_rows r = ma_cuda_rows_of(4, tensors);
  return ma_launch("layer_norm", r.is_held ? layer_norm_kernel<true, false> : layer_norm_kernel<false, false>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, static_cast<float>(how->eps),
                   static_cast<float>(how->offset));
}

ma_status ma_cuda_add_rms_norm(ma_tensor *out, ma_tensor *x, const ma_tensor *more, const ma_tensor *weight,
                               const ma_norm_how *how, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, x, weight, nullptr, more};
  const ma_cuda_rows r = ma_cuda_rows_of(5, tensors);
  return ma_launch("add_rms_norm", r.is_held ? rms_norm_kernel<true, true> : rms_norm_kernel<false, true>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, static_cast<float>(how->eps),
                   static_cast<float>(how->offset), how->step);
}

ma_status ma_cuda_add_layer_norm(ma_tensor *out, ma_tensor *x, const ma_tensor *more, const ma_tensor *weight,
                                 const ma_tensor *bias, const ma_norm_how *how, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, x, weight, bias, more};
  const ma_cuda_rows r = ma_cuda_rows_of(5, tensors);
  return ma_launch("add_layer_norm", r.is_held ? layer_norm_kernel<true, true> : layer_norm_kernel<false, true>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, static_cast<float>(how->eps),
                   static_cast<float>(how->offset));
}

ma_status ma_cuda_dyt(ma_tensor *out, const ma_tensor *x, const ma_tensor *alpha, const ma_tensor *weight,
                      const ma_tensor *bias, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, x, weight, bias};
  const ma_cuda_rows r = ma_cuda_rows_of(4, tensors);
  return ma_launch("dyt", r.is_held ? dyt_kernel<true> : dyt_kernel<false>, ma_grid_teams(ma_tensor_device(out), r),
                   err, r, ma_tensor_data(alpha), alpha->dtype);
}

ma_status ma_cuda_gated(ma_tensor *out, const ma_tensor *gate, const ma_tensor *up, const ma_gated_how *how,
                        ma_error *err) {
  const ma_tensor *tensors[] = {out, gate, up};
  const ma_cuda_walk w = ma_cuda_walk_over(up ? 3 : 2, tensors);
  return ma_launch("gated", up ? gated_kernel<true> : gated_kernel<false>, ma_grid_fours(ma_tensor_device(out), w), err,
                   w, *how);
}

ma_status ma_cuda_softmax_grad(ma_tensor *out, const ma_tensor *y, const ma_tensor *g, bool is_log, ma_error *err) {
  if (ma_tensor_count(out) == 0) return MA_OK;
  const ma_tensor *tensors[] = {out, y, g};
  const ma_cuda_rows r = ma_cuda_rows_of(3, tensors);
  return ma_launch("softmax_grad", r.is_held ? softmax_grad_kernel<true> : softmax_grad_kernel<false>,
                   ma_grid_teams(ma_tensor_device(out), r), err, r, is_log);
}

ma_status ma_cuda_rms_norm_grad(ma_tensor *out, ma_tensor *weight_grad, const ma_tensor *x, const ma_tensor *weight,
                                const ma_tensor *g, double eps, double offset, ma_error *err) {
  return norm_grad("rms_norm_grad", out, weight_grad, x, weight, g, eps, offset, false, err);
}

ma_status ma_cuda_layer_norm_grad(ma_tensor *out, ma_tensor *weight_grad, const ma_tensor *x, const ma_tensor *weight,
                                  const ma_tensor *g, double eps, double offset, ma_error *err) {
  return norm_grad("layer_norm_grad", out, weight_grad, x, weight, g, eps, offset, true, err);
}

ma_status ma_cuda_dyt_grad(ma_tensor *out, ma_tensor *alpha_grad, ma_tensor *weight_grad, const ma_tensor *x,
                           const ma_tensor *alpha, const ma_tensor *weight, const ma_tensor *g, ma_error *err) {
  if (ma_tensor_count(x) == 0) {
    if (weight_grad) MA_CUDA_TRY(ma_cuda_fill(weight_grad, 0, err));
    return ma_cuda_fill(alpha_grad, 0, err);
  }
  const ma_tensor *tensors[] = {out, x, g, weight};
  const ma_cuda_rows r = ma_cuda_rows_of(4, tensors);
  const ma_grid grid = ma_grid_teams(ma_tensor_device(out), r, PART_BLOCKS * ma_teams_of_block(r));
  ma_held parts, alpha_parts;
  if (weight_grad) MA_CUDA_TRY(make_parts(&parts, r, grid, r.length, err));
  MA_CUDA_TRY(make_parts(&alpha_parts, r, grid, 1, err));
  MA_CUDA_TRY(ma_launch("dyt_grad", r.is_held ? dyt_grad_kernel<true> : dyt_grad_kernel<false>, grid, err, r,
                        data_of(parts), data_of(alpha_parts), ma_tensor_data(alpha), alpha->dtype));
  if (weight_grad) MA_CUDA_TRY(ma_cuda_sum_rows(weight_grad, &parts.tensor, false, err));
  ma_tensor one = *alpha_grad; /* as [1], whatever its dims */
  one.n_dims = 1, one.shape[0] = one.strides[0] = 1;
  return ma_cuda_sum_rows(&one, &alpha_parts.tensor, false, err);
}

ma_status ma_cuda_gated_grad(ma_tensor *gate_grad, ma_tensor *up_grad, ma_unary_kind activation, const ma_tensor *gate,
                             const ma_tensor *up, const ma_tensor *g, ma_error *err) {
  const ma_tensor *tensors[] = {gate_grad, up_grad, gate, up, g};
  const ma_cuda_walk w = ma_cuda_walk_over(5, tensors);
  return ma_launch("gated_grad", gated_grad_kernel, ma_grid_fours(ma_tensor_device(gate_grad), w), err, w, activation);
}
