/* Construction and the files behind a model; the forward pass is in pass.c and decoder.c. */
#include "model/model.h"

#include "base/memory.h"

ma_status ma_model_new(ma_model **out, ma_spec *spec, ma_dtype dtype, ma_device *device, ma_error *err) {
  ma_status st = MA_OK;
  ma_model *m = NULL;
  *out = NULL;
  if (!ma_dtype_is_float(dtype))
    MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "a model computes in f32, f16 or bf16, not in %s",
                   ma_dtype_describe(dtype)->name));
  MA_TRY(ma_spec_check(spec, err));
  MA_TRY(MA_NEW(&m, 1, err));
  m->n_refs = 1;
  m->spec = *spec;
  ma_spec_defaults(spec);
  m->dtype = dtype;
  m->device = device;
  for (int i = 0; i < MA_MAX_NESTED_PASSES; i++) m->arenas[i].device = device;
  MA_TRY(ma_weights_new(&m->weights, &m->spec, dtype, err));
  MA_TRY(ma_visitors_init(&m->visitors, (int)m->spec.n_layers, err));
  if (m->spec.position == MA_POSITION_ALIBI) {
    MA_TRY(MA_NEW(&m->alibi_slopes, m->spec.n_heads, err));
    ma_spec_alibi_slopes(&m->spec, m->alibi_slopes);
  }
  *out = m;
  m = NULL;
done:
  ma_spec_release(spec);
  ma_model_close(m);
  return st;
}

void ma_model_close(ma_model *m) {
  if (!m || --m->n_refs > 0) return;
  ma_weights_close(m->weights);
  ma_visitors_close(&m->visitors);
  for (int i = 0; i < MA_MAX_ROPES; i++) {
    ma_tensor_release(&m->ropes[i].cosine);
    ma_tensor_release(&m->ropes[i].sine);
  }
  for (int i = 0; i < MA_MAX_NESTED_PASSES; i++) ma_arena_close(&m->arenas[i]);
  for (size_t i = 0; i < m->n_maps; i++) ma_map_release(m->maps[i]);
  ma_free(m->maps);
  ma_free(m->alibi_slopes);
  ma_spec_release(&m->spec);
  ma_free(m);
}

ma_model *ma_model_retain(ma_model *m) {
  m->n_refs++;
  return m;
}

static ma_status remember_file(ma_model *m, ma_map *map, ma_error *err) {
  for (size_t i = 0; i < m->n_maps; i++)
    if (m->maps[i] == map) return MA_OK;
  ma_status st = ma_resize((void **)&m->maps, m->n_maps + 1, sizeof *m->maps, err);
  if (st == MA_OK) m->maps[m->n_maps++] = ma_map_retain(map);
  return st;
}

ma_status ma_model_bind(ma_model *m, const char *slot, const ma_tensor *t, ma_error *err) {
  ma_map *map = t->storage->base ? t->storage->base->map : t->storage->map;
  if (ma_tensor_device(t) != m->device)
    return ma_fail(err, MA_BAD_ARGUMENT, "weight '%s' is on %s, the model on %s; to{device = \"%s\"} moves it", slot,
                   ma_tensor_device(t)->name, m->device->name, m->device->name);
  ma_status st = ma_weights_bind(m->weights, slot, t, err);
  if (st == MA_OK && map) st = remember_file(m, map, err);
  return st;
}

ma_status ma_model_check_files(const ma_model *m, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < m->n_maps && st == MA_OK; i++) st = ma_map_check(m->maps[i], err);
  return st;
}
