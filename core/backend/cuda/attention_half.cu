/* Attention of a 16-bit model on the tensor cores.  Its queries, keys and values are f32 that hold 16-bit numbers, and scores and
 * probabilities are rounded to that type (`step`): products of them are exact in f32, so that what comes out is what the plain
 * kernel gives but for the order of additions.  They are packed first, and where one of them is not such a number (a hook may
 * write any), the packing kernel says so on the device: this kernel then leaves at once, and the plain one, launched after it,
 * does not.
 *
 * A warp has 16 queries; its product with a tile of keys is, as it lies in registers, the left operand of the product with the
 * values (Dao 2023, section 3.3).  The sum of a row has to be known before its probabilities can be rounded: keys are gone through
 * twice. */
#include "backend/cuda/attention.cuh"
#include "backend/cuda/tensor_core.cuh"

namespace {

constexpr int WARPS = 4, THREADS = WARPS * 32, QUERIES = WARPS * 16, KEYS = 64, KEY_TILES = KEYS / 8, PACK = 32;

int rounded_up(int n, int to) { return (n + to - 1) / to * to; }

/* ---- packing ---- */

/* [B heads T d] as 16-bit numbers with zeros up to whole tiles: [B heads rows columns], or with the two last exchanged. */
struct packed {
  uint16_t *data;
  int rows, columns;
  __device__ const uint16_t *head(int heads, int b, int h) const {
    return data + (static_cast<int64_t>(b) * heads + h) * rows * columns;
  }
};

template <typename T, bool TRANSPOSED>
__global__ void pack_kernel(const packed to, const ma_heads from, int heads, int n, int d, int *inexact) {
  __shared__ uint16_t tile[PACK][PACK + 2];
  const int across = to.columns / PACK, per_head = to.rows / PACK * across, i = static_cast<int>(blockIdx.x);
  const int head = i / per_head, row = i % per_head / across * PACK, column = i % across * PACK;
  const int x = static_cast<int>(threadIdx.x) % PACK, y = static_cast<int>(threadIdx.x) / PACK;
  const int lanes = static_cast<int>(blockDim.x) / PACK;
  bool is_exact = true;
  for (int r = y; r < PACK; r += lanes) {
    const float value = row + r < n && column + x < d ? from.at(head / heads, row + r, head % heads)[column + x] : 0;
    T number;
    ma_from_f32(&number, value);
    is_exact = is_exact && (ma_to_f32(number) == value || value != value);
    tile[r][x] = number.bits;
  }
  if (!is_exact) *inexact = 1;
  __syncthreads();
  uint16_t *at = to.data + static_cast<int64_t>(head) * to.rows * to.columns;
  for (int r = y; r < PACK; r += lanes) {
    if (TRANSPOSED) at[static_cast<int64_t>(column + r) * to.rows + row + x] = tile[x][r];
    else at[static_cast<int64_t>(row + r) * to.columns + column + x] = tile[r][x];
  }
}

template <typename T, bool TRANSPOSED>
ma_status pack(ma_device *device, const packed &to, const ma_heads &from, const ma_attention_job &j, int heads, int n,
               int *inexact, ma_error *err) {
  const int64_t blocks = int64_t{j.B} * heads * (to.rows / PACK) * (to.columns / PACK);
  return ma_launch("attention", pack_kernel<T, TRANSPOSED>, ma_grid_rows(device, blocks), err, to, from, heads, n, j.d,
                   inexact);
}

/* ---- attending ---- */

struct half_job {
  ma_attention_job a;
  packed q, k, v; /* v transposed */
  const int *inexact;
};

/* Shared memory, in 16-bit numbers; rows are 16 bytes longer than they need be, so that the 8 rows that a warp reads from meet in
 * no bank. */
template <int D>
struct place {
  static constexpr int STEP = D + 8, KEY_STEP = KEYS + 8;
  static constexpr int Q = 0, K = Q + QUERIES * STEP, V = K + KEYS * STEP, HALVES = V + D * KEY_STEP;
};

/* n_rows rows of n_columns (a multiple of 8); there when ma_copy_wait and a barrier have passed. */
__device__ void fetch(uint16_t *to, int to_step, const uint16_t *from, int64_t from_step, int n_rows, int n_columns) {
  const int eights = n_columns / 8;
  for (int i = static_cast<int>(threadIdx.x); i < n_rows * eights; i += THREADS) {
    const int r = i / eights, c = i % eights * 8;
    ma_copy_async(to + r * to_step + c, from + r * from_step + c);
  }
}

/* A lane's part of the tiles of its warp: rows g and g + 8; columns 2 t and 2 t + 1 of every 8. */
struct lane_of {
  int warp, g, t;
};
__device__ lane_of this_lane() {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return {static_cast<int>(threadIdx.x) / 32, lane / 4, lane % 4};
}

__device__ void load_a(uint32_t (&a)[4], const uint16_t *at, int step) {
  a[0] = ma_pair_at(at), a[1] = ma_pair_at(at + 8 * step), a[2] = ma_pair_at(at + 8),
  a[3] = ma_pair_at(at + 8 * step + 8);
}
__device__ void load_b(uint32_t (&b)[2], const uint16_t *at) { b[0] = ma_pair_at(at), b[1] = ma_pair_at(at + 8); }

/* Scores, rounded and biased, of a warp's queries with a tile of keys. */
template <typename T, int D>
__device__ void score(float (&s)[KEY_TILES][4], const half_job &j, const ma_own &own, const uint16_t *memory,
                      int first_key) {
  const lane_of me = this_lane();
  const ma_attention_job &a = j.a;
  const float slope = ma_slope(a, own.h), inner = a.softcap == 0 ? 0 : 1.0f / a.softcap;
  const uint16_t *q = memory + place<D>::Q + (me.warp * 16 + me.g) * place<D>::STEP + 2 * me.t;
  const uint16_t *k = memory + place<D>::K + me.g * place<D>::STEP + 2 * me.t;
  MA_UNROLL for (int n = 0; n < KEY_TILES; n++) MA_UNROLL for (int i = 0; i < 4; i++) s[n][i] = 0;
  for (int e = 0; e < a.d; e += 16) {
    uint32_t left[4], right[2];
    load_a(left, q + e, place<D>::STEP);
    MA_UNROLL for (int n = 0; n < KEY_TILES; n++) {
      load_b(right, k + n * 8 * place<D>::STEP + e);
      ma_multiply_add(T(), s[n], left, right);
    }
  }
  MA_UNROLL for (int n = 0; n < KEY_TILES; n++) {
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
__device__ void take_in(float (&most)[2], float (&sum)[2], const float (&s)[KEY_TILES][4]) {
  MA_UNROLL for (int r = 0; r < 2; r++) {
    float larger = most[r], more = 0;
    MA_UNROLL for (int n = 0; n < KEY_TILES; n++) larger =
        ma_larger()(ma_larger()(larger, s[n][2 * r]), s[n][2 * r + 1]);
    larger = over_lanes(larger, ma_larger());
    MA_UNROLL for (int n = 0; n < KEY_TILES; n++) more +=
        quick_weight(s[n][2 * r], larger) + quick_weight(s[n][2 * r + 1], larger);
    sum[r] = sum[r] * quick_weight(most[r], larger) + over_lanes(more, ma_add());
    most[r] = larger;
  }
}

/* o += p v, p from scores. */
template <typename T, int D>
__device__ void mix(float (&o)[D / 8][4], const float (&s)[KEY_TILES][4], const float (&most)[2],
                    const float (&inverse)[2], const uint16_t *memory, int d) {
  const lane_of me = this_lane();
  const uint16_t *v = memory + place<D>::V + me.g * place<D>::KEY_STEP + 2 * me.t;
  MA_UNROLL for (int n = 0; n < KEY_TILES; n += 2) {
    uint32_t p[4], right[2];
    MA_UNROLL for (int i = 0; i < 4; i++) {
      const float *pair = &s[n + i / 2][i % 2 * 2];
      p[i] = ma_pair_of(T(), quick_weight(pair[0], most[i % 2]) * inverse[i % 2],
                        quick_weight(pair[1], most[i % 2]) * inverse[i % 2]);
    }
    MA_UNROLL for (int e = 0; e < D / 8; e++) {
      if (e * 8 >= d) break;
      load_b(right, v + e * 8 * place<D>::KEY_STEP + n * 8);
      ma_multiply_add(T(), o[e], p, right);
    }
  }
}

/* The extra key's scores with a lane's two rows. */
__device__ float score_extra(const half_job &j, const ma_own &own, int query) {
  const float *key = j.a.extra_key + static_cast<int64_t>(own.h) * j.a.d;
  const float *row = j.a.q.at(own.b, query < j.a.Tq ? query : 0, own.h);
  float sum = 0;
  for (int e = this_lane().t; e < j.a.d; e += 4) sum += row[e] * key[e];
  return ma_soften(j.a, over_lanes(sum, ma_add()));
}

template <typename T, int D>
__global__ void __launch_bounds__(THREADS, D <= 128 ? 3 : 2) half_kernel(const half_job j) {
  MA_SHARED_BYTES(bytes);
  if (*j.inexact) return;
  uint16_t *memory = reinterpret_cast<uint16_t *>(bytes);
  const ma_attention_job &a = j.a;
  const lane_of me = this_lane();
  const ma_own own = ma_locate<QUERIES / MA_SIDE, true>(a, a.H, a.Tq);
  const ma_range keys = ma_keys_of(a, own.first, own.n);
  const int first = keys.low / KEYS * KEYS, group = ma_group(a, own.h), row = own.first + me.warp * 16 + me.g;
  const uint16_t *k = j.k.head(a.G, own.b, group), *v = j.v.head(a.G, own.b, group);
  float most[2], sum[2], extra[2], o[D / 8][4];
  fetch(memory + place<D>::Q, place<D>::STEP,
        j.q.head(a.H, own.b, own.h) + static_cast<int64_t>(own.first) * j.q.columns, j.q.columns, QUERIES, j.q.columns);
  MA_UNROLL for (int r = 0; r < 2; r++) {
    extra[r] = a.E ? score_extra(j, own, row + 8 * r) : -INFINITY;
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
    fetch(memory + place<D>::K, place<D>::STEP, k + static_cast<int64_t>(first) * j.k.columns, j.k.columns, KEYS,
          j.k.columns);
    for (int key = first; key < keys.high; key += KEYS) {
      float s[KEY_TILES][4];
      ma_copy_wait();
      __syncthreads(); /* the keys are there, and nobody reads values any more */
      if (mixes) fetch(memory + place<D>::V, place<D>::KEY_STEP, v + key, j.v.rows, j.v.columns, KEYS);
      score<T, D>(s, j, own, memory, key);
      ma_copy_wait();
      __syncthreads(); /* the values are there, and nobody reads keys any more */
      if (key + KEYS < keys.high)
        fetch(memory + place<D>::K, place<D>::STEP, k + static_cast<int64_t>(key + KEYS) * j.k.columns, j.k.columns,
              KEYS, j.k.columns);
      if (mixes) mix<T, D>(o, s, most, sum, memory, a.d);
      else take_in(most, sum, s);
    }
  }
  MA_UNROLL for (int e = 0; e < D / 8; e++) {
    MA_UNROLL for (int i = 0; i < 4; i++) {
      const int query = row + i / 2 * 8, column = e * 8 + 2 * me.t + i % 2;
      if (query < a.Tq && column < a.d) a.out.at(own.b, query, own.h)[column * a.out.column] = o[e][i];
    }
  }
  if (!a.most || me.t != 0) return;
  MA_UNROLL for (int r = 0; r < 2; r++) {
    if (row + 8 * r >= a.Tq) continue;
    a.most[ma_row_of(a, own.b, own.h, row + 8 * r)] = most[r];
    a.inverse[ma_row_of(a, own.b, own.h, row + 8 * r)] = sum[r];
  }
}

template <typename T>
ma_status attend(ma_device *device, half_job *j, int *inexact, ma_error *err) {
  const ma_attention_job &a = j->a;
  MA_CUDA_TRY((pack<T, false>(device, j->q, a.q, a, a.H, a.Tq, inexact, err)));
  MA_CUDA_TRY((pack<T, false>(device, j->k, a.k, a, a.G, a.Tk, inexact, err)));
  MA_CUDA_TRY((pack<T, true>(device, j->v, a.v, a, a.G, a.Tk, inexact, err)));
  return ma_with_columns("attention", a.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    ma_grid grid = ma_grid_tiles<QUERIES / MA_SIDE>(device, a, a.H, a.Tq, 0);
    grid.threads = THREADS;
    grid.shared = place<D>::HALVES * sizeof(uint16_t);
    return ma_launch("attention", half_kernel<T, D>, grid, err, *j);
  });
}

} // namespace

ma_status ma_attention_half(ma_device *device, const ma_attention_job &a, ma_scratch *packed_heads, int **inexact,
                            ma_error *err) {
  half_job j{};
  const int columns = rounded_up(a.d, PACK), queries = rounded_up(a.Tq, QUERIES), keys = rounded_up(a.Tk, KEYS);
  const size_t of_q =
      static_cast<size_t>(a.B) * static_cast<size_t>(a.H) * static_cast<size_t>(queries) * static_cast<size_t>(columns);
  const size_t of_k =
      static_cast<size_t>(a.B) * static_cast<size_t>(a.G) * static_cast<size_t>(keys) * static_cast<size_t>(columns);
  MA_CUDA_TRY(packed_heads->take((of_q + 2 * of_k) * sizeof(uint16_t) + sizeof(int), err));
  j.a = a;
  j.q = {packed_heads->as<uint16_t>(), queries, columns};
  j.k = {j.q.data + of_q, keys, columns};
  j.v = {j.k.data + of_k, keys, columns};
  *inexact = reinterpret_cast<int *>(j.v.data + of_k);
  j.inexact = *inexact;
  MA_CUDA_TRY(ma_cuda_check(device, cudaMemsetAsync(*inexact, 0, sizeof **inexact, ma_cuda_state(device)->stream),
                            "attention", err));
  if (a.step == MA_BF16) return attend<ma_bf16>(device, &j, *inexact, err);
  return attend<ma_f16>(device, &j, *inexact, err);
}
