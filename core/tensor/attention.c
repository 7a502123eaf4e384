/* Causal attention: whole, or as its two halves for whoever looks at scores or probabilities; and tallies of the
 * probabilities, which need neither. */
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

static ma_status check_whole(ma_op *op, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                             const ma_attention_how *how) {
  ma_status st = MA_OK;
  MA_TRY(check_pair(op, q, k));
  MA_TRY(check_pair(op, q, v));
  if (!ma_tensor_same_shape(k, v)) MA_TRY(ma_op_misfit(op, k, v));
  MA_TRY(check_extra(op, q, how->extra_key));
  MA_TRY(check_extra(op, q, how->extra_value));
done:
  return st;
}

ma_status ma_attention(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                       const ma_attention_how *how, ma_error *err) {
  ma_op op = ma_op_begin("attention", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_whole(&op, q, k, v, how));
  MA_TRY(ma_op_output(&op, MA_F32, 4, q->shape));
  MA_TRY(ma_op_run(&op, attention, out, q, k, v, how, err));
done:
  return ma_op_end(&op, st);
}

/* [B H S] and [B H Tq], where they are wanted. */
static ma_status tally_outputs(ma_op *received, ma_op *entropy, const int64_t *probs_shape) {
  ma_status st = MA_OK;
  int64_t by_key[3] = {probs_shape[0], probs_shape[1], probs_shape[3]};
  if (received->out) MA_TRY(ma_op_output(received, MA_F32, 3, by_key));
  if (entropy->out) MA_TRY(ma_op_output(entropy, MA_F32, 3, probs_shape));
done:
  return st;
}

ma_status ma_attention_and_tally(ma_tensor *out, ma_tensor *received, ma_tensor *entropy, const ma_tensor *q,
                                 const ma_tensor *k, const ma_tensor *v, const ma_attention_how *how,
                                 ma_error *err) {
  const char *name = "attention_and_tally";
  ma_op op = ma_op_begin(name, out, err), second = ma_op_begin(name, received, err),
        third = ma_op_begin(name, entropy, err);
  ma_status st = MA_OK;
  MA_TRY(check_whole(&op, q, k, v, how));
  second.device = third.device = op.device;
  int64_t probs_shape[4] = {q->shape[0], q->shape[2], q->shape[1], k->shape[1] + (how->extra_key ? 1 : 0)};
  MA_TRY(ma_op_output(&op, MA_F32, 4, q->shape));
  MA_TRY(tally_outputs(&second, &third, probs_shape));
  MA_TRY(ma_op_run(&op, attention_and_tally, out, received, entropy, q, k, v, how, err));
done:
  ma_op_end(&third, st);
  ma_op_end(&second, st);
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

ma_status ma_attention_tally(ma_tensor *received, ma_tensor *entropy, const ma_tensor *probs, ma_error *err) {
  ma_op op = ma_op_begin("attention_tally", received, err), second = ma_op_begin("attention_tally", entropy, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, probs));
  second.device = op.device;
  if (probs->n_dims != 4 || probs->dtype != MA_F32) MA_TRY(ma_op_misfit(&op, probs, probs));
  MA_TRY(tally_outputs(&op, &second, probs->shape));
  MA_TRY(ma_op_run(&op, attention_tally, received, entropy, probs, err));
done:
  ma_op_end(&second, st);
  return ma_op_end(&op, st);
}
