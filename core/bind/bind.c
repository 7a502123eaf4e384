#include "bind/bind.h"
#include "tensor/backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void bind_class(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods) {
  luaL_newmetatable(L, name);
  luaL_setfuncs(L, meta, 0);
  if (methods) {
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods");
    if (lua_getfield(L, -2, "__index") == LUA_TNIL) {
      lua_pushvalue(L, -2);
      lua_setfield(L, -4, "__index");
    }
    lua_pop(L, 2);
  }
  lua_pop(L, 1);
}

void *bind_new(lua_State *L, const char *class_name, size_t size, int n_values) {
  void *box = lua_newuserdatauv(L, size, n_values);
  memset(box, 0, size);
  luaL_setmetatable(L, class_name);
  return box;
}

/* ---- errors ---- */

const char bind_message_handler = 0;

int bind_raise(lua_State *L, const ma_error *err) { return luaL_error(L, "%s", err->message); }

int bind_error(lua_State *L, const char *format, ...) {
  char message[MA_MESSAGE_BYTES];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  return luaL_error(L, "%s", message);
}

/* ---- memory ---- */

void bind_charge(lua_State *L, size_t bytes) {
  /* Below a few KiB the userdata itself is what counts, and Lua knows it. */
  size_t kib = bytes >> 10;
  if (kib < 4) return;
  lua_gc(L, LUA_GCSTEP, (int)(kib < 1 << 20 ? kib : 1 << 20));
}

/* ---- tensors ---- */

ma_tensor *bind_new_tensor(lua_State *L) { return bind_new(L, BIND_TENSOR, sizeof(ma_tensor), 0); }

void bind_filled_tensor(lua_State *L, const ma_tensor *t) {
  if (t->storage && (t->storage->owns_data || t->storage->base)) bind_charge(L, t->storage->bytes);
}

const ma_tensor *bind_on_host(lua_State *L, const ma_tensor *t) {
  ma_error err;
  if (ma_tensor_device(t) == ma_device_cpu()) {
    lua_pushnil(L);
    return t;
  }
  ma_tensor plain = *t; /* where elements go from here has no gradient */
  plain.is_detached = true;
  ma_tensor *copy = bind_new_tensor(L);
  if (ma_tensor_move(copy, &plain, ma_device_cpu(), &err) != MA_OK) bind_raise(L, &err);
  bind_filled_tensor(L, copy);
  return copy;
}

int bind_made_tensor(lua_State *L, ma_status st, const ma_error *err) {
  if (st != MA_OK) return bind_raise(L, err);
  bind_filled_tensor(L, lua_touserdata(L, -1));
  return 1;
}

static ma_tensor *alive(lua_State *L, ma_tensor *t) {
  ma_error err;
  if (!t->storage) bind_error(L, "this tensor has been closed");
  if (ma_storage_check(t->storage, &err) != MA_OK) bind_raise(L, &err);
  return t;
}

ma_tensor *bind_check_raw_tensor(lua_State *L, int index) { return alive(L, luaL_checkudata(L, index, BIND_TENSOR)); }

ma_tensor *bind_check_tensor(lua_State *L, int index) {
  return bind_stand_in(L, index, bind_check_raw_tensor(L, index));
}

ma_tensor *bind_test_tensor(lua_State *L, int index) {
  ma_tensor *t = luaL_testudata(L, index, BIND_TENSOR);
  return t ? bind_stand_in(L, index, alive(L, t)) : NULL;
}

/* ---- arguments ---- */

int bind_check_dim(lua_State *L, int index, int n) {
  lua_Integer dim = luaL_checkinteger(L, index);
  if (dim < -n || dim >= n)
    return bind_error(L, "dim %lld does not exist: the tensor has %d, counted from 0", (long long)dim, n);
  return (int)(dim < 0 ? dim + n : dim);
}

ma_dtype bind_check_dtype(lua_State *L, int index) {
  ma_dtype dtype;
  const char *name = luaL_checkstring(L, index);
  if (!ma_dtype_parse(&dtype, name))
    bind_error(L, "no dtype '%s'; there are f32, f16, bf16, i32, i64, u8, q8_0, q4_0", name);
  return dtype;
}

static void check_table(lua_State *L, int index) {
  if (!lua_istable(L, index)) bind_error(L, "a table is wanted, not a %s", luaL_typename(L, index));
}

lua_Integer bind_length(lua_State *L, int index) {
  check_table(L, index);
  return (lua_Integer)lua_rawlen(L, index);
}

int bind_item(lua_State *L, int index, lua_Integer i) {
  check_table(L, index);
  return lua_rawgeti(L, index, i);
}

int bind_field(lua_State *L, int index, const char *name) {
  check_table(L, index);
  index = lua_absindex(L, index);
  lua_pushstring(L, name);
  return lua_rawget(L, index);
}

int bind_check_shape(lua_State *L, int index, int64_t shape[MA_MAX_DIMS]) {
  bool is_table = lua_istable(L, index);
  int n = is_table ? (int)bind_length(L, index) : lua_gettop(L) - index + 1;
  if (n > MA_MAX_DIMS) return bind_error(L, "a tensor has at most %d dims", MA_MAX_DIMS);
  for (int i = 0; i < n; i++) {
    if (is_table) bind_item(L, index, i + 1);
    else lua_pushvalue(L, index + i);
    int is_integer;
    shape[i] = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer) return bind_error(L, "a shape is made of integers");
    lua_pop(L, 1);
  }
  return n;
}

void bind_check_keys(lua_State *L, int index, const char *const *names) {
  luaL_checktype(L, index, LUA_TTABLE);
  index = lua_absindex(L, index);
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    bool known = false;
    for (size_t i = 0; key && names[i]; i++) known |= strcmp(names[i], key) == 0;
    if (known) continue;
    luaL_Buffer all;
    luaL_buffinit(L, &all);
    for (size_t i = 0; names[i]; i++) {
      if (i) luaL_addstring(&all, ", ");
      luaL_addstring(&all, names[i]);
    }
    luaL_pushresult(&all);
    bind_error(L, "unknown option '%s'; there are %s", key ? key : "(not a string)", lua_tostring(L, -1));
  }
}
