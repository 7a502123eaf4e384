/* A set of names that finds duplicates and looks them up without a quadratic scan: open addressing over an
 * array of indices.  The names themselves belong to whoever adds them. */
#ifndef MASSACT_FORMAT_NAMES_H
#define MASSACT_FORMAT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ma_names {
  const char **names;
  size_t *slots; /* index + 1, 0: empty */
  size_t n, capacity, n_slots;
} ma_names;

/* Adds `name` (borrowed) as number n.  *is_new false: it was there already, nothing is added. */
ma_status ma_names_add(ma_names *set, const char *name, bool *is_new, ma_error *err);
/* Its number, or SIZE_MAX. */
size_t ma_names_find(const ma_names *set, const char *name);
void ma_names_release(ma_names *set);

#endif
