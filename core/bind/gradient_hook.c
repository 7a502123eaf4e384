/* Hooks that are shown the gradient at a point: put on a tensor's node while a recorded pass visits the point, called on the way
 * back.  The node outlives the pass, perhaps the handle, too, so that what it holds says whether the hook is still there; the
 * handle itself is found in a weak table of the Lua state. */
#include "base/memory.h"
#include "bind/bind.h"
#include "tensor/tape.h"

struct bind_presence {
  int n_refs;
  bool is_removed;
};

typedef struct bind_watcher {
  ma_watcher watcher; /* first: the tape's pointer is this one */
  bind_presence *presence;
  const void *handle;
  ma_place place;
} bind_watcher;

#define BIND_GRADIENT_HOOKS "massact.gradient_hooks"

ma_status bind_presence_new(bind_presence **out, ma_error *err) {
  ma_status st = MA_NEW(out, 1, err);
  if (st == MA_OK) (*out)->n_refs = 1;
  return st;
}

static void release(bind_presence *p) {
  if (p && --p->n_refs == 0) ma_free(p);
}

void bind_presence_end(bind_presence *p) {
  if (p) p->is_removed = true;
  release(p);
}

/* ---- on the way back ---- */

/* (gradient, watcher): calls the hook's function, the handle's user value 2, with the gradient and where it is. */
static int call(lua_State *L) {
  ma_tensor *g = lua_touserdata(L, 1);
  const bind_watcher *w = lua_touserdata(L, 2);
  char name[MA_PLACE_NAME];
  luaL_getsubtable(L, LUA_REGISTRYINDEX, BIND_GRADIENT_HOOKS);
  if (lua_rawgetp(L, -1, w->handle) != LUA_TUSERDATA) return 0;
  lua_getiuservalue(L, -1, BIND_HANDLE_FUNCTION);
  ma_tensor *seen = bind_new_tensor(L); /* which may raise, so nothing is held yet */
  *seen = ma_tensor_retain(g);
  lua_createtable(L, 0, 2);
  lua_pushstring(L, ma_place_name(name, w->place));
  lua_setfield(L, -2, "name");
  if (w->place.layer >= 0) {
    lua_pushinteger(L, w->place.layer);
    lua_setfield(L, -2, "layer");
  }
  lua_call(L, 2, 0);
  return 0;
}

/* (error, watcher): a string with the point's name in front; any other error object as it is. */
static int with_name(lua_State *L) {
  char name[MA_PLACE_NAME];
  if (lua_type(L, 1) == LUA_TSTRING)
    lua_pushfstring(L, "gradient at %s: %s", ma_place_name(name, ((bind_watcher *)lua_touserdata(L, 2))->place),
                    lua_tostring(L, 1));
  else lua_pushvalue(L, 1);
  return 1;
}

/* Nothing here may raise past the walk below it. */
static ma_status visit(ma_watcher *self, ma_tensor *g, void *context, ma_error *err) {
  bind_watcher *w = (bind_watcher *)(void *)self;
  bind_walk *walk = context;
  lua_State *L = walk->L;
  int top = lua_gettop(L);
  if (w->presence->is_removed) return MA_OK;
  if (!lua_checkstack(L, 16)) return ma_fail(err, MA_NO_MEMORY, "the Lua stack is full on the way back");
  int handler = lua_rawgetp(L, LUA_REGISTRYINDEX, &bind_message_handler) == LUA_TFUNCTION ? top + 1 : 0;
  lua_pushcfunction(L, call);
  lua_pushlightuserdata(L, g);
  lua_pushlightuserdata(L, w);
  ma_status st = MA_OK;
  if (lua_pcall(L, 2, 0, handler) != LUA_OK) {
    lua_pushcfunction(L, with_name);
    lua_insert(L, -2);
    lua_pushlightuserdata(L, w);
    lua_pcall(L, 2, 1, 0); /* out of memory: that is the error, then */
    lua_replace(L, walk->error);
    st = ma_fail(err, MA_CALLBACK, "a gradient hook failed");
  }
  lua_settop(L, top);
  return st;
}

static void close_watcher(ma_watcher *self) {
  release(((bind_watcher *)(void *)self)->presence);
  ma_free(self);
}

/* ---- on the way there ---- */

ma_status bind_watch_gradient(bind_presence *presence, const void *handle, ma_tensor *x, ma_place place,
                              ma_error *err) {
  ma_status st = MA_OK;
  bind_watcher *w = NULL;
  if (x->is_detached) return MA_OK; /* the pass is not recorded */
  MA_TRY(ma_tensor_begin(x, err));
  MA_TRY(MA_NEW(&w, 1, err));
  *w = (bind_watcher){{visit, close_watcher}, presence, handle, place};
  MA_TRY(ma_tensor_watch(x, &w->watcher, err));
  presence->n_refs++;
  w = NULL;
done:
  ma_free(w);
  return st;
}

void bind_remember_gradient_hook(lua_State *L, const void *handle) {
  int at = lua_gettop(L);
  if (!luaL_getsubtable(L, LUA_REGISTRYINDEX, BIND_GRADIENT_HOOKS)) {
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
  }
  lua_pushvalue(L, at);
  lua_rawsetp(L, -2, handle);
  lua_settop(L, at);
}
