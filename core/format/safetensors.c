/* Reading: the header is parsed and checked as a whole, so that afterwards every entry is known to lie in
 * the file, to fit its shape, and to touch its neighbours without hole or overlap. */
#include "format/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "format/json.h"

struct ma_safetensors {
  ma_map *map;
  json_t *header; /* owns names and metadata */
  ma_entry *entries;
  size_t n;
};

/* The file's types: what we have for each, and its size (0: sizes below a byte are not checked). */
static const struct {
  const char *name;
  ma_dtype dtype;
  bool is_readable;
  uint64_t bytes;
} types[] = {
    {"F32", MA_F32, true, 4},     {"F16", MA_F16, true, 2},     {"BF16", MA_BF16, true, 2}, {"I32", MA_I32, true, 4},
    {"I64", MA_I64, true, 8},     {"U8", MA_U8, true, 1},       {"BOOL", MA_U8, false, 1},  {"I8", MA_U8, false, 1},
    {"F8_E4M3", MA_U8, false, 1}, {"F8_E5M2", MA_U8, false, 1}, {"I16", MA_U8, false, 2},   {"U16", MA_U8, false, 2},
    {"U32", MA_U8, false, 4},     {"F64", MA_U8, false, 8},     {"U64", MA_U8, false, 8},
};

/* ---- the header's entries ---- */

static ma_status bad(const ma_safetensors *s, const char *name, ma_error *err, const char *problem) {
  return ma_fail(err, MA_BAD_FILE, "%s: tensor '%.200s': %s", ma_map_path(s->map), name, problem);
}

/* A JSON integer that is not negative. */
static bool read_size(const json_t *value, uint64_t *out) {
  if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
  *out = (uint64_t)json_integer_value(value);
  return true;
}

static ma_status read_type(ma_safetensors *s, ma_entry *e, const json_t *value, uint64_t *bytes, ma_error *err) {
  if (!json_is_string(value)) return bad(s, e->name, err, "\"dtype\" is not a string");
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    if (strcmp(types[i].name, json_string_value(value)) != 0) continue;
    e->dtype = types[i].dtype;
    e->is_readable = types[i].is_readable;
    e->dtype_name = types[i].name;
    *bytes = types[i].bytes;
    return MA_OK;
  }
  return ma_fail(err, MA_BAD_FILE, "%s: tensor '%.200s': unknown dtype '%.32s'", ma_map_path(s->map), e->name,
                 json_string_value(value));
}

static ma_status read_shape(ma_safetensors *s, ma_entry *e, const json_t *value, uint64_t *bytes, ma_error *err) {
  if (!json_is_array(value)) return bad(s, e->name, err, "\"shape\" is not a list");
  if (json_array_size(value) > MA_MAX_DIMS) return bad(s, e->name, err, "more dims than massact has (8)");
  e->n_dims = (int)json_array_size(value);
  for (int i = 0; i < e->n_dims; i++) {
    uint64_t size;
    if (!read_size(json_array_get(value, (size_t)i), &size)) return bad(s, e->name, err, "\"shape\" has no sizes");
    if (!ma_mul_u64(*bytes, size, bytes) || *bytes > INT64_MAX || size > INT64_MAX / 16)
      return bad(s, e->name, err, "its size overflows");
    e->shape[i] = (int64_t)size;
  }
  return MA_OK;
}

static ma_status read_entry(ma_safetensors *s, ma_entry *e, const json_t *value, uint64_t data_at, ma_error *err) {
  ma_status st = MA_OK;
  uint64_t bytes = 0, begin, end, room = ma_map_size(s->map) - data_at;
  if (!json_is_object(value)) return bad(s, e->name, err, "its entry is not an object");
  MA_TRY(read_type(s, e, json_object_get(value, "dtype"), &bytes, err));
  MA_TRY(read_shape(s, e, json_object_get(value, "shape"), &bytes, err));
  const json_t *offsets = json_object_get(value, "data_offsets");
  if (json_array_size(offsets) != 2 || !read_size(json_array_get(offsets, 0), &begin) ||
      !read_size(json_array_get(offsets, 1), &end))
    return bad(s, e->name, err, "\"data_offsets\" is not a pair of sizes");
  if (begin > end || end > room)
    return ma_fail(err, MA_BAD_FILE,
                   "%s: tensor '%.200s' lies at [%" PRIu64 ", %" PRIu64 "), the file has %" PRIu64 " bytes of data",
                   ma_map_path(s->map), e->name, begin, end, room);
  if (end - begin != bytes)
    return ma_fail(err, MA_BAD_FILE, "%s: tensor '%.200s' has %" PRIu64 " bytes, its shape and dtype need %" PRIu64,
                   ma_map_path(s->map), e->name, end - begin, bytes);
  e->map = s->map;
  e->offset = data_at + begin;
  e->bytes = bytes;
done:
  return st;
}

static int by_offset(const void *pa, const void *pb) {
  const ma_entry *a = pa, *b = pb;
  if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
  return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

/* Entries in the order of their bytes must cover the data exactly. */
static ma_status check_coverage(ma_safetensors *s, uint64_t data_at, ma_error *err) {
  uint64_t at = data_at;
  qsort(s->entries, s->n, sizeof *s->entries, by_offset);
  for (size_t i = 0; i < s->n; i++) {
    if (s->entries[i].offset < at) return bad(s, s->entries[i].name, err, "it overlaps the one before");
    if (s->entries[i].offset > at) return bad(s, s->entries[i].name, err, "there is a hole before it");
    at += s->entries[i].bytes;
  }
  if (at == ma_map_size(s->map)) return MA_OK;
  return ma_fail(err, MA_BAD_FILE, "%s: %" PRIu64 " bytes behind the last tensor", ma_map_path(s->map),
                 ma_map_size(s->map) - at);
}

/* ---- the file ---- */

static ma_status read_header(ma_safetensors *s, ma_error *err) {
  ma_status st = MA_OK;
  const char *path = ma_map_path(s->map), *name;
  ma_cursor c = {ma_map_data(s->map), ma_map_size(s->map), 0};
  const uint8_t *text;
  uint64_t length;
  json_t *value;
  if (!ma_cursor_u64(&c, &length))
    return ma_fail(err, MA_BAD_FILE, "%s: %zu bytes are too few for a safetensors file", path, c.size);
  if (length > MA_JSON_LIMIT)
    return ma_fail(err, MA_BAD_FILE, "%s: a header of %" PRIu64 " bytes; safetensors allows %d", path, length,
                   MA_JSON_LIMIT);
  if (!ma_cursor_take(&c, (size_t)length, &text))
    return ma_fail(err, MA_BAD_FILE, "%s: the header should have %" PRIu64 " bytes, %zu are left", path, length,
                   ma_cursor_left(&c));
  MA_TRY(ma_json_parse(&s->header, (const char *)text, (size_t)length, path, err));
  if (!json_is_object(s->header)) return ma_fail(err, MA_BAD_FILE, "%s: the header is not an object", path);
  MA_TRY(MA_NEW(&s->entries, json_object_size(s->header), err));
  json_object_foreach(s->header, name, value) {
    if (strcmp(name, "__metadata__") == 0) {
      if (!json_is_object(value)) return ma_fail(err, MA_BAD_FILE, "%s: __metadata__ is not an object", path);
      continue;
    }
    s->entries[s->n] = (ma_entry){.name = name};
    MA_TRY(read_entry(s, &s->entries[s->n], value, c.at, err));
    s->n++;
  }
  MA_TRY(check_coverage(s, c.at, err));
done:
  return st;
}

ma_status ma_safetensors_open(ma_safetensors **out, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  ma_safetensors *s = NULL;
  *out = NULL;
  MA_TRY(MA_NEW(&s, 1, err));
  MA_TRY(ma_map_open(&s->map, path, err));
  MA_TRY(read_header(s, err));
  MA_TRY(ma_map_check(s->map, err));
  *out = s;
  s = NULL;
done:
  ma_safetensors_close(s);
  return st;
}

void ma_safetensors_close(ma_safetensors *s) {
  if (!s) return;
  json_decref(s->header);
  ma_map_release(s->map);
  ma_free(s->entries);
  ma_free(s);
}

size_t ma_safetensors_count(const ma_safetensors *s) { return s->n; }
const ma_entry *ma_safetensors_entry(const ma_safetensors *s, size_t i) { return &s->entries[i]; }

const char *ma_safetensors_metadata(const ma_safetensors *s, const char *key) {
  return json_string_value(json_object_get(json_object_get(s->header, "__metadata__"), key));
}

/* ---- writing ---- */

static const char *name_of_dtype(ma_dtype dtype) {
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
    if (types[i].is_readable && types[i].dtype == dtype) return types[i].name;
  return NULL;
}

/* The header, padded with blanks so that the data begins at a multiple of 8. */
static ma_status make_header(char **out, size_t *length, const char *path, const char *const *names,
                             const ma_tensor *tensors, size_t n, const char *const *metadata, ma_error *err) {
  ma_status st = MA_OK;
  json_t *header = json_object(), *pairs = json_object();
  char *text = NULL;
  uint64_t at = 0;
  bool made = header && pairs;
  for (size_t i = 0; metadata && metadata[i]; i += 2)
    made = made && json_object_set_new(pairs, metadata[i], json_string(metadata[i + 1])) == 0;
  if (made && json_object_size(pairs) > 0) made = json_object_set(header, "__metadata__", pairs) == 0;
  for (size_t i = 0; made && i < n; i++) {
    const char *type = name_of_dtype(tensors[i].dtype);
    if (!type)
      MA_TRY(ma_fail(err, MA_UNSUPPORTED, "'%s': safetensors has no %s ('%s')", path,
                     ma_dtype_describe(tensors[i].dtype)->name, names[i]));
    json_t *shape = json_array();
    for (int d = 0; d < tensors[i].n_dims; d++)
      made = made && json_array_append_new(shape, json_integer(tensors[i].shape[d])) == 0;
    uint64_t end = at + ma_tensor_bytes(&tensors[i]);
    json_t *entry =
        json_pack("{s:s,s:o,s:[I,I]}", "dtype", type, "shape", shape, "data_offsets", (json_int_t)at, (json_int_t)end);
    made = made && entry && json_object_set_new(header, names[i], entry) == 0;
    at = end;
  }
  text = made ? json_dumps(header, JSON_COMPACT) : NULL;
  if (!text) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "'%s': the names of the tensors are not valid UTF-8", path));
  size_t used = strlen(text);
  *length = (used + 7) / 8 * 8;
  MA_TRY(ma_alloc((void **)out, *length + 1, 1, err));
  memset(*out, ' ', *length);
  memcpy(*out, text, used);
done:
  free(text);
  json_decref(pairs);
  json_decref(header);
  return st;
}

ma_status ma_safetensors_begin(ma_tensor_writer **out, const char *path, const char *const *names,
                               const ma_tensor *layout, size_t n, const char *const *metadata, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor_writer *w = NULL;
  char *header = NULL;
  size_t length = 0;
  *out = NULL;
  MA_TRY(make_header(&header, &length, path, names, layout, n, metadata, err));
  MA_TRY(ma_tensor_writer_open(&w, path, names, layout, n, 1, err));
  uint8_t prefix[8];
  for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)((uint64_t)length >> (8 * i));
  MA_TRY(ma_tensor_writer_raw(w, prefix, sizeof prefix, err));
  MA_TRY(ma_tensor_writer_raw(w, header, length, err));
  *out = w;
  w = NULL;
done:
  ma_tensor_writer_close(w);
  ma_free(header);
  return st;
}

ma_status ma_safetensors_save(const char *path, const char *const *names, const ma_tensor *tensors, size_t n,
                              const char *const *metadata, ma_error *err) {
  ma_status st = MA_OK;
  ma_tensor_writer *w = NULL;
  MA_TRY(ma_safetensors_begin(&w, path, names, tensors, n, metadata, err));
  for (size_t i = 0; i < n; i++) MA_TRY(ma_tensor_writer_add(w, names[i], &tensors[i], err));
  MA_TRY(ma_tensor_writer_commit(w, err));
done:
  ma_tensor_writer_close(w);
  return st;
}
