/* Attention's two halves, for whoever looks at scores or probabilities: scores as the whole makes them, and values mixed by
 * probabilities that may have been edited anywhere. */
#include "backend/cuda/attention.cuh"

namespace {

constexpr int C = MA_OTHERS_EACH, KEYS = MA_OTHERS;

/* Columns no query of the block sees are -inf for all of them, and cost no product. */
template <int R, int D>
__global__ void __launch_bounds__(MA_TILE_THREADS) scores_kernel(const ma_attention_job j) {
  MA_SHARED_BYTES(bytes);
  float *queries = reinterpret_cast<float *>(bytes), *others = queries + ma_tile_floats(R * MA_SIDE, D);
  const ma_own own = ma_locate<R, true>(j, j.H, j.Tq);
  const int group = ma_group(j, own.h);
  const ma_range seen = ma_keys_of(j, own.first, own.n);
  float *out = j.out.at(own.b, own.first, own.h);
  ma_load_tile<R * MA_SIDE, D>(queries, j.q.at(own.b, own.first, own.h), j.q.row, own.n, j.d);
  __syncthreads();
  MA_UNROLL for (int i = 0; i < R && j.E; i++) {
    const int r = ma_tile_y() * R + i;
    const float extra = ma_score_extra(j, own.h, queries + r * ma_tile_step(D));
    if (r < own.n && ma_tile_x() == 0) out[r * j.out.row] = extra;
  }
  for (int key = 0; key < j.Tk; key += KEYS) {
    const int n = j.Tk - key < KEYS ? j.Tk - key : KEYS;
    float s[R][C];
    if (key < seen.high && key + n > seen.low) {
      __syncthreads();
      ma_load_tile<KEYS, D>(others, j.k.at(own.b, key, group), j.k.row, n, j.d);
      __syncthreads();
      ma_score_tile<R, D>(s, j, own, queries, others, key);
    } else {
      MA_UNROLL for (int i = 0; i < R; i++) MA_UNROLL for (int c = 0; c < C; c++) s[i][c] = -INFINITY;
    }
    MA_UNROLL for (int i = 0; i < R; i++) {
      MA_UNROLL for (int c = 0; c < C; c++) {
        const int r = ma_tile_y() * R + i, column = c * MA_SIDE + ma_tile_x();
        if (r < own.n && column < n) out[r * j.out.row + (j.E + key + column) * j.out.column] = s[i][c];
      }
    }
  }
}

/* Tiles of zeros, as above the diagonal where nobody has written, are passed over. */
template <int R, int D>
__global__ void __launch_bounds__(MA_TILE_THREADS) mix_kernel(const ma_attention_job j, const ma_heads probs) {
  MA_SHARED_BYTES(bytes);
  float *tile = reinterpret_cast<float *>(bytes), *others = tile + ma_tile_floats(R * MA_SIDE, KEYS);
  const ma_own own = ma_locate<R, true>(j, j.H, j.Tq);
  const int group = ma_group(j, own.h);
  const float *from = probs.at(own.b, own.first, own.h);
  float o[R][D / 16], p[R];
  MA_UNROLL for (int i = 0; i < R; i++) {
    const int r = ma_tile_y() * R + i;
    p[i] = j.E && r < own.n ? from[r * probs.row] : 0;
  }
  ma_mix_extra<R, D>(o, p, j, own.h);
  for (int key = 0; key < j.Tk; key += KEYS) {
    const int n = j.Tk - key < KEYS ? j.Tk - key : KEYS;
    bool has_any = false;
    __syncthreads();
    ma_load_tile<R * MA_SIDE, KEYS>(tile, from + j.E + key, probs.row, own.n, n);
    __syncthreads();
    MA_UNROLL for (int i = 0; i < R; i++) {
      const float4 x = ma_four_at(tile + (ma_tile_y() * R + i) * ma_tile_step(KEYS) + 4 * ma_tile_x());
      has_any = has_any || x.x != 0 || x.y != 0 || x.z != 0 || x.w != 0;
    }
    if (!__syncthreads_or(has_any)) continue;
    ma_load_tile<KEYS, D>(others, j.v.at(own.b, key, group), j.v.row, n, j.d);
    __syncthreads();
    ma_mix_tiles<R, C, D>(o, tile, others, n);
  }
  ma_store_rows<R, D>(j.out.at(own.b, own.first, own.h), j.out.row, j.out.column, o, own.n, j.d);
}

template <int R, int D>
constexpr int SCORES_FLOATS = ma_tile_floats(R *MA_SIDE, D) + ma_tile_floats(KEYS, D);
template <int R, int D>
constexpr int MIX_FLOATS = ma_tile_floats(R *MA_SIDE, KEYS) + ma_tile_floats(KEYS, D);

} // namespace

ma_status ma_cuda_attention_scores(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_attention_how *how,
                                   ma_error *err) {
  ma_device *device = ma_tensor_device(q);
  ma_attention_call call(device);
  MA_CUDA_TRY(ma_attention_describe(&call, q, k, how, err));
  MA_CUDA_TRY(ma_attention_widen(&call, q, k, nullptr, err));
  ma_attention_job &j = call.job;
  j.out = ma_attention_out(out);
  std::swap(j.out.row, j.out.head);
  return ma_with_columns("attention_scores", j.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    if (j.Tq <= MA_SIDE)
      return ma_launch("attention_scores", scores_kernel<1, D>,
                       ma_grid_tiles<1>(device, j, j.H, j.Tq, SCORES_FLOATS<1, D>), err, j);
    return ma_launch("attention_scores", scores_kernel<4, D>,
                     ma_grid_tiles<4>(device, j, j.H, j.Tq, SCORES_FLOATS<4, D>), err, j);
  });
}

static ma_status mix(ma_device *device, const ma_attention_job &j, const ma_heads &rows, ma_error *err) {
  return ma_with_columns("attention_mix", j.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    if (j.Tq <= MA_SIDE)
      return ma_launch("attention_mix", mix_kernel<1, D>, ma_grid_tiles<1>(device, j, j.H, j.Tq, MIX_FLOATS<1, D>), err,
                       j, rows);
    return ma_launch("attention_mix", mix_kernel<4, D>, ma_grid_tiles<4>(device, j, j.H, j.Tq, MIX_FLOATS<4, D>), err,
                     j, rows);
  });
}

ma_status ma_cuda_attention_mix(ma_tensor *out, const ma_tensor *probs, const ma_tensor *v, const ma_attention_how *how,
                                ma_error *err) {
  ma_device *device = ma_tensor_device(probs);
  ma_attention_call call(device);
  ma_heads rows;
  MA_CUDA_TRY(ma_attention_rows(&rows, &call.q, probs, err));
  MA_CUDA_TRY(ma_attention_prepare_mix(&call, probs, v, how, err));
  ma_attention_job &j = call.job;
  ma_held wide;
  if (out->dtype == MA_F32) wide.tensor = ma_tensor_retain(out);
  else MA_CUDA_TRY(ma_tensor_new_like(&wide.tensor, out, MA_F32, err));
  j.out = ma_attention_out(&wide.tensor);
  MA_CUDA_TRY(mix(device, j, rows, err));
  return out->dtype == MA_F32 ? MA_OK : ma_cuda_copy(out, &wide.tensor, err);
}
