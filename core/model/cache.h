/* Keys and values of the tokens seen so far, so that generating a token costs one token's pass. */
#ifndef MASSACT_MODEL_CACHE_H
#define MASSACT_MODEL_CACHE_H

#include "model/model.h"

typedef struct ma_cache {
  int64_t n_sequences, capacity, n_past; /* tokens */
  int n_layers;
  ma_tensor *keys, *values; /* [n_layers] of [B capacity G d] f32, after position encoding */
} ma_cache;

ma_status ma_cache_new(ma_cache **out, const ma_model *model, int64_t n_sequences, int64_t capacity, ma_error *err);
void ma_cache_close(ma_cache *cache); /* NULL is fine */
/* Writes [B T G d] keys and values behind the past of a layer, and gives views of all so far; release both. */
ma_status ma_cache_extend(ma_cache *cache, int layer, const ma_tensor *k, const ma_tensor *v, ma_tensor *all_k,
                          ma_tensor *all_v, ma_error *err);

#endif
