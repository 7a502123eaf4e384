/* What the files of the forward pass share: the running pass, and the small steps they are made of. */
#ifndef MASSACT_MODEL_INTERNAL_H
#define MASSACT_MODEL_INTERNAL_H

#include "model/pass.h"
#include "tensor/ops.h"

/* Weights that a recorded pass has converted, in chunks that do not move. */
typedef struct ma_converted ma_converted;

typedef struct ma_pass {
  ma_model *model;
  const ma_spec *spec;
  const ma_request *request;
  ma_arena *arena;
  int64_t B, T;     /* sequences, tokens of this pass */
  int64_t n_past;   /* tokens before it, in the cache */
  bool has_stopped; /* the request's last place has been visited */
  bool is_recorded; /* on the tape: tensors are made by the operations, not taken from the arena */
  bool is_quiet;    /* nobody is shown anything: a layer is computed again */
  ma_converted *converted;
  ma_tensor x;                    /* the residual stream [B T D] */
  ma_tensor branch;               /* [B T D] for what a branch gives, where that can wait to be added; or none */
  bool is_pending;                /* `branch` is still to be added to x */
  ma_tensor cosine[MA_MAX_ROPES]; /* [T n] of these positions */
  ma_tensor sine[MA_MAX_ROPES];
} ma_pass;

/* A step that may fail, or be the last one; for functions with `st`, `pass`, `err` and a label `done`. */
#define MA_STEP(call)                 \
  do {                                \
    MA_TRY(call);                     \
    if (pass->has_stopped) goto done; \
  } while (0)

/* Shows `tensor` to whoever stands at the point of this layer, and ends the pass where the request says. */
#define MA_VISIT(point, layer, tensor) MA_STEP(ma_pass_visit(pass, MA_AT_##point, (layer), (tensor), err))

ma_status ma_pass_visit(ma_pass *pass, ma_point point, int layer, ma_tensor *x, ma_error *err);
/* Shows the stream. */
#define MA_VISIT_STREAM(point, layer) MA_STEP(ma_pass_visit_stream(pass, MA_AT_##point, (layer), err))
ma_status ma_pass_visit_stream(ma_pass *pass, ma_point point, int layer, ma_error *err);
/* Whether the point is watched: only then is a tensor made that exists for nothing else. */
bool ma_pass_watches(const ma_pass *pass, ma_point point, int layer);

/* The whole pass. */
ma_status ma_decode(ma_pass *pass, ma_result *out, ma_error *err);
/* The inside of a layer, between the points `in` and `out`. */
ma_status ma_layer(ma_pass *pass, int layer, ma_point from, ma_error *err);
/* The same, to be computed again on the way back instead of saving what that needs. */
ma_status ma_layer_recomputed(ma_pass *pass, int layer, ma_error *err);
bool ma_layer_can_recompute(const ma_pass *pass, int layer);
/* Cosines and sines of the pass's positions. */
ma_status ma_pass_rotation(ma_pass *pass, ma_error *err);
/* The two branches: what each adds to the residual stream, from its (normalised) input `h`. */
ma_status ma_attention_branch(ma_pass *pass, int layer, const ma_tensor *h, ma_tensor *out, ma_error *err);
ma_status ma_mlp_branch(ma_pass *pass, int layer, const ma_tensor *h, ma_tensor *out, ma_error *err);

/* What the MLP branch does where the spec has experts. */
ma_status ma_experts(ma_pass *pass, int layer, const ma_tensor *h, ma_tensor *out, ma_error *err);

/* ---- steps ---- */

/* Rounds what a model of 16 bits stores here (transformers, eager attention), in place; nothing in f32, nor where x has 16 bits. */
ma_status ma_pass_round(ma_pass *pass, ma_tensor *x, ma_error *err);

/* [B T last] of what activations are kept in, for an operation to write to: in the pass's arena, or (recorded) no tensor yet, which
 * the operation makes. */
ma_status ma_pass_take(ma_pass *pass, ma_tensor *out, int64_t last, ma_error *err);
ma_status ma_pass_take_shape(ma_pass *pass, ma_tensor *out, ma_dtype dtype, int n_dims, const int64_t *shape,
                             ma_error *err);
/* A tensor that exists, of any dtype: in the arena, or (recorded) memory that outlives the pass. */
ma_status ma_pass_new(ma_pass *pass, ma_tensor *out, ma_dtype dtype, int n_dims, const int64_t *shape, ma_error *err);
/* The weight to compute with (borrowed until the pass ends), or NULL where the slot is empty; see ma_weights_get. */
ma_status ma_pass_weight(ma_pass *pass, const ma_tensor **out, ma_slot slot, int64_t index, ma_error *err);
void ma_pass_release(ma_pass *pass);
/* out = x times weight [N K] transposed, plus bias or NULL. */
ma_status ma_pass_multiply(ma_pass *pass, ma_tensor *out, const ma_tensor *x, const ma_tensor *weight,
                           const ma_tensor *bias, ma_error *err);
/* out [B T N] = x [B T K] through the weight (and bias, where the checkpoint has one) of the slots. */
ma_status ma_pass_linear(ma_pass *pass, ma_tensor *out, const ma_tensor *x, ma_slot weight, ma_slot bias, int layer,
                         ma_error *err);
/* RMS norm with a weight of its own.  In place allowed. */
ma_status ma_pass_rms_norm(ma_pass *pass, ma_tensor *out, const ma_tensor *x, const ma_tensor *weight, ma_error *err);
/* The spec's norm; `weight` is its slot, bias and alpha follow it.  In place allowed. */
ma_status ma_pass_norm(ma_pass *pass, ma_tensor *out, const ma_tensor *x, ma_slot weight, int layer, ma_error *err);
/* The same of the stream, once what is pending has been added to it, in one pass over memory. */
ma_status ma_pass_norm_stream(ma_pass *pass, ma_tensor *out, ma_slot slot, int layer, ma_error *err);
/* Adds what is pending to the stream. */
ma_status ma_pass_settle(ma_pass *pass, ma_error *err);
/* up = f(up), or f(gate) up where the MLP is gated; `gate` is used up. */
ma_status ma_pass_activate(ma_pass *pass, ma_tensor *gate, ma_tensor *up, ma_error *err);
/* x *= factor, in place; nothing where the factor is 1. */
ma_status ma_pass_scale(ma_pass *pass, ma_tensor *x, double factor, ma_error *err);
/* x = f(x, number), in place. */
ma_status ma_pass_apply(ma_pass *pass, ma_tensor *x, ma_binary_kind kind, double number, ma_error *err);
/* What a branch gave, through its norm and multiplier, visited as `.out`. */
ma_status ma_pass_branch_out(ma_pass *pass, ma_tensor *out, ma_point point, ma_slot norm, int layer, ma_error *err);

#endif
