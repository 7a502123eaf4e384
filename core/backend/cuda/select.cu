/* Selection by rank.  Short lines are sorted.  Of long ones, digit after digit of the key of the rank is found, from the highest
 * down, by counting what the elements have that share the digits before: counts do not depend on the order of threads. */
#include "backend/cuda/sort.cuh"

namespace {

constexpr int64_t SHORT = 1024;
constexpr int64_t PART = MA_IS_EMULATED ? 1 << 9 : 1 << 15; /* elements that a block counts */
constexpr int64_t BATCH = 2048;                             /* lines at a time, whose counts are 64 MiB */
constexpr int DIGIT = 12, N_DIGITS = 1 << DIGIT;

struct choice {
  uint64_t prefix; /* digits found so far, the rest 0 */
  int64_t rank;    /* among the elements that share them */
};

struct select_job {
  ma_lines lines;
  int64_t first, n_parts;     /* line; parts of each */
  choice *choices;            /* [n] */
  unsigned long long *counts; /* [n N_DIGITS] */
  int known;                  /* bits of the key that are */
};

/* The last digit may be shorter than the others. */
__host__ __device__ int digit_end(int known) { return known + DIGIT < 64 ? known + DIGIT : 64; }

__global__ void begin_kernel(const select_job j, int64_t n, int64_t rank) {
  for
    MA_EACH(i, n * N_DIGITS) {
      j.counts[i] = 0;
      if (i < n) j.choices[i] = {0, rank};
    }
}

/* A block of MA_THREADS for each part. */
__global__ void count_kernel(const select_job j) {
  __shared__ unsigned counts[N_DIGITS];
  const int64_t line = blockIdx.x / j.n_parts, start = ma_line_start(j.lines, j.first + line),
                part = blockIdx.x % j.n_parts;
  const int64_t end = (part + 1) * PART < j.lines.length ? (part + 1) * PART : j.lines.length;
  const uint64_t prefix = j.choices[line].prefix;
  const int shift = 64 - digit_end(j.known), width = digit_end(j.known) - j.known;
  for (unsigned i = threadIdx.x; i < N_DIGITS; i += MA_THREADS) counts[i] = 0;
  __syncthreads();
  for (int64_t e = part * PART + threadIdx.x; e < end; e += MA_THREADS) {
    const uint64_t key = ma_key_at(j.lines, start + e * j.lines.step, false);
    if (j.known == 0 || (key ^ prefix) >> (64 - j.known) == 0)
      atomicAdd(&counts[static_cast<unsigned>(key >> shift) & ((1u << width) - 1)], 1u);
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < N_DIGITS; i += MA_THREADS)
    if (counts[i] > 0) atomicAdd(&j.counts[line * N_DIGITS + i], static_cast<unsigned long long>(counts[i]));
}

/* The digit that the rank falls on: a block of MA_THREADS for each line.  Counts are 0 again afterwards. */
__global__ void choose_kernel(const select_job j) {
  constexpr unsigned EACH = N_DIGITS / MA_THREADS;
  __shared__ unsigned long long sums[MA_THREADS];
  unsigned long long *counts = j.counts + static_cast<int64_t>(blockIdx.x) * N_DIGITS;
  const choice before = j.choices[blockIdx.x];
  unsigned long long sum = 0, rank = static_cast<unsigned long long>(before.rank);
  for (unsigned i = 0; i < EACH; i++) sum += counts[threadIdx.x * EACH + i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned group = 0;
    for (; group < MA_THREADS - 1 && rank >= sums[group]; group++) rank -= sums[group];
    unsigned digit = group * EACH;
    for (; digit < (group + 1) * EACH - 1 && rank >= counts[digit]; digit++) rank -= counts[digit];
    j.choices[blockIdx.x] = {before.prefix | static_cast<uint64_t>(digit) << (64 - digit_end(j.known)),
                             static_cast<int64_t>(rank)};
  }
  __syncthreads();
  for (unsigned i = 0; i < EACH; i++) counts[threadIdx.x * EACH + i] = 0;
}

__global__ void put_choices_kernel(const select_job j, int64_t n, void *out, ma_dtype dtype) {
  for
    MA_EACH(i, n)
  ma_store_double(out, dtype, j.first + i, ma_value_of(j.choices[i].prefix, j.lines.dtype));
}

__global__ void put_sorted_kernel(const ma_sorted from, int64_t rank, int64_t first, int64_t n, ma_dtype of_keys,
                                  void *out, ma_dtype dtype) {
  for
    MA_EACH(i, n)
  ma_store_double(out, dtype, first + i, ma_value_of(from.items[i * from.step + rank].key, of_keys));
}

/* Of each line, what ascending order has at `rank`: [n] elements of `dtype` at `out`. */
ma_status select_rank(ma_device *device, void *out, ma_dtype dtype, const ma_lines &lines, int64_t rank,
                      ma_error *err) {
  select_job j{};
  j.lines = lines, j.n_parts = (lines.length + PART - 1) / PART;
  if (lines.length <= SHORT) {
    const int64_t each = lines.n < SHORT * BATCH / (lines.length + 1) ? lines.n : SHORT * BATCH / (lines.length + 1);
    for (; j.first < lines.n; j.first += each) {
      const int64_t n = lines.n - j.first < each ? lines.n - j.first : each;
      ma_scratch memory(device);
      ma_sorted sorted;
      MA_CUDA_TRY(ma_cuda_first_items(&sorted, &memory, lines, j.first, n, false, rank + 1, err));
      MA_CUDA_TRY(ma_launch("quantile", put_sorted_kernel, ma_grid_over(device, n), err, sorted, rank, j.first, n,
                            lines.dtype, out, dtype));
    }
    return MA_OK;
  }
  const int64_t each = lines.n < BATCH ? lines.n : BATCH;
  const int n_bits = ma_has_wide_keys(lines.dtype) ? 64 : 32;
  ma_scratch choices(device), counts(device);
  MA_CUDA_TRY(choices.take(static_cast<size_t>(each) * sizeof *j.choices, err));
  MA_CUDA_TRY(counts.take(static_cast<size_t>(each * N_DIGITS) * sizeof *j.counts, err));
  j.choices = choices.as<choice>(), j.counts = counts.as<unsigned long long>();
  for (; j.first < lines.n; j.first += each) {
    const int64_t n = lines.n - j.first < each ? lines.n - j.first : each;
    MA_CUDA_TRY(ma_launch("quantile", begin_kernel, ma_grid_over(device, n * N_DIGITS), err, j, n, rank));
    for (j.known = 0; j.known < n_bits; j.known = digit_end(j.known)) {
      MA_CUDA_TRY(ma_launch("quantile", count_kernel, ma_grid_rows(device, n * j.n_parts), err, j));
      MA_CUDA_TRY(ma_launch("quantile", choose_kernel, ma_grid_rows(device, n), err, j));
    }
    MA_CUDA_TRY(ma_launch("quantile", put_choices_kernel, ma_grid_over(device, n), err, j, n, out, dtype));
  }
  return MA_OK;
}

} // namespace

ma_status ma_cuda_quantile(ma_tensor *out, const ma_tensor *a, double q, int dim, bool, ma_error *err) {
  ma_lines lines;
  ma_held in, made;
  MA_CUDA_TRY(ma_lines_of(&lines, &in, a, dim, err));
  const bool is_direct = ma_tensor_is_contiguous(out);
  if (!is_direct) MA_CUDA_TRY(ma_tensor_new_like(&made.tensor, out, out->dtype, err));
  const int64_t rank = static_cast<int64_t>(std::floor(q * static_cast<double>(lines.length - 1)));
  MA_CUDA_TRY(
      select_rank(ma_tensor_device(out), ma_tensor_data(is_direct ? out : &made.tensor), out->dtype, lines, rank, err));
  return is_direct ? MA_OK : ma_cuda_copy(out, &made.tensor, err);
}
