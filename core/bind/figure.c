/* Figures and pages.  lua/massact/plot.lua describes a figure's frame and each mark as tables, which are copied at
 * once, so that what is wrong is said where it is written; a page is described when it is saved. */
#include "plot/figure.h"

#include <math.h>

#include "base/memory.h"
#include "bind/fields.h"

/* ---- figures ---- */

static int figure_gc(lua_State *L) {
  ma_figure_release(luaL_checkudata(L, 1, BIND_FIGURE));
  return 0;
}

static void read_axis(lua_State *L, ma_axis_options *axis, const char *label, const char *scale, const char *range,
                      const char *ticks) {
  bind_read_label(L, "figure", label, &axis->label);
  axis->scale = bind_read_scale(L, "figure", scale);
  bind_read_range(L, "figure", range, &axis->low, &axis->high);
  bind_read_ticks(L, "figure", ticks, &axis->ticks);
  if (axis->scale == MA_SCALE_LOG && (axis->low <= 0 || axis->high <= 0))
    bind_error(L, "figure: %s is above 0 on a log scale", range);
}

/* new(options) */
static int figure_new(lua_State *L) {
  static const char *const places[] = {"auto",        "none",         "above", "top left", "top right",
                                       "bottom left", "bottom right", "top",   "bottom",   "left",
                                       "right",       "center",       NULL};
  luaL_checktype(L, 1, LUA_TTABLE);
  ma_figure *f = bind_new(L, BIND_FIGURE, sizeof *f, 0);
  ma_figure_init(f);
  lua_pushvalue(L, 1);
  bind_read_number(L, "figure", "width", &f->width);
  bind_read_number(L, "figure", "height", &f->height);
  bind_read_label(L, "figure", "title", &f->title);
  read_axis(L, &f->x, "x_label", "x_scale", "x_range", "x_ticks");
  read_axis(L, &f->y, "y_label", "y_scale", "y_range", "y_ticks");
  f->x.has_integers = bind_read_flag(L, "integers");
  f->legend = (ma_legend_place)bind_read_choice(L, "figure", "legend", places, MA_LEGEND_AUTO);
  lua_pop(L, 1);
  return 1;
}

/* ---- pages ---- */

static int page_gc(lua_State *L) {
  ma_page *page = luaL_checkudata(L, 1, BIND_PAGE);
  ma_free(page->figures);
  ma_label_release(&page->title);
  ma_label_release(&page->x_label);
  ma_label_release(&page->y_label);
  *page = (ma_page){0};
  return 0;
}

/* The page that the table at `index` describes; its list keeps the figures alive. */
static const ma_page *read_page(lua_State *L, int index) {
  ma_error err;
  static const char *const legends[] = {"shared", NULL};
  luaL_checktype(L, index, LUA_TTABLE);
  ma_page *page = bind_new(L, BIND_PAGE, sizeof *page, 0);
  lua_pushvalue(L, index);
  bind_field(L, -1, "figures");
  size_t n = (size_t)bind_length(L, -1);
  if (MA_NEW(&page->figures, n, &err) != MA_OK) bind_raise(L, &err);
  for (size_t i = 0; i < n; i++) {
    bind_item(L, -1, (lua_Integer)i + 1);
    page->figures[i] = luaL_checkudata(L, -1, BIND_FIGURE);
    lua_pop(L, 1);
  }
  page->n_figures = n;
  lua_pop(L, 1);
  double columns = 0;
  bind_read_number(L, "grid", "columns", &columns);
  bind_read_number(L, "grid", "width", &page->width);
  bind_read_number(L, "grid", "height", &page->height);
  bind_read_label(L, "grid", "title", &page->title);
  bind_read_label(L, "grid", "x_label", &page->x_label);
  bind_read_label(L, "grid", "y_label", &page->y_label);
  page->columns = (int)fmin(fmax(columns, 0), 1e6);
  page->shares_x = bind_read_flag(L, "share_x");
  page->shares_y = bind_read_flag(L, "share_y");
  page->shares_legend = bind_read_choice(L, "grid", "legend", legends, 1) == 0;
  lua_pop(L, 1);
  if (n > 0 && page->columns == 0) page->width = page->figures[0]->width, page->height = page->figures[0]->height;
  return page;
}

/* save(path, page, dpi, {key, value, ...}) */
static int page_save(lua_State *L) {
  ma_error err;
  if (lua_type(L, 1) != LUA_TSTRING) return bind_error(L, "save: a path is wanted, not a %s", luaL_typename(L, 1));
  if (lua_type(L, 3) != LUA_TNUMBER) return bind_error(L, "save: dpi is a number, not a %s", luaL_typename(L, 3));
  const char *path = lua_tostring(L, 1);
  double dpi = lua_tonumber(L, 3);
  lua_settop(L, 4);
  size_t n_pairs = (size_t)bind_length(L, 4);
  const char **metadata = lua_newuserdatauv(L, (n_pairs + 1) * sizeof *metadata, 0);
  for (size_t i = 0; i < n_pairs; i++) {
    bind_item(L, 4, (lua_Integer)i + 1);
    metadata[i] = luaL_checkstring(L, -1); /* the list keeps it alive */
    lua_pop(L, 1);
  }
  metadata[n_pairs] = NULL;
  if (ma_page_save(read_page(L, 2), path, dpi, metadata, &err) != MA_OK) return bind_raise(L, &err);
  return 0;
}

static int texts_gc(lua_State *L) {
  ma_texts_release(luaL_checkudata(L, 1, BIND_TEXTS));
  return 0;
}

/* texts(page): a list of strings. */
static int page_texts(lua_State *L) {
  ma_error err;
  ma_texts *texts = bind_new(L, BIND_TEXTS, sizeof *texts, 0);
  if (ma_page_texts(read_page(L, 1), texts, &err) != MA_OK) return bind_raise(L, &err);
  lua_createtable(L, (int)texts->n, 0);
  for (size_t i = 0; i < texts->n; i++) {
    lua_pushstring(L, texts->at[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* ---- pictures ---- */

static int picture_gc(lua_State *L) {
  ma_picture_release(luaL_checkudata(L, 1, BIND_PICTURE));
  return 0;
}

/* read(path): width, height, bytes (three a pixel, row by row), metadata. */
static int picture_read(lua_State *L) {
  ma_error err;
  const char *path = luaL_checkstring(L, 1);
  ma_picture *picture = bind_new(L, BIND_PICTURE, sizeof *picture, 0);
  if (ma_picture_read(picture, path, &err) != MA_OK) return bind_raise(L, &err);
  lua_pushinteger(L, picture->width);
  lua_pushinteger(L, picture->height);
  lua_pushlstring(L, (const char *)picture->pixels, 3 * (size_t)picture->width * (size_t)picture->height);
  lua_newtable(L);
  for (size_t i = 0; i + 1 < picture->metadata.n; i += 2) {
    lua_pushstring(L, picture->metadata.at[i + 1]);
    lua_setfield(L, -2, picture->metadata.at[i]);
  }
  return 4;
}

int bind_open_figure(lua_State *L) {
  static const luaL_Reg figure[] = {{"__gc", figure_gc}, {NULL, NULL}}, page[] = {{"__gc", page_gc}, {NULL, NULL}},
                        texts[] = {{"__gc", texts_gc}, {NULL, NULL}}, picture[] = {{"__gc", picture_gc}, {NULL, NULL}};
  static const luaL_Reg functions[] = {{"new", figure_new},   {"add", bind_figure_add}, {"save", page_save},
                                       {"texts", page_texts}, {"read", picture_read},   {NULL, NULL}};
  bind_class(L, BIND_FIGURE, figure, NULL);
  bind_class(L, BIND_PAGE, page, NULL);
  bind_class(L, BIND_TEXTS, texts, NULL);
  bind_class(L, BIND_PICTURE, picture, NULL);
  bind_open_marks(L);
  luaL_newlib(L, functions);
  return 1;
}
