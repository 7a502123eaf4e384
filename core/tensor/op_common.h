/* What every operation does before its kernel: inputs alive and on one device, the output made or checked. */
#ifndef MASSACT_TENSOR_OP_COMMON_H
#define MASSACT_TENSOR_OP_COMMON_H

#include "tensor/backend.h"
#include "tensor/tape.h"

/* A call in progress: names the operation in messages, and drops the output again on failure. */
typedef struct ma_op {
  const char *name;
  ma_device *device; /* of the first input seen */
  ma_tensor *out;    /* what the kernel writes to */
  ma_tensor *given;  /* the caller's output */
  bool has_made;     /* the output is this call's own */
  bool is_tracked;   /* an input is */
  bool is_in_place;  /* the caller's output is an input */
  bool is_recorded;  /* the output goes on the tape */
  ma_tensor made;    /* the output of a recorded call whose caller gave one: written there at the end */
  ma_error *err;
} ma_op;

static inline ma_op ma_op_begin(const char *name, ma_tensor *out, ma_error *err) {
  return (ma_op){.name = name, .out = out, .given = out, .err = err};
}

/* `t` may be NULL (an optional input). */
ma_status ma_op_input(ma_op *op, const ma_tensor *t);
/* As ma_op_input, and a plain type: block types have to be converted first. */
ma_status ma_op_plain(ma_op *op, const ma_tensor *t);
/* Makes the output, or checks the one that was given.  From here on it is op->out: a recorded call has one of its own. */
ma_status ma_op_output(ma_op *op, ma_dtype dtype, int n_dims, const int64_t *shape);
/* The same for a row whose kernels round f32 results once, when they store them: an output that is given may be f32, f16 or bf16,
 * and "no tensor" may say in its dtype which of them it is to become (a zeroed one says f32).  `dtype` is what the row gives where
 * nobody says anything: of integers and flags there is no choice. */
ma_status ma_op_output_float(ma_op *op, ma_dtype dtype, int n_dims, const int64_t *shape);
/* The same for a call whose output exists and is written to, whatever was there. */
ma_status ma_op_overwrite(ma_op *op);
/* After the kernel, puts the output on the tape where that is called for.  `reads`: see ma_record. */
#define ma_op_record(op, rule_, reads_, how_, how_bytes_, ...)                                                  \
  ma_op_note((op), &(ma_record){(rule_), sizeof((const ma_tensor *const[]){__VA_ARGS__}) / sizeof(ma_tensor *), \
                                (const ma_tensor *const[]){__VA_ARGS__}, (reads_), (how_), (how_bytes_)})
ma_status ma_op_note(ma_op *op, const ma_record *record);
/* `t` as an input that writing to `out` cannot change while it is read: `t` itself, or a copy of it in *held (released by
 * the caller) where their elements interleave and they are not the same view. */
ma_status ma_op_unalias(const ma_tensor **as, ma_tensor *held, const ma_tensor *out, const ma_tensor *t, ma_error *err);
/* Fails with both shapes: "linear: [..] does not fit [..]". */
ma_status ma_op_misfit(const ma_op *op, const ma_tensor *a, const ma_tensor *b);
/* Ends the call: the status, after cleaning up. */
ma_status ma_op_end(ma_op *op, ma_status st);
ma_status ma_op_lacks_kernel(const ma_op *op);

/* ma_op_run(op, kernel, arguments): dispatches to the device's backend. */
#define ma_op_run(op, kernel, ...)                                                              \
  ((op)->device->backend->kernels->kernel ? (op)->device->backend->kernels->kernel(__VA_ARGS__) \
                                          : ma_op_lacks_kernel(op))

/* Shape of two tensors broadcast against each other. */
ma_status ma_op_broadcast(const ma_op *op, int *n_dims, int64_t *shape, const ma_tensor *a, const ma_tensor *b);

#endif
