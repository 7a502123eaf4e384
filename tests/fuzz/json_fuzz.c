/* JSON text to Lua, back to text, and again: what is read can be written, and reads as the same text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "fuzz.h"

static const char code[] =
    "local json, text, path = ...\n"
    "local fine, value = pcall(json.parse, text)\n"
    "if not fine then assert(not value:find '\\n', value) return end\n"
    "local made, first = pcall(json.text, value)\n"
    "if not made then assert(not first:find '\\n', first) return end\n"
    "local second = json.text(json.parse(first))\n"
    "assert(first == second, 'written and read it is something else')\n"
    "json.save(path, value)\n"
    "assert(json.text(json.load(path)) == first)\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[256];
  lua_State *L = luaL_newstate();
  if (!L) abort();
  luaL_openlibs(L);
  bind_open_json(L);
  snprintf(path, sizeof path, "%s/value.json", fuzz_folder());
  if (luaL_loadstring(L, code) != LUA_OK) abort();
  lua_insert(L, -2);
  lua_pushlstring(L, (const char *)data, size);
  lua_pushstring(L, path);
  if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
    fprintf(stderr, "fuzz: %s\n", lua_tostring(L, -1));
    abort();
  }
  lua_close(L);
  return 0;
}
