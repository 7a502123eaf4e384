/* Capture: the visitor that keeps a copy of what it is shown. */
#ifndef MASSACT_MODEL_CAPTURE_H
#define MASSACT_MODEL_CAPTURE_H

#include "model/visitors.h"

typedef struct ma_captured {
  ma_place place;
  ma_tensor tensor; /* contiguous copy, on the pass's device; or the tensor itself */
} ma_captured;

typedef struct ma_capture {
  ma_visitor visitor;
  ma_captured *seen; /* in the order of the visits; a place seen again replaces its tensor */
  size_t n_seen, capacity;
  bool is_recorded; /* in a recorded pass: no copies, and gradients are kept */
} ma_capture;

void ma_capture_init(ma_capture *capture);
void ma_capture_release(ma_capture *capture);

#endif
