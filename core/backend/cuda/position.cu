/* Rotary position embedding (Su et al. 2021, arXiv 2104.09864): a thread turns a pair of dims, or four pairs where fours are
 * aligned. */
#include "backend/cuda/rows.cuh"

namespace {

/* Rows are heads, tensors out, x, cosine, sine.  A head is `n_turns` units of pairs, then units that are copied. */
struct rope_job {
  ma_cuda_rows heads;
  int64_t half, n_turns, n_units;
  ma_dtype step;
};

__device__ float turned(float a, float cosine, float b, float sine, ma_dtype step) {
  return ma_dev_round(a * cosine, step) + ma_dev_round(b * sine, step);
}

/* FOUR elements of tensor `t` from dim `i` on; or one. */
template <bool FOUR>
__device__ ma_four load_unit(const ma_cuda_rows &r, int t, int64_t at, int64_t i) {
  if (FOUR) return ma_load_four(r.starts.data[t], r.starts.dtype[t], at + i);
  ma_four one{};
  one.x[0] = ma_load_f32(r.starts.data[t], r.starts.dtype[t], at + i * r.strides[t]);
  return one;
}

template <bool FOUR>
__device__ void store_unit(const ma_cuda_rows &r, int64_t at, int64_t i, const ma_four &unit) {
  if (FOUR) ma_store_four(r.starts.data[0], r.starts.dtype[0], at + i, unit);
  else ma_store_f32(r.starts.data[0], r.starts.dtype[0], at + i * r.strides[0], unit.x[0]);
}

template <bool FOUR>
__global__ void rope_kernel(const rope_job j) {
  constexpr int wide = FOUR ? 4 : 1;
  const ma_cuda_rows &r = j.heads;
  for
    MA_EACH(i, r.starts.count * j.n_units) {
      const int64_t head = i / j.n_units, unit = i % j.n_units, dim = unit * wide;
      int64_t at[4];
      ma_walk_at<4>(r.starts, head, at);
      if (unit >= j.n_turns) {
        store_unit<FOUR>(r, at[0], dim + j.half, load_unit<FOUR>(r, 1, at[1], dim + j.half));
        continue;
      }
      const ma_four cosine = load_unit<FOUR>(r, 2, at[2], dim), sine = load_unit<FOUR>(r, 3, at[3], dim);
      const ma_four first = load_unit<FOUR>(r, 1, at[1], dim), second = load_unit<FOUR>(r, 1, at[1], dim + j.half);
      ma_four turned_first{}, turned_second{};
      for (int e = 0; e < wide; e++) {
        turned_first.x[e] = turned(first.x[e], cosine.x[e], -second.x[e], sine.x[e], j.step);
        turned_second.x[e] = turned(second.x[e], cosine.x[e], first.x[e], sine.x[e], j.step);
      }
      store_unit<FOUR>(r, at[0], dim, turned_first);
      store_unit<FOUR>(r, at[0], dim + j.half, turned_second);
    }
}

/* Angles [T half], one list a position, as [1 T 1 half]: they serve all sequences and heads. */
ma_tensor by_position(const ma_tensor *angles) {
  ma_tensor view = *angles;
  view.n_dims = 4;
  view.shape[0] = view.shape[2] = 1;
  view.shape[1] = angles->shape[0], view.shape[3] = angles->shape[1];
  view.strides[0] = view.strides[2] = 0;
  view.strides[1] = angles->strides[0], view.strides[3] = angles->strides[1];
  return view;
}

} // namespace

ma_status ma_cuda_rope(ma_tensor *out, const ma_tensor *x, const ma_tensor *cosine, const ma_tensor *sine,
                       ma_dtype step, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  const ma_tensor cosines = by_position(cosine), sines = by_position(sine);
  const ma_tensor *tensors[] = {out, x, &cosines, &sines};
  rope_job j{};
  if (ma_tensor_count(out) == 0) return MA_OK;
  j.heads = ma_cuda_rows_of(4, tensors);
  j.half = cosine->shape[1], j.step = step;
  const bool is_four = j.heads.is_aligned && j.half % 4 == 0;
  const int64_t wide = is_four ? 4 : 1;
  j.n_turns = j.half / wide;
  j.n_units = (j.heads.length - j.half) / wide; /* a turn is of two units' elements */
  return ma_launch("rope", is_four ? rope_kernel<true> : rope_kernel<false>,
                   ma_grid_over(device, j.heads.starts.count * j.n_units), err, j);
}
