/* Tensors as rows of their last dim, each the work of a team of threads: a warp where rows are short, else a block.
 *
 * Kernels are compiled twice.  HELD: rows of at most MA_ROW_LONGEST floats, every tensor aligned; a thread has fours of
 * neighbours, and what it needs more than once stays in registers.  Else: any layout; a thread's elements lie a team's size
 * apart, so that a warp reads neighbours, and are read again, from a cache if all goes well.
 * The order of sums depends on the row's length and layout alone. */
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
  bool is_aligned;                   /* every four elements from a row's start on are, in every tensor */
  bool is_held;
};

/* Broadcast to the first tensor, which has at least one element; NULL: no such tensor, whose elements read as 0. */
inline ma_cuda_rows ma_cuda_rows_of(int n, const ma_tensor *const *tensors) {
  ma_cuda_rows r{};
  ma_tensor starts[MA_CUDA_WALK_MAX];
  const ma_tensor *of_starts[MA_CUDA_WALK_MAX]{};
  r.length = tensors[0]->shape[tensors[0]->n_dims - 1];
  r.is_aligned = r.length % 4 == 0;
  r.is_held = r.length <= MA_ROW_LONGEST;
  for (int t = 0; t < n; t++) {
    starts[t] = tensors[t] ? *tensors[t] : *tensors[0];
    const int last = --starts[t].n_dims;
    r.strides[t] = starts[t].shape[last] == 1 && r.length != 1 ? 0 : starts[t].strides[last];
    r.is_aligned = r.is_aligned && r.strides[t] == 1;
    r.is_held = r.is_held && ma_dtype_is_float(starts[t].dtype);
    of_starts[t] = &starts[t];
  }
  r.starts = ma_cuda_walk_over(n, of_starts);
  for (int t = 0; t < n; t++) {
    const uintptr_t four = 4 * ma_dtype_describe(r.starts.dtype[t])->bytes;
    r.is_aligned = r.is_aligned && reinterpret_cast<uintptr_t>(r.starts.data[t]) % four == 0;
    for (int d = 0; d < r.starts.n_dims; d++)
      r.is_aligned = r.is_aligned && (r.starts.shape[d] == 1 || r.starts.strides[t][d] % 4 == 0);
    if (!tensors[t]) r.starts.data[t] = nullptr;
  }
  const int64_t threads = (r.length + 4 * MA_ROW_FOURS - 1) / (4 * MA_ROW_FOURS);
  r.team =
      threads < MA_ROW_THREADS ? static_cast<unsigned>((threads + MA_WARP - 1) / MA_WARP * MA_WARP) : MA_ROW_THREADS;
  r.is_held = r.is_held && r.is_aligned;
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
__device__ inline int64_t ma_n_teams(const ma_cuda_rows &r) {
  return static_cast<int64_t>(gridDim.x) * (blockDim.x / r.team);
}

/* Loop of a team over its rows. */
#define MA_EACH_ROW(i, r) (int64_t i = ma_team(r); i < (r).starts.count; i += ma_n_teams(r))

/* A thread of a team.  Its fours of a row are named by `k`. */
template <bool HELD>
struct ma_team_thread {
  const ma_cuda_rows &rows;
  unsigned rank;

  __device__ explicit ma_team_thread(const ma_cuda_rows &r) : rows(r), rank(threadIdx.x % r.team) {}

  /* Which element of a row the e-th of four k is. */
  __device__ int64_t place(int64_t k, int e) const {
    return HELD ? 4 * (k * rows.team + rank) + e : (4 * k + e) * rows.team + rank;
  }
  __device__ bool has(int64_t k, int e) const { return place(k, e) < rows.length; }

  /* f(k) for every four of the thread. */
  template <typename F>
  __device__ void each(F f) const {
    if constexpr (HELD) {
      MA_UNROLL for (int k = 0; k < MA_ROW_FOURS; k++) f(k);
    } else {
      for (int64_t k = 0; 4 * k * rows.team < rows.length; k++) f(k);
    }
  }

  /* What the threads of the team have, put together. */
  template <typename T, typename C>
  __device__ T together(T value, T none, C combine) const {
    return rows.team == MA_WARP ? ma_warp_reduce(value, combine) : ma_block_reduce(value, none, combine);
  }
};

/* Of one row.  Elements past its end read as 0 and are not written. */
template <int N, bool HELD>
struct ma_row : ma_team_thread<HELD> {
  using ma_team_thread<HELD>::rows;
  using ma_team_thread<HELD>::place;
  using ma_team_thread<HELD>::has;
  using ma_team_thread<HELD>::each;
  int64_t at[N]; /* where the row begins in each tensor */

  __device__ ma_row(const ma_cuda_rows &r, int64_t index) : ma_team_thread<HELD>(r) {
    ma_walk_at<N>(r.starts, index, at);
  }

  __device__ ma_four load(int t, int64_t k) const {
    const void *data = rows.starts.data[t];
    const ma_dtype dtype = rows.starts.dtype[t];
    ma_four four{};
    if (!data) return four;
    if constexpr (HELD) {
      if (has(k, 0)) four = ma_load_four_floats(data, dtype, at[t] + place(k, 0));
    } else {
      for (int e = 0; e < 4; e++)
        if (has(k, e)) four.x[e] = ma_load_f32(data, dtype, at[t] + place(k, e) * rows.strides[t]);
    }
    return four;
  }

  __device__ void store(int t, int64_t k, const ma_four &four) const {
    void *data = rows.starts.data[t];
    const ma_dtype dtype = rows.starts.dtype[t];
    if constexpr (HELD) {
      if (has(k, 0)) ma_store_four_floats(data, dtype, at[t] + place(k, 0), four);
    } else {
      for (int e = 0; e < 4; e++)
        if (has(k, e)) ma_store_f32(data, dtype, at[t] + place(k, e) * rows.strides[t], four.x[e]);
    }
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

  /* Tensor `t` becomes the sum of itself and `u`, which is rounded as it is stored; its elements, as keep gives them. */
  __device__ auto keep_sum(int t, int u) const {
    const ma_dtype dtype = rows.starts.dtype[t];
    const auto sum_of = [=](float a, float b) { return ma_dev_round(a + b, dtype); };
    if constexpr (HELD) {
      kept_values sum;
      MA_UNROLL for (int k = 0; k < MA_ROW_FOURS; k++) {
        sum.fours[k] = map(sum_of, load(t, k), load(u, k));
        store(t, k, sum.fours[k]);
      }
      return sum;
    } else {
      write(t, sum_of, read(t), read(u));
      return read(t);
    }
  }

  /* All of the thread's f(x, ...), `values` being what read or keep gave; and all of the team's. */
  template <typename T, typename C, typename F, typename... V>
  __device__ T gather(T none, C combine, F f, const V &...values) const {
    T result = none;
    each([&](int64_t k) { fold(k, result, combine, f, values[k]...); });
    return result;
  }
  template <typename T, typename C, typename F, typename... V>
  __device__ T reduce(T none, C combine, F f, const V &...values) const {
    return this->together(gather(none, combine, f, values...), none, combine);
  }
  template <typename F, typename... V>
  __device__ float sum(F f, const V &...values) const {
    return reduce(0.0f, ma_add(), f, values...);
  }
  /* The largest element; NaN wins. */
  template <typename V>
  __device__ float max(const V &values) const {
    return reduce(
        -INFINITY, ma_larger(), [](float x) { return x; }, values);
  }

  /* Tensor `t` becomes f(x, ...). */
  template <typename F, typename... V>
  __device__ void write(int t, F f, const V &...values) const {
    each([&](int64_t k) { store(t, k, map(f, values[k]...)); });
  }

  template <typename T, typename C, typename F, typename... FOURS>
  __device__ void fold(int64_t k, T &result, C combine, F f, const FOURS &...fours) const {
    for (int e = 0; e < 4; e++)
      if (has(k, e)) result = combine(result, static_cast<T>(f(fours.x[e]...)));
  }
  template <typename F, typename... FOURS>
  __device__ ma_four map(F f, const FOURS &...fours) const {
    ma_four out;
    for (int e = 0; e < 4; e++) out.x[e] = f(fours.x[e]...);
    return out;
  }
};

/* Sums over the rows of a team, element by element, for a parameter that serves all rows.  They end in row ma_team of
 * `parts` [teams length], which somebody adds up; NULL: nobody wants them. */
template <bool HELD>
struct ma_row_sums : ma_team_thread<HELD> {
  using ma_team_thread<HELD>::place;
  using ma_team_thread<HELD>::has;
  using ma_team_thread<HELD>::each;
  float *to;
  ma_four held[HELD ? MA_ROW_FOURS : 1];

  __device__ ma_row_sums(const ma_cuda_rows &r, float *parts)
      : ma_team_thread<HELD>(r), to(parts ? parts + ma_team(r) * r.length : nullptr), held{} {
    if (!HELD && to) each([&](int64_t k) { put(k, ma_four{}); });
  }

  /* The row's f(x, ...) are added. */
  template <typename ROW, typename F, typename... V>
  __device__ void add(const ROW &row, F f, const V &...values) {
    if (!to) return;
    each([&](int64_t k) {
      const ma_four more = row.map(f, values[k]...);
      if constexpr (HELD) {
        for (int e = 0; e < 4; e++) held[k].x[e] += more.x[e];
      } else {
        for (int e = 0; e < 4; e++)
          if (has(k, e)) to[place(k, e)] += more.x[e];
      }
    });
  }

  /* After the last row. */
  __device__ void finish() const {
    if constexpr (HELD)
      if (to) each([&](int64_t k) { put(k, held[k]); });
  }

  __device__ void put(int64_t k, const ma_four &four) const {
    for (int e = 0; e < 4; e++)
      if (has(k, e)) to[place(k, e)] = four.x[e];
  }
};

#endif
