/* The statistics of a probe, gathered on the device and downloaded once.  Sums are those of parts, which the number of elements
 * alone decides on, in one order. */
#include "backend/cuda/block.cuh"
#include "backend/cuda/select.cuh"

namespace {

constexpr int64_t LEAST_PART = 4096, MOST_PARTS = 1024;

struct sums {
  double sum, l1, squares, least, most, n_nonfinite, n_over_f16;
};
struct powers {
  double second, fourth; /* sums of powers of x - mean */
};

struct gathered {
  sums of_all;
  powers centered;
  float median;
  float top_value[MA_MAX_TOP];
  int64_t top_index[MA_MAX_TOP];
};

struct stats_job {
  const void *data;
  ma_dtype dtype;
  int64_t n, part, n_parts;
  sums *sums_of_parts;
  powers *powers_of_parts;
  gathered *out;
};

__device__ sums no_sums() { return {0, 0, 0, INFINITY, -INFINITY, 0, 0}; }

/* NaN is neither least nor most. */
__device__ void add(sums *to, const sums &s) {
  to->sum += s.sum, to->l1 += s.l1, to->squares += s.squares;
  to->least = s.least < to->least ? s.least : to->least;
  to->most = s.most > to->most ? s.most : to->most;
  to->n_nonfinite += s.n_nonfinite, to->n_over_f16 += s.n_over_f16;
}

__device__ sums of_block(const sums &s) {
  return {ma_block_sum(s.sum),
          ma_block_sum(s.l1),
          ma_block_sum(s.squares),
          ma_block_reduce(s.least, static_cast<double>(INFINITY), ma_smaller()),
          ma_block_reduce(s.most, -static_cast<double>(INFINITY), ma_larger()),
          ma_block_sum(s.n_nonfinite),
          ma_block_sum(s.n_over_f16)};
}

__device__ int64_t end_of_part(const stats_job &j) {
  const int64_t end = (static_cast<int64_t>(blockIdx.x) + 1) * j.part;
  return end < j.n ? end : j.n;
}

/* A block for each part, of these kernels and of the two that look at elements again. */
__global__ void sums_kernel(const stats_job j) {
  const double f16_limit = 65520; /* rounds to infinity from here on */
  sums s = no_sums();
  for (int64_t i = blockIdx.x * j.part + threadIdx.x; i < end_of_part(j); i += blockDim.x) {
    const double x = static_cast<double>(ma_load_f32(j.data, j.dtype, i)), magnitude = fabs(x);
    const bool is_finite = magnitude < static_cast<double>(INFINITY);
    add(&s, {x, magnitude, x * x, x, x, is_finite ? 0.0 : 1.0, is_finite && magnitude >= f16_limit ? 1.0 : 0.0});
  }
  s = of_block(s);
  if (threadIdx.x == 0) j.sums_of_parts[blockIdx.x] = s;
}

__global__ void add_sums_kernel(const stats_job j) {
  sums s = no_sums();
  for (int64_t i = threadIdx.x; i < j.n_parts; i += blockDim.x) add(&s, j.sums_of_parts[i]);
  s = of_block(s);
  if (threadIdx.x == 0) j.out->of_all = s;
}

__global__ void powers_kernel(const stats_job j) {
  const double mean = j.out->of_all.sum / static_cast<double>(j.n);
  double second = 0, fourth = 0;
  for (int64_t i = blockIdx.x * j.part + threadIdx.x; i < end_of_part(j); i += blockDim.x) {
    const double x = static_cast<double>(ma_load_f32(j.data, j.dtype, i)) - mean, squared = x * x;
    second += squared;
    fourth += squared * squared;
  }
  second = ma_block_sum(second);
  fourth = ma_block_sum(fourth);
  if (threadIdx.x == 0) j.powers_of_parts[blockIdx.x] = {second, fourth};
}

__global__ void add_powers_kernel(const stats_job j) {
  double second = 0, fourth = 0;
  for (int64_t i = threadIdx.x; i < j.n_parts; i += blockDim.x)
    second += j.powers_of_parts[i].second, fourth += j.powers_of_parts[i].fourth;
  second = ma_block_sum(second);
  fourth = ma_block_sum(fourth);
  if (threadIdx.x == 0) j.out->centered = {second, fourth};
}

__global__ void put_top_kernel(const stats_job j, const ma_item *items, int64_t n) {
  for
    MA_EACH(i, n) {
      j.out->top_index[i] = items[i].index;
      j.out->top_value[i] = ma_load_f32(j.data, j.dtype, items[i].index);
    }
}

ma_status gather_sums(ma_device *device, stats_job j, bool with_powers, ma_error *err) {
  ma_scratch parts(device);
  MA_CUDA_TRY(parts.take(static_cast<size_t>(j.n_parts) * (sizeof(sums) + sizeof(powers)), err));
  j.sums_of_parts = parts.as<sums>();
  j.powers_of_parts = reinterpret_cast<powers *>(j.sums_of_parts + j.n_parts);
  MA_CUDA_TRY(ma_launch("statistics", sums_kernel, ma_grid_rows(device, j.n_parts), err, j));
  MA_CUDA_TRY(ma_launch("statistics", add_sums_kernel, ma_grid_rows(device, 1), err, j));
  if (!with_powers) return MA_OK;
  MA_CUDA_TRY(ma_launch("statistics", powers_kernel, ma_grid_rows(device, j.n_parts), err, j));
  return ma_launch("statistics", add_powers_kernel, ma_grid_rows(device, 1), err, j);
}

ma_status gather_top(ma_device *device, const stats_job &j, const ma_lines &line, int64_t n, ma_error *err) {
  ma_scratch memory(device);
  ma_sorted top;
  MA_CUDA_TRY(ma_cuda_first_items(&top, &memory, line, 0, 1, {true, true}, n, err));
  return ma_launch("statistics", put_top_kernel, ma_grid_over(device, n), err, j, top.items, n);
}

void report_sums(ma_stats *out, const gathered &g, bool with_powers) {
  const double n = static_cast<double>(out->count), second = g.centered.second;
  out->l1 = g.of_all.l1;
  out->l2 = std::sqrt(g.of_all.squares);
  out->min = g.of_all.least;
  out->max = g.of_all.most;
  out->n_nonfinite = static_cast<int64_t>(g.of_all.n_nonfinite);
  out->n_over_f16 = static_cast<int64_t>(g.of_all.n_over_f16);
  out->mean = g.of_all.sum / n;
  if (!with_powers) return;
  out->std = std::sqrt(second / n);
  out->kurtosis = second > 0 ? g.centered.fourth * n / (second * second) : static_cast<double>(NAN);
}

} // namespace

ma_status ma_cuda_statistics(ma_stats *out, const ma_tensor *a, unsigned wanted, int n_top, ma_error *err) {
  ma_device *device = ma_tensor_device(a);
  ma_held plain, in;
  ma_lines line;
  ma_scratch memory(device);
  gathered g{};
  stats_job j{};
  *out = {};
  out->count = ma_tensor_count(a);
  const bool with_powers = wanted & MA_STAT_MOMENTS;
  const bool with_sums = wanted & (MA_STAT_MOMENTS | MA_STAT_NORMS | MA_STAT_NONFINITE | MA_STAT_EXTREMES);
  const int64_t top = !(wanted & MA_STAT_TOP) ? 0 : n_top < out->count ? n_top : out->count;
  /* Other types are looked at as f32. */
  if (ma_dtype_is_float(a->dtype)) plain.tensor = ma_tensor_retain(a);
  else MA_CUDA_TRY(ma_tensor_convert(&plain.tensor, a, MA_F32, err));
  MA_CUDA_TRY(ma_lines_of(&line, &in, &plain.tensor, MA_ALL, err));
  MA_CUDA_TRY(memory.take(sizeof g, err));
  j.data = line.data, j.dtype = line.dtype, j.n = line.length, j.out = memory.as<gathered>();
  j.part = (j.n + MOST_PARTS - 1) / MOST_PARTS > LEAST_PART ? (j.n + MOST_PARTS - 1) / MOST_PARTS : LEAST_PART;
  j.n_parts = (j.n + j.part - 1) / j.part;
  if (top > 0) MA_CUDA_TRY(gather_top(device, j, line, top, err));
  if (wanted & MA_STAT_MEDIAN)
    MA_CUDA_TRY(ma_cuda_select(device, &j.out->median, MA_F32, line, true, (j.n - 1) / 2, err));
  if (with_sums) MA_CUDA_TRY(gather_sums(device, j, with_powers, err));
  MA_CUDA_TRY(device->backend->download(device, &g, j.out, sizeof g, err));
  for (; out->n_top < top && g.top_value[out->n_top] == g.top_value[out->n_top]; out->n_top++) { /* NaN is last */
    out->top_index[out->n_top] = g.top_index[out->n_top];
    out->top_value[out->n_top] = static_cast<double>(g.top_value[out->n_top]);
  }
  if (wanted & MA_STAT_MEDIAN) out->median = static_cast<double>(g.median);
  if (with_sums) report_sums(out, g, with_powers);
  return MA_OK;
}
