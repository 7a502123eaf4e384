/* Products through cuBLASLt.  Two 16-bit operands of one type are multiplied as they are, their products being exact in f32.
 * Weights that are not what they are multiplied in are widened a panel of rows at a time, next to the product that uses them, so
 * that a quantised matrix never exists whole as f32. */
#include "backend/cuda/blas.h"
#include "backend/cuda/walk.cuh"

namespace {

/* The step from matrix to matrix of a tensor's leading dims; false where there is not one step for all. */
bool batch_step_of(const ma_tensor *t, int64_t *step) {
  int64_t next = -1; /* what the next outer dim's stride has to be */
  *step = 0;
  for (int d = t->n_dims - 3; d >= 0; d--) {
    if (t->shape[d] == 1) continue;
    if (next < 0) *step = t->strides[d];
    else if (t->strides[d] != next) return false;
    next = t->strides[d] * t->shape[d];
  }
  return true;
}

/* The last two dims as GEMM reads them; false where they do not lie like that. */
bool as_matrix(const ma_tensor *t, ma_cuda_matrix *out) {
  const int row = t->n_dims - 2, column = t->n_dims - 1;
  const int64_t rows = t->shape[row], columns = t->shape[column];
  *out = {ma_tensor_data(t), 0, 0, false};
  if (!batch_step_of(t, &out->batch_step)) return false;
  if ((t->strides[column] == 1 || columns == 1) && (rows == 1 || t->strides[row] >= columns)) {
    out->step = rows == 1 ? columns : t->strides[row];
    return true;
  }
  if ((t->strides[row] == 1 || rows == 1) && (columns == 1 || t->strides[column] >= rows)) {
    out->step = columns == 1 ? rows : t->strides[column];
    out->is_transposed = true;
    return true;
  }
  return false;
}

/* `t`, broadcast to the batch dims of `like`, as GEMM reads it in `dtype`: where it lies, or a copy in *held. */
ma_status ready(ma_cuda_matrix *out, ma_held *held, const ma_tensor *t, const ma_tensor *like, ma_dtype dtype,
                ma_error *err) {
  ma_held view, copy;
  int64_t shape[MA_MAX_DIMS];
  std::memcpy(shape, like->shape, sizeof shape);
  shape[like->n_dims - 2] = t->shape[t->n_dims - 2];
  shape[like->n_dims - 1] = t->shape[t->n_dims - 1];
  if (t->dtype == dtype) copy.tensor = ma_tensor_retain(t);
  else MA_CUDA_TRY(ma_tensor_convert(&copy.tensor, t, dtype, err));
  MA_CUDA_TRY(ma_tensor_expand(&view.tensor, &copy.tensor, like->n_dims, shape, err));
  if (as_matrix(&view.tensor, out)) {
    held->tensor = ma_tensor_retain(&view.tensor);
    return MA_OK;
  }
  MA_CUDA_TRY(ma_tensor_convert(&held->tensor, &view.tensor, dtype, err));
  as_matrix(&held->tensor, out);
  return MA_OK;
}

ma_dtype product_dtype(ma_dtype a, ma_dtype b) { return a == b && ma_dtype_is_float(a) ? a : MA_F32; }

/* Of a gradient with a weight or an input: with bf16 the gradient is rounded to bf16, as PyTorch's gradients of bf16 are, for
 * tensor cores to multiply.  Not with f16, whose range would lose small gradients that no loss scale has raised. */
ma_dtype gradient_dtype(ma_dtype g, ma_dtype other) { return other == MA_BF16 ? MA_BF16 : product_dtype(g, other); }

/* ---- rows and weights ---- */

/* `t` as a matrix of its rows, in `dtype`: where it lies, or a copy in *held. */
ma_status ready_rows(ma_cuda_matrix *out, ma_held *held, const ma_tensor *t, ma_dtype dtype, ma_error *err) {
  if (t->dtype == dtype && ma_tensor_is_contiguous(t)) held->tensor = ma_tensor_retain(t);
  else MA_CUDA_TRY(ma_tensor_convert(&held->tensor, t, dtype, err));
  *out = {ma_tensor_data(&held->tensor), t->shape[t->n_dims - 1], 0, false};
  return MA_OK;
}

constexpr int64_t PANEL = MA_IS_EMULATED ? 512 : 8 << 20; /* elements: 32 MiB as f32, which second-level caches hold */

/* A weight [.. K], its leading dims rows, panel by panel: the next panel is [n K] of rows from `first` on. */
struct ma_panels {
  const ma_tensor *weight;
  ma_dtype dtype;   /* that the panels have */
  int64_t at, step; /* along the first dim */
  int64_t first, n;
  ma_cuda_matrix matrix;
};

ma_panels panels_of(const ma_tensor *weight, ma_dtype dtype) {
  ma_panels p{};
  ma_cuda_matrix whole;
  p.weight = weight, p.dtype = dtype, p.step = weight->shape[0];
  if (weight->dtype == dtype && weight->n_dims == 2 && as_matrix(weight, &whole)) return p;
  const int64_t each = p.step > 0 ? ma_tensor_count(weight) / p.step : 1;
  if (each > 0 && PANEL / each + 1 < p.step) p.step = PANEL / each + 1;
  return p;
}

bool is_last(const ma_panels &p) { return p.at >= p.weight->shape[0]; }

/* The panel lives in *held until the next one is made. */
ma_status next_panel(ma_panels *p, ma_held *held, ma_error *err) {
  const int64_t left = p->weight->shape[0] - p->at, length = left < p->step ? left : p->step,
                k = p->weight->shape[p->weight->n_dims - 1];
  ma_held rows;
  MA_CUDA_TRY(ma_tensor_narrow(&rows.tensor, p->weight, 0, p->at, length, err));
  ma_tensor_release(&held->tensor);
  p->at += length;
  p->first += p->n;
  p->n = ma_tensor_count(&rows.tensor) / k;
  if (p->weight->dtype == p->dtype && p->weight->n_dims == 2 && as_matrix(&rows.tensor, &p->matrix)) {
    held->tensor = ma_tensor_retain(&rows.tensor);
    return MA_OK;
  }
  MA_CUDA_TRY(ma_tensor_convert(&held->tensor, &rows.tensor, p->dtype, err));
  p->matrix = {ma_tensor_data(&held->tensor), k, 0, false};
  return MA_OK;
}

ma_cuda_matrix transposed(ma_cuda_matrix m) {
  m.is_transposed = !m.is_transposed;
  return m;
}

/* ---- biases ---- */

/* [first, first + n) of a bias as cuBLASLt reads it: packed, in `dtype`, and where 16 divides the address, which kernels take
 * for granted without being promised (https://github.com/pytorch/pytorch/pull/194497). */
ma_status ready_bias(ma_held *held, const ma_tensor *bias, int64_t first, int64_t n, ma_dtype dtype, ma_error *err) {
  ma_held part;
  MA_CUDA_TRY(ma_tensor_narrow(&part.tensor, bias, 0, first, n, err));
  if (bias->dtype != dtype || !ma_tensor_is_contiguous(&part.tensor) ||
      reinterpret_cast<uintptr_t>(ma_tensor_data(&part.tensor)) % 16 != 0)
    return ma_tensor_convert(&held->tensor, &part.tensor, dtype, err);
  held->tensor = ma_tensor_retain(&part.tensor);
  return MA_OK;
}

/* Every row of `to`, in the columns [first, first + n), becomes the bias there. */
ma_status spread_bias(ma_tensor *to, const ma_tensor *bias, int64_t first, int64_t n, ma_error *err) {
  ma_held columns, part, rows;
  MA_CUDA_TRY(ma_tensor_narrow(&columns.tensor, to, to->n_dims - 1, first, n, err));
  MA_CUDA_TRY(ma_tensor_narrow(&part.tensor, bias, 0, first, n, err));
  MA_CUDA_TRY(ma_tensor_expand(&rows.tensor, &part.tensor, to->n_dims, columns.tensor.shape, err));
  return ma_cuda_copy(&columns.tensor, &rows.tensor, err);
}

/* The columns of `to` from `first` on that g is about.  Where cuBLASLt has no kernel for a product and its bias in one, which it
 * does not say beforehand, the product is added to the bias. */
ma_status multiply_with_bias(ma_cuda_gemm g, ma_tensor *to, const ma_tensor *bias, int64_t first, ma_error *err) {
  ma_held packed;
  MA_CUDA_TRY(ready_bias(&packed, bias, first, g.n, to->dtype, err));
  g.bias = ma_tensor_data(&packed.tensor);
  const ma_status st = ma_cuda_multiply(ma_tensor_device(to), &g, err);
  if (st != MA_UNSUPPORTED) return st;
  g.bias = nullptr, g.beta = 1;
  MA_CUDA_TRY(spread_bias(to, bias, first, g.n, err));
  return ma_cuda_multiply(ma_tensor_device(to), &g, err);
}

/* ---- sums of rows ---- */

constexpr unsigned SUM_COLUMNS = 32, SUM_GROUPS = 8; /* of a block's threads: as many neighbours, and rows at a time */
constexpr int64_t SUM_ROWS = 512;                    /* that a block adds up */

/* parts [n_parts n]: sums of SUM_ROWS rows each of a [m n].  Blocks go over columns first. */
__global__ void sum_parts_kernel(float *parts, const void *a, ma_dtype dtype, int64_t m, int64_t n, int64_t n_strips) {
  __shared__ float sums[SUM_GROUPS][SUM_COLUMNS];
  const int64_t part = blockIdx.x / n_strips, column = blockIdx.x % n_strips * SUM_COLUMNS + threadIdx.x % SUM_COLUMNS;
  const int64_t first = part * SUM_ROWS, end = first + SUM_ROWS < m ? first + SUM_ROWS : m;
  const unsigned group = threadIdx.x / SUM_COLUMNS;
  float sum = 0;
  if (column < n)
    for (int64_t row = first + group; row < end; row += SUM_GROUPS) sum += ma_load_f32(a, dtype, row * n + column);
  sums[group][threadIdx.x % SUM_COLUMNS] = sum;
  __syncthreads();
  if (group > 0 || column >= n) return;
  for (unsigned g = 1; g < SUM_GROUPS; g++) sum += sums[g][threadIdx.x];
  parts[part * n + column] = sum;
}

__global__ void sum_up_kernel(float *out, int64_t step, const float *parts, int64_t n_parts, int64_t n, bool adds) {
  for
    MA_EACH(column, n) {
      double sum = adds ? static_cast<double>(out[column * step]) : 0;
      for (int64_t part = 0; part < n_parts; part++) sum += static_cast<double>(parts[part * n + column]);
      out[column * step] = static_cast<float>(sum);
    }
}

} // namespace

ma_status ma_cuda_sum_rows(ma_tensor *out, const ma_tensor *a, bool adds, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  const int64_t n = out->shape[0], m = n > 0 ? ma_tensor_count(a) / n : 0;
  const int64_t n_parts = (m + SUM_ROWS - 1) / SUM_ROWS, n_strips = (n + SUM_COLUMNS - 1) / SUM_COLUMNS;
  ma_held in;
  ma_cuda_matrix rows;
  ma_scratch parts(device);
  MA_CUDA_TRY(ready_rows(&rows, &in, a, a->dtype, err));
  MA_CUDA_TRY(parts.take(static_cast<size_t>(n_parts * n) * sizeof(float), err));
  MA_CUDA_TRY(ma_launch("sum_rows", sum_parts_kernel,
                        ma_grid_rows(device, n_parts * n_strips, SUM_COLUMNS * SUM_GROUPS), err, parts.as<float>(),
                        rows.data, a->dtype, m, n, n_strips));
  return ma_launch("sum_rows", sum_up_kernel, ma_grid_over(device, n), err, ma_tensor_data(out), out->strides[0],
                   parts.as<float>(), n_parts, n, adds);
}

ma_status ma_cuda_linear(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                         ma_error *err) {
  ma_cuda_gemm g{};
  ma_held in, panel, wide;
  const int64_t n = out->shape[out->n_dims - 1];
  if (ma_tensor_count(out) == 0) return MA_OK;
  g.m = ma_tensor_count(out) / n, g.k = x->shape[x->n_dims - 1];
  g.n_batches = 1, g.dtype = product_dtype(x->dtype, weight->dtype), g.out_step = n, g.alpha = 1;
  if (g.k == 0) return bias ? spread_bias(out, bias, 0, n, err) : ma_cuda_fill(out, 0, err);
  const bool is_direct = out->dtype == MA_F32 || out->dtype == g.dtype;
  if (!is_direct) MA_CUDA_TRY(ma_tensor_new_like(&wide.tensor, out, MA_F32, err));
  ma_tensor *to = is_direct ? out : &wide.tensor;
  g.out_dtype = to->dtype;
  MA_CUDA_TRY(ready_rows(&g.a, &in, x, g.dtype, err));
  for (ma_panels p = panels_of(weight, g.dtype); !is_last(p);) {
    MA_CUDA_TRY(next_panel(&p, &panel, err));
    g.n = p.n, g.b = transposed(p.matrix);
    g.out =
        static_cast<char *>(ma_tensor_data(to)) + p.first * static_cast<int64_t>(ma_dtype_describe(to->dtype)->bytes);
    MA_CUDA_TRY(bias ? multiply_with_bias(g, to, bias, p.first, err)
                     : ma_cuda_multiply(ma_tensor_device(out), &g, err));
  }
  return is_direct ? MA_OK : ma_cuda_copy(out, &wide.tensor, err);
}

ma_status ma_cuda_linear_grad_x(ma_tensor *out, const ma_tensor *g, const ma_tensor *weight, ma_error *err) {
  ma_cuda_gemm product{};
  ma_held in, panel, made;
  ma_cuda_matrix gradient;
  const int64_t n = g->shape[g->n_dims - 1], k = out->shape[out->n_dims - 1];
  if (ma_tensor_count(out) == 0) return MA_OK;
  if (n == 0) return ma_cuda_fill(out, 0, err);
  product.m = ma_tensor_count(out) / k, product.n = k, product.n_batches = 1,
  product.dtype = gradient_dtype(g->dtype, weight->dtype);
  product.out_dtype = MA_F32, product.out_step = k, product.alpha = 1;
  const bool is_direct = ma_tensor_is_contiguous(out);
  if (!is_direct) MA_CUDA_TRY(ma_tensor_new_like(&made.tensor, out, MA_F32, err));
  product.out = ma_tensor_data(is_direct ? out : &made.tensor);
  MA_CUDA_TRY(ready_rows(&gradient, &in, g, product.dtype, err));
  const char *data = static_cast<const char *>(gradient.data);
  for (ma_panels p = panels_of(weight, product.dtype); !is_last(p);) {
    MA_CUDA_TRY(next_panel(&p, &panel, err));
    gradient.data = data + p.first * static_cast<int64_t>(ma_dtype_describe(product.dtype)->bytes);
    product.k = p.n, product.a = gradient, product.b = p.matrix, product.beta = p.first > 0 ? 1 : 0;
    MA_CUDA_TRY(ma_cuda_multiply(ma_tensor_device(out), &product, err));
  }
  return is_direct ? MA_OK : ma_cuda_copy(out, &made.tensor, err);
}

ma_status ma_cuda_linear_grad_weight(ma_tensor *out, const ma_tensor *g, const ma_tensor *x, bool adds, ma_error *err) {
  ma_cuda_gemm product{};
  ma_held left, right, made;
  ma_cuda_matrix gs, xs, to;
  const int64_t n = out->shape[0], k = out->shape[1];
  if (n == 0 || k == 0) return MA_OK;
  const int64_t m = ma_tensor_count(x) / k;
  if (m == 0) return adds ? MA_OK : ma_cuda_fill(out, 0, err);
  const ma_dtype dtype = gradient_dtype(g->dtype, x->dtype);
  MA_CUDA_TRY(ready_rows(&gs, &left, g, dtype, err));
  MA_CUDA_TRY(ready_rows(&xs, &right, x, dtype, err));
  const bool is_direct = as_matrix(out, &to);
  if (!is_direct) {
    MA_CUDA_TRY(ma_tensor_new_like(&made.tensor, out, MA_F32, err));
    as_matrix(&made.tensor, &to);
  }
  /* What lies transposed, as GPT-2's weights do, is x^T g. */
  product.m = to.is_transposed ? k : n, product.n = to.is_transposed ? n : k, product.k = m, product.n_batches = 1;
  product.a = transposed(to.is_transposed ? xs : gs), product.b = to.is_transposed ? gs : xs;
  product.dtype = dtype, product.out_dtype = MA_F32, product.out = const_cast<void *>(to.data),
  product.out_step = to.step;
  product.alpha = 1, product.beta = adds && is_direct ? 1 : 0;
  MA_CUDA_TRY(ma_cuda_multiply(ma_tensor_device(out), &product, err));
  if (is_direct) return MA_OK;
  return adds ? ma_cuda_binary(out, MA_BINARY_add, out, &made.tensor, err) : ma_cuda_copy(out, &made.tensor, err);
}

ma_status ma_cuda_matmul(ma_tensor *out, const ma_tensor *a, const ma_tensor *b, ma_error *err) {
  ma_cuda_gemm g{};
  ma_cuda_matrix to;
  ma_held ready_a, ready_b, made;
  g.m = out->shape[out->n_dims - 2], g.n = out->shape[out->n_dims - 1], g.k = a->shape[a->n_dims - 1];
  if (ma_tensor_count(out) == 0) return MA_OK;
  if (g.k == 0) return ma_cuda_fill(out, 0, err);
  g.n_batches = ma_tensor_count(out) / (g.m * g.n);
  g.dtype = product_dtype(a->dtype, b->dtype), g.out_dtype = MA_F32, g.alpha = 1;
  MA_CUDA_TRY(ready(&g.a, &ready_a, a, out, g.dtype, err));
  MA_CUDA_TRY(ready(&g.b, &ready_b, b, out, g.dtype, err));
  const bool is_direct = as_matrix(out, &to) && !to.is_transposed;
  if (!is_direct) {
    MA_CUDA_TRY(ma_tensor_new_like(&made.tensor, out, MA_F32, err));
    as_matrix(&made.tensor, &to);
  }
  g.out = const_cast<void *>(to.data), g.out_step = to.step, g.out_batch_step = to.batch_step;
  MA_CUDA_TRY(ma_cuda_multiply(ma_tensor_device(out), &g, err));
  return is_direct ? MA_OK : ma_cuda_copy(out, &made.tensor, err);
}
