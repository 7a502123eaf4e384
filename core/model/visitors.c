/* The list of visitors.  Entries keep their index while a visit walks the list; the gaps that detaching
 * leaves are closed when the last walk ends. */
#include "model/visitors.h"

#include <string.h>

#include "base/memory.h"

_Static_assert(MA_N_POINTS <= 32, "a row of `watched` has a bit for each point");

ma_status ma_visitors_init(ma_visitors *v, int n_layers, ma_error *err) {
  *v = (ma_visitors){.n_layers = n_layers};
  return MA_NEW(&v->watched, n_layers + 1, err);
}

void ma_visitors_close(ma_visitors *v) {
  ma_free(v->watched);
  ma_free(v->stands);
  *v = (ma_visitors){0};
}

static uint32_t *row_of(ma_visitors *v, ma_place place) {
  return &v->watched[place.layer < 0 ? v->n_layers : place.layer];
}

ma_status ma_visitors_attach(ma_visitors *v, ma_visitor *visitor, const ma_place *places, size_t n, ma_error *err) {
  size_t wanted = v->n_stands + n;
  if (wanted > v->capacity) {
    ma_status st = ma_resize((void **)&v->stands, 2 * wanted, sizeof *v->stands, err);
    if (st != MA_OK) return st;
    v->capacity = 2 * wanted;
  }
  for (size_t i = 0; i < n; i++) {
    v->stands[v->n_stands++] = (ma_stand){places[i], visitor};
    *row_of(v, places[i]) |= 1u << places[i].point;
  }
  return MA_OK;
}

/* Closes the gaps and sets the bits anew. */
static void tidy(ma_visitors *v) {
  size_t kept = 0;
  memset(v->watched, 0, ((size_t)v->n_layers + 1) * sizeof *v->watched);
  for (size_t i = 0; i < v->n_stands; i++) {
    if (!v->stands[i].visitor) continue;
    *row_of(v, v->stands[i].place) |= 1u << v->stands[i].place.point;
    v->stands[kept++] = v->stands[i];
  }
  v->n_stands = kept;
}

void ma_visitors_detach(ma_visitors *v, ma_visitor *visitor) {
  for (size_t i = 0; i < v->n_stands; i++)
    if (v->stands[i].visitor == visitor) v->stands[i].visitor = NULL;
  if (v->n_walks == 0) tidy(v);
}

static bool stands_at(const ma_stand *stand, ma_place place) {
  return stand->visitor && stand->place.point == place.point && stand->place.layer == place.layer;
}

bool ma_visitors_take_16_bit(const ma_visitors *v, ma_place place) {
  for (size_t i = 0; i < v->n_stands; i++)
    if (stands_at(&v->stands[i], place) && !v->stands[i].visitor->takes_16_bit) return false;
  return true;
}

/* One visit: the visitor sees a storage of its own, so that killing it kills every view made from it and
 * nothing else. */
static ma_status show(ma_visitor *visitor, const ma_tensor *x, const ma_at *at, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor lent = *x;
  lent.storage = NULL;
  lent.is_detached = true;
  MA_TRY(ma_storage_lend(&lent.storage, x->storage->device, x->storage->data, x->storage->bytes, at->name, err));
  visitor->is_visiting = true;
  st = visitor->visit(visitor, &lent, at, err);
  visitor->is_visiting = false;
done:
  if (lent.storage) ma_storage_kill(lent.storage);
  ma_storage_release(lent.storage);
  return st;
}

static ma_status show_itself(ma_visitor *visitor, const ma_tensor *x, const ma_at *at, ma_error *err) {
  ma_tensor shown = ma_tensor_retain(x);
  visitor->is_visiting = true;
  ma_status st = visitor->visit(visitor, &shown, at, err);
  visitor->is_visiting = false;
  ma_tensor_release(&shown);
  return st;
}

ma_status ma_visitors_visit(ma_visitors *v, ma_place place, const ma_tensor *x, bool is_recorded, ma_error *err) {
  ma_status st = MA_OK;
  ma_at at = {.place = place};
  size_t n = v->n_stands; /* who is attached during this visit waits for the next */
  ma_place_name(at.name, place);
  v->n_walks++;
  for (size_t i = 0; i < n && st == MA_OK; i++) {
    ma_stand stand = v->stands[i];
    if (!stands_at(&stand, place) || stand.visitor->is_visiting) continue;
    st = is_recorded ? show_itself(stand.visitor, x, &at, err) : show(stand.visitor, x, &at, err);
  }
  if (--v->n_walks == 0) tidy(v);
  return st;
}
