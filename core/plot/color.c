/* Colours by name. */
#include <stdio.h>
#include <string.h>

#include "plot/plot_internal.h"

bool ma_color_parse(ma_color *out, const char *name) {
  static const struct {
    const char *name;
    ma_color color;
  } known[] = {{"black", {0, 0, 0}},
               {"white", {1, 1, 1}},
               {"gray", {0.5, 0.5, 0.5}},
               {"grey", {0.5, 0.5, 0.5}},
               {"lightgray", {0.83, 0.83, 0.83}},
               {"whitesmoke", {0.96, 0.96, 0.96}},
               {"blue", {0, 0, 1}},
               {"royalblue", {0.25, 0.41, 0.88}},
               {"steelblue", {0.27, 0.51, 0.71}},
               {"navy", {0.1, 0.15, 0.45}},
               {"teal", {0.1, 0.55, 0.55}},
               {"green", {0.1, 0.55, 0.2}},
               {"olive", {0.5, 0.5, 0.1}},
               {"gold", {0.9, 0.7, 0.1}},
               {"orange", {1, 0.55, 0.1}},
               {"brown", {0.55, 0.34, 0.25}},
               {"red", {0.85, 0.1, 0.1}},
               {"crimson", {0.86, 0.08, 0.24}},
               {"pink", {0.89, 0.47, 0.76}},
               {"purple", {0.5, 0.25, 0.65}}};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (strcmp(known[i].name, name) != 0) continue;
    *out = known[i].color;
    return true;
  }
  unsigned rgb;
  if (strlen(name) != 7 || name[0] != '#' || strspn(name + 1, "0123456789abcdefABCDEF") != 6) return false;
  sscanf(name + 1, "%6x", &rgb);
  *out = (ma_color){(rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0};
  return true;
}

ma_color ma_color_mix(ma_color a, ma_color b, double part) {
  return (ma_color){a.r + part * (b.r - a.r), a.g + part * (b.g - a.g), a.b + part * (b.b - a.b)};
}

void ma_set_color(cairo_t *cr, ma_color c, double alpha) { cairo_set_source_rgba(cr, c.r, c.g, c.b, alpha); }
