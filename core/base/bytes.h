/* Arithmetic on what a file says, which may be anything: products and sums that report overflow,
 * and a cursor whose every read knows how much is left. */
#ifndef MASSACT_BASE_BYTES_H
#define MASSACT_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* True, and *out set, when the result fits. */
static inline bool ma_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
  if (a != 0 && b > UINT64_MAX / a) return false;
  *out = a * b;
  return true;
}

static inline bool ma_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
  if (b > UINT64_MAX - a) return false;
  *out = a + b;
  return true;
}

static inline bool ma_mul_size(size_t a, size_t b, size_t *out) {
  if (a != 0 && b > SIZE_MAX / a) return false;
  *out = a * b;
  return true;
}

/* A position in [data, data + size).  Reads are little-endian and unaligned-safe; a read past the
 * end returns false and moves nothing. */
typedef struct ma_cursor {
  const uint8_t *data;
  size_t size, at;
} ma_cursor;

static inline size_t ma_cursor_left(const ma_cursor *c) { return c->size - c->at; }

static inline bool ma_cursor_take(ma_cursor *c, size_t bytes, const uint8_t **out) {
  if (bytes > ma_cursor_left(c)) return false;
  *out = c->data + c->at;
  c->at += bytes;
  return true;
}

static inline bool ma_cursor_read(ma_cursor *c, void *out, size_t bytes) {
  const uint8_t *from;
  if (!ma_cursor_take(c, bytes, &from)) return false;
  memcpy(out, from, bytes);
  return true;
}

static inline bool ma_cursor_u32(ma_cursor *c, uint32_t *out) { return ma_cursor_read(c, out, 4); }
static inline bool ma_cursor_u64(ma_cursor *c, uint64_t *out) { return ma_cursor_read(c, out, 8); }

#endif
