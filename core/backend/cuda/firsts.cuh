/* The first few of many items that a warp comes upon, kept in its registers.  Nearly all items of a long line do not come before the
 * last of those that are kept, which is all that is asked of them. */
#ifndef MASSACT_BACKEND_CUDA_FIRSTS_CUH
#define MASSACT_BACKEND_CUDA_FIRSTS_CUH

#include "backend/cuda/sort.cuh"

constexpr unsigned MA_FIRSTS_MOST = 2 * MA_WARP;

/* Every lane calls what follows.  In order; where there are fewer than k, the rest is ma_last_item. */
class ma_firsts {
  unsigned k;                                          /* 1 to MA_FIRSTS_MOST */
  ma_item low = ma_last_item(), high = ma_last_item(); /* at places `lane` and MA_WARP + `lane` */
  ma_item last = ma_last_item();                       /* at place k - 1 */

  /* Items from its place on move up. */
  __device__ void insert(const ma_item &item) {
    const unsigned lane = threadIdx.x % MA_WARP;
    const ma_item before_low = ma_item_of_lane(low, lane - 1), before_high = ma_item_of_lane(high, lane - 1),
                  middle = ma_item_of_lane(low, MA_WARP - 1);
    low = put(item, low, lane == 0 ? item : before_low);
    high = put(item, high, lane == 0 ? middle : before_high);
    last = k <= MA_WARP ? ma_item_of_lane(low, k - 1) : ma_item_of_lane(high, k - 1 - MA_WARP);
  }

  /* What is at a place of `old` where `before` was at the one before. */
  __device__ static ma_item put(ma_item item, ma_item old, ma_item before) {
    if (ma_comes_before(old, item)) return old;
    return ma_comes_before(item, before) ? before : item;
  }

 public:
  __device__ explicit ma_firsts(int at_most) : k(static_cast<unsigned>(at_most)) {}

  /* An item of each lane, which may be ma_last_item. */
  __device__ void offer(const ma_item &item) {
    for (unsigned who = __ballot_sync(MA_ALL_LANES, ma_comes_before(item, last)); who; who &= who - 1) {
      const ma_item one = ma_item_of_lane(item, static_cast<unsigned>(__ffs(static_cast<int>(who))) - 1);
      if (ma_comes_before(one, last)) insert(one);
    }
  }

  __device__ bool is_full() const { return last.index != INT64_MAX; }
  __device__ ma_item worst() const { return last; }

  /* Writes MA_FIRSTS_MOST items. */
  __device__ void store(ma_item *to) const {
    to[threadIdx.x % MA_WARP] = low;
    to[threadIdx.x % MA_WARP + MA_WARP] = high;
  }

  /* Adds those that exist to the end of a list. */
  __device__ void append(ma_item *list, unsigned *length) const {
    const unsigned lane = threadIdx.x % MA_WARP;
    const bool has_low = low.index != INT64_MAX && lane < k, has_high = high.index != INT64_MAX && lane + MA_WARP < k;
    const unsigned n = static_cast<unsigned>(__popc(__ballot_sync(MA_ALL_LANES, has_low)) +
                                             __popc(__ballot_sync(MA_ALL_LANES, has_high)));
    if (n == 0) return;
    unsigned at = 0;
    if (lane == 0) at = atomicAdd(length, n);
    at = __shfl_sync(MA_ALL_LANES, at, 0);
    if (has_low) list[at + lane] = low;
    if (has_high) list[at + lane + MA_WARP] = high;
  }
};

#endif
