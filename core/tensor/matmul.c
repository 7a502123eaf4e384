/* Products: the batched matmul of scripts, and the linear map of the decoder. */
#include <string.h>

#include "tensor/op_common.h"

/* Of a b: g b^T and a^T g; batch dims that were broadcast are summed by whoever takes them. */
static ma_status matmul_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  const ma_tensor *a = ma_node_input(node, 0), *b = ma_node_input(node, 1);
  ma_tensor turned = {0}, share = {0};
  if (ma_node_wants(node, 0)) {
    MA_TRY(ma_tensor_transpose(&turned, b, b->n_dims - 2, b->n_dims - 1, err));
    MA_TRY(ma_matmul(&share, g, &turned, err));
    MA_TRY(ma_node_give(node, 0, &share, err));
    ma_tensor_release(&turned);
  }
  if (ma_node_wants(node, 1)) {
    share = (ma_tensor){0};
    MA_TRY(ma_tensor_transpose(&turned, a, a->n_dims - 2, a->n_dims - 1, err));
    MA_TRY(ma_matmul(&share, &turned, g, err));
    MA_TRY(ma_node_give(node, 1, &share, err));
  }
done:
  ma_tensor_release(&turned);
  return st;
}

static const ma_rule matmul_rule = {.name = "matmul", .grad = matmul_back};

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
  MA_TRY(ma_op_run(&op, matmul, op.out, a, b, err));
  unsigned reads = (ma_tensor_is_tracked(b) ? 1u : 0) | (ma_tensor_is_tracked(a) ? 2u : 0);
  MA_TRY(ma_op_record(&op, &matmul_rule, reads, NULL, 0, a, b));
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

/* ---- gradients of the linear map ---- */

ma_status ma_linear_grad_x(ma_tensor *out, const ma_tensor *g, const ma_tensor *weight, ma_error *err) {
  ma_op op = ma_op_begin("linear_grad_x", out, err);
  ma_status st = MA_OK;
  int64_t shape[MA_MAX_DIMS], rows = 0, columns = 0;
  MA_TRY(ma_op_plain(&op, g));
  MA_TRY(ma_op_input(&op, weight));
  if (g->n_dims < 1 || !weight_shape(weight, &rows, &columns) || rows != g->shape[g->n_dims - 1])
    MA_TRY(ma_op_misfit(&op, g, weight));
  memcpy(shape, g->shape, sizeof shape);
  shape[g->n_dims - 1] = columns;
  MA_TRY(ma_op_output(&op, MA_F32, g->n_dims, shape));
  MA_TRY(ma_op_run(&op, linear_grad_x, op.out, g, weight, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_linear_grad_weight(ma_tensor *out, const ma_tensor *g, const ma_tensor *x, bool adds, ma_error *err) {
  ma_op op = ma_op_begin("linear_grad_weight", out, err);
  ma_status st = MA_OK;
  int64_t rows = g->shape[g->n_dims - 1], columns = x->shape[x->n_dims - 1];
  MA_TRY(ma_op_plain(&op, g));
  MA_TRY(ma_op_plain(&op, x));
  if (ma_tensor_count(g) / (rows > 0 ? rows : 1) != ma_tensor_count(x) / (columns > 0 ? columns : 1))
    MA_TRY(ma_op_misfit(&op, g, x));
  MA_TRY(ma_op_output(&op, MA_F32, 2, (int64_t[2]){rows, columns}));
  MA_TRY(ma_op_run(&op, linear_grad_weight, op.out, g, x, adds && !op.has_made, err));
done:
  return ma_op_end(&op, st);
}

ma_status ma_sum_rows(ma_tensor *out, const ma_tensor *a, bool adds, ma_error *err) {
  ma_op op = ma_op_begin("sum_rows", out, err);
  ma_status st = MA_OK;
  MA_TRY(ma_op_plain(&op, a));
  if (a->n_dims < 1) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "sum_rows: a scalar has no rows"));
  MA_TRY(ma_op_output(&op, MA_F32, 1, &a->shape[a->n_dims - 1]));
  MA_TRY(ma_op_run(&op, sum_rows, op.out, a, adds && !op.has_made, err));
done:
  return ma_op_end(&op, st);
}

/* A weight whose leading dims are split gets its gradient through a copy. */
static ma_status weight_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  bool adds = false;
  const ma_tensor *x = ma_node_input(node, 0), *weight = ma_node_input(node, 1);
  ma_tensor to = {0}, share = {0};
  if (weight->n_dims == 2) {
    MA_TRY(ma_node_into(node, 1, &to, &adds, err));
    MA_TRY(ma_linear_grad_weight(&to, g, x, adds, err));
  } else {
    MA_TRY(ma_linear_grad_weight(&to, g, x, false, err));
    MA_TRY(ma_tensor_reshape(&share, &to, weight->n_dims, weight->shape, err));
    ma_tensor_release(&to);
    MA_TRY(ma_node_give(node, 1, &share, err));
  }
done:
  ma_tensor_release(&to);
  return st;
}

/* Whether both products would round `g` to bf16 (linear_grad_x). */
static bool rounds_twice(ma_node *node, const ma_tensor *g) {
  bool is_bf16 = ma_node_input(node, 0)->dtype == MA_BF16 && ma_node_input(node, 1)->dtype == MA_BF16;
  return is_bf16 && ma_node_wants(node, 0) && ma_node_wants(node, 1) && ma_tensor_device(g)->backend->keeps_16_bit;
}

static ma_status linear_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  bool adds = false;
  ma_tensor share = {0}, to = {0}, factor = {0};
  if (rounds_twice(node, g)) MA_TRY(ma_tensor_convert(&factor, g, MA_BF16, err));
  else factor = ma_tensor_retain(g);
  if (ma_node_wants(node, 0)) {
    MA_TRY(ma_linear_grad_x(&share, &factor, ma_node_input(node, 1), err));
    MA_TRY(ma_node_give(node, 0, &share, err));
  }
  if (ma_node_wants(node, 1)) MA_TRY(weight_back(node, &factor, err));
  if (ma_node_wants(node, 2)) {
    MA_TRY(ma_node_into(node, 2, &to, &adds, err));
    MA_TRY(ma_sum_rows(&to, g, adds, err));
  }
done:
  ma_tensor_release(&to);
  ma_tensor_release(&factor);
  return st;
}

static const ma_rule linear_rule = {.name = "linear", .grad = linear_back};

ma_status ma_linear(ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, const ma_tensor *bias, ma_error *err) {
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
  MA_TRY(ma_op_output_float(&op, MA_F32, x->n_dims, shape));
  if (!ma_tensor_is_contiguous(op.out)) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "linear: the output must be contiguous"));
  MA_TRY(ma_op_run(&op, linear, op.out, x, weight, bias, err));
  unsigned reads = (ma_tensor_is_tracked(weight) ? 1u : 0) | (ma_tensor_is_tracked(x) ? 2u : 0);
  MA_TRY(ma_op_record(&op, &linear_rule, reads, NULL, 0, x, weight, bias));
done:
  return ma_op_end(&op, st);
}
