/* Line editing through libedit, where standard input is a terminal: history, and completion that Lua computes. */
#include <histedit.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"

#define BIND_TERMINAL "massact.Terminal"

/* User values: 1 the completion function, text before the cursor -> the part to replace (a length), candidates. */
typedef struct terminal {
  EditLine *line;
  History *history;
  lua_State *L; /* while a line is read */
  const char *prompt;
} terminal;

static char *prompt_of(EditLine *line) {
  terminal *t;
  el_get(line, EL_CLIENTDATA, &t);
  return (char *)(uintptr_t)t->prompt;
}

/* Longest common beginning of the candidates in the table on top of the stack, after `have` bytes. */
static size_t common(lua_State *L, lua_Integer n, size_t have, const char **first) {
  bind_item(L, -1, 1);
  size_t length;
  *first = lua_tolstring(L, -1, &length);
  lua_pop(L, 1); /* the table keeps it */
  for (lua_Integer i = 2; i <= n; i++) {
    bind_item(L, -1, i);
    const char *other = lua_tostring(L, -1);
    size_t same = have;
    while (same < length && other[same] && other[same] == (*first)[same]) same++;
    length = same;
    lua_pop(L, 1);
  }
  return length;
}

static unsigned char complete(EditLine *line, int key) {
  terminal *t;
  (void)key;
  el_get(line, EL_CLIENTDATA, &t);
  lua_State *L = t->L;
  int top = lua_gettop(L);
  const LineInfo *info = el_line(line);
  unsigned char answer = CC_REFRESH_BEEP;
  lua_getiuservalue(L, 1, 1);
  lua_pushlstring(L, info->buffer, (size_t)(info->cursor - info->buffer));
  if (lua_pcall(L, 1, 2, 0) == LUA_OK && lua_istable(L, -1)) {
    size_t have = (size_t)lua_tointeger(L, -2);
    lua_Integer n = bind_length(L, -1);
    const char *first;
    size_t length = n > 0 ? common(L, n, have, &first) : 0;
    if (length > have) {
      char addition[256];
      snprintf(addition, sizeof addition, "%.*s", (int)(length - have), first + have);
      if (el_insertstr(line, addition) == 0) answer = CC_REFRESH;
    } else if (n > 1) {
      putchar('\n');
      for (lua_Integer i = 1; i <= n && i <= 60; i++) {
        bind_item(L, -1, i);
        printf("%s  ", lua_tostring(L, -1));
        lua_pop(L, 1);
      }
      puts(n > 60 ? "..." : "");
      answer = CC_REDISPLAY;
    }
  }
  lua_settop(L, top);
  return answer;
}

static int terminal_gc(lua_State *L) {
  terminal *t = luaL_checkudata(L, 1, BIND_TERMINAL);
  if (t->line) el_end(t->line);
  if (t->history) history_end(t->history);
  *t = (terminal){0};
  return 0;
}

/* open(complete, history_file?): nil where standard input is no terminal. */
static int terminal_open(lua_State *L) {
  HistEvent event;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  const char *file = luaL_optstring(L, 2, NULL);
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return 0;
  terminal *t = bind_new(L, BIND_TERMINAL, sizeof *t, 1);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  t->prompt = "> ";
  t->line = el_init("massact", stdin, stdout, stderr);
  t->history = history_init();
  if (!t->line || !t->history) return bind_error(L, "the line editor cannot start");
  history(t->history, &event, H_SETSIZE, 2000);
  history(t->history, &event, H_SETUNIQUE, 1);
  if (file) history(t->history, &event, H_LOAD, file);
  el_set(t->line, EL_CLIENTDATA, t);
  el_set(t->line, EL_PROMPT, prompt_of);
  el_set(t->line, EL_EDITOR, "emacs");
  el_set(t->line, EL_SIGNAL, 0);
  el_set(t->line, EL_HIST, history, t->history);
  el_set(t->line, EL_ADDFN, "complete", "complete a name", complete);
  el_set(t->line, EL_BIND, "^I", "complete", NULL);
  /* While a line is edited Ctrl-C is a key: it drops the line. */
  el_set(t->line, EL_SETTY, "-d", "-isig", NULL);
  el_set(t->line, EL_BIND, "^C", "em-kill-line", NULL);
  el_source(t->line, NULL);
  return 1;
}

/* read(prompt): a line without its newline; nil at the end of the input. */
static int terminal_read(lua_State *L) {
  terminal *t = luaL_checkudata(L, 1, BIND_TERMINAL);
  HistEvent event;
  int length = 0;
  t->prompt = luaL_checkstring(L, 2);
  t->L = L;
  const char *line = el_gets(t->line, &length);
  t->L = NULL;
  t->prompt = "> ";
  if (!line || length < 1) return 0;
  if (length > 1) history(t->history, &event, H_ENTER, line);
  lua_pushlstring(L, line, (size_t)(line[length - 1] == '\n' ? length - 1 : length));
  return 1;
}

/* save(file): writes the history. */
static int terminal_save(lua_State *L) {
  terminal *t = luaL_checkudata(L, 1, BIND_TERMINAL);
  HistEvent event;
  history(t->history, &event, H_SAVE, luaL_checkstring(L, 2));
  return 0;
}

int bind_open_terminal(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", terminal_gc}, {NULL, NULL}};
  static const luaL_Reg methods[] = {{"read", terminal_read}, {"save", terminal_save}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"open", terminal_open}, {NULL, NULL}};
  bind_class(L, BIND_TERMINAL, meta, methods);
  luaL_newlib(L, functions);
  return 1;
}
