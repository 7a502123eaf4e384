/* Marks: a function a kind reads its table, which is on top of the stack. */
#include "plot/marks.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "bind/fields.h"

static const char *const strokes[] = {"solid", "dashed", "dotted", NULL};

/* ---- checks ---- */

static void check_same_length(lua_State *L, const char *what, const char *name, const ma_numbers *x,
                              const ma_numbers *y) {
  if (x->n != y->n)
    bind_error(L, "%s: x has %zu values and %s %zu; they are of one length (NaN or massact.null is a gap)", what, x->n,
               name, y->n);
}

static void read_points(lua_State *L, const char *what, ma_numbers *x, ma_numbers *y) {
  bind_read_numbers(L, what, "x", x);
  bind_read_numbers(L, what, "y", y);
  if (!x->at || !y->at) bind_error(L, "%s: x and y are wanted, a list of numbers or a tensor of one dim each", what);
  check_same_length(L, what, "y", x, y);
}

static double read_size(lua_State *L, const char *what, const char *name, double otherwise, double most) {
  double size = otherwise;
  bind_read_number(L, what, name, &size);
  if (!(size >= 0 && size <= most)) bind_error(L, "%s: %s is a number from 0 to %g", what, name, most);
  return size;
}

static double read_place(lua_State *L, const char *what, const char *name) {
  double at = NAN;
  if (!bind_has_field(L, name)) bind_error(L, "%s: %s is wanted, a number", what, name);
  lua_pop(L, 1);
  bind_read_number(L, what, name, &at);
  return at;
}

/* ---- kinds ---- */

static void read_line(lua_State *L, ma_mark *mark, const ma_figure *figure) {
  ma_line *line = (ma_line *)mark;
  (void)figure;
  read_points(L, "line", &line->x, &line->y);
  bind_read_numbers(L, "line", "low", &line->low);
  bind_read_numbers(L, "line", "high", &line->high);
  if ((line->low.at != NULL) != (line->high.at != NULL)) bind_error(L, "line: a band has both, low and high");
  if (line->low.at) check_same_length(L, "line", "low", &line->x, &line->low);
  if (line->high.at) check_same_length(L, "line", "high", &line->x, &line->high);
  line->stroke = (ma_stroke)bind_read_choice(L, "line", "style", strokes, MA_STROKE_SOLID);
  line->width = read_size(L, "line", "width", 1.6, 100);
  line->has_markers = bind_read_flag(L, "marker");
}

static void read_scatter(lua_State *L, ma_mark *mark, const ma_figure *figure) {
  ma_scatter *scatter = (ma_scatter *)mark;
  (void)figure;
  read_points(L, "scatter", &scatter->x, &scatter->y);
  scatter->size = read_size(L, "scatter", "size", 5, 1000);
  scatter->alpha = read_size(L, "scatter", "alpha", scatter->x.n > 500 ? 0.5 : 0.85, 1);
}

static void read_rule(lua_State *L, ma_mark *mark, const ma_figure *figure) {
  ma_rule *rule = (ma_rule *)mark;
  (void)figure;
  rule->is_vertical = bind_read_flag(L, "vertical");
  rule->at = rule->is_vertical ? read_place(L, "vline", "x") : read_place(L, "hline", "y");
  rule->stroke = (ma_stroke)bind_read_choice(L, "hline", "style", strokes, MA_STROKE_DASHED);
}

static void read_note(lua_State *L, ma_mark *mark, const ma_figure *figure) {
  static const char *const sides[] = {"left", "center", "right", NULL};
  ma_note *note = (ma_note *)mark;
  (void)figure;
  note->x = read_place(L, "note", "x");
  note->y = read_place(L, "note", "y");
  note->h = 0.5 * bind_read_choice(L, "note", "h", sides, 0);
  bind_read_label(L, "note", "text", &mark->label);
  if (!mark->label.text) bind_error(L, "note: text is wanted");
  bind_read_color(L, "note", "color", &mark->label.color);
}

/* One group of bars. */
static void read_group(lua_State *L, const ma_bars *bars, ma_bar_group *group) {
  bind_read_label(L, "bars", "label", &group->label);
  bind_read_color(L, "bars", "color", &group->color);
  bind_read_numbers(L, "bars", "values", &group->values);
  bind_read_numbers(L, "bars", "errors", &group->errors);
  if (group->values.n != bars->ticks.n)
    bind_error(L, "bars: a value for each label is wanted: %zu labels, %zu values", bars->ticks.n, group->values.n);
  if (group->errors.at && group->errors.n != bars->ticks.n)
    bind_error(L, "bars: an error for each label is wanted: %zu labels, %zu errors", bars->ticks.n, group->errors.n);
}

static void read_bars(lua_State *L, ma_mark *mark, const ma_figure *figure) {
  ma_error err;
  ma_bars *bars = (ma_bars *)mark;
  (void)figure;
  bind_read_ticks(L, "bars", "labels", &bars->ticks);
  for (size_t i = 0; i < bars->ticks.n; i++) bars->ticks.places[i] = (double)i;
  if (bars->ticks.n == 0) bind_error(L, "bars: labels are wanted, one or more");
  bind_field(L, -1, "groups");
  size_t n = (size_t)bind_length(L, -1);
  if (n == 0) bind_error(L, "bars: values or groups are wanted");
  if (MA_NEW(&bars->groups, n, &err) != MA_OK) bind_raise(L, &err);
  bars->n_groups = n;
  for (size_t g = 0; g < n; g++) {
    bind_item(L, -1, (lua_Integer)g + 1);
    read_group(L, bars, &bars->groups[g]);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* Values that are only counted live as long as their userdata. */
static int numbers_gc(lua_State *L) {
  ma_numbers *numbers = lua_touserdata(L, 1);
  ma_free(numbers->at);
  *numbers = (ma_numbers){0};
  return 0;
}

static void read_histogram(lua_State *L, ma_mark *mark, const ma_figure *figure) {
  ma_error err;
  ma_histogram *histogram = (ma_histogram *)mark;
  ma_numbers *values = bind_new(L, BIND_NUMBERS, sizeof *values, 0);
  double low = NAN, high = NAN, bins = 40;
  lua_insert(L, -2);
  bind_read_numbers(L, "histogram", "values", values);
  if (!values->at) bind_error(L, "histogram: values are wanted, a list of numbers or a tensor of one dim");
  bind_read_number(L, "histogram", "bins", &bins);
  bind_read_range(L, "histogram", "range", &low, &high);
  histogram->alpha = read_size(L, "histogram", "alpha", 1, 1);
  if (!(bins >= 1 && bins <= 100000)) bind_error(L, "histogram: bins is a number from 1 to 100000");
  if (ma_histogram_count(histogram, values, (int)bins, low, high, figure->x.scale, &err) != MA_OK) bind_raise(L, &err);
}

static void read_heatmap(lua_State *L, ma_mark *mark, const ma_figure *figure) {
  static const char *const names[] = {"YlGnBu", "viridis", "magma", "cividis", "coolwarm", NULL};
  ma_heatmap *h = (ma_heatmap *)mark;
  (void)figure;
  h->low = h->high = NAN;
  bind_read_matrix(L, "heatmap", "values", &h->values);
  bind_read_ticks(L, "heatmap", "x_labels", &h->x_ticks);
  bind_read_ticks(L, "heatmap", "y_labels", &h->y_ticks);
  h->map = ma_colormap_find(names[bind_read_choice(L, "heatmap", "map", names, 0)]);
  bind_read_range(L, "heatmap", "range", &h->low, &h->high);
  h->scale = bind_read_scale(L, "heatmap", "scale");
  if (h->scale == MA_SCALE_LOG && (h->low <= 0 || h->high <= 0))
    bind_error(L, "heatmap: range is above 0 on a log scale");
  h->has_bar = bind_read_flag(L, "has_bar");
  bind_read_label(L, "heatmap", "bar_label", &h->bar_label);
  h->is_square = bind_read_flag(L, "square");
}

static void read_bars3d(lua_State *L, ma_mark *mark, const ma_figure *figure) {
  ma_bars3d *bars = (ma_bars3d *)mark;
  (void)figure;
  bind_read_matrix(L, "bars3d", "values", &bars->values);
  bind_read_ticks(L, "bars3d", "x_labels", &bars->x_ticks);
  bind_read_ticks(L, "bars3d", "y_labels", &bars->y_ticks);
  bind_read_label(L, "bars3d", "z_label", &bars->z_label);
}

/* ---- adding ---- */

static const struct {
  const char *name;
  const ma_mark_kind *kind;
  void (*read)(lua_State *L, ma_mark *mark, const ma_figure *figure);
} kinds[] = {{"line", &ma_line_kind, read_line},          {"scatter", &ma_scatter_kind, read_scatter},
             {"rule", &ma_rule_kind, read_rule},          {"note", &ma_note_kind, read_note},
             {"bars", &ma_bars_kind, read_bars},          {"histogram", &ma_histogram_kind, read_histogram},
             {"heatmap", &ma_heatmap_kind, read_heatmap}, {"bars3d", &ma_bars3d_kind, read_bars3d}};

/* add(figure, kind, fields) */
int bind_figure_add(lua_State *L) {
  ma_error err;
  ma_mark *mark;
  ma_figure *figure = luaL_checkudata(L, 1, BIND_FIGURE);
  const char *name = luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    if (strcmp(kinds[i].name, name) != 0) continue;
    if (ma_figure_begin(&mark, figure, kinds[i].kind, &err) != MA_OK) return bind_raise(L, &err);
    if (kinds[i].read != read_note) bind_read_label(L, name, "label", &mark->label);
    bind_read_color(L, name, "color", &mark->color);
    kinds[i].read(L, mark, figure);
    if (ma_figure_keep(figure, &err) != MA_OK) return bind_raise(L, &err);
    return 0;
  }
  return bind_error(L, "there is no mark '%s'", name);
}

void bind_open_marks(lua_State *L) {
  static const luaL_Reg meta[] = {{"__gc", numbers_gc}, {NULL, NULL}};
  bind_class(L, BIND_NUMBERS, meta, NULL);
}
