/* How a tensor prints: a line that says what it is, then as much of it as a person reads, in 80 columns. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bind/bind.h"
#include "tensor/ops.h"

int bind_tensor_tostring(lua_State *L);

enum { EDGE = 3, LINE = 80 };

/* One number format for the whole tensor, from the elements that are shown. */
typedef struct format {
  int width, decimals;
  bool is_integer, is_scientific;
} format;

typedef struct printer {
  luaL_Buffer *out;
  const ma_tensor *t;
  format f;
  int per_line;
} printer;

/* Positions along a dim that are shown: all of a short one, the ends of a long one (-1: the gap). */
static int64_t shown(int64_t size, int64_t i) {
  if (size <= 2 * EDGE + 1) return i;
  if (i < EDGE) return i;
  return i == EDGE ? -1 : size - (2 * EDGE + 1 - i);
}

static int64_t n_shown(int64_t size) { return size <= 2 * EDGE + 1 ? size : 2 * EDGE + 1; }

static double element(const ma_tensor *t, const int64_t *index) {
  double value = 0;
  ma_tensor_get(&value, t, index, NULL);
  return value;
}

/* ---- the format ---- */

static void look(const ma_tensor *t, int dim, int64_t *index, double *most, double *least, bool *whole) {
  if (dim == t->n_dims) {
    double x = fabs(element(t, index));
    if (!isfinite(x)) return;
    if (x > *most) *most = x;
    if (x > 0 && x < *least) *least = x;
    *whole &= x == floor(x);
    return;
  }
  for (int64_t i = 0; i < n_shown(t->shape[dim]); i++) {
    index[dim] = shown(t->shape[dim], i);
    if (index[dim] >= 0) look(t, dim + 1, index, most, least, whole);
  }
}

static format choose_format(const ma_tensor *t) {
  int64_t index[MA_MAX_DIMS] = {0};
  double most = 0, least = INFINITY;
  bool whole = true;
  look(t, 0, index, &most, &least, &whole);
  format f = {.is_integer = !ma_dtype_is_float(t->dtype), .decimals = whole ? 1 : 4};
  f.is_scientific = !f.is_integer && (most >= 1e6 || (least < 1e-4 && most < 1e-1 && most > 0) || most / least > 1e6);
  int digits = most >= 1 ? (int)floor(log10(most)) + 1 : 1;
  f.width = f.is_scientific ? 11 : digits + 1 + (f.is_integer ? 0 : 1 + f.decimals);
  return f;
}

static void put(const printer *p, double x) {
  char text[64];
  if (p->f.is_integer) snprintf(text, sizeof text, "%*.0f", p->f.width, x);
  else if (p->f.is_scientific) snprintf(text, sizeof text, "%*.4e", p->f.width, x);
  else snprintf(text, sizeof text, "%*.*f", p->f.width, p->f.decimals, x);
  luaL_addstring(p->out, text);
}

/* ---- the body ---- */

static void indent(const printer *p, int n) {
  for (int i = 0; i < n; i++) luaL_addchar(p->out, ' ');
}

static void put_row(const printer *p, int dim, int64_t *index, int depth) {
  int64_t size = p->t->shape[dim], n = n_shown(size);
  luaL_addchar(p->out, '[');
  for (int64_t i = 0; i < n; i++) {
    if (i > 0) luaL_addstring(p->out, i % p->per_line ? " " : "\n");
    if (i > 0 && i % p->per_line == 0) indent(p, depth + 1);
    index[dim] = shown(size, i);
    if (index[dim] < 0) luaL_addstring(p->out, "...");
    else put(p, element(p->t, index));
  }
  luaL_addchar(p->out, ']');
}

static void put_dim(const printer *p, int dim, int64_t *index) {
  if (dim == p->t->n_dims - 1) {
    put_row(p, dim, index, dim);
    return;
  }
  int64_t size = p->t->shape[dim], n = n_shown(size);
  luaL_addchar(p->out, '[');
  for (int64_t i = 0; i < n; i++) {
    if (i > 0) {
      luaL_addchar(p->out, '\n');
      indent(p, dim + 1);
    }
    index[dim] = shown(size, i);
    if (index[dim] < 0) luaL_addstring(p->out, "...");
    else put_dim(p, dim + 1, index);
  }
  luaL_addchar(p->out, ']');
}

int bind_tensor_tostring(lua_State *L) {
  const ma_tensor *t = luaL_checkudata(L, 1, BIND_TENSOR);
  char shape[MA_SHAPE_TEXT], head[MA_SHAPE_TEXT + 64];
  int64_t index[MA_MAX_DIMS] = {0};
  if (!t->storage || t->storage->is_dead) {
    lua_pushfstring(L, "Tensor (%s)", t->storage ? "of a pass that has ended" : "closed");
    return 1;
  }
  snprintf(head, sizeof head, "%s %s %s", ma_dtype_describe(t->dtype)->name, ma_shape_text(shape, t->n_dims, t->shape),
           t->storage->device->name);
  if (ma_dtype_is_block(t->dtype) || ma_tensor_count(t) == 0) {
    lua_pushstring(L, head);
    return 1;
  }
  ma_tensor view = *bind_on_host(L, t);
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  luaL_addstring(&buffer, head);
  luaL_addchar(&buffer, '\n');
  printer p = {.out = &buffer, .t = &view, .f = choose_format(&view)};
  p.per_line = (LINE - 2 * view.n_dims) / (p.f.width + 1);
  if (p.per_line < 1) p.per_line = 1;
  if (view.n_dims == 0) put(&p, element(&view, index));
  else put_dim(&p, 0, index);
  luaL_pushresult(&buffer);
  return 1;
}
