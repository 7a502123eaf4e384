/* The way back: nodes in an order in which each has heard from all its consumers, and how gradients add up. */
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "tensor/backend.h"
#include "tensor/tape_internal.h"

/* ---- gradients of storages ---- */

/* `view` over the flat gradient of its storage; borrowed. */
static ma_tensor place_in(const ma_tensor *flat, const ma_tensor *view) {
  ma_tensor place = *view;
  place.dtype = MA_F32;
  place.storage = flat->storage;
  return place;
}

static ma_status new_flat(ma_tensor *flat, const ma_node *node, ma_error *err) {
  return ma_tensor_new(flat, node->device, MA_F32, 1, &node->n_elements, err);
}

/* Where a node's gradient gathers: what a leaf has, others on this way back only. */
static ma_tensor *gathering(ma_node *node) { return node->rule ? &node->incoming : &node->grad; }

/* Memory that no one else looks at; a leaf's own is added to whoever looks. */
static ma_status make_own(ma_tensor *flat, const ma_node *node, ma_error *err) {
  ma_tensor copy = {0};
  if (!node->rule || flat->storage->n_refs == 1) return MA_OK;
  ma_status st = ma_tensor_convert(&copy, flat, MA_F32, err);
  if (st != MA_OK) return st;
  ma_tensor_release(flat);
  *flat = copy;
  return MA_OK;
}

/* Dims of `view` that stand for one element: broadcast ones get size 1. */
static ma_tensor without_copies(const ma_tensor *view) {
  ma_tensor one = *view;
  for (int i = 0; i < one.n_dims; i++)
    if (one.strides[i] == 0 && one.shape[i] > 1) one.shape[i] = 1;
  return one;
}

/* g, summed to `shape`, against which it was broadcast; replaced in place. */
static ma_status sum_to(ma_tensor *g, const ma_tensor *shape, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor next = {0}, flat = {0};
  int extra = g->n_dims - shape->n_dims;
  if (extra > 0) {
    int64_t rows[2] = {1, 1};
    for (int i = 0; i < g->n_dims; i++) rows[i >= extra] *= g->shape[i];
    if (!ma_tensor_is_contiguous(g)) {
      MA_TRY(ma_tensor_convert(&next, g, MA_F32, err));
      ma_tensor_release(g);
      *g = next;
    }
    MA_TRY(ma_tensor_reshape(&flat, g, 2, rows, err));
    next = (ma_tensor){0};
    MA_TRY(ma_sum_rows(&next, &flat, false, err));
    ma_tensor kept = *g;
    *g = (ma_tensor){0};
    st = ma_tensor_reshape(g, &next, shape->n_dims, &kept.shape[extra], err);
    ma_tensor_release(&kept);
    ma_tensor_release(&next);
    if (st != MA_OK) goto done;
  }
  for (int i = 0; i < shape->n_dims; i++) {
    if (g->shape[i] == shape->shape[i]) continue;
    next = (ma_tensor){0};
    MA_TRY(ma_reduce(&next, MA_REDUCE_sum, g, i, true, err));
    ma_tensor_release(g);
    *g = next;
  }
done:
  ma_tensor_release(&flat);
  return st;
}

/* Adds g [as the view, f32] to the node's gradient; g may become that gradient. */
static ma_status gather(ma_node *node, const ma_tensor *view, ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor *flat = gathering(node), place;
  bool is_first = !flat->storage, is_all = ma_node_is_covered(view, node->n_elements);
  bool can_move = is_all && ma_tensor_is_contiguous(g) && ma_tensor_is_contiguous(view) && g->offset == 0 &&
                  (int64_t)(g->storage->bytes / sizeof(float)) == node->n_elements &&
                  (node->rule || g->storage->n_refs == 1);
  if (is_first && can_move) return ma_tensor_reshape(flat, g, 1, &node->n_elements, err);
  if (is_first) {
    MA_TRY(new_flat(flat, node, err));
    if (!is_all) MA_TRY(ma_fill(flat, 0, err));
  } else {
    MA_TRY(make_own(flat, node, err));
  }
  place = place_in(flat, view);
  if (is_first && is_all) MA_TRY(ma_copy(&place, g, err));
  else MA_TRY(ma_binary(&place, MA_BINARY_add, &place, g, err));
done:
  return st;
}

/* ---- for rules ---- */

bool ma_node_wants(const ma_node *node, int input) { return node->kept[input].node != NULL; }
const ma_tensor *ma_node_input(const ma_node *node, int input) { return &node->kept[input].tensor; }
const ma_tensor *ma_node_output(const ma_node *node) { return &node->kept[node->n_inputs].tensor; }
ma_tensor ma_node_take(ma_node *node, int input) {
  ma_tensor *kept = &node->kept[input].tensor, taken = ma_tensor_retain(kept);
  if (node->is_ending) {
    ma_storage_release(kept->storage);
    kept->storage = NULL;
  }
  return taken;
}

const void *ma_node_how(const ma_node *node) { return node->how; }

ma_status ma_node_give(ma_node *node, int input, ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  const ma_kept *to = &node->kept[input];
  ma_tensor view = without_copies(&to->tensor), wide = {0};
  if (!to->node) goto done;
  if (g->dtype != MA_F32) {
    MA_TRY(ma_tensor_convert(&wide, g, MA_F32, err));
    ma_tensor_release(g);
    *g = wide;
  }
  MA_TRY(sum_to(g, &view, err));
  MA_TRY(gather(to->node, &view, g, err));
done:
  ma_tensor_release(g);
  return st;
}

ma_status ma_node_into(ma_node *node, int input, ma_tensor *out, bool *adds, ma_error *err) {
  ma_status st = MA_OK;
  const ma_kept *to = &node->kept[input];
  ma_tensor *flat = gathering(to->node), place;
  *adds = flat->storage != NULL;
  if (*adds) {
    MA_TRY(make_own(flat, to->node, err));
  } else {
    MA_TRY(new_flat(flat, to->node, err));
    *adds = !ma_node_is_covered(&to->tensor, to->node->n_elements);
    if (*adds) MA_TRY(ma_fill(flat, 0, err));
  }
  place = place_in(flat, &to->tensor);
  *out = ma_tensor_retain(&place);
done:
  return st;
}

/* ---- watchers ---- */

ma_status ma_tensor_watch(const ma_tensor *t, ma_watcher *watcher, ma_error *err) {
  ma_node *node = t->storage->node;
  ma_status st = ma_resize((void **)&node->watchers, node->n_watchers + 1, sizeof *node->watchers, err);
  if (st != MA_OK) return st;
  node->watchers[node->n_watchers++] = watcher;
  return MA_OK;
}

static ma_status show_to_watchers(ma_node *node, void *context, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < node->n_watchers; i++) {
    ma_watcher *w = node->watchers[i];
    MA_TRY(make_own(&node->incoming, node, err));
    ma_tensor g = place_in(&node->incoming, ma_node_output(node));
    MA_TRY(w->visit(w, &g, context, err));
  }
done:
  return st;
}

/* ---- the walk ---- */

typedef struct list {
  ma_node **nodes;
  size_t n, capacity;
} list;

static ma_status push(list *l, ma_node *node, ma_error *err) {
  if (l->n == l->capacity) {
    size_t capacity = l->capacity ? 2 * l->capacity : 64;
    ma_status st = ma_resize((void **)&l->nodes, capacity, sizeof *l->nodes, err);
    if (st != MA_OK) return st;
    l->capacity = capacity;
  }
  l->nodes[l->n++] = node;
  return MA_OK;
}

/* Everything that `root` depends on, leaves left out: each node once, retained, with the number of its consumers. */
static ma_status collect(list *found, ma_node *root, ma_error *err) {
  ma_status st = MA_OK;
  root->is_seen = true;
  ma_node_retain(root);
  st = push(found, root, err);
  if (st != MA_OK) {
    root->is_seen = false;
    ma_node_release(root);
    return st;
  }
  for (size_t at = 0; at < found->n; at++) {
    ma_node *node = found->nodes[at];
    if (node->is_spent)
      return ma_fail(err, MA_BAD_ARGUMENT,
                     "backward has already gone through this (%s), and what it needs is freed; "
                     "the first backward wants {keep = true}",
                     node->rule->name);
    for (int i = 0; i < node->n_inputs; i++) {
      ma_node *parent = node->kept[i].node;
      if (!parent || !parent->rule) continue;
      parent->n_waiting++;
      if (parent->is_seen) continue;
      st = push(found, parent, err);
      if (st != MA_OK) {
        parent->n_waiting = 0;
        return st;
      }
      parent->is_seen = true;
      ma_node_retain(parent);
    }
  }
  return MA_OK;
}

/* Undoes what collect did. */
static void forget(list *found) {
  for (size_t i = 0; i < found->n; i++) {
    found->nodes[i]->is_seen = false;
    found->nodes[i]->n_waiting = 0;
    ma_tensor_release(&found->nodes[i]->incoming);
    ma_node_release(found->nodes[i]);
  }
  ma_free(found->nodes);
}

size_t ma_tape_bytes(const ma_tensor *t) {
  list found = {0};
  size_t bytes = 0;
  if (!ma_tensor_is_tracked(t) || !t->storage->node->rule) return 0;
  if (collect(&found, t->storage->node, NULL) == MA_OK)
    for (size_t n = 0; n < found.n; n++)
      for (int i = 0; i <= found.nodes[n]->n_inputs; i++) {
        const ma_tensor *saved = &found.nodes[n]->kept[i].tensor;
        if (saved->storage) bytes += saved->storage->bytes;
      }
  forget(&found);
  return bytes;
}

static ma_status check_saved(const ma_node *node, ma_error *err) {
  for (int i = 0; i <= node->n_inputs; i++) {
    const ma_kept *k = &node->kept[i];
    if (!k->tensor.storage || k->tensor.storage->n_writes == k->n_writes) continue;
    return ma_fail(err, MA_BAD_ARGUMENT,
                   "backward of %s: a tensor that it needs was written to since (off the tape); write "
                   "after backward, or to a clone()",
                   node->rule->name);
  }
  return MA_OK;
}

/* Hands on what has come in at one node. */
static ma_status step(ma_node *node, void *context, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor g;
  if (!node->incoming.storage) return MA_OK; /* nobody gave anything: all of it is 0 */
  if (!node->rule->grad) return ma_fail(err, MA_UNSUPPORTED, "%s has no gradient", node->rule->name);
  MA_TRY(check_saved(node, err));
  MA_TRY(show_to_watchers(node, context, err));
  if (node->keeps_grad) {
    if (!node->grad.storage) MA_TRY(ma_tensor_convert(&node->grad, &node->incoming, MA_F32, err));
    else MA_TRY(ma_binary(&node->grad, MA_BINARY_add, &node->grad, &node->incoming, err));
  }
  g = place_in(&node->incoming, ma_node_output(node));
  MA_TRY(node->rule->grad(node, &g, err));
done:
  return st;
}

/* Nodes in order: each when all its consumers have given. */
static ma_status walk(ma_node *root, bool keeps, void *context, ma_error *err) {
  ma_status st = MA_OK;
  list ready = {0};
  MA_TRY(push(&ready, root, err));
  while (ready.n > 0) {
    ma_node *node = ready.nodes[--ready.n];
    if (ma_interrupted()) MA_TRY(ma_fail(err, MA_INTERRUPTED, "interrupted on the way back"));
    node->is_ending = !keeps;
    MA_TRY(step(node, context, err));
    for (int i = 0; i < node->n_inputs; i++) {
      ma_node *parent = node->kept[i].node;
      if (parent && parent->rule && --parent->n_waiting == 0) MA_TRY(push(&ready, parent, err));
    }
    ma_tensor_release(&node->incoming);
    if (!keeps) ma_node_spend(node);
  }
done:
  ma_free(ready.nodes);
  return st;
}

ma_status ma_backward(const ma_tensor *loss, const ma_tensor *seed, bool keeps, void *context, ma_error *err) {
  ma_status st = ma_storage_check(loss->storage, err);
  list found = {0};
  ma_tensor one = {0};
  if (st != MA_OK) return st;
  if (!ma_tensor_is_tracked(loss))
    return ma_fail(err, MA_BAD_ARGUMENT, "backward: this tensor depends on nothing that requires a gradient");
  ma_node *root = loss->storage->node;
  if (!seed && ma_tensor_count(loss) != 1)
    return ma_fail(err, MA_BAD_ARGUMENT,
                   "backward wants one number, this tensor has %lld; or give it a gradient to begin with",
                   (long long)ma_tensor_count(loss));
  if (seed && !ma_tensor_same_shape(seed, loss))
    return ma_fail(err, MA_BAD_ARGUMENT, "backward: the gradient to begin with is not shaped as the tensor");
  if (seed) {
    MA_TRY(ma_tensor_convert(&one, seed, MA_F32, err));
  } else {
    MA_TRY(ma_tensor_new(&one, root->device, MA_F32, loss->n_dims, loss->shape, err));
    MA_TRY(ma_fill(&one, 1, err));
  }
  one.is_detached = true;
  if (root->rule) MA_TRY(collect(&found, root, err));
  MA_TRY(gather(root, loss, &one, err));
  ma_tensor_release(&one);
  if (root->rule) MA_TRY(walk(root, keeps, context, err));
done:
  forget(&found);
  ma_tensor_release(&one);
  return st;
}

/* ---- what the user sees ---- */

ma_status ma_tensor_grad(ma_tensor *out, const ma_tensor *t, ma_error *err) {
  *out = (ma_tensor){0};
  ma_status st = ma_storage_check(t->storage, err);
  const ma_node *node = t->storage->node;
  if (st != MA_OK || !node || !node->grad.storage) return st;
  ma_tensor view = place_in(&node->grad, t);
  view.is_detached = false;
  *out = ma_tensor_retain(&view);
  return MA_OK;
}

ma_status ma_tensor_keep_grad(const ma_tensor *t, ma_error *err) {
  if (!ma_tensor_is_tracked(t))
    return ma_fail(err, MA_BAD_ARGUMENT, "keep_grad: this tensor depends on nothing that requires a gradient");
  t->storage->node->keeps_grad = true;
  return MA_OK;
}

void ma_tensor_clear_grad(const ma_tensor *t) {
  if (t->storage->node) ma_tensor_release(&t->storage->node->grad);
}
