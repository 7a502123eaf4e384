/* Threads: one pool for the whole process, OpenMP's, which the OpenMP build of OpenBLAS shares. */
#ifndef MASSACT_BASE_THREADS_H
#define MASSACT_BASE_THREADS_H

#include <stdbool.h>
#include <stddef.h>

/* Number of threads a parallel region gets now (1 inside one). */
int ma_threads(void);
void ma_threads_set(int count);
/* 0 .. ma_threads() - 1: which thread of the region this is, for per-thread scratch. */
int ma_thread_index(void);

/* Calls body(self, begin, end) on pieces of [0, count), each at least `grain` long, taken in turn by
 * idle threads.  Runs inline when there is one piece or we are inside a region already. */
typedef void ma_parallel_body(void *self, size_t begin, size_t end);
void ma_parallel_for(size_t count, size_t grain, ma_parallel_body *body, void *self);

/* Ctrl-C: a signal handler may only set a flag.  Long loops look once a layer or block. */
void ma_interrupt(void); /* async-signal-safe */
bool ma_interrupted(void);
void ma_interrupt_clear(void);

#endif
