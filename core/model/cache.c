#include "model/cache.h"

#include "base/memory.h"
#include "tensor/ops.h"

ma_status ma_cache_new(ma_cache **out, const ma_model *model, int64_t n_sequences, int64_t capacity, ma_error *err) {
  ma_status st = MA_OK;
  ma_cache *c = NULL;
  const ma_spec *s = &model->spec;
  ma_dtype dtype = ma_model_activations(model);
  int64_t shape[4] = {n_sequences, capacity, s->n_kv_heads, s->d_head};
  *out = NULL;
  MA_TRY(MA_NEW(&c, 1, err));
  c->n_sequences = n_sequences;
  c->capacity = capacity;
  c->n_layers = (int)s->n_layers;
  MA_TRY(MA_NEW(&c->keys, c->n_layers, err));
  MA_TRY(MA_NEW(&c->values, c->n_layers, err));
  for (int l = 0; l < c->n_layers; l++) {
    MA_TRY(ma_tensor_new(&c->keys[l], model->device, dtype, 4, shape, err));
    MA_TRY(ma_tensor_new(&c->values[l], model->device, dtype, 4, shape, err));
  }
  *out = c;
  c = NULL;
done:
  ma_cache_close(c);
  return st;
}

void ma_cache_close(ma_cache *c) {
  if (!c) return;
  for (int l = 0; l < c->n_layers; l++) {
    if (c->keys) ma_tensor_release(&c->keys[l]);
    if (c->values) ma_tensor_release(&c->values[l]);
  }
  ma_free(c->keys);
  ma_free(c->values);
  ma_free(c);
}

/* One of the two: `store` [B capacity G d] takes `x` [B T G d]; *all views [B n_past + T G d]. */
static ma_status append(ma_tensor *all, const ma_tensor *store, const ma_tensor *x, int64_t n_past, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor place = {0};
  MA_TRY(ma_tensor_narrow(&place, store, 1, n_past, x->shape[1], err));
  MA_TRY(ma_copy(&place, x, err));
  MA_TRY(ma_tensor_narrow(all, store, 1, 0, n_past + x->shape[1], err));
done:
  ma_tensor_release(&place);
  return st;
}

ma_status ma_cache_extend(ma_cache *c, int layer, const ma_tensor *k, const ma_tensor *v, ma_tensor *all_k,
                          ma_tensor *all_v, ma_error *err) {
  ma_status st = append(all_k, &c->keys[layer], k, c->n_past, err);
  if (st == MA_OK) st = append(all_v, &c->values[layer], v, c->n_past, err);
  return st;
}
