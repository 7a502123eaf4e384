#include "format/names.h"

#include <string.h>

#include "base/memory.h"

/* FNV-1a, 64 bits.  A hostile file can make names collide, but not more than it has names. */
static uint64_t hash(const char *name) {
  uint64_t h = 0xCBF29CE484222325u;
  for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001B3u;
  return h;
}

/* The slot of `name`, or the empty one where it belongs. */
static size_t slot_of(const ma_names *set, const char *name) {
  size_t at = (size_t)hash(name) & (set->n_slots - 1);
  while (set->slots[at] && strcmp(set->names[set->slots[at] - 1], name) != 0) at = (at + 1) & (set->n_slots - 1);
  return at;
}

static ma_status grow(ma_names *set, ma_error *err) {
  size_t capacity = set->capacity ? 2 * set->capacity : 64, *slots = NULL;
  ma_status st = ma_resize((void **)&set->names, capacity, sizeof *set->names, err);
  if (st == MA_OK) st = MA_NEW(&slots, 4 * capacity, err);
  if (st != MA_OK) return st;
  ma_free(set->slots);
  set->slots = slots;
  set->n_slots = 4 * capacity;
  set->capacity = capacity;
  for (size_t i = 0; i < set->n; i++) set->slots[slot_of(set, set->names[i])] = i + 1;
  return MA_OK;
}

ma_status ma_names_add(ma_names *set, const char *name, bool *is_new, ma_error *err) {
  if (set->n == set->capacity) {
    ma_status st = grow(set, err);
    if (st != MA_OK) return st;
  }
  size_t at = slot_of(set, name);
  *is_new = set->slots[at] == 0;
  if (!*is_new) return MA_OK;
  set->names[set->n] = name;
  set->slots[at] = ++set->n;
  return MA_OK;
}

size_t ma_names_find(const ma_names *set, const char *name) {
  if (set->n == 0) return SIZE_MAX;
  size_t found = set->slots[slot_of(set, name)];
  return found ? found - 1 : SIZE_MAX;
}

void ma_names_release(ma_names *set) {
  ma_free((void *)set->names);
  ma_free(set->slots);
  *set = (ma_names){0};
}
