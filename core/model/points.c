/* Names of places, and patterns over them.  A pattern is matched against the names of all places that
 * the model has, so whatever `massact info --points` prints can be asked for, and nothing else. */
#include "model/points.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static const ma_point_info points[MA_N_POINTS] = {
#define MA_POINT(constant, name, shape, meaning)       {name, shape, meaning, false},
#define MA_LAYER_POINT(constant, name, shape, meaning) {name, shape, meaning, true},
#include "model/points.def"
#undef MA_POINT
#undef MA_LAYER_POINT
};

const ma_point_info *ma_point_describe(ma_point point) { return &points[point]; }

const char *ma_place_name(char text[MA_PLACE_NAME], ma_place place) {
  if (points[place.point].in_layer)
    snprintf(text, MA_PLACE_NAME, "layers.%d.%s", place.layer, points[place.point].name);
  else snprintf(text, MA_PLACE_NAME, "%s", points[place.point].name);
  return text;
}

bool ma_point_exists(const ma_spec *spec, ma_point point) {
  if (point == MA_AT_MID) return !spec->parallel;
  bool has_experts = spec->n_experts > 0;
  if (point == MA_AT_MLP_ROUTER || point == MA_AT_MLP_EXPERTS) return has_experts;
  if (point == MA_AT_MLP_UP || point == MA_AT_MLP_ACT) return !has_experts;
  if (point == MA_AT_MLP_GATE) return spec->gated && !has_experts;
  return true;
}

int ma_place_order(ma_place place, const ma_spec *spec) {
  int point = (int)place.point, n_points = MA_N_POINTS;
  if (point < (int)MA_AT_IN) return point;
  if (point > (int)MA_AT_OUT) return (int)spec->n_layers * n_points + point;
  return place.layer * n_points + point;
}

/* ---- patterns ---- */

static bool match(const char *pattern, const char *end, const char *name);

/* "{2..9}" against the number at `name`; *used is its length. */
static bool match_range(const char *from, const char *to, const char *name, size_t *used) {
  char *stop;
  long low = strtol(from, &stop, 10);
  if (stop == from || strncmp(stop, "..", 2) != 0) return false;
  const char *second = stop + 2;
  long high = strtol(second, &stop, 10);
  if (stop == second || stop != to || *name < '0' || *name > '9') return false;
  long value = strtol(name, &stop, 10);
  *used = (size_t)(stop - name);
  return value >= low && value <= high;
}

/* `pattern` is behind "{": tries each member of the set, then what follows "}". */
static bool match_set(const char *pattern, const char *end, const char *name) {
  const char *close = memchr(pattern, '}', (size_t)(end - pattern));
  if (!close) return false;
  size_t used;
  if (match_range(pattern, close, name, &used)) return match(close + 1, end, name + used);
  for (const char *member = pattern; member <= close;) {
    const char *stop = member;
    while (*stop != ',' && stop != close) stop++;
    size_t length = (size_t)(stop - member);
    if (strncmp(member, name, length) == 0 && match(close + 1, end, name + length)) return true;
    member = stop + 1;
  }
  return false;
}

static bool match(const char *pattern, const char *end, const char *name) {
  for (; pattern < end; pattern++, name++) {
    if (*pattern == '*') {
      bool any = pattern + 1 < end && pattern[1] == '*';
      const char *rest = pattern + (any ? 2 : 1);
      for (;; name++) {
        if (match(rest, end, name)) return true;
        if (*name == '\0' || (*name == '.' && !any)) return false;
      }
    }
    if (*pattern == '{') return match_set(pattern + 1, end, name);
    if (*pattern != *name) return false;
  }
  return *name == '\0';
}

/* ---- all places of a model, in the order of the pass ---- */

typedef struct walk {
  const ma_spec *spec;
  ma_place at;
} walk;

static bool walk_next(walk *w) {
  do {
    if (points[w->at.point].in_layer && w->at.point == MA_AT_OUT && w->at.layer + 1 < w->spec->n_layers) {
      w->at.layer++;
      w->at.point = MA_AT_IN;
    } else {
      w->at.point++;
      if (w->at.point >= MA_N_POINTS) return false;
      if (!points[w->at.point].in_layer) w->at.layer = -1;
      else if (w->at.point == MA_AT_IN) w->at.layer = 0;
    }
  } while (!ma_point_exists(w->spec, w->at.point));
  return true;
}

/* ---- "did you mean" ---- */

/* Levenshtein distance, names being short. */
static int distance(const char *a, const char *b) {
  int row[MA_PLACE_NAME + 1];
  int n = (int)strlen(b);
  if (n > MA_PLACE_NAME) return MA_PLACE_NAME;
  for (int j = 0; j <= n; j++) row[j] = j;
  for (int i = 1; *a; a++, i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= n; j++) {
      int change = diagonal + (*a != b[j - 1]);
      diagonal = row[j];
      int edit = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
      row[j] = change < edit ? change : edit;
    }
  }
  return row[n];
}

static ma_status no_such_point(const ma_spec *spec, const char *pattern, ma_error *err) {
  int layer = -1, used = 0;
  if (sscanf(pattern, "layers.%d.%n", &layer, &used) == 1 && used > 0) {
    if (layer < 0 || layer >= spec->n_layers)
      return ma_fail(err, MA_BAD_ARGUMENT, "no point '%s': the model has layers 0 to %lld", pattern,
                     (long long)spec->n_layers - 1);
    if (strcmp(pattern + used, "mid") == 0)
      return ma_fail(err, MA_BAD_ARGUMENT,
                     "no point '%s': in a parallel block out = in + attn.out + mlp.out, nothing lies "
                     "between; see layers.%d.attn.out and layers.%d.mlp.out",
                     pattern, layer, layer);
    bool is_inside = strcmp(pattern + used, "mlp.gate") == 0 || strcmp(pattern + used, "mlp.up") == 0 ||
                     strcmp(pattern + used, "mlp.act") == 0;
    if (is_inside && spec->n_experts > 0)
      return ma_fail(err, MA_BAD_ARGUMENT,
                     "no point '%s': each expert sees tokens of its own; see layers.%d.mlp.router, "
                     "layers.%d.mlp.experts and layers.%d.mlp.proj",
                     pattern, layer, layer, layer);
    if (strcmp(pattern + used, "mlp.gate") == 0)
      return ma_fail(err, MA_BAD_ARGUMENT,
                     "no point '%s': this MLP has no gate; see layers.%d.mlp.up and layers.%d.mlp.act", pattern, layer,
                     layer);
  }
  char name[MA_PLACE_NAME], nearest[MA_PLACE_NAME] = "";
  int least = MA_PLACE_NAME;
  for (walk w = {spec, {MA_AT_EMBED, -1}};;) {
    int d = distance(pattern, ma_place_name(name, w.at));
    if (d < least) {
      least = d;
      memcpy(nearest, name, sizeof nearest);
    }
    if (!walk_next(&w)) break;
  }
  return ma_fail(err, MA_BAD_ARGUMENT, "no point '%s'; did you mean '%s'?", pattern, nearest);
}

ma_status ma_places_match(ma_place **out, size_t *n, const ma_spec *spec, const char *pattern, ma_error *err) {
  ma_status st = MA_OK;
  ma_place *places = NULL;
  size_t count = 0;
  const char *end = pattern + strlen(pattern);
  char name[MA_PLACE_NAME];
  *out = NULL;
  *n = 0;
  MA_TRY(MA_NEW(&places, (size_t)spec->n_layers * MA_N_POINTS + MA_N_POINTS, err));
  for (walk w = {spec, {MA_AT_EMBED, -1}};;) {
    if (match(pattern, end, ma_place_name(name, w.at))) places[count++] = w.at;
    if (!walk_next(&w)) break;
  }
  if (count == 0) MA_TRY(no_such_point(spec, pattern, err));
  *out = places;
  *n = count;
  places = NULL;
done:
  ma_free(places);
  return st;
}

ma_status ma_place_parse(ma_place *out, const ma_spec *spec, const char *name, ma_error *err) {
  ma_status st = MA_OK;
  ma_place *places = NULL;
  size_t n;
  MA_TRY(ma_places_match(&places, &n, spec, name, err));
  if (n != 1) MA_TRY(ma_fail(err, MA_BAD_ARGUMENT, "'%s' names %zu points, one is wanted", name, n));
  *out = places[0];
done:
  ma_free(places);
  return st;
}
