/* The statistics of a probe, in two passes over the elements, and downloaded once.
 *
 * The first pass adds up sums, and counts the upper bits of magnitudes: as integers, the bits of a float but its sign are ordered
 * like the magnitudes.  What its blocks have is merged into the mean, the upper bits of the median, and a bound that the largest
 * elements reach.  The second pass adds up powers of x - mean, counts the next bits of the elements that may be the median, and
 * keeps the few that reach the bound.  16 + 15 bits are all that a magnitude has.  Where a block cannot count digits as wide,
 * there are more passes of the second kind.
 *
 * Sums are those of parts, which the number of elements alone decides on, in one order. */
#include "backend/cuda/firsts.cuh"
#include "backend/cuda/tally.cuh"

namespace {

constexpr unsigned THREADS = MA_IS_EMULATED ? 64 : 1024;
constexpr int64_t PART = MA_IS_EMULATED ? 1000 : 32512; /* elements: two parts are fewer than MA_TALLY_MOST */
constexpr int PARTS_OF_TALLY = 2;
static_assert(PART % 8 == 0 && PARTS_OF_TALLY * PART <= MA_TALLY_MOST, "aligned, and no count is too large");

constexpr int BITS = 31; /* of a magnitude */
constexpr int WIDE = 16, NARROW = 11;
constexpr int64_t FEW = MA_IS_EMULATED ? 1 << 11 : 1 << 16; /* elements that are not worth the counts of a wide digit */
constexpr int INFINITE = 0x7F800000, LARGEST = 0x7FFFFFFF;  /* magnitudes; those of NaN lie between */

constexpr unsigned TOP_ITEMS = THREADS / MA_WARP * MA_FIRSTS_MOST; /* that are sorted in the end */
static_assert(MA_MAX_TOP <= MA_FIRSTS_MOST, "a warp keeps as many as are asked for");

struct sums {
  double sum, l1, squares;
  float least, most;
  unsigned long long n_nonfinite, n_over_f16;
};
struct powers {
  double second, fourth; /* sums of powers of x - mean */
};

/* What one pass tells the next one, and the host.  All 0 at first. */
struct gathered {
  sums of_all;
  powers centered;
  unsigned median_bits;           /* those that are known, the rest 0 */
  unsigned long long median_rank; /* among the elements that share them */
  int top_bound;                  /* magnitude that the largest elements reach */
  unsigned n_candidates;
  float top_value[MA_MAX_TOP];
  int64_t top_index[MA_MAX_TOP];
};

struct stats_job {
  const void *data;
  ma_dtype dtype; /* f32, f16 or bf16 */
  bool is_aligned;
  int64_t n, n_parts;
  bool with_sums, with_powers, with_median;
  int n_top;        /* 0: not asked for */
  int known;        /* bits of the median, from the highest on */
  ma_counts counts; /* of the digit that comes next */
  sums *sums_of_parts;
  powers *powers_of_parts;
  ma_item *candidates;
  gathered *out;
};

/* ---- elements ---- */

__device__ int magnitude(float x) { return static_cast<int>(__float_as_uint(x) & 0x7FFFFFFFu); }

/* Larger magnitudes come first. */
__device__ ma_item item_of(int magnitude, int64_t index) { return {static_cast<uint64_t>(LARGEST - magnitude), index}; }
__device__ int magnitude_of(const ma_item &item) { return LARGEST - static_cast<int>(item.key); }

/* Eight of them as they lie in memory: what is on its way has no parts that could be waited for. */
template <typename T>
struct alignas(16) eight {
  uint32_t words[8 * sizeof(T) / sizeof(uint32_t)];
};

/* Those of a part from `at` on; what is behind its end is 0. */
template <typename T>
__device__ eight<T> load_eight(const T *part, int at, int length, bool is_aligned) {
  if (is_aligned && at + 8 <= length) return *reinterpret_cast<const eight<T> *>(part + at);
  T x[8]{};
  eight<T> loaded;
  for (int e = 0; e < 8; e++)
    if (at + e < length) x[e] = part[at + e];
  memcpy(&loaded, x, sizeof x);
  return loaded;
}

template <typename T>
__device__ void unpack(float (&to)[8], const eight<T> &from) {
  T x[8];
  memcpy(x, &from, sizeof x);
  MA_UNROLL for (int e = 0; e < 8; e++) to[e] = ma_to_f32(x[e]);
}

/* f(x, n, at) for the thread's elements of a part: x[0 .. n) are those from `at` on, up to eight; the rest is 0.  The lanes of a
 * warp call f together.  Where n is 8, as nearly always, the compiler knows. */
template <typename T, typename F>
__device__ void each_eight(const stats_job &j, int64_t part, F f) {
  constexpr int STEP = 8 * THREADS;
  const T *from = static_cast<const T *>(j.data) + part * PART;
  const int length = static_cast<int>((part + 1) * PART < j.n ? PART : j.n - part * PART);
  int at = 8 * static_cast<int>(threadIdx.x);
  eight<T> next = load_eight(from, at, length, j.is_aligned);
  for (int begin = 0; begin < length; begin += STEP, at += STEP) {
    float x[8];
    unpack(x, next);
    next = load_eight(from, at + STEP, length, j.is_aligned); /* on its way while f works */
    if (__all_sync(MA_ALL_LANES, at + 8 <= length)) f(x, 8, at);
    else f(x, at + 8 <= length ? 8 : at < length ? length - at : 0, at);
  }
}

/* f(part) for the block's parts, with what they make it count added up. */
template <typename F>
__device__ void each_part(const stats_job &j, ma_tally *tally, F f) {
  int n_held = 0;
  for (int64_t part = blockIdx.x; part < j.n_parts; part += gridDim.x) {
    f(part);
    if (++n_held < PARTS_OF_TALLY && part + gridDim.x < j.n_parts) continue;
    if (j.counts.width > 0) tally->add_up(j.counts);
    n_held = 0;
  }
}

/* ---- the first pass: sums, and the highest bits ---- */

/* NaN is neither least nor most. */
__device__ void add(sums *to, const sums &s) {
  to->sum += s.sum, to->l1 += s.l1, to->squares += s.squares;
  to->least = fminf(to->least, s.least);
  to->most = fmaxf(to->most, s.most);
  to->n_nonfinite += s.n_nonfinite, to->n_over_f16 += s.n_over_f16;
}

__device__ sums no_sums() { return {0, 0, 0, INFINITY, -INFINITY, 0, 0}; }

__device__ sums of_element(float value) {
  const float f16_limit = 65520; /* rounds to infinity from here on */
  const double x = static_cast<double>(value);
  const bool is_finite = magnitude(value) < INFINITE;
  return {x, fabs(x), x * x, value, value, is_finite ? 0u : 1u, is_finite && fabsf(value) >= f16_limit ? 1u : 0u};
}

__device__ sums of_block(const sums &s) {
  return {ma_block_sum(s.sum),
          ma_block_sum(s.l1),
          ma_block_sum(s.squares),
          ma_block_reduce(s.least, INFINITY, ma_smaller()),
          ma_block_reduce(s.most, -INFINITY, ma_larger()),
          ma_block_sum(s.n_nonfinite),
          ma_block_sum(s.n_over_f16)};
}

template <typename T>
__global__ void __launch_bounds__(THREADS) first_pass_kernel(const stats_job j) {
  MA_SHARED_BYTES(bytes);
  ma_tally tally(bytes, j.counts.width);
  each_part(j, &tally, [&](int64_t part) {
    sums s = no_sums();
    each_eight<T>(j, part, [&](const float(&x)[8], int n, int) {
      MA_UNROLL for (int e = 0; e < 8; e++) {
        if (e < n && j.with_sums) add(&s, of_element(x[e]));
        if (e < n && j.counts.width > 0) tally.count(static_cast<unsigned>(magnitude(x[e])) >> (BITS - j.counts.width));
      }
    });
    if (!j.with_sums) return;
    s = of_block(s);
    if (threadIdx.x == 0) j.sums_of_parts[part] = s;
  });
}

__device__ void merge_sums(const stats_job &j) {
  sums s = no_sums();
  for (int64_t i = threadIdx.x; i < j.n_parts; i += blockDim.x) add(&s, j.sums_of_parts[i]);
  s = of_block(s);
  if (threadIdx.x == 0) j.out->of_all = s;
}

/* The next digit of the lower median. */
__device__ void find_digit(const stats_job &j) {
  const unsigned long long rank = j.known == 0 ? static_cast<unsigned long long>((j.n - 1) / 2) : j.out->median_rank;
  const ma_digit found = ma_digit_of_rank(j.counts, rank);
  if (threadIdx.x > 0) return;
  j.out->median_bits |= found.digit << (BITS - j.known - j.counts.width);
  j.out->median_rank = found.rank;
}

/* Below which the n_top largest cannot be, if as many are finite.  Infinity shares its digit with NaN, which is not looked for. */
__device__ void find_bound(const stats_job &j) {
  const int shift = BITS - j.counts.width;
  unsigned long long others = 0;
  for (unsigned d = (INFINITE >> shift) + threadIdx.x; d < 1u << j.counts.width; d += blockDim.x)
    others += j.counts.of_digits[d];
  const int64_t n_finite = j.n - static_cast<int64_t>(ma_block_sum(others));
  const int64_t rank = n_finite > j.n_top ? n_finite - j.n_top : 0;
  const ma_digit found = ma_digit_of_rank(j.counts, static_cast<unsigned long long>(rank));
  if (threadIdx.x == 0) j.out->top_bound = static_cast<int>(found.digit << shift);
}

/* One block. */
__global__ void __launch_bounds__(THREADS) merge_first_kernel(const stats_job j) {
  if (j.with_sums) merge_sums(j);
  if (j.n_top > 0) find_bound(j);
  if (j.with_median) find_digit(j);
}

/* ---- the second pass: powers, the next bits, and the largest; and passes for more bits ---- */

/* What a warp keeps.  A part's elements are looked at in their order, so that an element of the same magnitude as the last one
 * that is kept comes too late. */
template <typename T>
struct largest {
  ma_firsts kept;
  int bound, too_small; /* elements of larger magnitude than `too_small` are offered */

  __device__ explicit largest(const stats_job &j) : kept(j.n_top), bound(j.out->top_bound), too_small(bound - 1) {}

  /* All lanes call it, each with the n elements from `at` on, the largest of whose magnitudes is `most`. */
  __device__ void look(const stats_job &j, int64_t at, int n, int most) {
    if (!__any_sync(MA_ALL_LANES, most > too_small)) return;
    for (int e = 0; e < 8; e++) {
      const int m = e < n ? magnitude(ma_to_f32(static_cast<const T *>(j.data)[at + e])) : LARGEST;
      kept.offer(m >= bound && m <= INFINITE ? item_of(m, at + e) : ma_last_item());
    }
    if (kept.is_full()) too_small = magnitude_of(kept.worst());
  }
};

template <typename T>
__global__ void __launch_bounds__(THREADS) second_pass_kernel(const stats_job j) {
  MA_SHARED_BYTES(bytes);
  ma_tally tally(bytes, j.counts.width);
  largest<T> top(j);
  const double mean = j.out->of_all.sum / static_cast<double>(j.n);
  const int shift = BITS - j.known - j.counts.width;
  const unsigned known = j.out->median_bits >> (BITS - j.known), mask = (1u << j.counts.width) - 1;
  each_part(j, &tally, [&](int64_t part) {
    powers p{0, 0};
    each_eight<T>(j, part, [&](const float(&x)[8], int n, int at) {
      int most = -1;
      MA_UNROLL for (int e = 0; e < 8; e++) {
        const int m = magnitude(x[e]);
        if (e < n) most = max(most, m);
        if (e < n && j.counts.width > 0 && static_cast<unsigned>(m) >> (BITS - j.known) == known)
          tally.count(static_cast<unsigned>(m) >> shift & mask);
        if (e >= n || !j.with_powers) continue;
        const double apart = static_cast<double>(x[e]) - mean, squared = apart * apart;
        p.second += squared;
        p.fourth += squared * squared;
      }
      if (j.n_top > 0) top.look(j, part * PART + at, n, most);
    });
    if (!j.with_powers) return;
    p = {ma_block_sum(p.second), ma_block_sum(p.fourth)};
    if (threadIdx.x == 0) j.powers_of_parts[part] = p;
  });
  if (j.n_top > 0) top.kept.append(j.candidates, &j.out->n_candidates);
}

__device__ void merge_powers(const stats_job &j) {
  powers p{0, 0};
  for (int64_t i = threadIdx.x; i < j.n_parts; i += blockDim.x)
    p.second += j.powers_of_parts[i].second, p.fourth += j.powers_of_parts[i].fourth;
  p = {ma_block_sum(p.second), ma_block_sum(p.fourth)};
  if (threadIdx.x == 0) j.out->centered = p;
}

/* The first n_top of the candidates, in order: warps keep the first ones of many, and those, or few, are sorted. */
__device__ void merge_top(const stats_job &j, ma_item *items) {
  const unsigned n = j.out->n_candidates;
  unsigned size = MA_FIRSTS_MOST;
  while (size < n && size < TOP_ITEMS) size *= 2;
  if (n > TOP_ITEMS) {
    ma_firsts kept(j.n_top);
    for (unsigned first = 0; first < n; first += blockDim.x)
      kept.offer(first + threadIdx.x < n ? j.candidates[first + threadIdx.x] : ma_last_item());
    kept.store(items + threadIdx.x / MA_WARP * MA_FIRSTS_MOST);
  } else {
    for (unsigned i = threadIdx.x; i < size; i += blockDim.x) items[i] = i < n ? j.candidates[i] : ma_last_item();
  }
  ma_block_sort(items, size);
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(j.n_top); i += blockDim.x) {
    const bool is_one = items[i].index != INT64_MAX;
    j.out->top_index[i] = items[i].index;
    j.out->top_value[i] = is_one ? ma_load_f32(j.data, j.dtype, items[i].index) : NAN;
  }
}

/* One block. */
__global__ void __launch_bounds__(THREADS) merge_second_kernel(const stats_job j) {
  MA_SHARED_BYTES(bytes);
  if (j.with_powers) merge_powers(j);
  if (j.counts.width > 0) find_digit(j);
  if (j.n_top > 0) merge_top(j, reinterpret_cast<ma_item *>(bytes));
}

/* ---- on the host ---- */

using kernel = void (*)(const stats_job);

/* As many blocks as there are processors, each of which may need most of one's shared memory. */
int64_t blocks_of(const ma_device *device, const stats_job &j) {
  const int64_t most = ma_cuda_state(device)->n_processors;
  return j.n_parts < most ? j.n_parts : most;
}

ma_status run_pass(ma_device *device, const stats_job &j, kernel pass, kernel merge, ma_error *err) {
  const size_t shared = ma_tally_words(j.counts.width) * sizeof(unsigned), to_merge = TOP_ITEMS * sizeof(ma_item);
  MA_CUDA_TRY(ma_launch("statistics", pass, ma_grid_rows(device, blocks_of(device, j), THREADS, shared), err, j));
  return ma_launch("statistics", merge, ma_grid_rows(device, 1, THREADS, to_merge), err, j);
}

/* A digit has `width` bits, or what is left of n_bits, after which a magnitude has zeros. */
struct digits {
  int width, n_bits;
  unsigned long long *counts; /* of one after the other, 0 at first */
};

template <typename T>
ma_status run_passes(ma_device *device, stats_job j, const digits &d, ma_error *err) {
  unsigned long long *counts = d.counts;
  if (j.with_median || j.n_top > 0) j.counts = ma_counts_at(counts, d.width);
  if (j.with_sums || j.counts.width > 0)
    MA_CUDA_TRY(run_pass(device, j, first_pass_kernel<T>, merge_first_kernel, err));
  for (j.known = d.width; j.with_powers || j.n_top > 0 || (j.with_median && j.known < d.n_bits); j.known += d.width) {
    const int left = BITS - j.known;
    counts += ma_counts_length(d.width);
    j.counts = {};
    if (j.with_median && j.known < d.n_bits) j.counts = ma_counts_at(counts, left < d.width ? left : d.width);
    MA_CUDA_TRY(run_pass(device, j, second_pass_kernel<T>, merge_second_kernel, err));
    j.with_powers = false, j.n_top = 0;
  }
  return MA_OK;
}

digits digits_of(const ma_device *device, const stats_job &j) {
  const int n_bits = j.dtype == MA_BF16 ? 15 : j.dtype == MA_F16 ? 18 : BITS; /* of f16, 5 and 10 become 8 and 10 */
  const int wide = n_bits < WIDE ? n_bits : WIDE;
  const size_t others = 4096; /* bytes of shared memory, and more than enough */
  const bool fits =
      ma_tally_words(wide) * sizeof(unsigned) + others <= static_cast<size_t>(ma_cuda_state(device)->shared_bytes);
  return {j.n > FEW && fits ? wide : NARROW, n_bits, nullptr};
}

ma_status gather(gathered *out, ma_device *device, stats_job j, ma_error *err) {
  ma_scratch zeros(device), parts(device), candidates(device);
  digits d = digits_of(device, j);
  const size_t n_parts = static_cast<size_t>(j.n_parts), n_counts = static_cast<size_t>(ma_counts_length(d.width)),
               n_digits = static_cast<size_t>((d.n_bits + d.width - 1) / d.width),
               n_warps = static_cast<size_t>(blocks_of(device, j)) * THREADS / MA_WARP;
  const size_t n_zeros = sizeof *j.out + n_digits * n_counts * sizeof *d.counts;
  MA_CUDA_TRY(zeros.take(n_zeros, err));
  MA_CUDA_TRY(parts.take(n_parts * (sizeof(sums) + sizeof(powers)), err));
  MA_CUDA_TRY(candidates.take(n_warps * static_cast<size_t>(j.n_top) * sizeof(ma_item), err));
  MA_CUDA_TRY(
      ma_cuda_check(device, cudaMemsetAsync(zeros.data, 0, n_zeros, ma_cuda_state(device)->stream), "statistics", err));
  j.out = zeros.as<gathered>();
  d.counts = reinterpret_cast<unsigned long long *>(j.out + 1);
  j.sums_of_parts = parts.as<sums>();
  j.powers_of_parts = reinterpret_cast<powers *>(j.sums_of_parts + n_parts);
  j.candidates = candidates.as<ma_item>();
  if (j.dtype == MA_F32) MA_CUDA_TRY(run_passes<float>(device, j, d, err));
  if (j.dtype == MA_F16) MA_CUDA_TRY(run_passes<ma_f16>(device, j, d, err));
  if (j.dtype == MA_BF16) MA_CUDA_TRY(run_passes<ma_bf16>(device, j, d, err));
  return device->backend->download(device, out, j.out, sizeof *out, err);
}

void report_sums(ma_stats *out, const gathered &g, bool with_powers) {
  const double n = static_cast<double>(out->count), second = g.centered.second;
  out->l1 = g.of_all.l1;
  out->l2 = std::sqrt(g.of_all.squares);
  out->min = static_cast<double>(g.of_all.least);
  out->max = static_cast<double>(g.of_all.most);
  out->n_nonfinite = static_cast<int64_t>(g.of_all.n_nonfinite);
  out->n_over_f16 = static_cast<int64_t>(g.of_all.n_over_f16);
  out->mean = g.of_all.sum / n;
  if (!with_powers) return;
  out->std = std::sqrt(second / n);
  out->kurtosis = second > 0 ? g.centered.fourth * n / (second * second) : static_cast<double>(NAN);
}

/* NaN is last. */
void report_top(ma_stats *out, const gathered &g, int n_top) {
  for (; out->n_top < n_top && !std::isnan(g.top_value[out->n_top]); out->n_top++) {
    out->top_index[out->n_top] = g.top_index[out->n_top];
    out->top_value[out->n_top] = static_cast<double>(g.top_value[out->n_top]);
  }
}

} // namespace

ma_status ma_cuda_statistics(ma_stats *out, const ma_tensor *a, unsigned wanted, int n_top, ma_error *err) {
  ma_held in;
  gathered g{};
  stats_job j{};
  *out = {};
  out->count = ma_tensor_count(a);
  /* Other types are looked at as f32. */
  if (ma_dtype_is_float(a->dtype) && ma_tensor_is_contiguous(a)) in.tensor = ma_tensor_retain(a);
  else MA_CUDA_TRY(ma_tensor_convert(&in.tensor, a, ma_dtype_is_float(a->dtype) ? a->dtype : MA_F32, err));
  j.data = ma_tensor_data(&in.tensor), j.dtype = in.tensor.dtype, j.n = out->count;
  j.is_aligned = reinterpret_cast<uintptr_t>(j.data) % sizeof(uint4) == 0;
  j.n_parts = (j.n + PART - 1) / PART;
  j.with_powers = wanted & MA_STAT_MOMENTS;
  j.with_sums = wanted & (MA_STAT_MOMENTS | MA_STAT_NORMS | MA_STAT_NONFINITE | MA_STAT_EXTREMES);
  j.with_median = wanted & MA_STAT_MEDIAN;
  if (wanted & MA_STAT_TOP) j.n_top = n_top < j.n ? n_top : static_cast<int>(j.n);
  MA_CUDA_TRY(gather(&g, ma_tensor_device(a), j, err));
  if (j.with_sums) report_sums(out, g, j.with_powers);
  if (j.with_median) out->median = static_cast<double>(ma_f32_of_bits(g.median_bits));
  report_top(out, g, j.n_top);
  return MA_OK;
}
