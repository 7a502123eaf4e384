/* Sums over rows, of tensors with many of them. */
#include "backend/cuda/block.cuh"
#include "backend/cuda/element.cuh"

namespace {

constexpr int64_t PART_ROWS = 1024, MOST_PARTS = 64; /* of rows, where these are shared out: which they are depends on the shape alone */

struct sum_job {
  const void *a; /* [m n] */
  ma_dtype dtype;
  int64_t m, n;
  int64_t part;     /* rows of a part: blockIdx.y names it */
  float *out;       /* [parts n], elements `stride` apart */
  int64_t stride;
  bool adds;
};

/* A block of 32 warps sums 32 columns of a part: a warp has every 32nd row, then a column. */
__global__ void __launch_bounds__(MA_WARP *MA_WARP) sum_rows_kernel(const sum_job j) {
  __shared__ float sums[MA_WARP][MA_WARP + 1];
  const unsigned warp = threadIdx.x / MA_WARP, lane = threadIdx.x % MA_WARP;
  const int64_t left = int64_t{blockIdx.x} * MA_WARP, top = int64_t{blockIdx.y} * j.part;
  const int64_t end = top + j.part < j.m ? top + j.part : j.m;
  float sum = 0;
  if (left + lane < j.n)
    for (int64_t row = top + warp; row < end; row += MA_WARP) sum += ma_load_f32(j.a, j.dtype, row * j.n + left + lane);
  sums[warp][lane] = sum;
  __syncthreads();
  sum = ma_warp_reduce(sums[lane][warp], ma_add());
  if (lane != 0 || left + warp >= j.n) return;
  float *to = j.out + (blockIdx.y * j.n + left + warp) * j.stride;
  *to = (j.adds ? *to : 0) + sum;
}

ma_status launch(ma_device *device, const sum_job &j, int64_t parts, ma_error *err) {
  const dim3 blocks(static_cast<unsigned>((j.n + MA_WARP - 1) / MA_WARP), static_cast<unsigned>(parts));
  return ma_launch("sum_rows", sum_rows_kernel, ma_grid{device, blocks, MA_WARP * MA_WARP, 0}, err, j);
}

}  // namespace

ma_status ma_cuda_sum_rows(ma_tensor *out, const ma_tensor *a, bool adds, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  ma_held rows, parts;
  const int64_t n = out->shape[0];
  if (n == 0) return MA_OK;
  if (ma_tensor_is_contiguous(a)) rows.tensor = ma_tensor_retain(a);
  else MA_CUDA_TRY(ma_tensor_convert(&rows.tensor, a, a->dtype, err));
  sum_job j{};
  j.a = ma_tensor_data(&rows.tensor), j.dtype = a->dtype;
  j.m = ma_tensor_count(a) / n, j.n = n;
  j.part = (j.m + MOST_PARTS - 1) / MOST_PARTS;
  if (j.part < PART_ROWS) j.part = PART_ROWS;
  const int64_t n_parts = (j.m + j.part - 1) / j.part;
  if (n_parts > 1) {
    const int64_t shape[] = {n_parts, n};
    MA_CUDA_TRY(ma_tensor_new(&parts.tensor, device, MA_F32, 2, shape, err));
    j.out = static_cast<float *>(ma_tensor_data(&parts.tensor)), j.stride = 1;
    MA_CUDA_TRY(launch(device, j, n_parts, err));
    j.a = j.out, j.dtype = MA_F32, j.m = n_parts;
  }
  j.out = static_cast<float *>(ma_tensor_data(out)), j.stride = out->strides[0], j.adds = adds;
  return launch(device, j, 1, err);
}
