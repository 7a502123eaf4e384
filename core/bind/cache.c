/* Key/value caches, for passes that go on where earlier ones ended. */
#include "model/cache.h"
#include "bind/bind.h"

static bind_cache *check_cache(lua_State *L, int index) {
  bind_cache *c = luaL_checkudata(L, index, BIND_CACHE);
  if (!c->cache) bind_error(L, "this cache has been closed");
  return c;
}

bind_cache *bind_check_cache(lua_State *L, int index, const ma_model *model) {
  bind_cache *c = check_cache(L, index);
  if (c->model != model) bind_error(L, "this cache was made by another model");
  if (c->is_used) bind_error(L, "this cache is in use by a pass that is still running");
  return c;
}

/* model:cache(capacity, n_sequences) */
int bind_model_cache(lua_State *L) {
  bind_model *m = bind_check_model(L, 1);
  ma_error err;
  lua_Integer capacity = luaL_checkinteger(L, 2), n_sequences = luaL_optinteger(L, 3, 1);
  if (capacity < 1 || capacity > INT32_MAX)
    return bind_error(L, "a cache holds 1 token or more, not %lld", (long long)capacity);
  if (n_sequences < 1 || n_sequences > INT32_MAX)
    return bind_error(L, "a cache holds 1 sequence or more, not %lld", (long long)n_sequences);
  bind_cache *c = bind_new(L, BIND_CACHE, sizeof *c, 1);
  lua_pushvalue(L, 1); /* the model lives as long as its caches */
  lua_setiuservalue(L, -2, 1);
  c->model = m->model;
  if (ma_cache_new(&c->cache, m->model, n_sequences, capacity, &err) != MA_OK) return bind_raise(L, &err);
  const ma_spec *s = &m->model->spec;
  bind_charge(L, (size_t)(2 * s->n_layers * n_sequences * capacity * s->n_kv_heads * s->d_head) * sizeof(float));
  return 1;
}

static int cache_close(lua_State *L) {
  bind_cache *c = luaL_checkudata(L, 1, BIND_CACHE);
  if (c->is_used) return bind_error(L, "a cache cannot be closed during its own pass");
  ma_cache *closing = c->cache;
  c->cache = NULL;
  ma_cache_close(closing);
  return 0;
}

static int cache_length(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_cache(L, 1)->cache->n_past);
  return 1;
}

static int cache_capacity(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_cache(L, 1)->cache->capacity);
  return 1;
}

/* cache:rewind(n): forgets all but the first n tokens. */
static int cache_rewind(lua_State *L) {
  bind_cache *c = check_cache(L, 1);
  lua_Integer n = luaL_checkinteger(L, 2);
  if (c->is_used) return bind_error(L, "a cache cannot be rewound during its own pass");
  if (n < 0 || n > c->cache->n_past)
    return bind_error(L, "rewind(%lld): the cache holds %lld tokens", (long long)n, (long long)c->cache->n_past);
  c->cache->n_past = n;
  return 0;
}

static int cache_tostring(lua_State *L) {
  bind_cache *c = luaL_checkudata(L, 1, BIND_CACHE);
  if (!c->cache) lua_pushliteral(L, "Cache (closed)");
  else
    lua_pushfstring(L, "Cache (%I of %I tokens, %I sequences)", (LUAI_UACINT)c->cache->n_past,
                    (LUAI_UACINT)c->cache->capacity, (LUAI_UACINT)c->cache->n_sequences);
  return 1;
}

void bind_open_cache(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", cache_close},
                                  {"__close", cache_close},
                                  {"__len", cache_length},
                                  {"__tostring", cache_tostring},
                                  {NULL, NULL}};
  static const luaL_Reg methods[] = {
      {"capacity", cache_capacity}, {"rewind", cache_rewind}, {"close", cache_close}, {NULL, NULL}};
  bind_class(L, BIND_CACHE, meta, methods);
}
