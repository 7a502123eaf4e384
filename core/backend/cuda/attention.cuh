/* What the kernels of attention share: a call as they see it, tiles of rows in shared memory, and the two products of tiles that
 * all of attention and of its gradient are made of (Dao et al. 2022, algorithms 1 and 4, with the loops of Dao 2023).
 *
 * A block has 16 x 16 threads and two kinds of tiles: its own one, whose results it keeps in registers, and the others that it
 * goes through.  Own rows are queries in the forward pass and for the gradient of q, keys for those of k and v; so each sum has
 * one owner, in one order, and nothing is added atomically. */
#ifndef MASSACT_BACKEND_CUDA_ATTENTION_CUH
#define MASSACT_BACKEND_CUDA_ATTENTION_CUH

#include <utility>

#include "backend/cuda/block.cuh"
#include "backend/cuda/element.cuh"

constexpr int MA_SIDE = 16, MA_TILE_THREADS = MA_SIDE * MA_SIDE;
constexpr int MA_MOST_HEAD = 256; /* dims of the widest head */

/* ---- a call, by value ---- */

/* Rows of heads: [B T H d] as it is, [B H T S] with the dims' strides exchanged.  What is read has columns next to each other. */
struct ma_heads {
  float *data;
  int64_t batch, row, head, column;
  __device__ float *at(int b, int64_t t, int h) const { return data + b * batch + t * row + h * head; }
};

struct ma_attention_job {
  ma_heads q, k, v, out;                /* out: z, or scores */
  const float *extra_key, *extra_value; /* [H d], or null */
  const float *slopes;                  /* [H], or null */
  float *most, *inverse;                /* [B H Tq] each row's largest score and 1 / sum of e^(score - most), or null */
  float scale, softcap;
  ma_dtype step;
  int window;                /* 0: all */
  int B, H, G, Tq, Tk, d, E; /* E: 1 with an extra key, which is column 0 */
};

__device__ inline int ma_group(const ma_attention_job &j, int h) { return h / (j.H / j.G); }
__device__ inline float ma_slope(const ma_attention_job &j, int h) { return j.slopes ? j.slopes[h] : 0; }
/* Where [B H Tq] has a row. */
__device__ inline int64_t ma_row_of(const ma_attention_job &j, int b, int h, int query) {
  return (static_cast<int64_t>(b) * j.H + h) * j.Tq + query;
}

/* The keys that some of `n` queries from `first` on see: low .. high - 1; and the queries that see some of `n` keys. */
struct ma_range {
  int low, high;
};
__device__ inline ma_range ma_keys_of(const ma_attention_job &j, int first, int n) {
  const int past = j.Tk - j.Tq, low = j.window > 0 ? past + first - j.window + 1 : 0;
  return {low > 0 ? low : 0, past + (first + n < j.Tq ? first + n : j.Tq)};
}
__device__ inline ma_range ma_queries_of(const ma_attention_job &j, int first, int n) {
  const int past = j.Tk - j.Tq, low = first - past;
  const int64_t high = static_cast<int64_t>(first) + n - 1 + j.window - past;
  return {low > 0 ? low : 0, j.window > 0 && high < j.Tq ? static_cast<int>(high > 0 ? high : 0) : j.Tq};
}

/* ---- scores ---- */

/* c tanh(s / c) of the scaled score, or the scaled score; rounded to the step before and after each of these. */
__device__ inline float ma_soften(const ma_attention_job &j, float raw) {
  if (j.step == MA_F32) return j.softcap == 0 ? raw * j.scale : j.softcap * tanhf(raw * (j.scale / j.softcap));
  const float scaled = ma_dev_round(ma_dev_round(raw, j.step) * j.scale, j.step);
  if (j.softcap == 0) return scaled;
  const float turned = ma_dev_round(tanhf(ma_dev_round(scaled * (1.0f / j.softcap), j.step)), j.step);
  return ma_dev_round(turned * j.softcap, j.step);
}

__device__ inline bool ma_sees(const ma_attention_job &j, int query, int key) {
  const int position = j.Tk - j.Tq + query;
  return query < j.Tq && key <= position && (j.window == 0 || key > position - j.window);
}

/* A softened score with its bias; -inf where the query does not see the key.  Distances are to the last key, or with an extra
 * key to the query (core/backend/cpu/attention.c says why). */
__device__ inline float ma_biased(const ma_attention_job &j, float softened, float slope, int query, int key) {
  if (!ma_sees(j, query, key)) return -INFINITY;
  const int origin = j.E ? j.Tk - j.Tq + query : j.Tk - 1;
  return j.slopes ? softened + slope * static_cast<float>(key - origin) : softened;
}

/* e^(score - most); a row of which nothing has been seen yet has no largest score. */
__device__ inline float ma_weight(float score, float most) { return most == -INFINITY ? 0 : expf(score - most); }

/* A probability, rounded to the step, from a score and what is known of its row. */
__device__ inline float ma_probability(const ma_attention_job &j, float score, float most, float inverse) {
  return ma_dev_round(ma_weight(score, most) * inverse, j.step);
}

/* ---- tiles ---- */

constexpr int MA_OTHERS = 64,
              MA_OTHERS_EACH = MA_OTHERS / MA_SIDE; /* rows of a tile that is gone through, in all and of a thread */

__device__ inline int ma_tile_x() { return static_cast<int>(threadIdx.x) % MA_SIDE; }
__device__ inline int ma_tile_y() { return static_cast<int>(threadIdx.x) / MA_SIDE; }

/* Floats from row to row: 4 more than there are columns, so that threads which read 4 columns of neighbouring rows meet in no
 * bank. */
__host__ __device__ constexpr int ma_tile_step(int columns) { return columns + 4; }
__host__ __device__ constexpr int ma_tile_floats(int rows, int columns) { return rows * ma_tile_step(columns); }

/* N rows of D columns, of which the first n_rows and d are there; the rest is 0.  Between barriers of the caller. */
template <int N, int D>
__device__ inline void ma_load_tile(float *tile, const float *from, int64_t row, int n_rows, int d) {
  constexpr int FOURS = D / 4;
  const bool is_aligned = d % 4 == 0 && row % 4 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0;
  for (int i = static_cast<int>(threadIdx.x); i < N * FOURS; i += MA_TILE_THREADS) {
    const int r = i / FOURS, c = i % FOURS * 4;
    const float *at = from + r * row + c;
    float4 x = make_float4(0, 0, 0, 0);
    if (r < n_rows && is_aligned && c < d) {
      x = *reinterpret_cast<const float4 *>(at);
    } else if (r < n_rows && !is_aligned) {
      if (c < d) x.x = at[0];
      if (c + 1 < d) x.y = at[1];
      if (c + 2 < d) x.z = at[2];
      if (c + 3 < d) x.w = at[3];
    }
    *reinterpret_cast<float4 *>(tile + r * ma_tile_step(D) + c) = x;
  }
}

__device__ inline float4 ma_four_at(const float *tile) { return *reinterpret_cast<const float4 *>(tile); }

/* s = own other^T: of a thread, own rows y R .. y R + R - 1 and other rows x, x + 16, ... */
template <int R, int C, int D>
__device__ inline void ma_dot_tiles(float (&s)[R][C], const float *own, const float *other, int d) {
  MA_UNROLL for (int i = 0; i < R; i++) MA_UNROLL for (int c = 0; c < C; c++) s[i][c] = 0;
  own += ma_tile_y() * R * ma_tile_step(D);
  other += ma_tile_x() * ma_tile_step(D);
  for (int e = 0; e < d; e += 4) {
    float4 a[R], b[C];
    MA_UNROLL for (int i = 0; i < R; i++) a[i] = ma_four_at(own + i * ma_tile_step(D) + e);
    MA_UNROLL for (int c = 0; c < C; c++) b[c] = ma_four_at(other + c * MA_SIDE * ma_tile_step(D) + e);
    MA_UNROLL for (int i = 0; i < R; i++) {
      MA_UNROLL for (int c = 0; c < C; c++) {
        s[i][c] += a[i].x * b[c].x;
        s[i][c] += a[i].y * b[c].y;
        s[i][c] += a[i].z * b[c].z;
        s[i][c] += a[i].w * b[c].w;
      }
    }
  }
}

/* Column `i` of the D / 16 that a thread keeps of each own row. */
__device__ inline int ma_column_of(int i) { return i / 4 * 4 * MA_SIDE + ma_tile_x() * 4 + i % 4; }

template <int D>
__device__ inline void ma_add_scaled(float *o, float p, const float *row) {
  MA_UNROLL for (int c = 0; c < D / 64; c++) {
    const float4 x = ma_four_at(row + c * 4 * MA_SIDE + ma_tile_x() * 4);
    o[4 * c] += p * x.x;
    o[4 * c + 1] += p * x.y;
    o[4 * c + 2] += p * x.z;
    o[4 * c + 3] += p * x.w;
  }
}

/* o += p other, p [16 R, 16 C] in shared memory; a thread's rows of p are written by threads of its warp. */
template <int R, int C, int D>
__device__ inline void ma_mix_tiles(float (&o)[R][D / 16], const float *p, const float *other, int n_others) {
  p += ma_tile_y() * R * ma_tile_step(MA_SIDE * C);
  for (int k = 0; k < n_others; k += 4) { /* what lies past n_others is 0 in p, and finite in other */
    float4 part[R];
    MA_UNROLL for (int i = 0; i < R; i++) part[i] = ma_four_at(p + i * ma_tile_step(MA_SIDE * C) + k);
    MA_UNROLL for (int i = 0; i < R; i++) ma_add_scaled<D>(o[i], part[i].x, other + k * ma_tile_step(D));
    MA_UNROLL for (int i = 0; i < R; i++) ma_add_scaled<D>(o[i], part[i].y, other + (k + 1) * ma_tile_step(D));
    MA_UNROLL for (int i = 0; i < R; i++) ma_add_scaled<D>(o[i], part[i].z, other + (k + 2) * ma_tile_step(D));
    MA_UNROLL for (int i = 0; i < R; i++) ma_add_scaled<D>(o[i], part[i].w, other + (k + 3) * ma_tile_step(D));
  }
}

/* Puts a thread's part of a product of tiles where ma_mix_tiles looks for it. */
template <int R, int C>
__device__ inline void ma_put_tile(float *p, const float (&s)[R][C]) {
  MA_UNROLL for (int i = 0; i < R; i++) MA_UNROLL for (int c = 0; c < C; c++)
      p[(ma_tile_y() * R + i) * ma_tile_step(MA_SIDE * C) + c * MA_SIDE + ma_tile_x()] = s[i][c];
}

/* Writes the own rows that are there. */
template <int R, int D>
__device__ inline void ma_store_rows(float *to, int64_t row, int64_t column, const float (&o)[R][D / 16], int n_rows,
                                     int d) {
  MA_UNROLL for (int i = 0; i < R; i++) {
    const int r = ma_tile_y() * R + i;
    MA_UNROLL for (int c = 0; c < D / 16; c++) if (r < n_rows && ma_column_of(c) < d)
        to[r * row + ma_column_of(c) * column] = o[i][c];
  }
}

/* Over the 16 threads that share own rows. */
template <typename T, typename F>
__device__ inline T ma_row_reduce(T value, F combine) {
  for (int offset = MA_SIDE / 2; offset > 0; offset /= 2)
    value = combine(value, __shfl_xor_sync(MA_ALL_LANES, value, offset));
  return value;
}

/* The product of two vectors, by 16 threads. */
__device__ inline float ma_row_dot(const float *a, const float *b, int d) {
  float sum = 0;
  for (int e = ma_tile_x(); e < d; e += MA_SIDE) sum += a[e] * b[e];
  return ma_row_reduce(sum, ma_add());
}

/* ---- blocks ---- */

/* Own rows of one head. */
struct ma_own {
  int b, h, first, n;
};

/* Of `heads` heads a sequence with T rows each.  Those with most to do come first, so that none is left alone at the end: the last
 * queries, which see the most keys (LAST_FIRST), or the first keys. */
template <int R, bool LAST_FIRST>
__device__ inline ma_own ma_locate(const ma_attention_job &j, int heads, int T) {
  constexpr int ROWS = R * MA_SIDE;
  const int n_heads = j.B * heads, n_blocks = (T + ROWS - 1) / ROWS, i = static_cast<int>(blockIdx.x);
  const int head = i % n_heads, block = LAST_FIRST ? n_blocks - 1 - i / n_heads : i / n_heads;
  return {head / heads, head % heads, block * ROWS, T - block * ROWS < ROWS ? T - block * ROWS : ROWS};
}

/* A block for each. */
template <int R>
ma_grid ma_grid_tiles(ma_device *device, const ma_attention_job &j, int heads, int T, int floats) {
  constexpr int ROWS = R * MA_SIDE;
  const int64_t n_blocks = (T + ROWS - 1) / ROWS;
  return ma_grid_rows(device, n_blocks * j.B * heads, MA_TILE_THREADS, static_cast<size_t>(floats) * sizeof(float));
}

/* Scores of own queries with a tile of keys. */
template <int R, int D>
__device__ inline void ma_score_tile(float (&s)[R][MA_OTHERS_EACH], const ma_attention_job &j, const ma_own &own,
                                     const float *queries, const float *keys, int first_key) {
  const float slope = ma_slope(j, own.h);
  ma_dot_tiles<R, MA_OTHERS_EACH, D>(s, queries, keys, j.d);
  MA_UNROLL for (int i = 0; i < R; i++) MA_UNROLL for (int c = 0; c < MA_OTHERS_EACH; c++) s[i][c] = ma_biased(
      j, ma_soften(j, s[i][c]), slope, own.first + ma_tile_y() * R + i, first_key + c * MA_SIDE + ma_tile_x());
}

/* The score of the extra key, which every query sees and no bias changes; `row` is a query's. */
__device__ inline float ma_score_extra(const ma_attention_job &j, int h, const float *row) {
  return ma_soften(j, ma_row_dot(row, j.extra_key + static_cast<int64_t>(h) * j.d, j.d));
}

/* o = p value: what the extra value adds comes first. */
template <int R, int D>
__device__ inline void ma_mix_extra(float (&o)[R][D / 16], const float (&p)[R], const ma_attention_job &j, int h) {
  MA_UNROLL for (int x = 0; x < D / 16; x++) {
    const int e = ma_column_of(x);
    const float value = j.extra_value && e < j.d ? j.extra_value[static_cast<int64_t>(h) * j.d + e] : 0;
    MA_UNROLL for (int i = 0; i < R; i++) o[i][x] = p[i] * value;
  }
}

/* ---- of the host ---- */

/* A call, and what it holds on to: heads that lie as kernels read them, slopes on the device. */
struct ma_attention_call {
  ma_attention_job job{};
  ma_held q, k, v;
  ma_scratch slopes, stats;
  explicit ma_attention_call(ma_device *device) : slopes(device), stats(device) {}
};

/* A tensor's numbers where they lie, or in a copy in f32 with columns next to each other. */
ma_status ma_attention_heads(ma_heads *out, ma_held *held, const ma_tensor *t, ma_error *err);
/* The same of [B H T S]. */
ma_status ma_attention_rows(ma_heads *out, ma_held *held, const ma_tensor *t, ma_error *err);
ma_heads ma_attention_out(const ma_tensor *t);
/* All of a call but the tensors' numbers: sizes, slopes, the extra key and value. */
ma_status ma_attention_describe(ma_attention_call *call, const ma_tensor *q, const ma_tensor *k,
                                const ma_attention_how *how, ma_error *err);
/* Queries, keys and values as f32, unless the call has them already; v may be null. */
ma_status ma_attention_widen(ma_attention_call *call, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                             ma_error *err);
/* Both of attention_mix: sizes, v, and the extra value. */
ma_status ma_attention_prepare_mix(ma_attention_call *call, const ma_tensor *probs, const ma_tensor *v,
                                   const ma_attention_how *how, ma_error *err);
/* Makes room for most and inverse. */
ma_status ma_attention_note_rows(ma_attention_call *call, ma_error *err);
/* attention's kernels, of a call that is described: fill out, of any float type, and most and inverse where they are there. */
ma_status ma_attention_attend(ma_attention_call *call, ma_tensor *out, const ma_tensor *q, const ma_tensor *k,
                              const ma_tensor *v, ma_error *err);

/* The same on tensor cores: q, k, v are of the type of `step`, 16 bits, and out is f32 or one that this can store to. */
ma_status ma_attention_half(ma_device *device, const ma_attention_job &job, const ma_tensor *out, const ma_tensor *q,
                            const ma_tensor *k, const ma_tensor *v, ma_error *err);
bool ma_attention_half_stores(const ma_tensor *out, ma_dtype step);

/* Calls f with the number of columns that tiles for heads of d dims have, as a type. */
template <int N>
struct ma_columns {
  static constexpr int value = N;
};
template <typename F>
ma_status ma_with_columns(const char *name, int64_t d, ma_error *err, F f) {
  if (d <= 64) return f(ma_columns<64>());
  if (d <= 128) return f(ma_columns<128>());
  if (d <= MA_MOST_HEAD) return f(ma_columns<MA_MOST_HEAD>());
  return ma_fail(err, MA_UNSUPPORTED, "%s: heads of %lld dims, and %d are the most on a GPU; use the CPU", name,
                 static_cast<long long>(d), MA_MOST_HEAD);
}

#endif
