/* Memory that runs out: the n-th allocation and all behind it fail, n = 0, 1, ... until what was tried succeeds.  Each failure is
 * one line that says so, nothing stays behind, and the same state can then do the same thing.  Lua's own allocator is one
 * place where memory runs out; with MASSACT_FAULTS the core's is the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "bind/bind.h"

/* Each is a chunk that gets (massact, folder of tests, a path to write to), prepares, and returns what is to be tried. */
static const struct {
  const char *name, *code;
} scenarios[] = {
    {"tensors",
     "local massact = ...\n"
     "return function()\n"
     "  local a = massact.randn(5, 7, { seed = 1 })\n"
     "  local b = massact.cat({ a, a:t():clone():t() }, 0)\n"
     "  b = (b * 2 - b:mean(1, { keep = true })):abs():add_(1):softmax():layer_norm():rms_norm()\n"
     "  b:sort(0) b:topk(2) b:median() b:quantile(0.3, 1) b:max(0) b:std(1) b:gather(1, massact.tensor({ 3, 0 }, "
     "'i64'))\n"
     "  b:gt(0):where(b, 0):to { dtype = 'f16' }:matmul(a:t():unsqueeze(0):expand(2, 7, 5))\n"
     "  a:copy_(a:narrow(0, 0, 1)):reshape(7, 5):permute(1, 0):reshape(-1):totable()\n"
     "  assert(a == a and tostring(b))\n"
     "end\n"},
    {"files",
     "local massact, tests, path = ...\n"
     "return function()\n"
     "  local value = { list = { 1, 2.5, massact.null }, text = 'x', deep = { a = { b = { true } } } }\n"
     "  massact.json.save(path, value)\n"
     "  assert(massact.json.text(massact.json.load(path)) == massact.json.text(value))\n"
     "  massact.safetensors.save(path .. '.safetensors', { a = massact.zeros(2, 3), b = massact.ones(1) }, { format = "
     "'pt' })\n"
     "  local t = massact.safetensors.load(path .. '.safetensors')\n"
     "  assert(t.a:sum():item() == 0 and t.b:item() == 1)\n"
     "  local c <close> = massact.checkpoint.open(tests .. '/golden/blocks.gguf')\n"
     "  for _, name in ipairs(c:names()) do c:tensor(name):float() end\n"
     "  c:metadata()\n"
     "  massact.system.write(path, 'text') massact.system.sha256(path) massact.system.list(tests)\n"
     "  for _, name in ipairs { 'plain', 'gzip', 'zstd' } do\n"
     "    local file <close> = require('massact.core').text.open(tests .. '/fuzz/corpus/text/' .. name)\n"
     "    assert(file:line() == 'one' and file:skip() and file:rest() == '\\nthree')\n"
     "  end\n"
     "end\n"},
    {"tokenizers",
     "local massact, tests = ...\n"
     "return function()\n"
     "  for _, name in ipairs { 'gemma', 'gpt2' } do\n"
     "    local t <close> = massact.tokenizer.load(tests .. '/golden/tokenizers/' .. name)\n"
     "    local ids = t:encode('Hello,  w\\u{f6}rld 123!\\n', { special = true })\n"
     "    assert(#t:decode(ids) > 10)\n"
     "  end\n"
     "end\n"},
    {"loading",
     "local massact, tests = ...\n"
     "return function()\n"
     "  local m <close> = massact.load(tests .. '/golden/models/llama-3')\n"
     "  assert(m.n_layers)\n"
     "end\n"},
    {"passes",
     "local massact, tests = ...\n"
     "local m = massact.load(tests .. '/golden/models/gpt2')\n"
     "local first = m:forward({ 1, 2, 3, 4 }, { loss = true }).loss\n"
     "return function()\n"
     "  local probe <close> = m:point('layers.*.out'):probe { 'top3', 'median', 'mean' }\n"
     "  local hook <close> = m:point('layers.{0..1}.attn.probs'):hook(function(x, at) assert(at.name and "
     "x:sum():item()) end)\n"
     "  local tally <close> = m:point('layers.0.attn.{received,entropy}'):hook(function(x) assert(x:sum():item() > 0) "
     "end)\n"
     "  do\n"
     "    local patch <close> = m:point('layers.0.out'):patch { positions = { 0 }, dims = { 1, 2 }, to = 0 }\n"
     "    assert(m:forward({ { 1, 2, 3 }, { 4, 5, 6 } }, { logits = true, capture = { 'layers.*.mid' } "
     "})['layers.1.mid'])\n"
     "  end\n"
     "  local half = m:forward({ 1, 2, 3, 4 }, { capture = { 'layers.0.out' }, stop_at = 'layers.0.out' })\n"
     "  local out = m:forward({ 1, 2, 3, 4 }, { loss = true, token_losses = true, start_at = { point = 'layers.0.out', "
     "value = half['layers.0.out'] } })\n"
     "  assert(out.loss == first, 'an earlier failure changed the model')\n"
     "  assert(probe['layers.1.out'][1].top[1].value)\n"
     "end\n"},
    {"gradients",
     "local massact, tests = ...\n"
     "local gradient = require 'massact.gradient'\n"
     "local m = massact.load(tests .. '/golden/models/gpt2')\n"
     "local ids, name = { 1, 2, 3, 4 }, 'h.1.mlp.c_fc.weight'\n"
     "m:loss(ids):backward()\n"
     "local first = m:param(name).grad:norm():item()\n"
     "return function()\n"
     "  gradient.zero(m:parameters())\n"
     "  local seen = 0\n"
     "  local hook <close> = m:point('layers.0.out'):hook(function(g) seen = seen + g:norm():item() end, { grad = true "
     "})\n"
     "  local write <close> = m:point('layers.0.mlp.act'):hook(function(x) x:narrow(2, 0, 1):mul_(1) x:mul_(1) end)\n"
     "  local loss, out = m:loss(ids, { checkpoint = true, capture = 'layers.0.out' })\n"
     "  loss:backward { keep = true }\n"
     "  assert(out['layers.0.out'].grad and seen > 0)\n"
     "  assert(math.abs(m:param(name).grad:norm():item() / first - 1) < 1e-6, 'an earlier failure changed the model')\n"
     "  local w = massact.ones(2, 3):requires_grad(true)\n"
     "  local x = w:t():matmul(w):sum() + massact.cat({ w, w }, 1):sort():max() + (w:median() + w:std(0):sum()) * 0\n"
     "  x:backward()\n"
     "  massact.no_grad(function() w:mul_(0.5) end)\n"
     "end\n"},
    {"figures",
     "local massact, tests, path = ...\n"
     "local plot = require 'massact.plot'\n"
     "return function()\n"
     "  local fig = plot.figure { title = 'a', x_label = 'b', y_label = 'c', integers = true }\n"
     "  fig:line { x = { 0, 1, 2 }, y = { 1, 10, 100 }, label = 'd', color = 'blue', marker = true }\n"
     "  fig:save(path .. '.png', { metadata = { Software = 'massact' } })\n"
     "  local bars = plot.figure { y_label = 'p', y_scale = 'log' }\n"
     "  bars:bars { labels = { 'x', 'y' }, groups = { { label = 'g', values = { 1, 200 } } } }\n"
     "  bars:save(path .. '.png')\n"
     "end\n"},
    {"kinds of marks",
     "local massact, tests, path = ...\n"
     "local plot = require 'massact.plot'\n"
     "return function()\n"
     "  local size = { width = 2, height = 1.5 }\n"
     "  local all = plot.figure(size):scatter { x = { 1, 2 }, y = { 1, 3 }, label = 'a' }:histogram { values = { 1, 2, "
     "2 }, bins = 2 }\n"
     "  all:hline { y = 1 }:vline { x = 1 }:note { x = 1, y = 1, text = 't' }:line { x = { 1, 2 }, y = { 1, 2 }, low = "
     "{ 0, 1 }, high = { 2, 3 } }\n"
     "  local map = plot.figure(size):heatmap { values = { { 1, 2 }, { 3, 4 } }, x_labels = { 'a', { 1, plot.token ' "
     "b' } }, colorbar = 'c' }\n"
     "  local bars = plot.figure(size):bars3d { values = massact.ones(2, 3), x_labels = { 'a', 'b' }, z_label = 'z' }\n"
     "  local grid = plot.grid({ all, map, bars }, { columns = 2, width = 3, height = 2, title = 't', legend = "
     "'shared', share_x = true })\n"
     "  assert(#plot.texts(grid) > 9)\n"
     "  grid:save(path .. '.png', { dpi = 40 })\n"
     "  assert(plot.read(path .. '.png').width == 120)\n"
     "end\n"},
};
enum { N_SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* ---- Lua states whose allocator can be told to fail ---- */

typedef struct countdown {
  long left; /* allocations that still succeed; negative: all */
  long live;
} countdown;

static void *allocate(void *self, void *block, size_t old, size_t size) {
  countdown *c = self;
  if (size == 0) {
    c->live -= block != NULL;
    free(block);
    return NULL;
  }
  if (!block || size > old) {
    if (c->left == 0) return NULL;
    if (c->left > 0) c->left--;
  }
  void *grown = realloc(block, size);
  c->live += grown && !block;
  return grown;
}

static const char setup[] =
    "local home, tests, path, code = ...\n"
    "package.path = home .. '/lua/?.lua;' .. home .. '/lua/?/init.lua'\n"
    "local massact = require 'massact'\n"
    "massact.home = home\n"
    "return assert(load(code))(massact, tests, path)\n";

/* A state with what the scenario tries on top of its stack. */
static lua_State *start(countdown *c, size_t scenario, const char *path) {
  char home[1024];
  const char *tests = getenv("MASSACT_TESTS");
  assert_non_null(tests);
  snprintf(home, sizeof home, "%s/..", tests);
  lua_State *L = lua_newstate(allocate, c);
  assert_non_null(L);
  luaL_openlibs(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_massact_core);
  lua_setfield(L, -2, "massact.core");
  lua_settop(L, 0);
  assert_int_equal(luaL_loadstring(L, setup), LUA_OK);
  lua_pushstring(L, home);
  lua_pushstring(L, tests);
  lua_pushstring(L, path);
  lua_pushstring(L, scenarios[scenario].code);
  if (lua_pcall(L, 4, 1, 0) != LUA_OK) fail_msg("%s: %s", scenarios[scenario].name, lua_tostring(L, -1));
  return L;
}

static void check_message(size_t scenario, long n, lua_State *L) {
  const char *message = lua_tostring(L, -1);
  if (!message || (!strstr(message, "not enough memory") && !strstr(message, "out of memory")))
    fail_msg("%s, allocation %ld: %s", scenarios[scenario].name, n, message ? message : "(no message)");
}

/* After a failure the same state does what it could not do. */
static void check_again(size_t scenario, long n, lua_State *L) {
  lua_settop(L, 1);
  lua_pushvalue(L, 1);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK)
    fail_msg("%s, again after allocation %ld: %s", scenarios[scenario].name, n, lua_tostring(L, -1));
}

static void make_path(char path[256]) {
  const char *folder = getenv("TMPDIR");
  snprintf(path, 256, "%.200s/massact-faults-%ld", folder && *folder ? folder : P_tmpdir, (long)getpid());
}

static void remove_files(const char *path) {
  static const char *const endings[] = {"", ".safetensors", ".png"};
  char name[300];
  for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
    snprintf(name, sizeof name, "%s%s", path, endings[i]);
    unlink(name);
  }
}

/* All of the first ones, then every few: the places that allocate lie behind each other many times. */
static long next(long n) { return n < 100 ? n + 1 : n + 1 + n / 20; }

static void lua_runs_out(void **state) {
  (void)state;
  char path[256];
  make_path(path);
  for (size_t s = 0; s < N_SCENARIOS; s++) {
    bool done = false;
    for (long n = 0; !done; n = next(n)) {
      countdown c = {-1, 0};
      lua_State *L = start(&c, s, path);
      lua_pushvalue(L, 1);
      c.left = n;
      int status = lua_pcall(L, 0, 0, 0);
      c.left = -1;
      done = status == LUA_OK;
      if (!done) check_message(s, n, L);
      check_again(s, n, L);
      lua_close(L);
      assert_int_equal(c.live, 0);
    }
  }
  remove_files(path);
}

#ifdef MASSACT_FAULTS
static void the_core_runs_out(void **state) {
  (void)state;
  char path[256];
  make_path(path);
  for (size_t s = 0; s < N_SCENARIOS; s++) {
    bool done = false;
    for (long n = 0; !done; n = next(n)) {
      countdown c = {-1, 0};
      long before = ma_live_allocations();
      lua_State *L = start(&c, s, path);
      lua_pushvalue(L, 1);
      ma_fault_allocations_after(n);
      int status = lua_pcall(L, 0, 0, 0);
      ma_fault_allocations_after(-1);
      done = status == LUA_OK;
      if (!done) {
        check_message(s, n, L);
        assert_null(strchr(lua_tostring(L, -1), '\n'));
      }
      check_again(s, n, L);
      lua_close(L);
      assert_int_equal(c.live, 0);
      assert_int_equal(ma_live_allocations(), before);
    }
  }
  remove_files(path);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lua_runs_out),
#ifdef MASSACT_FAULTS
      cmocka_unit_test(the_core_runs_out),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
