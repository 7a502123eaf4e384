/* Checkpoints written a tensor at a time, so that a model larger than memory can be.  A format's header says
 * first what will come; the file appears, whole, with the commit. */
#ifndef MASSACT_FORMAT_TENSOR_WRITER_H
#define MASSACT_FORMAT_TENSOR_WRITER_H

#include <stddef.h>

#include "base/status.h"
#include "tensor/tensor.h"

typedef struct ma_tensor_writer ma_tensor_writer;

/* What will be written: `n` names with the dtype and shape of each (their storage is not looked at), all copied.
 * Every tensor begins at a multiple of `alignment` bytes.  *out is new (ma_tensor_writer_close). */
ma_status ma_tensor_writer_open(ma_tensor_writer **out, const char *path, const char *const *names,
                                const ma_tensor *layout, size_t n, size_t alignment, ma_error *err);
/* Bytes of the header. */
ma_status ma_tensor_writer_raw(ma_tensor_writer *w, const void *data, size_t bytes, ma_error *err);
/* Zeros up to the next multiple of the alignment. */
ma_status ma_tensor_writer_pad(ma_tensor_writer *w, ma_error *err);
/* The next tensor (CPU, any strides): it must have the name, dtype and shape that were announced. */
ma_status ma_tensor_writer_add(ma_tensor_writer *w, const char *name, const ma_tensor *t, ma_error *err);
/* After the last tensor: flushes and renames. */
ma_status ma_tensor_writer_commit(ma_tensor_writer *w, ma_error *err);
/* Without commit nothing is left behind.  NULL is fine. */
void ma_tensor_writer_close(ma_tensor_writer *w);

#endif
