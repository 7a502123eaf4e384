/* config.json, through its family, to a model without weights: one line of error or a checked spec. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "fuzz.h"

static const char setup[] =
    "local home = ...\n"
    "package.path = home .. '/lua/?.lua;' .. home .. '/lua/?/init.lua'\n"
    "massact = require 'massact'\n"
    "massact.home = home\n"
    "local core, families = require 'massact.core', require 'massact.family'\n"
    "require 'massact.model'\n"
    "local function attempt(text)\n"
    "  local config = core.json.parse(text, 'config.json')\n"
    "  if type(config) ~= 'table' then return end\n"
    "  local family = families.of_config(config, 'config.json')\n"
    "  local proxy, unread = families.recording(config, family, 'config.json')\n"
    "  local spec = family.spec(proxy)\n"
    "  local model = core.model.new(spec, 'cpu', family.paths or {})\n"
    "  family.weights(spec, proxy)\n"
    "  unread()\n"
    "  model:close()\n"
    "end\n"
    "return function(text)\n"
    "  local fine, problem = pcall(attempt, text)\n"
    "  assert(fine or (type(problem) == 'string' and not problem:find '\\n'), problem)\n"
    "end\n";

static lua_State *start(void) {
  lua_State *L = luaL_newstate();
  if (!L) abort();
  luaL_openlibs(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_massact_core);
  lua_setfield(L, -2, "massact.core");
  lua_pop(L, 1);
  if (luaL_loadstring(L, setup) != LUA_OK) abort();
  lua_pushstring(L, MASSACT_SOURCE);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    fprintf(stderr, "fuzz: %s\n", lua_tostring(L, -1));
    abort();
  }
  return L;
}

static lua_State *state;

static void finish(void) { lua_close(state); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!state) {
    state = start();
    atexit(finish);
  }
  lua_pushvalue(state, -1);
  lua_pushlstring(state, (const char *)data, size);
  if (lua_pcall(state, 1, 0, 0) != LUA_OK) {
    fprintf(stderr, "fuzz: %s\n", lua_tostring(state, -1));
    abort();
  }
  return 0;
}
