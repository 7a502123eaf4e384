/* Causal attention: whole, or as its two halves for whoever looks at scores or probabilities; and tallies of the
 * probabilities, which need neither. */
#include <string.h>

#include "tensor/op_common.h"

/* q [B Tq H d], k [B Tk G d], of one float type; keys and values beyond the queries are the past. */
static ma_status check_pair(ma_op *op, const ma_tensor *q, const ma_tensor *k) {
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(op, q));
  MA_TRY(ma_op_plain(op, k));
  bool fits = q->n_dims == 4 && k->n_dims == 4 && q->shape[0] == k->shape[0] && q->shape[3] == k->shape[3] &&
              q->shape[1] <= k->shape[1] && k->shape[2] > 0 && q->shape[2] % k->shape[2] == 0 &&
              ma_dtype_is_float(q->dtype) && k->dtype == q->dtype;
  if (!fits) MA_TRY(ma_op_misfit(op, q, k));
done:
  return st;
}

/* The same where f32 is the one float type. */
static ma_status check_f32_pair(ma_op *op, const ma_tensor *q, const ma_tensor *k) {
  ma_status st = check_pair(op, q, k);
  return st == MA_OK && q->dtype != MA_F32 ? ma_op_misfit(op, q, k) : st;
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

/* ---- gradients: inputs are q, k, v, extra key, extra value, slopes; of the halves, what they have of these ---- */

enum { Q, K, V, EXTRA_KEY, EXTRA_VALUE, SLOPES, N_INPUTS };

/* A copy of the slopes, which the tape keeps: they are the caller's. */
static ma_status copy_slopes(ma_tensor *out, const ma_attention_how *how, int64_t n_heads, ma_error *err) {
  if (!how->alibi_slopes) return MA_OK;
  ma_status st = ma_tensor_new(out, ma_device_cpu(), MA_F32, 1, &n_heads, err);
  if (st == MA_OK) memcpy(ma_tensor_data(out), how->alibi_slopes, (size_t)n_heads * sizeof(float));
  return st;
}

/* Puts a call on the tape; inputs that the operation does not have are NULL. */
static ma_status record(ma_op *op, const ma_rule *rule, const ma_tensor *const *inputs, const ma_attention_how *how,
                        int64_t n_heads, bool reads_output) {
  ma_tensor slopes = {0};
  if (!op->is_recorded) return MA_OK;
  ma_status st = copy_slopes(&slopes, how, n_heads, op->err);
  if (st != MA_OK) return st;
  const ma_tensor *all[N_INPUTS];
  unsigned reads = reads_output ? 1u << N_INPUTS : 0;
  memcpy(all, inputs, SLOPES * sizeof *all);
  all[SLOPES] = slopes.storage ? &slopes : NULL;
  for (int i = 0; i < N_INPUTS; i++) reads |= all[i] ? 1u << i : 0;
  st = ma_op_note(op, &(ma_record){rule, N_INPUTS, all, reads, how, sizeof *how});
  ma_tensor_release(&slopes);
  return st;
}

static const ma_tensor *present(const ma_node *node, int input) {
  const ma_tensor *t = ma_node_input(node, input);
  return t->storage ? t : NULL;
}

/* `how` as it was, with pointers to what the node has kept. */
static ma_attention_how how_of(const ma_node *node) {
  ma_attention_how how = *(const ma_attention_how *)ma_node_how(node);
  const ma_tensor *slopes = present(node, SLOPES);
  how.extra_key = present(node, EXTRA_KEY);
  how.extra_value = present(node, EXTRA_VALUE);
  how.alibi_slopes = slopes ? ma_tensor_data(slopes) : NULL;
  return how;
}

/* Gives the shares, one an input; those of the extra key and value are [B H d], and summed over the batch there. */
static ma_status give_all(ma_node *node, ma_tensor *const *shares, const int *inputs, int n, ma_error *err) {
  ma_status st = MA_OK;
  for (int i = 0; i < n; i++)
    if (shares[i]) MA_TRY(ma_node_give(node, inputs[i], shares[i], err));
done:
  return st;
}

/* [B H d], for the share of an extra key or value. */
static ma_status make_extra(ma_tensor *out, ma_tensor **at, const ma_tensor *extra, int64_t n_batch, ma_error *err) {
  if (!extra) return MA_OK;
  ma_status st = ma_tensor_new(out, ma_tensor_device(extra), MA_F32, 3,
                               (int64_t[3]){n_batch, extra->shape[0], extra->shape[1]}, err);
  *at = out;
  return st;
}

static ma_status check_shares(ma_op *op, ma_tensor *const *out, const ma_tensor *const *like, int n) {
  for (int i = 0; i < n; i++) {
    if (!out[i]) continue;
    ma_status st = ma_op_input(op, out[i]);
    if (st != MA_OK) return st;
    bool fits = out[i]->dtype == MA_F32 && ma_tensor_is_contiguous(out[i]) &&
                (!like[i] || ma_tensor_same_shape(out[i], like[i]));
    if (!fits) return ma_op_misfit(op, out[i], like[i] ? like[i] : out[i]);
    ma_storage_written(out[i]->storage);
  }
  return MA_OK;
}

ma_status ma_attention_grad(ma_tensor *const *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                            const ma_attention_how *how, const ma_tensor *g, ma_error *err) {
  ma_op op = ma_op_begin("attention_grad", out[0], err);
  ma_status st = MA_OK;
  MA_TRY(check_pair(&op, q, k));
  MA_TRY(check_pair(&op, q, v));
  MA_TRY(ma_op_plain(&op, g));
  if (!ma_tensor_same_shape(q, g) || g->dtype != MA_F32) MA_TRY(ma_op_misfit(&op, q, g));
  MA_TRY(check_shares(&op, out, (const ma_tensor *const[]){q, k, v, NULL, NULL}, 5));
  MA_TRY(ma_op_run(&op, attention_grad, out, q, k, v, how, g, err));
done:
  return st;
}

static ma_status attention_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_attention_how how = how_of(node);
  const ma_tensor *q = ma_node_input(node, Q), *k = ma_node_input(node, K), *v = ma_node_input(node, V);
  ma_tensor made[5] = {{0}, {0}, {0}, {0}, {0}};
  ma_tensor *shares[5] = {&made[0], &made[1], &made[2], NULL, NULL};
  MA_TRY(ma_tensor_new_like(&made[0], q, MA_F32, err));
  MA_TRY(ma_tensor_new_like(&made[1], k, MA_F32, err));
  MA_TRY(ma_tensor_new_like(&made[2], v, MA_F32, err));
  MA_TRY(make_extra(&made[3], &shares[3], how.extra_key, q->shape[0], err));
  MA_TRY(make_extra(&made[4], &shares[4], how.extra_value, q->shape[0], err));
  MA_TRY(ma_attention_grad(shares, q, k, v, &how, g, err));
  MA_TRY(give_all(node, shares, (const int[]){Q, K, V, EXTRA_KEY, EXTRA_VALUE}, 5, err));
done:
  for (int i = 0; i < 5; i++) ma_tensor_release(&made[i]);
  return st;
}

ma_status ma_attention_scores_grad(ma_tensor *const *out, const ma_tensor *q, const ma_tensor *k,
                                   const ma_tensor *scores, const ma_attention_how *how, const ma_tensor *g,
                                   ma_error *err) {
  ma_op op = ma_op_begin("attention_scores_grad", out[0], err);
  ma_status st = MA_OK;
  MA_TRY(check_f32_pair(&op, q, k));
  MA_TRY(ma_op_plain(&op, scores));
  MA_TRY(ma_op_plain(&op, g));
  if (!ma_tensor_same_shape(scores, g) || g->dtype != MA_F32) MA_TRY(ma_op_misfit(&op, scores, g));
  MA_TRY(check_shares(&op, out, (const ma_tensor *const[]){q, k, NULL}, 3));
  MA_TRY(ma_op_run(&op, attention_scores_grad, out, q, k, scores, how, g, err));
done:
  return st;
}

static ma_status scores_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_attention_how how = how_of(node);
  const ma_tensor *q = ma_node_input(node, Q), *k = ma_node_input(node, K);
  ma_tensor made[3] = {{0}, {0}, {0}};
  ma_tensor *shares[3] = {&made[0], &made[1], NULL};
  MA_TRY(ma_tensor_new_like(&made[0], q, MA_F32, err));
  MA_TRY(ma_tensor_new_like(&made[1], k, MA_F32, err));
  MA_TRY(make_extra(&made[2], &shares[2], how.extra_key, q->shape[0], err));
  MA_TRY(ma_attention_scores_grad(shares, q, k, ma_node_output(node), &how, g, err));
  MA_TRY(give_all(node, shares, (const int[]){Q, K, EXTRA_KEY}, 3, err));
done:
  for (int i = 0; i < 3; i++) ma_tensor_release(&made[i]);
  return st;
}

ma_status ma_attention_mix_grad(ma_tensor *const *out, const ma_tensor *probs, const ma_tensor *v,
                                const ma_attention_how *how, const ma_tensor *g, ma_error *err) {
  ma_op op = ma_op_begin("attention_mix_grad", out[0], err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, probs));
  MA_TRY(ma_op_plain(&op, v));
  MA_TRY(ma_op_plain(&op, g));
  bool fits = g->n_dims == 4 && probs->n_dims == 4 && v->n_dims == 4 && g->shape[0] == probs->shape[0] &&
              g->shape[1] == probs->shape[2] && g->shape[2] == probs->shape[1] && g->shape[3] == v->shape[3] &&
              g->dtype == MA_F32;
  if (!fits) MA_TRY(ma_op_misfit(&op, probs, g));
  MA_TRY(check_shares(&op, out, (const ma_tensor *const[]){probs, v, NULL}, 3));
  MA_TRY(ma_op_run(&op, attention_mix_grad, out, probs, v, how, g, err));
done:
  return st;
}

/* The probabilities take the place of q. */
static ma_status mix_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_attention_how how = how_of(node);
  const ma_tensor *probs = ma_node_input(node, Q), *v = ma_node_input(node, V);
  ma_tensor made[3] = {{0}, {0}, {0}};
  ma_tensor *shares[3] = {&made[0], &made[1], NULL};
  MA_TRY(ma_tensor_new_like(&made[0], probs, MA_F32, err));
  MA_TRY(ma_tensor_new_like(&made[1], v, MA_F32, err));
  MA_TRY(make_extra(&made[2], &shares[2], how.extra_value, probs->shape[0], err));
  MA_TRY(ma_attention_mix_grad(shares, probs, v, &how, g, err));
  MA_TRY(give_all(node, shares, (const int[]){Q, V, EXTRA_VALUE}, 3, err));
done:
  for (int i = 0; i < 3; i++) ma_tensor_release(&made[i]);
  return st;
}

static const ma_rule attention_rule = {.name = "attention", .grad = attention_back},
                     scores_rule = {.name = "attention_scores", .grad = scores_back},
                     mix_rule = {.name = "attention_mix", .grad = mix_back};

/* ---- the operations ---- */

ma_status ma_attention(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_tensor *v,
                       const ma_attention_how *how, ma_error *err) {
  ma_op op = ma_op_begin("attention", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_whole(&op, q, k, v, how));
  MA_TRY(ma_op_output_float(&op, q->dtype, 4, q->shape));
  MA_TRY(ma_op_run(&op, attention, op.out, q, k, v, how, err));
  const ma_tensor *inputs[] = {q, k, v, how->extra_key, how->extra_value};
  MA_TRY(record(&op, &attention_rule, inputs, how, q->shape[2], false));
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
                                 const ma_tensor *k, const ma_tensor *v, const ma_attention_how *how, ma_error *err) {
  const char *name = "attention_and_tally";
  ma_op op = ma_op_begin(name, out, err), second = ma_op_begin(name, received, err),
        third = ma_op_begin(name, entropy, err);
  ma_status st = MA_OK;
  MA_TRY(check_whole(&op, q, k, v, how));
  second.device = third.device = op.device;
  int64_t probs_shape[4] = {q->shape[0], q->shape[2], q->shape[1], k->shape[1] + (how->extra_key ? 1 : 0)};
  MA_TRY(ma_op_output_float(&op, q->dtype, 4, q->shape));
  MA_TRY(tally_outputs(&second, &third, probs_shape));
  MA_TRY(ma_op_run(&op, attention_and_tally, op.out, second.out, third.out, q, k, v, how, err));
  const ma_tensor *inputs[] = {q, k, v, how->extra_key, how->extra_value};
  MA_TRY(record(&op, &attention_rule, inputs, how, q->shape[2], false));
done:
  ma_op_end(&third, st);
  ma_op_end(&second, st);
  return ma_op_end(&op, st);
}

ma_status ma_attention_scores(ma_tensor *out, const ma_tensor *q, const ma_tensor *k, const ma_attention_how *how,
                              ma_error *err) {
  ma_op op = ma_op_begin("attention_scores", out, err);
  ma_status st = MA_OK;
  MA_TRY(check_f32_pair(&op, q, k));
  MA_TRY(check_extra(&op, q, how->extra_key));
  int64_t shape[4] = {q->shape[0], q->shape[2], q->shape[1], k->shape[1] + (how->extra_key ? 1 : 0)};
  MA_TRY(ma_op_output(&op, MA_F32, 4, shape));
  MA_TRY(ma_op_run(&op, attention_scores, op.out, q, k, how, err));
  const ma_tensor *inputs[] = {q, k, NULL, how->extra_key, NULL};
  MA_TRY(record(&op, &scores_rule, inputs, how, q->shape[2], true));
done:
  return ma_op_end(&op, st);
}

ma_status ma_attention_mix(ma_tensor *out, const ma_tensor *probs, const ma_tensor *v, const ma_attention_how *how,
                           ma_error *err) {
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
  MA_TRY(ma_op_output_float(&op, MA_F32, 4, shape));
  MA_TRY(ma_op_run(&op, attention_mix, op.out, probs, v, how, err));
  const ma_tensor *inputs[] = {probs, NULL, v, NULL, how->extra_value};
  MA_TRY(record(&op, &mix_rule, inputs, how, probs->shape[1], false));
done:
  return ma_op_end(&op, st);
}

ma_status ma_attention_tally(ma_tensor *received, ma_tensor *entropy, const ma_tensor *probs, ma_error *err) {
  ma_op op = ma_op_begin("attention_tally", received, err), second = ma_op_begin("attention_tally", entropy, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, probs));
  op.is_tracked = false; /* tallies are for reading: no tape */
  second.device = op.device;
  if (probs->n_dims != 4 || probs->dtype != MA_F32) MA_TRY(ma_op_misfit(&op, probs, probs));
  MA_TRY(tally_outputs(&op, &second, probs->shape));
  MA_TRY(ma_op_run(&op, attention_tally, op.out, second.out, probs, err));
done:
  ma_op_end(&second, st);
  return ma_op_end(&op, st);
}
