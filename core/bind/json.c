/* JSON to Lua and back.  null is the lightuserdata NULL (massact.null), so that it survives in tables; a table with
 * elements 1..n is an array, an empty one an object unless json.array marked it; keys are written in order. */
#include "format/json.h"

#include <math.h>
#include <string.h>

#include "bind/bind.h"

#define BIND_JSON  "massact.Json"
#define BIND_ARRAY "massact.Array" /* metatable that marks an empty table as an array */

enum { MAX_DEPTH = 200 };

/* A json_t that a Lua error cannot leak. */
static json_t **new_box(lua_State *L) { return bind_new(L, BIND_JSON, sizeof(json_t *), 0); }

static int box_gc(lua_State *L) {
  json_t **box = luaL_checkudata(L, 1, BIND_JSON);
  json_decref(*box);
  *box = NULL;
  return 0;
}

/* ---- to Lua ---- */

static void push_value(lua_State *L, const json_t *value, int depth) {
  const char *key;
  json_t *item;
  size_t i;
  if (depth > MAX_DEPTH) bind_error(L, "JSON nested more than %d deep", MAX_DEPTH);
  luaL_checkstack(L, 4, "JSON");
  switch (json_typeof(value)) {
    case JSON_OBJECT:
      lua_createtable(L, 0, (int)json_object_size(value));
      json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        push_value(L, item, depth + 1);
        lua_setfield(L, -2, key);
      }
      break;
    case JSON_ARRAY:
      lua_createtable(L, (int)json_array_size(value), 0);
      json_array_foreach(value, i, item) {
        push_value(L, item, depth + 1);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
      }
      if (json_array_size(value) == 0) luaL_setmetatable(L, BIND_ARRAY);
      break;
    case JSON_STRING: lua_pushlstring(L, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: lua_pushinteger(L, json_integer_value(value)); break;
    case JSON_REAL: lua_pushnumber(L, json_real_value(value)); break;
    case JSON_TRUE: lua_pushboolean(L, 1); break;
    case JSON_FALSE: lua_pushboolean(L, 0); break;
    default: lua_pushlightuserdata(L, NULL);
  }
}

static int load(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  json_t **box = new_box(L);
  if (ma_json_read(box, path, &err) != MA_OK) return bind_raise(L, &err);
  push_value(L, *box, 0);
  return 1;
}

static int parse(lua_State *L) {
  ma_error err;
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length), *where = luaL_optstring(L, 2, "JSON text");
  json_t **box = new_box(L);
  if (ma_json_parse(box, text, length, where, &err) != MA_OK) return bind_raise(L, &err);
  push_value(L, *box, 0);
  return 1;
}

/* ---- from Lua ---- */

/* Makes the value on top of the stack; a container is put into its parent (by `put`) before its items are made,
 * so that whatever raises, the box holds everything. */
typedef struct parent {
  json_t **box; /* the root's place, or NULL */
  json_t *array;
  json_t *object;
  const char *key;
} parent;

static json_t *put(lua_State *L, const parent *p, json_t *made) {
  int failed = 0;
  if (!made) bind_error(L, "this text is not valid UTF-8 and cannot be JSON");
  if (p->box) *p->box = made;
  else if (p->array) failed = json_array_append_new(p->array, made);
  else failed = json_object_set_new(p->object, p->key, made);
  if (failed) bind_error(L, "this key is not valid UTF-8 and cannot be JSON");
  return made;
}

static void put_value(lua_State *L, const parent *p, int depth);

static bool is_array(lua_State *L) {
  if (lua_getmetatable(L, -1)) {
    luaL_getmetatable(L, BIND_ARRAY);
    bool marked = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    if (marked) return true;
  }
  return lua_rawlen(L, -1) > 0;
}

static void put_items(lua_State *L, json_t *array, int depth) {
  lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
  parent p = {.array = array};
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, -1, i);
    put_value(L, &p, depth + 1);
    lua_pop(L, 1);
  }
}

static void put_fields(lua_State *L, json_t *object, int depth) {
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING && !lua_isinteger(L, -2))
      bind_error(L, "a JSON key is a string, not a %s", luaL_typename(L, -2));
    lua_pushvalue(L, -2); /* converting the key itself would confuse lua_next */
    parent p = {.object = object, .key = lua_tostring(L, -1)};
    lua_pushvalue(L, -2);
    put_value(L, &p, depth + 1);
    lua_pop(L, 2);
  }
}

static void put_value(lua_State *L, const parent *p, int depth) {
  size_t length;
  const char *text;
  if (depth > MAX_DEPTH) bind_error(L, "a table nested more than %d deep (or in itself) cannot be JSON", MAX_DEPTH);
  luaL_checkstack(L, 8, "JSON");
  switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN: put(L, p, json_boolean(lua_toboolean(L, -1))); return;
    case LUA_TSTRING:
      text = lua_tolstring(L, -1, &length);
      put(L, p, json_stringn(text, length));
      return;
    case LUA_TNUMBER:
      if (lua_isinteger(L, -1)) put(L, p, json_integer(lua_tointeger(L, -1)));
      else put(L, p, isfinite(lua_tonumber(L, -1)) ? json_real(lua_tonumber(L, -1)) : json_null());
      return;
    case LUA_TTABLE:
      if (is_array(L)) put_items(L, put(L, p, json_array()), depth);
      else put_fields(L, put(L, p, json_object()), depth);
      return;
    case LUA_TNIL: put(L, p, json_null()); return;
    default:
      if (lua_islightuserdata(L, -1) && !lua_touserdata(L, -1)) put(L, p, json_null());
      else bind_error(L, "a %s cannot be JSON", luaL_typename(L, -1));
  }
}

static int save(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  luaL_checkany(L, 2);
  lua_settop(L, 2);
  json_t **box = new_box(L);
  lua_pushvalue(L, 2);
  put_value(L, &(parent){.box = box}, 0);
  if (ma_json_write(path, *box, &err) != MA_OK) return bind_raise(L, &err);
  return 0;
}

static int text(lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  json_t **box = new_box(L);
  lua_pushvalue(L, 1);
  put_value(L, &(parent){.box = box}, 0);
  /* Into memory of Lua's: pushing the text may raise, and jansson's would be lost. */
  const size_t flags = JSON_SORT_KEYS | JSON_ENCODE_ANY;
  size_t size = json_dumpb(*box, NULL, 0, flags);
  if (size == 0) return bind_error(L, "this value cannot be JSON");
  char *made = lua_newuserdatauv(L, size, 0);
  lua_pushlstring(L, made, json_dumpb(*box, made, size, flags));
  return 1;
}

static int array(lua_State *L) {
  if (lua_isnoneornil(L, 1)) lua_newtable(L);
  else luaL_checktype(L, 1, LUA_TTABLE);
  luaL_setmetatable(L, BIND_ARRAY);
  return 1;
}

int bind_open_json(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", box_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"load", load}, {"parse", parse}, {"save", save},
                                       {"text", text}, {"array", array}, {NULL, NULL}};
  bind_class(L, BIND_JSON, meta, NULL);
  luaL_newmetatable(L, BIND_ARRAY);
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  return 1;
}
