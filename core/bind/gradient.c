/* Gradients of tensors: requires_grad, backward, grad, and no_grad, whose depth is in the Lua state. */
#include "bind/bind.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

static const char no_grad_key = 0; /* its address is the key */

static lua_Integer no_grad_depth(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &no_grad_key);
  lua_Integer depth = lua_tointeger(L, -1);
  lua_pop(L, 1);
  return depth;
}

bool bind_records(lua_State *L) { return no_grad_depth(L) == 0; }

/* no_grad(change): adds to the depth. */
static int no_grad(lua_State *L) {
  lua_pushinteger(L, no_grad_depth(L) + luaL_checkinteger(L, 1));
  lua_rawsetp(L, LUA_REGISTRYINDEX, &no_grad_key);
  return 0;
}

ma_tensor *bind_stand_in(lua_State *L, int index, ma_tensor *t) {
  if (!ma_tensor_is_tracked(t) || bind_records(L)) return t;
  index = lua_absindex(L, index);
  ma_tensor *detached = bind_new_tensor(L);
  *detached = ma_tensor_retain(t);
  detached->is_detached = true;
  lua_replace(L, index);
  return detached;
}

ma_tensor bind_target(lua_State *L, int index) {
  ma_tensor t = *bind_check_raw_tensor(L, index);
  t.is_detached |= t.storage->node && !bind_records(L);
  return t;
}

/* ---- methods ---- */

/* t:requires_grad() -> whether; t:requires_grad(on) -> t */
static int t_requires_grad(lua_State *L) {
  ma_error err;
  ma_tensor *t = bind_check_raw_tensor(L, 1);
  if (lua_isnoneornil(L, 2)) {
    lua_pushboolean(L, ma_tensor_is_tracked(t));
    return 1;
  }
  if (t->is_detached) return bind_error(L, "a detached tensor cannot require a gradient; clone() it");
  if (ma_tensor_require_grad(t, lua_toboolean(L, 2), &err) != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

static int t_detach(lua_State *L) {
  const ma_tensor *t = bind_check_raw_tensor(L, 1);
  ma_tensor *out = bind_new_tensor(L);
  *out = ma_tensor_retain(t);
  out->is_detached = true;
  return 1;
}

static int t_keep_grad(lua_State *L) {
  ma_error err;
  if (ma_tensor_keep_grad(bind_check_raw_tensor(L, 1), &err) != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

static int t_zero_grad(lua_State *L) {
  ma_tensor_clear_grad(bind_check_raw_tensor(L, 1));
  lua_settop(L, 1);
  return 1;
}

int bind_push_grad(lua_State *L) {
  ma_error err;
  const ma_tensor *t = bind_check_raw_tensor(L, 1);
  ma_tensor *out = bind_new_tensor(L);
  if (ma_tensor_grad(out, t, &err) != MA_OK) return bind_raise(L, &err);
  if (!out->storage) lua_pushnil(L);
  else bind_filled_tensor(L, out); /* it keeps the gradient's memory, whatever becomes of the parameter */
  return 1;
}

/* t:backward(gradient?, {keep = bool}?) */
static int t_backward(lua_State *L) {
  static const char *const keys[] = {"keep", NULL};
  ma_error err = {0};
  lua_settop(L, 3);
  const ma_tensor *loss = bind_check_raw_tensor(L, 1), *seed = bind_test_tensor(L, 2);
  int options = seed ? 3 : 2;
  bool keeps = false;
  if (!lua_isnil(L, options)) {
    bind_check_keys(L, options, keys);
    bind_field(L, options, "keep");
    keeps = lua_toboolean(L, -1);
  }
  lua_settop(L, 4); /* the last one for a hook's error */
  bind_walk walk = {L, 4};
  ma_status st = ma_backward(loss, seed, keeps, &walk, &err);
  if (st == MA_CALLBACK) {
    lua_settop(L, 4);
    return lua_error(L);
  }
  return st == MA_OK ? 0 : bind_raise(L, &err);
}

/* Adds them to the tensors' class, and no_grad to the table on top of the stack. */
void bind_open_gradient(lua_State *L) {
  static const luaL_Reg methods[] = {{"requires_grad", t_requires_grad}, {"detach", t_detach},
                                     {"keep_grad", t_keep_grad},         {"zero_grad", t_zero_grad},
                                     {"backward", t_backward},           {NULL, NULL}};
  luaL_getmetatable(L, BIND_TENSOR);
  lua_getfield(L, -1, "methods");
  luaL_setfuncs(L, methods, 0);
  lua_pop(L, 2);
  lua_pushcfunction(L, no_grad);
  lua_setfield(L, -2, "no_grad");
}
