/* Reading GGUF.  A count is compared with the bytes that are left, over the least that an item can take,
 * before anything is allocated for it; sizes and offsets go through overflow-checked arithmetic. */
#include "format/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "format/checkpoint.h"
#include "format/names.h"

enum { MAX_KEY_BYTES = 65535, MAX_TENSOR_NAME = 1 << 16, MAX_GGUF_DIMS = 4, DEFAULT_ALIGNMENT = 32 };

struct ma_gguf {
  ma_map *map;
  ma_names keys, tensor_names;
  ma_gguf_value *values;
  ma_entry *tensors;
  size_t n_values, n_tensors;
  uint64_t alignment;
};

/* What reading carries along: where it is, and what to say. */
typedef struct reader {
  ma_gguf *g;
  ma_cursor at;
  ma_error *err;
} reader;

static ma_status bad(const reader *r, const char *what, const char *name) {
  return ma_fail(r->err, MA_BAD_FILE, "%s: %s%s%.200s%s (byte %zu of %zu)", ma_map_path(r->g->map), what,
                 name ? " '" : "", name ? name : "", name ? "'" : "", r->at.at, r->at.size);
}

size_t ma_gguf_size_of_type(ma_gguf_type type) {
  static const uint8_t sizes[MA_GGUF_N_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return sizes[type];
}

const char *ma_gguf_type_name(ma_gguf_type type) {
  static const char *const names[MA_GGUF_N_TYPES] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                     "bool", "string", "array", "u64", "i64", "f64"};
  return names[type];
}

static ma_status read_text(reader *r, ma_gguf_text *out, const char *what) {
  uint64_t length;
  const uint8_t *data;
  if (!ma_cursor_u64(&r->at, &length)) return bad(r, "ends in the middle of", what);
  if (length > ma_cursor_left(&r->at) || !ma_cursor_take(&r->at, (size_t)length, &data))
    return bad(r, "a string is longer than the file:", what);
  *out = (ma_gguf_text){(const char *)data, (size_t)length};
  return MA_OK;
}

/* A name: text without NUL, copied with one behind it. */
static ma_status read_name(reader *r, char **out, size_t limit, const char *what) {
  ma_gguf_text text = {NULL, 0};
  ma_status st = read_text(r, &text, what);
  if (st != MA_OK) return st;
  const char *problem = text.length == 0                       ? "an empty"
                        : text.length > limit                  ? "too long a"
                        : memchr(text.data, '\0', text.length) ? "a NUL byte in a"
                                                               : NULL;
  if (problem)
    return ma_fail(r->err, MA_BAD_FILE, "%s: %s %s (byte %zu of %zu)", ma_map_path(r->g->map), problem, what, r->at.at,
                   r->at.size);
  return ma_strndup(out, text.data, text.length, r->err);
}

/* ---- metadata ---- */

static ma_status read_texts(reader *r, ma_gguf_value *v, const char *key) {
  ma_gguf_text *texts;
  if (v->n > ma_cursor_left(&r->at) / 8) return bad(r, "array longer than the file: key", key);
  ma_status st = MA_NEW(&texts, v->n, r->err);
  if (st != MA_OK) return st;
  v->texts = texts;
  for (uint64_t i = 0; i < v->n && st == MA_OK; i++) st = read_text(r, &texts[i], key);
  return st;
}

static ma_status read_value(reader *r, ma_gguf_value *v, const char *key) {
  uint32_t type;
  v->n = 1;
  if (!ma_cursor_u32(&r->at, &type)) return bad(r, "ends in the middle of key", key);
  if (type == MA_GGUF_ARRAY) {
    v->is_array = true;
    if (!ma_cursor_u32(&r->at, &type) || !ma_cursor_u64(&r->at, &v->n)) return bad(r, "ends in the middle of key", key);
    if (type == MA_GGUF_ARRAY) return bad(r, "array of arrays: key", key);
  }
  if (type >= MA_GGUF_N_TYPES) return bad(r, "unknown type of key", key);
  v->type = (ma_gguf_type)type;
  if (v->type == MA_GGUF_STRING) return read_texts(r, v, key);
  size_t size = ma_gguf_size_of_type(v->type);
  if (v->n > ma_cursor_left(&r->at) / size) return bad(r, "array longer than the file: key", key);
  ma_cursor_take(&r->at, (size_t)v->n * size, &v->data);
  for (uint64_t i = 0; v->type == MA_GGUF_BOOL && i < v->n; i++)
    if (v->data[i] > 1) return bad(r, "a bool that is neither 0 nor 1: key", key);
  return MA_OK;
}

static ma_status read_metadata(reader *r, uint64_t n) {
  ma_status st = MA_OK;
  ma_gguf *g = r->g;
  char *key = NULL;
  bool is_new;
  /* The least pair: a key of one byte, its length, a type, a value of one byte. */
  if (n > ma_cursor_left(&r->at) / 14) return bad(r, "more keys than the file has room for", NULL);
  MA_TRY(MA_NEW(&g->values, n, r->err));
  for (uint64_t i = 0; i < n; i++) {
    MA_TRY(read_name(r, &key, MAX_KEY_BYTES, "key"));
    MA_TRY(ma_names_add(&g->keys, key, &is_new, r->err));
    if (!is_new) MA_TRY(bad(r, "second key", key));
    const char *name = key;
    key = NULL; /* the set's names are freed by ma_gguf_close */
    g->n_values++;
    MA_TRY(read_value(r, &g->values[i], name));
  }
done:
  ma_free(key);
  return st;
}

static ma_status read_alignment(reader *r) {
  int64_t alignment = DEFAULT_ALIGNMENT;
  const ma_gguf_value *v = ma_gguf_find(r->g, "general.alignment");
  if (v && (v->type != MA_GGUF_U32 || v->is_array || !ma_gguf_integer(v, 0, &alignment)))
    return bad(r, "wrong type of key", "general.alignment");
  if (alignment < 8 || alignment > 1 << 20 || (alignment & (alignment - 1)) != 0)
    return ma_fail(r->err, MA_BAD_FILE, "%s: general.alignment = %" PRId64 " is no power of two from 8 to 2^20",
                   ma_map_path(r->g->map), alignment);
  r->g->alignment = (uint64_t)alignment;
  return MA_OK;
}

/* ---- tensors ---- */

/* ggml's type numbers.  The ones that massact cannot compute with have sizes too, so that files that hold
 * them can be listed. */
static const struct {
  uint32_t number;
  const char *name;
  int dtype; /* -1: not readable */
  uint32_t block, bytes;
} types[] = {
    {0, "F32", MA_F32, 1, 4},
    {1, "F16", MA_F16, 1, 2},
    {2, "Q4_0", MA_Q4_0, 32, 18},
    {3, "Q4_1", MA_Q4_1, 32, 20},
    {6, "Q5_0", MA_Q5_0, 32, 22},
    {7, "Q5_1", MA_Q5_1, 32, 24},
    {8, "Q8_0", MA_Q8_0, 32, 34},
    {9, "Q8_1", -1, 32, 36},
    {10, "Q2_K", MA_Q2_K, 256, 84},
    {11, "Q3_K", MA_Q3_K, 256, 110},
    {12, "Q4_K", MA_Q4_K, 256, 144},
    {13, "Q5_K", MA_Q5_K, 256, 176},
    {14, "Q6_K", MA_Q6_K, 256, 210},
    {15, "Q8_K", -1, 256, 292},
    {16, "IQ2_XXS", -1, 256, 66},
    {17, "IQ2_XS", -1, 256, 74},
    {18, "IQ3_XXS", -1, 256, 98},
    {19, "IQ1_S", -1, 256, 50},
    {20, "IQ4_NL", -1, 32, 18},
    {21, "IQ3_S", -1, 256, 110},
    {22, "IQ2_S", -1, 256, 82},
    {23, "IQ4_XS", -1, 256, 136},
    {24, "I8", -1, 1, 1},
    {25, "I16", -1, 1, 2},
    {26, "I32", MA_I32, 1, 4},
    {27, "I64", MA_I64, 1, 8},
    {28, "F64", -1, 1, 8},
    {29, "IQ1_M", -1, 256, 56},
    {30, "BF16", MA_BF16, 1, 2},
};

ma_status ma_gguf_number_of_dtype(uint32_t *out, ma_dtype dtype, const char *tensor, ma_error *err) {
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    if (types[i].dtype != (int)dtype) continue;
    *out = types[i].number;
    return MA_OK;
  }
  return ma_fail(err, MA_UNSUPPORTED, "tensor '%s': GGUF has no %s", tensor, ma_dtype_describe(dtype)->name);
}

static ma_status read_dims(reader *r, ma_entry *e, uint64_t *count) {
  uint32_t n;
  if (!ma_cursor_u32(&r->at, &n)) return bad(r, "ends in the middle of tensor", e->name);
  if (n > MAX_GGUF_DIMS) return bad(r, "more than 4 dims in tensor", e->name);
  e->n_dims = (int)n;
  *count = 1;
  for (uint32_t i = 0; i < n; i++) {
    uint64_t size;
    if (!ma_cursor_u64(&r->at, &size)) return bad(r, "ends in the middle of tensor", e->name);
    if (size == 0 || size > INT32_MAX) return bad(r, "a dim that is 0 or above 2^31 in tensor", e->name);
    if (!ma_mul_u64(*count, size, count) || *count > INT64_MAX / 16)
      return bad(r, "overflowing shape of tensor", e->name);
    e->shape[n - 1 - i] = (int64_t)size; /* the file counts from the innermost */
  }
  return MA_OK;
}

static ma_status read_type(reader *r, ma_entry *e, uint64_t count) {
  uint32_t number;
  if (!ma_cursor_u32(&r->at, &number)) return bad(r, "ends in the middle of tensor", e->name);
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    if (types[i].number != number) continue;
    uint64_t row = e->n_dims > 0 ? (uint64_t)e->shape[e->n_dims - 1] : 1;
    if (row % types[i].block != 0) return bad(r, "rows are no whole blocks in tensor", e->name);
    e->dtype_name = types[i].name;
    e->is_readable = types[i].dtype >= 0;
    e->dtype = e->is_readable ? (ma_dtype)types[i].dtype : MA_U8;
    e->bytes = count / types[i].block * types[i].bytes;
    return MA_OK;
  }
  return ma_fail(r->err, MA_BAD_FILE, "%s: tensor '%.200s' has unknown type %" PRIu32, ma_map_path(r->g->map), e->name,
                 number);
}

static ma_status read_tensor(reader *r, ma_entry *e) {
  ma_status st = MA_OK;
  uint64_t count = 0;
  MA_TRY(read_dims(r, e, &count));
  MA_TRY(read_type(r, e, count));
  if (!ma_cursor_u64(&r->at, &e->offset)) return bad(r, "ends in the middle of tensor", e->name);
  if (e->offset % r->g->alignment != 0) return bad(r, "misaligned offset of tensor", e->name);
  e->map = r->g->map;
done:
  return st;
}

/* Offsets count from the data's start, which is known only now. */
static ma_status place_tensors(reader *r) {
  ma_gguf *g = r->g;
  uint64_t size = r->at.size, data_at, mask = g->alignment - 1;
  data_at = ((uint64_t)r->at.at + mask) & ~mask;
  for (size_t i = 0; i < g->n_tensors; i++) {
    ma_entry *e = &g->tensors[i];
    uint64_t end;
    if (!ma_add_u64(e->offset, data_at, &e->offset) || !ma_add_u64(e->offset, e->bytes, &end) || end > size)
      return ma_fail(r->err, MA_BAD_FILE,
                     "%s: tensor '%.200s' ends behind the file's %" PRIu64 " bytes; the download may be incomplete",
                     ma_map_path(g->map), e->name, size);
  }
  return MA_OK;
}

static ma_status read_tensors(reader *r, uint64_t n) {
  ma_status st = MA_OK;
  ma_gguf *g = r->g;
  char *name = NULL;
  bool is_new;
  /* The least entry: a name of one byte and its length, no dims, a type, an offset. */
  if (n > ma_cursor_left(&r->at) / 25) return bad(r, "more tensors than the file has room for", NULL);
  MA_TRY(MA_NEW(&g->tensors, n, r->err));
  for (uint64_t i = 0; i < n; i++) {
    MA_TRY(read_name(r, &name, MAX_TENSOR_NAME, "tensor name"));
    MA_TRY(ma_names_add(&g->tensor_names, name, &is_new, r->err));
    if (!is_new) MA_TRY(bad(r, "second tensor", name));
    g->tensors[i].name = name;
    name = NULL;
    g->n_tensors++;
    MA_TRY(read_tensor(r, &g->tensors[i]));
  }
  MA_TRY(place_tensors(r));
done:
  ma_free(name);
  return st;
}

/* ---- the file ---- */

static ma_status read_file(ma_gguf *g, ma_error *err) {
  ma_status st = MA_OK;
  reader r = {g, {ma_map_data(g->map), ma_map_size(g->map), 0}, err};
  const uint8_t *magic;
  uint32_t version;
  uint64_t n_tensors, n_keys;
  if (!ma_cursor_take(&r.at, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
    return ma_fail(err, MA_BAD_FILE, "%s: not a GGUF file", ma_map_path(g->map));
  if (!ma_cursor_u32(&r.at, &version)) return bad(&r, "ends in the header", NULL);
  if (version != 2 && version != 3)
    return ma_fail(err, MA_UNSUPPORTED, "%s: GGUF version %" PRIu32 "; massact reads 2 and 3%s", ma_map_path(g->map),
                   version, (version & 0xFFFF) == 0 ? " in little-endian order (this file is big-endian)" : "");
  if (!ma_cursor_u64(&r.at, &n_tensors) || !ma_cursor_u64(&r.at, &n_keys)) return bad(&r, "ends in the header", NULL);
  MA_TRY(read_metadata(&r, n_keys));
  MA_TRY(read_alignment(&r));
  int64_t n_parts = 1;
  const ma_gguf_value *parts = ma_gguf_find(g, "split.count");
  if (parts && ma_gguf_integer(parts, 0, &n_parts) && n_parts > 1)
    return ma_fail(err, MA_UNSUPPORTED, "%s: one of %" PRId64 " parts of a split GGUF; merge them first",
                   ma_map_path(g->map), n_parts);
  MA_TRY(read_tensors(&r, n_tensors));
done:
  return st;
}

ma_status ma_gguf_open(ma_gguf **out, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  ma_gguf *g = NULL;
  *out = NULL;
  MA_TRY(MA_NEW(&g, 1, err));
  MA_TRY(ma_map_open(&g->map, path, err));
  MA_TRY(read_file(g, err));
  MA_TRY(ma_map_check(g->map, err));
  *out = g;
  g = NULL;
done:
  ma_gguf_close(g);
  return st;
}

void ma_gguf_close(ma_gguf *g) {
  if (!g) return;
  for (size_t i = 0; i < g->n_values; i++) ma_free((void *)(uintptr_t)g->values[i].texts);
  for (size_t i = 0; i < g->keys.n; i++) ma_free((void *)(uintptr_t)g->keys.names[i]);
  for (size_t i = 0; i < g->tensor_names.n; i++) ma_free((void *)(uintptr_t)g->tensor_names.names[i]);
  ma_names_release(&g->keys);
  ma_names_release(&g->tensor_names);
  ma_free(g->values);
  ma_free(g->tensors);
  ma_map_release(g->map);
  ma_free(g);
}

const char *ma_gguf_path(const ma_gguf *g) { return ma_map_path(g->map); }
ma_map *ma_gguf_map(const ma_gguf *g) { return g->map; }
size_t ma_gguf_n_keys(const ma_gguf *g) { return g->n_values; }
const char *ma_gguf_key(const ma_gguf *g, size_t i) { return g->keys.names[i]; }
const ma_gguf_value *ma_gguf_value_at(const ma_gguf *g, size_t i) { return &g->values[i]; }
size_t ma_gguf_n_tensors(const ma_gguf *g) { return g->n_tensors; }
const struct ma_entry *ma_gguf_tensor(const ma_gguf *g, size_t i) { return &g->tensors[i]; }

const ma_gguf_value *ma_gguf_find(const ma_gguf *g, const char *key) {
  size_t i = ma_names_find(&g->keys, key);
  return i < g->n_values ? &g->values[i] : NULL;
}

/* ---- numbers ---- */

bool ma_gguf_integer(const ma_gguf_value *v, uint64_t i, int64_t *out) {
  union {
    uint8_t u8;
    int8_t i8;
    uint16_t u16;
    int16_t i16;
    uint32_t u32;
    int32_t i32;
    uint64_t u64;
    int64_t i64;
  } raw;
  if (v->type == MA_GGUF_STRING || v->type == MA_GGUF_F32 || v->type == MA_GGUF_F64 || i >= v->n) return false;
  size_t size = ma_gguf_size_of_type(v->type);
  memcpy(&raw, v->data + i * size, size);
  switch (v->type) {
    case MA_GGUF_U8:
    case MA_GGUF_BOOL: *out = raw.u8; break;
    case MA_GGUF_I8: *out = raw.i8; break;
    case MA_GGUF_U16: *out = raw.u16; break;
    case MA_GGUF_I16: *out = raw.i16; break;
    case MA_GGUF_U32: *out = raw.u32; break;
    case MA_GGUF_I32: *out = raw.i32; break;
    case MA_GGUF_U64:
      if (raw.u64 > INT64_MAX) return false;
      *out = (int64_t)raw.u64;
      break;
    default: *out = raw.i64;
  }
  return true;
}

bool ma_gguf_number(const ma_gguf_value *v, uint64_t i, double *out) {
  int64_t integer;
  float single;
  if (i >= v->n) return false;
  if (v->type == MA_GGUF_F32) {
    memcpy(&single, v->data + i * 4, 4);
    *out = (double)single;
    return true;
  }
  if (v->type == MA_GGUF_F64) {
    memcpy(out, v->data + i * 8, 8);
    return true;
  }
  if (!ma_gguf_integer(v, i, &integer)) return false;
  *out = (double)integer;
  return true;
}
