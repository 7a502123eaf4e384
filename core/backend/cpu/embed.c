#include "backend/cpu/cpu_internal.h"

ma_status ma_cpu_embed(ma_tensor *out, const ma_tensor *table, const ma_tensor *ids, ma_error *err) {
  const ma_rows *rows = ma_rows_get();
  int64_t width = table->shape[1], n = ma_tensor_count(ids), at[1];
  ma_walk walk;
  ma_status st = MA_OK;
  ma_tensor whole = {0};
  if (!ma_tensor_is_contiguous(out)) return ma_fail(err, MA_BAD_ARGUMENT, "embed: the output must be contiguous");
  MA_TRY(ma_cpu_out_f32(&whole, out, err));
  ma_walk_begin(&walk, 1, (const ma_tensor *const[]){ids});
  float *to = ma_tensor_data(&whole);
  for (int64_t i = 0; i < n; i++) {
    ma_walk_row(&walk, i / walk.inner, at);
    int64_t id = ((const int64_t *)ids->storage->data)[at[0] + i % walk.inner * walk.inner_stride[0]];
    if (id < 0 || id >= table->shape[0])
      MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "embed: id %lld is outside the table of %lld", (long long)id,
                     (long long)table->shape[0]));
    const float *row = ma_row_load_whole(rows, to + i * width, table, table->offset + id * table->strides[0],
                                         table->strides[1], (size_t)width);
    if (row != to + i * width)
      for (int64_t e = 0; e < width; e++) to[i * width + e] = row[e];
  }
  MA_TRY(ma_cpu_put_f32(out, &whole, err));
done:
  ma_tensor_release(&whole);
  return st;
}
