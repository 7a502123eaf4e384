/* Tokenizers from text: tokenizer.trainer(pattern) gives a trainer with add and finish. */
#include "text/train.h"

#include <string.h>

#include "bind/bind.h"

#define BIND_TRAINED "massact.Trained"

static int trainer_open(lua_State *L) {
  ma_error err;
  const char *pattern = luaL_checkstring(L, 1);
  ma_trainer **box = bind_new(L, BIND_TRAINER, sizeof *box, 0);
  if (ma_trainer_open(box, pattern, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

static int trainer_regex(lua_State *L) {
  lua_pushstring(L, ma_trainer_regex(luaL_checkstring(L, 1)));
  return 1;
}

static int trainer_close(lua_State *L) {
  ma_trainer **box = luaL_checkudata(L, 1, BIND_TRAINER);
  ma_trainer_close(*box);
  *box = NULL;
  return 0;
}

static ma_trainer *check(lua_State *L) {
  ma_trainer **box = luaL_checkudata(L, 1, BIND_TRAINER);
  if (!*box) bind_error(L, "this trainer has been closed");
  return *box;
}

/* add(text, ends, where): where names the text in messages. */
static int trainer_add(lua_State *L) {
  ma_error err;
  size_t length;
  ma_trainer *t = check(L);
  const char *text = luaL_checklstring(L, 2, &length), *where = luaL_optstring(L, 4, NULL);
  ma_status st = ma_trainer_add(t, text, length, lua_toboolean(L, 3), &err);
  if (st == MA_BAD_ARGUMENT && where) ma_fail_at(&err, "%s", where);
  return st == MA_OK ? 0 : bind_raise(L, &err);
}

static int trained_gc(lua_State *L) {
  ma_trained_release(luaL_checkudata(L, 1, BIND_TRAINED));
  return 0;
}

static size_t check_count(lua_State *L, int index, const char *name) {
  lua_Integer n = luaL_checkinteger(L, index);
  if (n < 0) bind_error(L, "%s is %lld, less than nothing", name, (long long)n);
  return (size_t)n;
}

/* finish(vocab_size, min_frequency, {special, ...}): the tokens by id + 1, the merges as "left right". */
static int trainer_finish(lua_State *L) {
  ma_error err;
  check(L);
  size_t vocab_size = check_count(L, 2, "vocab_size"), least = check_count(L, 3, "min_frequency");
  lua_Integer n = bind_length(L, 4);
  const char **special = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *special, 0);
  for (lua_Integer i = 0; i < n; i++) {
    if (bind_item(L, 4, i + 1) != LUA_TSTRING)
      return bind_error(L, "special token %lld is not a string", (long long)i + 1);
    size_t length;
    special[i] = lua_tolstring(L, -1, &length); /* the table holds it */
    if (memchr(special[i], '\0', length))
      return bind_error(L, "special token %lld has a NUL byte in it", (long long)i + 1);
    lua_pop(L, 1);
  }
  ma_trained *made = bind_new(L, BIND_TRAINED, sizeof *made, 0);
  if (ma_trainer_finish(check(L), vocab_size, least, special, (size_t)n, made, &err) != MA_OK)
    return bind_raise(L, &err);
  lua_createtable(L, (int)made->n_tokens, 0);
  for (size_t i = 0; i < made->n_tokens; i++) {
    lua_pushstring(L, made->tokens[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_createtable(L, (int)made->n_merges, 0);
  for (size_t i = 0; i < made->n_merges; i++) {
    lua_pushfstring(L, "%s %s", made->tokens[made->merges[2 * i]], made->tokens[made->merges[2 * i + 1]]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 2;
}

void bind_open_trainer(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", trainer_close}, {"__close", trainer_close}, {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"add", trainer_add}, {"finish", trainer_finish}, {"close", trainer_close}, {NULL, NULL}};
  static const luaL_Reg trained_meta[] = {{"__gc", trained_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"trainer", trainer_open}, {"regex", trainer_regex}, {NULL, NULL}};
  bind_class(L, BIND_TRAINER, meta, methods);
  bind_class(L, BIND_TRAINED, trained_meta, NULL);
  luaL_setfuncs(L, functions, 0);
}
