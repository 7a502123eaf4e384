/* What the files of the CUDA backend share, C (device.c, blas.c) and C++ (the .cu files) alike.
 *
 * Everything that a device does runs on its one stream, in order, so that nothing waits: the host does when it downloads or
 * asks for sync, and there alone.  What a kernel finds wrong in its data (an id outside a table) is noted on the device and
 * reported then. */
#ifndef MASSACT_BACKEND_CUDA_INTERNAL_H
#define MASSACT_BACKEND_CUDA_INTERNAL_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "tensor/backend.h"

/* One kernel for each row of ops.def; device.c puts them in the table. */
#define MA_OP(name, params, doc) ma_status ma_cuda_##name params;
#include "tensor/ops.def"
#undef MA_OP

/* ---- what kernels find wrong in their data: MA_COMPLAINT(name, message), which names the value and the bound ---- */

#define MA_COMPLAINTS(MA_COMPLAINT)                                                   \
  MA_COMPLAINT(gather, "gather: index %lld is outside the %lld of its dim")           \
  MA_COMPLAINT(scatter_add, "scatter_add: index %lld is outside the %lld of its dim") \
  MA_COMPLAINT(add_rows, "add_rows: row %lld is outside the %lld of the sum")         \
  MA_COMPLAINT(embed, "embed: id %lld is outside the table of %lld")                  \
  MA_COMPLAINT(target, "cross_entropy: target %lld is outside the vocabulary of %lld")

typedef enum ma_complaint_kind {
  MA_COMPLAINT_none,
#define MA_COMPLAINT(name, message) MA_COMPLAINT_##name,
  MA_COMPLAINTS(MA_COMPLAINT)
#undef MA_COMPLAINT
} ma_complaint_kind;

/* In host memory that the device sees; kernels write (launch.cuh, complain), the host reads once the stream is idle. */
typedef struct ma_complaint {
  int kind; /* ma_complaint_kind; the last to write wins */
  long long value, bound;
} ma_complaint;

/* ---- a device ---- */

enum { MA_CUDA_WORKSPACE = 32 << 20 }; /* bytes that cuBLASLt may use (what NVIDIA advises for sm_90) */

/* The state behind ma_device. */
typedef struct ma_cuda {
  cudaStream_t stream;
  int n_processors;
  int shared_bytes;        /* most shared memory that a block may ask for */
  ma_complaint *complaint; /* as the host sees it, and as the device does */
  ma_complaint *device_complaint;
  void *blas, *workspace;            /* cuBLASLt's handle and memory, made with the first product */
  struct ma_cuda_products *products; /* those that have been described to it (blas.c) */
} ma_cuda;

static inline ma_cuda *ma_cuda_state(const ma_device *device) { return (ma_cuda *)device->state; }

/* How many GPUs can be used; 0 without a driver, `problem` (NULL or a text that lives as long as the process) says why. */
int ma_cuda_count(const char **problem);
/* GPU `index` as a device, opened with the first call. */
ma_status ma_cuda_open(ma_device **out, int index, ma_error *err);

/* MA_OK, or a failure that names device and call.  "Out of memory" is MA_NO_MEMORY. */
ma_status ma_cuda_check(const ma_device *device, cudaError_t code, const char *what, ma_error *err);
/* Makes the device the one that this thread's CUDA calls mean. */
ma_status ma_cuda_use(const ma_device *device, ma_error *err);

/* Memory for the time of one operation, taken and given back in the stream's order: the next kernel may have it again. */
ma_status ma_cuda_alloc(ma_device *device, void **out, size_t bytes, ma_error *err);
void ma_cuda_free(ma_device *device, void *data);

#ifdef __cplusplus
}
#endif

#endif
