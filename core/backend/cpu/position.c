/* Rotary position embedding, head by head. */
#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"
#include "base/threads.h"

typedef struct rope_job {
  const ma_rows *rows;
  ma_tensor *out;
  const ma_tensor *x;
  const float *cosine, *sine;
  int64_t half;
  ma_dtype step;
  float *scratch;
} rope_job;

/* All heads of token i (counted over the batch). */
static void turn_tokens(void *self, size_t from, size_t to) {
  const rope_job *j = self;
  const ma_tensor *x = j->x;
  ma_tensor *out = j->out;
  int64_t T = x->shape[1], H = x->shape[2], d = x->shape[3];
  float *mine = j->scratch + 2 * d * ma_thread_index();
  for (size_t i = from; i < to; i++) {
    int64_t b = (int64_t)i / T, t = (int64_t)i % T;
    for (int64_t h = 0; h < H; h++) {
      int64_t at = x->offset + b * x->strides[0] + t * x->strides[1] + h * x->strides[2];
      int64_t to_at = out->offset + b * out->strides[0] + t * out->strides[1] + h * out->strides[2];
      const float *head = ma_row_load_whole(j->rows, mine, x, at, x->strides[3], (size_t)d);
      bool direct = out->dtype == MA_F32 && out->strides[3] == 1;
      float *turned = direct ? (float *)out->storage->data + to_at : mine + d;
      j->rows->rope(turned, head, j->cosine + t * j->half, j->sine + t * j->half, (size_t)j->half, j->step, (size_t)d);
      if (!direct) ma_row_store(j->rows, out, to_at, out->strides[3], turned, (size_t)d);
    }
  }
}

ma_status ma_cpu_rope(ma_tensor *out, const ma_tensor *x, const ma_tensor *cosine, const ma_tensor *sine, ma_dtype step,
                      ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor c = {0}, s = {0};
  rope_job j = {.rows = ma_rows_get(), .out = out, .x = x, .half = cosine->shape[1], .step = step};
  size_t scratch = 2 * (size_t)x->shape[3] * (size_t)ma_threads();
  MA_TRY(ma_cpu_as_f32(&c, cosine, err));
  MA_TRY(ma_cpu_as_f32(&s, sine, err));
  MA_TRY(ma_alloc_aligned((void **)&j.scratch, scratch * sizeof(float), err));
  j.cosine = ma_tensor_data(&c);
  j.sine = ma_tensor_data(&s);
  ma_parallel_for((size_t)(x->shape[0] * x->shape[1]), 16, turn_tokens, &j);
done:
  ma_free(j.scratch);
  ma_tensor_release(&c);
  ma_tensor_release(&s);
  return st;
}
