/* Files: mapped for reading, written beside and renamed.
 *
 * A map is private and writable: the first write to a page makes a copy of it in memory, the file
 * never changes.  A file that shrinks while mapped does not kill the process: the fault handler puts
 * zeros in place of the lost pages and marks the map; whoever reads asks ma_map_check afterwards. */
#ifndef MASSACT_BASE_FILE_H
#define MASSACT_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ma_map ma_map; /* reference-counted, thread-safe */

/* Maps the whole of `path`.  *out is new (ma_map_release).  An empty file is a map of size 0. */
ma_status ma_map_open(ma_map **out, const char *path, ma_error *err);
ma_map *ma_map_retain(ma_map *map);
void ma_map_release(ma_map *map); /* NULL is fine */
uint8_t *ma_map_data(const ma_map *map);
size_t ma_map_size(const ma_map *map);
const char *ma_map_path(const ma_map *map);
/* Whoever writes to the map says so; what was computed from its bytes can be checked for being out of date. */
void ma_map_written(ma_map *map);
unsigned ma_map_n_writes(const ma_map *map);
/* MA_IO when a page of the map could not be read since it was opened. */
ma_status ma_map_check(const ma_map *map, ma_error *err);

/* Reads the whole of `path` into new memory with a NUL behind it; more than `limit` bytes fail. */
ma_status ma_file_read(char **out, size_t *size, const char *path, size_t limit, ma_error *err);

bool ma_file_exists(const char *path);
bool ma_file_is_folder(const char *path);
/* Creates `path` and its parents. */
ma_status ma_folder_make(const char *path, ma_error *err);

/* A file that appears whole or not at all: bytes go to "path.tmp-PID-n", commit flushes and renames.
 * Close without commit removes the temporary; so does a failure. */
typedef struct ma_writer ma_writer;
ma_status ma_writer_open(ma_writer **out, const char *path, ma_error *err);
ma_status ma_writer_write(ma_writer *writer, const void *data, size_t bytes, ma_error *err);
/* Over what was written `offset` bytes from the start, all of which is there already. */
ma_status ma_writer_patch(ma_writer *writer, size_t offset, const void *data, size_t bytes, ma_error *err);
ma_status ma_writer_commit(ma_writer *writer, ma_error *err);
void ma_writer_close(ma_writer *writer); /* NULL is fine */

#endif
