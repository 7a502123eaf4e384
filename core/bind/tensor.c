/* Tensors: making, views, asking, conversion.  Operations are in operations.c, printing in print.c. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "tensor/backend.h"
#include "tensor/ops.h"

int bind_tensor_tostring(lua_State *L);  /* print.c */
void bind_open_operations(lua_State *L); /* operations.c */
void bind_open_layers(lua_State *L);     /* layers.c */
void bind_open_gradient(lua_State *L);   /* gradient.c */
int bind_push_grad(lua_State *L);

/* ---- views ---- */

static int t_reshape(lua_State *L) {
  ma_error err;
  int64_t shape[MA_MAX_DIMS];
  const ma_tensor *t = bind_check_tensor(L, 1);
  int n = bind_check_shape(L, 2, shape);
  ma_tensor *out = bind_new_tensor(L), copy = {0};
  if (ma_tensor_reshape(out, t, n, shape, &err) == MA_OK) return 1;
  /* Where a view cannot do it a copy does, as everywhere. */
  if (ma_tensor_is_contiguous(t)) return bind_raise(L, &err);
  ma_status st = ma_tensor_convert(&copy, t, t->dtype, &err);
  if (st == MA_OK) st = ma_tensor_reshape(out, &copy, n, shape, &err);
  ma_tensor_release(&copy);
  return bind_made_tensor(L, st, &err);
}

static int t_transpose(lua_State *L) {
  ma_error err;
  const ma_tensor *t = bind_check_tensor(L, 1);
  int a = bind_check_dim(L, 2, t->n_dims), b = bind_check_dim(L, 3, t->n_dims);
  return bind_made_tensor(L, ma_tensor_transpose(bind_new_tensor(L), t, a, b, &err), &err);
}

static int t_t(lua_State *L) {
  ma_error err;
  const ma_tensor *t = bind_check_tensor(L, 1);
  if (t->n_dims != 2) return bind_error(L, "t() turns a matrix; this tensor has %d dims", t->n_dims);
  return bind_made_tensor(L, ma_tensor_transpose(bind_new_tensor(L), t, 0, 1, &err), &err);
}

static int t_permute(lua_State *L) {
  ma_error err;
  int64_t wanted[MA_MAX_DIMS];
  int order[MA_MAX_DIMS];
  const ma_tensor *t = bind_check_tensor(L, 1);
  int n = bind_check_shape(L, 2, wanted);
  if (n != t->n_dims) return bind_error(L, "permute names %d of %d dims", n, t->n_dims);
  for (int i = 0; i < n; i++) order[i] = (int)(wanted[i] < 0 ? wanted[i] + n : wanted[i]);
  return bind_made_tensor(L, ma_tensor_permute(bind_new_tensor(L), t, order, &err), &err);
}

static int t_narrow(lua_State *L) {
  ma_error err;
  const ma_tensor *t = bind_check_tensor(L, 1);
  int dim = bind_check_dim(L, 2, t->n_dims);
  lua_Integer start = luaL_checkinteger(L, 3), length = luaL_checkinteger(L, 4);
  return bind_made_tensor(L, ma_tensor_narrow(bind_new_tensor(L), t, dim, start, length, &err), &err);
}

static int select_at(lua_State *L, const ma_tensor *t, int dim, lua_Integer index) {
  ma_error err;
  if (index < 0) index += t->shape[dim];
  return bind_made_tensor(L, ma_tensor_select(bind_new_tensor(L), t, dim, index, &err), &err);
}

static int t_select(lua_State *L) {
  const ma_tensor *t = bind_check_tensor(L, 1);
  int dim = bind_check_dim(L, 2, t->n_dims);
  return select_at(L, t, dim, luaL_checkinteger(L, 3));
}

static int t_expand(lua_State *L) {
  ma_error err;
  int64_t shape[MA_MAX_DIMS];
  const ma_tensor *t = bind_check_tensor(L, 1);
  int n = bind_check_shape(L, 2, shape);
  return bind_made_tensor(L, ma_tensor_expand(bind_new_tensor(L), t, n, shape, &err), &err);
}

static int t_unsqueeze(lua_State *L) {
  ma_error err;
  int64_t shape[MA_MAX_DIMS];
  const ma_tensor *t = bind_check_tensor(L, 1);
  int dim = bind_check_dim(L, 2, t->n_dims + 1), n = 0;
  if (t->n_dims == MA_MAX_DIMS) return bind_error(L, "a tensor has at most %d dims", MA_MAX_DIMS);
  for (int i = 0; i <= t->n_dims; i++) {
    if (i == dim) shape[n++] = 1;
    if (i < t->n_dims) shape[n++] = t->shape[i];
  }
  return bind_made_tensor(L, ma_tensor_reshape(bind_new_tensor(L), t, n, shape, &err), &err);
}

static int t_squeeze(lua_State *L) {
  ma_error err;
  int64_t shape[MA_MAX_DIMS];
  const ma_tensor *t = bind_check_tensor(L, 1);
  int dim = lua_isnoneornil(L, 2) ? -1 : bind_check_dim(L, 2, t->n_dims), n = 0;
  for (int i = 0; i < t->n_dims; i++)
    if (t->shape[i] != 1 || (dim >= 0 && i != dim)) shape[n++] = t->shape[i];
  return bind_made_tensor(L, ma_tensor_reshape(bind_new_tensor(L), t, n, shape, &err), &err);
}

/* ---- asking ---- */

static int t_shape(lua_State *L) {
  const ma_tensor *t = bind_check_tensor(L, 1);
  lua_createtable(L, t->n_dims, 0);
  for (int i = 0; i < t->n_dims; i++) {
    lua_pushinteger(L, t->shape[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int t_size(lua_State *L) {
  const ma_tensor *t = bind_check_tensor(L, 1);
  if (lua_isnoneornil(L, 2)) lua_pushinteger(L, ma_tensor_count(t));
  else lua_pushinteger(L, t->shape[bind_check_dim(L, 2, t->n_dims)]);
  return 1;
}

static int t_len(lua_State *L) {
  const ma_tensor *t = bind_check_tensor(L, 1);
  lua_pushinteger(L, t->n_dims ? t->shape[0] : 0);
  return 1;
}

static int t_dim(lua_State *L) {
  lua_pushinteger(L, bind_check_tensor(L, 1)->n_dims);
  return 1;
}

static int t_dtype(lua_State *L) {
  lua_pushstring(L, ma_dtype_describe(bind_check_tensor(L, 1)->dtype)->name);
  return 1;
}

static int t_device(lua_State *L) {
  lua_pushstring(L, ma_tensor_device(bind_check_tensor(L, 1))->name);
  return 1;
}

/* Integers stay integers. */
static void push_element(lua_State *L, ma_dtype dtype, double value) {
  if (ma_dtype_is_float(dtype)) lua_pushnumber(L, value);
  else lua_pushinteger(L, (lua_Integer)value);
}

/* `n` indices from `first` on; negative ones count from the end. */
static void read_index(lua_State *L, const ma_tensor *t, int first, int64_t *index) {
  for (int i = 0; i < t->n_dims; i++) {
    index[i] = luaL_checkinteger(L, first + i);
    if (index[i] < 0) index[i] += t->shape[i];
  }
}

static int t_get(lua_State *L) {
  ma_error err;
  double value;
  int64_t index[MA_MAX_DIMS];
  const ma_tensor *t = bind_check_tensor(L, 1);
  if (lua_gettop(L) - 1 != t->n_dims) return bind_error(L, "get wants %d indices, one a dim", t->n_dims);
  read_index(L, t, 2, index);
  if (ma_tensor_get(&value, t, index, &err) != MA_OK) return bind_raise(L, &err);
  push_element(L, t->dtype, value);
  return 1;
}

static int t_set(lua_State *L) {
  ma_error err;
  int64_t index[MA_MAX_DIMS];
  ma_tensor t = bind_target(L, 1);
  if (lua_gettop(L) - 2 != t.n_dims) return bind_error(L, "set wants %d indices, one a dim, and a value", t.n_dims);
  read_index(L, &t, 2, index);
  if (ma_tensor_set(&t, index, luaL_checknumber(L, t.n_dims + 2), &err) != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

static int t_item(lua_State *L) {
  ma_error err;
  double value;
  int64_t index[MA_MAX_DIMS] = {0};
  const ma_tensor *t = bind_check_tensor(L, 1);
  if (ma_tensor_count(t) != 1)
    return bind_error(L, "item() wants one element, this tensor has %lld", (long long)ma_tensor_count(t));
  if (ma_tensor_get(&value, t, index, &err) != MA_OK) return bind_raise(L, &err);
  push_element(L, t->dtype, value);
  return 1;
}

/* A nested table of dim `dim` on the stack. */
static void push_nested(lua_State *L, const ma_tensor *t, int dim, int64_t *index) {
  ma_error err;
  double value;
  luaL_checkstack(L, 4, "a tensor's table");
  if (dim == t->n_dims) {
    if (ma_tensor_get(&value, t, index, &err) != MA_OK) bind_raise(L, &err);
    push_element(L, t->dtype, value);
    return;
  }
  lua_createtable(L, (int)t->shape[dim], 0);
  for (int64_t i = 0; i < t->shape[dim]; i++) {
    index[dim] = i;
    push_nested(L, t, dim + 1, index);
    lua_rawseti(L, -2, i + 1);
  }
}

static int t_totable(lua_State *L) {
  int64_t index[MA_MAX_DIMS] = {0};
  push_nested(L, bind_on_host(L, bind_check_tensor(L, 1)), 0, index);
  return 1;
}

/* t:rows(): iterates over dim 0 with indices from 0. */
static int next_row(lua_State *L) {
  const ma_tensor *t = bind_check_tensor(L, 1);
  lua_Integer i = luaL_checkinteger(L, 2) + 1;
  if (i >= t->shape[0]) return 0;
  lua_pushinteger(L, i);
  select_at(L, t, 0, i);
  return 2;
}

static int t_rows(lua_State *L) {
  if (bind_check_tensor(L, 1)->n_dims == 0) return bind_error(L, "a scalar has no rows");
  lua_pushcfunction(L, next_row);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, -1);
  return 3;
}

/* ---- conversion ---- */

static int t_clone(lua_State *L) {
  ma_error err;
  const ma_tensor *t = bind_check_tensor(L, 1);
  return bind_made_tensor(L, ma_tensor_convert(bind_new_tensor(L), t, t->dtype, &err), &err);
}

static int t_to(lua_State *L) {
  static const char *const keys[] = {"dtype", "device", NULL};
  ma_error err;
  const ma_tensor *t = bind_check_tensor(L, 1);
  bind_check_keys(L, 2, keys);
  ma_dtype dtype = t->dtype;
  ma_device *device = ma_tensor_device(t);
  if (bind_field(L, 2, "dtype") != LUA_TNIL) dtype = bind_check_dtype(L, -1);
  if (bind_field(L, 2, "device") != LUA_TNIL && ma_device_find(&device, luaL_checkstring(L, -1), &err) != MA_OK)
    return bind_raise(L, &err);
  if (!ma_dtype_is_written(dtype) && dtype != t->dtype)
    return bind_error(L, "to: massact reads %s but does not write it", ma_dtype_describe(dtype)->name);
  ma_tensor *out = bind_new_tensor(L), converted = {0};
  if (device == ma_tensor_device(t)) return bind_made_tensor(L, ma_tensor_convert(out, t, dtype, &err), &err);
  if (dtype == t->dtype) return bind_made_tensor(L, ma_tensor_move(out, t, device, &err), &err);
  ma_status st = ma_tensor_convert(&converted, t, dtype, &err);
  if (st == MA_OK) st = ma_tensor_move(out, &converted, device, &err);
  ma_tensor_release(&converted);
  return bind_made_tensor(L, st, &err);
}

static int t_float(lua_State *L) {
  ma_error err;
  const ma_tensor *t = bind_check_tensor(L, 1);
  return bind_made_tensor(L, ma_tensor_convert(bind_new_tensor(L), t, MA_F32, &err), &err);
}

/* ---- making ---- */

/* Shape of a nested table, from its first elements. */
static int nested_shape(lua_State *L, int64_t *shape) {
  int n = 0;
  int top = lua_gettop(L);
  while (lua_istable(L, -1)) {
    if (n == MA_MAX_DIMS) bind_error(L, "a tensor has at most %d dims", MA_MAX_DIMS);
    shape[n++] = bind_length(L, -1);
    if (shape[n - 1] == 0) break;
    luaL_checkstack(L, 4, "a nested table");
    bind_item(L, -1, 1);
  }
  lua_settop(L, top);
  return n;
}

static void fill_nested(lua_State *L, ma_tensor *t, int dim, int64_t *index) {
  ma_error err;
  if (dim == t->n_dims) {
    if (lua_isboolean(L, -1)) lua_pushinteger(L, lua_toboolean(L, -1)), lua_replace(L, -2);
    if (lua_type(L, -1) != LUA_TNUMBER) bind_error(L, "a tensor is made of numbers, not of a %s", luaL_typename(L, -1));
    if (ma_tensor_set(t, index, lua_tonumber(L, -1), &err) != MA_OK) bind_raise(L, &err);
    return;
  }
  if (!lua_istable(L, -1) || bind_length(L, -1) != t->shape[dim])
    bind_error(L, "the nested table is ragged: dim %d should have %lld elements everywhere", dim,
               (long long)t->shape[dim]);
  luaL_checkstack(L, 4, "a nested table");
  for (int64_t i = 0; i < t->shape[dim]; i++) {
    index[dim] = i;
    bind_item(L, -1, i + 1);
    fill_nested(L, t, dim + 1, index);
    lua_pop(L, 1);
  }
}

/* tensor(data, dtype?, device?): the CPU, where no device is named. */
static int new_from_data(lua_State *L) {
  ma_error err;
  ma_device *device;
  int64_t shape[MA_MAX_DIMS], index[MA_MAX_DIMS] = {0};
  ma_dtype dtype = lua_isnoneornil(L, 2) ? MA_F32 : bind_check_dtype(L, 2);
  if (ma_dtype_is_block(dtype)) return bind_error(L, "a tensor cannot be made of packed blocks");
  if (ma_device_find(&device, luaL_optstring(L, 3, "cpu"), &err) != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  int n = nested_shape(L, shape);
  ma_tensor *out = bind_new_tensor(L);
  if (ma_tensor_new(out, ma_device_cpu(), dtype, n, shape, &err) != MA_OK) return bind_raise(L, &err);
  lua_pushvalue(L, 1);
  fill_nested(L, out, 0, index);
  lua_settop(L, 2);
  if (device != ma_device_cpu())
    return bind_made_tensor(L, ma_tensor_move(bind_new_tensor(L), out, device, &err), &err);
  bind_filled_tensor(L, out);
  return 1;
}

/* new(shape, dtype, device): not initialised. */
static ma_tensor *new_shaped(lua_State *L) {
  ma_error err;
  int64_t shape[MA_MAX_DIMS];
  ma_device *device;
  luaL_checktype(L, 1, LUA_TTABLE);
  int n = bind_check_shape(L, 1, shape);
  ma_dtype dtype = lua_isnoneornil(L, 2) ? MA_F32 : bind_check_dtype(L, 2);
  if (ma_dtype_is_block(dtype)) bind_error(L, "a tensor cannot be made of packed blocks");
  if (ma_device_find(&device, luaL_optstring(L, 3, "cpu"), &err) != MA_OK) bind_raise(L, &err);
  ma_tensor *out = bind_new_tensor(L);
  if (ma_tensor_new(out, device, dtype, n, shape, &err) != MA_OK) bind_raise(L, &err);
  bind_filled_tensor(L, out);
  return out;
}

/* full(shape, dtype, device, value) */
static int new_full(lua_State *L) {
  ma_error err;
  double value = luaL_checknumber(L, 4);
  ma_tensor *out = new_shaped(L);
  return bind_made_tensor(L, ma_fill(out, value, &err), &err);
}

/* random(shape, dtype, device, kind, seed) */
static int new_random(lua_State *L) {
  static const char *const kinds[] = {"uniform", "normal", NULL};
  ma_error err;
  int kind = luaL_checkoption(L, 4, NULL, kinds);
  ma_random generator = {(uint64_t)luaL_optinteger(L, 5, 0), 0};
  ma_tensor *out = new_shaped(L);
  return bind_made_tensor(L, ma_randomize(out, (ma_random_kind)kind, 0, 1, &generator, &err), &err);
}

/* cat(list, dim) */
static int concat(lua_State *L) {
  ma_error err;
  luaL_checktype(L, 1, LUA_TTABLE);
  /* The list itself, past any metamethods: what it holds stays alive as long as it does. */
  lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
  if (n < 1) return bind_error(L, "cat needs at least one tensor");
  if (n > INT32_MAX) return bind_error(L, "cat joins at most %d tensors", INT32_MAX);
  lua_settop(L, 2);
  const ma_tensor **parts = lua_newuserdatauv(L, (size_t)n * sizeof *parts, 0);
  ma_tensor *borrowed = lua_newuserdatauv(L, (size_t)n * sizeof *borrowed, 0);
  luaL_checkstack(L, 8, "cat");
  for (lua_Integer i = 0; i < n; i++) {
    lua_rawgeti(L, 1, i + 1);
    borrowed[i] = *bind_check_tensor(L, -1); /* kept alive by the list */
    parts[i] = &borrowed[i];
    lua_pop(L, 1);
  }
  int dim = lua_isnil(L, 2) ? 0 : bind_check_dim(L, 2, parts[0]->n_dims);
  return bind_made_tensor(L, ma_concat(bind_new_tensor(L), parts, (int)n, dim, &err), &err);
}

/* ---- metamethods ---- */

static int t_gc(lua_State *L) {
  ma_tensor_release(luaL_checkudata(L, 1, BIND_TENSOR));
  return 0;
}

/* Same shape, dtype and elements. */
static int t_equal(lua_State *L) {
  ma_error err;
  const ma_tensor *a = bind_test_tensor(L, 1), *b = bind_test_tensor(L, 2);
  bool same = a && b && a->dtype == b->dtype && ma_tensor_same_shape(a, b);
  if (same) {
    double all;
    ma_tensor *equal = bind_new_tensor(L), *every = bind_new_tensor(L);
    ma_status st = ma_binary(equal, MA_BINARY_eq, a, b, &err);
    if (st == MA_OK) st = ma_reduce(every, MA_REDUCE_all, equal, MA_ALL, false, &err);
    if (st == MA_OK) st = ma_tensor_get(&all, every, NULL, &err);
    if (st != MA_OK) return bind_raise(L, &err);
    same = all != 0;
  }
  lua_pushboolean(L, same);
  return 1;
}

/* t[i]: row i of dim 0; t.name: a method. */
static int t_index(lua_State *L) {
  if (lua_isinteger(L, 2)) {
    const ma_tensor *t = bind_check_tensor(L, 1);
    if (t->n_dims == 0) return bind_error(L, "a scalar has no rows");
    return select_at(L, t, 0, lua_tointeger(L, 2));
  }
  luaL_getmetafield(L, 1, "methods");
  lua_pushvalue(L, 2);
  if (lua_rawget(L, -2) != LUA_TNIL || lua_type(L, 2) != LUA_TSTRING) return 1;
  return strcmp(lua_tostring(L, 2), "grad") == 0 ? bind_push_grad(L) : 1;
}

int bind_open_tensor(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", t_gc},   {"__close", t_gc}, {"__index", t_index},
                                  {"__len", t_len}, {"__eq", t_equal}, {"__tostring", bind_tensor_tostring},
                                  {NULL, NULL}};
  static const luaL_Reg methods[] = {{"reshape", t_reshape},
                                     {"view", t_reshape},
                                     {"transpose", t_transpose},
                                     {"t", t_t},
                                     {"permute", t_permute},
                                     {"narrow", t_narrow},
                                     {"select", t_select},
                                     {"expand", t_expand},
                                     {"unsqueeze", t_unsqueeze},
                                     {"squeeze", t_squeeze},
                                     {"shape", t_shape},
                                     {"size", t_size},
                                     {"dim", t_dim},
                                     {"dtype", t_dtype},
                                     {"device", t_device},
                                     {"get", t_get},
                                     {"set", t_set},
                                     {"item", t_item},
                                     {"totable", t_totable},
                                     {"rows", t_rows},
                                     {"clone", t_clone},
                                     {"to", t_to},
                                     {"float", t_float},
                                     {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"tensor", new_from_data}, {"full", new_full}, {"random", new_random}, {"cat", concat}, {NULL, NULL}};
  bind_class(L, BIND_TENSOR, meta, methods);
  bind_open_operations(L);
  bind_open_layers(L);
  luaL_newlib(L, functions);
  bind_open_gradient(L);
  return 1;
}
