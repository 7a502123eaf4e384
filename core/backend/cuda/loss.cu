/* Cross-entropy.  From hidden states, logits exist a block of rows at a time, and become their own gradients
 * (beside them, where these are rounded). */
#include "backend/cuda/block.cuh"
#include "backend/cuda/element.cuh"

extern "C" {
#include "base/threads.h"
}

namespace {

/* Rows of logits, a block of threads each, with what is done to them on the way to the loss (ma_logits_how). */
struct loss_rows {
  const float *logits;
  int64_t row_step, step;
  int64_t n_rows, n; /* n: the vocabulary */
  const int64_t *targets;
  int64_t target_step;
  float scale, cap;
  ma_dtype rounds; /* ma_logits_how.step */
  ma_complaint *complaint;
};

/* cap tanh(scale a / cap), or scale a; in steps, rounded before and after each of these. */
__device__ float softened(const loss_rows &r, float a) {
  if (r.rounds != MA_F32) {
    a = ma_dev_round(ma_dev_round(a, r.rounds) * r.scale, r.rounds);
    if (r.cap == 0) return a;
    a = ma_dev_round(tanhf(ma_dev_round(a * (1.0f / r.cap), r.rounds)), r.rounds);
    return ma_dev_round(a * r.cap, r.rounds);
  }
  return r.cap == 0 ? a * r.scale : r.cap * tanhf(a * (r.scale / r.cap));
}

__device__ float logit_at(const loss_rows &r, int64_t row, int64_t i) {
  return softened(r, r.logits[row * r.row_step + i * r.step]);
}

/* Of a row; negative: it does not count.  One outside the vocabulary is noted, and does not count either. */
__device__ int64_t target_of(const loss_rows &r, int64_t row) {
  const int64_t target = r.targets[row * r.target_step];
  if (target < r.n) return target;
  if (threadIdx.x == 0) ma_complain(r.complaint, MA_COMPLAINT_target, target, r.n);
  return -1;
}

/* The largest logit of a row, and the sum of e^(logit - most). */
struct tally {
  float most, sum;
};

/* In one pass: what a thread has summed is scaled down where something larger comes (Milakov & Gimelshein 2018, arXiv
 * 1805.02867, algorithm 3).  NaN wins, and makes everything NaN. */
__device__ tally tally_of(const loss_rows &r, int64_t row) {
  tally t = {-INFINITY, 0};
  for (int64_t i = threadIdx.x; i < r.n; i += 4 * blockDim.x) {
    float four[4], most = t.most;
    for (int e = 0; e < 4; e++) {
      const int64_t place = i + e * blockDim.x;
      four[e] = place < r.n ? logit_at(r, row, place) : -INFINITY;
      most = ma_larger()(most, four[e]);
    }
    if (most == -INFINITY) continue;
    if (most != t.most) t.sum *= expf(t.most - most);
    for (int e = 0; e < 4; e++) t.sum += expf(four[e] - most);
    t.most = most;
  }
  const float most = ma_block_max(t.most);
  if (most != t.most) t.sum *= expf(t.most - most);
  return {most, ma_block_sum(t.sum)};
}

__device__ float loss_of(const tally &t, float target) {
  return static_cast<float>(static_cast<double>(t.most) + log(static_cast<double>(t.sum)) -
                            static_cast<double>(target));
}

__global__ void loss_kernel(const loss_rows r, float *losses, int64_t loss_step) {
  const int64_t row = blockIdx.x, target = target_of(r, row);
  float loss = 0;
  if (target >= 0) loss = loss_of(tally_of(r, row), logit_at(r, row, target));
  if (threadIdx.x == 0) losses[row * loss_step] = loss;
}

/* Rows of out [n_rows n], which may be the logits where it is f32, get the gradients of -log p(target) times the row's rate: p - 1 at the target,
 * p elsewhere; through cap and scale.  A rate step of 0 is one rate for all.  Losses may be NULL. */
template <typename T>
__global__ void slope_kernel(const loss_rows r, T *out, const float *rates, int64_t rate_step, float *losses) {
  const int64_t row = blockIdx.x, target = target_of(r, row);
  const float rate = r.scale * rates[row * rate_step];
  T *to = out + row * r.n;
  if (target < 0 || rate == 0) {
    for (int64_t i = threadIdx.x; i < r.n; i += blockDim.x) ma_from_f32(&to[i], 0);
    if (losses && threadIdx.x == 0) losses[row] = 0;
    return;
  }
  const float at = logit_at(r, row, target); /* before anybody writes: tally_of has a barrier */
  const tally t = tally_of(r, row);
  const float scale = rate / t.sum;
  for (int64_t i = threadIdx.x; i < r.n; i += blockDim.x) {
    const float logit = logit_at(r, row, i), bend = r.cap == 0 ? 0 : logit / r.cap;
    float p = expf(logit - t.most) * scale;
    if (i == target) p -= rate;
    ma_from_f32(&to[i], p * (1.0f - bend * bend));
  }
  if (losses && threadIdx.x == 0) losses[row] = loss_of(t, at);
}

/* ---- the mean: targets that are not negative count ---- */

struct mean_count {
  double count;
  float rate; /* 1 / count, or 0 */
};

__global__ void count_kernel(mean_count *out, const int64_t *targets, int64_t step, int64_t n) {
  int mine = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) mine += targets[i * step] >= 0;
  const int count = ma_block_sum(mine);
  if (threadIdx.x == 0)
    *out = {static_cast<double>(count), count > 0 ? static_cast<float>(1 / static_cast<double>(count)) : 0};
}

__global__ void mean_kernel(float *out, const float *losses, int64_t n, const mean_count *count) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += static_cast<double>(losses[i]);
  sum = ma_block_sum(sum);
  if (threadIdx.x == 0) *out = static_cast<float>(sum / count->count);
}

/* ---- on the host ---- */

float *floats_of(const ma_tensor *t) { return static_cast<float *>(ma_tensor_data(t)); }

loss_rows rows_of(const ma_tensor *logits, const ma_tensor *targets, const ma_logits_how *how) {
  loss_rows r{};
  r.logits = floats_of(logits);
  r.n_rows = logits->shape[0], r.n = logits->shape[1];
  r.row_step = logits->strides[0], r.step = logits->strides[1];
  r.targets = static_cast<const int64_t *>(ma_tensor_data(targets)), r.target_step = targets->strides[0];
  r.scale = how && how->scale != 0 ? how->scale : 1, r.cap = how ? how->softcap : 0,
  r.rounds = how ? how->step : MA_F32;
  r.complaint = ma_cuda_state(ma_tensor_device(logits))->device_complaint;
  return r;
}

/* A block of threads for each row: a thread has four logits at least, where there are many. */
ma_grid grid_of(ma_device *device, const loss_rows &r) {
  const int64_t warps = (r.n + 4 * MA_WARP - 1) / (4 * MA_WARP);
  return ma_grid_rows(device, r.n_rows, MA_WARP * static_cast<unsigned>(warps < 1 ? 1 : warps > 16 ? 16 : warps));
}

/* The output head, and what is wanted of it: losses [N], or gradients (each may be NULL), which have rates. */
struct head {
  const ma_tensor *x, *weight, *bias, *targets;
  const ma_logits_how *how;
  const float *rates; /* NULL: no gradients */
  int64_t rate_step;
  float *losses; /* or NULL, where there are gradients */
  int64_t loss_step;
  ma_tensor *out, *weight_grad, *bias_grad;
  bool adds; /* to the gradients of weight and bias */
};

/* What the gradients of the logits are stored as: bf16 at once where both products would round them (matmul.cu, gradient_dtype). */
ma_dtype slope_dtype(const head &h) {
  const bool has_product = h.rates && (h.out || h.weight_grad);
  const bool x_rounds = !h.out || h.weight->dtype == MA_BF16, weight_rounds = !h.weight_grad || h.x->dtype == MA_BF16;
  return has_product && x_rounds && weight_rounds ? MA_BF16 : MA_F32;
}

/* Rows [first, first + n), whose logits are made in *logits, and the gradients of these in *slopes, which may be the same. */
ma_status run_rows(const head &h, ma_tensor *logits, ma_tensor *slopes, int64_t first, int64_t n, ma_error *err) {
  ma_held x, targets, out;
  const bool adds = h.adds || first > 0;
  MA_CUDA_TRY(ma_tensor_narrow(&x.tensor, h.x, 0, first, n, err));
  MA_CUDA_TRY(ma_tensor_narrow(&targets.tensor, h.targets, 0, first, n, err));
  MA_CUDA_TRY(ma_cuda_linear(logits, &x.tensor, h.weight, h.bias, err));
  const loss_rows r = rows_of(logits, &targets.tensor, h.how);
  const ma_grid grid = grid_of(ma_tensor_device(logits), r);
  float *losses = h.losses ? h.losses + first * h.loss_step : nullptr;
  if (!h.rates) return ma_launch("cross_entropy", loss_kernel, grid, err, r, losses, h.loss_step);
  const float *rates = h.rates + first * h.rate_step;
  MA_CUDA_TRY(slopes->dtype == MA_BF16 ? ma_launch("cross_entropy_grad", slope_kernel<ma_bf16>, grid, err, r,
                                                   ma_tensor_data(slopes), rates, h.rate_step, losses)
                                       : ma_launch("cross_entropy_grad", slope_kernel<float>, grid, err, r,
                                                   ma_tensor_data(slopes), rates, h.rate_step, losses));
  if (h.out) {
    MA_CUDA_TRY(ma_tensor_narrow(&out.tensor, h.out, 0, first, n, err));
    MA_CUDA_TRY(ma_cuda_linear_grad_x(&out.tensor, slopes, h.weight, err));
  }
  if (h.weight_grad) MA_CUDA_TRY(ma_cuda_linear_grad_weight(h.weight_grad, slopes, &x.tensor, adds, err));
  return h.bias_grad ? ma_cuda_sum_rows(h.bias_grad, slopes, adds, err) : MA_OK;
}

/* In blocks of rows of one size.  256 MiB of logits: enough rows for products to be fast where vocabularies are large. */
ma_status run_head(const head &h, ma_error *err) {
  constexpr int64_t most = MA_IS_EMULATED ? 1 << 10 : 1 << 26;
  const int64_t n = h.x->shape[0], vocabulary = h.weight->shape[0];
  const int64_t fitting = most / (vocabulary + 1) + 1, n_blocks = (n + fitting - 1) / fitting;
  ma_held logits, slopes;
  if (n == 0) {
    if (h.weight_grad && !h.adds) MA_CUDA_TRY(ma_cuda_fill(h.weight_grad, 0, err));
    return h.bias_grad && !h.adds ? ma_cuda_fill(h.bias_grad, 0, err) : MA_OK;
  }
  const int64_t block = (n + n_blocks - 1) / n_blocks, shape[] = {block, vocabulary};
  const ma_dtype dtype = slope_dtype(h);
  MA_CUDA_TRY(ma_tensor_new(&logits.tensor, ma_tensor_device(h.x), MA_F32, 2, shape, err));
  if (dtype == MA_F32) slopes.tensor = ma_tensor_retain(&logits.tensor);
  else MA_CUDA_TRY(ma_tensor_new(&slopes.tensor, ma_tensor_device(h.x), dtype, 2, shape, err));
  for (int64_t first = 0; first < n; first += block) {
    const int64_t rows = n - first < block ? n - first : block;
    ma_held some_logits, some_slopes;
    if (ma_interrupted()) return ma_fail(err, MA_INTERRUPTED, "interrupted in the output head");
    MA_CUDA_TRY(ma_tensor_narrow(&some_logits.tensor, &logits.tensor, 0, 0, rows, err));
    MA_CUDA_TRY(ma_tensor_narrow(&some_slopes.tensor, &slopes.tensor, 0, 0, rows, err));
    MA_CUDA_TRY(run_rows(h, &some_logits.tensor, &some_slopes.tensor, first, rows, err));
  }
  return MA_OK;
}

} // namespace

ma_status ma_cuda_cross_entropy(ma_tensor *out, const ma_tensor *logits, const ma_tensor *targets, ma_error *err) {
  const loss_rows r = rows_of(logits, targets, nullptr);
  return ma_launch("cross_entropy", loss_kernel, grid_of(ma_tensor_device(out), r), err, r, floats_of(out),
                   out->strides[0]);
}

ma_status ma_cuda_cross_entropy_grad(ma_tensor *out, const ma_tensor *logits, const ma_tensor *targets,
                                     const ma_tensor *g, ma_error *err) {
  const loss_rows r = rows_of(logits, targets, nullptr);
  return ma_launch("cross_entropy_grad", slope_kernel<float>, grid_of(ma_tensor_device(out), r), err, r, floats_of(out),
                   floats_of(g), g->strides[0], nullptr);
}

ma_status ma_cuda_linear_cross_entropy(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight,
                                       const ma_tensor *bias, const ma_tensor *targets, const ma_logits_how *how,
                                       ma_error *err) {
  head h{};
  h.x = x, h.weight = weight, h.bias = bias, h.targets = targets, h.how = how;
  h.losses = floats_of(out), h.loss_step = out->strides[0];
  return run_head(h, err);
}

ma_status ma_cuda_linear_cross_entropy_grad(ma_tensor *out, ma_tensor *weight_grad, ma_tensor *bias_grad, bool adds,
                                            const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                                            const ma_tensor *targets, const ma_logits_how *how, const ma_tensor *g,
                                            ma_error *err) {
  head h{};
  h.x = x, h.weight = weight, h.bias = bias, h.targets = targets, h.how = how;
  h.rates = floats_of(g), h.rate_step = g->strides[0];
  h.out = out, h.weight_grad = weight_grad, h.bias_grad = bias_grad, h.adds = adds;
  return run_head(h, err);
}

ma_status ma_cuda_mean_cross_entropy(ma_tensor *out, ma_tensor *const *grads, const ma_tensor *x,
                                     const ma_tensor *weight, const ma_tensor *bias, const ma_tensor *targets,
                                     const ma_logits_how *how, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  const int64_t n = x->shape[0];
  ma_scratch losses(device), count(device);
  MA_CUDA_TRY(losses.take(static_cast<size_t>(n) * sizeof(float), err));
  MA_CUDA_TRY(count.take(sizeof(mean_count), err));
  MA_CUDA_TRY(ma_launch("cross_entropy", count_kernel, ma_grid_rows(device, 1), err, count.as<mean_count>(),
                        ma_tensor_data(targets), targets->strides[0], n));
  head h{};
  h.x = x, h.weight = weight, h.bias = bias, h.targets = targets, h.how = how;
  h.losses = losses.as<float>(), h.loss_step = 1;
  h.out = grads[0], h.weight_grad = grads[1], h.bias_grad = grads[2];
  if (h.out || h.weight_grad || h.bias_grad) h.rates = &count.as<mean_count>()->rate;
  MA_CUDA_TRY(run_head(h, err));
  return ma_launch("cross_entropy", mean_kernel, ma_grid_rows(device, 1), err, floats_of(out), losses.as<float>(), n,
                   count.as<mean_count>());
}
