/* Models: made from a spec and bound to tensors by lua/massact/load.lua. */
#include "model/model.h"

#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"

#define BIND_SPEC "massact.Spec"

bind_model *bind_check_model(lua_State *L, int index) {
  bind_model *m = luaL_checkudata(L, index, BIND_MODEL);
  if (!m->model) bind_error(L, "this model has been closed");
  return m;
}

/* ---- the spec, from a table ---- */

static int spec_gc(lua_State *L) {
  ma_spec_release(luaL_checkudata(L, 1, BIND_SPEC));
  return 0;
}

/* Index of the word in a list separated by spaces; -1: not there. */
static int choice_of(const char *choices, const char *word) {
  size_t length = strlen(word);
  for (int i = 0;; i++) {
    size_t n = strcspn(choices, " ");
    if (n == length && strncmp(choices, word, n) == 0) return i;
    if (!choices[n]) return -1;
    choices += n + 1;
  }
}

/* The value on top of the stack, as the field wants it. */
static void read_field(lua_State *L, ma_spec *spec, const ma_field *field) {
  char *at = (char *)spec + field->offset;
  int fits = 1;
  switch (field->kind) {
    case MA_FIELD_INT: *(int64_t *)(void *)at = lua_tointegerx(L, -1, &fits); break;
    case MA_FIELD_FLOAT: *(double *)(void *)at = lua_tonumberx(L, -1, &fits); break;
    case MA_FIELD_BOOL:
      fits = lua_isboolean(L, -1);
      *(bool *)(void *)at = lua_toboolean(L, -1);
      break;
    case MA_FIELD_CHOICE: {
      int choice = lua_type(L, -1) == LUA_TSTRING ? choice_of(field->choices, lua_tostring(L, -1)) : -1;
      if (choice < 0) bind_error(L, "spec: %s is one of %s", field->name, field->choices);
      *(int *)(void *)at = choice;
    }
  }
  if (!fits) bind_error(L, "spec: %s has the wrong type (%s)", field->name, luaL_typename(L, -1));
}

static void read_ropes(lua_State *L, int index, ma_spec *spec) {
  ma_error err;
  if (bind_field(L, index, "ropes") == LUA_TTABLE) {
    lua_Integer n = bind_length(L, -1);
    if (n > MA_MAX_ROPES) bind_error(L, "spec: at most %d ropes", MA_MAX_ROPES);
    for (lua_Integer i = 0; i < n; i++) {
      ma_rotation *rope = &spec->ropes[i];
      bind_item(L, -1, i + 1);
      bind_field(L, -1, "scale");
      rope->scale = (float)luaL_optnumber(L, -1, 1);
      bind_field(L, -2, "frequencies");
      luaL_checktype(L, -1, LUA_TTABLE);
      rope->n = bind_length(L, -1);
      spec->n_ropes = (int)i + 1;
      if (MA_NEW(&rope->frequencies, rope->n, &err) != MA_OK) bind_raise(L, &err);
      for (int64_t f = 0; f < rope->n; f++) {
        bind_item(L, -1, f + 1);
        rope->frequencies[f] = (float)luaL_checknumber(L, -1);
        lua_pop(L, 1);
      }
      lua_pop(L, 3);
    }
  }
  lua_pop(L, 1);
}

/* A list with a whole number a layer; false where the field is absent. */
static bool push_layer_list(lua_State *L, int index, const char *name, const ma_spec *spec) {
  if (bind_field(L, index, name) == LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  luaL_checktype(L, -1, LUA_TTABLE);
  if (bind_length(L, -1) != spec->n_layers) bind_error(L, "spec: %s has a value for each layer", name);
  return true;
}

static lua_Integer list_item(lua_State *L, int64_t i) {
  bind_item(L, -1, i + 1);
  lua_Integer value = luaL_checkinteger(L, -1);
  lua_pop(L, 1);
  return value;
}

static void read_layers(lua_State *L, int index, ma_spec *spec) {
  ma_error err;
  if (push_layer_list(L, index, "rope_of_layer", spec)) {
    if (MA_NEW(&spec->rope_of_layer, spec->n_layers, &err) != MA_OK) bind_raise(L, &err);
    for (int64_t l = 0; l < spec->n_layers; l++) spec->rope_of_layer[l] = (int)list_item(L, l);
    lua_pop(L, 1);
  }
  if (push_layer_list(L, index, "windows", spec)) {
    if (MA_NEW(&spec->windows, spec->n_layers, &err) != MA_OK) bind_raise(L, &err);
    for (int64_t l = 0; l < spec->n_layers; l++) spec->windows[l] = list_item(L, l);
    lua_pop(L, 1);
  }
}

/* A spec on the stack, from the table at `index`; keys that are no field are mistakes. */
static ma_spec *read_spec(lua_State *L, int index) {
  ma_spec *spec = bind_new(L, BIND_SPEC, sizeof *spec, 0);
  ma_spec_defaults(spec);
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    const ma_field *field = NULL;
    for (size_t i = 0; i < ma_spec_n_fields() && !field; i++)
      if (strcmp(ma_spec_field(i)->name, key) == 0) field = ma_spec_field(i);
    if (field) read_field(L, spec, field);
    else if (strcmp(key, "ropes") != 0 && strcmp(key, "rope_of_layer") != 0 && strcmp(key, "windows") != 0)
      bind_error(L, "spec: there is no field '%s'", key);
  }
  read_ropes(L, index, spec);
  if (spec->n_layers < 1 || spec->n_layers > MA_MAX_LAYERS)
    bind_error(L, "spec: n_layers = %lld must be between 1 and %d", (long long)spec->n_layers, MA_MAX_LAYERS);
  read_layers(L, index, spec);
  return spec;
}

/* ---- making and binding ---- */

/* new(spec, device, paths, dtype): a model without weights. */
static int model_new(lua_State *L) {
  ma_error err;
  ma_device *device;
  luaL_checktype(L, 1, LUA_TTABLE);
  const char *device_name = luaL_optstring(L, 2, "auto");
  lua_settop(L, 4);
  ma_dtype dtype = lua_isnil(L, 4) ? MA_F32 : bind_check_dtype(L, 4);
  if (ma_device_find(&device, device_name, &err) != MA_OK) return bind_raise(L, &err);
  ma_spec *spec = read_spec(L, 1);
  bind_model *m = bind_new(L, BIND_MODEL, sizeof *m, BIND_MODEL_N_VALUES);
  lua_newtable(L);
  lua_setiuservalue(L, -2, BIND_MODEL_FIELDS);
  lua_newtable(L);
  lua_setiuservalue(L, -2, BIND_MODEL_HANDLES);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, -2, BIND_MODEL_PATHS);
  if (ma_model_new(&m->model, spec, dtype, device, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

/* model:bind(slot, tensor) */
static int model_bind(lua_State *L) {
  bind_model *m = bind_check_model(L, 1);
  ma_error err;
  const char *slot = luaL_checkstring(L, 2);
  const ma_tensor *t = bind_check_tensor(L, 3);
  if (m->model->n_running > 0) return bind_error(L, "weights cannot be replaced during a pass");
  if (ma_model_bind(m->model, slot, t, &err) != MA_OK) return bind_raise(L, &err);
  return 0;
}

/* model:finish(budget): every slot filled; `budget` bytes may hold widened weights. */
static int model_finish(lua_State *L) {
  bind_model *m = bind_check_model(L, 1);
  ma_error err;
  lua_Number budget = luaL_checknumber(L, 2);
  if (ma_weights_finish(m->model->weights, budget > 0 ? (size_t)budget : 0, &err) != MA_OK) return bind_raise(L, &err);
  return 0;
}

static int model_close(lua_State *L) {
  bind_model *m = luaL_checkudata(L, 1, BIND_MODEL);
  if (m->model && m->model->n_running > 0) return bind_error(L, "a model cannot be closed during its own pass");
  ma_model *closing = m->model;
  m->model = NULL;
  ma_model_close(closing);
  return 0;
}

/* model:device(): "cpu", "cuda:0" */
static int model_device(lua_State *L) {
  lua_pushstring(L, bind_check_model(L, 1)->model->device->name);
  return 1;
}

static int model_point_names(lua_State *L) {
  bind_model *m = bind_check_model(L, 1);
  ma_error err;
  ma_place *places;
  size_t n;
  char name[MA_PLACE_NAME];
  lua_newtable(L);
  if (ma_places_match(&places, &n, &m->model->spec, "**", &err) != MA_OK) return bind_raise(L, &err);
  /* Names are short: filling the table can fail for memory only, when the places leak with the state. */
  for (size_t i = 0; i < n; i++) {
    lua_pushstring(L, ma_place_name(name, places[i]));
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  ma_free(places);
  return 1;
}

/* ---- fields ---- */

static int model_index(lua_State *L) {
  luaL_getmetafield(L, 1, "methods");
  lua_pushvalue(L, 2);
  if (lua_rawget(L, -2) != LUA_TNIL) return 1;
  lua_getiuservalue(L, 1, BIND_MODEL_FIELDS);
  lua_pushvalue(L, 2);
  lua_gettable(L, -2);
  return 1;
}

static int model_newindex(lua_State *L) {
  lua_getiuservalue(L, 1, BIND_MODEL_FIELDS);
  lua_insert(L, 2);
  lua_rawset(L, 2);
  return 0;
}

/* model:fields(): the table behind model.NAME, for lua/massact. */
static int model_fields(lua_State *L) {
  luaL_checkudata(L, 1, BIND_MODEL);
  lua_getiuservalue(L, 1, BIND_MODEL_FIELDS);
  return 1;
}

static int model_tostring(lua_State *L) {
  bind_model *m = luaL_checkudata(L, 1, BIND_MODEL);
  if (!m->model) {
    lua_pushliteral(L, "Model (closed)");
    return 1;
  }
  lua_getiuservalue(L, 1, BIND_MODEL_FIELDS);
  lua_getfield(L, -1, "name");
  lua_pushfstring(L, "Model %s (%I layers, %I wide, on %s)", luaL_optstring(L, -1, "?"),
                  (LUAI_UACINT)m->model->spec.n_layers, (LUAI_UACINT)m->model->spec.d_model, m->model->device->name);
  return 1;
}

/* ---- tables of the core, for documentation and checks ---- */

static int list_points(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; i < (int)MA_N_POINTS; i++) {
    const ma_point_info *info = ma_point_describe((ma_point)i);
    lua_createtable(L, 0, 4);
    lua_pushstring(L, info->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, info->shape);
    lua_setfield(L, -2, "shape");
    lua_pushstring(L, info->meaning);
    lua_setfield(L, -2, "meaning");
    lua_pushboolean(L, info->in_layer);
    lua_setfield(L, -2, "in_layer");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* A field's value as Lua has it: of a choice, the word. */
static void push_field(lua_State *L, const ma_spec *spec, const ma_field *field) {
  const void *at = (const char *)spec + field->offset;
  switch (field->kind) {
    case MA_FIELD_INT: lua_pushinteger(L, *(const int64_t *)at); break;
    case MA_FIELD_FLOAT: lua_pushnumber(L, *(const double *)at); break;
    case MA_FIELD_BOOL: lua_pushboolean(L, *(const bool *)at); break;
    case MA_FIELD_CHOICE: {
      const char *word = field->choices;
      for (int i = *(const int *)at; i > 0; i--) word = strchr(word, ' ') + 1;
      lua_pushlstring(L, word, strcspn(word, " "));
    }
  }
}

static int list_fields(lua_State *L) {
  ma_spec defaults;
  ma_spec_defaults(&defaults);
  lua_newtable(L);
  for (size_t i = 0; i < ma_spec_n_fields(); i++) {
    const ma_field *field = ma_spec_field(i);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, field->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, field->doc);
    lua_setfield(L, -2, "doc");
    push_field(L, &defaults, field);
    lua_setfield(L, -2, "default");
    if (field->choices) {
      lua_pushstring(L, field->choices);
      lua_setfield(L, -2, "choices");
    }
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static int list_slots(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; i < (int)MA_N_SLOTS; i++) {
    const ma_slot_info *info = ma_slot_describe((ma_slot)i);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, info->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, info->shape);
    lua_setfield(L, -2, "shape");
    lua_pushstring(L, (const char *const[]){"model", "layer", "expert"}[info->scope]);
    lua_setfield(L, -2, "scope");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* model:memory(): bytes of f32 copies that passes keep. */
static int model_wide_bytes(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)ma_weights_wide_bytes(bind_check_model(L, 1)->model->weights));
  return 1;
}

/* model:pass_bytes(): the most that a pass has taken so far, beyond weights. */
static int model_pass_bytes(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)bind_check_model(L, 1)->model->arenas[0].peak);
  return 1;
}

int bind_open_model(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", model_close},          {"__close", model_close},
                                  {"__index", model_index},       {"__newindex", model_newindex},
                                  {"__tostring", model_tostring}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"bind", model_bind},
                                     {"finish", model_finish},
                                     {"close", model_close},
                                     {"point", bind_model_point},
                                     {"forward", bind_model_forward},
                                     {"point_names", model_point_names},
                                     {"fields", model_fields},
                                     {"device", model_device},
                                     {"wide_bytes", model_wide_bytes},
                                     {"pass_bytes", model_pass_bytes},
                                     {"cache", bind_model_cache},
                                     {NULL, NULL}};
  static const luaL_Reg spec_meta[] = {{"__gc", spec_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"new", model_new}, {"points", list_points}, {"fields", list_fields}, {"slots", list_slots}, {NULL, NULL}};
  bind_class(L, BIND_MODEL, meta, methods);
  bind_class(L, BIND_SPEC, spec_meta, NULL);
  bind_open_point(L);
  bind_open_pass(L);
  bind_open_cache(L);
  luaL_newlib(L, functions);
  luaL_getmetatable(L, BIND_MODEL);
  lua_getfield(L, -1, "methods");
  lua_setfield(L, -3, "methods");
  lua_pop(L, 1);
  return 1;
}
