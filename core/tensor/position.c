/* Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in the half-split layout of GPT-NeoX. */
#include "tensor/op_common.h"

/* The way back turns back. */
static ma_status rope_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor back = {0}, share = {0};
  MA_TRY(ma_unary(&back, MA_UNARY_neg, ma_node_input(node, 2), err));
  MA_TRY(ma_rope(&share, g, ma_node_input(node, 1), &back, MA_F32, err));
  MA_TRY(ma_node_give(node, 0, &share, err));
done:
  ma_tensor_release(&back);
  return st;
}

/* The angles are no parameters. */
static const ma_rule rope_rule = {.name = "rope", .grad = rope_back};

ma_status ma_rope(ma_tensor *out, const ma_tensor *x, const ma_tensor *cosine, const ma_tensor *sine, ma_dtype step,
                  ma_error *err) {
  ma_op op = ma_op_begin("rope", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, x));
  MA_TRY(ma_op_plain(&op, cosine));
  MA_TRY(ma_op_plain(&op, sine));
  bool fits = x->n_dims == 4 && cosine->n_dims == 2 && ma_tensor_same_shape(cosine, sine) &&
              cosine->shape[0] == x->shape[1] && 2 * cosine->shape[1] <= x->shape[3];
  if (!fits) MA_TRY(ma_op_misfit(&op, x, cosine));
  MA_TRY(ma_op_output(&op, x->dtype, x->n_dims, x->shape));
  MA_TRY(ma_op_run(&op, rope, op.out, x, cosine, sine, step, err));
  if (ma_tensor_is_tracked(cosine) || ma_tensor_is_tracked(sine))
    MA_TRY(ma_fail(err, MA_UNSUPPORTED, "rope has no gradient for its cosines and sines; detach() them"));
  MA_TRY(ma_op_record(&op, &rope_rule, 6, NULL, 0, x, cosine, sine));
done:
  return ma_op_end(&op, st);
}
