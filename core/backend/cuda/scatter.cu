/* What is added to rows by index: scatter_add, along any dim, and add_rows. */
#include "backend/cuda/walk.cuh"

namespace {

/* What an index names twice is added twice, in order, whatever the threads do: the first place of a row adds up all of that
 * row's places, which link_kernel has linked.  Lines run along the dim that is indexed; in `w` are, of each line, the first
 * elements of the output, of what is added, and of the index. */
struct scatter_lines {
  ma_cuda_walk w;
  int64_t n, size; /* places of a line; rows of the output */
  int64_t out_stride, a_stride, index_stride;
  const float *scale; /* of each place, or NULL */
  int64_t scale_stride;
  int64_t n_lists; /* 1: all lines have one list of indices; or one a line */
  int64_t *next;   /* [n_lists n]: the next place of the same row, or n */
  uint8_t *is_first; /* [n_lists n] */
};

__device__ int64_t row_of(const scatter_lines &s, int64_t line, int64_t place) {
  int64_t at[3];
  ma_walk_at<3>(s.w, line, at);
  return ma_load_index(s.w.data[2], s.w.dtype[2], at[2] + place * s.index_stride);
}

__global__ void link_kernel(const scatter_lines s, ma_complaint_kind kind, ma_complaint *complaint) {
  for MA_EACH(i, s.n_lists * s.n) {
    const int64_t line = i / s.n, place = i % s.n, row = row_of(s, line, place);
    if (row < 0 || row >= s.size) ma_complain(complaint, kind, row, s.size);
    bool is_first = row >= 0 && row < s.size;
    for (int64_t p = 0; p < place && is_first; p++) is_first = row_of(s, line, p) != row;
    int64_t next = place + 1;
    while (next < s.n && row_of(s, line, next) != row) next++;
    s.is_first[i] = is_first;
    s.next[i] = next;
  }
}

/* Neighbours in a warp are neighbours in memory: lines vary fastest. */
__global__ void scatter_kernel(const scatter_lines s) {
  for MA_EACH(i, s.w.count * s.n) {
    const int64_t line = i % s.w.count, place = i / s.w.count, list = s.n_lists == 1 ? 0 : line * s.n;
    int64_t at[3];
    if (!s.is_first[list + place]) continue;
    ma_walk_at<3>(s.w, line, at);
    float *to = static_cast<float *>(s.w.data[0]) + at[0] + row_of(s, line, place) * s.out_stride;
    const float *from = static_cast<const float *>(s.w.data[1]) + at[1];
    float sum = *to;
    for (int64_t p = place; p < s.n; p = s.next[list + p])
      sum += s.scale ? s.scale[p * s.scale_stride] * from[p * s.a_stride] : from[p * s.a_stride];
    *to = sum;
  }
}

/* out[.. index[i] ..] += scale[i] a[.. i ..]; a scale of NULL is 1. */
ma_status scatter(const char *name, ma_complaint_kind kind, ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index,
                  const ma_tensor *scale, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  const bool is_list = !ma_tensor_same_shape(index, a) || a->n_dims == 1;
  const ma_tensor places = is_list ? ma_list_along(index, a, dim) : *index;
  const ma_tensor to = ma_along(out, dim, 1), lines = ma_along(a, dim, 1), at = ma_along(&places, dim, 1);
  const ma_tensor *tensors[] = {&to, &lines, &at};
  scatter_lines s{};
  s.w = ma_cuda_walk_over(3, tensors);
  s.n = a->shape[dim], s.size = out->shape[dim];
  s.out_stride = out->strides[dim], s.a_stride = a->strides[dim], s.index_stride = places.strides[dim];
  if (scale) s.scale = static_cast<const float *>(ma_tensor_data(scale)), s.scale_stride = scale->strides[0];
  s.n_lists = is_list ? 1 : s.w.count;
  if (s.w.count * s.n == 0) return MA_OK;
  const size_t n = static_cast<size_t>(s.n_lists * s.n);
  ma_scratch links(device);
  MA_CUDA_TRY(links.take(n * (sizeof *s.next + sizeof *s.is_first), err));
  s.next = links.as<int64_t>();
  s.is_first = reinterpret_cast<uint8_t *>(s.next + n);
  MA_CUDA_TRY(ma_launch(name, link_kernel, ma_grid_over(device, s.n_lists * s.n), err, s, kind,
                        ma_cuda_state(device)->device_complaint));
  return ma_launch(name, scatter_kernel, ma_grid_over(device, s.w.count * s.n), err, s);
}

}  // namespace

ma_status ma_cuda_scatter_add(ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index, ma_error *err) {
  return scatter("scatter_add", MA_COMPLAINT_scatter_add, out, a, dim, index, nullptr, err);
}

ma_status ma_cuda_add_rows(ma_tensor *out, const ma_tensor *x, const ma_tensor *index, const ma_tensor *scale, ma_error *err) {
  return scatter("add_rows", MA_COMPLAINT_add_rows, out, x, 0, index, scale, err);
}
