/* The rules of the binding, in one place.
 *
 * A userdata is made empty with its metatable set (armed), then filled: whatever raises in between, its __gc
 * cleans up.  Between acquiring a resource and anchoring it nothing may raise.  What a userdata refers to sits
 * in its user values, never in C globals: two Lua states work side by side.  Tables are read raw (bind_field):
 * metamethods are a script's, and could close what is in use.  Only main.c prints or exits. */
#ifndef MASSACT_BIND_BIND_H
#define MASSACT_BIND_BIND_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>

#include "base/status.h"
#include "format/checkpoint.h"
#include "model/cache.h"
#include "model/model.h"
#include "tensor/tensor.h"
#include "text/tokenizer.h"

#define BIND_TENSOR       "massact.Tensor"
#define BIND_CHECKPOINT   "massact.Checkpoint"
#define BIND_WRITER       "massact.Writer"
#define BIND_TEXT         "massact.TextFile"
#define BIND_TOKENIZER    "massact.Tokenizer"
#define BIND_TRAINER      "massact.TokenizerTrainer"
#define BIND_TOKEN_FILE   "massact.TokenFile"
#define BIND_TOKEN_WRITER "massact.TokenWriter"
#define BIND_MODEL        "massact.Model"
#define BIND_CACHE        "massact.Cache"
#define BIND_POINT        "massact.Point"
#define BIND_HANDLE       "massact.Handle"
#define BIND_FIGURE       "massact.Figure"
#define BIND_PAGE         "massact.Page"
#define BIND_PICTURE      "massact.Picture"
#define BIND_TEXTS        "massact.Texts"
#define BIND_NUMBERS      "massact.Numbers"

/* Its address is the key in the registry (lua_rawgetp, which never raises) of what lua_pcall calls with an error while its stack
 * is whole: a function, or nil. */
extern const char bind_message_handler;

/* The module: leaves the table of everything that C offers to lua/massact. */
int luaopen_massact_core(lua_State *L);

/* One a file: leaves the file's table of functions. */
int bind_open_tensor(lua_State *L);
int bind_open_checkpoint(lua_State *L);
void bind_open_writer(lua_State *L); /* into the checkpoint's table, on top of the stack */
int bind_open_tokenizer(lua_State *L);
void bind_open_trainer(lua_State *L); /* into the tokenizer's table */
int bind_open_token_file(lua_State *L);
int bind_open_json(lua_State *L);
int bind_open_model(lua_State *L);
int bind_open_figure(lua_State *L);
int bind_open_system(lua_State *L);
int bind_open_terminal(lua_State *L);
int bind_open_text(lua_State *L);
int bind_open_process(lua_State *L);

/* ---- userdata ---- */

/* Registers a metatable: `meta` (with __gc, __close ...) and `methods`, reached through __index. */
void bind_class(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods);
/* A zeroed userdata of a class, with `n_values` user values. */
void *bind_new(lua_State *L, const char *class_name, size_t size, int n_values);

/* ---- errors ---- */

/* Raises what `err` says, with the script's position. */
int bind_raise(lua_State *L, const ma_error *err);
int bind_error(lua_State *L, const char *format, ...) MA_PRINTF(2, 3);

/* ---- memory ---- */

/* Tells the collector what C has allocated on behalf of an object that Lua holds. */
void bind_charge(lua_State *L, size_t bytes);

/* ---- tensors ---- */

/* The tensor at `index`, alive.  Under no_grad one that the tape follows is replaced there by its detached self. */
ma_tensor *bind_check_tensor(lua_State *L, int index);
ma_tensor *bind_check_raw_tensor(lua_State *L, int index); /* never replaced */
/* The tensor at `index` as the output of an operation; borrowed.  Always another ma_tensor than any input, so that a recorded
 * write goes to the storage, and all its views see it. */
ma_tensor bind_target(lua_State *L, int index);
bool bind_records(lua_State *L); /* not within no_grad */
ma_tensor *bind_stand_in(lua_State *L, int index, ma_tensor *t);
ma_tensor *bind_test_tensor(lua_State *L, int index); /* NULL: something else; dead ones raise */
/* An armed, empty Tensor on the stack, to be filled in place. */
ma_tensor *bind_new_tensor(lua_State *L);
/* `t` where the host reads it element by element: itself on the CPU, else a copy, pushed so that it lives as long as the stack's
 * slot.  (Pushes nil for itself: one slot in any case.) */
const ma_tensor *bind_on_host(lua_State *L, const ma_tensor *t);
/* After filling: charges what was allocated. */
void bind_filled_tensor(lua_State *L, const ma_tensor *t);
/* The same for the tensor on top of the stack, which is returned; raises where making it failed. */
int bind_made_tensor(lua_State *L, ma_status st, const ma_error *err);

/* ---- tokenizers ---- */

/* The tokenizer at `index`, open. */
const ma_tokenizer *bind_check_tokenizer(lua_State *L, int index);
/* SHA-256 of its vocabulary: of each id the length (u32, little-endian; 0xFFFFFFFF: not used) and the spelling. */
void bind_sha256_of_tokenizer(lua_State *L, const ma_tokenizer *t, unsigned char digest[32]);

/* ---- arguments ---- */

/* An index that may be negative (counted from the end), checked against `n`. */
int bind_check_dim(lua_State *L, int index, int n);
ma_dtype bind_check_dtype(lua_State *L, int index);
/* Sizes from a table at `index`, or from the integers from `index` on up to the top. */
int bind_check_shape(lua_State *L, int index, int64_t shape[MA_MAX_DIMS]);
/* Raises unless every key of the table at `index` is one of the NULL-terminated `names`. */
void bind_check_keys(lua_State *L, int index, const char *const *names);

/* Length, items and fields of a script's table, as lua_rawlen and its like see them: a metamethod could close the very object that
 * the arguments are read for.  Anything but a table raises. */
lua_Integer bind_length(lua_State *L, int index);
int bind_item(lua_State *L, int index, lua_Integer i);
int bind_field(lua_State *L, int index, const char *name);

/* ---- shared by the model's files ---- */

typedef struct bind_model {
  ma_model *model; /* NULL: closed */
  lua_State *L;    /* while a pass runs: who runs it, and where its stack holds this userdata */
  int index;
} bind_model;

/* User values of a model. */
enum { BIND_MODEL_FIELDS = 1, BIND_MODEL_HANDLES = 2, BIND_MODEL_PATHS = 3, BIND_MODEL_N_VALUES = 3 };

bind_model *bind_check_model(lua_State *L, int index);
/* The places that a name, a pattern or a module path means; *places is freed with ma_free. */
ma_status bind_find_places(lua_State *L, int model_index, ma_place **places, size_t *n, const char *name,
                           ma_error *err);
/* model:point(...) */
int bind_model_point(lua_State *L);
void bind_open_point(lua_State *L);

/* User value of a handle. */
enum { BIND_HANDLE_FUNCTION = 2 };

/* Whether a gradient hook is still there: shared by its handle and the nodes that it was put on. */
typedef struct bind_presence bind_presence;
ma_status bind_presence_new(bind_presence **out, ma_error *err);
void bind_presence_end(bind_presence *presence); /* NULL is fine */
/* Puts the hook on the node of `x`; nothing in a pass that is not recorded. */
ma_status bind_watch_gradient(bind_presence *presence, const void *handle, ma_tensor *x, ma_place place, ma_error *err);
/* Makes the handle on top of the stack one that the way back finds. */
void bind_remember_gradient_hook(lua_State *L, const void *handle);
/* What a way back hands to its hooks: a failed one leaves its error object in the slot `error` of the stack. */
typedef struct bind_walk {
  lua_State *L;
  int error;
} bind_walk;

typedef struct bind_cache {
  ma_cache *cache;       /* NULL: closed */
  const ma_model *model; /* whose it is; kept alive by a user value */
  bool is_used;          /* by a running pass */
} bind_cache;

/* The cache at `index`, open, of this model, and not in use. */
bind_cache *bind_check_cache(lua_State *L, int index, const ma_model *model);
/* model:cache(...) */
int bind_model_cache(lua_State *L);
void bind_open_cache(lua_State *L);
/* model:forward(...) */
int bind_model_forward(lua_State *L);
void bind_open_pass(lua_State *L);

#endif
