/* What a long run tells a person: a progress line with an estimate on a terminal, nothing in a pipe. */
#ifndef MASSACT_BASE_LOG_H
#define MASSACT_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

typedef struct ma_progress {
  char label[64];
  size_t total, done;
  double started, shown; /* seconds, monotonic clock */
  bool visible;          /* stderr is a terminal */
} ma_progress;

void ma_progress_start(ma_progress *p, const char *label, size_t total);
/* Redraws at most ten times a second: "detection  12/32 windows  38 %  about 0:09 left". */
void ma_progress_update(ma_progress *p, size_t done);
void ma_progress_end(ma_progress *p); /* removes the line */

double ma_clock(void);                                                       /* seconds, monotonic */
void ma_warn(const char *format, ...) __attribute__((format(printf, 1, 2))); /* one line on stderr */

#endif
