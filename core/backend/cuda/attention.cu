/* Causal attention in tiles: a block has 64 queries of one head and goes through the keys that any of them sees, 64 at a time,
 * with the softmax's largest score and sum kept up as it goes (Dao et al. 2022, algorithm 1).  Where scores and probabilities are
 * rounded (`step`), the sum has to be known before a probability can be, and the keys are gone through twice. */
#include "backend/cuda/attention.cuh"

namespace {

constexpr int KEYS = MA_OTHERS, C = MA_OTHERS_EACH;

/* What a row's softmax is so far. */
template <int R, int D>
struct progress {
  float most[R], sum[R], o[R][D / 16];
};

/* Takes in a row of a tile: s becomes e^(s - most). */
template <int R, int D>
__device__ void take_in(progress<R, D> &at, float (&s)[R][C]) {
  MA_UNROLL for (int i = 0; i < R; i++) {
    float most = at.most[i], sum = 0;
    MA_UNROLL for (int c = 0; c < C; c++) most = ma_larger()(most, s[i][c]);
    most = ma_row_reduce(most, ma_larger());
    MA_UNROLL for (int c = 0; c < C; c++) {
      s[i][c] = ma_weight(s[i][c], most);
      sum += s[i][c];
    }
    const float keep = ma_weight(at.most[i], most);
    at.sum[i] = at.sum[i] * keep + ma_row_reduce(sum, ma_add());
    at.most[i] = most;
    MA_UNROLL for (int x = 0; x < D / 16; x++) at.o[i][x] *= keep;
  }
}

/* The shared memory of the kernel: own queries, a tile of keys or values, a tile of probabilities. */
template <int R, int D>
struct forward_memory {
  static constexpr int QUERIES = 0, OTHERS = QUERIES + ma_tile_floats(R * MA_SIDE, D),
                       PROBS = OTHERS + ma_tile_floats(KEYS, D), FLOATS = PROBS + ma_tile_floats(R * MA_SIDE, KEYS);
};

/* One sweep over some of the keys that own rows see.  `is_final`: most and the inverse of the sum are known, and probabilities are
 * rounded to the step; else, with `mixes`, values are mixed as the sum grows; else there is the sum alone. */
template <int R, int D>
__device__ void sweep(progress<R, D> &at, const ma_attention_job &j, const ma_own &own, const ma_range &keys,
                      float *memory, bool mixes, bool is_final) {
  using place = forward_memory<R, D>;
  const float *queries = memory + place::QUERIES;
  float *others = memory + place::OTHERS, *probs = memory + place::PROBS;
  const int group = ma_group(j, own.h);
  for (int key = keys.low / KEYS * KEYS; key < keys.high; key += KEYS) {
    const int n = keys.high - key < KEYS ? keys.high - key : KEYS;
    float s[R][C];
    __syncthreads();
    ma_load_tile<KEYS, D>(others, j.k.at(own.b, key, group), j.k.row, n, j.d);
    __syncthreads();
    ma_score_tile<R, D>(s, j, own, queries, others, key);
    if (!is_final) take_in(at, s);
    else
      MA_UNROLL for (int i = 0; i < R; i++) MA_UNROLL for (int c = 0; c < C; c++) s[i][c] =
          ma_probability(j, s[i][c], at.most[i], at.sum[i]);
    if (!mixes) continue;
    ma_put_tile(probs, s);
    __syncthreads();
    ma_load_tile<KEYS, D>(others, j.v.at(own.b, key, group), j.v.row, n, j.d);
    __syncthreads();
    ma_mix_tiles<R, C, D>(at.o, probs, others, n);
  }
}

/* Before any key: the extra one alone, where there is one (whose score becomes `extra`) and this block counts it. */
template <int R, int D>
__device__ void begin(progress<R, D> &at, float (&extra)[R], const ma_attention_job &j, const ma_own &own,
                      const float *queries, bool counts_extra) {
  float p[R];
  MA_UNROLL for (int i = 0; i < R; i++) {
    extra[i] = counts_extra ? ma_score_extra(j, own.h, queries + (ma_tile_y() * R + i) * ma_tile_step(D)) : 0;
    at.most[i] = counts_extra ? extra[i] : -INFINITY;
    at.sum[i] = p[i] = counts_extra ? 1.0f : 0.0f;
  }
  ma_mix_extra<R, D>(at.o, p, j, own.h);
}

/* The same where the row's largest score and the inverse of its sum are known. */
template <int R, int D>
__device__ void begin_final(progress<R, D> &at, const float (&extra)[R], const ma_attention_job &j, const ma_own &own,
                            bool counts_extra) {
  float p[R];
  MA_UNROLL for (int i = 0; i < R; i++) p[i] = counts_extra ? ma_probability(j, extra[i], at.most[i], at.sum[i]) : 0;
  ma_mix_extra<R, D>(at.o, p, j, own.h);
}

template <int R, int D>
__global__ void __launch_bounds__(MA_TILE_THREADS, D <= 128 ? 2 : 1) attention_kernel(const ma_attention_job j) {
  MA_SHARED_BYTES(bytes);
  float *memory = reinterpret_cast<float *>(bytes), *queries = memory + forward_memory<R, D>::QUERIES;
  const ma_own own = ma_locate<R, true>(j, j.H, j.Tq);
  const ma_range keys = ma_keys_of(j, own.first, own.n);
  const bool in_steps = j.step != MA_F32;
  progress<R, D> at;
  float extra[R];
  ma_load_tile<R * MA_SIDE, D>(queries, j.q.at(own.b, own.first, own.h), j.q.row, own.n, j.d);
  __syncthreads();
  begin(at, extra, j, own, queries, j.E > 0);
  sweep<R, D>(at, j, own, keys, memory, !in_steps, false);
  MA_UNROLL for (int i = 0; i < R; i++) at.sum[i] = 1.0f / at.sum[i];
  if (in_steps) {
    begin_final(at, extra, j, own, j.E > 0);
    sweep<R, D>(at, j, own, keys, memory, true, true);
  } else {
    MA_UNROLL for (int i = 0; i < R; i++) MA_UNROLL for (int x = 0; x < D / 16; x++) at.o[i][x] *= at.sum[i];
  }
  ma_store_rows<R, D>(j.out.at(own.b, own.first, own.h), j.out.row, j.out.column, at.o, own.n, j.d);
  if (!j.most || ma_tile_x() != 0) return;
  MA_UNROLL for (int i = 0; i < R; i++) {
    const int r = ma_tile_y() * R + i;
    if (r >= own.n) continue;
    j.most[ma_row_of(j, own.b, own.h, own.first + r)] = at.most[i];
    j.inverse[ma_row_of(j, own.b, own.h, own.first + r)] = at.sum[i];
  }
}

/* ---- few queries and many keys (a generated token at a time): a block goes through a part of the keys, whose number does not
 * depend on the device; the parts of a row are added in order afterwards (Dao et al. 2023, "Flash-Decoding") ---- */

constexpr int PART = 256; /* keys */

/* Of each part, [n_parts B H Tq]: largest score, sum, and [.. d] mixed values. */
struct parts {
  int n;
  int64_t n_rows;
  float *most, *sum, *o;
};

/* A row's largest score and sum over all parts. */
__device__ void whole_row(const parts &p, int64_t row, float *most, float *sum) {
  *most = -INFINITY, *sum = 0;
  for (int i = 0; i < p.n; i++) *most = ma_larger()(*most, p.most[i * p.n_rows + row]);
  for (int i = 0; i < p.n; i++) *sum += p.sum[i * p.n_rows + row] * ma_weight(p.most[i * p.n_rows + row], *most);
}

/* `is_final`: the sums of all parts are there, and values are to be mixed by rounded probabilities. */
template <int D>
__global__ void __launch_bounds__(MA_TILE_THREADS, D <= 128 ? 2 : 1)
    part_kernel(const ma_attention_job j, const parts p, bool is_final) {
  MA_SHARED_BYTES(bytes);
  float *memory = reinterpret_cast<float *>(bytes), *queries = memory + forward_memory<1, D>::QUERIES;
  const ma_own own = ma_locate<1, true>(j, j.H, j.Tq);
  const int part = static_cast<int>(blockIdx.y), r = ma_tile_y();
  const bool counts_extra = j.E && part == 0;
  const int64_t row = ma_row_of(j, own.b, own.h, own.first + (r < own.n ? r : 0)), at_part = part * p.n_rows + row;
  ma_range keys = ma_keys_of(j, own.first, own.n);
  const int first = keys.low / KEYS * KEYS + part * PART;
  keys = {keys.low > first ? keys.low : first, keys.high < first + PART ? keys.high : first + PART};
  progress<1, D> at;
  float extra[1];
  ma_load_tile<MA_SIDE, D>(queries, j.q.at(own.b, own.first, own.h), j.q.row, own.n, j.d);
  __syncthreads();
  begin(at, extra, j, own, queries, counts_extra);
  if (is_final) {
    whole_row(p, row, &at.most[0], &at.sum[0]);
    at.sum[0] = 1.0f / at.sum[0];
    begin_final(at, extra, j, own, counts_extra);
  }
  const bool mixes = is_final || j.step == MA_F32;
  sweep<1, D>(at, j, own, keys, memory, mixes, is_final);
  if (mixes)
    ma_store_rows<1, D>(p.o + (part * p.n_rows + ma_row_of(j, own.b, own.h, own.first)) * j.d, j.d, 1, at.o, own.n,
                        j.d);
  if (!is_final && r < own.n && ma_tile_x() == 0) p.most[at_part] = at.most[0], p.sum[at_part] = at.sum[0];
}

/* A block a row. */
__global__ void add_parts_kernel(const ma_attention_job j, const parts p) {
  const int64_t row = blockIdx.x;
  const int b = static_cast<int>(row / j.Tq / j.H), h = static_cast<int>(row / j.Tq % j.H),
            query = static_cast<int>(row % j.Tq);
  float most, sum;
  whole_row(p, row, &most, &sum);
  const float inverse = 1.0f / sum;
  for (int e = static_cast<int>(threadIdx.x); e < j.d; e += static_cast<int>(blockDim.x)) {
    float o = 0;
    for (int i = 0; i < p.n; i++) {
      const float by = j.step == MA_F32 ? ma_weight(p.most[i * p.n_rows + row], most) : 1.0f;
      o += by * p.o[(i * p.n_rows + row) * j.d + e];
    }
    j.out.at(b, query, h)[e * j.out.column] = j.step == MA_F32 ? o * inverse : o;
  }
  if (j.most && threadIdx.x == 0) j.most[row] = most, j.inverse[row] = inverse;
}

} // namespace

/* ---- of the host ---- */

ma_status ma_attention_heads(ma_heads *out, ma_held *held, const ma_tensor *t, ma_error *err) {
  if (t->dtype == MA_F32 && (t->strides[3] == 1 || t->shape[3] == 1)) held->tensor = ma_tensor_retain(t);
  else MA_CUDA_TRY(ma_tensor_convert(&held->tensor, t, MA_F32, err));
  *out = ma_attention_out(&held->tensor);
  return MA_OK;
}

ma_status ma_attention_rows(ma_heads *out, ma_held *held, const ma_tensor *t, ma_error *err) {
  MA_CUDA_TRY(ma_attention_heads(out, held, t, err));
  std::swap(out->row, out->head);
  return MA_OK;
}

ma_heads ma_attention_out(const ma_tensor *t) {
  return {static_cast<float *>(ma_tensor_data(t)), t->strides[0], t->strides[1], t->strides[2], t->strides[3]};
}

ma_status ma_attention_describe(ma_attention_call *call, const ma_tensor *q, const ma_tensor *k,
                                const ma_attention_how *how, ma_error *err) {
  ma_attention_job &j = call->job;
  ma_device *device = ma_tensor_device(q);
  j.B = static_cast<int>(q->shape[0]), j.Tq = static_cast<int>(q->shape[1]), j.H = static_cast<int>(q->shape[2]);
  j.Tk = static_cast<int>(k->shape[1]), j.G = static_cast<int>(k->shape[2]), j.d = static_cast<int>(q->shape[3]);
  j.scale = how->scale, j.softcap = how->softcap, j.step = how->step;
  j.window = how->window > 0 && how->window < j.Tk ? static_cast<int>(how->window) : 0;
  j.E = how->extra_key ? 1 : 0;
  if (how->extra_key) j.extra_key = static_cast<const float *>(ma_tensor_data(how->extra_key));
  if (how->extra_value) j.extra_value = static_cast<const float *>(ma_tensor_data(how->extra_value));
  if (how->alibi_slopes) {
    const size_t size = static_cast<size_t>(j.H) * sizeof(float);
    MA_CUDA_TRY(call->slopes.take(size, err));
    MA_CUDA_TRY(device->backend->upload(device, call->slopes.data, how->alibi_slopes, size, err));
    j.slopes = call->slopes.as<float>();
  }
  return MA_OK;
}

ma_status ma_attention_widen(ma_attention_call *call, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                             ma_error *err) {
  ma_attention_job &j = call->job;
  if (call->q.tensor.storage) return MA_OK;
  MA_CUDA_TRY(ma_attention_heads(&j.q, &call->q, q, err));
  MA_CUDA_TRY(ma_attention_heads(&j.k, &call->k, k, err));
  return v ? ma_attention_heads(&j.v, &call->v, v, err) : MA_OK;
}

ma_status ma_attention_prepare_mix(ma_attention_call *call, const ma_tensor *probs, const ma_tensor *v,
                                   const ma_attention_how *how, ma_error *err) {
  ma_attention_job &j = call->job;
  j.B = static_cast<int>(probs->shape[0]), j.H = static_cast<int>(probs->shape[1]),
  j.Tq = static_cast<int>(probs->shape[2]);
  j.Tk = static_cast<int>(v->shape[1]), j.G = static_cast<int>(v->shape[2]), j.d = static_cast<int>(v->shape[3]);
  j.E = how->extra_value ? 1 : 0;
  if (how->extra_value) j.extra_value = static_cast<const float *>(ma_tensor_data(how->extra_value));
  return ma_attention_heads(&j.v, &call->v, v, err);
}

ma_status ma_attention_note_rows(ma_attention_call *call, ma_error *err) {
  ma_attention_job &j = call->job;
  const size_t n_rows = static_cast<size_t>(j.B) * static_cast<size_t>(j.H) * static_cast<size_t>(j.Tq);
  MA_CUDA_TRY(call->stats.take(2 * n_rows * sizeof(float), err));
  j.most = call->stats.as<float>();
  j.inverse = j.most + n_rows;
  return MA_OK;
}

/* Few queries do not fill a block of 64. */
static ma_status attend_whole(ma_device *device, const ma_attention_job &j, ma_error *err) {
  return ma_with_columns("attention", j.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    if (j.Tq <= MA_SIDE)
      return ma_launch("attention", attention_kernel<1, D>,
                       ma_grid_tiles<1>(device, j, j.H, j.Tq, forward_memory<1, D>::FLOATS), err, j);
    return ma_launch("attention", attention_kernel<4, D>,
                     ma_grid_tiles<4>(device, j, j.H, j.Tq, forward_memory<4, D>::FLOATS), err, j);
  });
}

static ma_status attend_in_parts(ma_device *device, const ma_attention_job &j, int n_parts, ma_error *err) {
  const int64_t n_rows = int64_t{j.B} * j.H * j.Tq, n = n_parts * n_rows;
  ma_scratch room(device);
  parts p{n_parts, n_rows, nullptr, nullptr, nullptr};
  MA_CUDA_TRY(room.take(static_cast<size_t>(n * (2 + j.d)) * sizeof(float), err));
  p.most = room.as<float>(), p.sum = p.most + n, p.o = p.sum + n;
  const ma_status st = ma_with_columns("attention", j.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    ma_grid grid = ma_grid_tiles<1>(device, j, j.H, j.Tq, forward_memory<1, D>::FLOATS);
    grid.blocks.y = static_cast<unsigned>(n_parts);
    MA_CUDA_TRY(ma_launch("attention", part_kernel<D>, grid, err, j, p, false));
    return j.step == MA_F32 ? MA_OK : ma_launch("attention", part_kernel<D>, grid, err, j, p, true);
  });
  return st != MA_OK ? st : ma_launch("attention", add_parts_kernel, ma_grid_rows(device, n_rows, 128), err, j, p);
}

static ma_status attend_plainly(ma_device *device, const ma_attention_job &j, ma_error *err) {
  const int n_seen = j.window > 0 ? j.window + j.Tq + KEYS : j.Tk; /* keys, at most, from the first tile on */
  const int n_parts = ((n_seen < j.Tk ? n_seen : j.Tk) + PART - 1) / PART;
  if (j.Tq <= MA_SIDE && n_parts > 1) return attend_in_parts(device, j, n_parts, err);
  return attend_whole(device, j, err);
}

/* Tensor cores round nothing that `step` does not: their inputs have to be of its type.  Few queries do not fill their tiles. */
ma_status ma_attention_attend(ma_attention_call *call, ma_tensor *out, const ma_tensor *q, const ma_tensor *k,
                              const ma_tensor *v, ma_error *err) {
  ma_attention_job &j = call->job;
  ma_device *device = ma_tensor_device(q);
  ma_held wide;
  ma_tensor *z = out;
  const bool is_half = j.step != MA_F32 && q->dtype == j.step && j.Tq > MA_SIDE;
  if (out->dtype != MA_F32 && !(is_half && ma_attention_half_stores(out, j.step))) {
    MA_CUDA_TRY(ma_tensor_new_like(&wide.tensor, out, MA_F32, err));
    z = &wide.tensor;
  }
  if (z->dtype == MA_F32) j.out = ma_attention_out(z);
  if (is_half) {
    MA_CUDA_TRY(ma_attention_half(device, j, z, q, k, v, err));
  } else {
    MA_CUDA_TRY(ma_attention_widen(call, q, k, v, err));
    MA_CUDA_TRY(attend_plainly(device, j, err));
  }
  return z == out ? MA_OK : ma_cuda_copy(out, z, err);
}

/* ---- the operation ---- */

ma_status ma_cuda_attention(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                            const ma_attention_how *how, ma_error *err) {
  ma_attention_call call(ma_tensor_device(q));
  MA_CUDA_TRY(ma_attention_describe(&call, q, k, how, err));
  return ma_attention_attend(&call, out, q, k, v, err);
}
