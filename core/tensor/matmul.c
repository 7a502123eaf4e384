/* Products: the batched matmul of scripts, and the linear map of the decoder. */
#include <string.h>

#include "tensor/op_common.h"

ma_status ma_matmul(ma_tensor *out, const ma_tensor *a, const ma_tensor *b, ma_error *err) {
  ma_op op = ma_op_begin("matmul", out, err);
  ma_status st = MA_OK;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
  ma_tensor batch_a, batch_b;
  MA_TRY(ma_op_plain(&op, a));
  MA_TRY(ma_op_plain(&op, b));
  if (a->n_dims < 2 || b->n_dims < 2 || a->shape[a->n_dims - 1] != b->shape[b->n_dims - 2])
    MA_TRY(ma_op_misfit(&op, a, b));
  batch_a = *a;
  batch_b = *b;
  batch_a.n_dims -= 2;
  batch_b.n_dims -= 2;
  MA_TRY(ma_op_broadcast(&op, &n_dims, shape, &batch_a, &batch_b));
  if (a->shape[a->n_dims - 2] > INT32_MAX || a->shape[a->n_dims - 1] > INT32_MAX || b->shape[b->n_dims - 1] > INT32_MAX)
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "matmul: a matrix has at most 2^31 - 1 rows and columns"));
  shape[n_dims++] = a->shape[a->n_dims - 2];
  shape[n_dims++] = b->shape[b->n_dims - 1];
  MA_TRY(ma_op_output(&op, MA_F32, n_dims, shape));
  MA_TRY(ma_op_run(&op, matmul, out, a, b, err));
done:
  return ma_op_end(&op, st);
}

/* Rows and columns of a weight whose leading dims may be split; false where it has fewer than two. */
static bool weight_shape(const ma_tensor *weight, int64_t *rows, int64_t *columns) {
  if (weight->n_dims < 2) return false;
  *columns = weight->shape[weight->n_dims - 1];
  *rows = 1;
  for (int i = 0; i < weight->n_dims - 1; i++) *rows *= weight->shape[i];
  return true;
}

ma_status ma_linear(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias,
                    ma_error *err) {
  ma_op op = ma_op_begin("linear", out, err);
  ma_status st = MA_OK;
  int64_t shape[MA_MAX_DIMS], rows = 0, columns = 0;
  MA_TRY(ma_op_plain(&op, x));
  MA_TRY(ma_op_input(&op, weight));
  MA_TRY(ma_op_plain(&op, bias));
  if (x->n_dims < 1 || !weight_shape(weight, &rows, &columns) || columns != x->shape[x->n_dims - 1])
    MA_TRY(ma_op_misfit(&op, x, weight));
  if (bias && (bias->n_dims != 1 || bias->shape[0] != rows)) MA_TRY(ma_op_misfit(&op, weight, bias));
  memcpy(shape, x->shape, sizeof shape);
  shape[x->n_dims - 1] = rows;
  MA_TRY(ma_op_output(&op, MA_F32, x->n_dims, shape));
  if (!ma_tensor_is_contiguous(op.out))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "linear: the output must be contiguous"));
  MA_TRY(ma_op_run(&op, linear, out, x, weight, bias, err));
done:
  return ma_op_end(&op, st);
}
