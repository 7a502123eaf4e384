/* The tape: how tensors came about, so that the gradient of a loss finds its way back.
 *
 * There is no tape object.  A storage has a node that says which operation made its elements, and the node holds on to the
 * nodes of that operation's inputs.  An operation is recorded when one of its inputs has a node (and is not detached);
 * nothing else decides.  Views need no record: they share the storage, and a gradient is added up in memory that is laid out
 * as the storage is, through the strides of whoever gives it.
 *
 * In-place writes: `out` may be an existing tensor.  Where it is the very ma_tensor that is also an input, that ma_tensor
 * gets new memory, and others that share the old keep what they saw.  Anything else is written to, views included: the
 * storage's node becomes one that says "these elements from here, the others from before".  What earlier operations have
 * saved stays as it was, since the storage then gets other bytes (storage.h).  Writes that are not recorded (to parameters,
 * by an optimiser) are counted, and going back through what they have spoilt is an error.
 *
 * Cycles cannot arise: what a node has saved is held by bases, and these have no node. */
#ifndef MASSACT_TENSOR_TAPE_H
#define MASSACT_TENSOR_TAPE_H

#include "tensor/tensor.h"

enum { MA_HOW_BYTES = 64 };

/* What an operation knows about going back.  One `static const` in its subject's file. */
typedef struct ma_rule {
  const char *name; /* of the operation, for messages */
  /* Gives every input that wants one its share of `g`, the gradient of the output (f32, shaped like it). */
  ma_status (*grad)(ma_node *node, const ma_tensor *g, ma_error *err);
  void (*drop)(
      void *how); /* lets go of what `how` refers to, when the node does; or NULL.  Zeros (a node half made) are fine */
} ma_rule;

/* ---- recording ---- */

/* Whether operations on it are recorded. */
static inline bool ma_tensor_is_tracked(const ma_tensor *t) {
  return t->storage && t->storage->node && !t->is_detached;
}

/* Makes the storage of `t` (floats) a leaf: gradients end there and add up.  Off: forgets gradient and all. */
ma_status ma_tensor_require_grad(ma_tensor *t, bool on, ma_error *err);
bool ma_tensor_is_leaf(const ma_tensor *t);

/* Gives a computed tensor that is not on the tape a node without inputs: from here on it is followed, and gradients that arrive
 * are seen (ma_tensor_keep_grad, ma_tensor_watch).  Nothing where it has a node. */
ma_status ma_tensor_begin(ma_tensor *t, ma_error *err);

/* What ma_op_record (op_common.h) says about a call: see there. */
typedef struct ma_record {
  const ma_rule *rule;
  int n; /* inputs; NULL ones are left out */
  const ma_tensor *const *inputs;
  unsigned reads;  /* bit i: the rule reads input i; bit n: the output */
  const void *how; /* copied; what it points to must outlive the node */
  size_t how_bytes;
} ma_record;

/* Gives `out` (new, whole) a node, if an input has one.  A rule that drops has to be given a tracked input. */
ma_status ma_tape_record(ma_tensor *out, const ma_record *record, ma_error *err);
/* Writes `value` into `out`, a view of anything but a leaf, and records that. */
ma_status ma_tape_write(ma_tensor *out, const ma_tensor *value, ma_error *err);

void ma_node_retain(ma_node *node);
void ma_node_release(ma_node *node); /* NULL is fine */
/* Bytes that the nodes behind `t` have saved for the way back; memory shared by several counts each time. */
size_t ma_tape_bytes(const ma_tensor *t);

/* ---- for rules ---- */

bool ma_node_wants(const ma_node *node, int input);
/* Shape and dtype; elements where the record said that the rule reads them.  Never tracked. */
const ma_tensor *ma_node_input(const ma_node *node, int input);
const ma_tensor *ma_node_output(const ma_node *node);
const void *ma_node_how(const ma_node *node);
/* Adds `g` (taken over, also on failure) to the input's gradient; where the input was broadcast, sums first. */
ma_status ma_node_give(ma_node *node, int input, ma_tensor *g, ma_error *err);
/* For kernels that add by themselves: *to is the place for the input's gradient, shaped like it (release it); *adds is
 * false where nothing is there yet and the kernel has to set every element. */
ma_status ma_node_into(ma_node *node, int input, ma_tensor *to, bool *adds, ma_error *err);

/* The elements of an input that was read, for giving away: they are moved where the node is not gone through again. */
ma_tensor ma_node_take(ma_node *node, int input);
/* The tensor of an input that was read, as a leaf over the same elements: for rules that compute again what led from it. */
ma_status ma_node_input_leaf(ma_tensor *out, const ma_node *node, int input, ma_error *err);

/* ---- going back ---- */

/* Somebody who is shown the gradient of a tensor on its way, and may write to it. */
typedef struct ma_watcher ma_watcher;
struct ma_watcher {
  ma_status (*visit)(ma_watcher *self, ma_tensor *g, void *context, ma_error *err);
  void (*close)(ma_watcher *self);
};
/* `t` is tracked and no leaf.  The watcher belongs to the node from now on, and is closed with it; on failure it is the caller's. */
ma_status ma_tensor_watch(const ma_tensor *t, ma_watcher *watcher, ma_error *err);

/* From `loss` (with gradient `seed`; NULL: 1, for one element) back to the leaves, whose gradients grow.  Frees what was
 * saved, unless `keeps`.  `context` is handed to watchers. */
ma_status ma_backward(const ma_tensor *loss, const ma_tensor *seed, bool keeps, void *context, ma_error *err);

/* The gradient that arrived at `t` so far, a view of memory that later passes add to; empty where none has. */
ma_status ma_tensor_grad(ma_tensor *out, const ma_tensor *t, ma_error *err);
/* Leaves keep their gradient; anything else does after this. */
ma_status ma_tensor_keep_grad(const ma_tensor *t, ma_error *err);
void ma_tensor_clear_grad(const ma_tensor *t);

#endif
