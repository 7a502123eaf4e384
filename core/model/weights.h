/* Weights: the checkpoint's tensors, bound to the slots of slots.def that the spec asks for.
 *
 * A bound tensor is a view of the mapped file, or of its copy on the model's device.  Stored types other than f32,
 * and views that a GEMM cannot take, are widened next to the product that uses them; where all of them fit in
 * `wide_budget` bytes as f32, each is widened once instead, at its first use, and kept.
 *
 * A model of 16 bits has its weights rounded to its dtype.  What the checkpoint stores in another is converted at
 * its first use, as PyTorch does when it loads, and kept: as f32 within the budget, else in the model's dtype.  On devices that
 * multiply in 16 bits its matrices stay in the model's dtype; those that a GEMM cannot take are copied within the budget. */
#ifndef MASSACT_MODEL_WEIGHTS_H
#define MASSACT_MODEL_WEIGHTS_H

#include "model/spec.h"
#include "tensor/tensor.h"

typedef enum ma_slot {
#define MA_SLOT(constant, name, shape) MA_SLOT_##constant,
#define MA_LAYER_SLOT                  MA_SLOT
#define MA_EXPERT_SLOT                 MA_SLOT
#include "model/slots.def"
#undef MA_SLOT
#undef MA_LAYER_SLOT
#undef MA_EXPERT_SLOT
  MA_N_SLOTS
} ma_slot;

typedef enum ma_slot_scope { MA_PER_MODEL, MA_PER_LAYER, MA_PER_EXPERT } ma_slot_scope;

typedef struct ma_slot_info {
  const char *name, *shape;
  ma_slot_scope scope;
} ma_slot_info;

typedef struct ma_weights ma_weights;

const ma_slot_info *ma_slot_describe(ma_slot slot);

/* `spec` is borrowed and must outlive the weights.  *out is new (ma_weights_close). */
ma_status ma_weights_new(ma_weights **out, const ma_spec *spec, ma_dtype dtype, ma_error *err);
void ma_weights_close(ma_weights *w); /* NULL is fine */

/* Binds `t` (retained) to "embed.tokens", "layers.3.attn.q.weight" or "layers.3.mlp.experts.5.up.weight", after checking its shape against the
 * spec: leading dims may be split ([H 2 d/2 D] for [Q D]), the product counts. */
ma_status ma_weights_bind(ma_weights *w, const char *slot, const ma_tensor *t, ma_error *err);
/* After binding: every slot that the spec needs is filled, none that it has no use for. */
ma_status ma_weights_finish(ma_weights *w, size_t wide_budget, ma_error *err);

/* `index` of the functions below: -1, the layer, or for experts' slots layer * n_experts + expert. */

/* The tensor to compute with (borrowed), or NULL where the slot is optional and empty.  Of the tables of tokens and
 * positions it is the stored one: rows are rounded by whoever picks them. */
ma_status ma_weights_get(const ma_tensor **out, ma_weights *w, ma_slot slot, int64_t index, ma_error *err);
/* The same for a recorded pass: *out is the caller's, and on the tape where the weight requires a gradient; what is converted
 * is converted there, too.  Empty where the slot is. */
ma_status ma_weights_follow(ma_tensor *out, ma_weights *w, ma_slot slot, int64_t index, ma_error *err);
/* How often the weights of a layer have been written to, all together. */
unsigned ma_weights_n_writes(const ma_weights *w, int layer);
bool ma_weights_has(const ma_weights *w, ma_slot slot, int64_t index);

/* Bytes of copies that a full forward pass keeps. */
size_t ma_weights_wide_bytes(const ma_weights *w);

#endif
