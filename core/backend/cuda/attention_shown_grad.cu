/* The gradients of attention's two halves, whose scores or probabilities exist: products of what is shown, or of its transpose,
 * with rows of heads. */
#include "backend/cuda/attention_grad.cuh"

namespace {

constexpr int R = 4, C = MA_OTHERS_EACH, OWN = R * MA_SIDE, OTHERS = MA_OTHERS;

/* ---- what is shown, element by element ---- */

/* Gradients of raw scores, from those of the scores that attention_scores gave; nothing comes through where these are -inf. */
struct score_grads {
  ma_heads scores, g;
  __device__ float through(const ma_attention_job &j, float score, float grad, float bias) const {
    return score == -INFINITY || grad == 0 ? 0 : grad * ma_score_slope(j, score - bias);
  }
  __device__ float at(const ma_attention_job &j, int b, int h, float slope, int query, int key) const {
    const int origin = j.E ? j.Tk - j.Tq + query : j.Tk - 1;
    const float bias = j.slopes ? slope * static_cast<float>(key - origin) : 0;
    return through(j, scores.at(b, query, h)[j.E + key], g.at(b, query, h)[j.E + key], bias);
  }
  __device__ ma_range queries_of(const ma_attention_job &j, int first, int n) const {
    return ma_queries_of(j, first, n);
  }
};

/* Probabilities; a hook may have written anywhere. */
struct probabilities {
  ma_heads probs;
  __device__ float at(const ma_attention_job &j, int b, int h, float, int query, int key) const {
    return probs.at(b, query, h)[j.E + key];
  }
  __device__ ma_range queries_of(const ma_attention_job &j, int, int) const { return {0, j.Tq}; }
};

/* ---- products ---- */

constexpr int ROWS = ma_tile_floats(OWN, OTHERS);
template <int D>
constexpr int PRODUCT_FLOATS = ROWS + ma_tile_floats(OTHERS, D);

/* out = shown k, for the gradient of q: own rows are queries, and begin with what the extra key adds. */
template <int D>
__global__ void __launch_bounds__(MA_TILE_THREADS)
    by_query_kernel(const ma_attention_job j, const score_grads shown, const ma_extra_rows extra) {
  MA_SHARED_BYTES(bytes);
  float *tile = reinterpret_cast<float *>(bytes), *others = tile + ROWS;
  const ma_own own = ma_locate<R, true>(j, j.H, j.Tq);
  const ma_range keys = ma_keys_of(j, own.first, own.n);
  const float slope = ma_slope(j, own.h);
  float o[R][D / 16];
  MA_UNROLL for (int i = 0; i < R; i++) {
    const int r = ma_tile_y() * R + i;
    ma_begin_q_grad<D>(o[i], j, extra, own.h, ma_row_of(j, own.b, own.h, own.first + (r < own.n ? r : 0)));
  }
  for (int key = keys.low / OTHERS * OTHERS; key < keys.high; key += OTHERS) {
    const int n = keys.high - key < OTHERS ? keys.high - key : OTHERS;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < OWN * OTHERS; i += MA_TILE_THREADS) {
      const int r = i / OTHERS, c = i % OTHERS;
      tile[r * ma_tile_step(OTHERS) + c] =
          r < own.n && c < n ? shown.at(j, own.b, own.h, slope, own.first + r, key + c) : 0;
    }
    ma_load_tile<OTHERS, D>(others, j.k.at(own.b, key, ma_group(j, own.h)), j.k.row, n, j.d);
    __syncthreads();
    ma_mix_tiles<R, C, D>(o, tile, others, n);
  }
  ma_store_rows<R, D>(j.out.at(own.b, own.first, own.h), j.out.row, j.out.column, o, own.n, j.d);
}

/* out = shown^T rows, for the gradients of k and v: own rows are keys, and the sum is over all heads that share them. */
template <int D, typename Shown>
__global__ void __launch_bounds__(MA_TILE_THREADS)
    by_key_kernel(const ma_attention_job j, const Shown shown, const ma_heads rows) {
  MA_SHARED_BYTES(bytes);
  float *tile = reinterpret_cast<float *>(bytes), *others = tile + ROWS;
  const ma_own own = ma_locate<R, false>(j, j.G, j.Tk); /* own.h is a group */
  const ma_range queries = shown.queries_of(j, own.first, own.n);
  const int n_heads = j.H / j.G;
  float o[R][D / 16];
  MA_UNROLL for (int i = 0; i < R; i++) MA_UNROLL for (int x = 0; x < D / 16; x++) o[i][x] = 0;
  for (int h = own.h * n_heads; h < (own.h + 1) * n_heads; h++) {
    const float slope = ma_slope(j, h);
    for (int query = queries.low; query < queries.high; query += OTHERS) {
      const int n = queries.high - query < OTHERS ? queries.high - query : OTHERS;
      bool has_any = false;
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < OWN * OTHERS; i += MA_TILE_THREADS) {
        const int c = i / OWN, r = i % OWN; /* neighbouring threads read neighbouring keys */
        const float x = r < own.n && c < n ? shown.at(j, own.b, h, slope, query + c, own.first + r) : 0;
        tile[r * ma_tile_step(OTHERS) + c] = x;
        has_any = has_any || x != 0;
      }
      if (!__syncthreads_or(has_any)) continue;
      ma_load_tile<OTHERS, D>(others, rows.at(own.b, query, h), rows.row, n, j.d);
      __syncthreads();
      ma_mix_tiles<R, C, D>(o, tile, others, n);
    }
  }
  ma_store_rows<R, D>(j.out.at(own.b, own.first, own.h), j.out.row, j.out.column, o, own.n, j.d);
}

/* The gradient of probabilities, [B H Tq E + Tk] = g v^T. */
template <int D>
constexpr int PROBS_FLOATS = ma_tile_floats(OWN, D) + ma_tile_floats(OTHERS, D);

template <int D>
__global__ void __launch_bounds__(MA_TILE_THREADS) probs_grad_kernel(const ma_attention_job j, const ma_heads g) {
  MA_SHARED_BYTES(bytes);
  float *tile = reinterpret_cast<float *>(bytes), *others = tile + ma_tile_floats(OWN, D);
  const ma_own own = ma_locate<R, true>(j, j.H, j.Tq);
  float *out = j.out.at(own.b, own.first, own.h);
  ma_load_tile<OWN, D>(tile, g.at(own.b, own.first, own.h), g.row, own.n, j.d);
  __syncthreads();
  MA_UNROLL for (int i = 0; i < R && j.E; i++) {
    const int r = ma_tile_y() * R + i;
    const float extra = ma_row_dot(tile + r * ma_tile_step(D), j.extra_value + static_cast<int64_t>(own.h) * j.d, j.d);
    if (r < own.n && ma_tile_x() == 0) out[r * j.out.row] = extra;
  }
  for (int key = 0; key < j.Tk; key += OTHERS) {
    const int n = j.Tk - key < OTHERS ? j.Tk - key : OTHERS;
    float s[R][C];
    __syncthreads();
    ma_load_tile<OTHERS, D>(others, j.v.at(own.b, key, ma_group(j, own.h)), j.v.row, n, j.d);
    __syncthreads();
    ma_dot_tiles<R, C, D>(s, tile, others, j.d);
    MA_UNROLL for (int i = 0; i < R; i++) {
      MA_UNROLL for (int c = 0; c < C; c++) {
        const int r = ma_tile_y() * R + i, column = c * MA_SIDE + ma_tile_x();
        if (r < own.n && column < n) out[r * j.out.row + j.E + key + column] = s[i][c];
      }
    }
  }
}

/* A thread a row: the gradient of the extra key's raw score. */
__global__ void extra_rows_kernel(const ma_attention_job j, const score_grads shown, const ma_extra_rows extra,
                                  int64_t n_rows) {
  const int64_t row = ma_thread();
  if (row >= n_rows) return;
  const int b = static_cast<int>(row / j.Tq / j.H), h = static_cast<int>(row / j.Tq % j.H),
            query = static_cast<int>(row % j.Tq);
  extra.s_grad[row] = shown.through(j, shown.scores.at(b, query, h)[0], shown.g.at(b, query, h)[0], 0);
}

} // namespace

ma_status ma_cuda_attention_scores_grad(ma_tensor *const *out, const ma_tensor *q, const ma_tensor *k,
                                        const ma_tensor *scores, const ma_attention_how *how, const ma_tensor *g,
                                        ma_error *err) {
  ma_device *device = ma_tensor_device(q);
  ma_attention_call call(device);
  ma_held held_scores, held_g;
  ma_scratch rows(device);
  score_grads shown;
  ma_extra_rows extra{};
  MA_CUDA_TRY(ma_attention_describe(&call, q, k, how, err));
  MA_CUDA_TRY(ma_attention_widen(&call, q, k, nullptr, err));
  MA_CUDA_TRY(ma_attention_rows(&shown.scores, &held_scores, scores, err));
  MA_CUDA_TRY(ma_attention_rows(&shown.g, &held_g, g, err));
  ma_attention_job to_q = call.job, to_k = call.job;
  to_q.out = ma_attention_out(out[0]), to_k.out = ma_attention_out(out[1]);
  if (how->extra_key) {
    const int64_t n_rows = int64_t{to_q.B} * to_q.H * to_q.Tq;
    MA_CUDA_TRY(rows.take(static_cast<size_t>(n_rows) * sizeof(float), err));
    extra.s_grad = rows.as<float>();
    MA_CUDA_TRY(ma_launch("attention_scores_grad", extra_rows_kernel,
                          ma_grid_rows(device, (n_rows + MA_TILE_THREADS - 1) / MA_TILE_THREADS, MA_TILE_THREADS), err,
                          to_q, shown, extra, n_rows));
    if (out[2]) MA_CUDA_TRY(ma_attention_extra_grad(out[2], to_q, ma_extra_column(to_q, extra.s_grad), to_q.q, err));
  }
  return ma_with_columns("attention_scores_grad", to_q.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    MA_CUDA_TRY(ma_launch("attention_scores_grad", by_query_kernel<D>,
                          ma_grid_tiles<R>(device, to_q, to_q.H, to_q.Tq, PRODUCT_FLOATS<D>), err, to_q, shown, extra));
    return ma_launch("attention_scores_grad", by_key_kernel<D, score_grads>,
                     ma_grid_tiles<R>(device, to_k, to_k.G, to_k.Tk, PRODUCT_FLOATS<D>), err, to_k, shown, to_k.q);
  });
}

ma_status ma_cuda_attention_mix_grad(ma_tensor *const *out, const ma_tensor *probs, const ma_tensor *v,
                                     const ma_attention_how *how, const ma_tensor *g, ma_error *err) {
  ma_device *device = ma_tensor_device(probs);
  ma_attention_call call(device);
  ma_held held_g;
  ma_heads z_grad;
  probabilities shown;
  MA_CUDA_TRY(ma_attention_prepare_mix(&call, probs, v, how, err));
  MA_CUDA_TRY(ma_attention_rows(&shown.probs, &call.q, probs, err));
  MA_CUDA_TRY(ma_attention_heads(&z_grad, &held_g, g, err));
  ma_attention_job to_probs = call.job, to_v = call.job;
  to_probs.out = ma_attention_out(out[0]), to_v.out = ma_attention_out(out[1]);
  std::swap(to_probs.out.row, to_probs.out.head);
  if (how->extra_value && out[2]) MA_CUDA_TRY(ma_attention_extra_grad(out[2], to_v, shown.probs, z_grad, err));
  return ma_with_columns("attention_mix_grad", to_v.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    MA_CUDA_TRY(ma_launch("attention_mix_grad", probs_grad_kernel<D>,
                          ma_grid_tiles<R>(device, to_probs, to_probs.H, to_probs.Tq, PROBS_FLOATS<D>), err, to_probs,
                          z_grad));
    return ma_launch("attention_mix_grad", by_key_kernel<D, probabilities>,
                     ma_grid_tiles<R>(device, to_v, to_v.G, to_v.Tk, PRODUCT_FLOATS<D>), err, to_v, shown, z_grad);
  });
}
