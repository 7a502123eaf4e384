/* Files that lie.  Every prefix of a good GGUF and a good safetensors file, and each of a list of single lies, must give one
 * error line and nothing else: no crash, no leak, no wrong tensor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/threads.h"
#include "format/checkpoint.h"
#include "format/safetensors.h"
#include "tensor/ops.h"

/* ---- a file in the making ---- */

typedef struct bytes {
  uint8_t data[4096];
  size_t n;
} bytes;

static void put(bytes *b, const void *data, size_t n) {
  assert_true(b->n + n <= sizeof b->data);
  memcpy(b->data + b->n, data, n);
  b->n += n;
}
static void put32(bytes *b, uint32_t x) { put(b, &x, 4); }
static void put64(bytes *b, uint64_t x) { put(b, &x, 8); }
static void put_text(bytes *b, const char *text) {
  put64(b, strlen(text));
  put(b, text, strlen(text));
}

/* Writes the bytes to a temporary file with the given ending; `path` holds its name. */
static void write_file(char path[64], const char *ending, const uint8_t *data, size_t n) {
  static int count;
  const char *folder = getenv("TMPDIR");
  snprintf(path, 64, "%.30s/massact-%ld-%d%s", folder && *folder ? folder : P_tmpdir, (long)getpid(), count++ % 4,
           ending);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(data, 1, n, file), n);
  assert_int_equal(fclose(file), 0);
}

/* Opens the file; on success looks at every tensor. */
static ma_status open_all(const char *ending, const uint8_t *data, size_t n, ma_error *err) {
  char path[64];
  ma_checkpoint *c;
  write_file(path, ending, data, n);
  ma_status st = ma_checkpoint_open(&c, path, err);
  if (st == MA_OK) {
    for (size_t i = 0; i < ma_checkpoint_count(c); i++) {
      ma_tensor t, wide = {0};
      if (ma_checkpoint_tensor(&t, c, ma_checkpoint_entry(c, i)->name, err) != MA_OK) continue;
      assert_int_equal(ma_tensor_convert(&wide, &t, MA_F32, err), MA_OK);
      ma_tensor_release(&wide);
      ma_tensor_release(&t);
    }
    ma_checkpoint_close(c);
  }
  unlink(path);
  return st;
}

static void expect(const char *ending, const bytes *b, const char *message) {
  ma_error err = {0};
  assert_int_not_equal(open_all(ending, b->data, b->n, &err), MA_OK);
  if (!strstr(err.message, message)) fail_msg("expected '%s' in '%s'", message, err.message);
  assert_null(strchr(err.message, '\n'));
}

/* ---- GGUF ---- */

/* A lie: which field, and what it says instead. */
typedef struct gguf_lies {
  uint32_t version, key_type, array_type, n_dims, type, alignment_type, alignment;
  uint64_t n_tensors, n_keys, array_n, dim0, dim1, offset;
  const char *key, *name, *second_name;
} gguf_lies;

static const gguf_lies honest = {.version = 3,
                                 .key_type = 9,
                                 .array_type = 4,
                                 .n_dims = 2,
                                 .type = 0,
                                 .alignment_type = 4,
                                 .alignment = 32,
                                 .n_tensors = 2,
                                 .n_keys = 3,
                                 .array_n = 3,
                                 .dim0 = 32,
                                 .dim1 = 2,
                                 .key = "some.list",
                                 .name = "first",
                                 .second_name = "second"};

static bytes make_gguf(const gguf_lies *lies) {
  bytes b = {.n = 0};
  put(&b, "GGUF", 4);
  put32(&b, lies->version);
  put64(&b, lies->n_tensors);
  put64(&b, lies->n_keys);
  put_text(&b, "general.architecture");
  put32(&b, 8);
  put_text(&b, "llama");
  put_text(&b, "general.alignment");
  put32(&b, lies->alignment_type);
  put32(&b, lies->alignment);
  put_text(&b, lies->key);
  put32(&b, lies->key_type);
  put32(&b, lies->array_type);
  put64(&b, lies->array_n);
  for (uint32_t i = 0; i < 3; i++) put32(&b, i);
  put_text(&b, lies->name);
  put32(&b, lies->n_dims);
  put64(&b, lies->dim0);
  put64(&b, lies->dim1);
  put32(&b, lies->type);
  put64(&b, lies->offset);
  put_text(&b, lies->second_name);
  put32(&b, 1);
  put64(&b, 32);
  put32(&b, 2); /* Q4_0 */
  put64(&b, 256);
  while (b.n % 32) put(&b, "", 1);
  for (int i = 0; i < 256 + 18; i++) put(&b, "x", 1);
  return b;
}

static void gguf_lie(gguf_lies lies, const char *message) {
  bytes b = make_gguf(&lies);
  expect(".gguf", &b, message);
}

static void gguf_is_read(void **state) {
  (void)state;
  ma_error err = {0};
  bytes b = make_gguf(&honest);
  if (open_all(".gguf", b.data, b.n, &err) != MA_OK) fail_msg("%s", err.message);
}

static void gguf_prefixes(void **state) {
  (void)state;
  bytes b = make_gguf(&honest);
  for (size_t n = 0; n < b.n; n++) {
    ma_error err = {0};
    assert_int_not_equal(open_all(".gguf", b.data, n, &err), MA_OK);
    assert_true(err.message[0] != '\0');
  }
}

#define LIE(field, value, message) \
  do {                             \
    gguf_lies lies = honest;       \
    lies.field = (value);          \
    gguf_lie(lies, (message));     \
  } while (0)

static void gguf_lies_are_told_apart(void **state) {
  (void)state;
  LIE(version, 1, "GGUF version 1");
  LIE(version, 0x03000000, "big-endian");
  LIE(n_tensors, UINT64_MAX, "more tensors than the file has room for");
  LIE(n_tensors, 1000, "more tensors than the file has room for");
  LIE(n_keys, UINT64_MAX / 2, "more keys than the file has room for");
  LIE(n_keys, 0, "more than 4 dims");
  LIE(alignment, 0, "no power of two");
  LIE(alignment, 48, "no power of two");
  LIE(alignment, 1u << 31, "no power of two");
  LIE(alignment_type, 6, "wrong type of key 'general.alignment'");
  LIE(key_type, 13, "unknown type of key");
  LIE(array_type, 9, "array of arrays");
  LIE(array_type, 77, "unknown type of key");
  LIE(array_n, UINT64_MAX, "array longer than the file");
  LIE(array_n, UINT64_MAX / 4 + 1, "array longer than the file");
  LIE(array_type, 8, "longer than the file");
  LIE(key, "", "empty key");
  LIE(key, "general.alignment", "second key 'general.alignment'");
  LIE(name, "", "empty tensor name");
  LIE(second_name, "first", "second tensor 'first'");
  LIE(n_dims, 5, "more than 4 dims in tensor 'first'");
  LIE(n_dims, UINT32_MAX, "more than 4 dims");
  LIE(dim0, 0, "a dim that is 0");
  LIE(dim0, 1ull << 40, "a dim that is 0 or above 2^31");
  LIE(dim1, 1ull << 31, "a dim that is 0 or above 2^31");
  LIE(dim1, 1 << 20, "ends behind the file");
  LIE(type, 4, "unknown type 4");
  LIE(type, UINT32_MAX, "unknown type");
  LIE(type, 12, "rows are no whole blocks");
  LIE(offset, 8, "misaligned offset");
  LIE(offset, UINT64_MAX - 31, "ends behind the file");
  LIE(offset, 1 << 20, "ends behind the file");
}

/* ---- safetensors ---- */

static bytes make_safetensors(uint64_t length, const char *header, size_t data) {
  bytes b = {.n = 0};
  put64(&b, length ? length : strlen(header));
  put(&b, header, strlen(header));
  for (size_t i = 0; i < data; i++) put(&b, "y", 1);
  return b;
}

static void safetensors_prefixes(void **state) {
  (void)state;
  ma_error err = {0};
  bytes b = make_safetensors(0,
                             "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                             "\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[16,17]}}",
                             17);
  if (open_all(".safetensors", b.data, b.n, &err) != MA_OK) fail_msg("%s", err.message);
  for (size_t n = 0; n < b.n; n++) assert_int_not_equal(open_all(".safetensors", b.data, n, &err), MA_OK);
}

static void safetensors_lies_are_told_apart(void **state) {
  static const struct {
    const char *header, *message;
    uint64_t length;
  } cases[] = {
      {"{}", "header of 18446744073709551615 bytes", UINT64_MAX},
      {"{}", "header should have 99999 bytes", 99999},
      {"[]", "the header is not an object", 0},
      {"{\"a\":1}", "its entry is not an object", 0},
      {"{", "line 1", 0},
      {"{\"a\":{},\"a\":{}}", "duplicate object key", 0},
      {"{\"__metadata__\":3}", "__metadata__ is not an object", 0},
      {"{\"a\":{\"dtype\":7,\"shape\":[4],\"data_offsets\":[0,16]}}", "\"dtype\" is not a string", 0},
      {"{\"a\":{\"dtype\":\"Q9\",\"shape\":[4],\"data_offsets\":[0,16]}}", "unknown dtype 'Q9'", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}", "\"shape\" is not a list", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", "\"shape\" has no sizes", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4.5],\"data_offsets\":[0,16]}}", "\"shape\" has no sizes", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]}}", "more dims than", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,16]}}", "size overflows", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", "lies at [16, 0)", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]}}", "lies at [0, 17)", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,9223372036854775807]}}", "lies at", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}}", "is not a pair of sizes", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}", "is not a pair of sizes", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]}}", "has 16 bytes, its shape and dtype need 12",
       0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", "4 bytes behind the last tensor", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[4,16]}}", "there is a hole before it", 0},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],"
       "\"data_offsets\":[8,16]}}",
       "it overlaps the one before", 0},
  };
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    bytes b = make_safetensors(cases[i].length, cases[i].header, 16);
    expect(".safetensors", &b, cases[i].message);
  }
}

/* ---- a file that shrinks while it is mapped ---- */

static void read_all(void *self, size_t from, size_t to) {
  const ma_map *map = self;
  volatile uint8_t sum = 0;
  for (size_t i = from; i < to; i += 512) sum = (uint8_t)(sum + ma_map_data(map)[i]);
}

static void shrinking_file_fails_with_a_message(void **state) {
  (void)state;
  enum { SIZE = 64 << 12 };
  char path[64];
  ma_error err = {0};
  ma_map *map;
  uint8_t *zeros = calloc(1, SIZE);
  assert_non_null(zeros);
  write_file(path, ".bin", zeros, SIZE);
  free(zeros);
  assert_int_equal(ma_map_open(&map, path, &err), MA_OK);
  assert_int_equal(ma_map_check(map, &err), MA_OK);
  assert_int_equal(truncate(path, 4096), 0);
  ma_parallel_for(SIZE, 4096, read_all, map);
  assert_int_equal(ma_map_check(map, &err), MA_IO);
  assert_non_null(strstr(err.message, "shrank"));
  ma_map_release(map);
  unlink(path);
}

/* ---- memory that runs out ---- */

#ifdef MASSACT_FAULTS
/* Every allocation of an open fails in turn: an error each time, and nothing is left behind. */
static void running_out_of_memory(void **state) {
  (void)state;
  ma_error err = {0};
  bytes b = make_gguf(&honest);
  long before = ma_live_allocations();
  for (long n = 0;; n++) {
    ma_fault_allocations_after(n);
    char path[64];
    ma_checkpoint *c = NULL;
    write_file(path, ".gguf", b.data, b.n);
    ma_status st = ma_checkpoint_open(&c, path, &err);
    ma_fault_allocations_after(-1);
    ma_checkpoint_close(c);
    unlink(path);
    assert_int_equal(ma_live_allocations(), before);
    if (st == MA_OK) {
      assert_true(n > 5);
      break;
    }
    assert_int_equal(st, MA_NO_MEMORY);
  }
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gguf_is_read),
      cmocka_unit_test(gguf_prefixes),
      cmocka_unit_test(gguf_lies_are_told_apart),
      cmocka_unit_test(safetensors_prefixes),
      cmocka_unit_test(safetensors_lies_are_told_apart),
      cmocka_unit_test(shrinking_file_fails_with_a_message),
#ifdef MASSACT_FAULTS
      cmocka_unit_test(running_out_of_memory),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
