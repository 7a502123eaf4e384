/* What each key receives and each row's entropy: of probabilities that exist, or of ones that are made again, a tile at a time,
 * from what attention's kernel has noted of each row.  Sums are in f64, each by one block, in one order. */
#include <cfloat>

#include "backend/cuda/attention.cuh"

namespace {

constexpr int R = 4, C = MA_OTHERS_EACH, KEYS = MA_OTHERS, QUERIES = R * MA_SIDE;

/* [B H S] or [B H Tq]: data is null where it is not wanted. */
struct tally {
  float *data;
  int64_t batch, head, column;
  __device__ float *at(int b, int h, int64_t i) const { return data + b * batch + h * head + i * column; }
};

tally tally_of(const ma_tensor *t) {
  if (!t) return {};
  return {static_cast<float *>(ma_tensor_data(t)), t->strides[0], t->strides[1], t->strides[2]};
}

/* p ln p; 0 ln 0 = 0; a negative number, which only an edit makes, counts as 0; NaN stays. */
__device__ float plogp(float p) { return p <= 0 ? 0 : p * logf(p < FLT_MIN ? FLT_MIN : p); }

/* ---- of probabilities that are made again ---- */

template <int D>
constexpr int TALLY_FLOATS = ma_tile_floats(QUERIES, D) + ma_tile_floats(KEYS, D);

/* The probability that a row gives the extra key; by 16 threads. */
__device__ float extra_probability(const ma_attention_job &j, int b, int h, int query) {
  const int64_t row = ma_row_of(j, b, h, query);
  return ma_probability(j, ma_score_extra(j, h, j.q.at(b, query, h)), j.most[row], j.inverse[row]);
}

/* Own rows are queries. */
template <int D>
__global__ void __launch_bounds__(MA_TILE_THREADS, D <= 128 ? 2 : 1)
    entropy_kernel(const ma_attention_job j, const tally entropy) {
  MA_SHARED_BYTES(bytes);
  float *queries = reinterpret_cast<float *>(bytes), *others = queries + ma_tile_floats(QUERIES, D);
  const ma_own own = ma_locate<R, true>(j, j.H, j.Tq);
  const int group = ma_group(j, own.h);
  const ma_range keys = ma_keys_of(j, own.first, own.n);
  double sum[R];
  float most[R], inverse[R];
  MA_UNROLL for (int i = 0; i < R; i++) {
    const int r = ma_tile_y() * R + i, query = own.first + (r < own.n ? r : 0);
    most[i] = j.most[ma_row_of(j, own.b, own.h, query)];
    inverse[i] = j.inverse[ma_row_of(j, own.b, own.h, query)];
    const float extra = j.E ? extra_probability(j, own.b, own.h, query) : 0;
    sum[i] = ma_tile_x() == 0 ? -static_cast<double>(plogp(extra)) : 0;
  }
  ma_load_tile<QUERIES, D>(queries, j.q.at(own.b, own.first, own.h), j.q.row, own.n, j.d);
  for (int key = keys.low / KEYS * KEYS; key < keys.high; key += KEYS) {
    float s[R][C];
    __syncthreads();
    ma_load_tile<KEYS, D>(others, j.k.at(own.b, key, group), j.k.row, keys.high - key < KEYS ? keys.high - key : KEYS,
                          j.d);
    __syncthreads();
    ma_score_tile<R, D>(s, j, own, queries, others, key);
    MA_UNROLL for (int i = 0; i < R; i++) MA_UNROLL for (int c = 0; c < C; c++) sum[i] -=
        static_cast<double>(plogp(ma_probability(j, s[i][c], most[i], inverse[i])));
  }
  MA_UNROLL for (int i = 0; i < R; i++) {
    const int r = ma_tile_y() * R + i;
    const double all = ma_row_reduce(sum[i], ma_add());
    if (r < own.n && ma_tile_x() == 0) *entropy.at(own.b, own.h, own.first + r) = static_cast<float>(all);
  }
}

/* Own rows are keys. */
template <int D>
__global__ void __launch_bounds__(MA_TILE_THREADS) received_kernel(const ma_attention_job j, const tally received) {
  MA_SHARED_BYTES(bytes);
  float *keys = reinterpret_cast<float *>(bytes), *others = keys + ma_tile_floats(KEYS, D);
  const ma_own own = ma_locate<R, false>(j, j.H, j.Tk);
  const ma_range queries = ma_queries_of(j, own.first, own.n);
  const float slope = ma_slope(j, own.h);
  double sum[R];
  MA_UNROLL for (int i = 0; i < R; i++) sum[i] = 0;
  ma_load_tile<KEYS, D>(keys, j.k.at(own.b, own.first, ma_group(j, own.h)), j.k.row, own.n, j.d);
  for (int query = queries.low; query < queries.high; query += QUERIES) {
    const int n = queries.high - query < QUERIES ? queries.high - query : QUERIES;
    float s[R][C];
    __syncthreads();
    ma_load_tile<QUERIES, D>(others, j.q.at(own.b, query, own.h), j.q.row, n, j.d);
    __syncthreads();
    ma_dot_tiles<R, C, D>(s, keys, others, j.d);
    MA_UNROLL for (int c = 0; c < C; c++) {
      const int other = c * MA_SIDE + ma_tile_x();
      const int64_t row = ma_row_of(j, own.b, own.h, query + (other < n ? other : 0));
      MA_UNROLL for (int i = 0; i < R; i++) {
        const int key = own.first + ma_tile_y() * R + i;
        const float score = ma_biased(j, ma_soften(j, s[i][c]), slope, query + other, key);
        sum[i] += static_cast<double>(ma_probability(j, score, j.most[row], j.inverse[row]));
      }
    }
  }
  MA_UNROLL for (int i = 0; i < R; i++) {
    const int r = ma_tile_y() * R + i;
    const double all = ma_row_reduce(sum[i], ma_add());
    if (r < own.n && ma_tile_x() == 0) *received.at(own.b, own.h, j.E + own.first + r) = static_cast<float>(all);
  }
}

/* A block a head. */
__global__ void extra_received_kernel(const ma_attention_job j, const tally received) {
  const int b = static_cast<int>(blockIdx.x) / j.H, h = static_cast<int>(blockIdx.x) % j.H;
  double sum = 0;
  for (int first = 0; first < j.Tq; first += MA_SIDE) {
    const int query = first + ma_tile_y();
    const float p = extra_probability(j, b, h, query < j.Tq ? query : 0);
    if (query < j.Tq && ma_tile_x() == 0) sum += static_cast<double>(p);
  }
  sum = ma_block_sum(sum);
  if (threadIdx.x == 0) *received.at(b, h, 0) = static_cast<float>(sum);
}

ma_status tally_again(ma_device *device, const ma_attention_job &j, const ma_tensor *received, const ma_tensor *entropy,
                      ma_error *err) {
  const ma_grid heads = ma_grid_rows(device, int64_t{j.B} * j.H, MA_TILE_THREADS);
  if (received && j.E)
    MA_CUDA_TRY(ma_launch("attention_and_tally", extra_received_kernel, heads, err, j, tally_of(received)));
  return ma_with_columns("attention_and_tally", j.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    if (received)
      MA_CUDA_TRY(ma_launch("attention_and_tally", received_kernel<D>,
                            ma_grid_tiles<R>(device, j, j.H, j.Tk, TALLY_FLOATS<D>), err, j, tally_of(received)));
    if (!entropy) return MA_OK;
    return ma_launch("attention_and_tally", entropy_kernel<D>, ma_grid_tiles<R>(device, j, j.H, j.Tq, TALLY_FLOATS<D>),
                     err, j, tally_of(entropy));
  });
}

/* ---- of probabilities that exist, [B H Tq S] ---- */

constexpr int COLUMNS = 32, LANES = MA_TILE_THREADS / COLUMNS;

/* A warp a row. */
__global__ void shown_entropy_kernel(const ma_heads probs, const tally entropy, int H, int Tq, int S, int64_t n_rows) {
  const int64_t i = ma_thread() / MA_WARP;
  const int lane = static_cast<int>(threadIdx.x % MA_WARP);
  if (i >= n_rows) return;
  const int b = static_cast<int>(i / Tq / H), h = static_cast<int>(i / Tq % H), query = static_cast<int>(i % Tq);
  const float *row = probs.at(b, query, h);
  double sum = 0;
  for (int k = lane; k < S; k += static_cast<int>(MA_WARP)) sum -= static_cast<double>(plogp(row[k]));
  sum = ma_warp_reduce(sum, ma_add());
  if (lane == 0) *entropy.at(b, h, query) = static_cast<float>(sum);
}

/* A block 32 columns of a head, in 8 strands. */
__global__ void shown_received_kernel(const ma_heads probs, const tally received, int H, int Tq, int S) {
  __shared__ double sums[LANES][COLUMNS];
  const int n_parts = (S + COLUMNS - 1) / COLUMNS, head = static_cast<int>(blockIdx.x) / n_parts;
  const int x = static_cast<int>(threadIdx.x) % COLUMNS, lane = static_cast<int>(threadIdx.x) / COLUMNS;
  const int column = static_cast<int>(blockIdx.x) % n_parts * COLUMNS + x;
  double sum = 0;
  for (int query = lane; query < Tq && column < S; query += LANES)
    sum += static_cast<double>(probs.at(head / H, query, head % H)[column]);
  sums[lane][x] = sum;
  __syncthreads();
  if (lane != 0 || column >= S) return;
  for (int other = 1; other < LANES; other++) sum += sums[other][x];
  *received.at(head / H, head % H, column) = static_cast<float>(sum);
}

} // namespace

/* ---- the operations ---- */

ma_status ma_cuda_attention_and_tally(ma_tensor *out, ma_tensor *received, ma_tensor *entropy, const ma_tensor *q,
                                      const ma_tensor *k, const ma_tensor *v, const ma_attention_how *how,
                                      ma_error *err) {
  ma_device *device = ma_tensor_device(q);
  ma_attention_call call(device);
  MA_CUDA_TRY(ma_attention_describe(&call, q, k, how, err));
  MA_CUDA_TRY(ma_attention_note_rows(&call, err));
  MA_CUDA_TRY(ma_attention_attend(&call, out, q, k, v, err));
  MA_CUDA_TRY(ma_attention_widen(&call, q, k, nullptr, err));
  return tally_again(device, call.job, received, entropy, err);
}

ma_status ma_cuda_attention_tally(ma_tensor *received, ma_tensor *entropy, const ma_tensor *probs, ma_error *err) {
  ma_device *device = ma_tensor_device(probs);
  const int64_t n_heads = probs->shape[0] * probs->shape[1], n_rows = n_heads * probs->shape[2];
  const int H = static_cast<int>(probs->shape[1]), Tq = static_cast<int>(probs->shape[2]),
            S = static_cast<int>(probs->shape[3]);
  ma_held held;
  ma_heads rows;
  MA_CUDA_TRY(ma_attention_rows(&rows, &held, probs, err));
  if (received)
    MA_CUDA_TRY(ma_launch("attention_tally", shown_received_kernel,
                          ma_grid_rows(device, n_heads * ((S + COLUMNS - 1) / COLUMNS), MA_TILE_THREADS), err, rows,
                          tally_of(received), H, Tq, S));
  if (!entropy) return MA_OK;
  return ma_launch("attention_tally", shown_entropy_kernel,
                   ma_grid_rows(device, (n_rows + LANES - 1) / LANES, MA_TILE_THREADS), err, rows, tally_of(entropy), H,
                   Tq, S, n_rows);
}
