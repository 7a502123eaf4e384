/* The gradient of attention as a whole: probabilities are made again, a tile at a time, from each row's largest score and sum (Dao
 * et al. 2022, algorithm 4).  One kernel's blocks own queries, for the gradient of q; another's own keys, for those of k and v,
 * and go through all queries of all heads that share them. */
#include "backend/cuda/attention_grad.cuh"

namespace {

/* Sizes of tiles for heads of up to D dims: two own ones, two others, and one of probabilities. */
template <int D>
struct tiles {
  static constexpr int R = D <= 128 ? 4 : 2, C = R, OWN = R * MA_SIDE, OTHERS = C * MA_SIDE;
  static constexpr int ROWS = ma_tile_floats(OWN, D); /* OWN and OTHERS are equal */
  static constexpr int FLOATS = 4 * ROWS + ma_tile_floats(OWN, OTHERS);
};

/* Of a row of the extra key's column: 16 threads a row.  Notes the row's delta too. */
__global__ void rows_kernel(const ma_attention_grad_job j) {
  const ma_attention_job &a = j.a;
  const int64_t n_rows = int64_t{a.B} * a.H * a.Tq, i = int64_t{blockIdx.x} * MA_SIDE + ma_tile_y(),
                row = i < n_rows ? i : 0;
  const int b = static_cast<int>(row / a.Tq / a.H), h = static_cast<int>(row / a.Tq % a.H),
            query = static_cast<int>(row % a.Tq);
  const float *g = j.g.at(b, query, h);
  const float delta = ma_row_dot(g, a.out.at(b, query, h), a.d);
  float p = 0, s_grad = 0;
  if (a.E) {
    const float score = ma_score_extra(a, h, a.q.at(b, query, h));
    const float p_grad = a.extra_value ? ma_row_dot(g, a.extra_value + int64_t{h} * a.d, a.d) : 0;
    p = ma_probability(a, score, a.most[row], a.inverse[row]);
    s_grad = ma_score_slope(a, score) * (p * (p_grad - delta));
  }
  if (i >= n_rows || ma_tile_x() != 0) return;
  j.delta[row] = delta;
  if (a.E) j.extra.p[row] = p, j.extra.s_grad[row] = s_grad;
}

template <int D>
__global__ void __launch_bounds__(MA_TILE_THREADS, D <= 64 ? 2 : 1) q_kernel(const ma_attention_grad_job j) {
  using size = tiles<D>;
  MA_SHARED_BYTES(bytes);
  float *q = reinterpret_cast<float *>(bytes), *g = q + size::ROWS, *k = g + size::ROWS, *v = k + size::ROWS,
        *tile = v + size::ROWS;
  const ma_attention_job &a = j.a;
  const ma_own own = ma_locate<size::R, true>(a, a.H, a.Tq);
  const ma_range keys = ma_keys_of(a, own.first, own.n);
  const int group = ma_group(a, own.h);
  const float slope = ma_slope(a, own.h);
  float most[size::R], inverse[size::R], delta[size::R], o[size::R][D / 16];
  MA_UNROLL for (int i = 0; i < size::R; i++) {
    const int r = ma_tile_y() * size::R + i;
    const int64_t row = ma_row_of(a, own.b, own.h, own.first + (r < own.n ? r : 0));
    most[i] = a.most[row], inverse[i] = a.inverse[row], delta[i] = j.delta[row];
    ma_begin_q_grad<D>(o[i], a, j.extra, own.h, row);
  }
  ma_load_tile<size::OWN, D>(q, a.q.at(own.b, own.first, own.h), a.q.row, own.n, a.d);
  ma_load_tile<size::OWN, D>(g, j.g.at(own.b, own.first, own.h), j.g.row, own.n, a.d);
  for (int key = keys.low / size::OTHERS * size::OTHERS; key < keys.high; key += size::OTHERS) {
    const int n = keys.high - key < size::OTHERS ? keys.high - key : size::OTHERS;
    float s[size::R][size::C], s_grad[size::R][size::C];
    __syncthreads();
    ma_load_tile<size::OTHERS, D>(k, a.k.at(own.b, key, group), a.k.row, n, a.d);
    ma_load_tile<size::OTHERS, D>(v, a.v.at(own.b, key, group), a.v.row, n, a.d);
    __syncthreads();
    ma_dot_tiles<size::R, size::C, D>(s, q, k, a.d);
    ma_dot_tiles<size::R, size::C, D>(s_grad, g, v, a.d);
    MA_UNROLL for (int i = 0; i < size::R; i++) MA_UNROLL for (int c = 0; c < size::C; c++) s_grad[i][c] =
        ma_score_grad(a, s[i][c], s_grad[i][c], slope, own.first + ma_tile_y() * size::R + i,
                      key + c * MA_SIDE + ma_tile_x(), most[i], inverse[i], delta[i]);
    ma_put_tile(tile, s_grad);
    __syncwarp();
    ma_mix_tiles<size::R, size::C, D>(o, tile, k, n);
  }
  ma_store_rows<size::R, D>(j.q_grad.at(own.b, own.first, own.h), j.q_grad.row, 1, o, own.n, a.d);
}

template <int D>
__global__ void __launch_bounds__(MA_TILE_THREADS) kv_kernel(const ma_attention_grad_job j) {
  using size = tiles<D>;
  MA_SHARED_BYTES(bytes);
  float *k = reinterpret_cast<float *>(bytes), *v = k + size::ROWS, *q = v + size::ROWS, *g = q + size::ROWS,
        *tile = g + size::ROWS;
  const ma_attention_job &a = j.a;
  const ma_own own = ma_locate<size::R, false>(a, a.G, a.Tk); /* own.h is a group */
  const ma_range queries = ma_queries_of(a, own.first, own.n);
  const int n_heads = a.H / a.G;
  float k_grad[size::R][D / 16], v_grad[size::R][D / 16];
  MA_UNROLL for (int i = 0; i < size::R; i++) MA_UNROLL for (int x = 0; x < D / 16; x++) k_grad[i][x] = v_grad[i][x] =
      0;
  ma_load_tile<size::OWN, D>(k, a.k.at(own.b, own.first, own.h), a.k.row, own.n, a.d);
  ma_load_tile<size::OWN, D>(v, a.v.at(own.b, own.first, own.h), a.v.row, own.n, a.d);
  for (int h = own.h * n_heads; h < (own.h + 1) * n_heads; h++) {
    const float slope = ma_slope(a, h);
    for (int query = queries.low; query < queries.high; query += size::OTHERS) {
      const int n = queries.high - query < size::OTHERS ? queries.high - query : size::OTHERS;
      float s[size::R][size::C], s_grad[size::R][size::C];
      __syncthreads();
      ma_load_tile<size::OTHERS, D>(q, a.q.at(own.b, query, h), a.q.row, n, a.d);
      ma_load_tile<size::OTHERS, D>(g, j.g.at(own.b, query, h), j.g.row, n, a.d);
      __syncthreads();
      ma_dot_tiles<size::R, size::C, D>(s, k, q, a.d);
      ma_dot_tiles<size::R, size::C, D>(s_grad, v, g, a.d);
      MA_UNROLL for (int c = 0; c < size::C; c++) {
        const int other = c * MA_SIDE + ma_tile_x();
        const int64_t row = ma_row_of(a, own.b, h, query + (other < n ? other : 0));
        const float most = a.most[row], inverse = a.inverse[row], delta = j.delta[row];
        MA_UNROLL for (int i = 0; i < size::R; i++) s_grad[i][c] =
            ma_score_grad(a, s[i][c], s_grad[i][c], slope, query + other, own.first + ma_tile_y() * size::R + i, most,
                          inverse, delta);
      }
      ma_put_tile(tile, s);
      __syncwarp();
      ma_mix_tiles<size::R, size::C, D>(v_grad, tile, g, n);
      __syncwarp();
      ma_put_tile(tile, s_grad);
      __syncwarp();
      ma_mix_tiles<size::R, size::C, D>(k_grad, tile, q, n);
    }
  }
  ma_store_rows<size::R, D>(j.k_grad.at(own.b, own.first, own.h), j.k_grad.row, 1, k_grad, own.n, a.d);
  ma_store_rows<size::R, D>(j.v_grad.at(own.b, own.first, own.h), j.v_grad.row, 1, v_grad, own.n, a.d);
}

/* A block a head, in as many strands as there is room for. */
template <int D>
__global__ void __launch_bounds__(MA_TILE_THREADS)
    extra_grad_kernel(float *out, const ma_attention_job j, const ma_heads weights, const ma_heads rows) {
  constexpr int STRANDS = MA_TILE_THREADS / D;
  __shared__ float sums[STRANDS][D];
  const int b = static_cast<int>(blockIdx.x) / j.H, h = static_cast<int>(blockIdx.x) % j.H;
  const int x = static_cast<int>(threadIdx.x) % D, strand = static_cast<int>(threadIdx.x) / D;
  float sum = 0;
  for (int query = strand; query < j.Tq && x < j.d; query += STRANDS)
    sum += *weights.at(b, query, h) * rows.at(b, query, h)[x];
  sums[strand][x] = sum;
  __syncthreads();
  if (strand != 0 || x >= j.d) return;
  for (int other = 1; other < STRANDS; other++) sum += sums[other][x];
  out[static_cast<int64_t>(blockIdx.x) * j.d + x] = sum;
}

} // namespace

ma_status ma_attention_extra_grad(ma_tensor *out, const ma_attention_job &job, const ma_heads &weights,
                                  const ma_heads &rows, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  return ma_with_columns("attention_grad", job.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    return ma_launch("attention_grad", extra_grad_kernel<D>,
                     ma_grid_rows(device, int64_t{job.B} * job.H, MA_TILE_THREADS), err,
                     static_cast<float *>(ma_tensor_data(out)), job, weights, rows);
  });
}

static ma_status go_back(ma_device *device, const ma_attention_grad_job &j, ma_error *err) {
  return ma_with_columns("attention_grad", j.a.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    using size = tiles<D>;
    MA_CUDA_TRY(ma_launch("attention_grad", q_kernel<D>,
                          ma_grid_tiles<size::R>(device, j.a, j.a.H, j.a.Tq, size::FLOATS), err, j));
    return ma_launch("attention_grad", kv_kernel<D>, ma_grid_tiles<size::R>(device, j.a, j.a.G, j.a.Tk, size::FLOATS),
                     err, j);
  });
}

ma_status ma_cuda_attention_grad(ma_tensor *const *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                                 const ma_attention_how *how, const ma_tensor *g, ma_error *err) {
  ma_device *device = ma_tensor_device(q);
  ma_attention_call call(device);
  ma_held z, held_g;
  ma_scratch rows(device);
  ma_attention_grad_job j{};
  const bool is_half = ma_attention_half_goes_back(q, how->step);
  MA_CUDA_TRY(ma_attention_describe(&call, q, k, how, err));
  MA_CUDA_TRY(ma_attention_note_rows(&call, err));
  MA_CUDA_TRY(ma_attention_heads(&j.g, &held_g, g, err));
  MA_CUDA_TRY(ma_tensor_new_like(&z.tensor, q, MA_F32, err));
  MA_CUDA_TRY(ma_attention_attend(&call, &z.tensor, q, k, v, err));
  if (!is_half || how->extra_key) MA_CUDA_TRY(ma_attention_widen(&call, q, k, v, err));
  call.job.out = ma_attention_out(&z.tensor);

  const int64_t n_rows = int64_t{call.job.B} * call.job.H * call.job.Tq;
  MA_CUDA_TRY(rows.take(static_cast<size_t>(3 * n_rows) * sizeof(float), err));
  j.a = call.job;
  j.delta = rows.as<float>(), j.extra = {j.delta + n_rows, j.delta + 2 * n_rows};
  j.q_grad = ma_attention_out(out[0]), j.k_grad = ma_attention_out(out[1]), j.v_grad = ma_attention_out(out[2]);
  MA_CUDA_TRY(ma_launch("attention_grad", rows_kernel,
                        ma_grid_rows(device, (n_rows + MA_SIDE - 1) / MA_SIDE, MA_TILE_THREADS), err, j));
  if (how->extra_key && out[3])
    MA_CUDA_TRY(ma_attention_extra_grad(out[3], j.a, ma_extra_column(j.a, j.extra.s_grad), j.a.q, err));
  if (how->extra_value && out[4])
    MA_CUDA_TRY(ma_attention_extra_grad(out[4], j.a, ma_extra_column(j.a, j.extra.p), j.g, err));
  return is_half ? ma_attention_half_grad(j, q, k, v, g, err) : go_back(device, j, err);
}
