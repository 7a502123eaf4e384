/* Tensor: a dtype, a shape and strides over a shared storage.
 *
 * A ma_tensor is a small value; what it holds is one reference to its storage.  Functions that "make"
 * a tensor fill *out with a reference that the caller drops with ma_tensor_release.  A zeroed
 * ma_tensor is "no tensor"; releasing it is fine.  Dims, indices and offsets count from 0.
 * Block dtypes (GGUF) keep whole rows: the last dim is contiguous, only outer dims may be strided. */
#ifndef MASSACT_TENSOR_TENSOR_H
#define MASSACT_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/dtype.h"
#include "tensor/storage.h"

enum { MA_MAX_DIMS = 8, MA_SHAPE_TEXT = 160 };

typedef struct ma_tensor {
  ma_storage *storage;
  ma_dtype dtype;
  int n_dims; /* 0: a scalar */
  int64_t shape[MA_MAX_DIMS];
  int64_t strides[MA_MAX_DIMS]; /* in elements */
  int64_t offset;               /* in elements from the storage's start */
  bool is_detached; /* what is computed from it is not recorded on the tape (tape.h), nor are writes to it */
} ma_tensor;

/* ---- making and dropping ---- */

/* New contiguous memory on `device`, not initialised.  Negative sizes and overflow fail. */
ma_status ma_tensor_new(ma_tensor *out, ma_device *device, ma_dtype dtype, int n_dims, const int64_t *shape,
                        ma_error *err);
/* New memory shaped as `like`, contiguous. */
ma_status ma_tensor_new_like(ma_tensor *out, const ma_tensor *like, ma_dtype dtype, ma_error *err);
/* A contiguous tensor over the start of `storage` (retained), checked against its size. */
ma_status ma_tensor_over(ma_tensor *out, ma_storage *storage, size_t byte_offset, ma_dtype dtype, int n_dims,
                         const int64_t *shape, ma_error *err);
/* Another reference to the same view. */
ma_tensor ma_tensor_retain(const ma_tensor *t);
void ma_tensor_release(ma_tensor *t);

/* ---- asking ---- */

int64_t ma_tensor_count(const ma_tensor *t); /* elements */
size_t ma_tensor_bytes(const ma_tensor *t);  /* as contiguous memory */
bool ma_tensor_is_contiguous(const ma_tensor *t);
bool ma_tensor_same_shape(const ma_tensor *a, const ma_tensor *b);
/* First element; valid for CPU tensors and for a device's own kernels. */
void *ma_tensor_data(const ma_tensor *t);
ma_device *ma_tensor_device(const ma_tensor *t);
/* No size is negative, and their product (zeros left out) and all strides fit in 64 bits with room to spare. */
bool ma_shape_fits(int n_dims, const int64_t *shape);
/* "[2 x 7 x 64]", into `text`, which is returned. */
const char *ma_shape_text(char text[MA_SHAPE_TEXT], int n_dims, const int64_t *shape);

/* ---- views: share storage; *out is new (release it); `out` may be `t` only where said ---- */

ma_status ma_tensor_reshape(ma_tensor *out, const ma_tensor *t, int n_dims, const int64_t *shape,
                            ma_error *err); /* one -1 allowed; fails where a copy would be needed */
ma_status ma_tensor_transpose(ma_tensor *out, const ma_tensor *t, int dim_a, int dim_b, ma_error *err);
ma_status ma_tensor_permute(ma_tensor *out, const ma_tensor *t, const int *order, ma_error *err);
/* [start, start + length) of `dim`. */
ma_status ma_tensor_narrow(ma_tensor *out, const ma_tensor *t, int dim, int64_t start, int64_t length, ma_error *err);
/* Index `dim` away. */
ma_status ma_tensor_select(ma_tensor *out, const ma_tensor *t, int dim, int64_t index, ma_error *err);
/* Broadcast to `shape`: dims of size 1 (and missing leading dims) get stride 0. */
ma_status ma_tensor_expand(ma_tensor *out, const ma_tensor *t, int n_dims, const int64_t *shape, ma_error *err);

/* ---- single elements, as double (exact for all but i64 above 2^53); waits for the device ---- */

ma_status ma_tensor_get(double *out, const ma_tensor *t, const int64_t *index, ma_error *err);
ma_status ma_tensor_set(ma_tensor *t, const int64_t *index, double value, ma_error *err);

#endif
