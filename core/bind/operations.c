/* Operations on tensors: every row of ops.h is a method, and Lua's operators are some of them. */
#include <math.h>

#include "bind/bind.h"
#include "tensor/ops.h"

/* The type of a number beside a tensor of type `like`: the same where it can hold the number;
 * beside integers the next that can, i64 or f32. */
static ma_dtype dtype_of_number(double number, ma_dtype like) {
  if (ma_dtype_is_float(like)) return like;
  if (number != floor(number) || number < -0x1p63 || number >= 0x1p63) return MA_F32;
  bool fits = like == MA_U8    ? number >= 0 && number <= UINT8_MAX
              : like == MA_I32 ? number >= INT32_MIN && number <= INT32_MAX
                               : true;
  return fits ? like : MA_I64;
}

/* The operand at `index`: a tensor, or a number as a scalar. */
static const ma_tensor *operand(lua_State *L, int index, const ma_tensor *like) {
  const ma_tensor *t = bind_test_tensor(L, index);
  if (t) return t;
  ma_error err;
  double number = luaL_checknumber(L, index);
  ma_dtype dtype = dtype_of_number(number, like->dtype);
  ma_tensor *scalar = bind_new_tensor(L);
  ma_status st = ma_tensor_new(scalar, ma_tensor_device(like), dtype, 0, NULL, &err);
  if (st == MA_OK) st = ma_fill(scalar, number, &err);
  if (st != MA_OK) bind_raise(L, &err);
  lua_replace(L, index);
  return scalar;
}

/* ---- elementwise ---- */

static int unary(lua_State *L, ma_unary_kind kind) {
  ma_error err;
  const ma_tensor *a = bind_check_tensor(L, 1);
  return bind_made_tensor(L, ma_unary(bind_new_tensor(L), kind, a, &err), &err);
}

static int binary(lua_State *L, ma_binary_kind kind) {
  ma_error err;
  const ma_tensor *like = bind_test_tensor(L, 1);
  lua_settop(L, 2);
  if (!like) like = bind_check_tensor(L, 2);
  const ma_tensor *a = operand(L, 1, like), *b = operand(L, 2, like);
  return bind_made_tensor(L, ma_binary(bind_new_tensor(L), kind, a, b, &err), &err);
}

static int binary_in_place(lua_State *L, ma_binary_kind kind) {
  ma_error err;
  ma_tensor to = bind_target(L, 1), a = to;
  const ma_tensor *b = operand(L, 2, &a);
  if (ma_binary(&to, kind, &a, b, &err) != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

#define MA_UNARY(name, doc) \
  static int t_##name(lua_State *L) { return unary(L, MA_UNARY_##name); }
MA_UNARIES(MA_UNARY)
#undef MA_UNARY
#define MA_BINARY(name, doc) \
  static int t_##name(lua_State *L) { return binary(L, MA_BINARY_##name); }
MA_BINARIES(MA_BINARY)
#undef MA_BINARY
#define MA_BINARY(name, doc) \
  static int t_##name##_(lua_State *L) { return binary_in_place(L, MA_BINARY_##name); }
MA_ARITHMETICS(MA_BINARY)
#undef MA_BINARY

static int t_where(lua_State *L) {
  ma_error err;
  lua_settop(L, 3);
  const ma_tensor *condition = bind_check_tensor(L, 1), *like = bind_test_tensor(L, 2);
  if (!like) like = bind_check_tensor(L, 3);
  const ma_tensor *a = operand(L, 2, like), *b = operand(L, 3, like);
  return bind_made_tensor(L, ma_where(bind_new_tensor(L), condition, a, b, &err), &err);
}

/* (scale, levels?) */
static int quantize(lua_State *L, bool in_place) {
  ma_error err;
  ma_tensor a = bind_target(L, 1), to = a;
  double scale = luaL_checknumber(L, 2);
  lua_Integer levels = luaL_optinteger(L, 3, INT8_MAX);
  if (!in_place) return bind_made_tensor(L, ma_quantize(bind_new_tensor(L), &a, scale, levels, &err), &err);
  if (ma_quantize(&to, &a, scale, levels, &err) != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

static int t_quantize(lua_State *L) { return quantize(L, false); }
static int t_quantize_(lua_State *L) { return quantize(L, true); }

static int t_fill_(lua_State *L) {
  ma_error err;
  ma_tensor to = bind_target(L, 1);
  if (ma_fill(&to, luaL_checknumber(L, 2), &err) != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

static int t_copy_(lua_State *L) {
  ma_error err;
  ma_status st;
  ma_tensor view = {0}, to = bind_target(L, 1);
  const ma_tensor *from = bind_check_tensor(L, 2);
  st = ma_tensor_expand(&view, from, to.n_dims, to.shape, &err);
  if (st == MA_OK) st = ma_copy(&to, &view, &err);
  ma_tensor_release(&view);
  if (st != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

/* ---- reductions and selection ---- */

/* (dim?, {keep = bool}?) from index 2 on. */
static int read_dim(lua_State *L, const ma_tensor *a, int index, bool *keep) {
  static const char *const keys[] = {"keep", NULL};
  *keep = false;
  int dim = lua_isnoneornil(L, index) ? MA_ALL : bind_check_dim(L, index, a->n_dims);
  if (!lua_isnoneornil(L, index + 1)) {
    bind_check_keys(L, index + 1, keys);
    bind_field(L, index + 1, "keep");
    *keep = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  return dim;
}

static int reduce(lua_State *L, ma_reduce_kind kind) {
  ma_error err;
  bool keep;
  const ma_tensor *a = bind_check_tensor(L, 1);
  int dim = read_dim(L, a, 2, &keep);
  int result = bind_made_tensor(L, ma_reduce(bind_new_tensor(L), kind, a, dim, keep, &err), &err);
  /* max(dim) and min(dim) give where, too. */
  bool has_place = (kind == MA_REDUCE_max || kind == MA_REDUCE_min) && dim != MA_ALL;
  if (!has_place) return result;
  ma_reduce_kind place = kind == MA_REDUCE_max ? MA_REDUCE_argmax : MA_REDUCE_argmin;
  return bind_made_tensor(L, ma_reduce(bind_new_tensor(L), place, a, dim, keep, &err), &err) + 1;
}

#define MA_REDUCE(name, doc) \
  static int t_##name(lua_State *L) { return reduce(L, MA_REDUCE_##name); }
MA_REDUCES(MA_REDUCE)
#undef MA_REDUCE

static int quantile(lua_State *L, double q, int index) {
  ma_error err;
  bool keep;
  const ma_tensor *a = bind_check_tensor(L, 1);
  int dim = read_dim(L, a, index, &keep);
  return bind_made_tensor(L, ma_quantile(bind_new_tensor(L), a, q, dim, keep, &err), &err);
}

static int t_median(lua_State *L) { return quantile(L, 0.5, 2); }
static int t_quantile(lua_State *L) { return quantile(L, luaL_checknumber(L, 2), 3); }

static int t_sort(lua_State *L) {
  static const char *const keys[] = {"descending", NULL};
  ma_error err;
  const ma_tensor *a = bind_check_tensor(L, 1);
  lua_settop(L, 3);
  if (a->n_dims == 0) return bind_error(L, "sort: a scalar has no dims");
  int dim = lua_isnil(L, 2) ? a->n_dims - 1 : bind_check_dim(L, 2, a->n_dims);
  bool descending = false;
  if (!lua_isnil(L, 3)) {
    bind_check_keys(L, 3, keys);
    bind_field(L, 3, "descending");
    descending = lua_toboolean(L, -1);
  }
  ma_tensor *values = bind_new_tensor(L), *index = bind_new_tensor(L);
  if (ma_sort(values, index, a, dim, descending, &err) != MA_OK) return bind_raise(L, &err);
  return 2;
}

static int t_topk(lua_State *L) {
  ma_error err;
  const ma_tensor *a = bind_check_tensor(L, 1);
  lua_Integer k = luaL_checkinteger(L, 2);
  ma_tensor *values = bind_new_tensor(L), *index = bind_new_tensor(L);
  if (ma_topk(values, index, a, k, true, &err) != MA_OK) return bind_raise(L, &err);
  return 2;
}

/* ---- products and rows ---- */

static int t_matmul(lua_State *L) {
  ma_error err;
  const ma_tensor *a = bind_check_tensor(L, 1), *b = bind_check_tensor(L, 2);
  return bind_made_tensor(L, ma_matmul(bind_new_tensor(L), a, b, &err), &err);
}

static int softmax(lua_State *L, bool is_log) {
  ma_error err;
  const ma_tensor *a = bind_check_tensor(L, 1);
  return bind_made_tensor(L, ma_softmax(bind_new_tensor(L), a, is_log, &err), &err);
}
static int t_softmax(lua_State *L) { return softmax(L, false); }
static int t_log_softmax(lua_State *L) { return softmax(L, true); }

static const ma_tensor *optional_tensor(lua_State *L, int index) {
  return lua_isnoneornil(L, index) ? NULL : bind_check_tensor(L, index);
}

static int t_rms_norm(lua_State *L) {
  ma_error err;
  const ma_tensor *x = bind_check_tensor(L, 1), *weight = optional_tensor(L, 2);
  double eps = luaL_optnumber(L, 3, 1e-5);
  return bind_made_tensor(L, ma_rms_norm(bind_new_tensor(L), x, weight, &(ma_norm_how){.eps = eps}, &err), &err);
}

static int t_layer_norm(lua_State *L) {
  ma_error err;
  const ma_tensor *x = bind_check_tensor(L, 1), *weight = optional_tensor(L, 2), *bias = optional_tensor(L, 3);
  double eps = luaL_optnumber(L, 4, 1e-5);
  return bind_made_tensor(L, ma_layer_norm(bind_new_tensor(L), x, weight, bias, &(ma_norm_how){.eps = eps}, &err),
                          &err);
}

static int t_gather(lua_State *L) {
  ma_error err;
  const ma_tensor *t = bind_check_tensor(L, 1);
  int dim = bind_check_dim(L, 2, t->n_dims);
  const ma_tensor *index = bind_check_tensor(L, 3);
  return bind_made_tensor(L, ma_gather(bind_new_tensor(L), t, dim, index, &err), &err);
}

/* ---- training ---- */

static double number_field(lua_State *L, int index, const char *name, double otherwise) {
  if (bind_field(L, index, name) != LUA_TNIL) otherwise = luaL_checknumber(L, -1);
  lua_pop(L, 1);
  return otherwise;
}

/* parameter:adamw_(gradient, mean, square, {step =, rate =, ...}) */
static int t_adamw_(lua_State *L) {
  static const char *const keys[] = {"rate", "beta1", "beta2", "eps", "weight_decay", "scale", "step", NULL};
  ma_error err;
  ma_tensor parameter = bind_target(L, 1), *mean = bind_check_tensor(L, 3), *square = bind_check_tensor(L, 4);
  const ma_tensor *gradient = bind_check_tensor(L, 2);
  bind_check_keys(L, 5, keys);
  ma_adamw_how how = {.rate = number_field(L, 5, "rate", 1e-3),
                      .beta1 = number_field(L, 5, "beta1", 0.9),
                      .beta2 = number_field(L, 5, "beta2", 0.999),
                      .eps = number_field(L, 5, "eps", 1e-8),
                      .weight_decay = number_field(L, 5, "weight_decay", 0),
                      .scale = number_field(L, 5, "scale", 1),
                      .step = (int64_t)number_field(L, 5, "step", 0)};
  if (ma_adamw(&parameter, mean, square, gradient, &how, &err) != MA_OK) return bind_raise(L, &err);
  lua_settop(L, 1);
  return 1;
}

/* Adds them to the tensors' class. */
void bind_open_operations(lua_State *L) {
  static const luaL_Reg operators[] = {{"__add", t_add}, {"__sub", t_sub}, {"__mul", t_mul}, {"__div", t_div},
                                       {"__pow", t_pow}, {"__mod", t_mod}, {"__unm", t_neg}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
#define MA_UNARY(name, doc) {#name, t_##name},
      MA_UNARIES(MA_UNARY)
#undef MA_UNARY
#define MA_BINARY(name, doc) {#name, t_##name},
          MA_BINARIES(MA_BINARY)
#undef MA_BINARY
#define MA_BINARY(name, doc) {#name "_", t_##name##_},
              MA_ARITHMETICS(MA_BINARY)
#undef MA_BINARY
#define MA_REDUCE(name, doc) {#name, t_##name},
                  MA_REDUCES(MA_REDUCE)
#undef MA_REDUCE
                      {"where", t_where},
      {"quantize", t_quantize},
      {"quantize_", t_quantize_},
      {"fill_", t_fill_},
      {"copy_", t_copy_},
      {"median", t_median},
      {"quantile", t_quantile},
      {"sort", t_sort},
      {"topk", t_topk},
      {"gather", t_gather},
      {"matmul", t_matmul},
      {"softmax", t_softmax},
      {"log_softmax", t_log_softmax},
      {"rms_norm", t_rms_norm},
      {"layer_norm", t_layer_norm},
      {"adamw_", t_adamw_},
      {NULL, NULL}};
  luaL_getmetatable(L, BIND_TENSOR);
  luaL_setfuncs(L, operators, 0);
  lua_getfield(L, -1, "methods");
  luaL_setfuncs(L, methods, 0);
  lua_pop(L, 2);
}
