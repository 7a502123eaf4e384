#include "format/gguf_write.h"

#include <string.h>

enum { VERSION = 3, ALIGNMENT = 32, MAX_DIMS = 4, MAX_NAME = 63 /* ggml's names have 64 bytes */ };

/* The file is little-endian, as is every machine that massact runs on. */
static ma_status put_u32(ma_tensor_writer *w, uint32_t x, ma_error *err) {
  return ma_tensor_writer_raw(w, &x, sizeof x, err);
}
static ma_status put_u64(ma_tensor_writer *w, uint64_t x, ma_error *err) {
  return ma_tensor_writer_raw(w, &x, sizeof x, err);
}

static ma_status put_text(ma_tensor_writer *w, const char *text, size_t length, ma_error *err) {
  ma_status st = put_u64(w, length, err);
  return st == MA_OK ? ma_tensor_writer_raw(w, text, length, err) : st;
}

static ma_status put_pair(ma_tensor_writer *w, const ma_gguf_pair *pair, ma_error *err) {
  ma_status st = MA_OK;
  const ma_gguf_value *v = &pair->value;
  MA_TRY(put_text(w, pair->key, strlen(pair->key), err));
  if (v->is_array) MA_TRY(put_u32(w, MA_GGUF_ARRAY, err));
  MA_TRY(put_u32(w, v->type, err));
  if (v->is_array) MA_TRY(put_u64(w, v->n, err));
  if (v->type == MA_GGUF_STRING) {
    for (uint64_t i = 0; i < v->n; i++) MA_TRY(put_text(w, v->texts[i].data, v->texts[i].length, err));
  } else {
    MA_TRY(ma_tensor_writer_raw(w, v->data, (size_t)v->n * ma_gguf_size_of_type(v->type), err));
  }
done:
  return st;
}

/* The directory's entry of a tensor whose bytes lie at `offset`, which moves to the next one's. */
static ma_status put_entry(ma_tensor_writer *w, const char *name, const ma_tensor *t, uint64_t *offset, ma_error *err) {
  ma_status st = MA_OK;
  uint32_t type;
  MA_TRY(ma_gguf_number_of_dtype(&type, t->dtype, name, err));
  MA_TRY(put_text(w, name, strlen(name), err));
  MA_TRY(put_u32(w, (uint32_t)t->n_dims, err));
  for (int d = t->n_dims - 1; d >= 0; d--) MA_TRY(put_u64(w, (uint64_t)t->shape[d], err));
  MA_TRY(put_u32(w, type, err));
  MA_TRY(put_u64(w, *offset, err));
  *offset = (*offset + ma_tensor_bytes(t) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
done:
  return st;
}

static ma_status check(const char *const *names, const ma_tensor *layout, size_t n, ma_error *err) {
  for (size_t i = 0; i < n; i++) {
    if (strlen(names[i]) > MAX_NAME)
      return ma_fail(err, MA_UNSUPPORTED, "tensor '%s': a name in a GGUF file has at most %d bytes", names[i],
                     MAX_NAME);
    if (layout[i].n_dims > MAX_DIMS)
      return ma_fail(err, MA_UNSUPPORTED, "tensor '%s': a tensor in a GGUF file has at most %d dims", names[i],
                     MAX_DIMS);
  }
  return MA_OK;
}

ma_status ma_gguf_begin(ma_tensor_writer **out, const char *path, const ma_gguf_pair *pairs, size_t n_pairs,
                        const char *const *names, const ma_tensor *layout, size_t n, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor_writer *w = NULL;
  uint64_t offset = 0;
  *out = NULL;
  MA_TRY(check(names, layout, n, err));
  MA_TRY(ma_tensor_writer_open(&w, path, names, layout, n, ALIGNMENT, err));
  MA_TRY(ma_tensor_writer_raw(w, "GGUF", 4, err));
  MA_TRY(put_u32(w, VERSION, err));
  MA_TRY(put_u64(w, n, err));
  MA_TRY(put_u64(w, n_pairs, err));
  for (size_t i = 0; i < n_pairs; i++) MA_TRY(put_pair(w, &pairs[i], err));
  for (size_t i = 0; i < n; i++) MA_TRY(put_entry(w, names[i], &layout[i], &offset, err));
  MA_TRY(ma_tensor_writer_pad(w, err));
  *out = w;
  w = NULL;
done:
  ma_tensor_writer_close(w);
  return st;
}
