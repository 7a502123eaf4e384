/* Fields of tables that describe figures and marks. */
#include "bind/fields.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

/* ---- one value ---- */

static bool is_absent(lua_State *L, int index) { return lua_isnoneornil(L, index) || lua_islightuserdata(L, index); }

bool bind_has_field(lua_State *L, const char *name) {
  bind_field(L, -1, name);
  return !is_absent(L, -1);
}

void bind_read_number(lua_State *L, const char *what, const char *name, double *out) {
  if (bind_has_field(L, name)) {
    if (lua_type(L, -1) != LUA_TNUMBER) bind_error(L, "%s: %s is a number, not a %s", what, name, luaL_typename(L, -1));
    *out = lua_tonumber(L, -1);
  }
  lua_pop(L, 1);
}

bool bind_read_flag(lua_State *L, const char *name) {
  bool value = bind_has_field(L, name) && lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

void bind_read_color(lua_State *L, const char *what, const char *name, ma_color *out) {
  if (bind_has_field(L, name)) {
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1);
    if (!ma_color_parse(out, text))
      bind_error(L, "%s: no color '%.40s'; there are names such as blue, and #rrggbb", what, text);
  }
  lua_pop(L, 1);
}

static int no_such_choice(lua_State *L, const char *what, const char *name, const char *const *names) {
  luaL_Buffer all;
  luaL_buffinit(L, &all);
  for (size_t i = 0; names[i]; i++) {
    if (i) luaL_addstring(&all, ", ");
    luaL_addstring(&all, names[i]);
  }
  luaL_pushresult(&all);
  return bind_error(L, "%s: %s is one of: %s", what, name, lua_tostring(L, -1));
}

int bind_read_choice(lua_State *L, const char *what, const char *name, const char *const *names, int otherwise) {
  int choice = bind_has_field(L, name) ? -1 : otherwise;
  const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
  for (int i = 0; choice < 0 && names[i]; i++)
    if (strcmp(names[i], text) == 0) choice = i;
  if (choice < 0) return no_such_choice(L, what, name, names);
  lua_pop(L, 1);
  return choice;
}

ma_scale bind_read_scale(lua_State *L, const char *what, const char *name) {
  static const char *const scales[] = {"linear", "log", "symlog", NULL};
  return (ma_scale)bind_read_choice(L, what, name, scales, MA_SCALE_LINEAR);
}

static void read_end(lua_State *L, const char *what, const char *name, int i, double *out) {
  bind_item(L, -1, i);
  if (!is_absent(L, -1)) {
    *out = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : NAN;
    if (!isfinite(*out)) bind_error(L, "%s: %s is { low, high }, two numbers", what, name);
  }
  lua_pop(L, 1);
}

void bind_read_range(lua_State *L, const char *what, const char *name, double *low, double *high) {
  if (bind_has_field(L, name)) {
    if (!lua_istable(L, -1)) bind_error(L, "%s: %s is { low, high }, two numbers", what, name);
    read_end(L, what, name, 1, low);
    read_end(L, what, name, 2, high);
    if (*low == *high) bind_error(L, "%s: %s is empty: { %g, %g }", what, name, *low, *high);
  }
  lua_pop(L, 1);
}

/* ---- labels ---- */

/* The text at the top of the stack. */
static void copy_text(lua_State *L, const char *what, ma_label *out) {
  ma_error err;
  size_t length;
  if (is_absent(L, -1)) return;
  int type = lua_type(L, -1);
  if (type != LUA_TSTRING && type != LUA_TNUMBER)
    bind_error(L, "%s: a label is text or { text =, color =, bold = }, not a %s", what, luaL_typename(L, -1));
  lua_pushvalue(L, -1); /* lua_tolstring changes a number in its place */
  const char *text = lua_tolstring(L, -1, &length);
  if (ma_strndup(&out->text, text, length, &err) != MA_OK) bind_raise(L, &err);
  lua_pop(L, 1);
}

static void read_label(lua_State *L, const char *what, ma_label *out) {
  if (lua_istable(L, -1)) {
    bind_field(L, -1, "text");
    copy_text(L, what, out);
    lua_pop(L, 1);
    bind_read_color(L, what, "color", &out->color);
    out->is_bold = bind_read_flag(L, "bold");
  } else {
    copy_text(L, what, out);
  }
}

void bind_read_label(lua_State *L, const char *what, const char *name, ma_label *out) {
  if (bind_has_field(L, name)) read_label(L, what, out);
  lua_pop(L, 1);
}

/* The item on top of the stack becomes tick i. */
static void read_tick(lua_State *L, const char *what, ma_ticks *out, size_t i) {
  bool is_pair = false;
  out->places[i] = (double)i;
  if (lua_istable(L, -1)) {
    is_pair = bind_item(L, -1, 1) == LUA_TNUMBER;
    if (is_pair) out->places[i] = lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  if (is_pair) bind_item(L, -1, 2);
  read_label(L, what, &out->labels[i]);
  if (is_pair) lua_pop(L, 1);
}

static void give_empty_text(lua_State *L, ma_label *label) {
  ma_error err;
  if (!label->text && ma_strdup(&label->text, "", &err) != MA_OK) bind_raise(L, &err);
}

void bind_read_ticks(lua_State *L, const char *what, const char *name, ma_ticks *out) {
  ma_error err;
  if (bind_has_field(L, name)) {
    if (!lua_istable(L, -1)) bind_error(L, "%s: %s is a list of labels or of { place, label }", what, name);
    size_t n = (size_t)bind_length(L, -1);
    if (MA_NEW(&out->places, n, &err) != MA_OK) bind_raise(L, &err);
    if (MA_NEW(&out->labels, n, &err) != MA_OK) bind_raise(L, &err);
    out->n = n;
    for (size_t i = 0; i < n; i++) {
      bind_item(L, -1, (lua_Integer)i + 1);
      read_tick(L, what, out, i);
      give_empty_text(L, &out->labels[i]);
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

/* ---- numbers ---- */

static size_t list_length(lua_State *L, int index) {
  /* Gaps may be nil, so that the length is where the last item is. */
  lua_Integer length = bind_length(L, index);
  index = lua_absindex(L, index);
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (key > length && key < 100000000) length = key;
  }
  return (size_t)length;
}

static void copy_list(lua_State *L, double *out, size_t n) {
  for (size_t i = 0; i < n; i++) {
    out[i] = lua_rawgeti(L, -1, (lua_Integer)i + 1) == LUA_TNUMBER ? lua_tonumber(L, -1) : NAN;
    lua_pop(L, 1);
  }
}

static void copy_tensor(lua_State *L, const ma_tensor *t, double *out) {
  ma_error err;
  int64_t index[MA_MAX_DIMS] = {0}, last = t->shape[t->n_dims - 1], count = ma_tensor_count(t);
  t = bind_on_host(L, t);
  for (int64_t i = 0; i < count; i++) {
    index[0] = t->n_dims == 2 ? i / last : i;
    if (t->n_dims == 2) index[1] = i % last;
    if (ma_tensor_get(&out[i], t, index, &err) != MA_OK) bind_raise(L, &err);
  }
  lua_pop(L, 1);
}

void bind_read_numbers(lua_State *L, const char *what, const char *name, ma_numbers *out) {
  ma_error err;
  if (bind_has_field(L, name)) {
    const ma_tensor *t = bind_test_tensor(L, -1);
    if (t ? t->n_dims != 1 : !lua_istable(L, -1))
      bind_error(L, "%s: %s is a list of numbers or a tensor of one dim", what, name);
    size_t n = t ? (size_t)ma_tensor_count(t) : list_length(L, -1);
    if (MA_NEW(&out->at, n, &err) != MA_OK) bind_raise(L, &err);
    out->n = n;
    if (t) copy_tensor(L, t, out->at);
    else copy_list(L, out->at, n);
  }
  lua_pop(L, 1);
}

/* Rows of the list on top of the stack, and the length of the longest; *out owns what it has from the start. */
static void read_rows(lua_State *L, const char *what, const char *name, ma_matrix *out) {
  ma_error err;
  size_t rows = (size_t)bind_length(L, -1), columns = 0;
  for (int pass = 0; pass < 2; pass++) {
    for (size_t r = 0; r < rows; r++) {
      if (bind_item(L, -1, (lua_Integer)r + 1) != LUA_TTABLE)
        bind_error(L, "%s: %s is a list of rows or a tensor of two dims", what, name);
      size_t n = list_length(L, -1);
      if (pass == 0) columns = n > columns ? n : columns;
      else copy_list(L, out->at + r * columns, n < columns ? n : columns);
      lua_pop(L, 1);
    }
    if (pass == 1) break;
    if (columns > 0 && rows > SIZE_MAX / sizeof *out->at / columns) bind_error(L, "%s: %s is too large", what, name);
    if (MA_NEW(&out->at, rows * columns, &err) != MA_OK) bind_raise(L, &err);
    for (size_t i = 0; i < rows * columns; i++) out->at[i] = NAN;
  }
  out->rows = rows;
  out->columns = columns;
}

void bind_read_matrix(lua_State *L, const char *what, const char *name, ma_matrix *out) {
  ma_error err;
  bool is_there = bind_has_field(L, name);
  const ma_tensor *t = is_there ? bind_test_tensor(L, -1) : NULL;
  if (t ? t->n_dims != 2 : !lua_istable(L, -1))
    bind_error(L, "%s: %s is a list of rows or a tensor of two dims", what, name);
  if (t) {
    if (MA_NEW(&out->at, ma_tensor_count(t), &err) != MA_OK) bind_raise(L, &err);
    out->rows = (size_t)t->shape[0];
    out->columns = (size_t)t->shape[1];
    copy_tensor(L, t, out->at);
  } else {
    read_rows(L, what, name, out);
  }
  if (out->rows == 0 || out->columns == 0) bind_error(L, "%s: %s has no cells", what, name);
  lua_pop(L, 1);
}
