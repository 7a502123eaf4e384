#include "bind/bind.h"
int bind_open_figure(lua_State *L) { lua_newtable(L); return 1; }
