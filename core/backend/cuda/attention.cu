/* Causal attention in tiles: a block has 64 queries of one head and goes through the keys that any of them sees, 64 at a time,
 * with the softmax's largest score and sum kept up as it goes (Dao et al. 2022, algorithm 1).  Where scores and probabilities are
 * rounded (`step`), the sum has to be known before a probability can be, and the keys are gone through twice. */
#include "backend/cuda/attention.cuh"

namespace {

constexpr int KEYS = MA_OTHERS, C = MA_OTHERS_EACH;

/* What a row's softmax is so far. */
template <int R, int D> struct progress {
  float most[R], sum[R], o[R][D / 16];
};

/* Takes in a row of a tile: s becomes e^(s - most). */
template <int R, int D> __device__ void take_in(progress<R, D> &at, float (&s)[R][C]) {
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
template <int R, int D> struct forward_memory {
  static constexpr int QUERIES = 0, OTHERS = QUERIES + ma_tile_floats(R * MA_SIDE, D), PROBS = OTHERS + ma_tile_floats(KEYS, D),
                       FLOATS = PROBS + ma_tile_floats(R * MA_SIDE, KEYS);
};

/* One sweep over the keys that own rows see.  `is_final`: most and the inverse of the sum are known, and probabilities are
 * rounded to the step; else, with `mixes`, values are mixed as the sum grows; else there is the sum alone. */
template <int R, int D>
__device__ void sweep(progress<R, D> &at, const ma_attention_job &j, const ma_own &own, float *memory, bool mixes,
                      bool is_final) {
  using place = forward_memory<R, D>;
  const float *queries = memory + place::QUERIES;
  float *others = memory + place::OTHERS, *probs = memory + place::PROBS;
  const int group = ma_group(j, own.h);
  const ma_range keys = ma_keys_of(j, own.first, own.n);
  for (int key = keys.low / KEYS * KEYS; key < keys.high; key += KEYS) {
    const int n = keys.high - key < KEYS ? keys.high - key : KEYS;
    float s[R][C];
    __syncthreads();
    ma_load_tile<KEYS, D>(others, j.k.at(own.b, key, group), j.k.row, n, j.d);
    __syncthreads();
    ma_score_tile<R, D>(s, j, own, queries, others, key);
    if (!is_final) take_in(at, s);
    else
      MA_UNROLL for (int i = 0; i < R; i++)
        MA_UNROLL for (int c = 0; c < C; c++) s[i][c] = ma_probability(j, s[i][c], at.most[i], at.sum[i]);
    if (!mixes) continue;
    ma_put_tile(probs, s);
    __syncthreads();
    ma_load_tile<KEYS, D>(others, j.v.at(own.b, key, group), j.v.row, n, j.d);
    __syncthreads();
    ma_mix_tiles<R, C, D>(at.o, probs, others, n);
  }
}

template <int R, int D> __global__ void __launch_bounds__(MA_TILE_THREADS, D <= 128 ? 2 : 1) attention_kernel(const ma_attention_job j) {
  MA_SHARED_BYTES(bytes);
  if (j.unless && *j.unless == 0) return;
  float *memory = reinterpret_cast<float *>(bytes);
  const ma_own own = ma_locate<R, true>(j, j.H, j.Tq);
  progress<R, D> at;
  float extra[R], p[R];
  ma_load_tile<R * MA_SIDE, D>(memory + forward_memory<R, D>::QUERIES, j.q.at(own.b, own.first, own.h), j.q.row, own.n, j.d);
  __syncthreads();
  MA_UNROLL for (int i = 0; i < R; i++) {
    const float *query = memory + forward_memory<R, D>::QUERIES + (ma_tile_y() * R + i) * ma_tile_step(D);
    extra[i] = j.E ? ma_score_extra(j, own.h, query) : 0;
    at.most[i] = j.E ? extra[i] : -INFINITY;
    at.sum[i] = p[i] = j.E ? 1.0f : 0.0f;
  }
  ma_mix_extra<R, D>(at.o, p, j, own.h);
  const bool in_steps = j.step != MA_F32;
  sweep<R, D>(at, j, own, memory, !in_steps, false);
  MA_UNROLL for (int i = 0; i < R; i++) at.sum[i] = 1.0f / at.sum[i];
  if (in_steps) {
    MA_UNROLL for (int i = 0; i < R; i++)
      p[i] = j.E ? ma_probability(j, extra[i], at.most[i], at.sum[i]) : 0;
    ma_mix_extra<R, D>(at.o, p, j, own.h);
    sweep<R, D>(at, j, own, memory, true, true);
  } else {
    MA_UNROLL for (int i = 0; i < R; i++)
      MA_UNROLL for (int x = 0; x < D / 16; x++) at.o[i][x] *= at.sum[i];
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

}  // namespace

/* ---- of the host ---- */

ma_status ma_attention_heads(ma_heads *out, ma_held *held, const ma_tensor *t, ma_error *err) {
  if (t->strides[3] == 1 || t->shape[3] == 1) held->tensor = ma_tensor_retain(t);
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

ma_status ma_attention_prepare(ma_attention_call *call, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
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
  MA_CUDA_TRY(ma_attention_heads(&j.q, &call->q, q, err));
  MA_CUDA_TRY(ma_attention_heads(&j.k, &call->k, k, err));
  if (v) MA_CUDA_TRY(ma_attention_heads(&j.v, &call->v, v, err));
  if (how->alibi_slopes) {
    const size_t size = static_cast<size_t>(j.H) * sizeof(float);
    MA_CUDA_TRY(call->slopes.take(size, err));
    MA_CUDA_TRY(device->backend->upload(device, call->slopes.data, how->alibi_slopes, size, err));
    j.slopes = call->slopes.as<float>();
  }
  return MA_OK;
}

ma_status ma_attention_prepare_mix(ma_attention_call *call, const ma_tensor *probs, const ma_tensor *v,
                                   const ma_attention_how *how, ma_error *err) {
  ma_attention_job &j = call->job;
  j.B = static_cast<int>(probs->shape[0]), j.H = static_cast<int>(probs->shape[1]), j.Tq = static_cast<int>(probs->shape[2]);
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

/* Few queries (a generated token at a time) do not fill a block of 64. */
static ma_status attend(ma_device *device, const ma_attention_job &j, ma_error *err) {
  return ma_with_columns("attention", j.d, err, [&](auto columns) {
    constexpr int D = decltype(columns)::value;
    if (j.Tq <= MA_SIDE)
      return ma_launch("attention", attention_kernel<1, D>,
                       ma_grid_tiles<1>(device, j, j.H, j.Tq, forward_memory<1, D>::FLOATS), err, j);
    return ma_launch("attention", attention_kernel<4, D>, ma_grid_tiles<4>(device, j, j.H, j.Tq, forward_memory<4, D>::FLOATS),
                     err, j);
  });
}

ma_status ma_attention_attend(ma_device *device, const ma_attention_job &j, ma_error *err) {
  ma_scratch packed(device);
  ma_attention_job plain = j;
  int *inexact = nullptr;
  if (j.step != MA_F32 && j.Tq > MA_SIDE) MA_CUDA_TRY(ma_attention_half(device, j, &packed, &inexact, err));
  plain.unless = inexact;
  return attend(device, plain, err);
}

/* ---- the operation ---- */

ma_status ma_cuda_attention(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                            const ma_attention_how *how, ma_error *err) {
  ma_attention_call call(ma_tensor_device(q));
  MA_CUDA_TRY(ma_attention_prepare(&call, q, k, v, how, err));
  call.job.out = ma_attention_out(out);
  return ma_attention_attend(ma_tensor_device(q), call.job, err);
}
