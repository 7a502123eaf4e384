/* AdamW (Loshchilov & Hutter 2019, algorithm 2), in PyTorch's order of operations.  Bound by memory: one pass. */
#include "backend/cuda/launch.cuh"

namespace {

struct adamw_job {
  float *parameter, *mean, *square;
  const float *gradient;
  int64_t count;
  float scale, keep, beta2, rest1, rest2, root, eps, rate;
};

/* Neighbouring threads have neighbouring elements, which lie anywhere: parameters may be views. */
__global__ void adamw_kernel(const adamw_job j) {
  for (int64_t i = ma_thread(); i < j.count; i += ma_n_threads()) {
    const float g = j.gradient[i] * j.scale;
    const float mean = j.mean[i] + (g - j.mean[i]) * j.rest1;
    const float square = j.square[i] * j.beta2 + g * g * j.rest2;
    j.mean[i] = mean;
    j.square[i] = square;
    j.parameter[i] = j.parameter[i] * j.keep - j.rate * mean / (sqrtf(square) / j.root + j.eps);
  }
}

} // namespace

ma_status ma_cuda_adamw(ma_tensor *out, ma_tensor *mean, ma_tensor *square, const ma_tensor *gradient,
                        const ma_adamw_how *how, ma_error *err) {
  const double step = static_cast<double>(how->step);
  const double correction1 = 1 - std::pow(how->beta1, step), correction2 = 1 - std::pow(how->beta2, step);
  adamw_job j{};
  j.parameter = static_cast<float *>(ma_tensor_data(out));
  j.mean = static_cast<float *>(ma_tensor_data(mean));
  j.square = static_cast<float *>(ma_tensor_data(square));
  j.gradient = static_cast<const float *>(ma_tensor_data(gradient));
  j.count = ma_tensor_count(out);
  j.scale = static_cast<float>(how->scale);
  j.keep = static_cast<float>(1 - how->rate * how->weight_decay);
  j.beta2 = static_cast<float>(how->beta2);
  j.rest1 = static_cast<float>(1 - how->beta1);
  j.rest2 = static_cast<float>(1 - how->beta2);
  j.root = static_cast<float>(std::sqrt(correction2));
  j.eps = static_cast<float>(how->eps);
  j.rate = static_cast<float>(how->rate / correction1);
  return ma_launch("adamw", adamw_kernel, ma_grid_over(ma_tensor_device(out), j.count), err, j);
}
