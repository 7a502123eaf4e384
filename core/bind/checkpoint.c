/* Checkpoints (names, tensors, GGUF metadata) and the writing of safetensors. */
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "format/safetensors.h"

static ma_checkpoint **check(lua_State *L) {
  ma_checkpoint **box = luaL_checkudata(L, 1, BIND_CHECKPOINT);
  if (!*box) bind_error(L, "this checkpoint has been closed");
  return box;
}

static int checkpoint_open(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  ma_checkpoint **box = bind_new(L, BIND_CHECKPOINT, sizeof *box, 0);
  if (ma_checkpoint_open(box, path, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

static int checkpoint_close(lua_State *L) {
  ma_checkpoint **box = luaL_checkudata(L, 1, BIND_CHECKPOINT);
  ma_checkpoint_close(*box);
  *box = NULL;
  return 0;
}

static int checkpoint_names(lua_State *L) {
  const ma_checkpoint *c = *check(L);
  lua_createtable(L, (int)ma_checkpoint_count(c), 0);
  for (size_t i = 0; i < ma_checkpoint_count(c); i++) {
    lua_pushstring(L, ma_checkpoint_entry(c, i)->name);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static const ma_entry *check_entry(lua_State *L) {
  const ma_entry *e = ma_checkpoint_find(*check(L), luaL_checkstring(L, 2));
  if (!e) bind_error(L, "the checkpoint has no tensor '%s'", lua_tostring(L, 2));
  return e;
}

static int checkpoint_shape(lua_State *L) {
  const ma_entry *e = check_entry(L);
  lua_createtable(L, e->n_dims, 0);
  for (int i = 0; i < e->n_dims; i++) {
    lua_pushinteger(L, e->shape[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int checkpoint_dtype(lua_State *L) {
  const ma_entry *e = check_entry(L);
  lua_pushstring(L, e->is_readable ? ma_dtype_describe(e->dtype)->name : e->dtype_name);
  return 1;
}

static int checkpoint_has(lua_State *L) {
  lua_pushboolean(L, ma_checkpoint_find(*check(L), luaL_checkstring(L, 2)) != NULL);
  return 1;
}

static int checkpoint_bytes(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_entry(L)->bytes);
  return 1;
}

static int checkpoint_tensor(lua_State *L) {
  ma_error err;
  const ma_checkpoint *c = *check(L);
  const char *name = luaL_checkstring(L, 2);
  if (ma_checkpoint_tensor(bind_new_tensor(L), c, name, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

static int checkpoint_format(lua_State *L) {
  lua_pushstring(L, ma_checkpoint_gguf(*check(L)) ? "gguf" : "safetensors");
  return 1;
}

/* ---- GGUF metadata ---- */

static void push_scalar(lua_State *L, const ma_gguf_value *v, uint64_t i) {
  int64_t integer;
  double number = 0;
  if (v->type == MA_GGUF_STRING) lua_pushlstring(L, v->texts[i].data, v->texts[i].length);
  else if (v->type == MA_GGUF_BOOL) lua_pushboolean(L, v->data[i] != 0);
  else if (ma_gguf_integer(v, i, &integer)) lua_pushinteger(L, integer);
  else if (ma_gguf_number(v, i, &number)) lua_pushnumber(L, number);
  else lua_pushnil(L);
}

static void push_value(lua_State *L, const ma_gguf_value *v) {
  if (!v->is_array) {
    push_scalar(L, v, 0);
    return;
  }
  lua_createtable(L, v->n < INT32_MAX ? (int)v->n : 0, 0);
  for (uint64_t e = 0; e < v->n; e++) {
    push_scalar(L, v, e);
    lua_rawseti(L, -2, (lua_Integer)e + 1);
  }
}

/* keys(): of the metadata, in the file's order. */
static int checkpoint_keys(lua_State *L) {
  const ma_gguf *g = ma_checkpoint_gguf(*check(L));
  lua_newtable(L);
  for (size_t i = 0; g && i < ma_gguf_n_keys(g); i++) {
    lua_pushstring(L, ma_gguf_key(g, i));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* value(key): the value and its type's name (of an array: of its elements), or nothing. */
static int checkpoint_value(lua_State *L) {
  const ma_gguf *g = ma_checkpoint_gguf(*check(L));
  const ma_gguf_value *v = g ? ma_gguf_find(g, luaL_checkstring(L, 2)) : NULL;
  if (!v) return 0;
  push_value(L, v);
  lua_pushstring(L, ma_gguf_type_name(v->type));
  return 2;
}

/* metadata(): key -> value; arrays longer than 64 (vocabularies) are left out. */
static int checkpoint_metadata(lua_State *L) {
  enum { LONG = 64 };
  const ma_gguf *g = ma_checkpoint_gguf(*check(L));
  lua_newtable(L);
  for (size_t i = 0; g && i < ma_gguf_n_keys(g); i++) {
    const ma_gguf_value *v = ma_gguf_value_at(g, i);
    if (v->is_array && v->n > LONG) continue;
    push_value(L, v);
    lua_setfield(L, -2, ma_gguf_key(g, i));
  }
  return 1;
}

/* ---- writing ---- */

/* save(path, {name = tensor, ...}, {key = text, ...}?): names in their order as text. */
static int compare_names(lua_State *L) {
  lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
  return 1;
}

static int safetensors_save(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  lua_newtable(L); /* 4: the names, sorted */
  lua_Integer n = 0, n_pairs = 0;
  for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) return bind_error(L, "save: a tensor's name is a string");
    bind_check_tensor(L, -1);
    lua_pushvalue(L, -2);
    lua_rawseti(L, 4, ++n);
  }
  lua_getglobal(L, "table");
  lua_getfield(L, -1, "sort");
  lua_pushvalue(L, 4);
  lua_pushcfunction(L, compare_names);
  lua_call(L, 2, 0);
  const char **names = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *names, 0);
  ma_tensor *tensors = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *tensors, 0);
  for (lua_Integer i = 0; i < n; i++) {
    lua_rawgeti(L, 4, i + 1);
    names[i] = lua_tostring(L, -1); /* the table keeps names and tensors alive */
    lua_gettable(L, 2);
    tensors[i] = *bind_check_tensor(L, -1);
    lua_pop(L, 1);
  }
  const char **pairs = NULL;
  if (!lua_isnil(L, 3)) {
    luaL_checktype(L, 3, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) n_pairs++;
    pairs = lua_newuserdatauv(L, (2 * (size_t)n_pairs + 1) * sizeof *pairs, 0);
    size_t at = 0;
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
      if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
        return bind_error(L, "save: metadata is strings by strings");
      pairs[at++] = lua_tostring(L, -2);
      pairs[at++] = lua_tostring(L, -1);
    }
    pairs[at] = NULL;
  }
  if (ma_safetensors_save(path, names, tensors, (size_t)n, pairs, &err) != MA_OK) return bind_raise(L, &err);
  return 0;
}

int bind_open_checkpoint(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", checkpoint_close}, {"__close", checkpoint_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"names", checkpoint_names},   {"shape", checkpoint_shape},       {"dtype", checkpoint_dtype},
      {"has", checkpoint_has},       {"bytes", checkpoint_bytes},       {"tensor", checkpoint_tensor},
      {"format", checkpoint_format}, {"metadata", checkpoint_metadata}, {"value", checkpoint_value},
      {"keys", checkpoint_keys},     {"close", checkpoint_close},       {NULL, NULL}};
  static const luaL_Reg functions[] = {{"open", checkpoint_open}, {"save", safetensors_save}, {NULL, NULL}};
  bind_class(L, BIND_CHECKPOINT, meta, methods);
  luaL_newlib(L, functions);
  bind_open_writer(L);
  return 1;
}
