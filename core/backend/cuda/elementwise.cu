/* Elementwise kernels: floats as f32, four a thread; integers one by one in double, where they are exact up to 2^53. */
#include "backend/cuda/blocks.cuh"
#include "backend/cuda/functions.cuh"
#include "backend/cuda/walk.cuh"

namespace {

/* ---- fill and copy ---- */

__global__ void fill_kernel(const ma_cuda_walk w, double value) {
  for
    MA_EACH(i, w.count) {
      int64_t at[1];
      ma_walk_at<1>(w, i, at);
      ma_store_double(w.data[0], w.dtype[0], at[0], value);
    }
}

__global__ void convert_floats_kernel(const ma_cuda_walk w) {
  for
    MA_EACH_FOUR(i, w.count) ma_walk_four<2>(w, i, [](const ma_four *in, ma_four &out) { out = in[1]; });
}

__global__ void convert_kernel(const ma_cuda_walk w) {
  for
    MA_EACH(i, w.count) {
      int64_t at[2];
      ma_walk_at<2>(w, i, at);
      ma_store_double(w.data[0], w.dtype[0], at[0], ma_load_double(w.data[1], w.dtype[1], at[1]));
    }
}

/* Elements of one type, bit for bit. */
template <typename T>
__global__ void move_kernel(const ma_cuda_walk w) {
  for
    MA_EACH(i, w.count) {
      int64_t at[2];
      ma_walk_at<2>(w, i, at);
      static_cast<T *>(w.data[0])[at[0]] = static_cast<const T *>(w.data[1])[at[1]];
    }
}

ma_status move_elements(ma_device *device, const ma_cuda_walk &w, size_t bytes, ma_error *err) {
  const ma_grid grid = ma_grid_over(device, w.count);
  switch (bytes) {
    case 1: return ma_launch("copy", move_kernel<uint8_t>, grid, err, w);
    case 2: return ma_launch("copy", move_kernel<uint16_t>, grid, err, w);
    case 4: return ma_launch("copy", move_kernel<uint32_t>, grid, err, w);
    default: return ma_launch("copy", move_kernel<uint64_t>, grid, err, w);
  }
}

/* Blocks as pairs of bytes: every block type has an even number of them. */
ma_tensor as_pairs(const ma_tensor *t) {
  const ma_dtype_info *info = ma_dtype_describe(t->dtype);
  const int64_t pairs = info->bytes / 2, block = info->block;
  ma_tensor p = *t;
  for (int d = 0; d < p.n_dims; d++) p.strides[d] = p.strides[d] / block * pairs;
  p.shape[p.n_dims - 1] = p.shape[p.n_dims - 1] / block * pairs;
  p.strides[p.n_dims - 1] = 1;
  p.offset = p.offset / block * pairs;
  p.dtype = MA_F16;
  return p;
}

/* One type, any layout. */
ma_status copy_same(ma_tensor *out, const ma_tensor *a, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  if (ma_tensor_is_contiguous(out) && ma_tensor_is_contiguous(a)) {
    if (ma_tensor_data(out) == ma_tensor_data(a) || ma_tensor_count(a) == 0) return MA_OK;
    MA_CUDA_TRY(ma_cuda_use(device, err));
    return ma_cuda_check(device,
                         cudaMemcpyAsync(ma_tensor_data(out), ma_tensor_data(a), ma_tensor_bytes(a),
                                         cudaMemcpyDeviceToDevice, ma_cuda_state(device)->stream),
                         "copy", err);
  }
  const bool is_block = ma_dtype_is_block(a->dtype);
  const ma_tensor to = is_block ? as_pairs(out) : *out, from = is_block ? as_pairs(a) : *a;
  const ma_tensor *tensors[] = {&to, &from};
  return move_elements(device, ma_cuda_walk_over(2, tensors), ma_dtype_describe(to.dtype)->bytes, err);
}

/* A thread widens 16 elements of a block. */
__global__ void widen_kernel(const ma_cuda_walk w, int block, int block_bytes) {
  const int64_t stride = w.strides[0][w.n_dims - 1];
  for
    MA_EACH(i, w.count / MA_BLOCK_PART) {
      int64_t at[2];
      float values[MA_BLOCK_PART];
      ma_walk_at<2>(w, i * MA_BLOCK_PART, at);
      const uint8_t *from = static_cast<const uint8_t *>(w.data[1]) + at[1] / block * block_bytes;
      ma_widen_part(values, w.dtype[1], from, static_cast<int>(at[1] % block) / MA_BLOCK_PART);
      for (int e = 0; e < MA_BLOCK_PART; e++) ma_store_f32(w.data[0], w.dtype[0], at[0] + e * stride, values[e]);
    }
}

/* A thread packs a block of 32, from elements of any layout. */
__global__ void pack_kernel(const ma_cuda_walk w, int block_bytes) {
  for
    MA_EACH(i, w.count / 32) {
      float values[32];
      int64_t at[2] = {0, 0}, to = 0;
      for (int e = 0; e < 32; e++) {
        ma_walk_at<2>(w, i * 32 + e, at);
        if (e == 0) to = at[0];
        values[e] = ma_load_f32(w.data[1], w.dtype[1], at[1]);
      }
      uint8_t *block = static_cast<uint8_t *>(w.data[0]) + to / 32 * block_bytes;
      if (w.dtype[0] == MA_Q8_0) ma_pack_q8_0(block, values);
      else ma_pack_q4_0(block, values);
    }
}

/* From one block type to another through f32. */
ma_status repack(ma_tensor *out, const ma_tensor *a, ma_error *err) {
  ma_held plain;
  MA_CUDA_TRY(ma_tensor_new_like(&plain.tensor, a, MA_F32, err));
  MA_CUDA_TRY(ma_cuda_copy(&plain.tensor, a, err));
  return ma_cuda_copy(out, &plain.tensor, err);
}

/* ---- functions of one and two elements ---- */

__global__ void round_kernel(const ma_cuda_walk w, ma_dtype dtype) {
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<2>(w, i, [=](const ma_four *in, ma_four &out) {
        for (int e = 0; e < 4; e++) out.x[e] = ma_dev_round(in[1].x[e], dtype);
      });
    }
}

__global__ void quantize_kernel(const ma_cuda_walk w, float scale, float levels) {
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<2>(w, i, [=](const ma_four *in, ma_four &out) {
        for (int e = 0; e < 4; e++) {
          const float whole = rintf(in[1].x[e] / scale);
          out.x[e] = scale * (whole < -levels ? -levels : whole > levels ? levels : whole);
        }
      });
    }
}

__global__ void unary_kernel(const ma_cuda_walk w, ma_unary_kind kind) {
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<2>(w, i, [=](const ma_four *in, ma_four &out) {
        for (int e = 0; e < 4; e++) out.x[e] = ma_unary_of(kind, in[1].x[e]);
      });
    }
}

/* neg, abs, sign, square and the roundings of integers stay integers. */
__device__ double unary_integer(ma_unary_kind kind, double x) {
  switch (kind) {
    case MA_UNARY_neg: return -x;
    case MA_UNARY_abs: return fabs(x);
    case MA_UNARY_sign: return x > 0 ? 1 : x < 0 ? -1 : 0;
    case MA_UNARY_square: return x * x;
    case MA_UNARY_relu: return x < 0 ? 0 : x;
    default: return x;
  }
}

__global__ void unary_integer_kernel(const ma_cuda_walk w, ma_unary_kind kind) {
  for
    MA_EACH(i, w.count) {
      int64_t at[2];
      ma_walk_at<2>(w, i, at);
      ma_store_double(w.data[0], w.dtype[0], at[0], unary_integer(kind, ma_load_double(w.data[1], w.dtype[1], at[1])));
    }
}

__global__ void binary_kernel(const ma_cuda_walk w, ma_binary_kind kind) {
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<3>(w, i, [=](const ma_four *in, ma_four &out) {
        for (int e = 0; e < 4; e++) out.x[e] = ma_binary_of(kind, in[1].x[e], in[2].x[e]);
      });
    }
}

__global__ void binary_integer_kernel(const ma_cuda_walk w, ma_binary_kind kind) {
  for
    MA_EACH(i, w.count) {
      int64_t at[3];
      ma_walk_at<3>(w, i, at);
      const double x = ma_load_double(w.data[1], w.dtype[1], at[1]), y = ma_load_double(w.data[2], w.dtype[2], at[2]);
      ma_store_double(w.data[0], w.dtype[0], at[0], ma_binary_of(kind, x, y));
    }
}

__global__ void where_floats_kernel(const ma_cuda_walk w) {
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<4>(w, i, [](const ma_four *in, ma_four &out) {
        for (int e = 0; e < 4; e++) out.x[e] = in[1].x[e] != 0 ? in[2].x[e] : in[3].x[e];
      });
    }
}

__global__ void where_kernel(const ma_cuda_walk w) {
  for
    MA_EACH(i, w.count) {
      int64_t at[4];
      ma_walk_at<4>(w, i, at);
      const int from = ma_load_double(w.data[1], w.dtype[1], at[1]) != 0 ? 2 : 3;
      ma_store_double(w.data[0], w.dtype[0], at[0], ma_load_double(w.data[from], w.dtype[from], at[from]));
    }
}

/* ---- derivatives ---- */

__global__ void unary_grad_kernel(const ma_cuda_walk w, ma_unary_kind kind) {
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<3>(w, i, [=](const ma_four *in, ma_four &out) {
        const bool is_flat = ma_unary_is_flat(kind);
        for (int e = 0; e < 4; e++) out.x[e] = is_flat ? 0 : in[2].x[e] * ma_unary_slope(kind, in[1].x[e]);
      });
    }
}

__global__ void binary_grad_kernel(const ma_cuda_walk w, ma_binary_kind kind, int side) {
  for
    MA_EACH_FOUR(i, w.count) {
      ma_walk_four<4>(w, i, [=](const ma_four *in, ma_four &out) {
        for (int e = 0; e < 4; e++) out.x[e] = in[3].x[e] * ma_binary_slope(kind, side, in[1].x[e], in[2].x[e]);
      });
    }
}

/* ---- random numbers: core/base/random.c for the device ---- */

/* Philox 4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), table 2. */
__device__ uint64_t random_bits(uint64_t seed, uint64_t counter) {
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0, p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return static_cast<uint64_t>(c1) << 32 | c0;
}

__device__ double random_uniform(uint64_t seed, uint64_t counter) {
  return static_cast<double>(random_bits(seed, counter) >> 11) * 1.1102230246251565e-16; /* 2^-53 */
}

/* Element i, in row-major order, has the numbers that the CPU would have drawn for it. */
__global__ void uniform_kernel(const ma_cuda_walk w, double low, double high, ma_random from) {
  for
    MA_EACH(i, w.count) {
      int64_t at[1];
      ma_walk_at<1>(w, i, at);
      const double u = random_uniform(from.seed, from.counter + static_cast<uint64_t>(i));
      ma_store_double(w.data[0], w.dtype[0], at[0], low + (high - low) * u);
    }
}

__global__ void normal_kernel(const ma_cuda_walk w, double mean, double deviation, ma_random from) {
  const double two_pi = 6.283185307179586;
  for
    MA_EACH(i, w.count) {
      int64_t at[1];
      ma_walk_at<1>(w, i, at);
      const uint64_t counter = from.counter + 2 * static_cast<uint64_t>(i);
      const double radius = sqrt(-2 * log(1 - random_uniform(from.seed, counter)));
      const double normal = radius * cos(two_pi * random_uniform(from.seed, counter + 1));
      ma_store_double(w.data[0], w.dtype[0], at[0], mean + deviation * normal);
    }
}

/* ---- moving ---- */

/* `t` broadcast along `dim` to `size`, so that a walk over the whole visits each element's line. */
ma_tensor along(const ma_tensor *t, int dim, int64_t size) {
  ma_tensor view = *t;
  view.shape[dim] = size;
  view.strides[dim] = 0;
  return view;
}

/* A list of indices as a tensor shaped as `like`, which it runs along `dim` of. */
ma_tensor list_along(const ma_tensor *index, const ma_tensor *like, int dim) {
  ma_tensor view = *index;
  view.n_dims = like->n_dims;
  for (int d = 0; d < like->n_dims; d++) {
    view.shape[d] = like->shape[d];
    view.strides[d] = d == dim ? index->strides[0] : 0;
  }
  return view;
}

template <typename T>
__global__ void gather_kernel(const ma_cuda_walk w, int64_t stride, int64_t size, ma_complaint *complaint) {
  for
    MA_EACH(i, w.count) {
      int64_t at[3];
      ma_walk_at<3>(w, i, at);
      const int64_t from = ma_load_index(w.data[2], w.dtype[2], at[2]);
      if (from < 0 || from >= size) ma_complain(complaint, MA_COMPLAINT_gather, from, size);
      else static_cast<T *>(w.data[0])[at[0]] = static_cast<const T *>(w.data[1])[at[1] + from * stride];
    }
}

} // namespace

ma_status ma_cuda_fill(ma_tensor *out, double value, ma_error *err) {
  const ma_tensor *tensors[] = {out};
  const ma_cuda_walk w = ma_cuda_walk_over(1, tensors);
  return ma_launch("fill", fill_kernel, ma_grid_over(ma_tensor_device(out), w.count), err, w, value);
}

ma_status ma_cuda_copy(ma_tensor *out, const ma_tensor *a, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  if (out->dtype == a->dtype) return copy_same(out, a, err);
  const ma_tensor *tensors[] = {out, a};
  const ma_cuda_walk w = ma_cuda_walk_over(2, tensors);
  const ma_dtype_info *info = ma_dtype_describe(a->dtype), *to = ma_dtype_describe(out->dtype);
  if (ma_dtype_is_block(a->dtype) && ma_dtype_is_block(out->dtype)) return repack(out, a, err);
  if (ma_dtype_is_block(a->dtype))
    return ma_launch("copy", widen_kernel, ma_grid_over(device, w.count / MA_BLOCK_PART), err, w,
                     static_cast<int>(info->block), static_cast<int>(info->bytes));
  if (ma_dtype_is_block(out->dtype))
    return ma_launch("copy", pack_kernel, ma_grid_over(device, w.count / 32), err, w, static_cast<int>(to->bytes));
  if (ma_dtype_is_float(out->dtype) && (ma_dtype_is_float(a->dtype) || a->dtype == MA_U8)) /* exactly, as f32 */
    return ma_launch("copy", convert_floats_kernel, ma_grid_fours(device, w), err, w);
  return ma_launch("copy", convert_kernel, ma_grid_over(device, w.count), err, w);
}

ma_status ma_cuda_round_to(ma_tensor *out, ma_dtype dtype, const ma_tensor *a, ma_error *err) {
  const ma_tensor *tensors[] = {out, a};
  const ma_cuda_walk w = ma_cuda_walk_over(2, tensors);
  return ma_launch("round_to", round_kernel, ma_grid_fours(ma_tensor_device(out), w), err, w, dtype);
}

ma_status ma_cuda_quantize(ma_tensor *out, const ma_tensor *a, double scale, int64_t levels, ma_error *err) {
  const ma_tensor *tensors[] = {out, a};
  const ma_cuda_walk w = ma_cuda_walk_over(2, tensors);
  return ma_launch("quantize", quantize_kernel, ma_grid_fours(ma_tensor_device(out), w), err, w,
                   static_cast<float>(scale), static_cast<float>(levels));
}

ma_status ma_cuda_unary(ma_tensor *out, ma_unary_kind kind, const ma_tensor *a, ma_error *err) {
  const ma_tensor *tensors[] = {out, a};
  const ma_cuda_walk w = ma_cuda_walk_over(2, tensors);
  ma_device *device = ma_tensor_device(out);
  const bool is_question = kind == MA_UNARY_isnan || kind == MA_UNARY_isinf || kind == MA_UNARY_isfinite;
  if (!ma_dtype_is_float(a->dtype) && out->dtype == a->dtype && !is_question)
    return ma_launch("unary", unary_integer_kernel, ma_grid_over(device, w.count), err, w, kind);
  return ma_launch("unary", unary_kernel, ma_grid_fours(device, w), err, w, kind);
}

ma_status ma_cuda_binary(ma_tensor *out, ma_binary_kind kind, const ma_tensor *a, const ma_tensor *b, ma_error *err) {
  const ma_tensor *tensors[] = {out, a, b};
  const ma_cuda_walk w = ma_cuda_walk_over(3, tensors);
  ma_device *device = ma_tensor_device(out);
  if (ma_dtype_is_float(a->dtype) && ma_dtype_is_float(b->dtype))
    return ma_launch("binary", binary_kernel, ma_grid_fours(device, w), err, w, kind);
  return ma_launch("binary", binary_integer_kernel, ma_grid_over(device, w.count), err, w, kind);
}

ma_status ma_cuda_where(ma_tensor *out, const ma_tensor *condition, const ma_tensor *a, const ma_tensor *b,
                        ma_error *err) {
  const ma_tensor *tensors[] = {out, condition, a, b};
  const ma_cuda_walk w = ma_cuda_walk_over(4, tensors);
  ma_device *device = ma_tensor_device(out);
  if (ma_dtype_is_float(a->dtype) && ma_dtype_is_float(b->dtype))
    return ma_launch("where", where_floats_kernel, ma_grid_fours(device, w), err, w);
  return ma_launch("where", where_kernel, ma_grid_over(device, w.count), err, w);
}

ma_status ma_cuda_unary_grad(ma_tensor *out, ma_unary_kind kind, const ma_tensor *a, const ma_tensor *g,
                             ma_error *err) {
  const ma_tensor *tensors[] = {out, a, g};
  const ma_cuda_walk w = ma_cuda_walk_over(3, tensors);
  return ma_launch("unary_grad", unary_grad_kernel, ma_grid_fours(ma_tensor_device(out), w), err, w, kind);
}

ma_status ma_cuda_binary_grad(ma_tensor *out, ma_binary_kind kind, int side, const ma_tensor *a, const ma_tensor *b,
                              const ma_tensor *g, ma_error *err) {
  const ma_tensor *tensors[] = {out, a, b, g};
  const ma_cuda_walk w = ma_cuda_walk_over(4, tensors);
  return ma_launch("binary_grad", binary_grad_kernel, ma_grid_fours(ma_tensor_device(out), w), err, w, kind, side);
}

ma_status ma_cuda_randomize(ma_tensor *out, ma_random_kind kind, double low, double high, ma_random *generator,
                            ma_error *err) {
  const ma_tensor *tensors[] = {out};
  const ma_cuda_walk w = ma_cuda_walk_over(1, tensors);
  const ma_random from = *generator;
  const bool is_uniform = kind == MA_RANDOM_UNIFORM;
  generator->counter += static_cast<uint64_t>(w.count) * (is_uniform ? 1 : 2);
  return ma_launch("randomize", is_uniform ? uniform_kernel : normal_kernel,
                   ma_grid_over(ma_tensor_device(out), w.count), err, w, low, high, from);
}

ma_status ma_cuda_gather(ma_tensor *out, const ma_tensor *a, int dim, const ma_tensor *index, ma_error *err) {
  ma_device *device = ma_tensor_device(out);
  const ma_tensor from = along(a, dim, out->shape[dim]), list = list_along(index, out, dim);
  const ma_tensor *tensors[] = {out, &from, &list};
  const ma_cuda_walk w = ma_cuda_walk_over(3, tensors);
  const ma_grid grid = ma_grid_over(device, w.count);
  ma_complaint *complaint = ma_cuda_state(device)->device_complaint;
  const int64_t stride = a->strides[dim], size = a->shape[dim];
  switch (ma_dtype_describe(a->dtype)->bytes) {
    case 1: return ma_launch("gather", gather_kernel<uint8_t>, grid, err, w, stride, size, complaint);
    case 2: return ma_launch("gather", gather_kernel<uint16_t>, grid, err, w, stride, size, complaint);
    case 4: return ma_launch("gather", gather_kernel<uint32_t>, grid, err, w, stride, size, complaint);
    default: return ma_launch("gather", gather_kernel<uint64_t>, grid, err, w, stride, size, complaint);
  }
}

ma_status ma_cuda_concat(ma_tensor *out, const ma_tensor *const *parts, int n_parts, int dim, ma_error *err) {
  int64_t at = 0;
  for (int i = 0; i < n_parts; i++) {
    ma_held to;
    MA_CUDA_TRY(ma_tensor_narrow(&to.tensor, out, dim, at, parts[i]->shape[dim], err));
    MA_CUDA_TRY(ma_cuda_copy(&to.tensor, parts[i], err));
    at += parts[i]->shape[dim];
  }
  return MA_OK;
}
