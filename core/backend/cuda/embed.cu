/* Rows of a table by id. */
#include "backend/cuda/blocks.cuh"
#include "backend/cuda/walk.cuh"

namespace {

struct embed_job {
  ma_cuda_walk ids;
  void *out; /* [ids width] */
  ma_dtype out_dtype;
  const void *table;
  ma_dtype dtype;
  int64_t n_rows, width, row_stride, column_stride;
  int block, block_bytes; /* of a block type */
  ma_complaint *complaint;
};

/* Row id of the i-th id.  One that there is not is noted, and gives -1: zeros come out. */
__device__ int64_t id_at(const embed_job &j, int64_t i) {
  int64_t at[1];
  ma_walk_at<1>(j.ids, i, at);
  const int64_t id = static_cast<const int64_t *>(j.ids.data[0])[at[0]];
  if (id >= 0 && id < j.n_rows) return id;
  ma_complain(j.complaint, MA_COMPLAINT_embed, id, j.n_rows);
  return -1;
}

/* A thread has a unit of a row: one element, a four, or a part of a block. */
__global__ void embed_kernel(const embed_job j) {
  for
    MA_EACH(i, j.ids.count * j.width) {
      const int64_t id = id_at(j, i / j.width);
      const int64_t at = id * j.row_stride + i % j.width * j.column_stride;
      ma_store_f32(j.out, j.out_dtype, i, id < 0 ? 0 : ma_load_f32(j.table, j.dtype, at));
    }
}

__global__ void embed_fours_kernel(const embed_job j) {
  const int64_t fours = j.width / 4;
  for
    MA_EACH(i, j.ids.count * fours) {
      const int64_t id = id_at(j, i / fours);
      const ma_four none{};
      ma_store_four(j.out, j.out_dtype, 4 * i,
                    id < 0 ? none : ma_load_four(j.table, j.dtype, id * j.row_stride + i % fours * 4));
    }
}

__global__ void embed_blocks_kernel(const embed_job j) {
  const int64_t parts = j.width / MA_BLOCK_PART, parts_of_block = j.block / MA_BLOCK_PART;
  for
    MA_EACH(i, j.ids.count * parts) {
      const int64_t id = id_at(j, i / parts), part = i % parts;
      float values[MA_BLOCK_PART] = {};
      const int64_t block = id * j.row_stride / j.block + part / parts_of_block;
      if (id >= 0)
        ma_widen_part(values, j.dtype, static_cast<const uint8_t *>(j.table) + block * j.block_bytes,
                      static_cast<int>(part % parts_of_block));
      for (int e = 0; e < MA_BLOCK_PART; e++) ma_store_f32(j.out, j.out_dtype, i * MA_BLOCK_PART + e, values[e]);
    }
}

} // namespace

ma_status ma_cuda_embed(ma_tensor *out, const ma_tensor *table, const ma_tensor *ids, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  const ma_dtype_info *info = ma_dtype_describe(table->dtype);
  if (!ma_tensor_is_contiguous(out)) return ma_fail(err, MA_BAD_ARGUMENT, "embed: the output must be contiguous");
  embed_job j{};
  j.ids = ma_cuda_walk_over(1, &ids);
  j.out = ma_tensor_data(out), j.out_dtype = out->dtype;
  j.table = ma_tensor_data(table), j.dtype = table->dtype;
  j.n_rows = table->shape[0], j.width = table->shape[1];
  j.row_stride = table->strides[0], j.column_stride = table->strides[1];
  j.block = static_cast<int>(info->block), j.block_bytes = static_cast<int>(info->bytes);
  j.complaint = ma_cuda_state(device)->device_complaint;
  const int64_t count = j.ids.count * j.width;
  if (ma_dtype_is_block(table->dtype))
    return ma_launch("embed", embed_blocks_kernel, ma_grid_over(device, count / MA_BLOCK_PART), err, j);
  const bool is_aligned = j.width % 4 == 0 && j.row_stride % 4 == 0 && j.column_stride == 1 &&
                          reinterpret_cast<uintptr_t>(j.out) % (4 * ma_dtype_describe(j.out_dtype)->bytes) == 0 &&
                          reinterpret_cast<uintptr_t>(j.table) % (4 * info->bytes) == 0;
  if (is_aligned) return ma_launch("embed", embed_fours_kernel, ma_grid_over(device, count / 4), err, j);
  return ma_launch("embed", embed_kernel, ma_grid_over(device, count), err, j);
}
