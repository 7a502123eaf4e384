/* Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in the half-split layout of GPT-NeoX. */
#include "tensor/op_common.h"

ma_status ma_rope(ma_tensor *out, const ma_tensor *x, const ma_tensor *cosine, const ma_tensor *sine,
                  ma_dtype step, ma_error *err) {
  ma_op op = ma_op_begin("rope", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, x));
  MA_TRY(ma_op_plain(&op, cosine));
  MA_TRY(ma_op_plain(&op, sine));
  bool fits = x->n_dims == 4 && cosine->n_dims == 2 && ma_tensor_same_shape(cosine, sine) &&
              cosine->shape[0] == x->shape[1] && 2 * cosine->shape[1] <= x->shape[3];
  if (!fits) MA_TRY(ma_op_misfit(&op, x, cosine));
  MA_TRY(ma_op_output(&op, x->dtype, x->n_dims, x->shape));
  MA_TRY(ma_op_run(&op, rope, out, x, cosine, sine, step, err));
done:
  return ma_op_end(&op, st);
}
