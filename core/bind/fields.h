/* Fields of the table on top of the stack, as figures and marks want them.  What is absent (nil or JSON's null) leaves
 * *out as it is; what is wrong raises a message that begins with `what`, the name of what is described. */
#ifndef MASSACT_BIND_FIELDS_H
#define MASSACT_BIND_FIELDS_H

#include "bind/bind.h"
#include "plot/figure.h"
#include "plot/marks.h"

/* Pushes the field and tells whether it is there. */
bool bind_has_field(lua_State *L, const char *name);

void bind_read_number(lua_State *L, const char *what, const char *name, double *out);
bool bind_read_flag(lua_State *L, const char *name);
void bind_read_color(lua_State *L, const char *what, const char *name, ma_color *out);
/* One of `names`, by its index. */
int bind_read_choice(lua_State *L, const char *what, const char *name, const char *const *names, int otherwise);
ma_scale bind_read_scale(lua_State *L, const char *what, const char *name);
/* {low, high}; either may be absent. */
void bind_read_range(lua_State *L, const char *what, const char *name, double *low, double *high);

/* Text, a number, or { text =, color =, bold = }. */
void bind_read_label(lua_State *L, const char *what, const char *name, ma_label *out);
/* A list of numbers or a tensor of one dim; what is no number is NaN. */
void bind_read_numbers(lua_State *L, const char *what, const char *name, ma_numbers *out);
/* A list of rows or a tensor of two dims; rows may be of different length, which NaN fills. */
void bind_read_matrix(lua_State *L, const char *what, const char *name, ma_matrix *out);
/* Labels at 0, 1, ..., or { place, label } each. */
void bind_read_ticks(lua_State *L, const char *what, const char *name, ma_ticks *out);

/* marks.c: core.figure.add(figure, kind, fields). */
int bind_figure_add(lua_State *L);
void bind_open_marks(lua_State *L);

#endif
