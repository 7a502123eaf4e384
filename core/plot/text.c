/* Text through Pango: one serif face, other scripts from whatever font has them.  What cannot be shown is spelled out,
 * never a box: bytes that are no UTF-8 and control characters as <0x07>, characters that no font has as <U+4F60>. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "plot/plot_internal.h"

enum { TEXT_BYTES = 1024 };

ma_label ma_plain(const char *text) { return (ma_label){.text = (char *)(uintptr_t)text}; }

/* ---- what can be shown ---- */

typedef struct spelling {
  char text[TEXT_BYTES + 16];
  size_t n;
} spelling;

static bool spell(spelling *s, const char *text, size_t n) {
  if (s->n + n > TEXT_BYTES) return false;
  memcpy(s->text + s->n, text, n);
  s->n += n;
  return true;
}

static bool spell_byte(spelling *s, unsigned char byte) {
  char text[8];
  return spell(s, text, (size_t)snprintf(text, sizeof text, "<0x%02X>", byte));
}

static void end_spelling(spelling *s, bool is_whole) {
  const char *ellipsis = is_whole ? "" : "\xE2\x80\xA6";
  strcpy(s->text + s->n, ellipsis); /* fits: TEXT_BYTES + 16 */
}

static void spell_visible(spelling *s, const char *text) {
  size_t left = strlen(text);
  bool is_whole = true;
  s->n = 0;
  while (left > 0 && is_whole) {
    unsigned char c = (unsigned char)*text;
    size_t n = ma_utf8_sequence(text, left);
    /* U+0080 to U+009F are controls as well. */
    bool is_control = (c < 0x20 && c != '\n') || c == 0x7F || (c == 0xC2 && n == 2 && (unsigned char)text[1] < 0xA0);
    if (n == 0 || (is_control && n == 1)) is_whole = spell_byte(s, c), n = 1;
    else if (is_control) is_whole = spell_byte(s, (unsigned char)text[1]);
    else is_whole = spell(s, text, n);
    text += n;
    left -= n;
  }
  end_spelling(s, is_whole);
}

/* Replaces the characters that no font has, asked one at a time. */
static void spell_unknown(spelling *s, PangoLayout *layout) {
  spelling old = *s;
  bool is_whole = true;
  s->n = 0;
  for (const char *c = old.text; *c && is_whole; c = g_utf8_next_char(c)) {
    size_t n = (size_t)(g_utf8_next_char(c) - c);
    pango_layout_set_text(layout, c, (int)n);
    if (n > 1 && pango_layout_get_unknown_glyphs_count(layout) > 0) {
      char code[16];
      is_whole = spell(s, code, (size_t)snprintf(code, sizeof code, "<U+%04X>", g_utf8_get_char(c)));
    } else {
      is_whole = spell(s, c, n);
    }
  }
  end_spelling(s, is_whole);
}

/* ---- layout ---- */

static void set_font(PangoLayout *layout, double size, bool is_bold) {
  PangoFontDescription *font = pango_font_description_from_string("DejaVu Serif,serif");
  pango_font_description_set_absolute_size(font, size * PANGO_SCALE);
  if (is_bold) pango_font_description_set_weight(font, PANGO_WEIGHT_BOLD);
  pango_layout_set_font_description(layout, font);
  pango_font_description_free(font);
}

static ma_extent set_text(ma_canvas *canvas, const ma_label *label, ma_text_style style, spelling *s) {
  PangoLayout *layout = canvas->layout;
  PangoRectangle box;
  set_font(layout, style.size, label->is_bold);
  pango_layout_set_width(layout, -1);
  pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_NONE);
  spell_visible(s, label->text ? label->text : "");
  pango_layout_set_text(layout, s->text, -1);
  if (pango_layout_get_unknown_glyphs_count(layout) > 0) {
    spell_unknown(s, layout);
    pango_layout_set_text(layout, s->text, -1);
  }
  pango_layout_set_alignment(layout, style.h < 0.25   ? PANGO_ALIGN_LEFT
                                     : style.h > 0.75 ? PANGO_ALIGN_RIGHT
                                                      : PANGO_ALIGN_CENTER);
  pango_layout_get_extents(layout, NULL, &box);
  if (style.limit > 0 && box.width > style.limit * PANGO_SCALE) {
    pango_layout_set_width(layout, (int)(style.limit * PANGO_SCALE));
    pango_layout_set_height(layout, -(style.lines > 0 ? style.lines : 1));
    pango_layout_set_wrap(layout, PANGO_WRAP_WORD_CHAR);
    pango_layout_set_ellipsize(layout, PANGO_ELLIPSIZE_END);
    pango_layout_get_extents(layout, NULL, &box);
  }
  return (ma_extent){(double)box.width / PANGO_SCALE, (double)box.height / PANGO_SCALE};
}

ma_extent ma_text_measure(ma_canvas *canvas, const ma_label *label, ma_text_style style) {
  spelling s;
  return set_text(canvas, label, style, &s);
}

static void note_text(ma_canvas *canvas, const char *text) {
  ma_texts *texts = canvas->texts;
  if (!texts || canvas->st != MA_OK) return;
  if (texts->n == texts->capacity) {
    size_t capacity = texts->capacity ? 2 * texts->capacity : 32;
    ma_canvas_check(canvas, ma_resize((void **)&texts->at, capacity, sizeof *texts->at, canvas->err));
    if (canvas->st != MA_OK) return;
    texts->capacity = capacity;
  }
  ma_canvas_check(canvas, ma_strdup(&texts->at[texts->n], text, canvas->err));
  if (canvas->st == MA_OK) texts->n++;
}

void ma_text_put(ma_canvas *canvas, const ma_label *label, double x, double y, ma_text_style style) {
  spelling s;
  PangoRectangle box;
  cairo_t *cr = canvas->cr;
  if (!label->text || !*label->text || !isfinite(x + y)) return;
  ma_extent extent = set_text(canvas, label, style, &s);
  note_text(canvas, s.text);
  pango_layout_get_extents(canvas->layout, NULL, &box); /* its left edge, where lines are aligned within a width */
  cairo_save(cr);
  cairo_translate(cr, x, y);
  cairo_rotate(cr, style.angle);
  cairo_move_to(cr, -style.h * extent.width - (double)box.x / PANGO_SCALE, -style.v * extent.height);
  ma_set_color(cr, label->color, 1);
  pango_cairo_show_layout(cr, canvas->layout);
  cairo_restore(cr);
}

void ma_texts_release(ma_texts *texts) {
  for (size_t i = 0; i < texts->n; i++) ma_free(texts->at[i]);
  ma_free(texts->at);
  *texts = (ma_texts){0};
}

/* ---- numbers ---- */

#define MINUS "\xE2\x88\x92"

/* Appends a number that printf wrote, with a real minus sign. */
static void append(char text[MA_NUMBER_TEXT], const char *number) {
  size_t n = strlen(text);
  snprintf(text + n, MA_NUMBER_TEXT - n, "%s%s", *number == '-' ? MINUS : "", number + (*number == '-'));
}

void ma_fixed_text(char text[MA_NUMBER_TEXT], double value, int decimals) {
  char number[MA_NUMBER_TEXT];
  text[0] = '\0';
  snprintf(number, sizeof number, "%.*f", decimals, value);
  if (number[0] == '-' && strspn(number + 1, "0.") == strlen(number + 1)) memmove(number, number + 1, strlen(number));
  append(text, number);
}

void ma_power_text(char text[MA_NUMBER_TEXT], double mantissa, int decimals, int exponent) {
  static const char *digits[] = {"\xE2\x81\xB0", "\xC2\xB9",     "\xC2\xB2",     "\xC2\xB3",     "\xE2\x81\xB4",
                                 "\xE2\x81\xB5", "\xE2\x81\xB6", "\xE2\x81\xB7", "\xE2\x81\xB8", "\xE2\x81\xB9"};
  char number[16];
  bool is_power = fabs(mantissa) == 1 && decimals == 0;
  ma_fixed_text(text, mantissa, decimals);
  if (is_power) text[strlen(text) - 1] = '\0';
  else strcat(text, "\xC3\x97");
  strcat(text, "10");
  if (exponent < 0) strcat(text, "\xE2\x81\xBB");
  snprintf(number, sizeof number, "%d", exponent < 0 ? -exponent : exponent);
  for (const char *c = number; *c; c++) strcat(text, digits[*c - '0']);
}

void ma_number_text(char text[MA_NUMBER_TEXT], double value) {
  double size = fabs(value);
  char number[MA_NUMBER_TEXT];
  text[0] = '\0';
  if (size != 0 && (size >= 999999.5 || size < 1e-3)) {
    int exponent = (int)floor(log10(size));
    double mantissa = value / pow(10, exponent);
    if (fabs(mantissa) >= 9.995) mantissa /= 10, exponent++;
    ma_power_text(text, mantissa, 2, exponent);
  } else if (size >= 1) {
    ma_fixed_text(text, value, size >= 9999.5 ? 0 : size >= 999.95 ? 1 : 2);
  } else {
    snprintf(number, sizeof number, "%.3g", value);
    append(text, number);
  }
}
