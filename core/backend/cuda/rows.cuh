/* Tensors as rows of their last dim, each the work of a team of threads: a warp where rows are short, else a block.
 *
 * A thread has fours (four elements) of a row: neighbours where every tensor is aligned, else elements that lie a team's size
 * apart, so that a warp reads neighbours either way.  What a kernel needs more than once stays in registers, for rows of up to
 * MA_ROW_LONGEST elements; longer ones are read again, from a cache if all goes well.  Kernels are compiled for both (HELD).
 * The order of sums depends on the row's length alone. */
#ifndef MASSACT_BACKEND_CUDA_ROWS_CUH
#define MASSACT_BACKEND_CUDA_ROWS_CUH

#include "backend/cuda/block.cuh"
#include "backend/cuda/walk.cuh"

constexpr int MA_ROW_FOURS = 4;          /* that a thread holds of a row */
constexpr unsigned MA_ROW_THREADS = 512; /* of a block, at most: 128 registers a thread */
constexpr int64_t MA_ROW_LONGEST = int64_t{4} * MA_ROW_FOURS * MA_ROW_THREADS;
constexpr unsigned MA_ROW_WARPS = 4; /* rows, one a warp, that a block works on where they are short */

/* Handed to kernels by value. */
struct ma_cuda_rows {
  ma_cuda_walk starts; /* of the rows: over all dims but the last */
  int64_t length;
  int64_t strides[MA_CUDA_WALK_MAX]; /* of the last dim */
  unsigned team;                     /* threads that share a row */
  bool is_aligned;                   /* fours are */
  bool is_held;
};

/* Broadcast to the first tensor, which has at least one element; NULL: no such tensor, whose elements read as 0. */
inline ma_cuda_rows ma_cuda_rows_of(int n, const ma_tensor *const *tensors) {
  ma_cuda_rows r{};
  ma_tensor starts[MA_CUDA_WALK_MAX];
  const ma_tensor *of_starts[MA_CUDA_WALK_MAX];
  r.length = tensors[0]->shape[tensors[0]->n_dims - 1];
  r.is_aligned = r.length % 4 == 0;
  for (int t = 0; t < n; t++) {
    starts[t] = tensors[t] ? *tensors[t] : *tensors[0];
    const int last = --starts[t].n_dims;
    r.strides[t] = starts[t].shape[last] == 1 && r.length != 1 ? 0 : starts[t].strides[last];
    r.is_aligned = r.is_aligned && r.strides[t] == 1;
    of_starts[t] = &starts[t];
  }
  r.starts = ma_cuda_walk_over(n, of_starts);
  for (int t = 0; t < n; t++) {
    const uintptr_t four = 4 * ma_dtype_describe(r.starts.dtype[t])->bytes;
    r.is_aligned = r.is_aligned && reinterpret_cast<uintptr_t>(r.starts.data[t]) % four == 0;
    for (int d = 0; d < r.starts.n_dims; d++) r.is_aligned = r.is_aligned && r.starts.strides[t][d] % 4 == 0;
    if (!tensors[t]) r.starts.data[t] = nullptr;
  }
  const int64_t threads = (r.length + 4 * MA_ROW_FOURS - 1) / (4 * MA_ROW_FOURS);
  r.team = threads < MA_ROW_THREADS ? static_cast<unsigned>((threads + MA_WARP - 1) / MA_WARP * MA_WARP) : MA_ROW_THREADS;
  r.is_held = r.length <= MA_ROW_LONGEST;
  return r;
}

inline unsigned ma_teams_of_block(const ma_cuda_rows &r) { return r.team == MA_WARP ? MA_ROW_WARPS : 1; }

/* A team for each row, but no more than `most` teams: they stride (MA_EACH_ROW). */
inline ma_grid ma_grid_teams(ma_device *device, const ma_cuda_rows &r, int64_t most = 1 << 22) {
  const int64_t teams = r.starts.count < most ? r.starts.count : most, together = ma_teams_of_block(r);
  return {device, dim3(static_cast<unsigned>((teams + together - 1) / together)), r.team * ma_teams_of_block(r), 0};
}

/* ---- in kernels, which have MA_ROW_KERNEL for __global__ ---- */

#define MA_ROW_KERNEL __global__ void __launch_bounds__(MA_ROW_THREADS)

/* This thread's team among all of the launch. */
__device__ inline int64_t ma_team(const ma_cuda_rows &r) {
  return static_cast<int64_t>(blockIdx.x) * (blockDim.x / r.team) + threadIdx.x / r.team;
}
__device__ inline int64_t ma_n_teams(const ma_cuda_rows &r) { return static_cast<int64_t>(gridDim.x) * (blockDim.x / r.team); }

/* Loop of a team over its rows. */
#define MA_EACH_ROW(i, r) (int64_t i = ma_team(r); i < (r).starts.count; i += ma_n_teams(r))

/* What a thread has of a row.  Fours are named by `k`; one past the row's end reads as 0 and is not written. */
template <int N, bool HELD> struct ma_row {
  const ma_cuda_rows &rows;
  unsigned rank; /* of the thread in its team */
  int64_t at[N]; /* where the row begins in each tensor */

  __device__ ma_row(const ma_cuda_rows &r, int64_t index) : rows(r), rank(threadIdx.x % r.team) {
    ma_walk_at<N>(r.starts, index, at);
  }

  /* Which element of the row the e-th of four k is. */
  __device__ int64_t place(int64_t k, int e) const {
    return rows.is_aligned ? 4 * (k * rows.team + rank) + e : (4 * k + e) * rows.team + rank;
  }
  __device__ bool has(int64_t k, int e) const { return place(k, e) < rows.length; }

  __device__ ma_four load(int t, int64_t k) const {
    ma_four four{};
    if (!rows.starts.data[t]) return four;
    if (rows.is_aligned) return has(k, 0) ? ma_load_four(rows.starts.data[t], rows.starts.dtype[t], at[t] + place(k, 0)) : four;
    for (int e = 0; e < 4; e++)
      if (has(k, e)) four.x[e] = ma_load_f32(rows.starts.data[t], rows.starts.dtype[t], at[t] + place(k, e) * rows.strides[t]);
    return four;
  }

  __device__ void store(int t, int64_t k, const ma_four &four) const {
    if (rows.is_aligned) {
      if (has(k, 0)) ma_store_four(rows.starts.data[t], rows.starts.dtype[t], at[t] + place(k, 0), four);
      return;
    }
    for (int e = 0; e < 4; e++)
      if (has(k, e)) ma_store_f32(rows.starts.data[t], rows.starts.dtype[t], at[t] + place(k, e) * rows.strides[t], four.x[e]);
  }

  /* The elements of tensor `t`: read when they are asked for, or read once. */
  struct read_values {
    const ma_row &row;
    int t;
    __device__ ma_four operator[](int64_t k) const { return row.load(t, k); }
  };
  struct kept_values {
    ma_four fours[MA_ROW_FOURS];
    __device__ ma_four operator[](int64_t k) const { return fours[k]; }
  };
  __device__ read_values read(int t) const { return {*this, t}; }
  __device__ auto keep(int t) const {
    if constexpr (HELD) {
      kept_values kept;
      MA_UNROLL for (int k = 0; k < MA_ROW_FOURS; k++) kept.fours[k] = load(t, k);
      return kept;
    } else {
      return read(t);
    }
  }

  /* f(k) for every four of the thread. */
  template <typename F> __device__ void each(F f) const {
    if constexpr (HELD) {
      MA_UNROLL for (int k = 0; k < MA_ROW_FOURS; k++) f(k);
    } else {
      for (int64_t k = 0; 4 * k * rows.team < rows.length; k++) f(k);
    }
  }

  /* All elements f(x, ...), `values` being what read or keep gave, put together by the team. */
  template <typename C, typename F, typename... V> __device__ float reduce(float none, C combine, F f, const V &...values) const {
    float result = none;
    each([&](int64_t k) { fold(k, result, combine, f, values[k]...); });
    return rows.team == MA_WARP ? ma_warp_reduce(result, combine) : ma_block_reduce(result, none, combine);
  }
  template <typename F, typename... V> __device__ float sum(F f, const V &...values) const {
    return reduce(0, ma_add(), f, values...);
  }
  /* The largest element; NaN wins. */
  template <typename V> __device__ float max(const V &values) const {
    return reduce(-INFINITY, ma_larger(), [](float x) { return x; }, values);
  }

  /* Tensor `t` becomes f(x, ...). */
  template <typename F, typename... V> __device__ void write(int t, F f, const V &...values) const {
    each([&](int64_t k) { store(t, k, map(f, values[k]...)); });
  }

 private:
  template <typename C, typename F, typename... FOURS>
  __device__ void fold(int64_t k, float &result, C combine, F f, const FOURS &...fours) const {
    for (int e = 0; e < 4; e++)
      if (has(k, e)) result = combine(result, f(fours.x[e]...));
  }
  template <typename F, typename... FOURS> __device__ ma_four map(F f, const FOURS &...fours) const {
    ma_four out;
    for (int e = 0; e < 4; e++) out.x[e] = f(fours.x[e]...);
    return out;
  }
};

#endif
