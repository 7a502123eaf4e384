/* AdamW (Loshchilov & Hutter 2019, algorithm 2), in PyTorch's order of operations.  Bound by memory: one pass. */
#include <math.h>

#include "backend/cpu/cpu_internal.h"
#include "base/threads.h"

typedef struct job {
  float *restrict parameter, *restrict mean, *restrict square;
  const float *restrict gradient;
  float scale, keep, beta2, rest1, rest2, root, eps, rate;
} job;

static void update(void *self, size_t from, size_t to) {
  const job j = *(const job *)self;
  for (size_t i = from; i < to; i++) {
    float g = j.gradient[i] * j.scale;
    float mean = j.mean[i] + (g - j.mean[i]) * j.rest1;
    float square = j.square[i] * j.beta2 + g * g * j.rest2;
    j.mean[i] = mean;
    j.square[i] = square;
    j.parameter[i] = j.parameter[i] * j.keep - j.rate * mean / (sqrtf(square) / j.root + j.eps);
  }
}

ma_status ma_cpu_adamw(ma_tensor *out, ma_tensor *mean, ma_tensor *square, const ma_tensor *gradient,
                       const ma_adamw_how *how, ma_error *err) {
  (void)err;
  double correction1 = 1 - pow(how->beta1, (double)how->step), correction2 = 1 - pow(how->beta2, (double)how->step);
  job j = {.parameter = ma_tensor_data(out),
           .mean = ma_tensor_data(mean),
           .square = ma_tensor_data(square),
           .gradient = ma_tensor_data(gradient),
           .scale = (float)how->scale,
           .keep = (float)(1 - how->rate * how->weight_decay),
           .beta2 = (float)how->beta2,
           .rest1 = (float)(1 - how->beta1),
           .rest2 = (float)(1 - how->beta2),
           .root = (float)sqrt(correction2),
           .eps = (float)how->eps,
           .rate = (float)(how->rate / correction1)};
  ma_parallel_for((size_t)ma_tensor_count(out), 32768, update, &j);
  return MA_OK;
}
