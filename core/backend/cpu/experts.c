/* Routing of tokens to experts, and the sum of what these give. */
#include <math.h>

#include "backend/cpu/cpu_internal.h"

/* One row of `n` logits, `step` elements apart -> shares.  Softmax over all, then the k largest divided by
 * their sum: the denominator of the softmax cancels, but for rounding. */
static void route_row(float *out, int64_t out_step, const float *logits, int64_t step, int64_t n, int64_t k) {
  float most = -INFINITY, sum = 0, chosen = 0;
  for (int64_t i = 0; i < n; i++) most = fmaxf(most, logits[i * step]);
  for (int64_t i = 0; i < n; i++) sum += out[i * out_step] = expf(logits[i * step] - most);
  for (int64_t i = 0; i < n; i++) out[i * out_step] /= sum;
  /* Marks the k largest by their sign; shares are not negative. */
  for (int64_t picked = 0; picked < k; picked++) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++) {
      float share = out[i * out_step];
      if (!signbit(share) && (best < 0 || share > out[best * out_step])) best = i;
    }
    if (best < 0) break;
    chosen += out[best * out_step];
    out[best * out_step] = -out[best * out_step];
  }
  for (int64_t i = 0; i < n; i++) {
    float *share = &out[i * out_step];
    *share = signbit(*share) ? -*share / chosen : 0;
  }
}

ma_status ma_cpu_route(ma_tensor *out, const ma_tensor *logits, int64_t k, ma_error *err) {
  int last = logits->n_dims - 1;
  ma_tensor rows[2] = {*out, *logits};
  ma_walk walk;
  (void)err;
  rows[0].n_dims = rows[1].n_dims = last;
  ma_walk_begin(&walk, 2, (const ma_tensor *const[]){&rows[0], &rows[1]});
  for (int64_t r = 0; r < walk.outer; r++) {
    int64_t at[2];
    ma_walk_row(&walk, r, at);
    for (int64_t i = 0; i < walk.inner; i++)
      route_row((float *)out->storage->data + at[0] + i * walk.inner_stride[0], out->strides[last],
                (const float *)logits->storage->data + at[1] + i * walk.inner_stride[1], logits->strides[last],
                logits->shape[last], k);
  }
  return MA_OK;
}

ma_status ma_cpu_add_rows(ma_tensor *out, const ma_tensor *x, const ma_tensor *index, const ma_tensor *scale,
                          ma_error *err) {
  const int64_t *ids = ma_tensor_data(index);
  const float *from = ma_tensor_data(x), *factors = ma_tensor_data(scale);
  float *to = ma_tensor_data(out);
  for (int64_t i = 0; i < x->shape[0]; i++) {
    int64_t id = ids[i * index->strides[0]];
    float factor = factors[i * scale->strides[0]];
    if (id < 0 || id >= out->shape[0])
      return ma_fail(err, MA_BAD_ARGUMENT, "add_rows: row %lld is outside the %lld of the sum", (long long)id,
                     (long long)out->shape[0]);
    for (int64_t e = 0; e < x->shape[1]; e++)
      to[id * out->strides[0] + e * out->strides[1]] += factor * from[i * x->strides[0] + e * x->strides[1]];
  }
  return MA_OK;
}
