/* Several tensors of one shape (the others broadcast to the first's) element by element, whatever their types and strides. */
#ifndef MASSACT_BACKEND_CUDA_WALK_CUH
#define MASSACT_BACKEND_CUDA_WALK_CUH

#include "backend/cuda/element.cuh"

enum { MA_CUDA_WALK_MAX = 5 };

/* Loops of a thread over its elements of a launch, and over its fours. */
#define MA_EACH(i, count)      (int64_t i = ma_thread(); i < (count); i += ma_n_threads())
#define MA_EACH_FOUR(i, count) (int64_t i = 4 * ma_thread(); i < (count); i += 4 * ma_n_threads())

/* Handed to kernels by value.  Dims that continue each other in every tensor are one. */
struct ma_cuda_walk {
  int n, n_dims;
  int64_t count;    /* elements */
  bool is_straight; /* every tensor lies in order, or is one number; 4 elements from a multiple of 4 on are aligned */
  int64_t shape[MA_MAX_DIMS];
  int64_t strides[MA_CUDA_WALK_MAX][MA_MAX_DIMS];
  void *data[MA_CUDA_WALK_MAX]; /* of the first element */
  ma_dtype dtype[MA_CUDA_WALK_MAX];
};

inline ma_cuda_walk ma_cuda_walk_over(int n, const ma_tensor *const *tensors) {
  ma_cuda_walk w{};
  const int n_dims = tensors[0]->n_dims;
  w.n = n;
  w.count = 1;
  for (int t = 0; t < n; t++) {
    w.data[t] = ma_tensor_data(tensors[t]);
    w.dtype[t] = tensors[t]->dtype;
  }
  for (int d = 0; d < n_dims; d++) {
    const int64_t size = tensors[0]->shape[d];
    int64_t strides[MA_CUDA_WALK_MAX];
    w.count *= size;
    if (size == 1) continue;
    bool joins = w.n_dims > 0;
    for (int t = 0; t < n; t++) {
      const int in = d - (n_dims - tensors[t]->n_dims);
      strides[t] = in < 0 || tensors[t]->shape[in] != size ? 0 : tensors[t]->strides[in];
      joins = joins && w.strides[t][w.n_dims - 1] == size * strides[t];
    }
    const int at = joins ? w.n_dims - 1 : w.n_dims++;
    w.shape[at] = joins ? w.shape[at] * size : size;
    for (int t = 0; t < n; t++) w.strides[t][at] = strides[t];
  }
  if (w.n_dims == 0) w.shape[w.n_dims++] = w.count; /* one element, or none */
  w.is_straight = w.n_dims == 1;
  for (int t = 0; t < n; t++) {
    const bool is_one = t > 0 && w.strides[t][0] == 0 && w.count != 1;
    if (w.count == 1) w.strides[t][0] = 1;
    const bool is_aligned = reinterpret_cast<uintptr_t>(w.data[t]) % (4 * ma_dtype_describe(w.dtype[t])->bytes) == 0;
    w.is_straight = w.is_straight && (is_one || (w.strides[t][0] == 1 && is_aligned));
  }
  return w;
}

/* Offsets, from each tensor's first element, of element `i`.  32-bit division is several times as fast. */
template <int N>
__device__ inline void ma_walk_at(const ma_cuda_walk &w, int64_t i, int64_t (&at)[N]) {
  for (int t = 0; t < N; t++) at[t] = 0;
  for (int d = w.n_dims - 1; d >= 0; d--) {
    int64_t index = i;
    if (d > 0 && w.count <= 0x7FFFFFFF) {
      const unsigned quotient = static_cast<unsigned>(i) / static_cast<unsigned>(w.shape[d]);
      index = static_cast<unsigned>(i) - quotient * static_cast<unsigned>(w.shape[d]);
      i = quotient;
    } else if (d > 0) {
      index = i % w.shape[d];
      i /= w.shape[d];
    }
    for (int t = 0; t < N; t++) at[t] += index * w.strides[t][d];
  }
}

/* ---- four elements at a time, as f32: what a thread of an elementwise kernel works on ---- */

struct ma_four {
  float x[4];
};

struct alignas(16) ma_four_f32 {
  float x[4];
};
struct alignas(8) ma_four_halves {
  uint16_t x[4];
};

/* Four aligned neighbours, of f32, f16 or bf16; and of any plain type. */
__device__ inline ma_four ma_load_four_floats(const void *data, ma_dtype dtype, int64_t at) {
  ma_four four;
  if (dtype == MA_F32) {
    const ma_four_f32 v = *reinterpret_cast<const ma_four_f32 *>(static_cast<const float *>(data) + at);
    for (int e = 0; e < 4; e++) four.x[e] = v.x[e];
  } else {
    const ma_four_halves v = *reinterpret_cast<const ma_four_halves *>(static_cast<const uint16_t *>(data) + at);
    for (int e = 0; e < 4; e++) four.x[e] = dtype == MA_F16 ? ma_dev_f16_to_f32(v.x[e]) : ma_dev_bf16_to_f32(v.x[e]);
  }
  return four;
}

__device__ inline ma_four ma_load_four(const void *data, ma_dtype dtype, int64_t at) {
  if (dtype <= MA_BF16) return ma_load_four_floats(data, dtype, at);
  ma_four four;
  for (int e = 0; e < 4; e++) four.x[e] = ma_load_f32(data, dtype, at + e);
  return four;
}

__device__ inline void ma_store_four_floats(void *data, ma_dtype dtype, int64_t at, const ma_four &four) {
  if (dtype == MA_F32) {
    ma_four_f32 v;
    for (int e = 0; e < 4; e++) v.x[e] = four.x[e];
    *reinterpret_cast<ma_four_f32 *>(static_cast<float *>(data) + at) = v;
  } else {
    ma_four_halves v;
    for (int e = 0; e < 4; e++)
      v.x[e] = dtype == MA_F16 ? ma_dev_f16_from_f32(four.x[e]) : ma_dev_bf16_from_f32(four.x[e]);
    *reinterpret_cast<ma_four_halves *>(static_cast<uint16_t *>(data) + at) = v;
  }
}

__device__ inline void ma_store_four(void *data, ma_dtype dtype, int64_t at, const ma_four &four) {
  if (dtype <= MA_BF16) ma_store_four_floats(data, dtype, at, four);
  else
    for (int e = 0; e < 4; e++) ma_store_f32(data, dtype, at + e, four.x[e]);
}

/* Elements [first, first + n) of tensor 0's order, n <= 4: of every tensor that is read, in[t]; `f(in, out)` makes what is
 * written to tensor 0.  N counts tensor 0 too.  With more OUTS, these are tensors 0, 1, ..., and f makes out[0], out[1], ... */
template <int N, int OUTS = 1, typename F>
__device__ inline void ma_walk_four(const ma_cuda_walk &w, int64_t first, F f) {
  const int n = w.count - first < 4 ? static_cast<int>(w.count - first) : 4;
  ma_four in[N], out[OUTS];
  const auto make = [&]() {
    if constexpr (OUTS == 1) f(in, out[0]);
    else f(in, out);
  };
  if (w.is_straight && n == 4) {
    for (int t = OUTS; t < N; t++) {
      if (w.strides[t][0] == 0) {
        const float one = ma_load_f32(w.data[t], w.dtype[t], 0);
        for (int e = 0; e < 4; e++) in[t].x[e] = one;
      } else {
        in[t] = ma_load_four(w.data[t], w.dtype[t], first);
      }
    }
    make();
    for (int t = 0; t < OUTS; t++) ma_store_four(w.data[t], w.dtype[t], first, out[t]);
    return;
  }
  int64_t at[4][N];
  for (int e = 0; e < 4; e++) {
    if (e < n) ma_walk_at<N>(w, first + e, at[e]);
    for (int t = OUTS; t < N; t++) in[t].x[e] = e < n ? ma_load_f32(w.data[t], w.dtype[t], at[e][t]) : 0;
  }
  make();
  for (int e = 0; e < 4; e++)
    for (int t = 0; t < OUTS && e < n; t++) ma_store_f32(w.data[t], w.dtype[t], at[e][t], out[t].x[e]);
}

/* Threads for a walk by fours. */
inline ma_grid ma_grid_fours(ma_device *device, const ma_cuda_walk &w) {
  return ma_grid_over(device, (w.count + 3) / 4);
}

#endif
