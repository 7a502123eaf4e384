#include "base/threads.h"

#include <omp.h>
#include <signal.h>

int ma_threads(void) { return omp_in_parallel() ? 1 : omp_get_max_threads(); }
void ma_threads_set(int count) { omp_set_num_threads(count < 1 ? 1 : count); }
int ma_thread_index(void) { return omp_get_thread_num(); }

void ma_parallel_for(size_t count, size_t grain, ma_parallel_body *body, void *self) {
  if (grain == 0) grain = 1;
  size_t n_threads = (size_t)ma_threads();
  /* A few pieces a thread, so that one that is late does not keep the others waiting. */
  size_t pieces = (count + grain - 1) / grain, most = 4 * n_threads;
  if (pieces > most) pieces = most;
  if (n_threads == 1 || pieces < 2) {
    if (count) body(self, 0, count);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (size_t i = 0; i < pieces; i++) body(self, count * i / pieces, count * (i + 1) / pieces);
}

/* A signal handler can reach nothing but a global. */
static volatile sig_atomic_t interrupt_flag;

void ma_interrupt(void) { interrupt_flag = 1; }
bool ma_interrupted(void) { return interrupt_flag != 0; }
void ma_interrupt_clear(void) { interrupt_flag = 0; }
