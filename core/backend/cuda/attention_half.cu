/* Attention of 16-bit queries, keys and values on the tensor cores, with scores and probabilities rounded to the same type (`step`):
 * products of such numbers are exact in f32, so that what comes out is what the plain kernel gives but for the order of additions.
 *
 * A warp has 16 queries; its product with a tile of keys is, as it lies in registers, the left operand of the product with the
 * values (Dao 2023, section 3.3).  The sum of a row has to be known before its probabilities can be rounded: keys are gone through
 * twice. */
#include "backend/cuda/attention.cuh"
#include "backend/cuda/tensor_core.cuh"

namespace {

constexpr int WARPS = 4, THREADS = WARPS * 32, QUERIES = WARPS * 16, KEYS = 64, KEY_TILES = KEYS / 8, PACK = 32;

int rounded_up(int n, int to) { return (n + to - 1) / to * to; }

/* ---- what a block reads ---- */

/* Rows of 16-bit numbers, of each head: `n` rows of `columns` (a multiple of 8), each aligned to 16 bytes. */
struct half_rows {
  const uint16_t *data;
  int64_t batch, head, row;
  int n, columns;
  __device__ const uint16_t *at(int b, int h, int64_t r) const { return data + b * batch + h * head + r * row; }
};

/* [B heads rows columns] with zeros up to whole tiles; or with the two last exchanged. */
template <bool TRANSPOSED>
__global__ void pack_kernel(uint16_t *to, int rows, int columns, const half_rows from, int64_t column_step, int heads) {
  __shared__ uint16_t tile[PACK][PACK + 2];
  const int across = columns / PACK, per_head = rows / PACK * across, i = static_cast<int>(blockIdx.x);
  const int head = i / per_head, row = i % per_head / across * PACK, column = i % across * PACK;
  const int x = static_cast<int>(threadIdx.x) % PACK, y = static_cast<int>(threadIdx.x) / PACK;
  const int lanes = static_cast<int>(blockDim.x) / PACK;
  for (int r = y; r < PACK; r += lanes) {
    const bool is_there = row + r < from.n && column + x < from.columns;
    tile[r][x] = is_there ? from.at(head / heads, head % heads, row + r)[(column + x) * column_step] : uint16_t{0};
  }
  __syncthreads();
  uint16_t *at = to + static_cast<int64_t>(head) * rows * columns;
  for (int r = y; r < PACK; r += lanes) {
    if (TRANSPOSED) at[static_cast<int64_t>(column + r) * rows + row + x] = tile[x][r];
    else at[static_cast<int64_t>(row + r) * columns + column + x] = tile[r][x];
  }
}

half_rows rows_of(const ma_tensor *t) {
  return {static_cast<const uint16_t *>(ma_tensor_data(t)),
          t->strides[0],
          t->strides[2],
          t->strides[1],
          static_cast<int>(t->shape[1]),
          static_cast<int>(t->shape[3])};
}

/* Whether a block can read [B T heads d] where it lies. */
bool lies_well(const ma_tensor *t) {
  const bool is_aligned = t->strides[0] % 8 == 0 && t->strides[1] % 8 == 0 && t->strides[2] % 8 == 0 &&
                          reinterpret_cast<uintptr_t>(ma_tensor_data(t)) % 16 == 0;
  return is_aligned && t->strides[3] == 1 && t->shape[3] % 16 == 0;
}

/* The tensor as it lies, or packed in *room; transposed, rows are dims and columns are tokens. */
template <bool TRANSPOSED>
ma_status make_rows(half_rows *out, ma_scratch *room, const ma_tensor *t, int tile, ma_error *err) {
  ma_device *device = ma_tensor_device(t);
  const half_rows from = rows_of(t);
  if (!TRANSPOSED && lies_well(t)) {
    *out = from;
    return MA_OK;
  }
  const int heads = static_cast<int>(t->shape[2]), rows = rounded_up(from.n, tile),
            columns = rounded_up(from.columns, PACK);
  const int64_t per_head = int64_t{rows} * columns, n_heads = t->shape[0] * heads;
  MA_CUDA_TRY(room->take(static_cast<size_t>(n_heads * per_head) * sizeof(uint16_t), err));
  *out = {room->as<uint16_t>(),        per_head * heads,           per_head, TRANSPOSED ? rows : columns,
          TRANSPOSED ? columns : rows, TRANSPOSED ? rows : columns};
  return ma_launch("attention", pack_kernel<TRANSPOSED>, ma_grid_rows(device, n_heads * (per_head / (PACK * PACK))),
                   err, room->as<uint16_t>(), rows, columns, from, t->strides[3], heads);
}

/* ---- attending ---- */

struct half_job {
  ma_attention_job a; /* but for q, k, v and out */
  half_rows q, k, v;  /* v transposed */
  void *out;          /* [B Tq H d] */
  ma_dtype out_dtype;
  int64_t out_strides[4];
  bool has_pairs; /* two neighbours of out are one word */
};

/* Shared memory, in 16-bit numbers; rows are 16 bytes longer than they need be, so that the 8 rows that a warp reads from meet in
 * no bank. */
template <int D>
struct place {
  static constexpr int STEP = D + 8, KEY_STEP = KEYS + 8;
  static constexpr int Q = 0, K = Q + QUERIES * STEP, V = K + KEYS * STEP, HALVES = V + D * KEY_STEP;
};

/* n_rows rows, of which n_there are there; the others are zeros.  Complete when ma_copy_wait and a barrier have passed. */
__device__ void fetch(uint16_t *to, int to_step, const uint16_t *from, int64_t from_step, int n_rows, int n_there,
                      int n_columns) {
  const int eights = n_columns / 8;
  for (int i = static_cast<int>(threadIdx.x); i < n_rows * eights; i += THREADS) {
    const int r = i / eights, c = i % eights * 8;
    ma_copy_async(to + r * to_step + c, from + r * from_step + c, r < n_there);
  }
}
__device__ void fetch_keys(uint16_t *to, int step, const half_rows &k, int b, int group, int first) {
  fetch(to, step, k.at(b, group, first), k.row, KEYS, k.n - first, k.columns);
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

/* The extra key's score with a query. */
template <typename T>
__device__ float score_extra(const half_job &j, const ma_own &own, int query) {
  const float *key = j.a.extra_key + static_cast<int64_t>(own.h) * j.a.d;
  const uint16_t *row = j.q.at(own.b, own.h, query < j.a.Tq ? query : 0);
  float sum = 0;
  for (int e = this_lane().t; e < j.a.d; e += 4) sum += ma_to_f32(T{row[e]}) * key[e];
  return ma_soften(j.a, over_lanes(sum, ma_add()));
}

/* Two neighbours of a row of out, from an even column on. */
template <typename T>
__device__ void put_pair(const half_job &j, const ma_own &own, int query, int column, float low, float high) {
  if (query >= j.a.Tq || column >= j.a.d) return;
  const int64_t at =
      own.b * j.out_strides[0] + query * j.out_strides[1] + own.h * j.out_strides[2] + column * j.out_strides[3];
  if (j.has_pairs) {
    *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(j.out) + at) = ma_pair_of(T(), low, high);
    return;
  }
  ma_store_f32(j.out, j.out_dtype, at, low);
  if (column + 1 < j.a.d) ma_store_f32(j.out, j.out_dtype, at + j.out_strides[3], high);
}

template <typename T, int D>
__global__ void __launch_bounds__(THREADS, D <= 128 ? 3 : 2) half_kernel(const half_job j) {
  MA_SHARED_BYTES(bytes);
  uint16_t *memory = reinterpret_cast<uint16_t *>(bytes);
  const ma_attention_job &a = j.a;
  const lane_of me = this_lane();
  const ma_own own = ma_locate<QUERIES / MA_SIDE, true>(a, a.H, a.Tq);
  const ma_range keys = ma_keys_of(a, own.first, own.n);
  const int first = keys.low / KEYS * KEYS, group = ma_group(a, own.h), row = own.first + me.warp * 16 + me.g;
  const uint16_t *v = j.v.at(own.b, group, 0);
  float most[2], sum[2], extra[2], o[D / 8][4];
  fetch(memory + place<D>::Q, place<D>::STEP, j.q.at(own.b, own.h, own.first), j.q.row, QUERIES, j.q.n - own.first,
        j.q.columns);
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
    fetch_keys(memory + place<D>::K, place<D>::STEP, j.k, own.b, group, first);
    for (int key = first; key < keys.high; key += KEYS) {
      float s[KEY_TILES][4];
      ma_copy_wait();
      __syncthreads(); /* the keys are there, and nobody reads values any more */
      if (mixes) fetch(memory + place<D>::V, place<D>::KEY_STEP, v + key, j.v.row, j.v.n, j.v.n, KEYS);
      score<T, D>(s, j, own, memory, key);
      ma_copy_wait();
      __syncthreads(); /* the values are there, and nobody reads keys any more */
      if (key + KEYS < keys.high) fetch_keys(memory + place<D>::K, place<D>::STEP, j.k, own.b, group, key + KEYS);
      if (mixes) mix<T, D>(o, s, most, sum, memory, a.d);
      else take_in(most, sum, s);
    }
  }
  MA_UNROLL for (int e = 0; e < D / 8; e++) {
    put_pair<T>(j, own, row, e * 8 + 2 * me.t, o[e][0], o[e][1]);
    put_pair<T>(j, own, row + 8, e * 8 + 2 * me.t, o[e][2], o[e][3]);
  }
  if (!a.most || me.t != 0) return;
  MA_UNROLL for (int r = 0; r < 2; r++) {
    if (row + 8 * r >= a.Tq) continue;
    a.most[ma_row_of(a, own.b, own.h, row + 8 * r)] = most[r];
    a.inverse[ma_row_of(a, own.b, own.h, row + 8 * r)] = sum[r];
  }
}

template <typename T>
ma_status attend(ma_device *device, const half_job &j, ma_error *err) {
  return ma_with_columns("attention", j.a.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    ma_grid grid = ma_grid_tiles<QUERIES / MA_SIDE>(device, j.a, j.a.H, j.a.Tq, 0);
    grid.threads = THREADS;
    grid.shared = place<D>::HALVES * sizeof(uint16_t);
    return ma_launch("attention", half_kernel<T, D>, grid, err, j);
  });
}

} // namespace

ma_status ma_attention_half(ma_tensor *out, const ma_attention_job &a, const ma_tensor *q, const ma_tensor *k,
                            const ma_tensor *v, ma_error *err) {
  ma_device *device = ma_tensor_device(q);
  ma_scratch room_q(device), room_k(device), room_v(device);
  half_job j{};
  j.a = a;
  MA_CUDA_TRY(make_rows<false>(&j.q, &room_q, q, QUERIES, err));
  MA_CUDA_TRY(make_rows<false>(&j.k, &room_k, k, KEYS, err));
  MA_CUDA_TRY(make_rows<true>(&j.v, &room_v, v, KEYS, err));
  j.out = ma_tensor_data(out), j.out_dtype = out->dtype;
  std::memcpy(j.out_strides, out->strides, sizeof j.out_strides);
  j.has_pairs = out->dtype == a.step && a.d % 2 == 0 && out->strides[3] == 1 &&
                reinterpret_cast<uintptr_t>(j.out) % sizeof(uint32_t) == 0;
  for (int i = 0; i < 3; i++) j.has_pairs = j.has_pairs && (out->shape[i] == 1 || out->strides[i] % 2 == 0);
  return a.step == MA_BF16 ? attend<ma_bf16>(device, j, err) : attend<ma_f16>(device, j, err);
}
