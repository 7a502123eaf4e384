/* Ranges, scales and ticks: what an axis is before it has labels. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "plot/plot_internal.h"

/* What lies beyond is drawn here: differences stay finite, logarithms too. */
static const double HUGE_VALUE = 1e300, TINY_VALUE = 1e-300;

/* ---- spans ---- */

void ma_span_init(ma_span *span, const ma_axis_options *options) {
  *span = (ma_span){.scale = options->scale,
                    .low = INFINITY,
                    .high = -INFINITY,
                    .least = INFINITY,
                    .base = NAN,
                    .has_integers = options->has_integers};
}

static double within_reason(double value) { return fmin(fmax(value, -HUGE_VALUE), HUGE_VALUE); }

void ma_span_add(ma_span *span, double value) {
  if (!isfinite(value) || (span->scale == MA_SCALE_LOG && value <= 0)) return;
  value = within_reason(value);
  if (span->scale == MA_SCALE_LOG) value = fmax(value, TINY_VALUE);
  span->low = fmin(span->low, value);
  span->high = fmax(span->high, value);
  if (value != 0) span->least = fmin(span->least, fabs(value));
}

void ma_span_join(ma_span *span, const ma_span *other) {
  span->low = fmin(span->low, other->low);
  span->high = fmax(span->high, other->high);
  span->least = fmin(span->least, other->least);
  span->room_low = fmax(span->room_low, other->room_low);
  span->room_high = fmax(span->room_high, other->room_high);
  if (isnan(span->base)) span->base = other->base;
  if (!span->ticks) span->ticks = other->ticks;
  span->is_exact |= other->is_exact;
}

/* ---- places ---- */

bool ma_axis_takes(const ma_axis *a, double value) {
  return isfinite(value) && (a->scale != MA_SCALE_LOG || value > 0);
}

/* On a scale on which the axis is linear.  Symlog's linear part, -threshold .. threshold, is as long as two decades. */
static double scaled(const ma_axis *a, double value) {
  value = within_reason(value);
  if (a->scale == MA_SCALE_LOG) return log10(fmax(value, TINY_VALUE / 1e5));
  if (a->scale != MA_SCALE_SYMLOG) return value;
  double part = fabs(value) / a->threshold;
  return copysign(part <= 1 ? part : 1 + log10(part), value);
}

static double unscaled(const ma_axis *a, double at) {
  if (a->scale == MA_SCALE_LOG) return fmax(pow(10, at), TINY_VALUE / 1e5);
  if (a->scale != MA_SCALE_SYMLOG) return at;
  return copysign(a->threshold * (fabs(at) <= 1 ? fabs(at) : pow(10, fabs(at) - 1)), at);
}

double ma_axis_part(const ma_axis *a, double value) {
  double low = scaled(a, a->low);
  return (scaled(a, value) - low) / (scaled(a, a->high) - low);
}

double ma_axis_place(const ma_axis *a, double value) {
  /* Far outside is far enough: cairo counts in 24 bits. */
  double at = a->from + ma_axis_part(a, value) * (a->to - a->from);
  return fmin(fmax(at, -1e5), 1e5);
}

/* ---- ranges ---- */

static double lowest_of(double value, double decades) { return pow(10, floor(log10(value)) - decades); }

/* Room on both sides of what was seen, in parts of its length or as points. */
static void add_room(ma_axis *a, const ma_span *span) {
  double length = fabs(a->to - a->from), low = scaled(a, a->low), high = scaled(a, a->high);
  double part = span->is_exact ? 0 : 0.045, range = high - low;
  double below = isnan(span->base) ? part : 0, above = part;
  if (!isnan(span->base) && span->base >= a->high) below = part, above = 0; /* bars that hang */
  else if (!isnan(span->base) && a->low < span->base) below = part;
  if (span->room_low > 0) below = fmax(below, fmin(0.4, span->room_low / length));
  if (span->room_high > 0) above = fmax(above, fmin(0.4, span->room_high / length));
  double whole = range / (1 - below - above);
  double new_low = unscaled(a, low - below * whole), new_high = unscaled(a, high + above * whole);
  if (isfinite(new_low)) a->low = new_low;
  if (isfinite(new_high)) a->high = new_high;
}

static void set_range(ma_axis *a, const ma_span *span, const ma_axis_options *options) {
  bool is_log = a->scale == MA_SCALE_LOG, is_seen = span->low <= span->high;
  a->low = is_seen ? span->low : is_log ? 1 : 0;
  a->high = is_seen ? span->high : is_log ? 10 : 1;
  /* Bars stand on 0; on a log scale on what is a bit lower than the least of them. */
  if (!isnan(span->base) && is_log)
    a->low = fmin(a->low, span->base > 0 ? span->base : a->low / fmin(fmax(pow(a->high / a->low, 0.25), 1.5), 10));
  else if (!isnan(span->base)) a->low = fmin(a->low, span->base), a->high = fmax(a->high, span->base);
  if (!(a->high - a->low > 1e-12 * fmax(fabs(a->low), fabs(a->high)))) {
    /* One value, as far as ticks can tell: room on both sides of it. */
    double value = a->low, room = value == 0 ? 1 : fabs(value) * 0.5;
    a->low = is_log ? value / 2 : value - room;
    a->high = is_log ? value * 2 : value + room;
  }
  /* Six decades of small values are enough; what is smaller looks like 0. */
  double most = fmax(fabs(a->low), fabs(a->high));
  a->threshold = fmax(isfinite(span->least) ? lowest_of(span->least, 0) : 1, fmax(lowest_of(most, 6), 1e-300));
  add_room(a, span);
  if (!isnan(options->low) && (!is_log || options->low > 0))
    a->low = is_log ? fmax(options->low, TINY_VALUE) : within_reason(options->low);
  if (!isnan(options->high) && (!is_log || options->high > 0))
    a->high = is_log ? fmax(within_reason(options->high), TINY_VALUE) : within_reason(options->high);
  if (a->low == a->high) a->high = is_log ? a->low * 10 : a->low + fmax(1, fabs(a->low));
  if (span->is_reversed && a->low < a->high) {
    double low = a->low;
    a->low = a->high;
    a->high = low;
  }
}

/* ---- ticks ---- */

static ma_tick *add_tick(ma_axis *a, ma_canvas *canvas, double at) {
  if (canvas->st == MA_OK && a->n_ticks == a->capacity) {
    size_t capacity = a->capacity ? 2 * a->capacity : 16;
    ma_canvas_check(canvas, ma_resize((void **)&a->ticks, capacity, sizeof *a->ticks, canvas->err));
    if (canvas->st == MA_OK) a->capacity = capacity;
  }
  if (canvas->st != MA_OK) return NULL;
  a->ticks[a->n_ticks] = (ma_tick){.at = at};
  return &a->ticks[a->n_ticks++];
}

static double tick_low(const ma_axis *a) { return fmin(a->low, a->high); }
static double tick_high(const ma_axis *a) { return fmax(a->low, a->high); }

/* The step 1, 2 or 5 times a power of ten that gives about `wanted` ticks. */
static double nice_step(double range, int wanted) {
  double rough = range / wanted, power = pow(10, floor(log10(rough))), part = rough / power;
  return (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7 ? 5 : 10) * power;
}

static void linear_ticks(ma_axis *a, ma_canvas *canvas, bool integers, int wanted) {
  double low = tick_low(a), high = tick_high(a), step = nice_step(high - low, wanted);
  if (integers && step < 1) step = 1;
  if (!(step > 0) || !isfinite(step)) return;
  double most = fmax(fabs(low), fabs(high)), first = ceil(low / step - 1e-9);
  int exponent = (int)floor(log10(most)), decimals = (int)fmax(0, -floor(log10(step) + 1e-9));
  bool is_long = most >= 1e6 || most < 1e-3;
  int places = is_long ? (int)fmax(0, exponent - floor(log10(step) + 1e-9)) : decimals;
  for (int k = 0; k < 64 && (first + k) * step <= high + 1e-9 * step; k++) {
    double at = first + k == 0 ? 0 : (first + k) * step;
    ma_tick *tick = add_tick(a, canvas, at);
    if (!tick) return;
    if (is_long && at != 0) ma_power_text(tick->text, at / pow(10, exponent), places < 9 ? places : 9, exponent);
    else ma_fixed_text(tick->text, at, places < 20 && at != 0 ? places : 0);
  }
}

/* 10 to `exponent` times `digit`. */
static void power_tick(ma_axis *a, ma_canvas *canvas, double digit, int exponent, bool is_plain) {
  ma_tick *tick = add_tick(a, canvas, digit * pow(10, exponent));
  if (!tick) return;
  if (is_plain) ma_fixed_text(tick->text, tick->at, exponent < 0 ? -exponent : 0);
  else ma_power_text(tick->text, digit, 0, exponent);
}

static bool decades_are_plain(double low, double high) { return low >= 0.9e-3 && high < 1.1e5; }

static bool is_inside(const ma_axis *a, double value) {
  double slack = 1e-9;
  return ma_axis_part(a, value) >= -slack && ma_axis_part(a, value) <= 1 + slack;
}

/* Decades, thinned out where there are many; 2 and 5 between them where there are few.  Of these there are at least two where the
 * axis spans a factor of 5. */
static void log_ticks(ma_axis *a, ma_canvas *canvas, int wanted) {
  double low = tick_low(a), high = tick_high(a);
  int first = (int)ceil(log10(low) - 1e-9), last = (int)floor(log10(high) + 1e-9);
  int every = (last - first) / (wanted > 1 ? wanted : 1) + 1;
  bool is_plain = decades_are_plain(low, high);
  if (high / low < 5) {
    linear_ticks(a, canvas, false, wanted);
    return;
  }
  for (int e = first - 1; e <= last; e++) {
    for (int digit = 1; digit < 10; digit++) {
      double value = digit * pow(10, e);
      bool is_named = digit == 1 ? e % every == 0 : last - first < 2 && (digit == 2 || digit == 5);
      if (!is_inside(a, value)) continue;
      if (is_named) power_tick(a, canvas, digit, e, is_plain);
      else if (every == 1 && last - first < 8) {
        ma_tick *tick = add_tick(a, canvas, value);
        if (tick) tick->is_minor = true;
      }
    }
  }
}

static void symlog_ticks(ma_axis *a, ma_canvas *canvas, int wanted) {
  double most = fmax(fabs(a->low), fabs(a->high));
  int first = (int)floor(log10(a->threshold) + 0.5), last = (int)floor(log10(most) + 1e-9);
  bool both = tick_low(a) < 0 && tick_high(a) > 0;
  int every = (last - first) / (wanted > 4 ? wanted / (both ? 2 : 1) : 2) + 1;
  bool is_plain = decades_are_plain(a->threshold, most);
  for (int e = last; e >= first; e--)
    if ((last - e) % every == 0 && is_inside(a, -pow(10, e))) power_tick(a, canvas, -1, e, is_plain);
  if (is_inside(a, 0)) {
    ma_tick *tick = add_tick(a, canvas, 0);
    if (tick) strcpy(tick->text, "0");
  }
  for (int e = first; e <= last; e++)
    if ((last - e) % every == 0 && is_inside(a, pow(10, e))) power_tick(a, canvas, 1, e, is_plain);
}

static int by_place(const void *a, const void *b) {
  double x = ((const ma_tick *)a)->at, y = ((const ma_tick *)b)->at;
  return (x > y) - (x < y);
}

static void named_ticks(ma_axis *a, ma_canvas *canvas, const ma_ticks *ticks) {
  for (size_t i = 0; i < ticks->n; i++) {
    if (!ma_axis_takes(a, ticks->places[i]) || !is_inside(a, ticks->places[i])) continue;
    ma_tick *tick = add_tick(a, canvas, ticks->places[i]);
    if (tick) tick->label = &ticks->labels[i];
  }
  if (a->n_ticks > 1) qsort(a->ticks, a->n_ticks, sizeof *a->ticks, by_place);
}

void ma_axis_release(ma_axis *a) {
  ma_free(a->ticks);
  *a = (ma_axis){0};
}

void ma_axis_range(ma_axis *a, ma_canvas *canvas, const ma_span *span, const ma_axis_options *options, int wanted) {
  const ma_ticks *named = options->ticks.n > 0 ? &options->ticks : span->ticks;
  set_range(a, span, options);
  a->n_ticks = 0;
  if (named) named_ticks(a, canvas, named);
  else if (a->scale == MA_SCALE_LOG) log_ticks(a, canvas, wanted);
  else if (a->scale == MA_SCALE_SYMLOG) symlog_ticks(a, canvas, wanted);
  else linear_ticks(a, canvas, span->has_integers, wanted);
}
