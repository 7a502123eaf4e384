/* The module massact.core: one field a file of this folder. */
#include "bind/bind.h"

static const luaL_Reg parts[] = {
    {"tensor", bind_open_tensor},   {"checkpoint", bind_open_checkpoint}, {"tokenizer", bind_open_tokenizer},
    {"json", bind_open_json},       {"model", bind_open_model},           {"figure", bind_open_figure},
    {"system", bind_open_system},   {"terminal", bind_open_terminal},     {"text", bind_open_text},
    {"process", bind_open_process}, {"tokens", bind_open_token_file},     {NULL, NULL},
};

int luaopen_massact_core(lua_State *L) {
  luaL_checkversion(L);
  lua_newtable(L);
  for (const luaL_Reg *part = parts; part->name; part++) {
    lua_pushcfunction(L, part->func);
    lua_call(L, 0, 1);
    lua_setfield(L, -2, part->name);
  }
  return 1;
}
