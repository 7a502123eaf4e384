/* How often each value of a digit occurs, and the digit that a rank falls on: selection by rank, a digit after the other, without
 * sorting.  Blocks count in shared memory, and add what they have up in the device's: integers, whose sums do not depend on any
 * order. */
#ifndef MASSACT_BACKEND_CUDA_TALLY_CUH
#define MASSACT_BACKEND_CUDA_TALLY_CUH

#include "backend/cuda/block.cuh"

enum { MA_TALLY_MOST = 0xFFFF }; /* digits that a block counts before it has to add them up */

/* Of a digit of `width` bits, at least 6.  Handed to kernels by value. */
struct ma_counts {
  int width;
  unsigned long long *of_digits; /* [2^width] */
  unsigned long long *of_groups; /* [2^width / MA_WARP]: of as many neighbouring digits */
};

inline int64_t ma_counts_length(int width) { return (int64_t{1} << width) + (int64_t{1} << width) / MA_WARP; }
inline ma_counts ma_counts_at(unsigned long long *memory, int width) {
  return {width, memory, memory + (int64_t{1} << width)};
}

/* Words of shared memory that a block counts in.  Of a width of 0 there are none. */
__host__ __device__ inline unsigned ma_tally_words(int width) { return width > 0 ? 1u << (width - 1) : 0; }

/* A block's counts: of 16 bits, two a word.  Digits that differ little are in different banks; a thread counts runs of equal ones
 * (zeros, mostly) by itself, so that the lanes of a warp seldom wait for each other. */
class ma_tally {
  unsigned *words;
  unsigned n_words;
  unsigned latest = 0, times = 0; /* this thread's run */

  __device__ void end_run() { atomicAdd(&words[latest & (n_words - 1)], times << (latest < n_words ? 0 : 16)); }

  /* A digit that follows that of the lane before; by all lanes. */
  __device__ static void add_to(const ma_counts &to, unsigned digit, unsigned count) {
    if (count > 0) atomicAdd(&to.of_digits[digit], static_cast<unsigned long long>(count));
    const unsigned of_group = ma_warp_reduce(count, ma_add());
    if (threadIdx.x % MA_WARP == 0 && of_group > 0)
      atomicAdd(&to.of_groups[digit / MA_WARP], static_cast<unsigned long long>(of_group));
  }

 public:
  /* By all threads. */
  __device__ ma_tally(unsigned char *shared, int width)
      : words(reinterpret_cast<unsigned *>(shared)), n_words(ma_tally_words(width)) {
    for (unsigned w = threadIdx.x; w < n_words; w += blockDim.x) words[w] = 0;
    __syncthreads();
  }

  __device__ void count(unsigned digit) {
    if (digit != latest) {
      end_run();
      latest = digit, times = 0;
    }
    times++;
  }

  /* Adds everything to *to, and begins anew; by all threads. */
  __device__ void add_up(const ma_counts &to) {
    end_run();
    times = 0;
    __syncthreads();
    for (unsigned w = threadIdx.x; w < n_words; w += blockDim.x) {
      const unsigned word = words[w];
      if (!__any_sync(MA_ALL_LANES, word != 0)) continue;
      words[w] = 0;
      add_to(to, w, word & 0xFFFF);
      add_to(to, w + n_words, word >> 16);
    }
    __syncthreads();
  }
};

/* What the rank falls on, and the rank among those that share the digit. */
struct ma_digit {
  unsigned digit;
  unsigned long long rank;
};

/* By all threads of the block; the rank is below the sum of all counts. */
__device__ inline ma_digit ma_digit_of_rank(const ma_counts &counts, unsigned long long rank) {
  __shared__ ma_digit group; /* of digits */
  const unsigned n_groups = (1u << counts.width) / MA_WARP, each = (n_groups + blockDim.x - 1) / blockDim.x;
  const unsigned first = threadIdx.x * each, lane = threadIdx.x % MA_WARP;
  unsigned long long own = 0;
  for (unsigned g = first; g < first + each && g < n_groups; g++) own += counts.of_groups[g];
  const unsigned long long before = ma_block_scan(own) - own;
  if (before <= rank && rank < before + own) {
    group = {first, rank - before};
    for (; group.rank >= counts.of_groups[group.digit]; group.digit++) group.rank -= counts.of_groups[group.digit];
  }
  __syncthreads();
  const unsigned long long count = counts.of_digits[group.digit * MA_WARP + lane], up_to = ma_warp_scan(count);
  const unsigned found =
      static_cast<unsigned>(__ffs(static_cast<int>(__ballot_sync(MA_ALL_LANES, group.rank < up_to)))) - 1;
  const unsigned long long below = __shfl_sync(MA_ALL_LANES, up_to - count, static_cast<int>(found));
  const ma_digit result = {group.digit * MA_WARP + found, group.rank - below};
  __syncthreads(); /* for the next call */
  return result;
}

#endif
