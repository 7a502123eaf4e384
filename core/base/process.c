#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "base/memory.h"

extern char **environ;

/* ---- locks ---- */

ma_status ma_lock_take(ma_lock *lock, bool *is_taken, const char *path, ma_error *err) {
  *is_taken = false;
  lock->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock->file < 0) return ma_fail(err, MA_IO, "cannot write '%s': %s", path, strerror(errno));
  if (flock(lock->file, LOCK_EX | LOCK_NB) == 0) {
    *is_taken = true;
    return MA_OK;
  }
  int problem = errno;
  ma_lock_release(lock);
  if (problem == EWOULDBLOCK) return MA_OK;
  return ma_fail(err, MA_IO, "cannot lock '%s': %s", path, strerror(problem));
}

void ma_lock_release(ma_lock *lock) {
  if (lock->file >= 0) close(lock->file);
  lock->file = -1;
}

/* ---- the child's environment ---- */

static size_t name_length(const char *variable) { return strcspn(variable, "="); }

static bool is_replaced(const char *variable, char *const *variables) {
  size_t n = name_length(variable);
  for (; *variables; variables++)
    if (name_length(*variables) == n && strncmp(*variables, variable, n) == 0) return true;
  return false;
}

/* *out is new (ma_free); its strings are borrowed. */
static ma_status merge_environment(char ***out, char *const *variables, ma_error *err) {
  size_t n = 1, at = 0;
  for (char **v = environ; *v; v++) n++;
  for (char *const *v = variables; *v; v++) n++;
  ma_status st = MA_NEW(out, n, err);
  if (st != MA_OK) return st;
  for (char **v = environ; *v; v++)
    if (!is_replaced(*v, variables)) (*out)[at++] = *v;
  for (char *const *v = variables; *v; v++) (*out)[at++] = *v;
  return MA_OK;
}

/* ---- starting ---- */

enum { LOCK_IN_CHILD = 3 };

static int describe_files(posix_spawn_file_actions_t *files, int log, const ma_lock *lock) {
  int problem = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (!problem) problem = posix_spawn_file_actions_adddup2(files, log, STDOUT_FILENO);
  if (!problem) problem = posix_spawn_file_actions_adddup2(files, log, STDERR_FILENO);
  if (!problem && lock && lock->file >= 0) problem = posix_spawn_file_actions_adddup2(files, lock->file, LOCK_IN_CHILD);
  return problem;
}

/* Signals are the child's own affair: what the parent ignores, it does not. */
static int describe_attributes(posix_spawnattr_t *attributes) {
  sigset_t defaults, none;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGINT);
  sigaddset(&defaults, SIGPIPE);
  int problem =
      posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  if (!problem) problem = posix_spawnattr_setpgroup(attributes, 0);
  if (!problem) problem = posix_spawnattr_setsigdefault(attributes, &defaults);
  if (!problem) problem = posix_spawnattr_setsigmask(attributes, &none);
  return problem;
}

static int spawn(pid_t *pid, char *const *argv, char *const *environment, int log, const ma_lock *lock) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  int problem = posix_spawn_file_actions_init(&files);
  if (problem) return problem;
  problem = posix_spawnattr_init(&attributes);
  if (!problem) {
    problem = describe_files(&files, log, lock);
    if (!problem) problem = describe_attributes(&attributes);
    if (!problem) problem = posix_spawnp(pid, argv[0], &files, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_destroy(&files);
  return problem;
}

ma_status ma_process_start(ma_process *p, char *const *argv, char *const *variables, const char *log_path,
                           const ma_lock *lock, ma_error *err) {
  ma_status st = MA_OK;
  char **environment = NULL;
  int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  *p = (ma_process){0};
  if (log < 0) return ma_fail(err, MA_IO, "cannot write '%s': %s", log_path, strerror(errno));
  MA_TRY(merge_environment(&environment, variables, err));
  int problem = spawn(&p->pid, argv, environment, log, lock);
  if (problem) {
    p->pid = 0;
    st = ma_fail(err, MA_IO, "cannot start '%s': %s", argv[0], strerror(problem));
  }
done:
  close(log);
  ma_free(environment);
  return st;
}

/* ---- running ---- */

static bool wait_for(ma_process *p, int options) {
  int status = 0;
  pid_t got;
  do got = waitpid(p->pid, &status, options);
  while (got < 0 && errno == EINTR);
  if (got == 0) return false;
  p->pid = 0;
  p->has_ended = true;
  if (got > 0 && WIFSIGNALED(status)) p->signal = WTERMSIG(status);
  else p->exit_status = got > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return true;
}

bool ma_process_poll(ma_process *p) { return p->pid == 0 || wait_for(p, WNOHANG); }

void ma_process_signal(const ma_process *p, int signal_number) {
  if (p->pid > 0) kill(-p->pid, signal_number);
}

void ma_process_end(ma_process *p) {
  if (p->pid == 0) return;
  ma_process_signal(p, SIGKILL);
  wait_for(p, 0);
}

void ma_process_follow(const char *parent) {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != (pid_t)strtol(parent, NULL, 10)) raise(SIGKILL); /* it died before that */
#else
  (void)parent;
#endif
}
