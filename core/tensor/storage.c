#include "tensor/storage.h"

#include <stdio.h>

#include "base/memory.h"
#include "tensor/backend.h"
#include "tensor/tape.h"

/* One reference, no data yet. */
static ma_status new_empty(ma_storage **out, ma_device *device, size_t bytes, ma_error *err) {
  ma_status st = MA_NEW(out, 1, err);
  if (st != MA_OK) return st;
  (*out)->n_refs = 1;
  (*out)->device = device;
  (*out)->bytes = bytes;
  return MA_OK;
}

ma_status ma_storage_new(ma_storage **out, ma_device *device, size_t bytes, ma_error *err) {
  ma_status st = new_empty(out, device, bytes, err);
  if (st != MA_OK) return st;
  st = device->backend->alloc(device, &(*out)->data, bytes, err);
  (*out)->owns_data = st == MA_OK;
  if (st != MA_OK) {
    ma_storage_release(*out);
    *out = NULL;
  }
  return st;
}

ma_status ma_storage_of_map(ma_storage **out, ma_map *map, void *data, size_t bytes, ma_error *err) {
  ma_status st = new_empty(out, ma_device_cpu(), bytes, err);
  if (st != MA_OK) return st;
  (*out)->data = data;
  (*out)->map = ma_map_retain(map);
  return MA_OK;
}

ma_status ma_storage_lend(ma_storage **out, ma_device *device, void *data, size_t bytes, const char *lender,
                          ma_error *err) {
  ma_status st = new_empty(out, device, bytes, err);
  if (st != MA_OK) return st;
  (*out)->data = data;
  snprintf((*out)->lender, sizeof(*out)->lender, "%s", lender);
  return MA_OK;
}

ma_storage *ma_storage_retain(ma_storage *s) {
  atomic_fetch_add(&s->n_refs, 1);
  return s;
}

void ma_storage_release(ma_storage *s) {
  if (!s || atomic_fetch_sub(&s->n_refs, 1) != 1) return;
  ma_node_release(s->node);
  if (s->owns_data) s->device->backend->free(s->device, s->data);
  ma_map_release(s->map);
  ma_storage_release(s->base);
  ma_free(s);
}

ma_status ma_storage_split(ma_storage *s, ma_error *err) {
  ma_storage *base;
  if (s->base) return MA_OK;
  ma_status st = new_empty(&base, s->device, s->bytes, err);
  if (st != MA_OK) return st;
  base->data = s->data;
  base->map = s->map;
  base->owns_data = s->owns_data;
  base->n_writes = atomic_load(&s->n_writes);
  s->map = NULL;
  s->owns_data = false;
  s->base = base;
  return MA_OK;
}

ma_status ma_storage_alias(ma_storage **out, ma_storage *base, ma_error *err) {
  ma_status st = new_empty(out, base->device, base->bytes, err);
  if (st != MA_OK) return st;
  (*out)->data = base->data;
  (*out)->base = ma_storage_retain(base);
  return MA_OK;
}

void ma_storage_written(ma_storage *s) {
  if (s->base) s = s->base;
  if (s->map) ma_map_written(s->map);
  atomic_fetch_add(&s->n_writes, 1);
}

unsigned ma_storage_n_writes(const ma_storage *s) {
  if (s->base) s = s->base;
  return s->map ? ma_map_n_writes(s->map) : s->n_writes;
}

void ma_storage_kill(ma_storage *s) { s->is_dead = true; }

ma_status ma_storage_check(const ma_storage *s, ma_error *err) {
  if (!s->is_dead) return MA_OK;
  return ma_fail(err, MA_BAD_ARGUMENT,
                 "this tensor belongs to a pass that has ended or moved on (%s); clone() it to keep it", s->lender);
}
