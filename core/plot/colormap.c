/* Colour maps: tables of colours at equal steps with straight lines between them.
 *
 * YlGnBu: ColorBrewer 2.0 (Cynthia Brewer, Mark Harrower; Apache 2.0), sequential, nine classes, as the paper's figures
 * have it.  viridis and magma (Stefan van der Walt, Nathaniel Smith, Eric Firing), cividis (Nunez, Anderton, Renslow
 * 2018): perceptually uniform, CC0, every eighth of matplotlib's 256.  coolwarm (Moreland 2009): diverging, likewise.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "plot/plot_internal.h"

static const uint32_t ylgnbu[] = {0xFFFFD9, 0xEDF8B1, 0xC7E9B4, 0x7FCDBB, 0x41B6C4,
                                  0x1D91C0, 0x225EA8, 0x253494, 0x081D58};
static const uint32_t viridis[] = {
    0x440154, 0x470D60, 0x48186A, 0x482374, 0x472D7B, 0x453681, 0x424086, 0x3F4989, 0x3B528B, 0x375A8D, 0x33638D,
    0x2F6A8E, 0x2C728E, 0x297A8E, 0x26818E, 0x23898E, 0x21908C, 0x1F988B, 0x1F9F88, 0x21A685, 0x28AE80, 0x31B57B,
    0x3EBC74, 0x4CC26C, 0x5DC963, 0x6ECE58, 0x82D34C, 0x96D83F, 0xABDC32, 0xC0DF24, 0xD5E21A, 0xEAE51A, 0xFDE725};
static const uint32_t magma[] = {
    0x000004, 0x030311, 0x0A0822, 0x130D33, 0x1D1146, 0x28115A, 0x36106A, 0x430F76, 0x50127C, 0x5D177F, 0x691C81,
    0x762181, 0x822681, 0x8F2A81, 0x9C2E7F, 0xA9327D, 0xB63779, 0xC33B75, 0xCF4170, 0xDB486A, 0xE65163, 0xEE5C5E,
    0xF5695C, 0xF9785D, 0xFB8761, 0xFD9668, 0xFEA571, 0xFEB47B, 0xFEC387, 0xFED194, 0xFDE0A2, 0xFCEEB0, 0xFCFDBF};
static const uint32_t cividis[] = {
    0x00224E, 0x00285B, 0x002E6A, 0x043371, 0x1A386F, 0x273E6E, 0x32436D, 0x3B496C, 0x434E6C, 0x4B546C, 0x52596D,
    0x5A5F6E, 0x61656F, 0x686A71, 0x6F7073, 0x757676, 0x7C7B78, 0x848179, 0x8B8778, 0x938D78, 0x9B9376, 0xA39A75,
    0xABA072, 0xB3A670, 0xBBAD6C, 0xC3B469, 0xCCBA64, 0xD4C15F, 0xDDC958, 0xE6D051, 0xEFD748, 0xF8DF3C, 0xFEE838};
static const uint32_t coolwarm[] = {
    0x3B4CC0, 0x445ACC, 0x4D68D7, 0x5775E1, 0x6282EA, 0x6C8EF1, 0x779AF7, 0x82A5FB, 0x8DB0FE, 0x98B9FF, 0xA3C2FE,
    0xAEC9FC, 0xB8D0F9, 0xC2D5F4, 0xCCD9EE, 0xD5DBE6, 0xDDDDDD, 0xE5D8D1, 0xECD3C5, 0xF1CCB9, 0xF4C4AD, 0xF7BBA0,
    0xF7B194, 0xF7A687, 0xF49A7B, 0xF18D6F, 0xEC7F63, 0xE57058, 0xDE604D, 0xD55042, 0xCB3E38, 0xC0282F, 0xB40426};

struct ma_colormap {
  const char *name;
  const uint32_t *colors; /* 0xRRGGBB */
  int n;
  bool is_diverging;
};

#define MA_MAP(map, diverges) \
  { #map, map, (int)(sizeof map / sizeof map[0]), diverges }

const ma_colormap *ma_colormap_find(const char *name) {
  static const ma_colormap maps[] = {{"YlGnBu", ylgnbu, sizeof ylgnbu / sizeof ylgnbu[0], false},
                                     MA_MAP(viridis, false),
                                     MA_MAP(magma, false),
                                     MA_MAP(cividis, false),
                                     MA_MAP(coolwarm, true)};
  for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++)
    if (strcmp(maps[i].name, name) == 0) return &maps[i];
  return NULL;
}

bool ma_colormap_diverges(const ma_colormap *map) { return map->is_diverging; }

static ma_color unpack(uint32_t rgb) {
  return (ma_color){(rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0};
}

ma_color ma_colormap_at(const ma_colormap *map, double part) {
  double at = fmin(fmax(part, 0), 1) * (map->n - 1);
  int low = (int)fmin(at, map->n - 2);
  return ma_color_mix(unpack(map->colors[low]), unpack(map->colors[low + 1]), at - low);
}
