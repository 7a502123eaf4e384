/* The emulation itself: threads that work together do, and what would hang or fault on a GPU ends the process with a message. */
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "backend/cuda/block.cuh"
#include "fiber.h"

namespace {

__global__ void sums_kernel(float *out, const float *in, int n) {
  float sum = 0, most = -INFINITY;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    sum += in[blockIdx.x * static_cast<unsigned>(n) + static_cast<unsigned>(i)];
    most = ma_larger()(most, in[blockIdx.x * static_cast<unsigned>(n) + static_cast<unsigned>(i)]);
  }
  sum = ma_block_sum(sum);
  most = ma_block_max(most);
  if (threadIdx.x == blockDim.x - 1) out[2 * blockIdx.x] = sum, out[2 * blockIdx.x + 1] = most;
}

__global__ void reversed_kernel(int *out) {
  MA_SHARED_BYTES(bytes);
  int *shared = reinterpret_cast<int *>(bytes);
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] =
      shared[blockDim.x - 1 - threadIdx.x] + static_cast<int>(__popc(__ballot_sync(MA_ALL_LANES, threadIdx.x % 2)));
}

/* Wrong on purpose. */
__global__ void unequal_barrier_kernel() {
  if (threadIdx.x == 0) __syncwarp(1);
  if (threadIdx.x < 32) __shfl_sync(MA_ALL_LANES, 1, 0);
  if (threadIdx.x == 33) __shfl_sync(MA_ALL_LANES, 1, 0);
}
__global__ void no_barrier_kernel(int *out) {
  __shared__ int value;
  if (threadIdx.x == 7) value = 5;
  out[blockIdx.x * blockDim.x + threadIdx.x] = value;
}
__global__ void nothing_kernel(const float *) {}
#ifdef MA_FIBER_ASAN
__global__ void past_the_end_kernel(float *data) { data[5] = 1; }
#endif

int n_failed;

void expect(bool is_so, const char *what) {
  printf("%s: %s\n", is_so ? "ok" : "FAILED", what);
  n_failed += !is_so;
}

ma_device *device;
ma_error err;

template <typename T>
T *device_memory(size_t n) {
  void *data = nullptr;
  if (ma_cuda_alloc(device, &data, n * sizeof(T), &err) != MA_OK) abort();
  return static_cast<T *>(data);
}

template <typename T>
void download(T *to, const T *from, size_t n) {
  if (device->backend->download(device, to, from, n * sizeof(T), &err) != MA_OK) abort();
}

/* Whether `body` ends the process. */
template <typename F>
bool dies(F body) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (!freopen("/dev/null", "w", stderr)) _exit(0);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

void test_working_together() {
  constexpr unsigned rows = 3, n = 700, threads = 160;
  float host[rows * n], sums[2 * rows];
  for (unsigned i = 0; i < rows * n; i++) host[i] = static_cast<float>(i % 13);
  float *in = device_memory<float>(rows * n), *out = device_memory<float>(2 * rows);
  bool good =
      device->backend->upload(device, in, host, sizeof host, &err) == MA_OK &&
      ma_launch("sums", sums_kernel, ma_grid_rows(device, rows, threads), &err, out, in, static_cast<int>(n)) == MA_OK;
  download(sums, out, 2 * rows);
  for (unsigned r = 0; r < rows; r++) {
    float sum = 0;
    for (unsigned i = 0; i < n; i++) sum += host[r * n + i];
    good = good && sums[2 * r] == sum && sums[2 * r + 1] == 12;
  }
  expect(good, "warps exchange values and blocks wait at barriers");

  int turned[96];
  int *to = device_memory<int>(96);
  good = ma_launch("reversed", reversed_kernel, ma_grid_rows(device, 1, 96, 96 * sizeof(int)), &err, to) == MA_OK;
  download(turned, to, 96);
  for (int i = 0; i < 96; i++) good = good && turned[i] == 95 - i + 16;
  expect(good, "shared memory and votes");

  int seen[64];
  good = ma_launch("no_barrier", no_barrier_kernel, ma_grid_rows(device, 2, 32), &err, to) == MA_OK;
  download(seen, to, 64);
  for (int i = 0; i < 64; i++) good = good && seen[i] == 5;
  expect(!good, "a missing barrier shows");
  ma_cuda_free(device, in);
  ma_cuda_free(device, out);
  ma_cuda_free(device, to);
}

void test_mistakes() {
  float *data = device_memory<float>(5), on_host = 0;
  expect(dies([&] { printf("%g\n", static_cast<double>(*static_cast<volatile float *>(data))); }),
         "the host cannot read its memory");
  expect(dies([&] { (void)ma_launch("unequal", unequal_barrier_kernel, ma_grid_rows(device, 1, 64), &err); }),
         "lanes that wait for others for ever are found");
  expect(dies([&] { (void)ma_launch("nothing", nothing_kernel, ma_grid_rows(device, 1), &err, &on_host); }),
         "kernels take no pointer to the host's memory");
  expect(dies([&] { (void)ma_launch("nothing", nothing_kernel, ma_grid_rows(device, 1, 2048), &err, data); }),
         "blocks are not larger than a GPU's");
#ifdef MA_FIBER_ASAN
  expect(dies([&] { (void)ma_launch("past_the_end", past_the_end_kernel, ma_grid_rows(device, 1), &err, data); }),
         "the sanitizer sees what is written past the end");
#endif
  ma_cuda_free(device, data);
}

} // namespace

int main() {
  setenv("MASSACT_EMULATION", "strict", 1);
  if (ma_device_find(&device, "cuda", &err) != MA_OK) {
    printf("skipped: everything (%s)\n", err.message);
    return 0;
  }
  test_working_together();
  test_mistakes();
  return n_failed != 0;
}
