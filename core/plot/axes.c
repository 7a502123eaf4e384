/* Ranges, ticks and their texts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plot/plot_internal.h"

/* U+2212 for the hyphen that printf writes. */
static void real_minus(char *text, size_t size) {
  char copy[MA_TICK_TEXT];
  size_t at = 0;
  snprintf(copy, sizeof copy, "%s", text);
  for (const char *c = copy; *c && at + 4 < size; c++) {
    if (*c == '-') {
      memcpy(text + at, "\xE2\x88\x92", 3);
      at += 3;
    } else {
      text[at++] = *c;
    }
  }
  text[at] = '\0';
}

void ma_number_text(char text[MA_TICK_TEXT], double value) {
  double size = fabs(value);
  if (size != 0 && (size >= 1e6 || size < 1e-3)) {
    int exponent = (int)floor(log10(size));
    snprintf(text, MA_TICK_TEXT, "%.2fe%d", value / pow(10, exponent), exponent);
  } else if (size >= 1e4) {
    snprintf(text, MA_TICK_TEXT, "%.0f", value);
  } else if (size >= 1e3) {
    snprintf(text, MA_TICK_TEXT, "%.1f", value);
  } else if (size >= 1) {
    snprintf(text, MA_TICK_TEXT, "%.2f", value);
  } else {
    snprintf(text, MA_TICK_TEXT, "%.3g", value);
  }
  real_minus(text, MA_TICK_TEXT);
}

/* The step 1, 2 or 5 times a power of ten that gives about `wanted` ticks. */
static double nice_step(double range, int wanted) {
  double rough = range / wanted, power = pow(10, floor(log10(rough))), part = rough / power;
  return (part < 1.5 ? 1 : part < 3 ? 2 : part < 7 ? 5 : 10) * power;
}

static void add_tick(ma_axis *a, double value, const char *format) {
  if (a->n_ticks == MA_MAX_TICKS) return;
  a->ticks[a->n_ticks] = value;
  snprintf(a->texts[a->n_ticks], MA_TICK_TEXT, format, value);
  real_minus(a->texts[a->n_ticks++], MA_TICK_TEXT);
}

static void fit_linear(ma_axis *a, bool integers, int wanted) {
  double step = nice_step(a->high - a->low, wanted);
  if (integers && step < 1) step = 1;
  const char *format = step >= 1 && fabs(a->high) < 1e6 ? "%.0f" : "%g";
  for (double k = ceil(a->low / step - 1e-9); k * step <= a->high + 1e-9 * step; k++)
    add_tick(a, k == 0 ? 0 : k * step, format);
}

/* Decades, thinned out where there are many; 2 and 5 between them where there are few. */
static void fit_log(ma_axis *a) {
  int first = (int)ceil(log10(a->low) - 1e-9), last = (int)floor(log10(a->high) + 1e-9);
  int every = (last - first) / 8 + 1;
  for (int e = first - 1; e <= last; e++) {
    static const double parts[] = {1, 2, 5};
    for (int p = 0; p < (last - first < 2 ? 3 : 1); p++) {
      double value = parts[p] * pow(10, e);
      if (value < a->low * (1 - 1e-9) || value > a->high * (1 + 1e-9) || (p == 0 && (e - first) % every != 0)) continue;
      bool plain = value >= 1e-3 && value < 1e6;
      add_tick(a, value, plain ? "%g" : "%.0e");
      if (!plain && a->n_ticks) snprintf(a->texts[a->n_ticks - 1], MA_TICK_TEXT, "%ge%d", parts[p], e);
    }
  }
}

void ma_axis_fit(ma_axis *a, ma_scale scale, double low, double high, bool integers, int wanted) {
  *a = (ma_axis){.scale = scale, .low = low, .high = high};
  if (!(a->high > a->low)) {
    /* One value, or none: room on both sides of it. */
    double room = a->low == 0 ? 1 : fabs(a->low) * 0.5;
    a->low = scale == MA_SCALE_LOG ? low / 2 : low - room;
    a->high = scale == MA_SCALE_LOG ? low * 2 : low + room;
  }
  if (scale == MA_SCALE_LOG) fit_log(a);
  else fit_linear(a, integers, wanted);
}

double ma_axis_place(const ma_axis *a, double value) {
  double part = a->scale == MA_SCALE_LOG ? log(value / a->low) / log(a->high / a->low)
                                         : (value - a->low) / (a->high - a->low);
  return a->from + part * (a->to - a->from);
}
