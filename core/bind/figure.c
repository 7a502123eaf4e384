/* Figures: lua/massact/plot.lua describes one as a table, which is drawn when it is saved. */
#include "plot/figure.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"

static int figure_gc(lua_State *L) {
  ma_figure_release(luaL_checkudata(L, 1, BIND_FIGURE));
  return 0;
}

/* ---- fields of the table on top of the stack ---- */

static void read_text(lua_State *L, const char *name, char **out) {
  ma_error err;
  if (bind_field(L, -1, name) != LUA_TNIL && ma_strdup(out, luaL_checkstring(L, -1), &err) != MA_OK) bind_raise(L, &err);
  lua_pop(L, 1);
}

static void read_number(lua_State *L, const char *name, double *out) {
  if (bind_field(L, -1, name) != LUA_TNIL) *out = luaL_checknumber(L, -1);
  lua_pop(L, 1);
}

static bool read_flag(lua_State *L, const char *name) {
  bind_field(L, -1, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

/* A list of numbers; what is no number becomes NaN, which is not drawn. */
static size_t read_numbers(lua_State *L, const char *name, double **out) {
  ma_error err;
  bind_field(L, -1, name);
  luaL_checktype(L, -1, LUA_TTABLE);
  size_t n = (size_t)bind_length(L, -1);
  if (MA_NEW(out, n, &err) != MA_OK) bind_raise(L, &err);
  for (size_t i = 0; i < n; i++) {
    int fits;
    bind_item(L, -1, (lua_Integer)i + 1);
    (*out)[i] = lua_tonumberx(L, -1, &fits);
    if (!fits) (*out)[i] = NAN;
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return n;
}

static void read_color(lua_State *L, ma_color *out) {
  bind_field(L, -1, "color");
  const char *name = luaL_optstring(L, -1, "blue");
  if (!ma_color_parse(out, name)) bind_error(L, "no color '%s'; there are names such as blue, and #rrggbb", name);
  lua_pop(L, 1);
}

/* ---- marks ---- */

static void read_series(lua_State *L, ma_figure *f) {
  ma_error err;
  bind_field(L, -1, "lines");
  size_t n = (size_t)bind_length(L, -1);
  if (MA_NEW(&f->series, n, &err) != MA_OK) bind_raise(L, &err);
  f->n_series = n;
  for (size_t i = 0; i < n; i++) {
    ma_series *s = &f->series[i];
    bind_item(L, -1, (lua_Integer)i + 1);
    s->n = read_numbers(L, "y", &s->y);
    if (read_numbers(L, "x", &s->x) != s->n) bind_error(L, "line: x and y differ in length");
    read_text(L, "label", &s->label);
    read_color(L, &s->color);
    s->has_markers = read_flag(L, "marker");
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static void read_bars(lua_State *L, ma_figure *f) {
  ma_error err;
  if (bind_field(L, -1, "labels") == LUA_TTABLE) {
    size_t n = (size_t)bind_length(L, -1);
    if (MA_NEW(&f->labels, n, &err) != MA_OK) bind_raise(L, &err);
    f->n_labels = n;
    for (size_t i = 0; i < n; i++) {
      bind_item(L, -1, (lua_Integer)i + 1);
      if (ma_strdup(&f->labels[i], luaL_checkstring(L, -1), &err) != MA_OK) bind_raise(L, &err);
      lua_pop(L, 1);
    }
    bind_field(L, -2, "groups");
    size_t n_groups = (size_t)bind_length(L, -1);
    if (MA_NEW(&f->groups, n_groups, &err) != MA_OK) bind_raise(L, &err);
    f->n_groups = n_groups;
    for (size_t g = 0; g < n_groups; g++) {
      bind_item(L, -1, (lua_Integer)g + 1);
      if (read_numbers(L, "values", &f->groups[g].values) != n) bind_error(L, "bars: a value for each label is wanted");
      read_text(L, "label", &f->groups[g].label);
      read_color(L, &f->groups[g].color);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* save(path, figure, dpi, {key, value, ...}) */
static int figure_save(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  double dpi = luaL_optnumber(L, 3, 200);
  lua_settop(L, 4);
  ma_figure *f = bind_new(L, BIND_FIGURE, sizeof *f, 0);
  ma_figure_init(f);
  size_t n_pairs = lua_istable(L, 4) ? (size_t)bind_length(L, 4) : 0;
  const char **metadata = lua_newuserdatauv(L, (n_pairs + 1) * sizeof *metadata, 0);
  for (size_t i = 0; i < n_pairs; i++) {
    bind_item(L, 4, (lua_Integer)i + 1);
    metadata[i] = luaL_checkstring(L, -1); /* the list keeps it alive */
    lua_pop(L, 1);
  }
  metadata[n_pairs] = NULL;
  lua_pushvalue(L, 2);
  read_number(L, "width", &f->width);
  read_number(L, "height", &f->height);
  read_text(L, "title", &f->title);
  read_text(L, "x_label", &f->x_label);
  read_text(L, "y_label", &f->y_label);
  f->y_scale = read_flag(L, "is_log") ? MA_SCALE_LOG : MA_SCALE_LINEAR;
  f->has_integer_x = read_flag(L, "integers");
  read_series(L, f);
  read_bars(L, f);
  if (ma_figure_save(f, path, dpi, metadata, &err) != MA_OK) return bind_raise(L, &err);
  return 0;
}

int bind_open_figure(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", figure_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"save", figure_save}, {NULL, NULL}};
  bind_class(L, BIND_FIGURE, meta, NULL);
  luaL_newlib(L, functions);
  return 1;
}
