/* Token files: tokens.open(path) and tokens.write(path, tokenizer, {bos =, eos =}). */
#include "text/token_file.h"

#include <stdio.h>
#include <string.h>

#include "bind/bind.h"
#include "tensor/backend.h"

/* ---- reading ---- */

static int file_open(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  ma_token_file **box = bind_new(L, BIND_TOKEN_FILE, sizeof *box, 0);
  if (ma_token_file_open(box, path, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

static int file_close(lua_State *L) {
  ma_token_file **box = luaL_checkudata(L, 1, BIND_TOKEN_FILE);
  ma_token_file_close(*box);
  *box = NULL;
  return 0;
}

static const ma_token_file *check(lua_State *L) {
  ma_token_file **box = luaL_checkudata(L, 1, BIND_TOKEN_FILE);
  if (!*box) bind_error(L, "this token file has been closed");
  return *box;
}

static void set_integer(lua_State *L, const char *key, lua_Integer value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, key);
}

static int push_info(lua_State *L, const ma_token_info *info) {
  char hex[2 * MA_SHA256_BYTES + 1];
  for (size_t i = 0; i < MA_SHA256_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", info->vocabulary[i]);
  lua_createtable(L, 0, 7);
  set_integer(L, "n_tokens", (lua_Integer)info->n_tokens);
  set_integer(L, "n_documents", (lua_Integer)info->n_documents);
  set_integer(L, "vocab_size", info->vocab_size);
  set_integer(L, "id_bytes", info->id_bytes);
  if (info->bos >= 0) set_integer(L, "bos", info->bos);
  if (info->eos >= 0) set_integer(L, "eos", info->eos);
  lua_pushstring(L, hex);
  lua_setfield(L, -2, "sha256");
  return 1;
}

static int file_info(lua_State *L) { return push_info(L, ma_token_file_info(check(L))); }

/* One row: ids from `start` on, behind `bos` unless it is -1 or they begin with it. */
static ma_status read_row(const ma_token_file *f, int64_t start, size_t length, int64_t bos, ma_dtype dtype, char *row,
                          ma_error *err) {
  size_t size = dtype == MA_I64 ? 8 : 4;
  ma_status st = ma_token_file_read(f, (uint64_t)start, length, dtype, row, err);
  if (st != MA_OK || bos < 0 || length == 0) return st;
  int64_t first = 0;
  memcpy(&first, row, size); /* little-endian, and never negative */
  if (first == bos) return MA_OK;
  memmove(row + size, row, (length - 1) * size);
  memcpy(row, &bos, size);
  return MA_OK;
}

static int64_t check_start(lua_State *L, lua_Integer i) {
  int is_integer;
  bind_item(L, 2, i);
  lua_Integer start = lua_tointegerx(L, -1, &is_integer);
  if (!is_integer || start < 0) bind_error(L, "windows begin at whole numbers from 0 on");
  lua_pop(L, 1);
  return start;
}

/* gather(starts, length, dtype, bos): [starts, length]. */
static int file_gather(lua_State *L) {
  ma_error err;
  check(L);
  int64_t shape[2] = {bind_length(L, 2), luaL_checkinteger(L, 3)};
  ma_dtype dtype = bind_check_dtype(L, 4);
  lua_Integer bos = luaL_optinteger(L, 5, -1);
  if (dtype != MA_I32 && dtype != MA_I64)
    return bind_error(L, "token ids are i32 or i64, not %s", ma_dtype_describe(dtype)->name);
  if (bos < -1 || bos > INT32_MAX) return bind_error(L, "BOS is no token id: %lld", (long long)bos);
  ma_tensor *out = bind_new_tensor(L);
  if (ma_tensor_new(out, ma_device_cpu(), dtype, 2, shape, &err) != MA_OK) return bind_raise(L, &err);
  char *row = ma_tensor_data(out);
  for (int64_t i = 0; i < shape[0]; i++, row += (size_t)shape[1] * ma_dtype_describe(dtype)->bytes)
    if (read_row(check(L), check_start(L, i + 1), (size_t)shape[1], bos, dtype, row, &err) != MA_OK)
      return bind_raise(L, &err);
  bind_filled_tensor(L, out);
  return 1;
}

/* ---- writing ---- */

static int writer_close(lua_State *L) {
  ma_token_writer **box = luaL_checkudata(L, 1, BIND_TOKEN_WRITER);
  ma_token_writer_close(*box);
  *box = NULL;
  return 0;
}

static ma_token_writer *check_writer(lua_State *L) {
  ma_token_writer **box = luaL_checkudata(L, 1, BIND_TOKEN_WRITER);
  if (!*box) bind_error(L, "this token file has been closed");
  return *box;
}

/* The tokenizer may be closed by a script while the writer needs it. */
static ma_token_writer *check_open(lua_State *L) {
  ma_token_writer *w = check_writer(L);
  lua_getiuservalue(L, 1, 1);
  bind_check_tokenizer(L, -1);
  lua_pop(L, 1);
  return w;
}

static int32_t optional_id(lua_State *L, const char *key, size_t vocab_size) {
  int32_t id = -1;
  if (bind_field(L, 3, key) != LUA_TNIL) {
    lua_Integer value = luaL_checkinteger(L, -1);
    if (value < 0 || (size_t)value >= vocab_size)
      bind_error(L, "%s is %lld, outside the vocabulary of %zu", key, (long long)value, vocab_size);
    id = (int32_t)value;
  }
  lua_pop(L, 1);
  return id;
}

/* write(path, tokenizer, {bos = id, eos = id}) */
static int writer_open(lua_State *L) {
  static const char *const keys[] = {"bos", "eos", NULL};
  ma_error err;
  ma_token_info info = {0};
  const char *path = luaL_checkstring(L, 1);
  size_t vocab_size = ma_tokenizer_size(bind_check_tokenizer(L, 2));
  bind_check_keys(L, 3, keys);
  info.bos = optional_id(L, "bos", vocab_size);
  info.eos = optional_id(L, "eos", vocab_size);
  bind_sha256_of_tokenizer(L, bind_check_tokenizer(L, 2), info.vocabulary);
  ma_token_writer **box = bind_new(L, BIND_TOKEN_WRITER, sizeof *box, 1);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 1);
  if (ma_token_writer_open(box, path, bind_check_tokenizer(L, 2), &info, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

/* add(text, ends, where): where names the text in messages. */
static int writer_add(lua_State *L) {
  ma_error err;
  size_t length;
  check_writer(L);
  const char *text = luaL_checklstring(L, 2, &length), *where = luaL_optstring(L, 4, NULL);
  ma_status st = ma_token_writer_add(check_open(L), text, length, lua_toboolean(L, 3), &err);
  if (st == MA_BAD_ARGUMENT && where) ma_fail_at(&err, "%s", where);
  return st == MA_OK ? 0 : bind_raise(L, &err);
}

static int writer_commit(lua_State *L) {
  ma_error err;
  if (ma_token_writer_commit(check_open(L), &err) != MA_OK) return bind_raise(L, &err);
  return writer_close(L);
}

int bind_open_token_file(lua_State *L) {
  static const luaL_Reg file_meta[] = {{"__gc", file_close}, {"__close", file_close}, {NULL, NULL}};
  static const luaL_Reg file_methods[] = {
      {"info", file_info}, {"gather", file_gather}, {"close", file_close}, {NULL, NULL}};
  static const luaL_Reg writer_meta[] = {{"__gc", writer_close}, {"__close", writer_close}, {NULL, NULL}};
  static const luaL_Reg writer_methods[] = {
      {"add", writer_add}, {"commit", writer_commit}, {"close", writer_close}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"open", file_open}, {"write", writer_open}, {NULL, NULL}};
  bind_class(L, BIND_TOKEN_FILE, file_meta, file_methods);
  bind_class(L, BIND_TOKEN_WRITER, writer_meta, writer_methods);
  luaL_newlib(L, functions);
  return 1;
}
