/* What is added to rows by index: scatter_add, along any dim, and add_rows.  The places of an index are sorted by what they name, so that each sum has one thread, which adds
 * in the order of places whatever the others do. */
#include "backend/cuda/sort.cuh"

namespace {

/* In `w` are, of each line along the dim that is indexed, the first elements of the output and of what is added. */
struct scatter_job {
  ma_cuda_walk w;
  int64_t n, size; /* places of a line; rows of the output */
  int64_t out_step, a_step;
  ma_sorted places;   /* by row; of every line, or, with a step of 0, of all alike */
  ma_dtype dtype;     /* of the index */
  const float *scale; /* of each place, or NULL */
  int64_t scale_step;
  ma_complaint_kind complaint;
};

/* Neighbours in a warp are neighbours in memory: lines vary fastest. */
__global__ void scatter_kernel(const scatter_job j, ma_complaint *complaint) {
  for
    MA_EACH(i, j.w.count * j.n) {
      const int64_t line = i % j.w.count, first = i / j.w.count;
      const ma_item *places = j.places.items + line * j.places.step;
      const uint64_t key = places[first].key;
      if (first > 0 && places[first - 1].key == key) continue;
      const double named = ma_value_of(key, j.dtype);
      if (!(named >= 0 && named < static_cast<double>(j.size))) {
        ma_complain(complaint, j.complaint, static_cast<int64_t>(ma_saturate(named, -9e18, 9e18)), j.size);
        continue;
      }
      int64_t at[2];
      ma_walk_at<2>(j.w, line, at);
      float *to = static_cast<float *>(j.w.data[0]) + at[0] + static_cast<int64_t>(named) * j.out_step;
      const float *from = static_cast<const float *>(j.w.data[1]) + at[1];
      float sum = *to;
      for (int64_t p = first; p < j.n && places[p].key == key; p++) {
        const int64_t place = places[p].index;
        sum += j.scale ? j.scale[place * j.scale_step] * from[place * j.a_step] : from[place * j.a_step];
      }
      *to = sum;
    }
}

/* out[.. index[i] ..] += scale[i] a[.. i ..]; a scale of NULL is 1. */
ma_status scatter(const char *name, ma_complaint_kind complaint, ma_tensor *out, const ma_tensor *a, int dim,
                  const ma_tensor *index, const ma_tensor *scale, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  const bool is_list = !ma_tensor_same_shape(index, a) || a->n_dims == 1;
  const ma_lines lists = ma_lines_along(index, is_list ? 0 : dim);
  const ma_tensor to = ma_first_along(out, dim), from = ma_first_along(a, dim), *tensors[] = {&to, &from};
  ma_scratch memory(device);
  scatter_job j{};
  j.w = ma_cuda_walk_over(2, tensors);
  j.n = a->shape[dim], j.size = out->shape[dim];
  j.out_step = out->strides[dim], j.a_step = a->strides[dim], j.dtype = index->dtype;
  if (scale) j.scale = static_cast<const float *>(ma_tensor_data(scale)), j.scale_step = scale->strides[0];
  j.complaint = complaint;
  if (j.w.count * j.n == 0) return MA_OK;
  MA_CUDA_TRY(ma_cuda_first_items(&j.places, &memory, lists, 0, lists.n, false, j.n, err));
  if (is_list) j.places.step = 0;
  return ma_launch(name, scatter_kernel, ma_grid_over(device, j.w.count * j.n), err, j,
                   ma_cuda_state(device)->device_complaint);
}

} // namespace

ma_status ma_cuda_scatter_add(ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index, ma_error *err) {
  return scatter("scatter_add", MA_COMPLAINT_scatter_add, out, a, dim, index, nullptr, err);
}

ma_status ma_cuda_add_rows(ma_tensor *out, const ma_tensor *x, const ma_tensor *index, const ma_tensor *scale,
                           ma_error *err) {
  return scatter("add_rows", MA_COMPLAINT_add_rows, out, x, 0, index, scale, err);
}
