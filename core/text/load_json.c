/* Tokenizers from tokenizer.json (Hugging Face tokenizers): each section by the components it names; one that is not
 * here is an error with its name.  `truncation` and `padding` are not read: they are how to batch, not how to encode. */
#include "text/load_json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/json.h"

enum { MAX_DEPTH = 32 };

/* ---- messages ---- */

ma_status ma_json_bad(const ma_json_reader *r, const char *format, ...) {
  char message[256];
  va_list list;
  va_start(list, format);
  vsnprintf(message, sizeof message, format, list);
  va_end(list);
  return ma_json_at(r, ma_fail(r->err, MA_BAD_FILE, "%s", message));
}

/* Tokens and patterns that a message quotes may have line ends in them. */
static void one_line(ma_error *err) {
  for (char *c = err ? err->message : NULL; c && *c; c++)
    if ((uint8_t)*c < 0x20 || *c == 0x7F) *c = '?';
}

ma_status ma_json_lacks(const ma_json_reader *r) {
  ma_fail(r->err, MA_UNSUPPORTED, "%s: %s '%.60s' is not supported", r->path, r->section, r->type);
  one_line(r->err);
  return MA_UNSUPPORTED;
}

ma_status ma_json_at(const ma_json_reader *r, ma_status st) {
  if (st == MA_OK) return MA_OK;
  if (r->type) ma_fail_at(r->err, "%s: %s '%.60s'", r->path, r->section, r->type);
  else ma_fail_at(r->err, "%s: %s", r->path, r->section);
  one_line(r->err);
  return st;
}

/* ---- fields ---- */

static const json_t *field(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  return json_is_null(value) ? NULL : value;
}

ma_status ma_json_flag(const ma_json_reader *r, const json_t *object, const char *key, bool otherwise, bool *out) {
  const json_t *value = field(object, key);
  *out = value ? json_is_true(value) : otherwise;
  return !value || json_is_boolean(value) ? MA_OK : ma_json_bad(r, "%s is neither true nor false", key);
}

ma_status ma_json_text(const ma_json_reader *r, const json_t *object, const char *key, const char **out) {
  const json_t *value = field(object, key);
  *out = json_string_value(value);
  if (!value) return MA_OK;
  if (!*out) return ma_json_bad(r, "%s is no string", key);
  return strlen(*out) == json_string_length(value) ? MA_OK : ma_json_bad(r, "%s has a NUL in it", key);
}

ma_status ma_json_needed(const ma_json_reader *r, const json_t *object, const char *key, const char **out) {
  ma_status st = ma_json_text(r, object, key, out);
  if (st != MA_OK) return st;
  return *out ? MA_OK : ma_json_bad(r, "%s is missing", key);
}

ma_status ma_json_count(const ma_json_reader *r, const json_t *object, const char *key, size_t *out) {
  const json_t *value = field(object, key);
  *out = 0;
  if (!value) return MA_OK;
  if (!json_is_integer(value) || json_integer_value(value) < 0) return ma_json_bad(r, "%s is no count", key);
  *out = (size_t)json_integer_value(value);
  return MA_OK;
}

ma_status ma_json_pattern(const ma_json_reader *r, const json_t *object, ma_pattern *out) {
  const json_t *pattern = field(object, "pattern"), *regex = field(pattern, "Regex"),
               *literal = field(pattern, "String");
  *out = (ma_pattern){0};
  if (json_is_string(regex) && !literal)
    return ma_json_at(r, ma_pattern_regex(out, json_string_value(regex), json_string_length(regex), r->err));
  if (json_is_string(literal) && !regex)
    return ma_json_at(r, ma_pattern_literal(out, json_string_value(literal), json_string_length(literal), r->err));
  return ma_json_bad(r, "pattern is neither {\"Regex\": ...} nor {\"String\": ...}");
}

ma_status ma_json_scheme(const ma_json_reader *r, const json_t *object, int *out) {
  static const char *const names[] = {"always", "first", "never"};
  const char *name;
  bool adds;
  ma_status st = ma_json_text(r, object, "prepend_scheme", &name);
  if (st == MA_OK) st = ma_json_flag(r, object, "add_prefix_space", true, &adds);
  if (st != MA_OK) return st;
  *out = adds ? MA_PREPEND_ALWAYS : MA_PREPEND_NEVER;
  if (!name) return MA_OK;
  if (!adds && strcmp(name, "never") != 0)
    return ma_json_bad(r, "add_prefix_space and prepend_scheme contradict each other");
  for (int i = 0; i < 3; i++)
    if (strcmp(name, names[i]) == 0) return *out = i, MA_OK;
  return ma_json_bad(r, "prepend_scheme '%.40s' is unknown", name);
}

bool ma_json_is(const ma_json_reader *r, const char *type) { return strcmp(r->type, type) == 0; }

/* ---- sections ---- */

static ma_status each(ma_json_reader *r, const json_t *component, const char *list, ma_json_component *one, int depth) {
  ma_status st = MA_OK;
  size_t i;
  json_t *item;
  r->type = NULL;
  if (!json_is_object(component)) return ma_json_bad(r, "a component is not an object");
  if (depth > MAX_DEPTH) return ma_json_bad(r, "Sequences are nested deeper than %d", MAX_DEPTH);
  MA_TRY(ma_json_needed(r, component, "type", &r->type));
  if (!ma_json_is(r, "Sequence")) return one(r, component);
  const json_t *items = json_object_get(component, list);
  if (!json_is_array(items)) return ma_json_bad(r, "%s is no list", list);
  json_array_foreach(items, i, item) MA_TRY(each(r, item, list, one, depth + 1));
done:
  return st;
}

ma_status ma_json_each(ma_json_reader *r, const json_t *root, const char *section, const char *list,
                       ma_json_component *one) {
  const json_t *component = field(root, section);
  r->section = section;
  ma_status st = component ? each(r, component, list, one, 0) : MA_OK;
  r->type = NULL;
  return st;
}

/* Tokens that are looked for in normalised text are normalised themselves. */
static ma_status normalize_added(ma_json_reader *r) {
  ma_status st = MA_OK;
  r->section = "added_tokens";
  for (size_t i = 0; i < r->t->n_added && st == MA_OK; i++) {
    ma_added *a = &r->t->added[i];
    ma_pieces pieces = {0};
    if (!a->is_normalized) continue;
    st = ma_text_add(&pieces.text, a->text, a->length, r->err);
    if (st == MA_OK) st = ma_pieces_add(&pieces, 0, a->length, r->err);
    if (st == MA_OK) st = ma_steps_apply(&r->t->normalizer, &pieces, r->err);
    if (st == MA_OK && pieces.text.length == 0)
      st = ma_json_bad(r, "the normalizer leaves nothing of '%.60s'", a->text);
    bool differs = pieces.text.length != a->length || memcmp(pieces.text.data, a->text, a->length) != 0;
    if (st == MA_OK && differs) {
      /* It is decoded as it was normalised, too. */
      st = ma_strndup(&r->t->vocabulary.tokens[a->id].decoded, pieces.text.data, pieces.text.length, r->err);
      ma_free(a->text);
      a->text = pieces.text.data;
      a->length = pieces.text.length;
      pieces.text = (ma_text){0};
    }
    ma_pieces_release(&pieces);
  }
  return st;
}

/* ByteLevel at the end, as always: pieces stay bytes, and the vocabulary is read as bytes instead. */
static void keep_bytes(ma_tokenizer *t) {
  ma_steps *s = &t->pre_tokenizer;
  for (size_t i = 0; i < t->normalizer.n; i++)
    if (t->normalizer.steps[i].kind == MA_STEP_ALPHABET) return;
  for (size_t i = 0; i + 1 < s->n; i++)
    if (s->steps[i].kind == MA_STEP_ALPHABET) return;
  if (s->n == 0 || s->steps[s->n - 1].kind != MA_STEP_ALPHABET) return;
  s->n--;
  t->is_byte_level = true;
}

/* ---- BOS and EOS: named by tokenizer_config.json beside, else what the template adds ---- */

static ma_status named_token(const ma_json_reader *r, const json_t *config, const char *key, int32_t *out) {
  const json_t *value = field(config, key);
  const char *name;
  ma_status st = json_is_object(value) ? ma_json_text(r, value, "content", &name) : ma_json_text(r, config, key, &name);
  if (st != MA_OK || !name) return st;
  int32_t id = ma_tokenizer_id(r->t, name, strlen(name));
  if (id >= 0) *out = id;
  return MA_OK;
}

static ma_status read_special(const ma_json_reader *of) {
  ma_status st = MA_OK;
  char path[4096];
  json_t *config = NULL;
  ma_tokenizer *t = of->t;
  const char *slash = strrchr(of->path, '/');
  snprintf(path, sizeof path, "%.*stokenizer_config.json", slash ? (int)(slash - of->path) + 1 : 0, of->path);
  ma_json_reader r = {.t = t, .path = path, .section = "special tokens", .err = of->err};
  if (t->prefix.n) t->bos = t->prefix.ids[0];
  if (t->suffix.n) t->eos = t->suffix.ids[t->suffix.n - 1];
  if (!ma_file_exists(path)) return MA_OK;
  MA_TRY(ma_json_read(&config, path, r.err));
  if (!json_is_object(config)) MA_TRY(ma_json_bad(&r, "the file is no object"));
  MA_TRY(named_token(&r, config, "bos_token", &t->bos));
  MA_TRY(named_token(&r, config, "eos_token", &t->eos));
done:
  json_decref(config);
  return st;
}

ma_status ma_tokenizer_load_json(ma_tokenizer *t, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  json_t *root = NULL;
  const char *version;
  ma_json_reader r = {.t = t, .path = path, .section = "the file", .err = err};
  MA_TRY(ma_json_read(&root, path, err));
  if (!json_is_object(root)) MA_TRY(ma_json_bad(&r, "is no object"));
  MA_TRY(ma_json_text(&r, root, "version", &version));
  if (version && strcmp(version, "1.0") != 0) MA_TRY(ma_json_bad(&r, "version '%.20s' is not 1.0", version));
  MA_TRY(ma_json_model(&r, root));
  MA_TRY(ma_json_each(&r, root, "normalizer", "normalizers", ma_json_normalizer));
  MA_TRY(ma_json_each(&r, root, "pre_tokenizer", "pretokenizers", ma_json_pre_tokenizer));
  MA_TRY(ma_json_each(&r, root, "decoder", "decoders", ma_json_decoder));
  t->joins_with_blank = !field(root, "decoder");
  MA_TRY(ma_json_added(&r, root));
  MA_TRY(normalize_added(&r));
  MA_TRY(ma_json_each(&r, root, "post_processor", "processors", ma_json_post_processor));
  keep_bytes(t);
  r.section = "model";
  MA_TRY(ma_json_at(&r, ma_tokenizer_finish(t, err)));
  MA_TRY(read_special(&r));
  bool is_unigram = t->model == MA_MODEL_UNIGRAM;
  snprintf(t->description, sizeof t->description, "%s%s",
           t->is_byte_level ? "byte-level "
           : is_unigram     ? ""
                            : "SentencePiece-style ",
           is_unigram ? "unigram" : "BPE");
done:
  json_decref(root);
  return st;
}
