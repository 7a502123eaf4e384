/* malloc with checked products, and the countdown that fault-injection tests set. */
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"

#ifdef MASSACT_FAULTS
#include <stdatomic.h>

/* Test builds only: what makes the n-th allocation fail has to be reachable from every allocation. */
static atomic_long countdown = -1;
static atomic_long live;

void ma_fault_allocations_after(long n) { countdown = n; }
long ma_live_allocations(void) { return live; }

static int fails_now(void) {
  long left = countdown;
  if (left < 0) return 0;
  if (left > 0) countdown = left - 1;
  return left == 0;
}
static void *counted(void *block) {
  if (block) live++;
  return block;
}
static void uncount(const void *block) {
  if (block) live--;
}
#else
static int fails_now(void) { return 0; }
static void *counted(void *block) { return block; }
static void uncount(const void *block) { (void)block; }
#endif

static ma_status out_of_memory(ma_error *err, size_t bytes) {
  return ma_fail(err, MA_NO_MEMORY, "out of memory: %zu bytes wanted", bytes);
}

ma_status ma_alloc(void **out, size_t count, size_t size, ma_error *err) {
  size_t bytes = SIZE_MAX;
  *out = NULL;
  if (!ma_mul_size(count, size, &bytes) || fails_now()) return out_of_memory(err, bytes);
  *out = counted(calloc(bytes ? bytes : 1, 1));
  return *out ? MA_OK : out_of_memory(err, bytes);
}

ma_status ma_resize(void **block, size_t count, size_t size, ma_error *err) {
  size_t bytes = SIZE_MAX;
  if (!ma_mul_size(count, size, &bytes) || fails_now()) return out_of_memory(err, bytes);
  void *grown = realloc(*block, bytes ? bytes : 1);
  if (!grown) return out_of_memory(err, bytes);
  if (!*block) counted(grown);
  *block = grown;
  return MA_OK;
}

ma_status ma_alloc_aligned(void **out, size_t bytes, ma_error *err) {
  enum { LINE = 64, HUGE_PAGE = 2 << 20 };
  *out = NULL;
  if (bytes > SIZE_MAX - HUGE_PAGE || fails_now()) return out_of_memory(err, bytes);
  size_t alignment = bytes >= 16 * (size_t)HUGE_PAGE ? HUGE_PAGE : LINE;
  size_t rounded = (bytes + alignment - 1) / alignment * alignment; /* as C11 7.22.3.1 wants */
  *out = counted(aligned_alloc(alignment, rounded ? rounded : LINE));
  if (!*out) return out_of_memory(err, bytes);
  if (alignment == HUGE_PAGE) madvise(*out, rounded, MADV_HUGEPAGE); /* a wish; refusal is fine */
  return MA_OK;
}

void ma_free(void *block) {
  uncount(block);
  free(block);
}

ma_status ma_strndup(char **out, const char *text, size_t length, ma_error *err) {
  if (length == SIZE_MAX) return out_of_memory(err, length);
  ma_status st = ma_alloc((void **)out, length + 1, 1, err);
  if (st == MA_OK && length) memcpy(*out, text, length);
  return st;
}

ma_status ma_strdup(char **out, const char *text, ma_error *err) { return ma_strndup(out, text, strlen(text), err); }
