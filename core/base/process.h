/* Child processes: a command in a process group of its own, its output in a log file; and locks that end with whoever
 * holds them. */
#ifndef MASSACT_BASE_PROCESS_H
#define MASSACT_BASE_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/status.h"

typedef struct ma_lock {
  int file; /* -1: not held */
} ma_lock;

/* Takes the lock file `path` (made where there is none) without waiting; *is_taken is false where somebody has it.  The
 * system ends a lock with the last process that has it open: a stale one does not exist. */
ma_status ma_lock_take(ma_lock *lock, bool *is_taken, const char *path, ma_error *err);
void ma_lock_release(ma_lock *lock);

typedef struct ma_process {
  pid_t pid; /* 0: none, or ended and waited for */
  bool has_ended;
  int exit_status; /* of one that ended by itself */
  int signal;      /* that ended it; 0: none did */
} ma_process;

/* Starts argv[0] (looked for in PATH where it has no slash) with the environment's variables and `variables`
 * ("NAME=value", NULL at the end; they win).  Standard output and error go to the end of the file `log`, standard
 * input is empty.  `lock`, where given and held, stays held while the child lives. */
ma_status ma_process_start(ma_process *process, char *const *argv, char *const *variables, const char *log,
                           const ma_lock *lock, ma_error *err);
/* Whether it has ended: does not wait.  Fills exit_status and signal. */
bool ma_process_poll(ma_process *process);
/* Sends a signal to the whole process group; nothing where it has ended. */
void ma_process_signal(const ma_process *process, int signal_number);
/* Kills what still runs and waits for its end. */
void ma_process_end(ma_process *process);

/* In the child, first thing: to be killed where `parent` (as text) is dead or dies.  Other systems than Linux have no
 * such thing; there the lock tells that the child still runs. */
void ma_process_follow(const char *parent);

#endif
