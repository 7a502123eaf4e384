/* Visitors: what stands on a point.  Hook, probe, patch and capture are the same thing to the decoder: a
 * function that is shown the live tensor, in the order in which they were attached.
 *
 * A visitor may attach and detach visitors (itself too) and may run further passes; it is not called by
 * passes that it runs itself, so that nested passes end. */
#ifndef MASSACT_MODEL_VISITORS_H
#define MASSACT_MODEL_VISITORS_H

#include <stdbool.h>
#include <stdint.h>

#include "model/points.h"
#include "tensor/tensor.h"

/* Where a visit happens; borrowed for its time. */
typedef struct ma_at {
  ma_place place;
  char name[MA_PLACE_NAME];
} ma_at;

typedef struct ma_visitor ma_visitor;
struct ma_visitor {
  /* `x` is live memory of the pass: writing to it changes what follows.  Its storage is marked dead when
   * the visit ends; not in a recorded pass, where it is on the tape, and lives as long as somebody refers to it. */
  ma_status (*visit)(ma_visitor *self, ma_tensor *x, const ma_at *at, ma_error *err);
  bool takes_16_bit; /* `x` may be f16 or bf16, where a device keeps that; else it is always f32 */
  bool is_visiting;
};

typedef struct ma_stand {
  ma_place place;
  ma_visitor *visitor; /* borrowed; NULL: detached while somebody walks the list */
} ma_stand;

typedef struct ma_visitors {
  int n_layers;
  uint32_t *watched; /* [n_layers + 1] a bit a point; the last row is for points outside the layers */
  ma_stand *stands;
  size_t n_stands, capacity;
  int n_walks; /* visits in progress: entries may not move */
} ma_visitors;

ma_status ma_visitors_init(ma_visitors *v, int n_layers, ma_error *err);
void ma_visitors_close(ma_visitors *v);
/* Puts `visitor` (borrowed until detached) on each of the places; all or none. */
ma_status ma_visitors_attach(ma_visitors *v, ma_visitor *visitor, const ma_place *places, size_t n, ma_error *err);
void ma_visitors_detach(ma_visitors *v, ma_visitor *visitor);

/* Whether anybody stands there: one bit test. */
static inline bool ma_visitors_watch(const ma_visitors *v, ma_point point, int layer) {
  return (v->watched[layer < 0 ? v->n_layers : layer] >> point) & 1u;
}

/* Whether everybody who stands there does. */
bool ma_visitors_take_16_bit(const ma_visitors *v, ma_place place);

/* Shows `x` to everybody who stands at the place. */
ma_status ma_visitors_visit(ma_visitors *v, ma_place place, const ma_tensor *x, bool is_recorded, ma_error *err);

#endif
