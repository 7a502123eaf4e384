/* Recording: nodes are made here, and die here.  The way back is in backward.c. */
#include "tensor/tape.h"

#include <string.h>

#include "base/memory.h"
#include "tensor/backend.h"
#include "tensor/tape_internal.h"

/* ---- nodes ---- */

ma_status ma_node_new(ma_node **out, const ma_tensor *of, const ma_rule *rule, int n_inputs, ma_error *err) {
  ma_node *node;
  ma_status st = MA_NEW(&node, 1, err);
  if (st != MA_OK) return st;
  st = MA_NEW(&node->kept, n_inputs + 1, err);
  if (st != MA_OK) {
    ma_free(node);
    return st;
  }
  node->n_refs = 1;
  node->rule = rule;
  node->n_inputs = n_inputs;
  node->kept[n_inputs].tensor = *of;
  node->kept[n_inputs].tensor.storage = NULL;
  node->device = of->storage->device;
  node->n_elements = (int64_t)(of->storage->bytes / ma_dtype_describe(of->dtype)->bytes);
  *out = node;
  return MA_OK;
}

void ma_node_retain(ma_node *node) { atomic_fetch_add(&node->n_refs, 1); }

static bool is_last(ma_node *node) { return node && atomic_fetch_sub(&node->n_refs, 1) == 1; }

static void drop_how(ma_node *node) {
  if (node->rule && node->rule->drop && !node->is_spent) node->rule->drop(node->how);
}

/* A long chain dies link by link, not by recursion. */
void ma_node_release(ma_node *node) {
  ma_node *dying = is_last(node) ? node : NULL;
  while (dying) {
    ma_node *dead = dying;
    dying = dead->next;
    for (int i = 0; i <= dead->n_inputs; i++) {
      ma_node *parent = dead->kept[i].node;
      ma_tensor_release(&dead->kept[i].tensor);
      if (!is_last(parent)) continue;
      parent->next = dying;
      dying = parent;
    }
    for (size_t i = 0; i < dead->n_watchers; i++) dead->watchers[i]->close(dead->watchers[i]);
    drop_how(dead);
    ma_tensor_release(&dead->grad);
    ma_tensor_release(&dead->incoming);
    ma_free(dead->watchers);
    ma_free(dead->kept);
    ma_free(dead);
  }
}

void ma_node_spend(ma_node *node) {
  drop_how(node);
  for (int i = 0; i <= node->n_inputs; i++) {
    ma_tensor_release(&node->kept[i].tensor);
    ma_node_release(node->kept[i].node);
    node->kept[i] = (ma_kept){0};
  }
  node->is_spent = true;
}

/* ---- leaves ---- */

bool ma_tensor_is_leaf(const ma_tensor *t) { return t->storage->node && !t->storage->node->rule; }

ma_status ma_tensor_require_grad(ma_tensor *t, bool on, ma_error *err) {
  ma_status st = ma_storage_check(t->storage, err);
  ma_storage *s = t->storage;
  if (st != MA_OK) return st;
  if (s->node && s->node->rule)
    return ma_fail(err, MA_BAD_ARGUMENT,
                   "this tensor was computed (%s); only one that was not can begin or stop to require a "
                   "gradient: detach() or clone() it",
                   s->node->rule->name);
  if (!on) {
    ma_node_release(s->node);
    s->node = NULL;
    return MA_OK;
  }
  if (s->node) return MA_OK;
  if (!ma_dtype_is_float(t->dtype))
    return ma_fail(err, MA_BAD_ARGUMENT, "a tensor of %s has no gradient; floats have",
                   ma_dtype_describe(t->dtype)->name);
  if (s->lender[0])
    return ma_fail(err, MA_BAD_ARGUMENT, "memory of a pass (%s) cannot require a gradient; clone() it", s->lender);
  st = ma_node_new(&s->node, t, NULL, 0, err);
  if (st == MA_OK) s->node->keeps_grad = true;
  return st;
}

static ma_status nothing_more(ma_node *node, const ma_tensor *g, ma_error *err) {
  (void)node;
  (void)g;
  (void)err;
  return MA_OK;
}

static const ma_rule beginning = {.name = "a beginning", .grad = nothing_more};

ma_status ma_tensor_begin(ma_tensor *t, ma_error *err) {
  ma_status st = ma_storage_check(t->storage, err);
  if (st != MA_OK || t->storage->node) return st;
  return ma_node_new(&t->storage->node, t, &beginning, 0, err);
}

/* ---- what is saved ---- */

/* The elements of `t`, held so that later recorded writes do not reach them. */
static ma_status save(ma_kept *kept, const ma_tensor *t, ma_error *err) {
  ma_storage *s = t->storage;
  if (s->lender[0]) return ma_tensor_convert(&kept->tensor, t, t->dtype, err); /* it is the pass's, and dies with it */
  ma_status st = ma_storage_split(s, err);
  if (st != MA_OK) return st;
  kept->tensor.storage = ma_storage_retain(s->base);
  kept->n_writes = atomic_load(&s->base->n_writes);
  return MA_OK;
}

/* Where it lies, and who wants its gradient. */
static void note(ma_kept *kept, const ma_tensor *t) {
  kept->tensor = *t;
  kept->tensor.storage = NULL;
  kept->tensor.is_detached = false;
  if (!ma_tensor_is_tracked(t)) return;
  kept->node = t->storage->node;
  ma_node_retain(kept->node);
}

ma_status ma_tape_record(ma_tensor *out, const ma_record *r, ma_error *err) {
  ma_status st = MA_OK;
  ma_node *node = NULL;
  bool is_tracked = false;
  for (int i = 0; i < r->n; i++) is_tracked |= r->inputs[i] && ma_tensor_is_tracked(r->inputs[i]);
  if (!is_tracked) return MA_OK;
  MA_TRY(ma_node_new(&node, out, r->rule, r->n, err));
  if (r->how_bytes > MA_HOW_BYTES)
    MA_TRY(ma_fail(err, MA_UNSUPPORTED, "%s: %zu bytes of settings", r->rule->name, r->how_bytes));
  for (int i = 0; i <= r->n; i++) {
    const ma_tensor *t = i < r->n ? r->inputs[i] : out;
    if (!t) continue;
    if (i < r->n) note(&node->kept[i], t);
    if (r->reads >> i & 1u) MA_TRY(save(&node->kept[i], t, err));
  }
  MA_TRY(ma_storage_split(out->storage, err));
  if (r->how) memcpy(node->how, r->how, r->how_bytes);
  out->storage->node = node;
  node = NULL;
done:
  ma_node_release(node);
  return st;
}

ma_status ma_node_input_leaf(ma_tensor *out, const ma_node *node, int input, ma_error *err) {
  *out = node->kept[input].tensor;
  ma_status st = ma_storage_alias(&out->storage, node->kept[input].tensor.storage, err);
  if (st != MA_OK) {
    *out = (ma_tensor){0};
    return st;
  }
  st = ma_tensor_require_grad(out, true, err);
  if (st != MA_OK) ma_tensor_release(out);
  return st;
}

/* ---- writes ---- */

/* The gradient of what was written over is 0; that of what was written is handed to where it came from. */
static ma_status write_grad(ma_node *node, const ma_tensor *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor share = {0}, rest = {0}, hole = {0};
  if (ma_node_wants(node, 1)) {
    MA_TRY(ma_tensor_convert(&share, g, MA_F32, err));
    MA_TRY(ma_node_give(node, 1, &share, err));
  }
  if (ma_node_wants(node, 0)) {
    MA_TRY(ma_tensor_convert(&rest, &node->incoming, MA_F32, err));
    hole = node->kept[2].tensor;
    hole.dtype = MA_F32;
    hole.storage = rest.storage;
    MA_TRY(ma_fill(&hole, 0, err));
    MA_TRY(ma_node_give(node, 0, &rest, err));
  }
done:
  ma_tensor_release(&share);
  ma_tensor_release(&rest);
  return st;
}

static const ma_rule write_rule = {.name = "a write", .grad = write_grad};

/* All of a storage's elements. */
static ma_tensor whole_of(ma_storage *s, ma_dtype dtype) {
  int64_t n = (int64_t)(s->bytes / ma_dtype_describe(dtype)->bytes);
  return (ma_tensor){.storage = s, .dtype = dtype, .n_dims = 1, .shape = {n}, .strides = {1}};
}

/* Other bytes for the storage, where the present ones are needed as they are. */
static ma_status make_writable(ma_storage *s, ma_dtype dtype, bool keeps_elements, ma_error *err) {
  ma_tensor old, copy = {0};
  ma_status st = ma_storage_split(s, err);
  if (st != MA_OK || s->base->n_refs == 1) return st;
  old = whole_of(s->base, dtype);
  st = keeps_elements ? ma_tensor_convert(&copy, &old, dtype, err) : ma_tensor_new_like(&copy, &old, dtype, err);
  if (st != MA_OK) return st;
  ma_storage_release(s->base);
  s->base = copy.storage;
  s->data = copy.storage->data;
  return MA_OK;
}

bool ma_node_is_covered(const ma_tensor *t, int64_t n_elements) {
  if (ma_tensor_count(t) != n_elements) return false;
  for (int i = 0; i < t->n_dims; i++)
    if (t->shape[i] > 1 && t->strides[i] == 0) return false;
  return true;
}

ma_status ma_tape_write(ma_tensor *out, const ma_tensor *value, ma_error *err) {
  ma_status st = MA_OK;
  ma_node *node = NULL;
  ma_storage *s = out->storage;
  ma_tensor raw = *out, before = whole_of(s, out->dtype), from = *value;
  if (s->node && !s->node->rule)
    return ma_fail(err, MA_BAD_ARGUMENT,
                   "a tensor that requires a gradient cannot be written to on the tape; "
                   "do it within massact.no_grad, or write to a clone()");
  bool is_all = ma_node_is_covered(out, before.shape[0]);
  MA_TRY(ma_node_new(&node, out, &write_rule, 2, err));
  if (!is_all) note(&node->kept[0], &before);
  note(&node->kept[1], value);
  if (s->lender[0]) MA_TRY(ma_storage_split(s, err));
  else MA_TRY(make_writable(s, out->dtype, !is_all, err));
  raw.is_detached = from.is_detached = true;
  MA_TRY(ma_copy(&raw, &from, err));
  ma_node_release(s->node);
  s->node = NULL;
  if (!node->kept[0].node && !node->kept[1].node) goto done;
  s->node = node;
  node = NULL;
done:
  ma_node_release(node);
  return st;
}
