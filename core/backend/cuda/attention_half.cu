/* Attention of a 16-bit model on the tensor cores.  Queries, keys and values are tensors of the type that scores and probabilities
 * are rounded to (`step`): products of them are exact in f32, so that what comes out is what the plain kernel gives but for the
 * order of additions.  Rows are read where they lie, but where 16 bytes of a head are not 16 bytes of memory.
 *
 * A warp has 16 queries; its product with a tile of keys is, as it lies in registers, the left operand of the product with the
 * values (Dao 2023, section 3.3).  The sum of a row has to be known before its probabilities can be rounded: keys are gone through
 * twice. */
#include "backend/cuda/attention_half.cuh"

namespace {

struct half_job {
  ma_attention_job a;
  ma_half_rows q, k, v; /* every 8 numbers aligned */
  ma_half_rows out;     /* every 2 numbers aligned; without data a.out is written to */
  int columns;          /* of q, k and v: a.d, or more up to a multiple of MA_DEPTH, which are 0 */
};

/* Shared memory, in 16-bit numbers. */
template <int D>
struct place {
  static constexpr int Q = 0, K = Q + MA_HALF_TILE<D>, V = K + MA_HALF_TILE<D>, HALVES = V + MA_HALF_TILE<D>;
};

/* Scores, rounded and biased, of a warp's queries with a tile of keys. */
template <typename T, int D>
__device__ void score(float (&s)[MA_HALF_TILES][4], const half_job &j, const ma_own &own, const uint16_t *memory,
                      int first_key) {
  const ma_lane me = ma_this_lane();
  const ma_attention_job &a = j.a;
  const float slope = ma_slope(a, own.h), inner = a.softcap == 0 ? 0 : 1.0f / a.softcap;
  ma_half_dot<T, D>(s, memory + place<D>::Q, memory + place<D>::K, j.columns);
  MA_UNROLL for (int n = 0; n < MA_HALF_TILES; n++) {
    MA_UNROLL for (int i = 0; i < 4; i += 2) {
      float &low = s[n][i], &high = s[n][i + 1];
      const int query = own.first + me.warp * 16 + me.g + i / 2 * 8, key = first_key + n * 8 + 2 * me.t;
      ma_round_pair(T(), &low, &high); /* the steps of ma_soften, two numbers at a time */
      low *= a.scale, high *= a.scale;
      ma_round_pair(T(), &low, &high);
      if (a.softcap != 0) {
        low *= inner, high *= inner;
        ma_round_pair(T(), &low, &high);
        low = tanhf(low), high = tanhf(high);
        ma_round_pair(T(), &low, &high);
        low *= a.softcap, high *= a.softcap;
        ma_round_pair(T(), &low, &high);
      }
      low = ma_biased(a, low, slope, query, key);
      high = ma_biased(a, high, slope, query, key + 1);
    }
  }
}

/* Over the 4 lanes that share rows. */
template <typename F>
__device__ float over_lanes(float x, F combine) {
  x = combine(x, __shfl_xor_sync(MA_ALL_LANES, x, 1));
  return combine(x, __shfl_xor_sync(MA_ALL_LANES, x, 2));
}

__device__ float quick_weight(float score, float most) { return most == -INFINITY ? 0 : __expf(score - most); }

/* Takes a tile's scores into the largest score and the sum of a lane's two rows. */
__device__ void take_in(float (&most)[2], float (&sum)[2], const float (&s)[MA_HALF_TILES][4]) {
  MA_UNROLL for (int r = 0; r < 2; r++) {
    float larger = most[r], more = 0;
    MA_UNROLL for (int n = 0; n < MA_HALF_TILES; n++) larger =
        ma_larger()(ma_larger()(larger, s[n][2 * r]), s[n][2 * r + 1]);
    larger = over_lanes(larger, ma_larger());
    MA_UNROLL for (int n = 0; n < MA_HALF_TILES; n++) more +=
        quick_weight(s[n][2 * r], larger) + quick_weight(s[n][2 * r + 1], larger);
    sum[r] = sum[r] * quick_weight(most[r], larger) + over_lanes(more, ma_add());
    most[r] = larger;
  }
}

/* The extra key's score with a row of a lane. */
template <typename T>
__device__ float score_extra(const half_job &j, const ma_own &own, int query) {
  const float *key = j.a.extra_key + static_cast<int64_t>(own.h) * j.a.d;
  const uint16_t *row = j.q.at(own.b, query < j.a.Tq ? query : 0, own.h);
  float sum = 0;
  for (int e = ma_this_lane().t; e < j.a.d; e += 4) sum += ma_to_f32(T{row[e]}) * key[e];
  return ma_soften(j.a, over_lanes(sum, ma_add()));
}

/* Two neighbours of a row of out, as far as they are there. */
template <typename T>
__device__ void put(const half_job &j, int b, int h, int query, int column, float low, float high) {
  if (query >= j.a.Tq || column >= j.a.d) return;
  if (j.out.data) {
    *reinterpret_cast<uint32_t *>(j.out.at(b, query, h) + column) = ma_pair_of(T(), low, high);
  } else {
    float *to = j.a.out.at(b, query, h);
    to[column * j.a.out.column] = low;
    if (column + 1 < j.a.d) to[(column + 1) * j.a.out.column] = high;
  }
}

template <typename T, int D>
__global__ void __launch_bounds__(MA_HALF_THREADS, D <= 128 ? 3 : 2) half_kernel(const half_job j) {
  MA_SHARED_BYTES(bytes);
  uint16_t *memory = reinterpret_cast<uint16_t *>(bytes);
  const ma_attention_job &a = j.a;
  const ma_lane me = ma_this_lane();
  const ma_own own = ma_locate<MA_HALF_ROWS / MA_SIDE, true>(a, a.H, a.Tq);
  const ma_range keys = ma_keys_of(a, own.first, own.n);
  const int first = keys.low / MA_HALF_ROWS * MA_HALF_ROWS, group = ma_group(a, own.h),
            row = own.first + me.warp * 16 + me.g;
  float most[2], sum[2], extra[2], o[D / 8][4];
  ma_half_fetch<MA_HALF_ROWS, D>(memory + place<D>::Q, j.q.at(own.b, own.first, own.h), j.q.row, own.n, j.columns);
  MA_UNROLL for (int r = 0; r < 2; r++) {
    extra[r] = a.E ? score_extra<T>(j, own, row + 8 * r) : -INFINITY;
    most[r] = extra[r];
    sum[r] = a.E ? 1.0f : 0.0f;
  }
  for (int pass = 0; pass < 2; pass++) {
    const bool mixes = pass == 1;
    if (mixes) {
      MA_UNROLL for (int r = 0; r < 2; r++) sum[r] = 1.0f / sum[r];
      MA_UNROLL for (int e = 0; e < D / 8; e++) {
        MA_UNROLL for (int i = 0; i < 4; i++) {
          const int column = e * 8 + 2 * me.t + i % 2;
          const float p = a.E ? ma_dev_round(quick_weight(extra[i / 2], most[i / 2]) * sum[i / 2], a.step) : 0;
          o[e][i] =
              a.E && a.extra_value && column < a.d ? p * a.extra_value[static_cast<int64_t>(own.h) * a.d + column] : 0;
        }
      }
    }
    ma_half_fetch<MA_HALF_ROWS, D>(memory + place<D>::K, j.k.at(own.b, first, group), j.k.row, keys.high - first,
                                   j.columns);
    for (int key = first; key < keys.high; key += MA_HALF_ROWS) {
      float s[MA_HALF_TILES][4];
      ma_copy_wait();
      __syncthreads(); /* the keys are there, and nobody reads values any more */
      if (mixes)
        ma_half_fetch<MA_HALF_ROWS, D>(memory + place<D>::V, j.v.at(own.b, key, group), j.v.row, keys.high - key,
                                       j.columns);
      score<T, D>(s, j, own, memory, key);
      ma_copy_wait();
      __syncthreads(); /* the values are there, and nobody reads keys any more */
      if (key + MA_HALF_ROWS < keys.high)
        ma_half_fetch<MA_HALF_ROWS, D>(memory + place<D>::K, j.k.at(own.b, key + MA_HALF_ROWS, group), j.k.row,
                                       keys.high - key - MA_HALF_ROWS, j.columns);
      if (mixes)
        ma_half_mix<T, D>(o, memory + place<D>::V, j.columns,
                          [&](int n, int i) { return quick_weight(s[n][i], most[i / 2]) * sum[i / 2]; });
      else take_in(most, sum, s);
    }
  }
  MA_UNROLL for (int e = 0; e < D / 8; e++) MA_UNROLL for (int i = 0; i < 4; i += 2)
      put<T>(j, own.b, own.h, row + i / 2 * 8, e * 8 + 2 * me.t, o[e][i], o[e][i + 1]);
  if (!a.most || me.t != 0) return;
  MA_UNROLL for (int r = 0; r < 2; r++) {
    if (row + 8 * r >= a.Tq) continue;
    a.most[ma_row_of(a, own.b, own.h, row + 8 * r)] = most[r];
    a.inverse[ma_row_of(a, own.b, own.h, row + 8 * r)] = sum[r];
  }
}

template <typename T>
ma_status attend(ma_device *device, const half_job &j, ma_error *err) {
  const ma_attention_job &a = j.a;
  return ma_with_columns("attention", a.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    ma_grid grid = ma_grid_tiles<MA_HALF_ROWS / MA_SIDE>(device, a, a.H, a.Tq, 0);
    grid.threads = MA_HALF_THREADS;
    grid.shared = place<D>::HALVES * sizeof(uint16_t);
    return ma_launch("attention", half_kernel<T, D>, grid, err, j);
  });
}

} // namespace

bool ma_attention_half_stores(const ma_tensor *out, ma_dtype step) {
  return out->dtype == step && ma_half_is_aligned(out, 2);
}

ma_status ma_attention_half(ma_device *device, const ma_attention_job &a, const ma_tensor *out, const ma_tensor *q,
                            const ma_tensor *k, const ma_tensor *v, ma_error *err) {
  half_job j{};
  ma_held held_q, held_k, held_v;
  j.a = a;
  j.columns = (a.d + MA_DEPTH - 1) / MA_DEPTH * MA_DEPTH;
  MA_CUDA_TRY(ma_half_lay_out(&j.q, &held_q, q, j.columns, err));
  MA_CUDA_TRY(ma_half_lay_out(&j.k, &held_k, k, j.columns, err));
  MA_CUDA_TRY(ma_half_lay_out(&j.v, &held_v, v, j.columns, err));
  if (out->dtype != MA_F32) j.out = ma_half_rows_of(out);
  return a.step == MA_BF16 ? attend<ma_bf16>(device, j, err) : attend<ma_f16>(device, j, err);
}
