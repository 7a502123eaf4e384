/* Causal attention: whole, or as its two halves for whoever looks at scores or probabilities. */
#include "tensor/op_common.h"

/* q [B Tq H d], k [B Tk G d]; keys and values beyond the queries are the past. */
static ma_status check_pair(ma_op *op, const ma_tensor *q, const ma_tensor *k) {
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(op, q));
  MA_TRY(ma_op_plain(op, k));
  bool fits = q->n_dims == 4 && k->n_dims == 4 && q->shape[0] == k->shape[0] && q->shape[3] == k->shape[3] &&
              q->shape[1] <= k->shape[1] && k->shape[2] > 0 && q->shape[2] % k->shape[2] == 0 &&
              q->dtype == MA_F32 && k->dtype == MA_F32;
  if (!fits) MA_TRY(ma_op_misfit(op, q, k));
done:
  return st;
}

/* The extra key or value: [H d]. */
static ma_status check_extra(ma_op *op, const ma_tensor *q, const ma_tensor *extra) {
  if (!extra) return MA_OK;
  ma_status st = ma_op_plain(op, extra);
  if (st != MA_OK) return st;
  bool fits = extra->n_dims == 2 && extra->shape[0] == q->shape[2] && extra->shape[1] == q->shape[3] &&
              extra->dtype == MA_F32 && ma_tensor_is_contiguous(extra);
  return fits ? MA_OK : ma_op_misfit(op, q, extra);
}

ma_status ma_attention(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                       const ma_attention_how *how, ma_error *err) {
  ma_op op = ma_op_begin("attention", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_pair(&op, q, k));
  MA_TRY(check_pair(&op, q, v));
  if (!ma_tensor_same_shape(k, v)) MA_TRY(ma_op_misfit(&op, k, v));
  MA_TRY(check_extra(&op, q, how->extra_key));
  MA_TRY(check_extra(&op, q, how->extra_value));
  MA_TRY(ma_op_output(&op, MA_F32, 4, q->shape));
  MA_TRY(ma_op_run(&op, attention, out, q, k, v, how, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_attention_scores(ma_tensor *out, const ma_tensor *q, const ma_tensor *k,
                              const ma_attention_how *how, ma_error *err) {
  ma_op op = ma_op_begin("attention_scores", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_pair(&op, q, k));
  MA_TRY(check_extra(&op, q, how->extra_key));
  int64_t shape[4] = {q->shape[0], q->shape[2], q->shape[1], k->shape[1] + (how->extra_key ? 1 : 0)};
  MA_TRY(ma_op_output(&op, MA_F32, 4, shape));
  MA_TRY(ma_op_run(&op, attention_scores, out, q, k, how, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_attention_mix(ma_tensor *out, const ma_tensor *probs, const ma_tensor *v,
                           const ma_attention_how *how, ma_error *err) {
  ma_op op = ma_op_begin("attention_mix", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, probs));
  MA_TRY(ma_op_plain(&op, v));
  bool fits = probs->n_dims == 4 && v->n_dims == 4 && probs->shape[0] == v->shape[0] && v->shape[2] > 0 &&
              probs->shape[1] % v->shape[2] == 0 && probs->dtype == MA_F32 && v->dtype == MA_F32 &&
              probs->shape[3] == v->shape[1] + (how->extra_value ? 1 : 0) && probs->shape[2] <= v->shape[1];
  if (!fits) MA_TRY(ma_op_misfit(&op, probs, v));
  int64_t shape[4] = {probs->shape[0], probs->shape[2], probs->shape[1], v->shape[3]};
  ma_tensor like = {.n_dims = 4, .shape = {shape[0], shape[1], shape[2], shape[3]}};
  MA_TRY(check_extra(&op, &like, how->extra_value));
  MA_TRY(ma_op_output(&op, MA_F32, 4, shape));
  MA_TRY(ma_op_run(&op, attention_mix, out, probs, v, how, err));
done:
  return ma_op_end(&op, st);
}
