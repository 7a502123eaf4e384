/* What the threads of a warp or a block work out together.  Every thread of the block calls these (warps are whole: 32 lanes),
 * and every one gets the result; the order of additions depends on the block's size alone. */
#ifndef MASSACT_BACKEND_CUDA_BLOCK_CUH
#define MASSACT_BACKEND_CUDA_BLOCK_CUH

#include "backend/cuda/launch.cuh"

constexpr unsigned MA_WARP = 32, MA_ALL_LANES = 0xFFFFFFFFu;

/* Combines two values; the result must not depend on their order but for rounding. */
struct ma_add {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
/* NaN wins. */
struct ma_larger {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct ma_smaller {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};

template <typename T, typename F>
__device__ inline T ma_warp_reduce(T value, F combine) {
  for (int offset = MA_WARP / 2; offset > 0; offset /= 2)
    value = combine(value, __shfl_xor_sync(MA_ALL_LANES, value, offset));
  return value;
}

/* The sum of the lane's value and those of the lanes before. */
template <typename T>
__device__ inline T ma_warp_scan(T value) {
  const unsigned lane = threadIdx.x % MA_WARP;
  for (unsigned offset = 1; offset < MA_WARP; offset *= 2) {
    const T before = __shfl_up_sync(MA_ALL_LANES, value, offset);
    if (lane >= offset) value += before;
  }
  return value;
}

/* `none` leaves what it is combined with as it is. */
template <typename T, typename F>
__device__ inline T ma_block_reduce(T value, T none, F combine) {
  __shared__ T parts[MA_WARP];
  const unsigned warp = threadIdx.x / MA_WARP, lane = threadIdx.x % MA_WARP,
                 n_warps = (blockDim.x + MA_WARP - 1) / MA_WARP;
  value = ma_warp_reduce(value, combine);
  __syncthreads(); /* an earlier call's result has been read */
  if (lane == 0) parts[warp] = value;
  __syncthreads();
  value = lane < n_warps ? parts[lane] : none;
  return ma_warp_reduce(value, combine);
}

template <typename T>
__device__ inline T ma_block_sum(T value) {
  return ma_block_reduce(value, T(0), ma_add());
}
/* The sum of the thread's value and those of the threads before. */
template <typename T>
__device__ inline T ma_block_scan(T value) {
  __shared__ T sums[MA_WARP]; /* of warps */
  const unsigned warp = threadIdx.x / MA_WARP, lane = threadIdx.x % MA_WARP;
  value = ma_warp_scan(value);
  __syncthreads(); /* an earlier call's result has been read */
  if (lane == MA_WARP - 1) sums[warp] = value;
  __syncthreads();
  return value + ma_warp_reduce(lane < warp ? sums[lane] : T(0), ma_add());
}
__device__ inline float ma_block_max(float value) { return ma_block_reduce(value, -INFINITY, ma_larger()); }

#endif
