#include "model/capture.h"

#include "base/memory.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

static ma_captured *find(ma_capture *c, ma_place place) {
  for (size_t i = 0; i < c->n_seen; i++)
    if (c->seen[i].place.point == place.point && c->seen[i].place.layer == place.layer) return &c->seen[i];
  return NULL;
}

static ma_status visit(ma_visitor *self, ma_tensor *x, const ma_at *at, ma_error *err) {
  ma_capture *c = (ma_capture *)self;
  ma_captured *old = find(c, at->place);
  ma_tensor copy = {0};
  ma_status st = MA_OK;
  /* On the tape the tensor itself, whose gradient is the point's. */
  if (c->is_recorded) {
    st = ma_tensor_begin(x, err);
    if (st == MA_OK) st = ma_tensor_keep_grad(x, err);
    if (st == MA_OK) copy = ma_tensor_retain(x);
  } else {
    st = ma_tensor_convert(&copy, x, x->dtype, err);
  }
  if (st != MA_OK) return st;
  if (old) {
    ma_tensor_release(&old->tensor);
    old->tensor = copy;
    return MA_OK;
  }
  if (c->n_seen == c->capacity) {
    size_t capacity = c->capacity ? 2 * c->capacity : 8;
    st = ma_resize((void **)&c->seen, capacity, sizeof *c->seen, err);
    if (st != MA_OK) {
      ma_tensor_release(&copy);
      return st;
    }
    c->capacity = capacity;
  }
  c->seen[c->n_seen++] = (ma_captured){at->place, copy};
  return MA_OK;
}

void ma_capture_init(ma_capture *c) { *c = (ma_capture){.visitor = {.visit = visit}}; }

void ma_capture_release(ma_capture *c) {
  for (size_t i = 0; i < c->n_seen; i++) ma_tensor_release(&c->seen[i].tensor);
  ma_free(c->seen);
  ma_capture_init(c);
}
