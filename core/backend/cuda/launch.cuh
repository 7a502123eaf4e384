/* How a kernel is launched, and what device code is written with.  The .cu files compile with nvcc, and as host C++ against
 * tests/cuda/emulation, whose cuda_runtime.h runs every thread of a launch: what differs between the two is here and there. */
#ifndef MASSACT_BACKEND_CUDA_LAUNCH_CUH
#define MASSACT_BACKEND_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "backend/cuda/cuda_internal.h"

/* Leaves a function of the host with the first failure.  (MA_TRY's goto cannot cross C++ declarations; what has to be released
 * is held by an object: ma_held, ma_scratch.) */
#define MA_CUDA_TRY(call)                       \
  do {                                          \
    const ma_status status_of_ = (call);        \
    if (status_of_ != MA_OK) return status_of_; \
  } while (0)

/* Sizes from which on work is cut into pieces are smaller where tests run every thread on the host. */
#ifdef __CUDACC__
constexpr bool MA_IS_EMULATED = false;
#else
constexpr bool MA_IS_EMULATED = true;
#endif

/* ---- launching ---- */

struct ma_grid {
  ma_device *device;
  dim3 blocks;
  unsigned threads; /* of a block: a multiple of 32, at most 1024 */
  size_t shared;    /* bytes of MA_SHARED_BYTES that a block gets */
};

constexpr unsigned MA_THREADS = 256; /* of a block, where nothing asks for another number */

/* Blocks for `n` threads in all, but no more than keep the device busy: kernels stride (ma_thread, ma_n_threads). */
inline ma_grid ma_grid_over(ma_device *device, int64_t n) {
  const int64_t most = int64_t{32} * ma_cuda_state(device)->n_processors;
  const int64_t wanted = (n + MA_THREADS - 1) / MA_THREADS;
  return {device, dim3(static_cast<unsigned>(wanted < most ? wanted : most)), MA_THREADS, 0};
}

/* A block for each of `n` rows (blockIdx.x; 2^31 - 1 is the most). */
inline ma_grid ma_grid_rows(ma_device *device, int64_t n, unsigned threads = MA_THREADS, size_t shared = 0) {
  return {device, dim3(static_cast<unsigned>(n)), threads, shared};
}

/* Puts a kernel into the device's stream; a grid without blocks is done at once.
 *   MA_CUDA_TRY(ma_launch("fill", fill_kernel<float>, ma_grid_over(device, n), err, to, value, n)); */
template <typename... Parameters, typename... Arguments>
ma_status ma_launch(const char *name, void (*kernel)(Parameters...), const ma_grid &grid, ma_error *err,
                    const Arguments &...arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return MA_OK;
  MA_CUDA_TRY(ma_cuda_use(grid.device, err));
#ifdef __CUDACC__
  if (grid.shared > 48 << 10) /* more than every device gives unasked */
    MA_CUDA_TRY(
        ma_cuda_check(grid.device,
                      cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(grid.shared)),
                      name, err));
  kernel<<<grid.blocks, grid.threads, grid.shared, ma_cuda_state(grid.device)->stream>>>(
      static_cast<Parameters>(arguments)...);
#else
  ma_emulation_launch(name, grid.blocks, dim3(grid.threads), grid.shared, kernel,
                      static_cast<Parameters>(arguments)...);
#endif
  return ma_cuda_check(grid.device, cudaGetLastError(), name, err);
}

/* ---- in kernels ---- */

/* This thread among all of a one-dimensional launch, and how many there are. */
__device__ inline int64_t ma_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t ma_n_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

/* The shared memory that the launch asked for, 16-byte aligned: MA_SHARED_BYTES(bytes) declares unsigned char *bytes. */
#ifdef __CUDACC__
#define MA_SHARED_BYTES(name)                                 \
  extern __shared__ __align__(16) unsigned char ma_shared_[]; \
  unsigned char *name = ma_shared_
#else
#define MA_SHARED_BYTES(name) unsigned char *name = ma_emulation_shared()
#endif

/* Before a loop whose arrays stay in registers: those that it indexes do only where it is unrolled. */
#ifdef __CUDACC__
#define MA_UNROLL _Pragma("unroll")
#else
#define MA_UNROLL
#endif

/* Notes what is wrong in the data; the host reports it when it next waits.  The kernel goes on, and stays in bounds. */
__device__ inline void ma_complain(ma_complaint *complaint, ma_complaint_kind kind, int64_t value, int64_t bound) {
  complaint->value = value;
  complaint->bound = bound;
  complaint->kind = kind;
}

/* ---- what a function of the host holds ---- */

/* A tensor that is released with the scope. */
struct ma_held {
  ma_tensor tensor{};
  ma_held() = default;
  ma_held(const ma_held &) = delete;
  ma_held &operator=(const ma_held &) = delete;
  ~ma_held() { ma_tensor_release(&tensor); }
};

/* Memory of the device for the time of one operation. */
struct ma_scratch {
  ma_device *device;
  void *data = nullptr;
  explicit ma_scratch(ma_device *on) : device(on) {}
  ma_scratch(const ma_scratch &) = delete;
  ma_scratch &operator=(const ma_scratch &) = delete;
  ~ma_scratch() { ma_cuda_free(device, data); }
  ma_status take(size_t bytes, ma_error *err) { return ma_cuda_alloc(device, &data, bytes, err); }
  template <typename T>
  T *as() const {
    return static_cast<T *>(data);
  }
};

#endif
