/* A spec describes one decoder completely; a family (lua/massact/families) makes it from a config. */
#ifndef MASSACT_MODEL_SPEC_H
#define MASSACT_MODEL_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/ops.h"

typedef enum ma_norm_kind { MA_NORM_RMS, MA_NORM_LAYER, MA_NORM_DYT } ma_norm_kind;
typedef enum ma_qk_norm { MA_QK_NORM_NONE, MA_QK_NORM_HEAD, MA_QK_NORM_ROW } ma_qk_norm;
enum { MA_ACTIVATION_GELU_NEW = 4 }; /* the choice that ma_spec_activation does not tell from gelu_tanh */
typedef enum ma_position_kind {
  MA_POSITION_NONE,
  MA_POSITION_LEARNED,
  MA_POSITION_ROPE,
  MA_POSITION_ALIBI
} ma_position_kind;

enum { MA_MAX_ROPES = 4, MA_MAX_LAYERS = 4096, MA_MAX_EXPERTS = 256 };

/* Rotary position embedding (Su et al. 2021): dims i and i + n of a head turn by position * frequency i. */
typedef struct ma_rotation {
  int64_t n;          /* frequencies: half of the dims that turn */
  float *frequencies; /* radians a position; long-context scaling is in here already */
  float scale;        /* multiplies cosine and sine (YaRN's attention factor) */
} ma_rotation;

typedef struct ma_spec {
#define MA_INT(name, value, doc)             int64_t name;
#define MA_FLOAT(name, value, doc)           double name;
#define MA_BOOL(name, value, doc)            bool name;
#define MA_CHOICE(name, value, choices, doc) int name;
#include "model/spec.def"
#undef MA_INT
#undef MA_FLOAT
#undef MA_BOOL
#undef MA_CHOICE
  int n_ropes;
  ma_rotation ropes[MA_MAX_ROPES];
  int *rope_of_layer; /* [n_layers] index into ropes, -1: this layer has no rotation; NULL: all 0 */
  int64_t *windows;   /* [n_layers] sliding window in keys, 0: none; NULL: none anywhere */
} ma_spec;

typedef enum ma_field_kind { MA_FIELD_INT, MA_FIELD_FLOAT, MA_FIELD_BOOL, MA_FIELD_CHOICE } ma_field_kind;

/* The fields as a table, for bindings, documentation and `massact info`. */
typedef struct ma_field {
  const char *name, *choices, *doc; /* choices: words separated by spaces, the value is their index */
  ma_field_kind kind;
  size_t offset; /* in ma_spec */
} ma_field;

size_t ma_spec_n_fields(void);
const ma_field *ma_spec_field(size_t i);

void ma_spec_defaults(ma_spec *spec);
/* Everything that must hold between fields (divisibility, ranges, products that fit).  The message names
 * the field. */
ma_status ma_spec_check(const ma_spec *spec, ma_error *err);
void ma_spec_release(ma_spec *spec);

ma_unary_kind ma_spec_activation(const ma_spec *spec);
/* ALiBi slopes (Press et al. 2022): `out` has n_heads entries. */
void ma_spec_alibi_slopes(const ma_spec *spec, float *out);

#endif
