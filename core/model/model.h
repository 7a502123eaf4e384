/* A model: spec, weights, device, and who stands on its points.  One forward pass serves all families. */
#ifndef MASSACT_MODEL_MODEL_H
#define MASSACT_MODEL_MODEL_H

#include "model/arena.h"
#include "model/spec.h"
#include "model/visitors.h"
#include "model/weights.h"
#include "tensor/backend.h"

enum { MA_MAX_NESTED_PASSES = 8 };

/* Cosines and sines of positions 0 .. n_positions - 1, made when first needed. */
typedef struct ma_rope_table {
  int64_t n_positions;
  ma_tensor cosine, sine; /* [n_positions, n] f32 on the model's device */
} ma_rope_table;

typedef struct ma_model {
  int n_refs; /* the user's, and those of layers that are to be computed again on the way back */
  ma_spec spec;
  ma_dtype dtype; /* f32; f16 and bf16: arithmetic stays f32, values are rounded where such a model stores them */
  ma_device *device;
  ma_weights *weights;
  ma_visitors visitors;
  ma_rope_table ropes[MA_MAX_ROPES];
  float *alibi_slopes; /* [n_heads], or NULL */
  ma_map **maps;       /* the files behind the weights, each once */
  size_t n_maps;
  ma_arena arenas[MA_MAX_NESTED_PASSES]; /* one a level of nesting, kept between passes */
  int n_running;                         /* passes in progress */
} ma_model;

/* What a pass keeps its activations in: f32, or the model's 16 bits on a device that computes with these. */
static inline ma_dtype ma_model_activations(const ma_model *m) {
  return m->device->backend->keeps_16_bit ? m->dtype : MA_F32;
}
/* Takes `spec` over (its arrays too; it is zeroed, also on failure) after checking it.  *out is new
 * (ma_model_close) and has no weights yet. */
ma_status ma_model_new(ma_model **out, ma_spec *spec, ma_dtype dtype, ma_device *device, ma_error *err);
void ma_model_close(ma_model *m); /* drops one reference; NULL is fine; not during a pass */
ma_model *ma_model_retain(ma_model *m);
/* See ma_weights_bind; also remembers the file behind `t`. */
ma_status ma_model_bind(ma_model *m, const char *slot, const ma_tensor *t, ma_error *err);
/* MA_IO when a file behind the weights shrank or failed. */
ma_status ma_model_check_files(const ma_model *m, ma_error *err);

#endif
