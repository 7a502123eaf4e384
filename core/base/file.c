/* Whole files in, whole files out. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

/* ---- reading ---- */

static ma_status read_all(int file, char **out, size_t *size, const char *path, size_t limit, ma_error *err) {
  size_t capacity = 1 << 16;
  ma_status st = MA_OK;
  MA_TRY(ma_resize((void **)out, capacity + 1, 1, err));
  for (;;) {
    ssize_t got = read(file, *out + *size, capacity - *size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) MA_TRY(ma_fail(err, MA_IO, "cannot read '%s': %s", path, strerror(errno)));
    if (got == 0) break;
    *size += (size_t)got;
    if (*size > limit)
      MA_TRY(ma_fail(err, MA_BAD_FILE, "'%s' is larger than the %zu bytes that such a file may have", path, limit));
    if (*size == capacity) {
      capacity *= 2;
      MA_TRY(ma_resize((void **)out, capacity + 1, 1, err));
    }
  }
  (*out)[*size] = '\0';
done:
  return st;
}

ma_status ma_file_read(char **out, size_t *size, const char *path, size_t limit, ma_error *err) {
  *out = NULL;
  *size = 0;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return ma_fail(err, MA_IO, "cannot open '%s': %s", path, strerror(errno));
  ma_status st = read_all(file, out, size, path, limit, err);
  close(file);
  if (st != MA_OK) {
    ma_free(*out);
    *out = NULL;
  }
  return st;
}

bool ma_file_exists(const char *path) { return access(path, F_OK) == 0; }

bool ma_file_is_folder(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

ma_status ma_folder_make(const char *path, ma_error *err) {
  char *part = NULL;
  ma_status st = MA_OK;
  MA_TRY(ma_strdup(&part, path, err));
  for (char *c = part + 1; *part; c++) {
    bool at_end = *c == '\0';
    if (*c != '/' && !at_end) continue;
    *c = '\0';
    if (mkdir(part, 0777) != 0 && !ma_file_is_folder(part))
      MA_TRY(ma_fail(err, MA_IO, "cannot create folder '%s': %s", part, strerror(errno == EEXIST ? ENOTDIR : errno)));
    if (at_end) break;
    *c = '/';
  }
done:
  ma_free(part);
  return st;
}

/* ---- writing beside, then renaming ---- */

struct ma_writer {
  FILE *file;
  char *path, *beside;
};

ma_status ma_writer_open(ma_writer **out, const char *path, ma_error *err) {
  static atomic_uint n_opened; /* tells the temporaries of one process apart */
  ma_status st = MA_OK;
  ma_writer *w = NULL;
  size_t length = strlen(path) + 48;
  *out = NULL;
  MA_TRY(MA_NEW(&w, 1, err));
  MA_TRY(ma_strdup(&w->path, path, err));
  MA_TRY(ma_alloc((void **)&w->beside, length, 1, err));
  snprintf(w->beside, length, "%s.tmp-%ld-%u", path, (long)getpid(), atomic_fetch_add(&n_opened, 1));
  w->file = fopen(w->beside, "wbe");
  if (!w->file) MA_TRY(ma_fail(err, MA_IO, "cannot write '%s': %s", path, strerror(errno)));
  *out = w;
  w = NULL;
done:
  ma_writer_close(w);
  return st;
}

ma_status ma_writer_write(ma_writer *w, const void *data, size_t bytes, ma_error *err) {
  if (bytes == 0 || fwrite(data, 1, bytes, w->file) == bytes) return MA_OK;
  return ma_fail(err, MA_IO, "cannot write '%s': %s", w->path, strerror(errno));
}

ma_status ma_writer_patch(ma_writer *w, size_t offset, const void *data, size_t bytes, ma_error *err) {
  if (offset <= LONG_MAX && fseek(w->file, (long)offset, SEEK_SET) == 0 && fwrite(data, 1, bytes, w->file) == bytes &&
      fseek(w->file, 0, SEEK_END) == 0)
    return MA_OK;
  return ma_fail(err, MA_IO, "cannot write '%s': %s", w->path, strerror(errno));
}

ma_status ma_writer_commit(ma_writer *w, ma_error *err) {
  bool written = fflush(w->file) == 0 && (fsync(fileno(w->file)) == 0 || errno == EINVAL);
  int error = errno;
  if (fclose(w->file) != 0 && written) {
    written = false;
    error = errno;
  }
  w->file = NULL;
  if (!written) return ma_fail(err, MA_IO, "cannot write '%s': %s", w->path, strerror(error));
  if (rename(w->beside, w->path) != 0) return ma_fail(err, MA_IO, "cannot write '%s': %s", w->path, strerror(errno));
  ma_free(w->beside);
  w->beside = NULL;
  return MA_OK;
}

void ma_writer_close(ma_writer *w) {
  if (!w) return;
  if (w->file) fclose(w->file);
  if (w->beside) unlink(w->beside);
  ma_free(w->beside);
  ma_free(w->path);
  ma_free(w);
}
