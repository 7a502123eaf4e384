/* Stands in for NVIDIA's header of this name where kernels are compiled as host C++: the words of CUDA's C++, and a launch that
 * runs every thread of every block.  Threads of a block take turns: one runs until it waits (for its block or its warp), then
 * another one does.  Their order is reversed in every other block and launch, so that a missing barrier shows. */
#ifndef MASSACT_EMULATION_CUDA_RUNTIME_H
#define MASSACT_EMULATION_CUDA_RUNTIME_H

#include <cmath>
#include <cstring>
#include <type_traits>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__    __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__   static thread_local /* one block runs at a time */

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

/* Addressed from the executable's start: of the other way gcc tests the flags of an addition that ld makes a flagless lea of, so
 * that its sanitizer takes these for null. */
extern thread_local __attribute__((tls_model("local-exec"))) dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

/* ---- launching ---- */

/* Runs `body(self)` as every thread of the grid. */
void ma_emulation_run(const char *name, dim3 blocks, dim3 threads, size_t shared, void (*body)(void *), void *self);
unsigned char *ma_emulation_shared();

template <typename T>
inline void ma_emulation_check(const char *name, const T &argument) {
  if constexpr (std::is_pointer_v<T>) ma_emulation_check_pointer(name, argument);
}

template <typename... Parameters>
void ma_emulation_launch(const char *name, dim3 blocks, dim3 threads, size_t shared, void (*kernel)(Parameters...),
                         std::decay_t<Parameters>... arguments) {
  auto call = [&]() { kernel(arguments...); };
  using call_type = decltype(call);
  (ma_emulation_check(name, arguments), ...);
  ma_emulation_run(
      name, blocks, threads, shared, [](void *self) { (*static_cast<call_type *>(self))(); }, &call);
}

/* ---- what threads do together ---- */

void __syncthreads();
int __syncthreads_count(int predicate);
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
int __syncthreads_and(int predicate);

/* The lanes of `mask` wait for each other. */
void __syncwarp(unsigned mask = 0xFFFFFFFFu);
unsigned __ballot_sync(unsigned mask, int predicate);
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

/* Hands over up to 16 bytes: what lane `from` gave, or this lane's own where `from` takes no part. */
void ma_emulation_exchange(unsigned mask, const void *mine, void *theirs, size_t bytes, int from);
int ma_emulation_lane();
/* Up to 32 bytes of each lane of `mask` to all of them: all[lane]. */
void ma_emulation_gather(unsigned mask, const void *mine, void *all, size_t bytes);

/* A copy that has not happened until this thread waits for it. */
void ma_emulation_copy_later(void *to, const void *from, size_t bytes);
void ma_emulation_copy_now();

template <typename T>
T ma_emulation_from(unsigned mask, T value, int from) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16);
  T theirs;
  ma_emulation_exchange(mask, &value, &theirs, sizeof value, from);
  return theirs;
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return ma_emulation_from(mask, value, ma_emulation_lane() / width * width + (lane & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int me = ma_emulation_lane(), from = me ^ bits;
  return ma_emulation_from(mask, value, from / width == me / width ? from : me);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int me = ma_emulation_lane(), from = me + static_cast<int>(by);
  return ma_emulation_from(mask, value, from / width == me / width ? from : me);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int me = ma_emulation_lane(), from = me - static_cast<int>(by);
  return ma_emulation_from(mask, value, from >= 0 && from / width == me / width ? from : me);
}

inline void __threadfence() {}
inline void __threadfence_block() {}

/* ---- one thread after the other: every access is atomic ---- */

template <typename T>
T atomicAdd(T *at, std::common_type_t<T> value) {
  const T old = *at;
  *at = static_cast<T>(old + value);
  return old;
}
template <typename T>
T atomicMax(T *at, std::common_type_t<T> value) {
  const T old = *at;
  if (value > old) *at = value;
  return old;
}
template <typename T>
T atomicMin(T *at, std::common_type_t<T> value) {
  const T old = *at;
  if (value < old) *at = value;
  return old;
}
template <typename T>
T atomicOr(T *at, std::common_type_t<T> value) {
  const T old = *at;
  *at = old | value;
  return old;
}
template <typename T>
T atomicExch(T *at, std::common_type_t<T> value) {
  const T old = *at;
  *at = value;
  return old;
}
template <typename T>
T atomicCAS(T *at, std::common_type_t<T> expected, std::common_type_t<T> value) {
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}

/* ---- bits and arithmetic that C++ does not have ---- */

template <typename To, typename From>
inline To ma_emulation_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline unsigned __float_as_uint(float x) { return ma_emulation_bits<unsigned>(x); }
inline int __float_as_int(float x) { return ma_emulation_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return ma_emulation_bits<float>(x); }
inline float __int_as_float(int x) { return ma_emulation_bits<float>(x); }
inline long long __double_as_longlong(double x) { return ma_emulation_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return ma_emulation_bits<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
template <typename T>
inline T __ldg(const T *at) {
  return *at;
}
template <typename T>
constexpr std::enable_if_t<std::is_arithmetic_v<T>, T> min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr std::enable_if_t<std::is_arithmetic_v<T>, T> max(T a, T b) {
  return a < b ? b : a;
}

#endif
