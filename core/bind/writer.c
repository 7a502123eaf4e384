/* Checkpoints written a tensor at a time: checkpoint.write_safetensors and checkpoint.write_gguf give a Writer. */
#include <string.h>

#include "bind/bind.h"
#include "format/gguf_write.h"
#include "format/safetensors.h"

/* ---- what comes from Lua: lists, kept alive by the table that they are read from ---- */

typedef struct layout {
  const char **names;
  ma_tensor *tensors; /* dtype and shape */
  size_t n;
} layout;

/* The string in field `i` of the table on top of the stack; the table holds it. */
static const char *text_field(lua_State *L, int i, const char *what) {
  if (lua_rawgeti(L, -1, i) != LUA_TSTRING) bind_error(L, "%s is not a string", what);
  const char *text = lua_tostring(L, -1);
  lua_pop(L, 1);
  return text;
}

/* {{name, dtype, shape}, ...} at `index`; leaves two userdata on the stack. */
static layout read_layout(lua_State *L, int index) {
  luaL_checktype(L, index, LUA_TTABLE);
  layout all = {.n = (size_t)luaL_len(L, index)};
  all.names = lua_newuserdatauv(L, (all.n + 1) * sizeof *all.names, 0);
  all.tensors = lua_newuserdatauv(L, (all.n + 1) * sizeof *all.tensors, 0);
  memset(all.tensors, 0, (all.n + 1) * sizeof *all.tensors);
  for (size_t i = 0; i < all.n; i++) {
    if (lua_geti(L, index, (lua_Integer)i + 1) != LUA_TTABLE)
      bind_error(L, "a tensor is announced as {name, dtype, shape}");
    all.names[i] = text_field(L, 1, "a tensor's name");
    lua_rawgeti(L, -1, 2);
    all.tensors[i].dtype = bind_check_dtype(L, -1);
    lua_pop(L, 1);
    lua_rawgeti(L, -1, 3);
    luaL_checktype(L, -1, LUA_TTABLE);
    all.tensors[i].n_dims = bind_check_shape(L, lua_gettop(L), all.tensors[i].shape);
    lua_pop(L, 2);
  }
  return all;
}

/* ---- metadata of GGUF ---- */

static ma_gguf_type check_type(lua_State *L, const char *name, const char *key) {
  for (int t = 0; t < MA_GGUF_N_TYPES; t++)
    if (t != MA_GGUF_ARRAY && strcmp(ma_gguf_type_name((ma_gguf_type)t), name) == 0) return (ma_gguf_type)t;
  return (ma_gguf_type)bind_error(L, "key '%s': GGUF has no type '%s'", key, name);
}

/* The number on top of the stack at `to`, little-endian. */
static void put_number(lua_State *L, uint8_t *to, ma_gguf_type type, const char *key) {
  int fits;
  size_t size = ma_gguf_size_of_type(type);
  if (type == MA_GGUF_BOOL) {
    if (!lua_isboolean(L, -1)) bind_error(L, "key '%s': not a bool", key);
    *to = (uint8_t)lua_toboolean(L, -1);
  } else if (type == MA_GGUF_F32 || type == MA_GGUF_F64) {
    double number = lua_tonumberx(L, -1, &fits);
    float single = (float)number;
    if (!fits) bind_error(L, "key '%s': not a number", key);
    memcpy(to, type == MA_GGUF_F32 ? (void *)&single : (void *)&number, size);
  } else {
    lua_Integer integer = lua_tointegerx(L, -1, &fits);
    if (!fits) bind_error(L, "key '%s': not a whole number", key);
    bool is_signed = type == MA_GGUF_I8 || type == MA_GGUF_I16 || type == MA_GGUF_I32 || type == MA_GGUF_I64;
    int64_t high = size == 8 ? INT64_MAX : (int64_t)((UINT64_C(1) << (8 * size - is_signed)) - 1);
    int64_t low = !is_signed ? 0 : -high - 1;
    if (integer < low || integer > high) bind_error(L, "key '%s': %lld does not fit", key, (long long)integer);
    memcpy(to, &integer, size);
  }
}

/* The value on top of the stack, whose items are kept alive by the caller's table; leaves one userdata. */
static ma_gguf_value read_value(lua_State *L, ma_gguf_type type, const char *key) {
  int at = lua_gettop(L);
  ma_gguf_value v = {.type = type, .is_array = lua_istable(L, at), .n = 1};
  if (v.is_array) v.n = (uint64_t)luaL_len(L, at);
  size_t size = type == MA_GGUF_STRING ? sizeof(ma_gguf_text) : ma_gguf_size_of_type(type);
  uint8_t *data = lua_newuserdatauv(L, ((size_t)v.n + 1) * size, 0);
  for (uint64_t i = 0; i < v.n; i++) {
    if (v.is_array) lua_geti(L, at, (lua_Integer)i + 1);
    else lua_pushvalue(L, at);
    if (type == MA_GGUF_STRING) {
      ma_gguf_text *text = (ma_gguf_text *)(void *)data + i;
      if (lua_type(L, -1) != LUA_TSTRING) bind_error(L, "key '%s': not a string", key);
      text->data = lua_tolstring(L, -1, &text->length);
    } else {
      put_number(L, data + i * size, type, key);
    }
    lua_pop(L, 1);
  }
  if (type == MA_GGUF_STRING) v.texts = (const ma_gguf_text *)(void *)data;
  else v.data = data;
  return v;
}

/* {{key, type, value}, ...} at `index`: a list of pairs, which it leaves on the stack with a table of its values. */
static ma_gguf_pair *read_pairs(lua_State *L, int index, size_t *n) {
  luaL_checktype(L, index, LUA_TTABLE);
  *n = (size_t)luaL_len(L, index);
  ma_gguf_pair *pairs = lua_newuserdatauv(L, (*n + 1) * sizeof *pairs, 0);
  lua_newtable(L);
  int kept = lua_gettop(L);
  for (size_t i = 0; i < *n; i++) {
    if (lua_geti(L, index, (lua_Integer)i + 1) != LUA_TTABLE) bind_error(L, "metadata is a list of {key, type, value}");
    pairs[i].key = text_field(L, 1, "a key");
    ma_gguf_type type = check_type(L, text_field(L, 2, "a type"), pairs[i].key);
    lua_rawgeti(L, -1, 3);
    pairs[i].value = read_value(L, type, pairs[i].key);
    lua_rawseti(L, kept, (lua_Integer)i + 1);
    lua_settop(L, kept);
  }
  return pairs;
}

/* ---- the writer ---- */

static ma_tensor_writer *check(lua_State *L) {
  ma_tensor_writer **box = luaL_checkudata(L, 1, BIND_WRITER);
  if (!*box) bind_error(L, "this writer has been closed");
  return *box;
}

static int writer_close(lua_State *L) {
  ma_tensor_writer **box = luaL_checkudata(L, 1, BIND_WRITER);
  ma_tensor_writer_close(*box);
  *box = NULL;
  return 0;
}

/* write_gguf(path, {{key, type, value}, ...}, {{name, dtype, shape}, ...}) */
static int write_gguf(lua_State *L) {
  ma_error err;
  size_t n_pairs;
  const char *path = luaL_checkstring(L, 1);
  lua_settop(L, 3);
  ma_gguf_pair *pairs = read_pairs(L, 2, &n_pairs);
  layout all = read_layout(L, 3);
  ma_tensor_writer **box = bind_new(L, BIND_WRITER, sizeof *box, 0);
  if (ma_gguf_begin(box, path, pairs, n_pairs, all.names, all.tensors, all.n, &err) != MA_OK)
    return bind_raise(L, &err);
  return 1;
}

/* write_safetensors(path, {{name, dtype, shape}, ...}) */
static int write_safetensors(lua_State *L) {
  static const char *const metadata[] = {"format", "pt", NULL}; /* transformers insists on it */
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  layout all = read_layout(L, 2);
  ma_tensor_writer **box = bind_new(L, BIND_WRITER, sizeof *box, 0);
  if (ma_safetensors_begin(box, path, all.names, all.tensors, all.n, metadata, &err) != MA_OK)
    return bind_raise(L, &err);
  return 1;
}

static int writer_add(lua_State *L) {
  ma_error err;
  ma_tensor_writer *w = check(L);
  const char *name = luaL_checkstring(L, 2);
  if (ma_tensor_writer_add(w, name, bind_check_tensor(L, 3), &err) != MA_OK) return bind_raise(L, &err);
  return 0;
}

static int writer_commit(lua_State *L) {
  ma_error err;
  if (ma_tensor_writer_commit(check(L), &err) != MA_OK) return bind_raise(L, &err);
  return writer_close(L);
}

void bind_open_writer(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", writer_close}, {"__close", writer_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"add", writer_add}, {"commit", writer_commit}, {"close", writer_close}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"write_gguf", write_gguf}, {"write_safetensors", write_safetensors}, {NULL, NULL}};
  bind_class(L, BIND_WRITER, meta, methods);
  luaL_setfuncs(L, functions, 0);
}
