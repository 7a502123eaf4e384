/* Growing text, pieces, ids. */
#include <string.h>

#include "base/memory.h"
#include "text/text_internal.h"

/* Doubles *block until `needed` items fit. */
static ma_status grow(void **block, size_t *capacity, size_t needed, size_t size, ma_error *err) {
  if (needed <= *capacity) return MA_OK;
  size_t wanted = *capacity ? *capacity : 64;
  while (wanted < needed) wanted = wanted > SIZE_MAX / 2 ? needed : 2 * wanted;
  ma_status st = ma_resize(block, wanted, size, err);
  if (st == MA_OK) *capacity = wanted;
  return st;
}

ma_status ma_text_add(ma_text *t, const char *data, size_t length, ma_error *err) {
  ma_status st = grow((void **)&t->data, &t->capacity, t->length + length + 1, 1, err);
  if (st != MA_OK) return st;
  if (length) memcpy(t->data + t->length, data, length);
  t->length += length;
  t->data[t->length] = '\0';
  return MA_OK;
}

void ma_text_release(ma_text *t) {
  ma_free(t->data);
  *t = (ma_text){0};
}

ma_status ma_pieces_add(ma_pieces *p, size_t at, size_t length, ma_error *err) {
  if (length == 0) return MA_OK;
  ma_status st = grow((void **)&p->spans, &p->capacity, p->n + 1, sizeof *p->spans, err);
  if (st == MA_OK) p->spans[p->n++] = (ma_span){at, length};
  return st;
}

void ma_pieces_release(ma_pieces *p) {
  ma_text_release(&p->text);
  ma_free(p->spans);
  *p = (ma_pieces){0};
}

ma_status ma_ids_add(ma_ids *out, int32_t id, ma_error *err) {
  ma_status st = grow((void **)&out->ids, &out->capacity, out->n + 1, sizeof *out->ids, err);
  if (st == MA_OK) out->ids[out->n++] = id;
  return st;
}
