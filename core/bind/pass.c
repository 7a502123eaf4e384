/* model:forward: arguments in, results out. */
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "model/capture.h"
#include "model/pass.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

#define BIND_PASS "massact.Pass"

/* Everything that a pass acquires, in one userdata, so that whatever raises, it is given back. */
typedef struct bind_pass {
  ma_model *model;
  int64_t *ids;
  int64_t n_sequences, n_tokens;
  ma_capture capture;
  bool is_captured; /* the capture stands on the model */
  ma_place *places;
  size_t n_places;
  ma_result result;
} bind_pass;

static int pass_gc(lua_State *L) {
  bind_pass *p = luaL_checkudata(L, 1, BIND_PASS);
  if (p->is_captured) ma_visitors_detach(&p->model->visitors, &p->capture.visitor);
  p->is_captured = false;
  ma_capture_release(&p->capture);
  ma_result_release(&p->result);
  ma_free(p->ids);
  ma_free(p->places);
  p->ids = NULL;
  p->places = NULL;
  return 0;
}

/* ---- ids ---- */

static void make_ids(lua_State *L, bind_pass *p, lua_Integer n_sequences, lua_Integer n_tokens) {
  ma_error err;
  size_t count = 0;
  if (n_sequences < 1 || n_tokens < 1) bind_error(L, "a pass needs at least one token");
  if ((uint64_t)n_tokens > SIZE_MAX / 8 / (uint64_t)n_sequences) bind_error(L, "too many tokens");
  count = (size_t)n_sequences * (size_t)n_tokens;
  p->n_sequences = n_sequences;
  p->n_tokens = n_tokens;
  if (MA_NEW(&p->ids, count, &err) != MA_OK) bind_raise(L, &err);
}

static int64_t id_at(lua_State *L, int table, lua_Integer i) {
  int is_integer;
  bind_item(L, table, i);
  int64_t id = lua_tointegerx(L, -1, &is_integer);
  if (!is_integer) bind_error(L, "token id %lld is no integer", (long long)i);
  lua_pop(L, 1);
  return id;
}

/* {1, 2, 3}, {{1, 2}, {3, 4}} or an integer tensor of one or two dims. */
static void read_ids(lua_State *L, bind_pass *p, int index) {
  ma_error err;
  const ma_tensor *t = bind_test_tensor(L, index);
  if (t) {
    if (t->n_dims < 1 || t->n_dims > 2) bind_error(L, "ids are [T] or [B x T]");
    make_ids(L, p, t->n_dims == 2 ? t->shape[0] : 1, t->shape[t->n_dims - 1]);
    t = bind_on_host(L, t);
    for (int64_t i = 0; i < p->n_sequences * p->n_tokens; i++) {
      int64_t at[2] = {t->n_dims == 2 ? i / p->n_tokens : i, i % p->n_tokens};
      double id;
      if (ma_tensor_get(&id, t, at, &err) != MA_OK) bind_raise(L, &err);
      p->ids[i] = (int64_t)id;
    }
    lua_pop(L, 1);
    return;
  }
  luaL_checktype(L, index, LUA_TTABLE);
  bool is_batch = bind_item(L, index, 1) == LUA_TTABLE;
  lua_pop(L, 1);
  lua_Integer n_sequences = is_batch ? bind_length(L, index) : 1, n_tokens;
  if (is_batch) {
    bind_item(L, index, 1);
    n_tokens = bind_length(L, -1);
    lua_pop(L, 1);
  } else {
    n_tokens = bind_length(L, index);
  }
  make_ids(L, p, n_sequences, n_tokens);
  for (lua_Integer b = 0; b < n_sequences; b++) {
    if (is_batch) bind_item(L, index, b + 1);
    else lua_pushvalue(L, index);
    luaL_checktype(L, -1, LUA_TTABLE);
    if (bind_length(L, -1) != n_tokens)
      bind_error(L, "sequence %lld has %lld tokens, the first has %lld: a batch is rectangular", (long long)b + 1,
                 (long long)bind_length(L, -1), (long long)n_tokens);
    for (lua_Integer i = 0; i < n_tokens; i++) p->ids[b * n_tokens + i] = id_at(L, lua_gettop(L), i + 1);
    lua_pop(L, 1);
  }
}

/* ---- options ---- */

static bool option(lua_State *L, const char *name) {
  bool value = bind_field(L, 3, name) != LUA_TNIL && lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

/* The one place that the string on top of the stack names. */
static ma_place one_place(lua_State *L, const char *option_name) {
  ma_place *places, place;
  size_t n;
  ma_error err;
  if (lua_type(L, -1) != LUA_TSTRING) bind_error(L, "%s is the name of a point", option_name);
  if (bind_find_places(L, 1, &places, &n, lua_tostring(L, -1), &err) != MA_OK) bind_raise(L, &err);
  place = places[0];
  ma_free(places);
  if (n != 1) bind_error(L, "%s: '%s' names %d points, one is wanted", option_name, lua_tostring(L, -1), (int)n);
  return place;
}

/* Adds the places of capture = "pattern" or {"pattern", ...}. */
static void add_captured(lua_State *L, bind_pass *p, const char *pattern) {
  ma_place *found;
  size_t n;
  ma_error err;
  if (bind_find_places(L, 1, &found, &n, pattern, &err) != MA_OK) bind_raise(L, &err);
  ma_status st = ma_resize((void **)&p->places, p->n_places + n, sizeof *found, &err);
  if (st == MA_OK) {
    memcpy(p->places + p->n_places, found, n * sizeof *found);
    p->n_places += n;
  }
  ma_free(found);
  if (st != MA_OK) bind_raise(L, &err);
}

static void read_captures(lua_State *L, bind_pass *p) {
  int type = bind_field(L, 3, "capture");
  if (type == LUA_TSTRING) {
    add_captured(L, p, lua_tostring(L, -1));
  } else if (type == LUA_TTABLE) {
    for (lua_Integer i = 1, n = bind_length(L, -1); i <= n; i++) {
      bind_item(L, -1, i);
      add_captured(L, p, luaL_checkstring(L, -1));
      lua_pop(L, 1);
    }
  } else if (type != LUA_TNIL) {
    bind_error(L, "capture is a pattern or a list of patterns");
  }
  lua_pop(L, 1);
}

/* start_at = {point = , value = }; the value's table stays on the stack, so that the tensor stays alive. */
static void read_start(lua_State *L, ma_request *request, ma_place *place) {
  static const char *const keys[] = {"point", "value", NULL};
  if (bind_field(L, 3, "start_at") == LUA_TNIL) return;
  bind_check_keys(L, -1, keys);
  int table = lua_gettop(L);
  bind_field(L, table, "point");
  *place = one_place(L, "start_at");
  request->start = place;
  bind_field(L, table, "value");
  request->start_value = bind_check_tensor(L, -1);
}

/* grad = true: recorded, back to weights that require a gradient; "points": to captured points and the like only. */
static bool read_grad(lua_State *L, ma_request *request) {
  bool is_asked = bind_field(L, 3, "grad") != LUA_TNIL && lua_toboolean(L, -1);
  if (is_asked && lua_type(L, -1) == LUA_TSTRING) {
    if (strcmp(lua_tostring(L, -1), "points") != 0)
      bind_error(L, "grad is true, false or \"points\", not \"%s\"", lua_tostring(L, -1));
    request->skips_weights = true;
  }
  request->is_recorded = is_asked && bind_records(L);
  lua_pop(L, 1);
  return is_asked;
}

/* ---- results ---- */

/* Moves `t` into a Tensor on the stack. */
static void push_moved(lua_State *L, ma_tensor *t) {
  ma_tensor *out = bind_new_tensor(L);
  *out = *t;
  *t = (ma_tensor){0};
  bind_filled_tensor(L, out);
}

static double mean_loss(lua_State *L, const ma_tensor *losses) {
  double sum = 0;
  int64_t index[2], n = ma_tensor_count(losses);
  losses = bind_on_host(L, losses);
  for (index[0] = 0; index[0] < losses->shape[0]; index[0]++)
    for (index[1] = 0; index[1] < losses->shape[1]; index[1]++) {
      double loss;
      if (ma_tensor_get(&loss, losses, index, NULL) == MA_OK) sum += loss;
    }
  lua_pop(L, 1);
  return sum / (double)n;
}

/* The mean loss: a number, or (on the tape) a tensor of one. */
static void push_loss(lua_State *L, bind_pass *p, bool is_tensor) {
  ma_error err;
  if (p->result.mean.storage) push_moved(L, &p->result.mean);
  else if (!is_tensor) lua_pushnumber(L, mean_loss(L, &p->result.losses));
  else if (ma_reduce(bind_new_tensor(L), MA_REDUCE_mean, &p->result.losses, MA_ALL, false, &err) != MA_OK)
    bind_raise(L, &err);
}

static void push_result(lua_State *L, bind_pass *p, bool wants_loss, bool wants_each, bool has_gradient) {
  char name[MA_PLACE_NAME];
  lua_newtable(L);
  for (size_t i = 0; i < p->capture.n_seen; i++) {
    push_moved(L, &p->capture.seen[i].tensor);
    lua_setfield(L, -2, ma_place_name(name, p->capture.seen[i].place));
  }
  if (p->result.logits.storage) {
    push_moved(L, &p->result.logits);
    lua_setfield(L, -2, "logits");
  }
  if (!p->result.losses.storage && !p->result.mean.storage) return;
  if (wants_loss) {
    push_loss(L, p, has_gradient);
    lua_setfield(L, -2, "loss");
  }
  if (wants_each) {
    push_moved(L, &p->result.losses);
    lua_setfield(L, -2, "token_losses");
  }
}

/* ---- forward ---- */

/* A failed hook's own error object is raised again; anything else is a message. */
static int raise_failure(lua_State *L, const ma_error *err) {
  if (err->code == MA_CALLBACK) {
    lua_getiuservalue(L, 1, BIND_MODEL_HANDLES);
    if (lua_getfield(L, -1, "error") != LUA_TNIL) {
      lua_pushnil(L);
      lua_setfield(L, -3, "error");
      return lua_error(L);
    }
  }
  return bind_raise(L, err);
}

int bind_model_forward(lua_State *L) {
  static const char *const keys[] = {"capture", "logits", "loss", "token_losses", "start_at",
                                     "stop_at", "cache",  "grad", "checkpoint",   NULL};
  bind_model *m = bind_check_model(L, 1);
  ma_request request = {0};
  ma_place start, stop;
  bind_cache *cache = NULL;
  ma_error err = {0};
  lua_settop(L, 3);
  if (lua_isnil(L, 3)) {
    lua_newtable(L);
    lua_replace(L, 3);
  }
  bind_check_keys(L, 3, keys);
  bind_pass *p = bind_new(L, BIND_PASS, sizeof *p, 0);
  p->model = m->model;
  ma_capture_init(&p->capture);
  read_ids(L, p, 2);
  read_captures(L, p);
  bool wants_loss = option(L, "loss"), wants_each = option(L, "token_losses");
  request = (ma_request){.ids = p->ids,
                         .n_sequences = p->n_sequences,
                         .n_tokens = p->n_tokens,
                         .wants_logits = option(L, "logits"),
                         .wants_losses = wants_each,
                         .wants_mean = wants_loss};
  bool has_gradient = read_grad(L, &request);
  request.recomputes = option(L, "checkpoint");
  p->capture.is_recorded = request.is_recorded;
  if (!request.is_recorded) request.wants_losses |= wants_loss;
  if ((wants_loss || wants_each) && p->n_tokens < 2) return bind_error(L, "a loss needs at least two tokens");
  if (bind_field(L, 3, "stop_at") != LUA_TNIL) {
    stop = one_place(L, "stop_at");
    request.stop = &stop;
  }
  read_start(L, &request, &start);
  if (bind_field(L, 3, "cache") != LUA_TNIL) cache = bind_check_cache(L, -1, m->model); /* stays on the stack */
  if (cache) request.cache = cache->cache;
  bind_check_model(L, 1); /* reading may have called metamethods, and they the model's close() */
  if (p->n_places) {
    if (ma_visitors_attach(&m->model->visitors, &p->capture.visitor, p->places, p->n_places, &err) != MA_OK)
      return bind_raise(L, &err);
    p->is_captured = true;
  }
  /* The hooks of this pass find their functions through here; a nested pass puts back what it found. */
  bind_model before = *m;
  m->L = L;
  m->index = 1;
  if (cache) cache->is_used = true;
  ma_status st = ma_model_forward(&p->result, m->model, &request, &err);
  if (cache) cache->is_used = false;
  m->L = before.L;
  m->index = before.index;
  if (p->is_captured) ma_visitors_detach(&m->model->visitors, &p->capture.visitor);
  p->is_captured = false;
  if (st != MA_OK) return raise_failure(L, &err);
  const ma_tensor *end = p->result.mean.storage     ? &p->result.mean
                         : p->result.losses.storage ? &p->result.losses
                                                    : &p->result.logits;
  size_t saved = end->storage ? ma_tape_bytes(end) : 0;
  push_result(L, p, wants_loss, wants_each, has_gradient);
  bind_charge(L, saved);
  return 1;
}

void bind_open_pass(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", pass_gc}, {NULL, NULL}};
  bind_class(L, BIND_PASS, meta, NULL);
}
