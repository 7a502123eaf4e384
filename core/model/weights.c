/* Binding, checking and widening of weights.  Invariant after ma_weights_finish: a slot is bound exactly
 * when the spec has a use for it (optional ones may be empty), and every shape fits. */
#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "tensor/backend.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct bound {
  ma_tensor stored;  /* the checkpoint's */
  ma_tensor wide;    /* f32 (see weights.h), made at first use; empty before, or when `stored` serves as it is */
  unsigned n_writes; /* of `stored`, when `wide` was made */
  bool is_followed;  /* recorded passes go back to it */
} bound;

enum { FIRST_EXPERT_SLOT = MA_SLOT_EXPERT_GATE, N_EXPERT_SLOTS = MA_SLOT_EXPERT_PROJ + 1 - FIRST_EXPERT_SLOT };

struct ma_weights {
  const ma_spec *spec;
  bound global[MA_N_SLOTS];
  bound (*layers)[MA_N_SLOTS];      /* [n_layers] */
  bound (*experts)[N_EXPERT_SLOTS]; /* [n_layers n_experts] */
  ma_dtype dtype;                   /* the model's */
  size_t wide_bytes;                /* what keeping all f32 copies of matrices takes */
  size_t foreign_bytes;             /* what keeping those takes, in the model's dtype, that are stored in another */
  bool keeps_wide;
};

static const ma_slot_info slots[MA_N_SLOTS] = {
#define MA_SLOT(constant, name, shape)        {name, shape, MA_PER_MODEL},
#define MA_LAYER_SLOT(constant, name, shape)  {name, shape, MA_PER_LAYER},
#define MA_EXPERT_SLOT(constant, name, shape) {name, shape, MA_PER_EXPERT},
#include "model/slots.def"
#undef MA_SLOT
#undef MA_LAYER_SLOT
#undef MA_EXPERT_SLOT
};

const ma_slot_info *ma_slot_describe(ma_slot slot) { return &slots[slot]; }

ma_status ma_weights_new(ma_weights **out, const ma_spec *spec, ma_dtype dtype, ma_error *err) {
  ma_status st = MA_OK;
  ma_weights *w = NULL;
  *out = NULL;
  MA_TRY(MA_NEW(&w, 1, err));
  w->spec = spec;
  w->dtype = dtype;
  MA_TRY(MA_NEW(&w->layers, spec->n_layers, err));
  if (spec->n_experts > 0) MA_TRY(MA_NEW(&w->experts, spec->n_layers * spec->n_experts, err));
  *out = w;
  w = NULL;
done:
  ma_weights_close(w);
  return st;
}

static void release_all(bound *b, int n) {
  for (int s = 0; s < n; s++) {
    ma_tensor_release(&b[s].stored);
    ma_tensor_release(&b[s].wide);
  }
}

void ma_weights_close(ma_weights *w) {
  if (!w) return;
  release_all(w->global, MA_N_SLOTS);
  for (int64_t l = 0; w->layers && l < w->spec->n_layers; l++) release_all(w->layers[l], MA_N_SLOTS);
  for (int64_t e = 0; w->experts && e < w->spec->n_layers * w->spec->n_experts; e++)
    release_all(w->experts[e], N_EXPERT_SLOTS);
  ma_free(w->layers);
  ma_free(w->experts);
  ma_free(w);
}

/* How many a model has of the slot. */
static int64_t count_of(const ma_weights *w, ma_slot slot) {
  if (slots[slot].scope == MA_PER_MODEL) return 1;
  return w->spec->n_layers * (slots[slot].scope == MA_PER_EXPERT ? w->spec->n_experts : 1);
}

static bound *bound_at(ma_weights *w, ma_slot slot, int64_t index) {
  switch (slots[slot].scope) {
    case MA_PER_LAYER: return &w->layers[index][slot];
    case MA_PER_EXPERT: return &w->experts[index][(int)slot - FIRST_EXPERT_SLOT];
    default: return &w->global[slot];
  }
}

/* ---- what a spec needs ---- */

typedef enum need { NEED_NOTHING, NEED_MAYBE, NEED_IT } need;

static need when(bool condition) { return condition ? NEED_IT : NEED_NOTHING; }

/* Weight, bias and alpha of a norm that is there when `present`. */
static need norm_need(const ma_spec *s, bool present, int part) {
  if (!present) return NEED_NOTHING;
  if (part == 2) return when(s->norm == MA_NORM_DYT);
  if (part == 1) return s->norm == MA_NORM_RMS ? NEED_NOTHING : NEED_MAYBE;
  return s->norm == MA_NORM_LAYER ? NEED_MAYBE : NEED_IT; /* OLMo's layer norm has no parameters */
}

static need slot_need(const ma_spec *s, ma_slot slot) {
  bool before = s->norm_before || s->norm_sum;
  bool before_mlp = before && !s->shared_norm;
  switch (slot) {
    case MA_SLOT_EMBED_TOKENS:
    case MA_SLOT_ATTN_Q:
    case MA_SLOT_ATTN_K:
    case MA_SLOT_ATTN_V:
    case MA_SLOT_ATTN_PROJ:
    case MA_SLOT_HEAD: return NEED_IT;
    case MA_SLOT_MLP_ROUTER:
    case MA_SLOT_EXPERT_GATE:
    case MA_SLOT_EXPERT_UP:
    case MA_SLOT_EXPERT_PROJ: return when(s->n_experts > 0);
    case MA_SLOT_MLP_UP:
    case MA_SLOT_MLP_PROJ: return when(s->n_experts == 0);
    case MA_SLOT_MLP_UP_BIAS:
    case MA_SLOT_MLP_PROJ_BIAS: return s->n_experts == 0 ? NEED_MAYBE : NEED_NOTHING;
    case MA_SLOT_EMBED_POSITIONS: return when(s->position == MA_POSITION_LEARNED);
    case MA_SLOT_EMBED_PROJECT:
    case MA_SLOT_FINAL_PROJECT: return when(s->d_embed != 0 && s->d_embed != s->d_model);
    case MA_SLOT_EMBED_SCALE: return when(s->learned_embed_scale);
    case MA_SLOT_ATTN_NORM: return norm_need(s, before, 0);
    case MA_SLOT_ATTN_NORM_BIAS: return norm_need(s, before, 1);
    case MA_SLOT_ATTN_NORM_ALPHA: return norm_need(s, before, 2);
    case MA_SLOT_MLP_NORM: return norm_need(s, before_mlp, 0);
    case MA_SLOT_MLP_NORM_BIAS: return norm_need(s, before_mlp, 1);
    case MA_SLOT_MLP_NORM_ALPHA: return norm_need(s, before_mlp, 2);
    case MA_SLOT_ATTN_NORM_AFTER:
    case MA_SLOT_MLP_NORM_AFTER: return norm_need(s, s->norm_after, 0);
    case MA_SLOT_ATTN_NORM_AFTER_BIAS:
    case MA_SLOT_MLP_NORM_AFTER_BIAS: return norm_need(s, s->norm_after, 1);
    case MA_SLOT_ATTN_NORM_AFTER_ALPHA:
    case MA_SLOT_MLP_NORM_AFTER_ALPHA: return norm_need(s, s->norm_after, 2);
    case MA_SLOT_FINAL_NORM: return norm_need(s, s->final_norm, 0);
    case MA_SLOT_FINAL_NORM_BIAS: return norm_need(s, s->final_norm, 1);
    case MA_SLOT_FINAL_NORM_ALPHA: return norm_need(s, s->final_norm, 2);
    case MA_SLOT_ATTN_Q_NORM:
    case MA_SLOT_ATTN_K_NORM: return when(s->qk_norm != MA_QK_NORM_NONE);
    case MA_SLOT_ATTN_EXTRA_KEY:
    case MA_SLOT_ATTN_EXTRA_VALUE: return when(s->kv_bias);
    case MA_SLOT_MLP_GATE: return when(s->gated && s->n_experts == 0);
    case MA_SLOT_MLP_GATE_BIAS: return s->gated && s->n_experts == 0 ? NEED_MAYBE : NEED_NOTHING;
    default: return NEED_MAYBE; /* biases of the projections */
  }
}

/* What a letter of slots.def stands for; 0: any size. */
static int64_t size_of_letter(const ma_spec *s, ma_slot slot, char letter) {
  switch (letter) {
    case 'V': return s->vocab_size;
    case 'E': return s->d_embed ? s->d_embed : s->d_model;
    case 'D': return s->d_model;
    case 'Q': return s->n_heads * s->d_head;
    case 'K': return s->n_kv_heads * s->d_head;
    case 'H': return s->n_heads;
    case 'd': return s->d_head;
    case 'F': return s->d_ff;
    case 'X': return s->n_experts;
    case 'N':
      if (s->qk_norm == MA_QK_NORM_HEAD) return s->d_head;
      return (slot == MA_SLOT_ATTN_Q_NORM ? s->n_heads : s->n_kv_heads) * s->d_head;
    case '1': return 1;
    default: return 0;
  }
}

/* ---- binding ---- */

/* "layers.3.attn.q.weight" -> slot, layer and expert; false when there is no such slot. */
static bool parse_slot(const char *name, ma_slot *slot, int *layer, int *expert) {
  int used = 0, inner = 0;
  ma_slot_scope scope = MA_PER_MODEL;
  *layer = *expert = -1;
  if (sscanf(name, "layers.%d.%n", layer, &used) == 1 && used > 0) {
    scope = MA_PER_LAYER;
    name += used;
    if (sscanf(name, "mlp.experts.%d.%n", expert, &inner) == 1 && inner > 0) {
      scope = MA_PER_EXPERT;
      name += inner;
    }
  }
  for (int s = 0; s < MA_N_SLOTS; s++) {
    if (slots[s].scope != scope || strcmp(slots[s].name, name) != 0) continue;
    *slot = (ma_slot)s;
    return true;
  }
  return false;
}

/* Whether the dims of `t` are those of the slot, leading ones possibly split. */
static ma_status check_shape(const ma_weights *w, ma_slot slot, const char *name, const ma_tensor *t, ma_error *err) {
  int64_t want[2];
  int n = 0;
  for (const char *c = slots[slot].shape; *c; c++)
    if (*c != ' ') want[n++] = size_of_letter(w->spec, slot, *c);
  bool fits = t->n_dims >= n || ma_tensor_count(t) == 1;
  if (fits && n == 2) {
    int64_t last = t->shape[t->n_dims - 1];
    fits = last == want[1] && (want[0] == 0 || ma_tensor_count(t) == want[0] * last);
  } else if (fits) {
    fits = ma_tensor_count(t) == want[0];
  }
  if (fits) return MA_OK;
  char has[MA_SHAPE_TEXT], wants[MA_SHAPE_TEXT];
  return ma_fail(err, MA_BAD_FILE, "weight '%s' has shape %s, the config implies %s", name,
                 ma_shape_text(has, t->n_dims, t->shape), ma_shape_text(wants, n, want));
}

ma_status ma_weights_bind(ma_weights *w, const char *name, const ma_tensor *t, ma_error *err) {
  ma_slot slot;
  int layer, expert;
  if (!parse_slot(name, &slot, &layer, &expert))
    return ma_fail(err, MA_BAD_ARGUMENT, "no weight slot '%s'; core/model/slots.def lists them", name);
  bool in_layer = slots[slot].scope != MA_PER_MODEL, is_expert = slots[slot].scope == MA_PER_EXPERT;
  if (in_layer && (layer < 0 || layer >= w->spec->n_layers))
    return ma_fail(err, MA_BAD_ARGUMENT, "weight slot '%s': the model has layers 0 to %lld", name,
                   (long long)w->spec->n_layers - 1);
  if (is_expert && (expert < 0 || expert >= w->spec->n_experts))
    return ma_fail(err, MA_BAD_ARGUMENT, "weight slot '%s': a layer has %lld experts", name,
                   (long long)w->spec->n_experts);
  if (slot_need(w->spec, slot) == NEED_NOTHING)
    return ma_fail(err, MA_BAD_FILE, "weight slot '%s' is filled, but this spec has no use for it", name);
  if (!ma_dtype_is_float(t->dtype) && !ma_dtype_is_block(t->dtype))
    return ma_fail(err, MA_BAD_FILE, "it has dtype %s; weights are floats", ma_dtype_describe(t->dtype)->name);
  ma_status st = check_shape(w, slot, name, t, err);
  if (st != MA_OK) return st;
  bound *b = bound_at(w, slot, is_expert ? layer * w->spec->n_experts + expert : layer);
  ma_tensor_release(&b->wide);
  ma_tensor_release(&b->stored);
  b->stored = ma_tensor_retain(t);
  b->is_followed = !t->is_detached;
  b->stored.is_detached = true; /* passes are recorded only where they ask for it */
  return MA_OK;
}

/* ---- widening ---- */

/* Rows of the token embedding are picked and widened one by one, never as a whole. */
static bool is_picked(ma_slot slot) { return slot == MA_SLOT_EMBED_TOKENS || slot == MA_SLOT_EMBED_POSITIONS; }

/* Has to be rounded to the model's dtype first. */
static bool is_foreign(const ma_weights *w, const ma_tensor *t) { return w->dtype != MA_F32 && t->dtype != w->dtype; }

static bool is_extra(ma_slot slot) { return slot == MA_SLOT_ATTN_EXTRA_KEY || slot == MA_SLOT_ATTN_EXTRA_VALUE; }

static bool is_matrix(ma_slot slot) { return strchr(slots[slot].shape, ' ') && !is_extra(slot); }

/* The device computes with the model's 16 bits: nothing is widened, but for extra keys and values, which attention reads as f32. */
static bool is_narrow(const ma_weights *w, const ma_tensor *t, ma_slot slot) {
  return w->dtype != MA_F32 && !is_extra(slot) && ma_tensor_device(t)->backend->keeps_16_bit;
}

/* A GEMM takes `dtype` with one contiguous dim. */
static bool serves_as_is(const ma_weights *w, const ma_tensor *t, ma_dtype dtype) {
  if (t->dtype != dtype || is_foreign(w, t)) return false;
  if (t->n_dims < 2) return ma_tensor_is_contiguous(t);
  return t->n_dims == 2 && (t->strides[0] == 1 || t->strides[1] == 1);
}

/* What the products of a slot are in. */
static ma_dtype product_dtype(const ma_weights *w, const ma_tensor *t, ma_slot slot) {
  return is_narrow(w, t, slot) ? w->dtype : MA_F32;
}

static size_t wide_bytes_of(const ma_weights *w, const bound *b, ma_slot slot) {
  const ma_tensor *t = &b->stored;
  if (!t->storage || !is_matrix(slot) || is_picked(slot)) return 0;
  ma_dtype dtype = product_dtype(w, t, slot);
  return serves_as_is(w, t, dtype) ? 0 : (size_t)ma_tensor_count(t) * ma_dtype_describe(dtype)->bytes;
}

static ma_status check_filled(const ma_weights *w, const bound *b, ma_slot slot, int64_t index, ma_error *err) {
  long long at = index, n_experts = w->spec->n_experts;
  const char *name = slots[slot].name;
  if (slot_need(w->spec, slot) != NEED_IT || b->stored.storage) return MA_OK;
  switch (slots[slot].scope) {
    case MA_PER_LAYER: return ma_fail(err, MA_BAD_FILE, "the checkpoint fills no weight 'layers.%lld.%s'", at, name);
    case MA_PER_EXPERT:
      return ma_fail(err, MA_BAD_FILE, "the checkpoint fills no weight 'layers.%lld.mlp.experts.%lld.%s'",
                     at / n_experts, at % n_experts, name);
    default: return ma_fail(err, MA_BAD_FILE, "the checkpoint fills no weight '%s'", name);
  }
}

ma_status ma_weights_finish(ma_weights *w, size_t wide_budget, ma_error *err) {
  ma_status st = MA_OK;
  w->wide_bytes = w->foreign_bytes = 0;
  for (int s = 0; s < MA_N_SLOTS; s++) {
    ma_slot slot = (ma_slot)s;
    for (int64_t i = 0; i < count_of(w, slot); i++) {
      const bound *b = bound_at(w, slot, i);
      MA_TRY(check_filled(w, b, slot, i, err));
      size_t bytes = wide_bytes_of(w, b, slot);
      w->wide_bytes += bytes;
      if (bytes && is_foreign(w, &b->stored)) w->foreign_bytes += is_narrow(w, &b->stored, slot) ? bytes : bytes / 2;
    }
  }
  w->keeps_wide = w->wide_bytes <= wide_budget;
done:
  return st;
}

/* A copy to compute with; `is_wide`: f32, else what the model stores. */
static ma_status convert(const ma_weights *w, ma_tensor *out, const ma_tensor *stored, bool is_wide, ma_error *err) {
  ma_tensor rounded = {0};
  if (!is_wide) return ma_tensor_convert(out, stored, w->dtype, err);
  if (!is_foreign(w, stored)) return ma_tensor_convert(out, stored, MA_F32, err);
  ma_status st = ma_tensor_convert(&rounded, stored, w->dtype, err);
  if (st == MA_OK) st = ma_tensor_convert(out, &rounded, MA_F32, err);
  ma_tensor_release(&rounded);
  return st;
}

/* [rows, last dim], or flat. */
static ma_status reshape_as_slot(const ma_weights *w, ma_tensor *out, const ma_tensor *copy, ma_slot slot,
                                 ma_error *err) {
  int64_t matrix[2] = {-1, copy->shape[copy->n_dims > 0 ? copy->n_dims - 1 : 0]}, flat[1] = {-1};
  bool heads = is_extra(slot);
  if (heads) matrix[1] = w->spec->d_head;
  bool is_flat = !is_matrix(slot) && !heads;
  return ma_tensor_reshape(out, copy, is_flat ? 1 : 2, is_flat ? flat : matrix, err);
}

ma_status ma_weights_get(const ma_tensor **out, ma_weights *w, ma_slot slot, int64_t index, ma_error *err) {
  ma_status st = MA_OK;
  bound *b = bound_at(w, slot, index);
  *out = NULL;
  if (!b->stored.storage) return MA_OK;
  bool vector = !is_matrix(slot), foreign = is_foreign(w, &b->stored);
  ma_dtype dtype = product_dtype(w, &b->stored, slot);
  if (is_picked(slot) || (serves_as_is(w, &b->stored, dtype) && !(vector && b->stored.n_dims > 1)) ||
      (!vector && !w->keeps_wide && !foreign)) {
    *out = &b->stored;
    return MA_OK;
  }
  if (b->wide.storage && b->n_writes != ma_storage_n_writes(b->stored.storage)) ma_tensor_release(&b->wide);
  if (!b->wide.storage) {
    b->n_writes = ma_storage_n_writes(b->stored.storage);
    ma_tensor copy = {0};
    st = convert(w, &copy, &b->stored, dtype == MA_F32 && (vector || w->keeps_wide), err);
    if (st == MA_OK) st = reshape_as_slot(w, &b->wide, &copy, slot, err);
    ma_tensor_release(&copy);
  }
  if (st == MA_OK) *out = &b->wide;
  return st;
}

ma_status ma_weights_follow(ma_tensor *out, ma_weights *w, ma_slot slot, int64_t index, ma_error *err) {
  ma_status st = MA_OK;
  const bound *b = bound_at(w, slot, index);
  const ma_tensor *fixed;
  ma_tensor t = b->stored, copy = {0};
  *out = (ma_tensor){0};
  t.is_detached = !b->is_followed;
  if (!b->stored.storage || !ma_tensor_is_tracked(&t)) {
    MA_TRY(ma_weights_get(&fixed, w, slot, index, err));
    if (fixed) *out = ma_tensor_retain(fixed);
  } else if (is_picked(slot) ||
             (serves_as_is(w, &t, product_dtype(w, &t, slot)) && (is_matrix(slot) || t.n_dims == 1))) {
    *out = ma_tensor_retain(&t);
  } else {
    MA_TRY(convert(w, &copy, &t, product_dtype(w, &t, slot) == MA_F32, err));
    MA_TRY(reshape_as_slot(w, out, &copy, slot, err));
  }
done:
  ma_tensor_release(&copy);
  return st;
}

static unsigned n_writes_of(const bound *b, int n) {
  unsigned sum = 0;
  for (int s = 0; s < n; s++)
    if (b[s].stored.storage) sum += ma_storage_n_writes(b[s].stored.storage);
  return sum;
}

unsigned ma_weights_n_writes(const ma_weights *w, int layer) {
  unsigned sum = n_writes_of(w->layers[layer], MA_N_SLOTS);
  for (int64_t e = 0; w->experts && e < w->spec->n_experts; e++)
    sum += n_writes_of(w->experts[layer * w->spec->n_experts + e], N_EXPERT_SLOTS);
  return sum;
}

bool ma_weights_has(const ma_weights *w, ma_slot slot, int64_t index) {
  return bound_at((ma_weights *)w, slot, index)->stored.storage != NULL;
}

size_t ma_weights_wide_bytes(const ma_weights *w) { return w->keeps_wide ? w->wide_bytes : w->foreign_bytes; }
