/* Reading and writing when the system interrupts, delivers little at a time, or has no room: whole files or one line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

static void make_path(char path[256], const char *name) {
  const char *folder = getenv("TMPDIR");
  snprintf(path, 256, "%.200s/massact-%s-%ld", folder && *folder ? folder : P_tmpdir, name, (long)getpid());
}

static volatile sig_atomic_t n_signals;
static void count_signal(int number) {
  (void)number;
  n_signals++;
}

/* Writes 64 pieces of 1000 bytes to the pipe, with a signal to `reader` before each. */
static void feed(const char *path, pid_t reader) {
  char piece[1000];
  FILE *file = fopen(path, "wb");
  for (int i = 0; file && i < 64; i++) {
    memset(piece, 'a' + i % 26, sizeof piece);
    usleep(1000);
    kill(reader, SIGUSR1);
    usleep(1000);
    if (fwrite(piece, 1, sizeof piece, file) != sizeof piece || fflush(file) != 0) _exit(1);
  }
  _exit(file && fclose(file) == 0 ? 0 : 1);
}

static void reads_go_on_after_signals(void **state) {
  (void)state;
  char path[256], *text;
  size_t size;
  int status;
  ma_error err;
  struct sigaction action = {.sa_handler = count_signal}, before; /* without SA_RESTART: read gives EINTR */
  make_path(path, "pipe");
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
  pid_t reader = getpid(), child = fork();
  if (child == 0) feed(path, reader);
  assert_true(child > 0);
  ma_status st = ma_file_read(&text, &size, path, 1 << 20, &err);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
  unlink(path);
  if (st != MA_OK) fail_msg("%s", err.message);
  assert_int_equal(status, 0);
  assert_true(n_signals > 10);
  assert_int_equal(size, 64000);
  for (size_t i = 0; i < size; i++) assert_int_equal(text[i], 'a' + (int)(i / 1000) % 26);
  ma_free(text);
}

static void a_limit_is_a_limit(void **state) {
  (void)state;
  char *text;
  size_t size;
  ma_error err;
  assert_int_equal(ma_file_read(&text, &size, "/dev/zero", 1000, &err), MA_BAD_FILE);
  assert_null(text);
  assert_non_null(strstr(err.message, "larger than the 1000 bytes"));
}

static ma_status write_much(const char *path, size_t size, ma_error *err) {
  ma_writer *writer;
  char block[4096] = {0};
  ma_status st = MA_OK;
  MA_TRY(ma_writer_open(&writer, path, err));
  for (size_t done = 0; done < size && st == MA_OK; done += sizeof block)
    st = ma_writer_write(writer, block, sizeof block, err);
  if (st == MA_OK) st = ma_writer_commit(writer, err);
  ma_writer_close(writer);
done:
  return st;
}

/* In a process of its own, which may write `limit` bytes to a file: fails for every limit below the size, with the reason. */
static int write_within(const char *path, size_t limit, size_t size) {
  ma_error err = {0};
  struct rlimit bound = {limit, limit};
  signal(SIGXFSZ, SIG_IGN);
  if (setrlimit(RLIMIT_FSIZE, &bound) != 0) return 3;
  ma_status st = write_much(path, size, &err);
  if (st == MA_OK) return 0;
  return st == MA_IO && strstr(err.message, path) && strstr(err.message, "File too large") ? 1 : 2;
}

static size_t n_temporaries(const char *path) {
  char pattern[300];
  glob_t found;
  snprintf(pattern, sizeof pattern, "%s.tmp-*", path);
  int result = glob(pattern, 0, NULL, &found);
  size_t n = result == 0 ? found.gl_pathc : 0;
  globfree(&found);
  return n;
}

static void a_full_disk_leaves_the_old_file(void **state) {
  (void)state;
  enum { SIZE = 40960 };
  char path[256], *text;
  size_t size;
  int status;
  ma_error err;
  make_path(path, "full");
  for (size_t limit = 0; limit <= SIZE; limit += 2048) {
    assert_int_equal(write_much(path, 4096, &err), MA_OK);
    pid_t child = fork();
    if (child == 0) _exit(write_within(path, limit, SIZE));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), limit < SIZE);
    assert_int_equal(ma_file_read(&text, &size, path, 1 << 20, &err), MA_OK);
    assert_int_equal(size, limit < SIZE ? 4096 : SIZE);
    ma_free(text);
    assert_int_equal(n_temporaries(path), 0);
  }
  unlink(path);
}

static void folders_and_missing_files_say_so(void **state) {
  (void)state;
  char *text;
  size_t size;
  ma_error err;
  ma_map *map;
  assert_int_equal(ma_file_read(&text, &size, "/no/such/file", 10, &err), MA_IO);
  assert_non_null(strstr(err.message, "'/no/such/file': No such file"));
  assert_int_equal(ma_file_read(&text, &size, "/", 10, &err), MA_IO);
  assert_int_equal(ma_map_open(&map, "/", &err), MA_IO);
  assert_int_equal(ma_map_open(&map, "/dev/null", &err), MA_IO);
  assert_null(map);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(reads_go_on_after_signals), cmocka_unit_test(a_limit_is_a_limit),
                                     cmocka_unit_test(a_full_disk_leaves_the_old_file),
                                     cmocka_unit_test(folders_and_missing_files_say_so)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
