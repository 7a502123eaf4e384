/* Attention of 16-bit tensors on the tensor cores, forward and back: rows where they lie, tiles of them in shared memory, and a
 * lane's part of these. */
#ifndef MASSACT_BACKEND_CUDA_ATTENTION_HALF_CUH
#define MASSACT_BACKEND_CUDA_ATTENTION_HALF_CUH

#include "backend/cuda/attention.cuh"
#include "backend/cuda/tensor_core.cuh"

/* A block has 64 rows of its own, 16 a warp, and goes through others 64 at a time. */
constexpr int MA_HALF_WARPS = 4, MA_HALF_THREADS = MA_HALF_WARPS * 32, MA_HALF_ROWS = MA_HALF_WARPS * 16,
              MA_HALF_TILES = MA_HALF_ROWS / 8;
constexpr int MA_EIGHT = 8, MA_DEPTH = 16; /* numbers of a copy, and columns of a step of a product */

/* Numbers from row to row in shared memory: 16 bytes more than they need be, so that the 8 rows that a warp reads from meet in no
 * bank. */
template <int D>
constexpr int MA_HALF_STEP = D + 8;
template <int D>
constexpr int MA_HALF_TILE = MA_HALF_ROWS *MA_HALF_STEP<D>;

/* ---- rows ---- */

/* Rows of heads, [B T H columns], columns next to each other. */
struct ma_half_rows {
  uint16_t *data;
  int64_t batch, row, head;
  __device__ uint16_t *at(int b, int64_t t, int h) const { return data + b * batch + t * row + h * head; }
};

inline ma_half_rows ma_half_rows_of(const ma_tensor *t) {
  return {static_cast<uint16_t *>(ma_tensor_data(t)), t->strides[0], t->strides[1], t->strides[2]};
}

/* Whether rows lie in groups of `n` numbers that are aligned as a whole. */
inline bool ma_half_is_aligned(const ma_tensor *t, int n) {
  bool is = t->strides[3] == 1 && t->shape[3] % n == 0 &&
            reinterpret_cast<uintptr_t>(ma_tensor_data(t)) % (static_cast<size_t>(n) * sizeof(uint16_t)) == 0;
  for (int i = 0; i < 3; i++) is = is && (t->shape[i] == 1 || t->strides[i] % n == 0);
  return is;
}

/* `t` where it lies, or a copy with zeros up to whole columns. */
inline ma_status ma_half_lay_out(ma_half_rows *out, ma_held *held, const ma_tensor *t, int columns, ma_error *err) {
  ma_held part;
  if (columns == t->shape[3] && ma_half_is_aligned(t, MA_EIGHT)) {
    *out = ma_half_rows_of(t);
    return MA_OK;
  }
  const int64_t shape[4] = {t->shape[0], t->shape[1], t->shape[2], columns};
  MA_CUDA_TRY(ma_tensor_new(&held->tensor, ma_tensor_device(t), t->dtype, 4, shape, err));
  if (columns > t->shape[3]) MA_CUDA_TRY(ma_cuda_fill(&held->tensor, 0, err));
  MA_CUDA_TRY(ma_tensor_narrow(&part.tensor, &held->tensor, 3, 0, t->shape[3], err));
  *out = ma_half_rows_of(&held->tensor);
  return ma_cuda_copy(&part.tensor, t, err);
}

/* N rows, of which the first n_rows are there; the rest is 0, since 0 times what memory held before may be NaN.  To be read when
 * ma_copy_wait and a barrier have passed. */
template <int N, int D>
__device__ inline void ma_half_fetch(uint16_t *to, const uint16_t *from, int64_t row, int n_rows, int n_columns) {
  const int eights = n_columns / MA_EIGHT;
  for (int i = static_cast<int>(threadIdx.x); i < N * eights; i += MA_HALF_THREADS) {
    const int r = i / eights, c = i % eights * MA_EIGHT;
    ma_copy_async(to + r * MA_HALF_STEP<D> + c, from + (r < n_rows ? r * row : 0) + c, r < n_rows);
  }
}

/* ---- lanes ---- */

/* A lane's part of the tiles of its warp: rows g and g + 8; columns 2 t and 2 t + 1 of every 8. */
struct ma_lane {
  int warp, lane, g, t;
};
__device__ inline ma_lane ma_this_lane() {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return {static_cast<int>(threadIdx.x) / 32, lane, lane / 4, lane % 4};
}

__device__ inline void ma_load_left(uint32_t (&a)[4], const uint16_t *at, int step) {
  a[0] = ma_pair_at(at), a[1] = ma_pair_at(at + 8 * step), a[2] = ma_pair_at(at + 8),
  a[3] = ma_pair_at(at + 8 * step + 8);
}
__device__ inline void ma_load_right(uint32_t (&b)[2], const uint16_t *at) {
  b[0] = ma_pair_at(at), b[1] = ma_pair_at(at + 8);
}

/* A warp's 16 rows, from `own` on, times 64 rows of another tile. */
template <typename T, int D>
__device__ inline void ma_half_dot(float (&s)[MA_HALF_TILES][4], const uint16_t *own, const uint16_t *other,
                                   int columns) {
  const ma_lane me = ma_this_lane();
  own += (me.warp * 16 + me.g) * MA_HALF_STEP<D> + 2 * me.t;
  other += me.g * MA_HALF_STEP<D> + 2 * me.t;
  MA_UNROLL for (int n = 0; n < MA_HALF_TILES; n++) MA_UNROLL for (int i = 0; i < 4; i++) s[n][i] = 0;
  for (int e = 0; e < columns; e += MA_DEPTH) {
    uint32_t left[4], right[2];
    ma_load_left(left, own + e, MA_HALF_STEP<D>);
    MA_UNROLL for (int n = 0; n < MA_HALF_TILES; n++) {
      ma_load_right(right, other + n * 8 * MA_HALF_STEP<D> + e);
      ma_multiply_add(T(), s[n], left, right);
    }
  }
}

/* o [16 D] += w rows, `w` a warp's [16 64], rounded, and `rows` a tile.  w(n, i) is the i-th of a lane's four of columns 8 n on. */
template <typename T, int D, typename W>
__device__ inline void ma_half_mix(float (&o)[D / 8][4], const uint16_t *rows, int columns, W w) {
  const ma_lane me = ma_this_lane();
  rows += me.lane % 16 * MA_HALF_STEP<D> + me.lane / 16 * MA_EIGHT;
  MA_UNROLL for (int n = 0; n < MA_HALF_TILES; n += 2) {
    uint32_t left[4], right[2][2];
    MA_UNROLL for (int i = 0; i < 4; i++) left[i] =
        ma_pair_of(T(), w(n + i / 2, i % 2 * 2), w(n + i / 2, i % 2 * 2 + 1));
    MA_UNROLL for (int e = 0; e < D / 8; e += 2) {
      if (e * 8 >= columns) break;
      ma_load_columns(right, rows + n * 8 * MA_HALF_STEP<D> + e * 8);
      ma_multiply_add(T(), o[e], left, right[0]);
      ma_multiply_add(T(), o[e + 1], left, right[1]);
    }
  }
}

#endif
