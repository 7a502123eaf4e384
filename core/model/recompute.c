/* Activation checkpointing (Chen et al. 2016, arXiv 1604.06174), a layer at a time: on the way there a layer runs off the tape
 * and only its input is kept; on the way back it runs again, on a tape of its own that is gone through at once.  Visitors have
 * seen the first run; where one stands inside a layer, that layer is recorded as any other. */
#include "base/memory.h"
#include "model/model_internal.h"
#include "tensor/tape.h"

typedef struct layer_how {
  ma_model *model; /* retained */
  int64_t n_sequences, n_tokens;
  int layer;
  unsigned n_writes; /* to its weights, when it ran */
  bool skips_weights;
} layer_how;

static void drop(void *self) {
  layer_how *how = self;
  ma_model_close(how->model);
  how->model = NULL;
}

bool ma_layer_can_recompute(const ma_pass *pass, int layer) {
  if (!pass->is_recorded || !pass->request->recomputes) return false;
  for (int p = 0; p < (int)MA_N_POINTS; p++) {
    bool is_inside = ma_point_describe((ma_point)p)->in_layer && p != MA_AT_IN && p != MA_AT_OUT;
    if (is_inside && ma_pass_watches(pass, (ma_point)p, layer)) return false;
  }
  return true;
}

/* Runs the layer once more, from `x` on, and goes back through it: x.grad is what arrives. */
static ma_status run_again(const layer_how *how, const ma_tensor *x, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_model *m = how->model;
  ma_request request = {.n_sequences = how->n_sequences,
                        .n_tokens = how->n_tokens,
                        .is_recorded = true,
                        .skips_weights = how->skips_weights};
  if (m->n_running == MA_MAX_NESTED_PASSES)
    return ma_fail(err, MA_UNSUPPORTED, "passes are nested more than %d deep", MA_MAX_NESTED_PASSES);
  ma_pass pass = {.model = m,
                  .spec = &m->spec,
                  .request = &request,
                  .arena = &m->arenas[m->n_running++],
                  .B = how->n_sequences,
                  .T = how->n_tokens,
                  .is_recorded = true,
                  .is_quiet = true,
                  .x = ma_tensor_retain(x)};
  MA_TRY(ma_pass_rotation(&pass, err));
  MA_TRY(ma_layer(&pass, how->layer, MA_AT_IN, err));
  MA_TRY(ma_model_check_files(m, err));
  MA_TRY(ma_backward(&pass.x, g, false, NULL, err));
done:
  ma_pass_release(&pass);
  ma_arena_reset(pass.arena);
  m->n_running--;
  return st;
}

static ma_status layer_back(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  const layer_how *how = ma_node_how(node);
  ma_tensor x = {0}, share = {0};
  if (ma_weights_n_writes(how->model->weights, how->layer) != how->n_writes)
    return ma_fail(err, MA_BAD_ARGUMENT,
                   "backward of layer %d: its weights were written to since, and it is to be computed again; "
                   "write after backward",
                   how->layer);
  MA_TRY(ma_node_input_leaf(&x, node, 0, err));
  MA_TRY(run_again(how, &x, g, err));
  MA_TRY(ma_tensor_grad(&share, &x, err));
  if (share.storage) MA_TRY(ma_node_give(node, 0, &share, err));
done:
  ma_tensor_release(&share);
  ma_tensor_release(&x);
  return st;
}

static const ma_rule layer_rule = {.name = "layer", .grad = layer_back, .drop = drop};

ma_status ma_layer_recomputed(ma_pass *pass, int layer, ma_error *err) {
  ma_status st = MA_OK;
  layer_how how = {.n_sequences = pass->B,
                   .n_tokens = pass->T,
                   .layer = layer,
                   .skips_weights = pass->request->skips_weights,
                   .n_writes = ma_weights_n_writes(pass->model->weights, layer)};
  ma_tensor in = pass->x, plain = pass->x;
  pass->x = (ma_tensor){0};
  plain.is_detached = true;
  MA_TRY(ma_tensor_begin(&in, err)); /* its weights may be what requires a gradient */
  MA_TRY(ma_tensor_convert(&pass->x, &plain, plain.dtype, err));
  pass->is_recorded = false;
  st = ma_layer(pass, layer, MA_AT_IN, err);
  pass->is_recorded = true;
  if (st != MA_OK) goto done;
  how.model = ma_model_retain(pass->model);
  st =
      ma_tape_record(&pass->x, &(ma_record){&layer_rule, 1, (const ma_tensor *const[]){&in}, 1, &how, sizeof how}, err);
  if (st != MA_OK) ma_model_close(how.model);
done:
  ma_tensor_release(&in);
  return st;
}
