/* Child processes and locks for lua/massact/sweep: core.process. */
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/process.h"
#include "bind/bind.h"

#define BIND_PROCESS "massact.Process"
#define BIND_LOCK    "massact.Lock"
#define BIND_STRINGS "massact.Strings"

/* ---- locks ---- */

static int lock_close(lua_State *L) {
  ma_lock_release(luaL_checkudata(L, 1, BIND_LOCK));
  return 0;
}

/* lock(path): the lock, or nothing where somebody has it. */
static int lock_take(lua_State *L) {
  ma_error err;
  bool is_taken;
  const char *path = luaL_checkstring(L, 1);
  ma_lock *lock = bind_new(L, BIND_LOCK, sizeof *lock, 0);
  if (ma_lock_take(lock, &is_taken, path, &err) != MA_OK) return bind_raise(L, &err);
  return is_taken ? 1 : 0;
}

/* ---- processes ---- */

/* A NULL-terminated list of strings, which the userdata's user value keeps alive. */
static int strings_close(lua_State *L) {
  char ***list = luaL_checkudata(L, 1, BIND_STRINGS);
  ma_free(*list);
  *list = NULL;
  return 0;
}

/* The strings of the table at `index`; anything else raises.  Leaves their userdata on the stack. */
static char *const *push_strings(lua_State *L, int index, const char *what) {
  ma_error err;
  luaL_checktype(L, index, LUA_TTABLE);
  lua_Integer n = bind_length(L, index);
  char ***list = bind_new(L, BIND_STRINGS, sizeof *list, 1);
  if (MA_NEW(list, (size_t)n + 1, &err) != MA_OK) bind_raise(L, &err);
  lua_pushvalue(L, index);
  lua_setiuservalue(L, -2, 1);
  for (lua_Integer i = 1; i <= n; i++) {
    if (bind_item(L, index, i) != LUA_TSTRING) bind_error(L, "%s: strings are wanted", what);
    (*list)[i - 1] = (char *)lua_tostring(L, -1); /* the table keeps it */
    lua_pop(L, 1);
  }
  return *list;
}

static int process_close(lua_State *L) {
  ma_process_end(luaL_checkudata(L, 1, BIND_PROCESS));
  return 0;
}

/* start(command, variables, log, lock) */
static int start(lua_State *L) {
  ma_error err;
  const char *log = luaL_checkstring(L, 3);
  const ma_lock *lock = lua_isnoneornil(L, 4) ? NULL : luaL_checkudata(L, 4, BIND_LOCK);
  char *const *command = push_strings(L, 1, "command");
  char *const *variables = push_strings(L, 2, "variables");
  if (!command[0]) return bind_error(L, "command: it is empty");
  ma_process *process = bind_new(L, BIND_PROCESS, sizeof *process, 0);
  if (ma_process_start(process, command, variables, log, lock, &err) != MA_OK) return bind_raise(L, &err);
  return 1;
}

/* process:poll(): nothing while it runs; then its exit status, or nil and the number and name of the signal that ended it. */
static int poll(lua_State *L) {
  ma_process *p = luaL_checkudata(L, 1, BIND_PROCESS);
  if (!ma_process_poll(p)) return 0;
  if (p->signal == 0) {
    lua_pushinteger(L, p->exit_status);
    return 1;
  }
  lua_pushnil(L);
  lua_pushinteger(L, p->signal);
  lua_pushstring(L, strsignal(p->signal));
  return 3;
}

/* process:interrupt(): as Ctrl-C does. */
static int interrupt(lua_State *L) {
  ma_process_signal(luaL_checkudata(L, 1, BIND_PROCESS), SIGINT);
  return 0;
}

static int process_id(lua_State *L) {
  const ma_process *p = luaL_checkudata(L, 1, BIND_PROCESS);
  lua_pushinteger(L, p->pid);
  return 1;
}

/* sleep(seconds); a signal ends it early. */
static int sleep_(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  if (!(seconds >= 0 && seconds < 1e6)) return bind_error(L, "sleep: between 0 and 1000000 seconds");
  time_t whole = (time_t)seconds;
  struct timespec time = {.tv_sec = whole, .tv_nsec = (long)(1e9 * (seconds - (double)whole))};
  nanosleep(&time, NULL);
  return 0;
}

static int own_id(lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

int bind_open_process(lua_State *L) {
  static const luaL_Reg process_meta[] = {{"__gc", process_close}, {"__close", process_close}, {NULL, NULL}};
  static const luaL_Reg process_methods[] = {
      {"poll", poll}, {"interrupt", interrupt}, {"id", process_id}, {"close", process_close}, {NULL, NULL}};
  static const luaL_Reg lock_meta[] = {{"__gc", lock_close}, {"__close", lock_close}, {NULL, NULL}};
  static const luaL_Reg lock_methods[] = {{"close", lock_close}, {NULL, NULL}};
  static const luaL_Reg strings_meta[] = {{"__gc", strings_close}, {NULL, NULL}};
  static const luaL_Reg functions[] = {
      {"start", start}, {"lock", lock_take}, {"sleep", sleep_}, {"id", own_id}, {NULL, NULL}};
  bind_class(L, BIND_PROCESS, process_meta, process_methods);
  bind_class(L, BIND_LOCK, lock_meta, lock_methods);
  bind_class(L, BIND_STRINGS, strings_meta, NULL);
  luaL_newlib(L, functions);
  return 1;
}
