/* Points: named places in the forward pass ("layers.3.mlp.act"), one row of points.def each.
 * A place is a point at a layer; a pattern ("layers.{2..9}.attn.*") is a set of places. */
#ifndef MASSACT_MODEL_POINTS_H
#define MASSACT_MODEL_POINTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "model/spec.h"

typedef enum ma_point {
#define MA_POINT(constant, name, shape, meaning) MA_AT_##constant,
#define MA_LAYER_POINT                           MA_POINT
#include "model/points.def"
#undef MA_POINT
#undef MA_LAYER_POINT
  MA_N_POINTS
} ma_point;

typedef struct ma_point_info {
  const char *name, *shape, *meaning;
  bool in_layer;
} ma_point_info;

const ma_point_info *ma_point_describe(ma_point point);

enum { MA_PLACE_NAME = 48 };

typedef struct ma_place {
  ma_point point;
  int layer; /* from 0; -1 for points outside the layers */
} ma_place;

/* "layers.3.attn.out", into `text`, which is returned. */
const char *ma_place_name(char text[MA_PLACE_NAME], ma_place place);
/* Whether a model of this spec has the point at all (parallel blocks have no mid ...). */
bool ma_point_exists(const ma_spec *spec, ma_point point);
/* Position of a place in the order of the pass: embed, layer 0, ..., logits. */
int ma_place_order(ma_place place, const ma_spec *spec);

/* All places of the model that `pattern` names, in the order of the pass: *out is new (ma_free).
 * `*` stands for anything but a dot, `**` for anything, `{2..9}` and `{1,4,in}` for one of a set.
 * A pattern that names nothing fails, with the nearest names. */
ma_status ma_places_match(ma_place **out, size_t *n, const ma_spec *spec, const char *pattern, ma_error *err);
/* Exactly one place. */
ma_status ma_place_parse(ma_place *out, const ma_spec *spec, const char *name, ma_error *err);

#endif
