/* JSON through jansson: what is ours is the limits and the one-line messages. */
#ifndef MASSACT_FORMAT_JSON_H
#define MASSACT_FORMAT_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

enum { MA_JSON_LIMIT = 100 << 20 }; /* bytes: the cap that safetensors sets on its headers */

/* *out is new (json_decref).  Duplicate keys and trailing text fail; the message has line and column. */
ma_status ma_json_read(json_t **out, const char *path, ma_error *err);
/* The same from memory; `where` names it in messages. */
ma_status ma_json_parse(json_t **out, const char *text, size_t length, const char *where, ma_error *err);
/* Indented, keys sorted (equal values give equal bytes), beside and renamed. */
ma_status ma_json_write(const char *path, const json_t *value, ma_error *err);

#endif
