/* Patch: the visitor that writes, described as data, so that it prints, hashes into a run's record and
 * works on any device.
 *
 * A patch picks sequences, positions, heads and dims (NULL: all) and sets, adds or multiplies.  On
 * [B T D] tensors there are no heads; on [B T H d] heads are dim 2; on [B H T S] heads are dim 1,
 * positions are queries and dims are keys. */
#ifndef MASSACT_MODEL_PATCH_H
#define MASSACT_MODEL_PATCH_H

#include "model/visitors.h"

typedef enum ma_patch_kind { MA_PATCH_SET, MA_PATCH_ADD, MA_PATCH_MULTIPLY } ma_patch_kind;

typedef enum ma_patch_axis {
  MA_PATCH_SEQUENCES,
  MA_PATCH_POSITIONS,
  MA_PATCH_HEADS,
  MA_PATCH_DIMS,
  MA_N_PATCH_AXES
} ma_patch_axis;

typedef struct ma_patch {
  ma_visitor visitor;
  ma_patch_kind kind;
  int64_t *picked[MA_N_PATCH_AXES]; /* owned; NULL: all */
  size_t n_picked[MA_N_PATCH_AXES];
  double *values; /* owned; one, or one for each picked dim */
  size_t n_values;
} ma_patch;

void ma_patch_init(ma_patch *patch, ma_patch_kind kind);
void ma_patch_release(ma_patch *patch);
/* MA_BAD_ARGUMENT where the number of values fits neither 1 nor the dims. */
ma_status ma_patch_check(const ma_patch *patch, ma_error *err);

#endif
