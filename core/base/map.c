/* Mapped files, and what happens when one shrinks while it is mapped.
 *
 * Reading a page behind the new end raises SIGBUS in whichever thread reads.  The handler looks the
 * address up in the table of live maps, puts a page of zeros there and marks the map, so that the reader
 * goes on and the pass fails afterwards with a message (ma_map_check).  The table has to be reachable from
 * a signal handler: it is, with the interrupt flag of threads.c, the one piece of process-wide state. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

struct ma_map {
  atomic_int n_refs;
  atomic_bool has_faulted;
  atomic_uint n_writes;
  uint8_t *data;
  size_t size;
  char *path;
};

/* ---- the table of live maps ---- */

enum { MAX_MAPS = 4096 };

static _Atomic(ma_map *) live_maps[MAX_MAPS];
static struct sigaction previous_action;

static ma_map *find_map(const void *address) {
  uintptr_t at = (uintptr_t)address;
  for (int i = 0; i < MAX_MAPS; i++) {
    ma_map *map = live_maps[i];
    if (map && at >= (uintptr_t)map->data && at - (uintptr_t)map->data < map->size) return map;
  }
  return NULL;
}

static void on_bus_error(int signal_number, siginfo_t *info, void *context) {
  ma_map *map = find_map(info->si_addr);
  if (map) {
    uintptr_t page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t page = (uintptr_t)info->si_addr / page_size * page_size;
    map->has_faulted = true;
    if (mmap((void *)page, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
        MAP_FAILED)
      return;
  }
  /* Not ours: let whoever was there before, or the default action, have it. */
  if (previous_action.sa_flags & SA_SIGINFO) {
    previous_action.sa_sigaction(signal_number, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal_number);
  } else {
    signal(SIGBUS, SIG_DFL);
    raise(SIGBUS);
  }
}

/* Puts our handler in place, also where somebody else has set theirs since; theirs is then the one that faults of
 * others go to. */
static void set_handler(void) {
  struct sigaction current, ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigemptyset(&ours.sa_mask);
  if (sigaction(SIGBUS, NULL, &current) != 0) return;
  if ((current.sa_flags & SA_SIGINFO) && current.sa_sigaction == on_bus_error) return;
  previous_action = current;
  sigaction(SIGBUS, &ours, NULL);
}

static ma_status enter(ma_map *map, ma_error *err) {
  set_handler();
  for (int i = 0; i < MAX_MAPS; i++) {
    ma_map *none = NULL;
    if (atomic_compare_exchange_strong(&live_maps[i], &none, map)) return MA_OK;
  }
  return ma_fail(err, MA_NO_MEMORY, "%s: more than %d files are mapped at once", map->path, MAX_MAPS);
}

static void leave(ma_map *map) {
  for (int i = 0; i < MAX_MAPS; i++) {
    ma_map *same = map;
    if (atomic_compare_exchange_strong(&live_maps[i], &same, NULL)) return;
  }
}

/* ---- maps ---- */

static ma_status map_file(ma_map *map, int file, ma_error *err) {
  struct stat info;
  if (fstat(file, &info) != 0) return ma_fail(err, MA_IO, "cannot read '%s': %s", map->path, strerror(errno));
  if (!S_ISREG(info.st_mode)) return ma_fail(err, MA_IO, "cannot read '%s': not a file", map->path);
  if (info.st_size == 0) return MA_OK;
  void *data = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
  if (data == MAP_FAILED)
    return ma_fail(err, MA_IO, "cannot map '%s' (%lld bytes): %s", map->path, (long long)info.st_size, strerror(errno));
  map->data = data;
  map->size = (size_t)info.st_size;
  return enter(map, err);
}

ma_status ma_map_open(ma_map **out, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  ma_map *map = NULL;
  int file = -1;
  *out = NULL;
  MA_TRY(MA_NEW(&map, 1, err));
  map->n_refs = 1;
  MA_TRY(ma_strdup(&map->path, path, err));
  file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) MA_TRY(ma_fail(err, MA_IO, "cannot open '%s': %s", path, strerror(errno)));
  MA_TRY(map_file(map, file, err));
  *out = map;
  map = NULL;
done:
  if (file >= 0) close(file);
  ma_map_release(map);
  return st;
}

ma_map *ma_map_retain(ma_map *map) {
  atomic_fetch_add(&map->n_refs, 1);
  return map;
}

void ma_map_release(ma_map *map) {
  if (!map || atomic_fetch_sub(&map->n_refs, 1) != 1) return;
  leave(map);
  if (map->data) munmap(map->data, map->size);
  ma_free(map->path);
  ma_free(map);
}

uint8_t *ma_map_data(const ma_map *map) { return map->data; }
size_t ma_map_size(const ma_map *map) { return map->size; }
const char *ma_map_path(const ma_map *map) { return map->path; }
void ma_map_written(ma_map *map) { atomic_fetch_add(&map->n_writes, 1); }
unsigned ma_map_n_writes(const ma_map *map) { return map->n_writes; }

ma_status ma_map_check(const ma_map *map, ma_error *err) {
  if (!map->has_faulted) return MA_OK;
  return ma_fail(err, MA_IO, "'%s' shrank or failed while in use: its contents are lost, load it again", map->path);
}
