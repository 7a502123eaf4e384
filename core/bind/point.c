/* Points and what stands on them: hooks (Lua functions), probes, patches. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "model/patch.h"
#include "model/probe.h"

/* A set of places of one model (user value 1). */
typedef struct bind_point {
  ma_place *places;
  size_t n;
} bind_point;

typedef enum handle_kind { HOOK, PROBE, PATCH } handle_kind;

/* Something that stands on points.  The model keeps it (so that a handle that nobody stores stays) until it is
 * removed; user values: 1 the model, 2 a hook's function, 3 its description. */
typedef struct bind_handle {
  union {
    ma_visitor visitor; /* first, as in the structs below: the decoder's pointer is this one */
    ma_probe probe;
    ma_patch patch;
  } u;
  handle_kind kind;
  bool is_attached;
  bind_model *model;
  bind_presence *presence; /* of a hook that sees gradients */
} bind_handle;

enum { HANDLE_MODEL = 1, HANDLE_FUNCTION = BIND_HANDLE_FUNCTION, HANDLE_NAME = 3, HANDLE_N_VALUES = 3 };

/* ---- finding places ---- */

/* "model.layers.*.self_attn" of a family's paths, against "model.layers.3.self_attn": what stands for the star is
 * put into the point's name.  False where it does not match. */
static bool through_path(char *out, size_t size, const char *path, const char *point, const char *name) {
  const char *star = strchr(path, '*');
  if (!star) {
    snprintf(out, size, "%s", point);
    return strcmp(path, name) == 0;
  }
  size_t before = (size_t)(star - path), after = strlen(star + 1), length = strlen(name);
  if (length < before + after + 1 || strncmp(path, name, before) != 0 || strcmp(name + length - after, star + 1) != 0)
    return false;
  const char *target = strchr(point, '*');
  int middle = (int)(length - before - after);
  if (!target || memchr(name + before, '.', (size_t)middle)) {
    /* "{2..9}" has dots that separate nothing. */
    if (!target || name[before] != '{') return false;
  }
  snprintf(out, size, "%.*s%.*s%s", (int)(target - point), point, middle, name + before, target + 1);
  return true;
}

ma_status bind_find_places(lua_State *L, int model_index, ma_place **places, size_t *n, const char *name,
                           ma_error *err) {
  char translated[256];
  bind_model *m = bind_check_model(L, model_index);
  ma_status st = ma_places_match(places, n, &m->model->spec, name, err);
  if (st == MA_OK) return st;
  model_index = lua_absindex(L, model_index);
  if (lua_getiuservalue(L, model_index, BIND_MODEL_PATHS) == LUA_TTABLE) {
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
      if (!through_path(translated, sizeof translated, lua_tostring(L, -2), lua_tostring(L, -1), name)) continue;
      lua_pop(L, 2);
      st = ma_places_match(places, n, &m->model->spec, translated, err);
      break;
    }
  }
  lua_pop(L, 1);
  return st;
}

int bind_model_point(lua_State *L) {
  bind_check_model(L, 1);
  const char *name = luaL_checkstring(L, 2);
  bind_point *p = bind_new(L, BIND_POINT, sizeof *p, 1);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  ma_error err;
  if (bind_find_places(L, 1, &p->places, &p->n, name, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

static bind_point *check_point(lua_State *L, int index) {
  bind_point *p = luaL_checkudata(L, index, BIND_POINT);
  lua_getiuservalue(L, index, 1);
  bind_check_model(L, -1);
  lua_pop(L, 1);
  return p;
}

/* ---- handles ---- */

/* A handle for the point at `index`, on the stack: not attached yet. */
static bind_handle *new_handle(lua_State *L, int index, handle_kind kind) {
  bind_handle *h = bind_new(L, BIND_HANDLE, sizeof *h, HANDLE_N_VALUES);
  h->kind = kind;
  lua_getiuservalue(L, index, 1);
  h->model = bind_check_model(L, -1);
  lua_setiuservalue(L, -2, HANDLE_MODEL);
  return h;
}

/* Attaches the handle on top of the stack, and lets the model keep it. */
static void attach(lua_State *L, bind_handle *h, const bind_point *p) {
  ma_error err;
  int at = lua_gettop(L);
  lua_getiuservalue(L, at, HANDLE_MODEL);
  lua_getiuservalue(L, -1, BIND_MODEL_HANDLES);
  lua_pushvalue(L, at);
  lua_rawsetp(L, -2, h);
  lua_settop(L, at);
  if (ma_visitors_attach(&h->model->model->visitors, &h->u.visitor, p->places, p->n, &err) != MA_OK)
    bind_raise(L, &err);
  h->is_attached = true;
}

static void detach(bind_handle *h) {
  if (h->is_attached && h->model->model) ma_visitors_detach(&h->model->model->visitors, &h->u.visitor);
  h->is_attached = false;
  bind_presence_end(h->presence);
  h->presence = NULL;
}

static int handle_remove(lua_State *L) {
  bind_handle *h = luaL_checkudata(L, 1, BIND_HANDLE);
  detach(h);
  if (lua_getiuservalue(L, 1, HANDLE_MODEL) != LUA_TUSERDATA) return 0;
  if (lua_getiuservalue(L, -1, BIND_MODEL_HANDLES) != LUA_TTABLE) return 0;
  lua_pushnil(L);
  lua_rawsetp(L, -2, h);
  return 0;
}

static int handle_gc(lua_State *L) {
  bind_handle *h = luaL_checkudata(L, 1, BIND_HANDLE);
  detach(h);
  if (h->kind == PROBE) ma_probe_release(&h->u.probe);
  if (h->kind == PATCH) ma_patch_release(&h->u.patch);
  return 0;
}

/* ---- hook ---- */

/* Calls the function with the live tensor and where it is.  An error is kept for whoever runs the pass. */
static int call_hook(lua_State *L) {
  ma_tensor *x = lua_touserdata(L, 2);
  const ma_at *at = lua_touserdata(L, 3);
  lua_getiuservalue(L, 1, HANDLE_FUNCTION);
  ma_tensor *seen = bind_new_tensor(L); /* which may raise, so nothing is held yet */
  *seen = ma_tensor_retain(x);
  lua_createtable(L, 0, 2);
  lua_pushstring(L, at->name);
  lua_setfield(L, -2, "name");
  if (at->place.layer >= 0) {
    lua_pushinteger(L, at->place.layer);
    lua_setfield(L, -2, "layer");
  }
  lua_call(L, 2, 0);
  return 0;
}

/* (handles, error, name): keeps the error.  A string gets the point's name in front; any other error object passes as
 * it is. */
static int keep_error(lua_State *L) {
  if (lua_type(L, 2) == LUA_TSTRING) {
    lua_pushfstring(L, "%s: %s", (const char *)lua_touserdata(L, 3), lua_tostring(L, 2));
    lua_replace(L, 2);
  }
  lua_settop(L, 2);
  lua_setfield(L, 1, "error");
  return 0;
}

/* Nothing here may raise past the pass below it: whatever makes strings or tables runs protected. */
static ma_status visit_hook(ma_visitor *self, ma_tensor *x, const ma_at *at, ma_error *err) {
  bind_handle *h = (bind_handle *)(void *)self;
  lua_State *L = h->model->L;
  int top = lua_gettop(L);
  if (!lua_checkstack(L, 16)) return ma_fail(err, MA_NO_MEMORY, "the Lua stack is full at '%s'", at->name);
  lua_getiuservalue(L, h->model->index, BIND_MODEL_HANDLES);
  lua_rawgetp(L, -1, h); /* stays on the stack: a hook may remove itself */
  /* Only here is the stack that an error came from still whole. */
  int handler = lua_rawgetp(L, LUA_REGISTRYINDEX, &bind_message_handler) == LUA_TFUNCTION ? top + 3 : 0;
  lua_pushcfunction(L, call_hook);
  lua_pushvalue(L, top + 2);
  lua_pushlightuserdata(L, x);
  lua_pushlightuserdata(L, (void *)(uintptr_t)at);
  ma_status st = MA_OK;
  if (lua_pcall(L, 3, 0, handler) != LUA_OK) {
    lua_pushcfunction(L, keep_error);
    lua_pushvalue(L, top + 1);
    lua_pushvalue(L, -3);
    lua_pushlightuserdata(L, (void *)(uintptr_t)at->name);
    if (lua_pcall(L, 3, 0, 0) == LUA_OK) st = ma_fail(err, MA_CALLBACK, "a hook at '%s' failed", at->name);
    else st = ma_fail(err, MA_NO_MEMORY, "a hook at '%s' failed: out of memory", at->name);
  }
  lua_settop(L, top);
  return st;
}

static ma_status visit_for_gradient(ma_visitor *self, ma_tensor *x, const ma_at *at, ma_error *err) {
  bind_handle *h = (bind_handle *)(void *)self;
  return bind_watch_gradient(h->presence, h, x, at->place, err);
}

/* point:hook(function, {grad = bool}?) */
static int point_hook(lua_State *L) {
  static const char *const keys[] = {"grad", NULL};
  ma_error err;
  bind_point *p = check_point(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  bool sees_gradients = false;
  lua_settop(L, 3);
  if (!lua_isnil(L, 3)) {
    bind_check_keys(L, 3, keys);
    bind_field(L, 3, "grad");
    sees_gradients = lua_toboolean(L, -1);
    lua_settop(L, 3);
  }
  bind_handle *h = new_handle(L, 1, HOOK);
  h->u.visitor.visit = sees_gradients ? visit_for_gradient : visit_hook;
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, HANDLE_FUNCTION);
  if (sees_gradients) {
    bind_remember_gradient_hook(L, h);
    if (bind_presence_new(&h->presence, &err) != MA_OK) return bind_raise(L, &err);
  }
  attach(L, h, p);
  return 1;
}

/* ---- probe ---- */

static const struct {
  const char *name;
  unsigned bit;
} statistics[] = {
    {"max", MA_STAT_TOP},
    {"median", MA_STAT_MEDIAN},
    {"mean", MA_STAT_MOMENTS},
    {"std", MA_STAT_MOMENTS},
    {"kurtosis", MA_STAT_MOMENTS},
    {"l1", MA_STAT_NORMS},
    {"l2", MA_STAT_NORMS},
    {"min", MA_STAT_EXTREMES},
    {"nonfinite", MA_STAT_NONFINITE},
    {"over_f16", MA_STAT_NONFINITE},
};

/* Adds what a word of the list asks for: a statistic, or "topN". */
static void want(lua_State *L, const char *word, unsigned *wanted, int *n_top) {
  char *end;
  if (strncmp(word, "top", 3) == 0) {
    long n = strtol(word + 3, &end, 10);
    if (end == word + 3 || *end || n < 1 || n > MA_MAX_TOP)
      bind_error(L, "probe: '%s' should be top1 to top%d", word, MA_MAX_TOP);
    *wanted |= MA_STAT_TOP;
    if (n > *n_top) *n_top = (int)n;
    return;
  }
  for (size_t i = 0; i < sizeof statistics / sizeof statistics[0]; i++) {
    if (strcmp(word, statistics[i].name) != 0) continue;
    *wanted |= statistics[i].bit;
    if (statistics[i].bit == MA_STAT_TOP && *n_top < 1) *n_top = 1;
    return;
  }
  bind_error(
      L, "probe: no statistic '%s'; there are max, median, topN, mean, std, kurtosis, l1, l2, min, nonfinite, over_f16",
      word);
}

static int point_probe(lua_State *L) {
  static const char *const keys[] = {"entries", NULL}, *const limits[] = {"above", "ratio", NULL};
  bind_point *p = check_point(L, 1);
  unsigned wanted = 0;
  int n_top = 0;
  bool has_entries = false;
  double above = 100, ratio = 1000; /* Sun et al. 2024 */
  luaL_checktype(L, 2, LUA_TTABLE);
  for (lua_Integer i = 1, n = bind_length(L, 2); i <= n; i++) {
    bind_item(L, 2, i);
    want(L, luaL_checkstring(L, -1), &wanted, &n_top);
    lua_pop(L, 1);
  }
  if (!lua_isnoneornil(L, 3)) {
    bind_check_keys(L, 3, keys);
    if (bind_field(L, 3, "entries") != LUA_TNIL) {
      bind_check_keys(L, -1, limits);
      has_entries = true;
      if (bind_field(L, -1, "above") != LUA_TNIL) above = luaL_checknumber(L, -1);
      if (bind_field(L, -2, "ratio") != LUA_TNIL) ratio = luaL_checknumber(L, -1);
    }
  }
  lua_settop(L, 3);
  bind_handle *h = new_handle(L, 1, PROBE);
  ma_error err;
  if (ma_probe_init(&h->u.probe, wanted, n_top, &err) != MA_OK) return bind_raise(L, &err);
  h->u.probe.wants_entries = has_entries;
  h->u.probe.above = above;
  h->u.probe.ratio = ratio;
  attach(L, h, p);
  return 1;
}

static void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

/* {value =, index = {..}, position =, dim =}: the first and the last index have names. */
static void push_element(lua_State *L, const ma_measured *m, int64_t flat, double value) {
  int64_t index[MA_MAX_DIMS];
  for (int d = m->n_dims - 1; d >= 0; d--) {
    index[d] = flat % m->shape[d];
    flat /= m->shape[d];
  }
  lua_createtable(L, 0, 4);
  set_number(L, "value", value);
  lua_createtable(L, m->n_dims, 0);
  for (int d = 0; d < m->n_dims; d++) {
    lua_pushinteger(L, index[d]);
    lua_rawseti(L, -2, d + 1);
  }
  lua_setfield(L, -2, "index");
  if (m->n_dims == 0) return;
  lua_pushinteger(L, index[0]);
  lua_setfield(L, -2, "position");
  lua_pushinteger(L, index[m->n_dims - 1]);
  lua_setfield(L, -2, "dim");
}

static void push_measured(lua_State *L, const ma_probe *p, const ma_measured *m) {
  const ma_stats *s = &m->stats;
  unsigned wanted = p->wanted | (p->wants_entries ? MA_STAT_TOP | MA_STAT_MEDIAN : 0);
  const struct {
    const char *name;
    unsigned bit;
    double value;
  } numbers[] = {
      {"max", MA_STAT_TOP, s->n_top ? (s->top_value[0] < 0 ? -s->top_value[0] : s->top_value[0]) : 0},
      {"median", MA_STAT_MEDIAN, s->median},
      {"mean", MA_STAT_MOMENTS, s->mean},
      {"std", MA_STAT_MOMENTS, s->std},
      {"kurtosis", MA_STAT_MOMENTS, s->kurtosis},
      {"l1", MA_STAT_NORMS, s->l1},
      {"l2", MA_STAT_NORMS, s->l2},
      {"min", MA_STAT_EXTREMES, s->min},
      {"nonfinite", MA_STAT_NONFINITE, (double)s->n_nonfinite},
      {"over_f16", MA_STAT_NONFINITE, (double)s->n_over_f16},
  };
  lua_newtable(L);
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    if (wanted & numbers[i].bit) set_number(L, numbers[i].name, numbers[i].value);
  if (wanted & MA_STAT_TOP) {
    lua_createtable(L, s->n_top, 0);
    for (int i = 0; i < s->n_top; i++) {
      push_element(L, m, s->top_index[i], s->top_value[i]);
      lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "top");
  }
  if (!p->wants_entries) return;
  lua_createtable(L, (int)m->n_entries, 0);
  for (size_t i = 0; i < m->n_entries; i++) {
    push_element(L, m, m->entries[i].index, (double)m->entries[i].value);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "entries");
}

/* probe["layers.3.out"]: one table a sequence of the last pass; nil where it has not been. */
static int probe_lookup(lua_State *L, const ma_probe *p, const char *key) {
  char name[MA_PLACE_NAME];
  lua_Integer n = 0;
  lua_newtable(L);
  for (size_t i = 0; i < p->n_measured; i++) {
    if (strcmp(ma_place_name(name, p->measured[i].place), key) != 0) continue;
    push_measured(L, p, &p->measured[i]);
    lua_rawseti(L, -2, ++n);
  }
  if (n == 0) lua_pushnil(L);
  return 1;
}

/* ---- patch ---- */

static void read_indices(lua_State *L, const char *name, ma_patch *patch, ma_patch_axis axis) {
  if (bind_field(L, 2, name) != LUA_TNIL) {
    ma_error err;
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_Integer n = bind_length(L, -1);
    if (MA_NEW(&patch->picked[axis], n, &err) != MA_OK) bind_raise(L, &err);
    for (lua_Integer i = 0; i < n; i++) {
      bind_item(L, -1, i + 1);
      patch->picked[axis][i] = luaL_checkinteger(L, -1);
      lua_pop(L, 1);
    }
    patch->n_picked[axis] = (size_t)n;
  }
  lua_pop(L, 1);
}

static void read_values(lua_State *L, ma_patch *patch) {
  ma_error err;
  bool is_list = lua_istable(L, -1);
  lua_Integer n = is_list ? bind_length(L, -1) : 1;
  if (MA_NEW(&patch->values, n, &err) != MA_OK) bind_raise(L, &err);
  for (lua_Integer i = 0; i < n; i++) {
    if (is_list) bind_item(L, -1, i + 1);
    else lua_pushvalue(L, -1);
    patch->values[i] = luaL_checknumber(L, -1);
    lua_pop(L, 1);
  }
  patch->n_values = (size_t)n;
}

static int point_patch(lua_State *L) {
  static const char *const keys[] = {"sequences", "positions", "heads", "dims", "to", "add", "scale", NULL};
  static const char *const kinds[] = {"to", "add", "scale"};
  bind_point *p = check_point(L, 1);
  ma_error err;
  int n_kinds = 0;
  bind_check_keys(L, 2, keys);
  lua_settop(L, 2);
  bind_handle *h = new_handle(L, 1, PATCH);
  ma_patch_init(&h->u.patch, MA_PATCH_SET);
  for (int k = 0; k < 3; k++) {
    if (bind_field(L, 2, kinds[k]) != LUA_TNIL) {
      if (++n_kinds == 1) {
        h->u.patch.kind = (ma_patch_kind)k;
        read_values(L, &h->u.patch);
      }
    }
    lua_pop(L, 1);
  }
  if (n_kinds != 1) return bind_error(L, "a patch says one of to, add and scale");
  for (int axis = 0; axis < MA_N_PATCH_AXES; axis++) read_indices(L, keys[axis], &h->u.patch, (ma_patch_axis)axis);
  if (ma_patch_check(&h->u.patch, &err) != MA_OK) return bind_raise(L, &err);
  attach(L, h, p);
  return 1;
}

/* ---- the two classes ---- */

static int handle_index(lua_State *L) {
  bind_handle *h = luaL_checkudata(L, 1, BIND_HANDLE);
  luaL_getmetafield(L, 1, "methods");
  lua_pushvalue(L, 2);
  if (lua_rawget(L, -2) != LUA_TNIL) return 1;
  if (h->kind == PROBE && lua_type(L, 2) == LUA_TSTRING) return probe_lookup(L, &h->u.probe, lua_tostring(L, 2));
  return 1;
}

static int handle_tostring(lua_State *L) {
  static const char *const kinds[] = {"Hook", "Probe", "Patch"};
  bind_handle *h = luaL_checkudata(L, 1, BIND_HANDLE);
  lua_pushfstring(L, "%s (%s)", kinds[h->kind], h->is_attached ? "attached" : "removed");
  return 1;
}

static int point_gc(lua_State *L) {
  bind_point *p = luaL_checkudata(L, 1, BIND_POINT);
  ma_free(p->places);
  *p = (bind_point){0};
  return 0;
}

static int point_names(lua_State *L) {
  bind_point *p = luaL_checkudata(L, 1, BIND_POINT);
  char name[MA_PLACE_NAME];
  lua_createtable(L, (int)p->n, 0);
  for (size_t i = 0; i < p->n; i++) {
    lua_pushstring(L, ma_place_name(name, p->places[i]));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static int point_len(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)((bind_point *)luaL_checkudata(L, 1, BIND_POINT))->n);
  return 1;
}

static int point_tostring(lua_State *L) {
  bind_point *p = luaL_checkudata(L, 1, BIND_POINT);
  char first[MA_PLACE_NAME], last[MA_PLACE_NAME];
  ma_place_name(first, p->places[0]);
  if (p->n == 1) lua_pushfstring(L, "Point %s", first);
  else lua_pushfstring(L, "Point (%d: %s to %s)", (int)p->n, first, ma_place_name(last, p->places[p->n - 1]));
  return 1;
}

void bind_open_point(lua_State *L) {
  static const luaL_Reg point_meta[] = {
      {"__gc", point_gc}, {"__len", point_len}, {"__tostring", point_tostring}, {NULL, NULL}};
  static const luaL_Reg point_methods[] = {
      {"hook", point_hook}, {"probe", point_probe}, {"patch", point_patch}, {"names", point_names}, {NULL, NULL}};
  static const luaL_Reg handle_meta[] = {{"__gc", handle_gc},
                                         {"__close", handle_remove},
                                         {"__index", handle_index},
                                         {"__tostring", handle_tostring},
                                         {NULL, NULL}};
  static const luaL_Reg handle_methods[] = {{"remove", handle_remove}, {NULL, NULL}};
  bind_class(L, BIND_POINT, point_meta, point_methods);
  bind_class(L, BIND_HANDLE, handle_meta, handle_methods);
}
