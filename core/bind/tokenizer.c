#include "text/tokenizer.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/memory.h"
#include "bind/bind.h"

const ma_tokenizer *bind_check_tokenizer(lua_State *L, int index) {
  ma_tokenizer **box = luaL_checkudata(L, index, BIND_TOKENIZER);
  if (!*box) bind_error(L, "this tokenizer has been closed");
  return *box;
}

static const ma_tokenizer *check(lua_State *L) { return bind_check_tokenizer(L, 1); }

static int tokenizer_load(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  ma_tokenizer **box = bind_new(L, BIND_TOKENIZER, sizeof *box, 0);
  if (ma_tokenizer_open(box, path, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

static int tokenizer_close(lua_State *L) {
  ma_tokenizer **box = luaL_checkudata(L, 1, BIND_TOKENIZER);
  ma_tokenizer_close(*box);
  *box = NULL;
  return 0;
}

/* Memory of the C side that has to survive a Lua error: a userdata that frees it. */
static int buffer_gc(lua_State *L) {
  void **box = lua_touserdata(L, 1);
  ma_free(*box);
  *box = NULL;
  return 0;
}

static void **new_buffer(lua_State *L) {
  void **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  if (luaL_newmetatable(L, "massact.Buffer")) {
    lua_pushcfunction(L, buffer_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return box;
}

static bool flag(lua_State *L, int index, const char *name) {
  if (lua_isnoneornil(L, index)) return false;
  const char *const keys[] = {name, NULL};
  bind_check_keys(L, index, keys);
  bool value = bind_field(L, index, name) != LUA_TNIL && lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static int tokenizer_encode(lua_State *L) {
  ma_error err;
  size_t length, n;
  check(L);
  const char *text = luaL_checklstring(L, 2, &length);
  bool special = flag(L, 3, "special");
  void **ids = new_buffer(L);
  /* Asked for last: making the buffer may collect garbage, and a finaliser close the tokenizer. */
  if (ma_tokenizer_encode(check(L), text, length, special, (int32_t **)ids, &n, &err) != MA_OK)
    return bind_raise(L, &err);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    lua_pushinteger(L, ((int32_t *)*ids)[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static int tokenizer_decode(lua_State *L) {
  ma_error err;
  size_t length;
  check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_Integer n = bind_length(L, 2);
  bool skip = flag(L, 3, "skip_special");
  int32_t *ids = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *ids, 0);
  for (lua_Integer i = 0; i < n; i++) {
    bind_item(L, 2, i + 1);
    lua_Integer id = luaL_checkinteger(L, -1);
    if (id < 0 || id > INT32_MAX) return bind_error(L, "decode: id %lld is outside the vocabulary", (long long)id);
    ids[i] = (int32_t)id;
    lua_pop(L, 1);
  }
  void **text = new_buffer(L);
  if (ma_tokenizer_decode(check(L), ids, (size_t)n, skip, (char **)text, &length, &err) != MA_OK)
    return bind_raise(L, &err);
  lua_pushlstring(L, *text, length);
  return 1;
}

static int tokenizer_token(lua_State *L) {
  size_t length;
  const ma_tokenizer *t = check(L);
  lua_Integer id = luaL_checkinteger(L, 2);
  const char *token = id < 0 || id > INT32_MAX ? NULL : ma_tokenizer_token(t, (int32_t)id, &length);
  if (token) lua_pushlstring(L, token, length);
  else lua_pushnil(L);
  return 1;
}

static int tokenizer_id(lua_State *L) {
  size_t length;
  const ma_tokenizer *t = check(L);
  const char *token = luaL_checklstring(L, 2, &length);
  int32_t id = ma_tokenizer_id(t, token, length);
  if (id >= 0) lua_pushinteger(L, id);
  else lua_pushnil(L);
  return 1;
}

static int tokenizer_size(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)ma_tokenizer_size(check(L)));
  return 1;
}

static int tokenizer_is_special(lua_State *L) {
  const ma_tokenizer *t = check(L);
  lua_Integer id = luaL_checkinteger(L, 2);
  lua_pushboolean(L, id >= 0 && id <= INT32_MAX && ma_tokenizer_is_special(t, (int32_t)id));
  return 1;
}

void bind_sha256_of_tokenizer(lua_State *L, const ma_tokenizer *t, unsigned char digest[32]) {
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool fine = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL);
  for (size_t id = 0; fine && id < ma_tokenizer_size(t); id++) {
    size_t length = 0;
    const char *token = ma_tokenizer_token(t, (int32_t)id, &length);
    uint32_t n = token ? (uint32_t)length : UINT32_MAX;
    const uint8_t bytes[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    fine = EVP_DigestUpdate(context, bytes, sizeof bytes) && (!token || EVP_DigestUpdate(context, token, length));
  }
  fine = fine && EVP_DigestFinal_ex(context, digest, NULL);
  EVP_MD_CTX_free(context);
  if (!fine) bind_error(L, "SHA-256 is not available");
}

static int tokenizer_sha256(lua_State *L) {
  unsigned char digest[32];
  char text[2 * sizeof digest + 1];
  bind_sha256_of_tokenizer(L, check(L), digest);
  for (size_t i = 0; i < sizeof digest; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
  lua_pushlstring(L, text, 2 * sizeof digest);
  return 1;
}

/* t.bos, t.eos, or a method. */
static int tokenizer_index(lua_State *L) {
  const ma_tokenizer *t = check(L);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  bool is_bos = key[0] == 'b' && key[1] == 'o' && key[2] == 's' && !key[3];
  bool is_eos = key[0] == 'e' && key[1] == 'o' && key[2] == 's' && !key[3];
  if (is_bos || is_eos) {
    int32_t id = is_bos ? ma_tokenizer_bos(t) : ma_tokenizer_eos(t);
    if (id >= 0) lua_pushinteger(L, id);
    else lua_pushnil(L);
    return 1;
  }
  luaL_getmetafield(L, 1, "methods");
  lua_pushvalue(L, 2);
  lua_rawget(L, -2);
  return 1;
}

static int tokenizer_tostring(lua_State *L) {
  const ma_tokenizer *t = check(L);
  lua_pushfstring(L, "Tokenizer %s, %d tokens", ma_tokenizer_describe(t), (int)ma_tokenizer_size(t));
  return 1;
}

int bind_open_tokenizer(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", tokenizer_close},
                                  {"__close", tokenizer_close},
                                  {"__index", tokenizer_index},
                                  {"__tostring", tokenizer_tostring},
                                  {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"encode", tokenizer_encode}, {"decode", tokenizer_decode}, {"token", tokenizer_token},
      {"id", tokenizer_id},         {"size", tokenizer_size},     {"is_special", tokenizer_is_special},
      {"sha256", tokenizer_sha256}, {"close", tokenizer_close},   {NULL, NULL}};
  static const luaL_Reg functions[] = {{"load", tokenizer_load}, {NULL, NULL}};
  bind_class(L, BIND_TOKENIZER, meta, methods);
  luaL_newlib(L, functions);
  bind_open_trainer(L);
  return 1;
}
