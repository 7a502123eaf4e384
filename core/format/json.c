#include "format/json.h"

#include "base/file.h"
#include "base/memory.h"

ma_status ma_json_parse(json_t **out, const char *text, size_t length, const char *where, ma_error *err) {
  json_error_t problem;
  *out = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &problem);
  if (*out) return MA_OK;
  return ma_fail(err, MA_BAD_FILE, "%s: line %d, column %d: %s", where, problem.line, problem.column, problem.text);
}

ma_status ma_json_read(json_t **out, const char *path, ma_error *err) {
  char *text = NULL;
  size_t size;
  *out = NULL;
  ma_status st = ma_file_read(&text, &size, path, MA_JSON_LIMIT, err);
  if (st == MA_OK) st = ma_json_parse(out, text, size, path, err);
  ma_free(text);
  return st;
}

typedef struct sink {
  ma_writer *writer;
  ma_status st;
  ma_error *err;
} sink;

static int write_piece(const char *piece, size_t length, void *self) {
  sink *s = self;
  s->st = ma_writer_write(s->writer, piece, length, s->err);
  return s->st == MA_OK ? 0 : -1;
}

ma_status ma_json_write(const char *path, const json_t *value, ma_error *err) {
  ma_status st = MA_OK;
  sink s = {.err = err};
  MA_TRY(ma_writer_open(&s.writer, path, err));
  if (json_dump_callback(value, write_piece, &s, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_ENCODE_ANY) != 0)
    MA_TRY(s.st != MA_OK ? s.st : ma_fail(err, MA_BAD_ARGUMENT, "'%s': this value cannot be JSON", path));
  MA_TRY(ma_writer_write(s.writer, "\n", 1, err));
  MA_TRY(ma_writer_commit(s.writer, err));
done:
  ma_writer_close(s.writer);
  return st;
}
