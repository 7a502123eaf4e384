#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

double ma_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void ma_warn(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("massact: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
}

void ma_progress_start(ma_progress *p, const char *label, size_t total) {
  *p = (ma_progress){.total = total, .started = ma_clock(), .visible = isatty(STDERR_FILENO) == 1};
  snprintf(p->label, sizeof p->label, "%s", label);
  ma_progress_update(p, 0);
}

void ma_progress_update(ma_progress *p, size_t done) {
  double now = ma_clock();
  p->done = done;
  if (!p->visible || (p->shown > 0 && now - p->shown < 0.1 && done < p->total)) return;
  p->shown = now;
  fprintf(stderr, "\r\033[K%s  %zu/%zu", p->label, done, p->total);
  if (done > 0 && done < p->total && p->total > 0) {
    double left = (now - p->started) * (double)(p->total - done) / (double)done;
    long seconds = (long)(left + 0.5);
    fprintf(stderr, "  %d %%  about %ld:%02ld left", (int)(100 * done / p->total), seconds / 60, seconds % 60);
  }
  fflush(stderr);
}

void ma_progress_end(ma_progress *p) {
  if (p->visible) fputs("\r\033[K", stderr);
  p->visible = false;
}
