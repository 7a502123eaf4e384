/* Text files, plain or compressed, read front to back with little memory.
 *
 * gzip (RFC 1952) and zstandard (RFC 8878) are told by their first bytes and by the endings .gz and
 * .zst; several members or frames behind each other are one text.  Whoever reads gets pieces (a
 * line, or all that is left), each at most MA_TEXT_LIMIT bytes, so that a small file which unpacks
 * to very much is an error and not the end of memory. */
#ifndef MASSACT_FORMAT_TEXT_FILE_H
#define MASSACT_FORMAT_TEXT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { MA_TEXT_LIMIT = 1 << 30 }; /* bytes of one piece */

typedef struct ma_text_file ma_text_file;

/* *out is new (ma_text_file_close) or NULL. */
ma_status ma_text_file_open(ma_text_file **out, const char *path, ma_error *err);
void ma_text_file_close(ma_text_file *file); /* NULL is fine */

/* The next line without its newline, or *line = NULL behind the last.  Borrowed until the next
 * call. */
ma_status ma_text_file_line(ma_text_file *file, const char **line, size_t *length, ma_error *err);
/* The next part, up to some 64 KiB that may end anywhere, or *length = 0 behind the last.  Borrowed until
 * the next call. */
ma_status ma_text_file_block(ma_text_file *file, const char **text, size_t *length, ma_error *err);
/* Bytes of the file that have been read, for progress. */
uint64_t ma_text_file_at(const ma_text_file *file);
/* All that is left (perhaps nothing).  Borrowed until the next call. */
ma_status ma_text_file_rest(ma_text_file *file, const char **text, size_t *length, ma_error *err);
#endif
