/* What a backend provides: memory on its devices, and one kernel for each row of ops.def.
 * No scheduler, no silent copies: a tensor says where it is, mixing devices is an error. */
#ifndef MASSACT_TENSOR_BACKEND_H
#define MASSACT_TENSOR_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/ops.h"

/* One pointer a row; NULL means that the backend lacks the kernel, which is reported by name. */
typedef struct ma_kernels {
#define MA_OP(name, params, doc) ma_status(*name) params;
#include "tensor/ops.def"
#undef MA_OP
} ma_kernels;

typedef struct ma_backend {
  const char *name;  /* "cpu", "cuda" */
  bool keeps_16_bit; /* a 16-bit model's weights and activations stay in 16 bits; arithmetic is in f32 all the same */
  ma_status (*alloc)(ma_device *device, void **out, size_t bytes, ma_error *err);
  void (*free)(ma_device *device, void *data);
  /* Between host memory and the device's; both wait until the bytes are there. */
  ma_status (*upload)(ma_device *device, void *to, const void *from, size_t bytes, ma_error *err);
  ma_status (*download)(ma_device *device, void *to, const void *from, size_t bytes, ma_error *err);
  ma_status (*sync)(ma_device *device, ma_error *err);
  /* Free and total bytes. */
  ma_status (*memory)(ma_device *device, uint64_t *free_bytes, uint64_t *total_bytes, ma_error *err);
  const ma_kernels *kernels;
} ma_backend;

struct ma_device {
  const ma_backend *backend;
  int index;
  char name[64];      /* "cpu", "cuda:0" */
  char hardware[256]; /* what its maker calls it; empty: nobody asked */
  bool allows_tf32;   /* products of f32 may round what they multiply to 10 bits of fraction; off unless asked for */
  void *state;        /* the backend's own */
};

/* The device that `name` ("cpu", "cuda", "cuda:1", "auto") means: "auto" is what the environment's MASSACT_DEVICE names, else a
 * GPU where there is one.  Devices live as long as the process; the pointer is borrowed. */
ma_status ma_device_find(ma_device **out, const char *name, ma_error *err);
ma_device *ma_device_cpu(void);

#endif
