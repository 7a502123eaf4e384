/* Elements in order: as items, which are compared as integers.  No two items of a line are equal, so that every way of sorting
 * gives the same, and is stable. */
#ifndef MASSACT_BACKEND_CUDA_SORT_CUH
#define MASSACT_BACKEND_CUDA_SORT_CUH

#include "backend/cuda/block.cuh"
#include "backend/cuda/lines.cuh"

struct ma_item {
  uint64_t key;
  int64_t index; /* in the line */
};

__device__ inline bool ma_comes_before(const ma_item &a, const ma_item &b) {
  return a.key < b.key || (a.key == b.key && a.index < b.index);
}

/* After everything else. */
__device__ inline ma_item ma_last_item() { return {~uint64_t{0}, INT64_MAX}; }

/* What `lane` of the warp has. */
__device__ inline ma_item ma_item_of_lane(const ma_item &item, unsigned lane) {
  const int from = static_cast<int>(lane);
  return {static_cast<uint64_t>(__shfl_sync(MA_ALL_LANES, static_cast<unsigned long long>(item.key), from)),
          static_cast<int64_t>(__shfl_sync(MA_ALL_LANES, static_cast<long long>(item.index), from))};
}

/* Sorts `size` items, a power of 2, in shared memory, by a bitonic network (Batcher 1968).  All threads of the block call it; it
 * waits for what they wrote before, and for what comes of it. */
__device__ inline void ma_block_sort(ma_item *items, unsigned size) {
  for (unsigned run = 2; run <= size; run *= 2) {
    for (unsigned apart = run / 2; apart > 0; apart /= 2) {
      __syncthreads();
      for (unsigned i = threadIdx.x; i < size / 2; i += blockDim.x) {
        const unsigned a = i / apart * 2 * apart + i % apart, b = a + apart;
        const ma_item x = items[a], y = items[b];
        if (ma_comes_before(y, x) == ((a & run) == 0)) items[a] = y, items[b] = x;
      }
    }
  }
  __syncthreads();
}

/* i32 and i64 are compared as doubles, as on the CPU; f32 holds the others, and its 32 bits are enough for their keys. */
__host__ __device__ inline bool ma_has_wide_keys(ma_dtype dtype) { return dtype == MA_I32 || dtype == MA_I64; }

/* The bits of a float, but for their sign, are ordered as the numbers are; -0 and 0 are equal, NaN is last in either order. */
__device__ inline uint64_t ma_key_of(double x, bool is_descending) {
  if (x != x) return ~uint64_t{0};
  const uint64_t bits = x == 0 ? 0 : static_cast<uint64_t>(__double_as_longlong(x)), sign = uint64_t{1} << 63;
  const uint64_t key = bits & sign ? ~bits : bits | sign;
  return is_descending ? ~key : key;
}

__device__ inline uint64_t ma_key_of(float x, bool is_descending) {
  if (x != x) return ~uint64_t{0};
  const unsigned bits = x == 0 ? 0 : __float_as_uint(x), sign = 0x80000000u;
  const unsigned key = bits & sign ? ~bits : bits | sign;
  return static_cast<uint64_t>(is_descending ? ~key : key) << 32;
}

/* What an ascending key, not of NaN unless it is the last one, was made of. */
__device__ inline double ma_value_of(uint64_t key, ma_dtype dtype) {
  if (ma_has_wide_keys(dtype)) {
    const uint64_t sign = uint64_t{1} << 63, bits = key & sign ? key & ~sign : ~key;
    return __longlong_as_double(static_cast<long long>(bits));
  }
  const unsigned half = static_cast<unsigned>(key >> 32), sign = 0x80000000u;
  return static_cast<double>(__uint_as_float(half & sign ? half & ~sign : ~half));
}

__device__ inline uint64_t ma_key_at(const ma_lines &l, int64_t at, bool is_descending) {
  return ma_has_wide_keys(l.dtype) ? ma_key_of(ma_load_double(l.data, l.dtype, at), is_descending)
                                   : ma_key_of(ma_load_f32(l.data, l.dtype, at), is_descending);
}

/* Items of some lines, in order, on the device. */
struct ma_sorted {
  ma_item *items;
  int64_t step; /* from a line's first item to the next one's */
};

/* The `k` first (at most a line's length) of `n` lines from `first` on; *memory keeps them. */
ma_status ma_cuda_first_items(ma_sorted *out, ma_scratch *memory, const ma_lines &lines, int64_t first, int64_t n,
                              bool is_descending, int64_t k, ma_error *err);

#endif
