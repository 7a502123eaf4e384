/* The gradient of attention on the tensor cores: the two kernels of attention_grad.cu, with tiles of bf16. */
#include "backend/cuda/attention_grad.cuh"
#include "backend/cuda/attention_half.cuh"

namespace {

constexpr int MOST_COLUMNS = 128; /* sums of wider heads do not fit in registers */

struct half_grad_job {
  ma_attention_grad_job grad;
  ma_half_rows q, k, v, g;
  int columns;
};

/* Shared memory, in 16-bit numbers: two own tiles, two others; and of the other rows, where they are queries, three floats each. */
template <int D>
struct place {
  static constexpr int FIRST = 0, SECOND = MA_HALF_TILE<D>, OTHER = 2 * SECOND, LAST = 3 * SECOND, FLOATS = 4 * SECOND,
                       HALVES = FLOATS + 3 * MA_HALF_ROWS * 2;
};

/* What is known of a row of queries. */
struct row_facts {
  float most, inverse, delta;
};
__device__ row_facts facts_of(const ma_attention_grad_job &j, int b, int h, int query) {
  const int64_t row = ma_row_of(j.a, b, h, query < j.a.Tq ? query : 0);
  return {j.a.most[row], j.a.inverse[row], j.delta[row]};
}

/* A lane's two rows of o, of which there are n from the warp's first on, as f32. */
template <int D>
__device__ void put_rows(const ma_heads &to, const ma_own &own, const float (&o)[D / 8][4], int d) {
  const ma_lane me = ma_this_lane();
  MA_UNROLL for (int e = 0; e < D / 8; e++) MA_UNROLL for (int i = 0; i < 4; i++) {
    const int row = me.warp * 16 + me.g + i / 2 * 8, column = e * 8 + 2 * me.t + i % 2;
    if (row < own.n && column < d) to.at(own.b, own.first + row, own.h)[column * to.column] = o[e][i];
  }
}

template <int D>
__global__ void __launch_bounds__(MA_HALF_THREADS, 2) half_q_kernel(const half_grad_job j) {
  MA_SHARED_BYTES(bytes);
  uint16_t *memory = reinterpret_cast<uint16_t *>(bytes), *q = memory + place<D>::FIRST, *g = memory + place<D>::SECOND,
           *k = memory + place<D>::OTHER, *v = memory + place<D>::LAST;
  const ma_attention_job &a = j.grad.a;
  const ma_lane me = ma_this_lane();
  const ma_own own = ma_locate<MA_HALF_ROWS / MA_SIDE, true>(a, a.H, a.Tq);
  const ma_range keys = ma_keys_of(a, own.first, own.n);
  const int group = ma_group(a, own.h), first = own.first + me.warp * 16 + me.g;
  const float slope = ma_slope(a, own.h);
  const row_facts facts[2] = {facts_of(j.grad, own.b, own.h, first), facts_of(j.grad, own.b, own.h, first + 8)};
  float q_grad[D / 8][4];
  MA_UNROLL for (int e = 0; e < D / 8; e++) MA_UNROLL for (int i = 0; i < 4; i++) {
    const int query = first + i / 2 * 8, column = e * 8 + 2 * me.t + i % 2;
    const bool has_extra = a.E && query < a.Tq && column < a.d;
    q_grad[e][i] = has_extra ? j.grad.extra.s_grad[ma_row_of(a, own.b, own.h, query)] *
                                   a.extra_key[static_cast<int64_t>(own.h) * a.d + column]
                             : 0;
  }
  ma_half_fetch<MA_HALF_ROWS, D>(q, j.q.at(own.b, own.first, own.h), j.q.row, own.n, j.columns);
  ma_half_fetch<MA_HALF_ROWS, D>(g, j.g.at(own.b, own.first, own.h), j.g.row, own.n, j.columns);
  for (int key = keys.low / MA_HALF_ROWS * MA_HALF_ROWS; key < keys.high; key += MA_HALF_ROWS) {
    float s[MA_HALF_TILES][4], s_grad[MA_HALF_TILES][4];
    __syncthreads(); /* nobody reads the last tiles any more */
    ma_half_fetch<MA_HALF_ROWS, D>(k, j.k.at(own.b, key, group), j.k.row, keys.high - key, j.columns);
    ma_half_fetch<MA_HALF_ROWS, D>(v, j.v.at(own.b, key, group), j.v.row, keys.high - key, j.columns);
    ma_copy_wait();
    __syncthreads();
    ma_half_dot<ma_bf16, D>(s, q, k, j.columns);
    ma_half_dot<ma_bf16, D>(s_grad, g, v, j.columns);
    MA_UNROLL for (int n = 0; n < MA_HALF_TILES; n++) MA_UNROLL for (int i = 0; i < 4; i++) {
      const row_facts &of = facts[i / 2];
      s_grad[n][i] = ma_score_grad(a, s[n][i], s_grad[n][i], slope, first + i / 2 * 8, key + n * 8 + 2 * me.t + i % 2,
                                   of.most, of.inverse, of.delta);
    }
    ma_half_mix<ma_bf16, D>(q_grad, k, j.columns, [&](int n, int i) { return s_grad[n][i]; });
  }
  put_rows<D>(j.grad.q_grad, own, q_grad, a.d);
}

template <int D>
__global__ void __launch_bounds__(MA_HALF_THREADS, D <= 64 ? 2 : 1) half_kv_kernel(const half_grad_job j) {
  MA_SHARED_BYTES(bytes);
  uint16_t *memory = reinterpret_cast<uint16_t *>(bytes), *k = memory + place<D>::FIRST, *v = memory + place<D>::SECOND,
           *q = memory + place<D>::OTHER, *g = memory + place<D>::LAST;
  row_facts *facts = reinterpret_cast<row_facts *>(memory + place<D>::FLOATS);
  const ma_attention_job &a = j.grad.a;
  const ma_lane me = ma_this_lane();
  const ma_own own = ma_locate<MA_HALF_ROWS / MA_SIDE, false>(a, a.G, a.Tk); /* own.h is a group */
  const ma_range queries = ma_queries_of(a, own.first, own.n);
  const int n_heads = a.H / a.G, first = own.first + me.warp * 16 + me.g;
  float k_grad[D / 8][4], v_grad[D / 8][4];
  MA_UNROLL for (int e = 0; e < D / 8; e++) MA_UNROLL for (int i = 0; i < 4; i++) k_grad[e][i] = v_grad[e][i] = 0;
  ma_half_fetch<MA_HALF_ROWS, D>(k, j.k.at(own.b, own.first, own.h), j.k.row, own.n, j.columns);
  ma_half_fetch<MA_HALF_ROWS, D>(v, j.v.at(own.b, own.first, own.h), j.v.row, own.n, j.columns);
  for (int h = own.h * n_heads; h < (own.h + 1) * n_heads; h++) {
    const float slope = ma_slope(a, h);
    for (int query = queries.low; query < queries.high; query += MA_HALF_ROWS) {
      float s[MA_HALF_TILES][4], s_grad[MA_HALF_TILES][4];
      __syncthreads(); /* nobody reads the last tiles any more */
      ma_half_fetch<MA_HALF_ROWS, D>(q, j.q.at(own.b, query, h), j.q.row, queries.high - query, j.columns);
      ma_half_fetch<MA_HALF_ROWS, D>(g, j.g.at(own.b, query, h), j.g.row, queries.high - query, j.columns);
      if (threadIdx.x < MA_HALF_ROWS)
        facts[threadIdx.x] = facts_of(j.grad, own.b, h, query + static_cast<int>(threadIdx.x));
      ma_copy_wait();
      __syncthreads();
      ma_half_dot<ma_bf16, D>(s, k, q, j.columns);
      ma_half_dot<ma_bf16, D>(s_grad, v, g, j.columns);
      MA_UNROLL for (int n = 0; n < MA_HALF_TILES; n++) MA_UNROLL for (int i = 0; i < 4; i++) {
        const int other = n * 8 + 2 * me.t + i % 2;
        const row_facts &of = facts[other];
        s_grad[n][i] = ma_score_grad(a, s[n][i], s_grad[n][i], slope, query + other, first + i / 2 * 8, of.most,
                                     of.inverse, of.delta);
      }
      ma_half_mix<ma_bf16, D>(v_grad, g, j.columns, [&](int n, int i) { return s[n][i]; });
      ma_half_mix<ma_bf16, D>(k_grad, q, j.columns, [&](int n, int i) { return s_grad[n][i]; });
    }
  }
  put_rows<D>(j.grad.k_grad, own, k_grad, a.d);
  put_rows<D>(j.grad.v_grad, own, v_grad, a.d);
}

template <int D>
ma_status launch(ma_device *device, const half_grad_job &j, ma_error *err) {
  const ma_attention_job &a = j.grad.a;
  const auto grid_of = [&](int heads, int T) {
    ma_grid grid = ma_grid_tiles<MA_HALF_ROWS / MA_SIDE>(device, a, heads, T, 0);
    grid.threads = MA_HALF_THREADS;
    grid.shared = place<D>::HALVES * sizeof(uint16_t);
    return grid;
  };
  MA_CUDA_TRY(ma_launch("attention_grad", half_q_kernel<D>, grid_of(a.H, a.Tq), err, j));
  return ma_launch("attention_grad", half_kv_kernel<D>, grid_of(a.G, a.Tk), err, j);
}

} // namespace

bool ma_attention_half_goes_back(const ma_tensor *q, ma_dtype step) {
  return q->dtype == MA_BF16 && step == MA_BF16 && q->shape[3] <= MOST_COLUMNS;
}

ma_status ma_attention_half_grad(const ma_attention_grad_job &job, const ma_tensor *q, const ma_tensor *k,
                                 const ma_tensor *v, const ma_tensor *g, ma_error *err) {
  half_grad_job j{};
  ma_held narrow, held_q, held_k, held_v, held_g;
  j.grad = job;
  j.columns = (job.a.d + MA_DEPTH - 1) / MA_DEPTH * MA_DEPTH;
  MA_CUDA_TRY(ma_tensor_convert(&narrow.tensor, g, MA_BF16, err));
  MA_CUDA_TRY(ma_half_lay_out(&j.q, &held_q, q, j.columns, err));
  MA_CUDA_TRY(ma_half_lay_out(&j.k, &held_k, k, j.columns, err));
  MA_CUDA_TRY(ma_half_lay_out(&j.v, &held_v, v, j.columns, err));
  MA_CUDA_TRY(ma_half_lay_out(&j.g, &held_g, &narrow.tensor, j.columns, err));
  return j.columns <= 64 ? launch<64>(ma_tensor_device(q), j, err) : launch<128>(ma_tensor_device(q), j, err);
}
