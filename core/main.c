/* The `massact` command: a table of sub-commands, the Lua state they run in, exit codes, and the only place that
 * prints errors or exits.  Exit status: 0 done, 1 the script or its input failed, 2 usage, 130 interrupted. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/file.h"
#include "base/process.h"
#include "base/threads.h"
#include "bind/bind.h"

enum { DONE = 0, FAILED = 1, USAGE = 2, INTERRUPTED = 130 };

/* What the command line says, as far as every sub-command needs it. */
typedef struct command_line {
  int argc;
  char **argv;
  int script; /* index in argv of what becomes arg[0] */
  bool wants_traceback;
} command_line;

/* ---- interrupts ---- */

/* The hook runs inside Lua, where raising is allowed; a signal handler may only arrange for it. */
static lua_State *running_state;

static void raise_interrupted(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  luaL_error(L, "interrupted");
}

static void on_interrupt(int signal_number) {
  if (ma_interrupted()) {
    /* The second Ctrl-C before the first was answered ends the process. */
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    return;
  }
  ma_interrupt();
  lua_sethook(running_state, raise_interrupted, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* ---- the Lua state ---- */

/* Where lua/massact and experiments lie: $MASSACT_HOME, beside the installed binary, or the source folder. */
static void find_home(char *home, size_t size) {
  char path[4096] = "";
  const char *named = getenv("MASSACT_HOME");
  if (named && *named) {
    snprintf(home, size, "%s", named);
    return;
  }
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  char *slash = length > 0 ? strrchr(path, '/') : NULL;
  if (slash) {
    *slash = '\0';
    snprintf(home, size, "%s/../share/massact", path);
    if (ma_file_is_folder(home)) return;
  }
  snprintf(home, size, "%s", MASSACT_SOURCE);
}

/* Lua finds massact's files behind whatever LUA_PATH says, and massact.core in the binary. */
static int open_state(lua_State *L) {
  char home[4096];
  find_home(home, sizeof home);
  luaL_openlibs(L);
  lua_gc(L, LUA_GCINC, 0, 0, 0);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_massact_core);
  lua_setfield(L, -2, "massact.core");
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;%s", home, home, lua_tostring(L, -1));
  lua_setfield(L, -3, "path");
  lua_pushstring(L, home);
  lua_setfield(L, LUA_REGISTRYINDEX, "massact.home");
  lua_getglobal(L, "require");
  lua_pushliteral(L, "massact");
  lua_call(L, 1, 1);
  lua_pushstring(L, MASSACT_VERSION);
  lua_setfield(L, -2, "version");
  lua_pushstring(L, home);
  lua_setfield(L, -2, "home");
  lua_setglobal(L, "massact");
  return 0;
}

/* arg as the standard lua has it: the script at 0, what precedes it below. */
static void set_arguments(lua_State *L, const command_line *line) {
  lua_createtable(L, line->argc, 4);
  for (int i = 0; i < line->argc; i++) {
    lua_pushstring(L, line->argv[i]);
    lua_rawseti(L, -2, i - line->script);
  }
  lua_setglobal(L, "arg");
}

/* ---- running and reporting ---- */

/* Whether a path is that of one of massact's own files: below HOME/lua or HOME/experiments. */
static bool is_own_path(lua_State *L, const char *path) {
  lua_getfield(L, LUA_REGISTRYINDEX, "massact.home");
  const char *home = lua_tostring(L, -1);
  size_t n = strlen(home);
  bool is_own = strncmp(path, home, n) == 0 &&
                (strncmp(path + n, "/lua/", 5) == 0 || strncmp(path + n, "/experiments/", 13) == 0);
  lua_pop(L, 1);
  return is_own;
}

/* Whether a chunk is one of them. */
static bool is_own(lua_State *L, const char *source) { return source[0] == '@' && is_own_path(L, source + 1); }

/* "FILE:LINE: " of the innermost line that is the user's, or "" where only massact's own scripts run. */
static void push_position(lua_State *L) {
  lua_Debug at;
  for (int level = 1; lua_getstack(L, level, &at); level++) {
    lua_getinfo(L, "Sl", &at);
    if (at.currentline <= 0 || is_own(L, at.source)) continue;
    lua_pushfstring(L, "%s:%d: ", at.short_src, at.currentline);
    return;
  }
  lua_pushliteral(L, "");
}

/* Length of a position at the beginning of a message that names one of massact's own files, of which Lua may have left out the
 * beginning ("...ome/lua/massact/run.lua:12: "); 0 where there is none. */
static size_t own_position(lua_State *L, const char *message) {
  const char *end = strstr(message, ".lua:"), *inside = strstr(message, "/lua/massact/");
  if (!end || (!is_own_path(L, message) && (strncmp(message, "...", 3) != 0 || !inside || inside > end))) return 0;
  end += strlen(".lua:");
  while (*end >= '0' && *end <= '9') end++;
  return end[0] == ':' && end[1] == ' ' ? (size_t)(end + 2 - message) : 0;
}

/* Errors of C functions carry the position of whoever called them.  Where that is massact's own Lua, the user's line
 * says more. */
static int point_at_user(lua_State *L) {
  const char *message = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : NULL;
  size_t n = message ? own_position(L, message) : 0;
  if (n == 0) return 1;
  push_position(L);
  lua_pushstring(L, message + n);
  lua_concat(L, 2);
  return 1;
}

static int add_traceback(lua_State *L) {
  const char *message = lua_tostring(L, 1);
  if (!message) return 1;                                /* an error object: its own __tostring says it better */
  if (strstr(message, "\nstack traceback:\n")) return 1; /* a hook's, whose stack is gone by now */
  luaL_traceback(L, L, message, 1);
  return 1;
}

/* A table with usage = true is a mistake on the command line. */
static bool is_usage(lua_State *L) {
  if (!lua_istable(L, -1)) return false;
  lua_getfield(L, -1, "usage");
  bool usage = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return usage;
}

static int report(lua_State *L) {
  int status = is_usage(L) ? USAGE : FAILED;
  if (ma_interrupted()) {
    fputs("massact: interrupted\n", stderr);
    return INTERRUPTED;
  }
  fprintf(stderr, "massact: %s\n", luaL_tolstring(L, -1, NULL));
  return status;
}

/* Calls the chunk below its `n` arguments. */
static int call(lua_State *L, int n, const command_line *line) {
  int base = lua_gettop(L) - n;
  lua_pushcfunction(L, line->wants_traceback ? add_traceback : point_at_user);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &bind_message_handler);
  lua_insert(L, base);
  running_state = L;
  signal(SIGINT, on_interrupt);
  int result = lua_pcall(L, n, 0, base);
  signal(SIGINT, SIG_DFL);
  return result == LUA_OK ? DONE : report(L);
}

static int run_file(lua_State *L, const char *path, const command_line *line) {
  set_arguments(L, line);
  if (luaL_loadfile(L, path) != LUA_OK) return report(L);
  int n = line->argc - line->script - 1;
  luaL_checkstack(L, n + 8, "too many arguments");
  for (int i = 1; i <= n; i++) lua_pushstring(L, line->argv[line->script + i]);
  return call(L, n, line);
}

/* Calls massact.MODULE.main(arguments...). */
static int run_module(lua_State *L, const char *module, const command_line *line) {
  set_arguments(L, line);
  lua_getglobal(L, "require");
  lua_pushfstring(L, "massact.%s", module);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) return report(L);
  lua_getfield(L, -1, "main");
  lua_remove(L, -2);
  int n = line->argc - line->script - 1;
  luaL_checkstack(L, n + 8, "too many arguments");
  for (int i = 1; i <= n; i++) lua_pushstring(L, line->argv[line->script + i]);
  return call(L, n, line);
}

/* ---- sub-commands ---- */

static int usage(const char *problem, const char *what) {
  if (problem) fprintf(stderr, "massact: %s%s; see massact --help\n", problem, what);
  return USAGE;
}

/* A script's path, or the name of an experiment. */
static int command_run(lua_State *L, const command_line *line) {
  if (line->script >= line->argc) return usage("run wants a script", "");
  if (ma_file_exists(line->argv[line->script])) return run_file(L, line->argv[line->script], line);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "massact.scripts");
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) return report(L);
  lua_getfield(L, -1, "find");
  lua_pushstring(L, line->argv[line->script]);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) return report(L);
  line->argv[line->script] = (char *)lua_tostring(L, -1); /* stays on the stack */
  return run_file(L, line->argv[line->script], line);
}

/* A command that is lua/massact/NAME.lua. */
static int command_module(lua_State *L, const command_line *line) {
  command_line own = *line;
  own.script--; /* the command's name is arg[0] */
  return run_module(L, own.argv[own.script], &own);
}

static int command_repl(lua_State *L, const command_line *line) {
  command_line own = *line;
  own.script = own.argc - 1;
  return run_module(L, "repl", &own);
}

static int command_code(lua_State *L, const command_line *line) {
  if (line->script >= line->argc) return usage("-e wants code", "");
  const char *code = line->argv[line->script];
  set_arguments(L, line);
  if (luaL_loadbuffer(L, code, strlen(code), "=(command line)") != LUA_OK) return report(L);
  return call(L, 0, line);
}

static const struct command {
  const char *name, *arguments, *summary;
  int (*function)(lua_State *L, const command_line *line);
  bool has_help; /* of its own, longer than a line; or what follows is no option */
} commands[] = {
    {"run", "FILE [--option value ...]", "run a script, or an experiment by its name", command_run, false},
    {"sweep", "CONFIG [--dry-run ...]", "many runs, described by one table", command_module, true},
    {"list", "[--json]", "the experiments, recipes and sweeps, a line each", command_module, true},
    {"new", "NAME", "write a commented script to start from", command_module, true},
    {"info", "MODEL [--json]", "what a checkpoint holds, and its points", command_module, false},
    {"convert", "IN OUT [--dtype TYPE]", "a Hugging Face folder to a .gguf file, or back", command_module, false},
    {"repl", "", "the interactive prompt (also without any argument)", command_repl, false},
    {"-e", "CODE", "run CODE", command_code, true},
};

static void help(void) {
  puts("massact: massive activations in language models\n\nUsage:");
  puts("  massact FILE [argument ...]        run a Lua script");
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    char left[64];
    snprintf(left, sizeof left, "massact %s %s", commands[i].name, commands[i].arguments);
    printf("  %-34s %s\n", left, commands[i].summary);
  }
  puts("  massact --version                  print the version\n\nOptions before these:");
  puts("  --traceback                        say where an error came from\n");
  puts("massact list shows the experiments; each has --help.");
}

static bool is_help(const command_line *line) {
  const char *word = line->script < line->argc ? line->argv[line->script] : "";
  return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int dispatch(lua_State *L, command_line *line) {
  const char *first = line->script < line->argc ? line->argv[line->script] : NULL;
  if (!first) {
    if (isatty(STDIN_FILENO)) return command_repl(L, line);
    line->script = line->argc - 1;
    set_arguments(L, line);
    if (luaL_loadfile(L, NULL) != LUA_OK) return report(L);
    return call(L, 0, line);
  }
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    if (strcmp(first, commands[i].name) != 0) continue;
    line->script++;
    if (!commands[i].has_help && is_help(line)) {
      printf("massact %s %s: %s\n", commands[i].name, commands[i].arguments, commands[i].summary);
      return DONE;
    }
    return commands[i].function(L, line);
  }
  if (first[0] == '-' && first[1]) return usage("unknown option ", first);
  if (!ma_file_exists(first)) {
    fprintf(stderr, "massact: there is no script and no command '%s'; see massact --help\n", first);
    return strchr(first, '.') || strchr(first, '/') ? FAILED : USAGE;
  }
  return run_file(L, first, line);
}

/* Output that could not be written is a failure too. */
static int finish(int status) {
  if (fflush(stdout) != 0 || ferror(stdout)) {
    fprintf(stderr, "massact: cannot write the output: %s\n", strerror(errno));
    return status == DONE ? FAILED : status;
  }
  return status;
}

/* Large tensors come from the system and go back to it.  By default glibc takes such blocks from its heap once some were freed, and
 * over the thousands of passes of a training what lies between them keeps the heap growing. */
static void return_large_blocks(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 4000000);
#endif
}

int main(int argc, char **argv) {
  return_large_blocks();
  const char *parent = getenv("MASSACT_PARENT");
  if (parent) ma_process_follow(parent);
  unsetenv("MASSACT_PARENT");
  command_line line = {.argc = argc, .argv = argv, .script = 1};
  while (line.script < argc && strcmp(argv[line.script], "--traceback") == 0) {
    line.wants_traceback = true;
    line.script++;
  }
  const char *first = line.script < argc ? argv[line.script] : "";
  if (strcmp(first, "--version") == 0) return puts("massact " MASSACT_VERSION), finish(DONE);
  if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) return help(), finish(DONE);
  /* A closed pipe and a file over its limit are errors of the write that meets them. */
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  lua_State *L = luaL_newstate();
  if (!L) return fputs("massact: out of memory\n", stderr), FAILED;
  lua_pushcfunction(L, open_state);
  int status = lua_pcall(L, 0, 0, 0) == LUA_OK ? dispatch(L, &line) : report(L);
  lua_close(L);
  return finish(status);
}
