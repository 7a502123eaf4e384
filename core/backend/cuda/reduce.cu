/* Reductions of lines, in double.  A line is cut into parts by its length alone, and parts are combined in one order, so that
 * results do not depend on the GPU. */
#include "backend/cuda/block.cuh"
#include "backend/cuda/lines.cuh"

namespace {

/* ---- what is kept of a part of a line ---- */

enum fold_kind {
  FOLD_SUM,
  FOLD_PRODUCT,
  FOLD_LARGEST, /* and its index; the first of equals, NaN wins */
  FOLD_SMALLEST,
  FOLD_SPREAD, /* the mean and the sum of squared deviations from it */
  FOLD_SQUARES,
  FOLD_NONZERO, /* how many */
  FOLD_FACTORS  /* the product of those that are not 0, and how many are */
};

struct folded {
  double first, second;
};

template <fold_kind KIND>
__device__ folded nothing() {
  switch (KIND) {
    case FOLD_PRODUCT:
    case FOLD_FACTORS: return {1, 0};
    case FOLD_LARGEST:
    case FOLD_SMALLEST: return {0, -1};
    default: return {0, 0};
  }
}

/* Of FOLD_SPREAD, sums of x - shift and of its square until settle(): the shift is an element of the line, so that what cancels
 * is at most about the line's length times what is left. */
template <fold_kind KIND>
__device__ folded of_element(double x, int64_t index, double shift) {
  switch (KIND) {
    case FOLD_LARGEST:
    case FOLD_SMALLEST: return {x, static_cast<double>(index)};
    case FOLD_SPREAD: return {x - shift, (x - shift) * (x - shift)};
    case FOLD_SQUARES: return {x * x, 0};
    case FOLD_NONZERO: return {x != 0 ? 1.0 : 0.0, 0};
    case FOLD_FACTORS: return x == 0 ? folded{1, 1} : folded{x, 0};
    default: return {x, 0};
  }
}

template <fold_kind KIND>
__device__ folded combine(const folded &a, const folded &b) {
  if (KIND == FOLD_PRODUCT) return {a.first * b.first, 0};
  if (KIND == FOLD_FACTORS) return {a.first * b.first, a.second + b.second};
  if (KIND != FOLD_LARGEST && KIND != FOLD_SMALLEST) return {a.first + b.first, a.second + b.second};
  if (a.second < 0 || b.second < 0) return a.second < 0 ? b : a;
  const bool a_is_nan = a.first != a.first, b_is_nan = b.first != b.first;
  if (a_is_nan != b_is_nan) return a_is_nan ? a : b;
  if (!a_is_nan && a.first != b.first) return (a.first > b.first) == (KIND == FOLD_LARGEST) ? a : b;
  return a.second < b.second ? a : b;
}

template <fold_kind KIND>
__device__ folded combine_warp(folded f) {
  for (int offset = MA_WARP / 2; offset > 0; offset /= 2) {
    const double first = __shfl_xor_sync(MA_ALL_LANES, f.first, offset),
                 second = __shfl_xor_sync(MA_ALL_LANES, f.second, offset);
    f = combine<KIND>(f, {first, second});
  }
  return f;
}

/* ---- folding ---- */

struct fold_job {
  ma_lines lines;
  int64_t n_parts, part; /* parts of a line, elements of a part */
  folded *parts;         /* [n n_parts] where a line has several */
  folded *states;        /* [n]: what is made of the lines; or, where it is NULL, */
  void *out;             /* [n]: their results */
  ma_dtype dtype;
  ma_reduce_kind kind;
};

__device__ double element(const fold_job &j, int64_t start, int64_t e) {
  return ma_load_double(j.lines.data, j.lines.dtype, start + e * j.lines.step);
}

template <fold_kind KIND>
__device__ double shift_of(const fold_job &j, int64_t start) {
  const double x = KIND == FOLD_SPREAD && j.lines.length > 0 ? element(j, start, 0) : 0;
  return x - x == 0 ? x : 0;
}

__device__ double result_of(ma_reduce_kind kind, const folded &f, double n) {
  switch (kind) {
    case MA_REDUCE_mean: return f.first / n;
    case MA_REDUCE_argmax:
    case MA_REDUCE_argmin: return f.second;
    case MA_REDUCE_var: return f.second / (n - 1);
    case MA_REDUCE_std: return sqrt(f.second / (n - 1));
    case MA_REDUCE_norm: return sqrt(f.first);
    case MA_REDUCE_any: return f.first > 0;
    case MA_REDUCE_all: return f.first == n;
    default: return f.first;
  }
}

/* A line is done. */
template <fold_kind KIND>
__device__ void settle(const fold_job &j, int64_t line, folded f) {
  const double n = static_cast<double>(j.lines.length);
  if (KIND == FOLD_SPREAD && n > 0) {
    const double squares = f.second - f.first * f.first / n;
    f = {shift_of<KIND>(j, ma_line_start(j.lines, line)) + f.first / n, squares < 0 ? 0 : squares};
  }
  if (j.states) j.states[line] = f;
  else ma_store_double(j.out, j.dtype, line, result_of(j.kind, f, n));
}

template <fold_kind KIND>
__device__ void put(const fold_job &j, int64_t line, int64_t part, const folded &f) {
  if (j.n_parts == 1) settle<KIND>(j, line, f);
  else j.parts[line * j.n_parts + part] = f;
}

/* A warp for each part, along lines whose elements are neighbours. */
template <fold_kind KIND>
__global__ void fold_along_kernel(const fold_job j) {
  const int64_t lane = threadIdx.x % MA_WARP;
  for (int64_t task = ma_thread() / MA_WARP; task < j.lines.n * j.n_parts; task += ma_n_threads() / MA_WARP) {
    const int64_t line = task / j.n_parts, part = task % j.n_parts, start = ma_line_start(j.lines, line);
    const int64_t end = (part + 1) * j.part < j.lines.length ? (part + 1) * j.part : j.lines.length;
    const double shift = shift_of<KIND>(j, start);
    folded f = nothing<KIND>();
    for (int64_t e = part * j.part + lane; e < end; e += MA_WARP)
      f = combine<KIND>(f, of_element<KIND>(element(j, start, e), e, shift));
    f = combine_warp<KIND>(f);
    if (lane == 0) put<KIND>(j, line, part, f);
  }
}

/* A thread for each part, along lines which are neighbours themselves, or short. */
template <fold_kind KIND>
__global__ void fold_across_kernel(const fold_job j) {
  for
    MA_EACH(task, j.lines.n * j.n_parts) {
      const int64_t line = task % j.lines.n, part = task / j.lines.n, start = ma_line_start(j.lines, line);
      const int64_t end = (part + 1) * j.part < j.lines.length ? (part + 1) * j.part : j.lines.length;
      const double shift = shift_of<KIND>(j, start);
      folded f = nothing<KIND>();
      for (int64_t e = part * j.part; e < end; e++)
        f = combine<KIND>(f, of_element<KIND>(element(j, start, e), e, shift));
      put<KIND>(j, line, part, f);
    }
}

/* A block for each line. */
template <fold_kind KIND>
__global__ void combine_parts_kernel(const fold_job j) {
  __shared__ folded of_warps[MA_WARP];
  const int64_t line = blockIdx.x;
  folded f = nothing<KIND>();
  for (int64_t part = threadIdx.x; part < j.n_parts; part += blockDim.x)
    f = combine<KIND>(f, j.parts[line * j.n_parts + part]);
  f = combine_warp<KIND>(f);
  if (threadIdx.x % MA_WARP == 0) of_warps[threadIdx.x / MA_WARP] = f;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (unsigned warp = 1; warp < blockDim.x / MA_WARP; warp++) f = combine<KIND>(f, of_warps[warp]);
  settle<KIND>(j, line, f);
}

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <fold_kind KIND>
ma_status fold_as(ma_device *device, fold_job j, ma_error *err) {
  constexpr int64_t most_parts = 4096; /* of a line: more than enough for every processor */
  const ma_lines &l = j.lines;
  const bool is_along = l.length >= MA_WARP && (l.step == 1 || l.n < 8);
  const int64_t least = is_along ? 2048 : 128;
  ma_scratch parts(device);
  j.part = ceiling(l.length, most_parts) > least ? ceiling(l.length, most_parts) : least;
  j.n_parts = l.length > j.part ? ceiling(l.length, j.part) : 1;
  if (j.n_parts > 1) MA_CUDA_TRY(parts.take(static_cast<size_t>(l.n * j.n_parts) * sizeof *j.parts, err));
  j.parts = parts.as<folded>();
  if (is_along)
    MA_CUDA_TRY(ma_launch("reduce", fold_along_kernel<KIND>, ma_grid_over(device, l.n * j.n_parts * MA_WARP), err, j));
  else MA_CUDA_TRY(ma_launch("reduce", fold_across_kernel<KIND>, ma_grid_over(device, l.n * j.n_parts), err, j));
  if (j.n_parts == 1) return MA_OK;
  return ma_launch("reduce", combine_parts_kernel<KIND>,
                   ma_grid_rows(device, l.n, j.n_parts > 64 ? MA_THREADS : MA_WARP), err, j);
}

ma_status fold(ma_device *device, fold_kind kind, const fold_job &j, ma_error *err) {
  switch (kind) {
    case FOLD_SUM: return fold_as<FOLD_SUM>(device, j, err);
    case FOLD_PRODUCT: return fold_as<FOLD_PRODUCT>(device, j, err);
    case FOLD_LARGEST: return fold_as<FOLD_LARGEST>(device, j, err);
    case FOLD_SMALLEST: return fold_as<FOLD_SMALLEST>(device, j, err);
    case FOLD_SPREAD: return fold_as<FOLD_SPREAD>(device, j, err);
    case FOLD_SQUARES: return fold_as<FOLD_SQUARES>(device, j, err);
    case FOLD_NONZERO: return fold_as<FOLD_NONZERO>(device, j, err);
    default: return fold_as<FOLD_FACTORS>(device, j, err);
  }
}

fold_kind fold_of(ma_reduce_kind kind) {
  switch (kind) {
    case MA_REDUCE_prod: return FOLD_PRODUCT;
    case MA_REDUCE_max:
    case MA_REDUCE_argmax: return FOLD_LARGEST;
    case MA_REDUCE_min:
    case MA_REDUCE_argmin: return FOLD_SMALLEST;
    case MA_REDUCE_var:
    case MA_REDUCE_std: return FOLD_SPREAD;
    case MA_REDUCE_norm: return FOLD_SQUARES;
    case MA_REDUCE_any:
    case MA_REDUCE_all: return FOLD_NONZERO;
    default: return FOLD_SUM;
  }
}

/* ---- gradients ---- */

__device__ double slope_of(ma_reduce_kind kind, double x, int64_t place, const folded &f, double n) {
  switch (kind) {
    case MA_REDUCE_sum: return 1;
    case MA_REDUCE_mean: return 1 / n;
    case MA_REDUCE_prod: return f.second == 0 ? f.first / x : f.second == 1 && x == 0 ? f.first : 0;
    case MA_REDUCE_max:
    case MA_REDUCE_min: return static_cast<double>(place) == f.second;
    case MA_REDUCE_var: return 2 * (x - f.first) / (n - 1);
    case MA_REDUCE_std: return (x - f.first) / ((n - 1) * sqrt(f.second / (n - 1)));
    case MA_REDUCE_norm: return f.first > 0 ? x / sqrt(f.first) : 0;
    default: return 0;
  }
}

/* The walk is over out, a, the number of an element's line, and its place in that line. */
__global__ void reduce_grad_kernel(const ma_cuda_walk w, ma_reduce_kind kind, const folded *states, const float *g,
                                   double n) {
  for
    MA_EACH(i, w.count) {
      int64_t at[4];
      ma_walk_at<4>(w, i, at);
      const folded f = states ? states[at[2]] : folded{0, 0};
      const double x = ma_load_double(w.data[1], w.dtype[1], at[1]);
      ma_store_double(w.data[0], w.dtype[0], at[0], static_cast<double>(g[at[2]]) * slope_of(kind, x, at[3], f, n));
    }
}

/* Strides over what is (or, `without`, is not) of an element's line. */
ma_tensor numbering(const ma_tensor *a, int dim, bool without) {
  ma_tensor t = *a;
  int64_t step = 1;
  for (int d = a->n_dims - 1; d >= 0; d--) {
    const bool is_of_line = dim == MA_ALL || d == dim;
    t.strides[d] = is_of_line == without ? 0 : step;
    if (is_of_line != without) step *= a->shape[d];
  }
  return t;
}

} // namespace

ma_status ma_cuda_reduce(ma_tensor *out, ma_reduce_kind kind, const ma_tensor *a, int dim, bool, ma_error *err) {
  fold_job j{};
  ma_held in, made;
  MA_CUDA_TRY(ma_lines_of(&j.lines, &in, a, dim, err));
  const bool is_direct = ma_tensor_is_contiguous(out);
  if (!is_direct) MA_CUDA_TRY(ma_tensor_new_like(&made.tensor, out, out->dtype, err));
  j.out = ma_tensor_data(is_direct ? out : &made.tensor), j.dtype = out->dtype, j.kind = kind;
  MA_CUDA_TRY(fold(ma_tensor_device(out), fold_of(kind), j, err));
  return is_direct ? MA_OK : ma_cuda_copy(out, &made.tensor, err);
}

ma_status ma_cuda_reduce_grad(ma_tensor *out, ma_reduce_kind kind, const ma_tensor *a, const ma_tensor *g, int dim,
                              ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  fold_job j{};
  ma_held in;
  ma_scratch states(device);
  const ma_tensor line = numbering(a, dim, true), place = numbering(a, dim, false),
                  *tensors[] = {out, a, &line, &place};
  const ma_cuda_walk w = ma_cuda_walk_over(4, tensors);
  const fold_kind made = kind == MA_REDUCE_prod ? FOLD_FACTORS : fold_of(kind);
  MA_CUDA_TRY(ma_lines_of(&j.lines, &in, a, dim, err));
  if (made != FOLD_SUM) {
    MA_CUDA_TRY(states.take(static_cast<size_t>(j.lines.n) * sizeof *j.states, err));
    j.states = states.as<folded>();
    MA_CUDA_TRY(fold(device, made, j, err));
  }
  return ma_launch("reduce_grad", reduce_grad_kernel, ma_grid_over(device, w.count), err, w, kind, j.states,
                   static_cast<const float *>(ma_tensor_data(g)), static_cast<double>(j.lines.length));
}
