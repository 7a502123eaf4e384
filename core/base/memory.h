/* Checked allocation.  Every allocation of the core goes through here, so that a test build can
 * make the n-th one fail (MASSACT_FAULTS) and the counters in tests see every byte. */
#ifndef MASSACT_BASE_MEMORY_H
#define MASSACT_BASE_MEMORY_H

#include <stddef.h>

#include "base/status.h"

/* *out is `count * size` zeroed bytes (new; free with ma_free), or NULL.  The product is checked;
 * zero bytes give a valid pointer.  Fails: MA_NO_MEMORY. */
ma_status ma_alloc(void **out, size_t count, size_t size, ma_error *err);

/* Grows *block to `count * size` bytes (contents kept, new part not zeroed).  On failure *block is
 * as before. */
ma_status ma_resize(void **block, size_t count, size_t size, ma_error *err);

/* As ma_alloc, aligned to 64 bytes (a cache line, an AVX-512 register) and not zeroed. */
ma_status ma_alloc_aligned(void **out, size_t bytes, ma_error *err);

/* Takes what any of the above made; NULL is fine. */
void ma_free(void *block);

/* *out is a new copy of `text` (`length` bytes) with a NUL behind it. */
ma_status ma_strndup(char **out, const char *text, size_t length, ma_error *err);
ma_status ma_strdup(char **out, const char *text, ma_error *err);

/* MA_NEW(&pointer, count, err): `count` zeroed objects of what `pointer` points to. */
#define MA_NEW(pointer, count, err) ma_alloc((void **)(pointer), (size_t)(count), sizeof(**(pointer)), (err))

#ifdef MASSACT_FAULTS
/* Tests: the n-th allocation from now (0 = the next) and all later ones fail; negative = none. */
void ma_fault_allocations_after(long n);
/* Live allocations, for leak checks. */
long ma_live_allocations(void);
#endif

#endif
