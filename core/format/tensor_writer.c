#include "format/tensor_writer.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "tensor/backend.h"
#include "tensor/ops.h"

typedef struct announced {
  char *name;
  ma_dtype dtype;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
} announced;

struct ma_tensor_writer {
  ma_writer *writer;
  char *path;
  announced *tensors;
  size_t n, next;
  size_t written, alignment; /* bytes */
};

ma_status ma_tensor_writer_open(ma_tensor_writer **out, const char *path, const char *const *names,
                                const ma_tensor *layout, size_t n, size_t alignment, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor_writer *w = NULL;
  *out = NULL;
  MA_TRY(MA_NEW(&w, 1, err));
  MA_TRY(ma_strdup(&w->path, path, err));
  MA_TRY(MA_NEW(&w->tensors, n, err));
  w->n = n;
  w->alignment = alignment;
  for (size_t i = 0; i < n; i++) {
    MA_TRY(ma_strdup(&w->tensors[i].name, names[i], err));
    w->tensors[i].dtype = layout[i].dtype;
    w->tensors[i].n_dims = layout[i].n_dims;
    memcpy(w->tensors[i].shape, layout[i].shape, sizeof layout[i].shape);
  }
  MA_TRY(ma_writer_open(&w->writer, path, err));
  *out = w;
  w = NULL;
done:
  ma_tensor_writer_close(w);
  return st;
}

void ma_tensor_writer_close(ma_tensor_writer *w) {
  if (!w) return;
  ma_writer_close(w->writer);
  for (size_t i = 0; w->tensors && i < w->n; i++) ma_free(w->tensors[i].name);
  ma_free(w->tensors);
  ma_free(w->path);
  ma_free(w);
}

ma_status ma_tensor_writer_raw(ma_tensor_writer *w, const void *data, size_t bytes, ma_error *err) {
  w->written += bytes;
  return ma_writer_write(w->writer, data, bytes, err);
}

ma_status ma_tensor_writer_pad(ma_tensor_writer *w, ma_error *err) {
  static const char zeros[64];
  ma_status st = MA_OK;
  while (st == MA_OK && w->written % w->alignment != 0) {
    size_t missing = w->alignment - w->written % w->alignment;
    st = ma_tensor_writer_raw(w, zeros, missing < sizeof zeros ? missing : sizeof zeros, err);
  }
  return st;
}

/* ---- tensors ---- */

static ma_status check_announced(const ma_tensor_writer *w, const char *name, const ma_tensor *t, ma_error *err) {
  char has[MA_SHAPE_TEXT], wants[MA_SHAPE_TEXT];
  if (w->next == w->n) return ma_fail(err, MA_BAD_ARGUMENT, "'%s': tensor '%s' was not announced", w->path, name);
  const announced *a = &w->tensors[w->next];
  if (strcmp(a->name, name) == 0 && a->dtype == t->dtype && a->n_dims == t->n_dims &&
      memcmp(a->shape, t->shape, (size_t)t->n_dims * sizeof *t->shape) == 0)
    return MA_OK;
  return ma_fail(err, MA_BAD_ARGUMENT, "'%s': tensor '%s' is %s %s where '%s', %s %s, was announced", w->path, name,
                 ma_dtype_describe(t->dtype)->name, ma_shape_text(has, t->n_dims, t->shape), a->name,
                 ma_dtype_describe(a->dtype)->name, ma_shape_text(wants, a->n_dims, a->shape));
}

ma_status ma_tensor_writer_add(ma_tensor_writer *w, const char *name, const ma_tensor *t, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor packed = {0};
  MA_TRY(ma_storage_check(t->storage, err));
  MA_TRY(check_announced(w, name, t, err));
  ma_tensor plain = *t; /* files have no gradient */
  plain.is_detached = true;
  if (ma_tensor_device(t) != ma_device_cpu()) MA_TRY(ma_tensor_move(&packed, &plain, ma_device_cpu(), err));
  else if (ma_tensor_is_contiguous(t)) packed = ma_tensor_retain(t);
  else MA_TRY(ma_tensor_convert(&packed, &plain, t->dtype, err));
  MA_TRY(ma_tensor_writer_pad(w, err));
  MA_TRY(ma_tensor_writer_raw(w, ma_tensor_data(&packed), ma_tensor_bytes(&packed), err));
  w->next++;
done:
  ma_tensor_release(&packed);
  return st;
}

ma_status ma_tensor_writer_commit(ma_tensor_writer *w, ma_error *err) {
  if (w->next < w->n)
    return ma_fail(err, MA_BAD_ARGUMENT, "'%s': tensor '%s' was announced and not written", w->path,
                   w->tensors[w->next].name);
  ma_status st = ma_tensor_writer_pad(w, err);
  return st == MA_OK ? ma_writer_commit(w->writer, err) : st;
}
