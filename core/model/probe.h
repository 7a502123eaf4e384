/* Probe: the visitor that computes statistics where the tensor is, and keeps only them.
 *
 * Each sequence of the batch is measured by itself.  `entries` lists what passes the criterion for
 * massive activations (Sun et al. 2024, section 2; Owen et al. 2025, eq. 1): |a| > above and
 * |a| > ratio x median |a|, the median over the whole tensor of that sequence. */
#ifndef MASSACT_MODEL_PROBE_H
#define MASSACT_MODEL_PROBE_H

#include "model/visitors.h"
#include "tensor/ops.h"

typedef struct ma_massive {
  int64_t index; /* row-major in the sequence's tensor */
  float value;   /* signed */
} ma_massive;

/* What was found in one sequence at one place, in the last pass. */
typedef struct ma_measured {
  ma_place place;
  int64_t sequence;
  int n_dims;
  int64_t shape[MA_MAX_DIMS]; /* of the sequence's tensor, without the batch */
  ma_stats stats;
  ma_massive *entries; /* by index */
  size_t n_entries;
} ma_measured;

typedef struct ma_probe {
  ma_visitor visitor;
  unsigned wanted; /* MA_STAT_ bits */
  int n_top;
  bool wants_entries;
  double above, ratio;
  ma_measured *measured; /* by place, then sequence */
  size_t n_measured, capacity;
} ma_probe;

/* MA_BAD_ARGUMENT when n_top is not within 0 .. MA_MAX_TOP. */
ma_status ma_probe_init(ma_probe *probe, unsigned wanted, int n_top, ma_error *err);
void ma_probe_release(ma_probe *probe);

#endif
