/* Text files: text.open(path) gives a reader with line, skip and rest. */
#include "format/text_file.h"

#include "bind/bind.h"

static int text_open(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  ma_text_file **box = bind_new(L, BIND_TEXT, sizeof *box, 0);
  if (ma_text_file_open(box, path, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

static int text_close(lua_State *L) {
  ma_text_file **box = luaL_checkudata(L, 1, BIND_TEXT);
  ma_text_file_close(*box);
  *box = NULL;
  return 0;
}

static ma_text_file *check(lua_State *L) {
  ma_text_file **box = luaL_checkudata(L, 1, BIND_TEXT);
  if (!*box) bind_error(L, "this text file has been closed");
  return *box;
}

/* line(): the next line without its newline, nil behind the last. */
static int text_line(lua_State *L) {
  ma_error err;
  const char *line;
  size_t length;
  if (ma_text_file_line(check(L), &line, &length, &err) != MA_OK) return bind_raise(L, &err);
  if (line) lua_pushlstring(L, line, length);
  else lua_pushnil(L);
  return 1;
}

/* skip(): passes over a line; whether there was one. */
static int text_skip(lua_State *L) {
  ma_error err;
  const char *line;
  size_t length;
  if (ma_text_file_line(check(L), &line, &length, &err) != MA_OK) return bind_raise(L, &err);
  lua_pushboolean(L, line != NULL);
  return 1;
}

static int text_rest(lua_State *L) {
  ma_error err;
  const char *text;
  size_t length;
  if (ma_text_file_rest(check(L), &text, &length, &err) != MA_OK) return bind_raise(L, &err);
  lua_pushlstring(L, text, length);
  return 1;
}

/* block(): the next part of the text, nil behind the last. */
static int text_block(lua_State *L) {
  ma_error err;
  const char *text;
  size_t length;
  if (ma_text_file_block(check(L), &text, &length, &err) != MA_OK) return bind_raise(L, &err);
  if (length) lua_pushlstring(L, text, length);
  else lua_pushnil(L);
  return 1;
}

/* at(): bytes of the file that have been read, packed ones where it is packed. */
static int text_at(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)ma_text_file_at(check(L)));
  return 1;
}

int bind_open_text(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", text_close}, {"__close", text_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"line", text_line}, {"skip", text_skip}, {"block", text_block},
                                     {"rest", text_rest}, {"at", text_at},     {"close", text_close},
                                     {NULL, NULL}};
  static const luaL_Reg functions[] = {{"open", text_open}, {NULL, NULL}};
  bind_class(L, BIND_TEXT, meta, methods);
  luaL_newlib(L, functions);
  return 1;
}
