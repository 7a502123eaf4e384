/* Tokenizers from tokenizer.json (Hugging Face tokenizers): each component by its "type"; one that is not here is
 * an error with its name. */
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/json.h"
#include "text/text_internal.h"

/* What reading carries along. */
typedef struct reader {
  ma_tokenizer *t;
  const char *path;
  ma_error *err;
} reader;

static ma_status bad(const reader *r, const char *what, const char *name) {
  return ma_fail(r->err, MA_BAD_FILE, "%s: %s%s%.100s%s", r->path, what, name ? " '" : "", name ? name : "", name ? "'" : "");
}

static ma_status lacks(const reader *r, const char *what, const json_t *component) {
  const char *type = json_string_value(json_object_get(component, "type"));
  return ma_fail(r->err, MA_UNSUPPORTED, "%s: %s '%.60s' is not supported", r->path, what, type ? type : "(no type)");
}

static const char *type_of(const json_t *component) {
  const char *type = json_string_value(json_object_get(component, "type"));
  return type ? type : "";
}

static bool is(const json_t *component, const char *type) { return strcmp(type_of(component), type) == 0; }

static bool flag(const json_t *object, const char *key, bool otherwise) {
  const json_t *value = json_object_get(object, key);
  return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static const char *text_of(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }

typedef ma_status component_fn(reader *r, const json_t *component);

/* A component, or each member of a Sequence; null is none. */
static ma_status each(reader *r, const json_t *component, const char *list, component_fn *one) {
  ma_status st = MA_OK;
  size_t i;
  json_t *item;
  if (!component || json_is_null(component)) return MA_OK;
  if (!json_is_object(component)) return bad(r, "a component is not an object", NULL);
  if (!is(component, "Sequence")) return one(r, component);
  json_array_foreach(json_object_get(component, list), i, item) MA_TRY(each(r, item, list, one));
done:
  return st;
}

/* {"Regex": ...} or {"String": ...} */
static ma_status read_pattern(reader *r, ma_pattern *out, const json_t *pattern) {
  const char *regex = text_of(pattern, "Regex");
  const json_t *literal = json_object_get(pattern, "String");
  if (regex) return ma_pattern_regex(out, regex, r->err);
  if (!json_is_string(literal)) return bad(r, "a pattern is neither Regex nor String", NULL);
  return ma_pattern_literal(out, json_string_value(literal), json_string_length(literal), r->err);
}

static ma_status read_content(reader *r, ma_step *step, const json_t *value) {
  if (!json_is_string(value)) return bad(r, "a component lacks its content", NULL);
  step->content_length = json_string_length(value);
  return ma_strndup(&step->content, json_string_value(value), step->content_length, r->err);
}

/* ---- normalisers ---- */

static ma_status read_normalizer(reader *r, const json_t *c) {
  static const struct {
    const char *type;
    int form;
  } forms[] = {
      {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
      {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
      {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
      {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
  };
  ma_step *step;
  ma_status st = ma_steps_add(&r->t->normalizer, &step, r->err);
  if (st != MA_OK) return st;
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
    if (!is(c, forms[i].type)) continue;
    step->kind = MA_STEP_UNICODE;
    step->form = forms[i].form;
    return MA_OK;
  }
  if (is(c, "Lowercase")) {
    step->kind = MA_STEP_LOWER;
    return MA_OK;
  }
  if (is(c, "Prepend")) {
    step->kind = MA_STEP_PREPEND;
    return read_content(r, step, json_object_get(c, "prepend"));
  }
  if (is(c, "Replace")) {
    step->kind = MA_STEP_REPLACE;
    st = read_pattern(r, &step->pattern, json_object_get(c, "pattern"));
    return st == MA_OK ? read_content(r, step, json_object_get(c, "content")) : st;
  }
  if (is(c, "Strip")) {
    step->kind = MA_STEP_STRIP;
    step->at_start = flag(c, "strip_left", true);
    step->at_end = flag(c, "strip_right", true);
    return MA_OK;
  }
  return lacks(r, "normalizer", c);
}

/* ---- pre-tokenizers ---- */

static ma_status read_behaviour(reader *r, const json_t *c, ma_behaviour *out) {
  static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  const char *name = text_of(c, "behavior");
  for (int i = 0; name && i < 5; i++) {
    if (strcmp(name, names[i]) != 0) continue;
    *out = (ma_behaviour)i;
    return MA_OK;
  }
  return bad(r, "unknown behavior", name ? name : "(none)");
}

static ma_status read_byte_level(reader *r, const json_t *c) {
  ma_status st = MA_OK;
  ma_step *step;
  r->t->bpe.is_byte_level = true;
  if (flag(c, "add_prefix_space", true)) {
    st = ma_steps_add(&r->t->pre_tokenizer, &step, r->err);
    if (st != MA_OK) return st;
    step->kind = MA_STEP_SPACE;
  }
  if (flag(c, "use_regex", true)) st = ma_steps_add_split(&r->t->pre_tokenizer, ma_regex_gpt2, MA_SPLIT_ISOLATED, false, r->err);
  return st;
}

static ma_status read_metaspace(reader *r, const json_t *c) {
  ma_step *step;
  ma_status st = ma_steps_add(&r->t->pre_tokenizer, &step, r->err);
  if (st != MA_OK) return st;
  const char *scheme = text_of(c, "prepend_scheme");
  step->kind = MA_STEP_METASPACE;
  step->behaviour = MA_SPLIT_MERGED_WITH_NEXT;
  step->splits = flag(c, "split", true);
  step->scheme = scheme && strcmp(scheme, "first") == 0   ? MA_PREPEND_FIRST
                 : scheme && strcmp(scheme, "never") == 0 ? MA_PREPEND_NEVER
                                                          : MA_PREPEND_ALWAYS;
  if (!scheme && !flag(c, "add_prefix_space", true)) step->scheme = MA_PREPEND_NEVER;
  st = read_content(r, step, json_object_get(c, "replacement"));
  if (st == MA_OK) st = ma_pattern_literal(&step->pattern, step->content, step->content_length, r->err);
  return st;
}

static ma_status read_pre_tokenizer(reader *r, const json_t *c) {
  ma_steps *steps = &r->t->pre_tokenizer;
  ma_behaviour behaviour = MA_SPLIT_ISOLATED;
  if (is(c, "ByteLevel")) return read_byte_level(r, c);
  if (is(c, "Metaspace")) return read_metaspace(r, c);
  if (is(c, "Digits")) {
    bool single = flag(c, "individual_digits", false);
    return ma_steps_add_split(steps, single ? "\\p{N}" : "\\p{N}+", MA_SPLIT_ISOLATED, false, r->err);
  }
  if (is(c, "Whitespace")) return ma_steps_add_split(steps, "\\w+|[^\\w\\s]+", MA_SPLIT_REMOVED, true, r->err);
  if (is(c, "WhitespaceSplit")) return ma_steps_add_split(steps, "\\s+", MA_SPLIT_REMOVED, false, r->err);
  if (is(c, "Punctuation")) {
    if (json_object_get(c, "behavior")) {
      ma_status st = read_behaviour(r, c, &behaviour);
      if (st != MA_OK) return st;
    }
    return ma_steps_add_split(steps, "[!-/:-@\\[-`{-~]|\\p{P}", behaviour, false, r->err);
  }
  if (is(c, "Split")) {
    ma_step *step;
    ma_status st = ma_steps_add(steps, &step, r->err);
    if (st != MA_OK) return st;
    step->kind = MA_STEP_SPLIT;
    step->is_inverted = flag(c, "invert", false);
    st = read_behaviour(r, c, &step->behaviour);
    return st == MA_OK ? read_pattern(r, &step->pattern, json_object_get(c, "pattern")) : st;
  }
  return lacks(r, "pre_tokenizer", c);
}

/* ---- decoders ---- */

static ma_status add_decoder(reader *r, ma_decode_kind kind, const char *content, const char *with, json_int_t start, json_int_t stop) {
  ma_tokenizer *t = r->t;
  ma_status st = ma_resize((void **)&t->decoders, t->n_decoders + 1, sizeof *t->decoders, r->err);
  if (st != MA_OK) return st;
  ma_decode_step *step = &t->decoders[t->n_decoders++];
  *step = (ma_decode_step){.kind = kind, .start = start > 0 ? (size_t)start : 0, .stop = stop > 0 ? (size_t)stop : 0};
  if (content) st = ma_strdup(&step->content, content, r->err);
  if (with && st == MA_OK) st = ma_strdup(&step->with, with, r->err);
  return st;
}

static ma_status read_decoder(reader *r, const json_t *c) {
  if (is(c, "ByteLevel")) return add_decoder(r, MA_DECODE_BYTES, NULL, NULL, 0, 0);
  if (is(c, "ByteFallback")) return add_decoder(r, MA_DECODE_BYTE_FALLBACK, NULL, NULL, 0, 0);
  if (is(c, "Fuse")) return add_decoder(r, MA_DECODE_FUSE, NULL, NULL, 0, 0);
  if (is(c, "Replace")) {
    const char *from = text_of(json_object_get(c, "pattern"), "String"), *with = text_of(c, "content");
    if (!from || !*from || !with) return bad(r, "decoder Replace wants a String pattern and content", NULL);
    return add_decoder(r, MA_DECODE_REPLACE, from, with, 0, 0);
  }
  if (is(c, "Strip")) {
    const char *content = text_of(c, "content");
    if (!content || !*content) return bad(r, "decoder Strip wants content", NULL);
    return add_decoder(r, MA_DECODE_STRIP, content, NULL, json_integer_value(json_object_get(c, "start")),
                       json_integer_value(json_object_get(c, "stop")));
  }
  if (is(c, "Metaspace")) {
    const char *scheme = text_of(c, "prepend_scheme"), *content = text_of(c, "replacement");
    bool prepended = !(scheme && strcmp(scheme, "never") == 0) && (scheme || flag(c, "add_prefix_space", true));
    if (!content || !*content) return bad(r, "decoder Metaspace wants a replacement", NULL);
    return add_decoder(r, MA_DECODE_METASPACE, content, NULL, prepended, 0);
  }
  return lacks(r, "decoder", c);
}

/* ---- post-processors: only a template adds tokens ---- */

static ma_status add_special(reader *r, const json_t *specials, const char *name, ma_ids *out) {
  ma_status st = MA_OK;
  size_t i;
  json_t *id;
  const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
  if (!json_is_array(ids)) return bad(r, "the template names an unknown token", name);
  json_array_foreach(ids, i, id) {
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= (json_int_t)r->t->vocabulary.n)
      return bad(r, "the template has an id outside the vocabulary for", name);
    MA_TRY(ma_ids_add(out, (int32_t)json_integer_value(id), r->err));
  }
done:
  return st;
}

static ma_status read_post_processor(reader *r, const json_t *c) {
  ma_status st = MA_OK;
  size_t i;
  json_t *item;
  bool seen = false;
  if (is(c, "ByteLevel")) return MA_OK; /* it trims offsets, which nobody asks for */
  if (!is(c, "TemplateProcessing")) return lacks(r, "post_processor", c);
  const json_t *specials = json_object_get(c, "special_tokens");
  json_array_foreach(json_object_get(c, "single"), i, item) {
    const char *name = text_of(json_object_get(item, "SpecialToken"), "id");
    if (name) MA_TRY(add_special(r, specials, name, seen ? &r->t->suffix : &r->t->prefix));
    else if (json_object_get(item, "Sequence")) seen = true;
    else return bad(r, "the template has a part that is neither SpecialToken nor Sequence", NULL);
  }
done:
  return st;
}

/* ---- the model ---- */

static ma_status read_id(reader *r, const json_t *value, const char *token, int32_t *out) {
  if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX / 4)
    return bad(r, "no usable id for token", token);
  *out = (int32_t)json_integer_value(value);
  return MA_OK;
}

static ma_status read_vocabulary(reader *r, const json_t *vocab) {
  ma_status st = MA_OK;
  json_t *vocabulary = (json_t *)(uintptr_t)vocab, *value;
  const char *token;
  size_t length, n = 0;
  int32_t id = 0;
  if (!json_is_object(vocab)) return bad(r, "model.vocab is not an object", NULL);
  json_object_foreach(vocabulary, token, value) {
    MA_TRY(read_id(r, value, token, &id));
    if ((size_t)id + 1 > n) n = (size_t)id + 1;
  }
  if (n > 4 * json_object_size(vocab) + 1024) return bad(r, "model.vocab has ids far beyond its size", NULL);
  MA_TRY(ma_vocabulary_reserve(&r->t->vocabulary, n, r->err));
  json_object_keylen_foreach(vocabulary, token, length, value)
    MA_TRY(ma_vocabulary_set(&r->t->vocabulary, (int32_t)json_integer_value(value), token, length, r->err));
  MA_TRY(ma_vocabulary_index(&r->t->vocabulary, r->err));
done:
  return st;
}

/* "left right" or ["left", "right"]. */
static bool merge_parts(const json_t *merge, const char **left, size_t *n, const char **right, size_t *m) {
  if (json_is_string(merge)) {
    size_t length = json_string_length(merge);
    const char *text = json_string_value(merge), *blank = length > 1 ? memchr(text + 1, ' ', length - 1) : NULL;
    if (!blank) return false;
    *left = text;
    *n = (size_t)(blank - text);
    *right = blank + 1;
    *m = length - *n - 1;
    return true;
  }
  const json_t *first = json_array_get(merge, 0), *second = json_array_get(merge, 1);
  if (json_array_size(merge) != 2 || !json_is_string(first) || !json_is_string(second)) return false;
  *left = json_string_value(first);
  *n = json_string_length(first);
  *right = json_string_value(second);
  *m = json_string_length(second);
  return true;
}

static ma_status read_merges(reader *r, const json_t *merges) {
  ma_status st = MA_OK;
  ma_vocabulary *v = &r->t->vocabulary;
  ma_text joined = {0};
  size_t i, n = 0, m = 0;
  json_t *merge;
  const char *left = NULL, *right = NULL;
  MA_TRY(ma_bpe_reserve(&r->t->bpe, json_array_size(merges), r->err));
  json_array_foreach(merges, i, merge) {
    if (!merge_parts(merge, &left, &n, &right, &m)) MA_TRY(bad(r, "model.merges has an entry that is not two tokens", NULL));
    joined.length = 0;
    MA_TRY(ma_text_add(&joined, left, n, r->err));
    MA_TRY(ma_text_add(&joined, right, m, r->err));
    int32_t a = ma_vocabulary_find(v, left, n), b = ma_vocabulary_find(v, right, m);
    int32_t id = ma_vocabulary_find(v, joined.data, joined.length);
    if (a < 0 || b < 0 || id < 0) MA_TRY(bad(r, "model.merges joins what is not in model.vocab:", joined.data));
    ma_bpe_add(&r->t->bpe, a, b, (uint32_t)i, id);
  }
done:
  ma_text_release(&joined);
  return st;
}

static ma_status check_absent(reader *r, const json_t *model, const char *key) {
  const json_t *value = json_object_get(model, key);
  bool is_empty = !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
                  (json_is_number(value) && json_number_value(value) == 0);
  return is_empty ? MA_OK : ma_fail(r->err, MA_UNSUPPORTED, "%s: model.%s is not supported", r->path, key);
}

static ma_status read_model(reader *r, const json_t *model) {
  ma_status st = MA_OK;
  if (!json_is_object(model)) return bad(r, "there is no model", NULL);
  if (json_object_get(model, "type") && !is(model, "BPE")) return lacks(r, "model", model);
  MA_TRY(check_absent(r, model, "continuing_subword_prefix"));
  MA_TRY(check_absent(r, model, "end_of_word_suffix"));
  MA_TRY(check_absent(r, model, "dropout"));
  MA_TRY(read_vocabulary(r, json_object_get(model, "vocab")));
  MA_TRY(read_merges(r, json_object_get(model, "merges")));
  r->t->bpe.has_byte_fallback = flag(model, "byte_fallback", false);
  r->t->bpe.fuses_unknown = flag(model, "fuse_unk", false);
  r->t->bpe.ignores_merges = flag(model, "ignore_merges", false);
  const json_t *unknown = json_object_get(model, "unk_token");
  if (json_is_string(unknown))
    r->t->bpe.unknown = ma_vocabulary_find(&r->t->vocabulary, json_string_value(unknown), json_string_length(unknown));
done:
  return st;
}

/* ---- added tokens ---- */

static ma_status read_added(reader *r, const json_t *list) {
  ma_status st = MA_OK;
  size_t i;
  json_t *item;
  json_array_foreach(list, i, item) {
    const json_t *content = json_object_get(item, "content");
    int32_t id = 0;
    if (!json_is_string(content)) return bad(r, "an added token has no content", NULL);
    MA_TRY(read_id(r, json_object_get(item, "id"), json_string_value(content), &id));
    if ((size_t)id > r->t->vocabulary.n + json_array_size(list)) return bad(r, "id far beyond the vocabulary for added token", json_string_value(content));
    MA_TRY(ma_vocabulary_reserve(&r->t->vocabulary, (size_t)id + 1, r->err));
    MA_TRY(ma_vocabulary_set(&r->t->vocabulary, id, json_string_value(content), json_string_length(content), r->err));
    MA_TRY(ma_tokenizer_add_added(r->t, (ma_added){
        .id = id, .text = (char *)(uintptr_t)json_string_value(content), .length = json_string_length(content),
        .is_special = flag(item, "special", false), .strips_left = flag(item, "lstrip", false),
        .strips_right = flag(item, "rstrip", false), .is_single_word = flag(item, "single_word", false),
        .is_normalized = flag(item, "normalized", !flag(item, "special", false))}, r->err));
  }
done:
  return st;
}

/* Tokens that are looked for in normalised text are normalised themselves. */
static ma_status normalize_added(reader *r) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < r->t->n_added && st == MA_OK; i++) {
    ma_added *a = &r->t->added[i];
    ma_pieces pieces = {0};
    if (!a->is_normalized) continue;
    st = ma_text_add(&pieces.text, a->text, a->length, r->err);
    if (st == MA_OK) st = ma_pieces_add(&pieces, 0, a->length, r->err);
    if (st == MA_OK) st = ma_steps_apply(&r->t->normalizer, &pieces, false, r->err);
    if (st == MA_OK && pieces.text.length > 0) {
      ma_free(a->text);
      a->text = pieces.text.data;
      a->length = pieces.text.length;
      pieces.text = (ma_text){0};
    }
    ma_pieces_release(&pieces);
  }
  return st;
}

/* ---- BOS and EOS: named by tokenizer_config.json beside, else what the template adds ---- */

static int32_t named_token(const ma_tokenizer *t, const json_t *config, const char *key) {
  const json_t *value = json_object_get(config, key);
  const char *name = json_is_object(value) ? text_of(value, "content") : json_string_value(value);
  return name ? ma_tokenizer_id(t, name, strlen(name)) : -1;
}

static ma_status read_special(reader *r) {
  ma_status st = MA_OK;
  char path[4096];
  json_t *config = NULL;
  const char *slash = strrchr(r->path, '/');
  snprintf(path, sizeof path, "%.*stokenizer_config.json", slash ? (int)(slash - r->path) + 1 : 0, r->path);
  if (r->t->prefix.n) r->t->bos = r->t->prefix.ids[0];
  if (r->t->suffix.n) r->t->eos = r->t->suffix.ids[r->t->suffix.n - 1];
  if (!ma_file_exists(path)) return MA_OK;
  MA_TRY(ma_json_read(&config, path, r->err));
  if (named_token(r->t, config, "bos_token") >= 0) r->t->bos = named_token(r->t, config, "bos_token");
  if (named_token(r->t, config, "eos_token") >= 0) r->t->eos = named_token(r->t, config, "eos_token");
done:
  json_decref(config);
  return st;
}

ma_status ma_tokenizer_load_json(ma_tokenizer *t, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  json_t *root = NULL;
  reader r = {t, path, err};
  MA_TRY(ma_json_read(&root, path, err));
  MA_TRY(read_model(&r, json_object_get(root, "model")));
  MA_TRY(each(&r, json_object_get(root, "normalizer"), "normalizers", read_normalizer));
  MA_TRY(each(&r, json_object_get(root, "pre_tokenizer"), "pretokenizers", read_pre_tokenizer));
  MA_TRY(each(&r, json_object_get(root, "decoder"), "decoders", read_decoder));
  MA_TRY(read_added(&r, json_object_get(root, "added_tokens")));
  MA_TRY(each(&r, json_object_get(root, "post_processor"), "processors", read_post_processor));
  MA_TRY(normalize_added(&r));
  if (t->bpe.is_byte_level) MA_TRY(ma_vocabulary_to_bytes(&t->vocabulary, err));
  MA_TRY(ma_vocabulary_index(&t->vocabulary, err));
  ma_tokenizer_find_bytes(t);
  MA_TRY(read_special(&r));
  snprintf(t->description, sizeof t->description, "%s BPE", t->bpe.is_byte_level ? "byte-level" : "SentencePiece-style");
done:
  json_decref(root);
  return st;
}
