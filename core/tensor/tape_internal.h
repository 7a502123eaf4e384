/* Nodes, for the two files of the tape. */
#ifndef MASSACT_TENSOR_TAPE_INTERNAL_H
#define MASSACT_TENSOR_TAPE_INTERNAL_H

#include <stddef.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

/* An input, or the output, as it was when the operation ran. */
typedef struct ma_kept {
  ma_node *node;     /* wants a gradient; or NULL */
  ma_tensor tensor;  /* where in its storage it lies; with a storage (a base) where the rule reads it */
  unsigned n_writes; /* of that base */
} ma_kept;

struct ma_node {
  atomic_int n_refs;
  const ma_rule *rule; /* NULL: a leaf */
  ma_device *device;
  int64_t n_elements; /* of the storage, and so of gradients */
  int n_inputs;
  ma_kept *kept;      /* [n_inputs + 1]: the inputs, the output */
  ma_tensor grad;     /* flat f32: what .grad shows */
  ma_tensor incoming; /* flat f32: what has come in on this way back */
  bool keeps_grad;    /* leaves always do */
  bool is_spent;      /* what was saved is gone */
  bool is_ending;     /* it goes after this way back */
  int n_waiting;      /* while going back: consumers that have not given yet */
  bool is_seen;       /* while going back: in the list */
  ma_node *next;      /* while dying: in the list */
  ma_watcher **watchers;
  size_t n_watchers;
  _Alignas(max_align_t) unsigned char how[MA_HOW_BYTES];
};

ma_status ma_node_new(ma_node **out, const ma_tensor *of, const ma_rule *rule, int n_inputs, ma_error *err);
/* Whether a view shows every element of its storage, each once. */
bool ma_node_is_covered(const ma_tensor *view, int64_t n_elements);
/* Lets go of what was saved and of the inputs' nodes. */
void ma_node_spend(ma_node *node);

#endif
