/* The decoder's operations, as methods: a script can build layers of its own from them, and differentiate these. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "tensor/ops.h"

static const ma_tensor *optional_tensor(lua_State *L, int index) {
  return lua_isnoneornil(L, index) ? NULL : bind_check_tensor(L, index);
}

static double number_field(lua_State *L, int index, const char *name, double otherwise) {
  if (bind_field(L, index, name) != LUA_TNIL) otherwise = luaL_checknumber(L, -1);
  lua_pop(L, 1);
  return otherwise;
}

/* The tensor of a field, which stays on the stack; or NULL. */
static const ma_tensor *tensor_field(lua_State *L, int index, const char *name) {
  return bind_field(L, index, name) == LUA_TNIL ? NULL : bind_check_tensor(L, -1);
}

/* x:linear(weight, bias?) */
static int t_linear(lua_State *L) {
  ma_error err;
  lua_settop(L, 3);
  const ma_tensor *x = bind_check_tensor(L, 1), *weight = bind_check_tensor(L, 2), *bias = optional_tensor(L, 3);
  return bind_made_tensor(L, ma_linear(bind_new_tensor(L), x, weight, bias, &err), &err);
}

/* table:embed(ids) */
static int t_embed(lua_State *L) {
  ma_error err;
  const ma_tensor *table = bind_check_tensor(L, 1), *ids = bind_check_tensor(L, 2);
  return bind_made_tensor(L, ma_embed(bind_new_tensor(L), table, ids, &err), &err);
}

/* x:dyt(alpha, weight, bias?) */
static int t_dyt(lua_State *L) {
  ma_error err;
  lua_settop(L, 4);
  const ma_tensor *x = bind_check_tensor(L, 1), *alpha = bind_check_tensor(L, 2), *weight = bind_check_tensor(L, 3),
                  *bias = optional_tensor(L, 4);
  return bind_made_tensor(L, ma_dyt(bind_new_tensor(L), x, alpha, weight, bias, &err), &err);
}

/* gate:gated(activation, up) */
static int t_gated(lua_State *L) {
  ma_error err;
  const ma_tensor *gate = bind_check_tensor(L, 1), *up = bind_check_tensor(L, 3);
  const char *name = luaL_checkstring(L, 2);
  for (int kind = 0; kind < (int)MA_N_UNARY; kind++)
    if (strcmp(ma_unary_name((ma_unary_kind)kind), name) == 0)
      return bind_made_tensor(
          L, ma_gated(bind_new_tensor(L), gate, up, &(ma_gated_how){.activation = (ma_unary_kind)kind}, &err), &err);
  return bind_error(L, "gated: there is no function '%s'", name);
}

/* x:rope(cosine, sine) */
static int t_rope(lua_State *L) {
  ma_error err;
  const ma_tensor *x = bind_check_tensor(L, 1), *cosine = bind_check_tensor(L, 2), *sine = bind_check_tensor(L, 3);
  return bind_made_tensor(L, ma_rope(bind_new_tensor(L), x, cosine, sine, MA_F32, &err), &err);
}

/* ---- attention ---- */

/* {scale =, softcap =, window =, alibi = {...}, extra_key =, extra_value =}; what it refers to stays on the stack. */
static ma_attention_how read_how(lua_State *L, int index, int64_t n_heads, int64_t d_head) {
  static const char *const keys[] = {"scale", "softcap", "window", "alibi", "extra_key", "extra_value", NULL};
  ma_attention_how how = {.scale = (float)(1 / sqrt((double)(d_head > 0 ? d_head : 1)))};
  if (lua_isnoneornil(L, index)) return how;
  bind_check_keys(L, index, keys);
  how.scale = (float)number_field(L, index, "scale", (double)how.scale);
  how.softcap = (float)number_field(L, index, "softcap", 0);
  how.window = (int64_t)number_field(L, index, "window", 0);
  how.extra_key = tensor_field(L, index, "extra_key");
  how.extra_value = tensor_field(L, index, "extra_value");
  if (bind_field(L, index, "alibi") != LUA_TNIL) {
    if (bind_length(L, -1) != n_heads)
      bind_error(L, "attention: alibi has a slope for each of the %d heads", (int)n_heads);
    float *slopes = lua_newuserdatauv(L, (size_t)n_heads * sizeof *slopes, 0);
    for (int64_t h = 0; h < n_heads; h++) {
      bind_item(L, -2, h + 1);
      slopes[h] = (float)luaL_checknumber(L, -1);
      lua_pop(L, 1);
    }
    how.alibi_slopes = slopes;
  }
  return how;
}

static void check_heads(lua_State *L, const ma_tensor *t) {
  if (t->n_dims != 4) bind_error(L, "attention works on four dims, not on %d", t->n_dims);
}

/* q:attention(k, v, how?) */
static int t_attention(lua_State *L) {
  ma_error err;
  lua_settop(L, 4);
  const ma_tensor *q = bind_check_tensor(L, 1), *k = bind_check_tensor(L, 2), *v = bind_check_tensor(L, 3);
  check_heads(L, q);
  ma_attention_how how = read_how(L, 4, q->shape[2], q->shape[3]);
  if (!how.extra_key != !how.extra_value)
    return bind_error(L, "attention: an extra key and an extra value go together");
  return bind_made_tensor(L, ma_attention(bind_new_tensor(L), q, k, v, &how, &err), &err);
}

/* q:attention_scores(k, how?) */
static int t_attention_scores(lua_State *L) {
  ma_error err;
  lua_settop(L, 3);
  const ma_tensor *q = bind_check_tensor(L, 1), *k = bind_check_tensor(L, 2);
  check_heads(L, q);
  ma_attention_how how = read_how(L, 3, q->shape[2], q->shape[3]);
  return bind_made_tensor(L, ma_attention_scores(bind_new_tensor(L), q, k, &how, &err), &err);
}

/* probs:attention_mix(v, {extra_value =}?) */
static int t_attention_mix(lua_State *L) {
  ma_error err;
  lua_settop(L, 3);
  const ma_tensor *probs = bind_check_tensor(L, 1), *v = bind_check_tensor(L, 2);
  check_heads(L, probs);
  ma_attention_how how = read_how(L, 3, probs->shape[1], 1);
  return bind_made_tensor(L, ma_attention_mix(bind_new_tensor(L), probs, v, &how, &err), &err);
}

/* ---- losses ---- */

/* logits:cross_entropy(targets) */
static int t_cross_entropy(lua_State *L) {
  ma_error err;
  const ma_tensor *logits = bind_check_tensor(L, 1), *targets = bind_check_tensor(L, 2);
  return bind_made_tensor(L, ma_cross_entropy(bind_new_tensor(L), logits, targets, &err), &err);
}

/* x:linear_cross_entropy(weight, targets, {bias =, scale =, softcap =}?), x:mean_cross_entropy(...) */
static int from_hidden(lua_State *L, bool is_mean) {
  static const char *const keys[] = {"bias", "scale", "softcap", NULL};
  ma_error err;
  ma_logits_how how = {.scale = 1};
  const ma_tensor *bias = NULL;
  lua_settop(L, 4);
  const ma_tensor *x = bind_check_tensor(L, 1), *weight = bind_check_tensor(L, 2), *targets = bind_check_tensor(L, 3);
  if (!lua_isnil(L, 4)) {
    bind_check_keys(L, 4, keys);
    how.scale = (float)number_field(L, 4, "scale", 1);
    how.softcap = (float)number_field(L, 4, "softcap", 0);
    bias = tensor_field(L, 4, "bias");
  }
  ma_tensor *out = bind_new_tensor(L);
  return bind_made_tensor(L,
                          is_mean ? ma_mean_cross_entropy(out, NULL, x, weight, bias, targets, &how, &err)
                                  : ma_linear_cross_entropy(out, x, weight, bias, targets, &how, &err),
                          &err);
}

static int t_linear_cross_entropy(lua_State *L) { return from_hidden(L, false); }
static int t_mean_cross_entropy(lua_State *L) { return from_hidden(L, true); }

/* ---- experts ---- */

/* logits:route(k) */
static int t_route(lua_State *L) {
  ma_error err;
  const ma_tensor *logits = bind_check_tensor(L, 1);
  lua_Integer k = luaL_checkinteger(L, 2);
  return bind_made_tensor(L, ma_route(bind_new_tensor(L), logits, k, &err), &err);
}

/* sum:add_rows(x, index, scale): a new sum */
static int t_add_rows(lua_State *L) {
  ma_error err;
  const ma_tensor *sum = bind_check_tensor(L, 1), *x = bind_check_tensor(L, 2), *index = bind_check_tensor(L, 3),
                  *scale = bind_check_tensor(L, 4);
  ma_tensor *out = bind_new_tensor(L);
  ma_status st = ma_tensor_convert(out, sum, MA_F32, &err);
  if (st == MA_OK) st = ma_add_rows(out, x, index, scale, &err);
  return bind_made_tensor(L, st, &err);
}

/* Adds them to the tensors' class. */
void bind_open_layers(lua_State *L) {
  static const luaL_Reg methods[] = {{"linear", t_linear},
                                     {"embed", t_embed},
                                     {"dyt", t_dyt},
                                     {"gated", t_gated},
                                     {"rope", t_rope},
                                     {"attention", t_attention},
                                     {"attention_scores", t_attention_scores},
                                     {"attention_mix", t_attention_mix},
                                     {"cross_entropy", t_cross_entropy},
                                     {"linear_cross_entropy", t_linear_cross_entropy},
                                     {"mean_cross_entropy", t_mean_cross_entropy},
                                     {"route", t_route},
                                     {"add_rows", t_add_rows},
                                     {NULL, NULL}};
  luaL_getmetatable(L, BIND_TENSOR);
  lua_getfield(L, -1, "methods");
  luaL_setfuncs(L, methods, 0);
  lua_pop(L, 2);
}
