/* Regular expressions of tokenizer.json are Oniguruma's (its Ruby syntax, doc/RE); PCRE2 reads most of it alike and some
 * of it otherwise.  This writes them so that PCRE2 matches what Oniguruma would:
 *
 *   \s \w \d \h \v \b       as Unicode classes of their own: PCRE2's \s has U+180E, its \w no marks, its \h blanks
 *   \p{Han}                 \p{sc:Han}: a bare script is its extensions in PCRE2
 *   [a[bc]] [a&&[^b]]       union and intersection of classes, by lookahead where need be
 *   x{2}+ x{2}? x{,2}       a repeated group, an optional group, zero to two
 *   (?m) a(?i)b|c           dot matches newlines; an option holds to the end of its group, over alternatives
 *   (...) (?<name>...)      groups capture nothing: no back reference is accepted
 *
 * What is not listed here or plainly the same in both is an error that names it. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "text/text_internal.h"

enum { MAX_DEPTH = 100 };

typedef struct group {
  size_t start; /* where it begins in the output */
  int extra;    /* parentheses that options opened inside */
  bool is_caseless;
} group;

typedef struct translator {
  const char *text;
  size_t length, at;
  ma_text *out;
  group groups[MAX_DEPTH];
  int depth;
  size_t atom; /* where what a quantifier repeats begins in the output */
  bool has_atom;
  int32_t last_literal; /* 0: the last atom is no plain character */
  ma_error *err;
} translator;

static ma_status lacks(const translator *t, const char *what) {
  return ma_fail(t->err, MA_UNSUPPORTED, "%s is not supported (character %zu)", what, t->at);
}

static ma_status put(translator *t, const char *text) { return ma_text_add(t->out, text, strlen(text), t->err); }

static bool next_is(const translator *t, const char *text) {
  size_t n = strlen(text);
  return t->length - t->at >= n && memcmp(t->text + t->at, text, n) == 0;
}

/* ---- classes with a name ---- */

#define WORD          "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define LATIN_NUMBERS "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}" /* in \w, not in [:word:] */
#define SPACE         "\\t-\\r \\x{85}\\p{Z}"

static const struct {
  const char *name, *items;
} named[] = {
    {"alpha", "\\p{Alphabetic}"},
    {"digit", "\\p{Nd}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"space", SPACE},
    {"upper", "\\p{Uppercase}"},
    {"lower", "\\p{Lowercase}"},
    {"punct", "\\p{P}\\p{S}"},
    {"word", WORD},
    {"cntrl", "\\p{Cc}"},
    {"xdigit", "0-9a-fA-F"},
    {"white_space", SPACE},
};

/* Properties that both know by the same name, besides the one- and two-letter categories. */
static const char *const properties[] = {
    "Alphabetic", "Uppercase", "Lowercase", "Join_Control", "Ideographic", "Emoji", "Extended_Pictographic", "Any"};

/* Items of a class for the letter behind a backslash; NULL: none such. */
static const char *shorthand(char c) {
  switch (c) {
    case 's':
    case 'S': return SPACE;
    case 'w':
    case 'W': return WORD LATIN_NUMBERS;
    case 'd':
    case 'D': return "\\p{Nd}";
    case 'h':
    case 'H': return "0-9a-fA-F";
    default: return NULL;
  }
}

/* \p{...}, \p{^...}, \P{...}: `at` is behind the p.  *items is for use in a class. */
static ma_status read_property(translator *t, char letter, char items[96], bool *is_negated) {
  char name[64];
  *is_negated = letter == 'P';
  const char *open = t->text + t->at,
             *close = t->at < t->length && *open == '{' ? memchr(open, '}', t->length - t->at) : NULL;
  if (!close) return lacks(t, "\\p without braces");
  size_t n = (size_t)(close - open) - 1;
  open++;
  if (n && *open == '^') {
    *is_negated = !*is_negated;
    open++;
    n--;
  }
  if (n == 0 || n >= sizeof name) return lacks(t, "a property of that name");
  memcpy(name, open, n);
  name[n] = '\0';
  if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") != n)
    return lacks(t, "a property of that name");
  t->at = (size_t)(close - t->text) + 1;
  if (strcasecmp(name, "punct") == 0) return snprintf(items, 96, "\\p{P}"), MA_OK; /* [:punct:] has symbols, too */
  for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
    if (strcasecmp(name, named[i].name) == 0) return snprintf(items, 96, "%s", named[i].items), MA_OK;
  bool is_category = n <= 2;
  for (size_t i = 0; i < sizeof properties / sizeof properties[0]; i++)
    is_category |= strcasecmp(name, properties[i]) == 0;
  snprintf(items, 96, "\\p{%s%s}", is_category ? "" : "sc:", name);
  return MA_OK;
}

/* ---- single characters ---- */

static ma_status read_hex(translator *t, size_t n_digits, bool in_braces, int32_t *out) {
  int32_t value = 0;
  size_t n = 0;
  for (; t->at < t->length && n < n_digits; t->at++, n++) {
    char c = t->text[t->at];
    int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    if (digit < 0) break;
    value = 16 * value + digit;
  }
  if (in_braces && !(t->at < t->length && t->text[t->at++] == '}')) return lacks(t, "\\x{...} of that kind");
  if (n == 0 || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
    return lacks(t, "a hexadecimal character of that kind");
  *out = value;
  return MA_OK;
}

/* What a backslash stands for, where that is one character; `at` is behind the backslash. */
static ma_status read_escaped(translator *t, int32_t *out) {
  static const char letters[] = "ntrfvae", values[] = "\n\t\r\f\v\a\x1B";
  char c = t->text[t->at];
  const char *hit = strchr(letters, c);
  if (c && hit) {
    *out = values[hit - letters];
    t->at++;
    return MA_OK;
  }
  if (c == 'x') {
    t->at++;
    bool in_braces = next_is(t, "{");
    t->at += in_braces;
    return read_hex(t, in_braces ? 8 : 2, in_braces, out);
  }
  if (c == 'u') {
    t->at++;
    if (t->length - t->at < 4) return lacks(t, "\\u without four digits");
    return read_hex(t, 4, false, out);
  }
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (uint8_t)c >= 0x80 || !c) {
    char what[] = {'\\', c && (uint8_t)c < 0x80 ? c : '?', '\0'};
    return lacks(t, what);
  }
  *out = c;
  t->at++;
  return MA_OK;
}

static ma_status read_character(translator *t, int32_t *out) {
  utf8proc_int32_t c;
  utf8proc_ssize_t n =
      utf8proc_iterate((const utf8proc_uint8_t *)t->text + t->at, (utf8proc_ssize_t)(t->length - t->at), &c);
  if (n < 1) return lacks(t, "text that is not UTF-8");
  t->at += (size_t)n;
  if (c != '\\') {
    *out = c;
    return MA_OK;
  }
  if (t->at >= t->length) return lacks(t, "a backslash at the end");
  return read_escaped(t, out);
}

static ma_status put_character(ma_text *out, int32_t c, ma_error *err) {
  char text[16];
  int n = snprintf(text, sizeof text, "\\x{%X}", (unsigned)c);
  return ma_text_add(out, text, (size_t)n, err);
}

/* ---- classes in brackets ---- */

/* One operand of &&: plain items, and whole expressions for the rest. */
typedef struct operand {
  ma_text items, others;
} operand;

static ma_status add_text(translator *t, ma_text *out, const char *text) {
  return ma_text_add(out, text, strlen(text), t->err);
}

static ma_status add_other(translator *t, operand *o, const char *before, const char *items, const char *after) {
  ma_status st = MA_OK;
  if (o->others.length) MA_TRY(add_text(t, &o->others, "|"));
  MA_TRY(add_text(t, &o->others, before));
  MA_TRY(add_text(t, &o->others, items));
  MA_TRY(add_text(t, &o->others, after));
done:
  return st;
}

/* The operand as an expression that matches one character. */
static ma_status add_operand(translator *t, ma_text *out, const operand *o) {
  ma_status st = MA_OK;
  if (!o->items.length && !o->others.length) return lacks(t, "an empty class");
  if (o->others.length) MA_TRY(add_text(t, out, "(?:"));
  if (o->items.length) {
    MA_TRY(add_text(t, out, "["));
    MA_TRY(ma_text_add(out, o->items.data, o->items.length, t->err));
    MA_TRY(add_text(t, out, o->others.length ? "]|" : "]"));
  }
  if (o->others.length) {
    MA_TRY(ma_text_add(out, o->others.data, o->others.length, t->err));
    MA_TRY(add_text(t, out, ")"));
  }
done:
  return st;
}

static ma_status read_class(translator *t, int depth, operand *into, ma_text *out);

/* A character, a range, an escape, [:name:] or a nested class. */
static ma_status read_item(translator *t, int depth, operand *o) {
  ma_status st = MA_OK;
  int32_t from, to;
  if (next_is(t, "[:")) {
    t->at += 2;
    bool is_negated = next_is(t, "^");
    t->at += is_negated;
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
      size_t n = strlen(named[i].name);
      if (!next_is(t, named[i].name) || t->length - t->at < n + 2 || memcmp(t->text + t->at + n, ":]", 2) != 0)
        continue;
      t->at += n + 2;
      return is_negated ? add_other(t, o, "[^", named[i].items, "]") : add_text(t, &o->items, named[i].items);
    }
    return lacks(t, "a POSIX class of that name");
  }
  if (next_is(t, "[")) return read_class(t, depth + 1, o, NULL);
  if (next_is(t, "\\") && t->at + 1 < t->length) {
    char c = t->text[t->at + 1], property[96];
    const char *items = shorthand(c);
    bool is_negated = c >= 'A' && c <= 'Z';
    if (c == 'p' || c == 'P') {
      t->at += 2;
      MA_TRY(read_property(t, c, property, &is_negated));
      items = property;
    } else if (items) {
      t->at += 2;
    }
    if (items) return is_negated ? add_other(t, o, "[^", items, "]") : add_text(t, &o->items, items);
    if (c == 'b') return lacks(t, "\\b in a class");
  }
  MA_TRY(read_character(t, &from));
  MA_TRY(put_character(&o->items, from, t->err));
  bool is_range = next_is(t, "-") && t->at + 1 < t->length && t->text[t->at + 1] != ']' && t->text[t->at + 1] != '[';
  if (is_range && t->text[t->at + 1] == '\\' && t->at + 2 < t->length)
    is_range = !shorthand(t->text[t->at + 2]) && t->text[t->at + 2] != 'p' && t->text[t->at + 2] != 'P';
  if (!is_range || t->text[t->at + 1] == '&') return MA_OK;
  t->at++;
  MA_TRY(read_character(t, &to));
  if (to < from) return lacks(t, "a range that runs backwards");
  MA_TRY(add_text(t, &o->items, "-"));
  MA_TRY(put_character(&o->items, to, t->err));
done:
  return st;
}

/* `at` is on the bracket.  A class of plain items inside another adds its items to `into`, others an expression;
 * the outermost is appended to `out`. */
static ma_status read_class(translator *t, int depth, operand *into, ma_text *out) {
  ma_status st = MA_OK;
  operand o = {0};
  ma_text before = {0}, whole = {0}; /* the operands before the last, as lookaheads */
  if (depth > 20) return lacks(t, "a class nested deeper than 20");
  t->at++;
  bool is_negated = next_is(t, "^");
  t->at += is_negated;
  if (next_is(t, "]")) return lacks(t, "a class that begins with ]");
  while (t->at < t->length && t->text[t->at] != ']') {
    if (!next_is(t, "&&")) {
      MA_TRY(read_item(t, depth, &o));
      continue;
    }
    t->at += 2;
    MA_TRY(add_text(t, &before, "(?="));
    MA_TRY(add_operand(t, &before, &o));
    MA_TRY(add_text(t, &before, ")"));
    o.items.length = o.others.length = 0;
  }
  if (t->at >= t->length) MA_TRY(lacks(t, "a class without its end"));
  t->at++;
  bool is_plain = !o.others.length && !before.length && o.items.length;
  /* Without case Oniguruma adds the other case to the result of the whole, PCRE2 to each part. */
  if (t->groups[t->depth].is_caseless && (before.length || (into && is_negated)))
    MA_TRY(lacks(t, "a class with && or a negated one inside, without case,"));
  if (is_plain && !is_negated && into) {
    MA_TRY(ma_text_add(&into->items, o.items.data, o.items.length, t->err));
    goto done;
  }
  if (is_plain) {
    MA_TRY(add_text(t, &whole, is_negated ? "[^" : "["));
    MA_TRY(ma_text_add(&whole, o.items.data, o.items.length, t->err));
    MA_TRY(add_text(t, &whole, "]"));
  } else {
    MA_TRY(add_text(t, &whole, is_negated ? "(?:(?!" : "(?:"));
    if (before.length) MA_TRY(ma_text_add(&whole, before.data, before.length, t->err));
    MA_TRY(add_operand(t, &whole, &o));
    MA_TRY(add_text(t, &whole, is_negated ? ")[\\x{0}-\\x{10FFFF}])" : ")"));
  }
  if (into) MA_TRY(add_other(t, into, "", whole.data, ""));
  else MA_TRY(ma_text_add(out, whole.data, whole.length, t->err));
done:
  ma_text_release(&o.items);
  ma_text_release(&o.others);
  ma_text_release(&before);
  ma_text_release(&whole);
  return st;
}

/* ---- groups ---- */

static ma_status open_group(translator *t, const char *text, bool is_caseless) {
  if (t->depth + 1 >= MAX_DEPTH) return lacks(t, "nesting that deep");
  t->groups[++t->depth] = (group){.start = t->out->length, .is_caseless = is_caseless};
  t->has_atom = false;
  t->last_literal = 0;
  return put(t, text);
}

static ma_status close_group(translator *t) {
  ma_status st = MA_OK;
  for (int i = 0; i < t->groups[t->depth].extra; i++) MA_TRY(put(t, ")"));
  t->last_literal = 0;
done:
  return st;
}

/* (?imx-imx) or (?imx-imx:...); `at` is behind the question mark. */
static ma_status read_options(translator *t) {
  ma_status st = MA_OK;
  bool turns_on = true, is_caseless = t->groups[t->depth].is_caseless;
  char text[32] = "(?", off[8] = "";
  size_t n = 2, m = 0;
  for (; t->at < t->length && t->text[t->at] != ')' && t->text[t->at] != ':'; t->at++) {
    char c = t->text[t->at];
    if (c == '-' && turns_on) {
      turns_on = false;
      continue;
    }
    if ((c != 'i' && c != 'm') || n > 8 || m > 4) return lacks(t, "a group or option of that kind");
    if (c == 'i') is_caseless = turns_on;
    char option = c == 'm' ? 's' : 'i';
    if (turns_on) text[n++] = option;
    else off[m++] = option;
  }
  if (t->at >= t->length) return lacks(t, "a group without its end");
  bool is_scoped = t->text[t->at++] == ':';
  off[m] = '\0';
  snprintf(text + n, sizeof text - n, "%s%s:", m ? "-" : "", off);
  if (is_scoped) return open_group(t, text, is_caseless);
  group *g = &t->groups[t->depth];
  if (g->extra > 8) return lacks(t, "that many options in a group");
  g->extra++;
  g->is_caseless = is_caseless;
  t->has_atom = false;
  t->last_literal = 0;
  MA_TRY(put(t, text));
done:
  return st;
}

static ma_status read_group(translator *t) {
  static const char *const same[] = {"?:", "?=", "?!", "?>", "?<=", "?<!"};
  bool is_caseless = t->groups[t->depth].is_caseless;
  t->at++;
  if (!next_is(t, "?")) return next_is(t, "*") ? lacks(t, "(*...)") : open_group(t, "(?:", is_caseless);
  for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
    char text[8];
    if (!next_is(t, same[i])) continue;
    t->at += strlen(same[i]);
    snprintf(text, sizeof text, "(%s", same[i]);
    return open_group(t, text, is_caseless);
  }
  if (next_is(t, "?<")) {
    const char *end = memchr(t->text + t->at, '>', t->length - t->at);
    if (!end) return lacks(t, "a group name without its end");
    t->at = (size_t)(end - t->text) + 1;
    return open_group(t, "(?:", is_caseless);
  }
  if (next_is(t, "?#")) {
    const char *end = memchr(t->text + t->at, ')', t->length - t->at);
    if (!end) return lacks(t, "a comment without its end");
    t->at = (size_t)(end - t->text) + 1;
    return MA_OK;
  }
  t->at++;
  return read_options(t);
}

/* ---- quantifiers ---- */

/* Puts (?: ) around the last atom with its quantifier. */
static ma_status wrap(translator *t) {
  ma_status st = put(t, "(?:)");
  if (st != MA_OK) return st;
  char *from = t->out->data + t->atom;
  memmove(from + 3, from, t->out->length - t->atom - 4);
  memcpy(from, "(?:", 3);
  return MA_OK;
}

/* {n}, {n,}, {n,m}, {,m}; anything else in braces is text. */
static ma_status read_interval(translator *t, bool *is_interval) {
  ma_status st = MA_OK;
  char text[32];
  size_t end = t->at + 1, n_digits = 0, comma = 0;
  for (; end < t->length && t->text[end] != '}' && end - t->at < 16; end++) {
    if (t->text[end] == ',' && !comma) comma = end;
    else if (t->text[end] >= '0' && t->text[end] <= '9') n_digits++;
    else break;
  }
  *is_interval = end < t->length && t->text[end] == '}' && n_digits > 0;
  if (!*is_interval) return MA_OK;
  if (!t->has_atom) return lacks(t, "a quantifier of nothing or of a quantifier");
  bool lacks_from = comma == t->at + 1;
  snprintf(text, sizeof text, "{%s%.*s", lacks_from ? "0" : "", (int)(end - t->at), t->text + t->at + 1);
  MA_TRY(put(t, text));
  t->at = end + 1;
  if (next_is(t, "+") || (!comma && next_is(t, "?"))) return wrap(t); /* the next one repeats the group */
  t->has_atom = false;
  if (next_is(t, "?")) {
    t->at++;
    MA_TRY(put(t, "?"));
  }
done:
  return st;
}

static ma_status read_quantifier(translator *t) {
  char text[3] = {t->text[t->at++], '\0', '\0'};
  if (!t->has_atom) return lacks(t, "a quantifier of nothing or of a quantifier");
  if (next_is(t, "?") || next_is(t, "+")) text[1] = t->text[t->at++];
  t->has_atom = false;
  return put(t, text);
}

/* ---- atoms ---- */

static void start_atom(translator *t) {
  t->atom = t->out->length;
  t->has_atom = true;
}

static ma_status read_backslash(translator *t) {
  static const char word[] = "[" WORD LATIN_NUMBERS "]";
  ma_status st = MA_OK;
  char c = t->at + 1 < t->length ? t->text[t->at + 1] : '\0', property[96], text[512];
  const char *items = shorthand(c);
  bool is_negated = c >= 'A' && c <= 'Z';
  start_atom(t);
  if (c == 'b' || c == 'B') {
    bool is_edge = c == 'b';
    snprintf(text, sizeof text, "(?:(?<=%s)(?%c%s)|(?<!%s)(?%c%s))", word, is_edge ? '!' : '=', word, word,
             is_edge ? '=' : '!', word);
    t->at += 2;
    t->last_literal = 0;
    return put(t, text);
  }
  if (c == 'A' || c == 'Z' || c == 'z' || c == 'R') {
    snprintf(text, sizeof text, "\\%c", c);
    t->at += 2;
    t->last_literal = 0;
    return put(t, text);
  }
  if (c == 'p' || c == 'P') {
    t->at += 2;
    MA_TRY(read_property(t, c, property, &is_negated));
    items = property;
  } else if (items) {
    t->at += 2;
  }
  if (items) {
    snprintf(text, sizeof text, "[%s%s]", is_negated ? "^" : "", items);
    t->last_literal = 0;
    return put(t, text);
  }
  int32_t character;
  MA_TRY(read_character(t, &character));
  t->last_literal = character;
  MA_TRY(put_character(t->out, character, t->err));
done:
  return st;
}

/* Without case Oniguruma lets "ss" match the sharp s and the like, which PCRE2 does not. */
static bool folds_to_several(int32_t before, int32_t character) {
  static const char *const pairs[] = {"ss", "ff", "fi", "fl", "st"};
  utf8proc_int32_t folded[8];
  int last_class = 0;
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
    if ((before | 32) == pairs[i][0] && (character | 32) == pairs[i][1]) return true;
  return character >= 0x80 && utf8proc_decompose_char(character, folded, 8, UTF8PROC_CASEFOLD, &last_class) > 1;
}

static ma_status read_literal(translator *t) {
  int32_t character;
  ma_status st = read_character(t, &character);
  if (st != MA_OK) return st;
  if (t->groups[t->depth].is_caseless && folds_to_several(t->last_literal, character))
    return lacks(t, "a character that is several without case");
  start_atom(t);
  t->last_literal = character;
  return put_character(t->out, character, t->err);
}

ma_status ma_regex_translate(ma_text *out, const char *regex, size_t length, ma_error *err) {
  ma_status st = MA_OK;
  translator t = {.text = regex, .length = length, .out = out, .err = err};
  MA_TRY(put(&t, ""));
  while (t.at < t.length) {
    bool is_interval = false;
    char c = t.text[t.at];
    switch (c) {
      case '(': MA_TRY(read_group(&t)); break;
      case ')':
        if (t.depth == 0) MA_TRY(lacks(&t, "a closing parenthesis alone"));
        MA_TRY(close_group(&t));
        MA_TRY(put(&t, ")"));
        t.atom = t.groups[t.depth--].start;
        t.has_atom = true;
        t.at++;
        break;
      case '|':
      case '^':
      case '$':
      case '.':
        start_atom(&t);
        t.has_atom = c == '.';
        t.last_literal = 0;
        MA_TRY(ma_text_add(out, &c, 1, err));
        t.at++;
        break;
      case '[':
        start_atom(&t);
        t.last_literal = 0;
        MA_TRY(read_class(&t, 0, NULL, out));
        break;
      case '*':
      case '+':
      case '?': MA_TRY(read_quantifier(&t)); break;
      case '{':
        MA_TRY(read_interval(&t, &is_interval));
        if (!is_interval) MA_TRY(read_literal(&t));
        break;
      case '\\': MA_TRY(read_backslash(&t)); break;
      default: MA_TRY(read_literal(&t));
    }
  }
  if (t.depth > 0) MA_TRY(lacks(&t, "a group without its end"));
  MA_TRY(close_group(&t));
done:
  return st;
}
