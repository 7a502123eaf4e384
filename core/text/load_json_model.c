/* The model and the added tokens of tokenizer.json. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "text/load_json.h"

ma_status ma_json_id(const ma_json_reader *r, const json_t *value, const char *token, int32_t *out) {
  if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX / 4)
    return ma_json_bad(r, "no usable id for token '%.60s'", token);
  *out = (int32_t)json_integer_value(value);
  return MA_OK;
}

/* ---- BPE ---- */

static ma_status read_vocabulary(ma_json_reader *r, const json_t *vocab) {
  ma_status st = MA_OK;
  ma_vocabulary *v = &r->t->vocabulary;
  json_t *vocabulary = (json_t *)(uintptr_t)vocab, *value;
  const char *token;
  size_t length, n = 0;
  int32_t id = 0;
  if (!json_is_object(vocab)) return ma_json_bad(r, "vocab is not an object");
  if (json_object_size(vocab) == 0) return ma_json_bad(r, "vocab is empty");
  json_object_foreach(vocabulary, token, value) {
    MA_TRY(ma_json_id(r, value, token, &id));
    if ((size_t)id + 1 > n) n = (size_t)id + 1;
  }
  if (n > 4 * json_object_size(vocab) + 1024) return ma_json_bad(r, "vocab has ids far beyond its size");
  MA_TRY(ma_vocabulary_reserve(v, n, r->err));
  json_object_keylen_foreach(vocabulary, token, length, value) {
    id = (int32_t)json_integer_value(value);
    if (v->tokens[id].text)
      MA_TRY(ma_json_bad(r, "vocab gives id %d to '%.40s' and to '%.40s'", id, v->tokens[id].text, token));
    MA_TRY(ma_vocabulary_set(v, id, token, length, true, r->err));
  }
  MA_TRY(ma_vocabulary_index(v, false, r->err));
done:
  return st;
}

/* "left right" or ["left", "right"]. */
static bool merge_parts(const json_t *merge, const char **left, size_t *n, const char **right, size_t *m) {
  if (json_is_string(merge)) {
    size_t length = json_string_length(merge);
    const char *text = json_string_value(merge), *blank = memchr(text, ' ', length);
    if (!blank || memchr(blank + 1, ' ', length - (size_t)(blank - text) - 1)) return false;
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

static ma_status read_merges(ma_json_reader *r, const json_t *merges) {
  ma_status st = MA_OK;
  ma_vocabulary *v = &r->t->vocabulary;
  ma_text joined = {0};
  size_t i, n = 0, m = 0;
  json_t *merge;
  const char *left = NULL, *right = NULL;
  if (!json_is_array(merges)) return ma_json_bad(r, "merges is no list");
  MA_TRY(ma_bpe_reserve(&r->t->bpe, json_array_size(merges), r->err));
  json_array_foreach(merges, i, merge) {
    if (!merge_parts(merge, &left, &n, &right, &m))
      MA_TRY(ma_json_bad(r, "merges has an entry that is not two tokens (number %zu)", i));
    joined.length = 0;
    MA_TRY(ma_text_add(&joined, left, n, r->err));
    MA_TRY(ma_text_add(&joined, right, m, r->err));
    int32_t a = ma_vocabulary_find(v, left, n), b = ma_vocabulary_find(v, right, m);
    int32_t id = ma_vocabulary_find(v, joined.data, joined.length);
    if (a < 0 || b < 0 || id < 0)
      MA_TRY(ma_json_bad(r, "merges makes '%.60s' (number %zu) of what is not in vocab", joined.data, i));
    ma_bpe_add(&r->t->bpe, a, b, (uint32_t)i, id, true);
  }
done:
  ma_text_release(&joined);
  return st;
}

/* Absent, null, an empty text or 0. */
static ma_status check_absent(const ma_json_reader *r, const json_t *model, const char *key) {
  const json_t *value = json_object_get(model, key);
  bool is_empty = !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
                  (json_is_number(value) && json_number_value(value) == 0);
  return is_empty ? MA_OK : ma_json_at(r, ma_fail(r->err, MA_UNSUPPORTED, "%s is not supported", key));
}

static ma_status read_bpe(ma_json_reader *r, const json_t *model) {
  ma_status st = MA_OK;
  ma_bpe *b = &r->t->bpe;
  const char *unknown;
  MA_TRY(check_absent(r, model, "continuing_subword_prefix"));
  MA_TRY(check_absent(r, model, "end_of_word_suffix"));
  MA_TRY(check_absent(r, model, "dropout"));
  MA_TRY(ma_json_flag(r, model, "byte_fallback", false, &b->has_byte_fallback));
  MA_TRY(ma_json_flag(r, model, "fuse_unk", false, &b->fuses_unknown));
  MA_TRY(ma_json_flag(r, model, "ignore_merges", false, &b->ignores_merges));
  MA_TRY(read_vocabulary(r, json_object_get(model, "vocab")));
  MA_TRY(read_merges(r, json_object_get(model, "merges")));
  MA_TRY(ma_json_text(r, model, "unk_token", &unknown));
  if (unknown) b->unknown = ma_vocabulary_find(&r->t->vocabulary, unknown, strlen(unknown));
  b->lacks_unknown = unknown && b->unknown < 0;
done:
  return st;
}

/* ---- unigram: a list of [token, score] ---- */

static ma_status read_unigram(ma_json_reader *r, const json_t *model) {
  ma_status st = MA_OK;
  ma_unigram *u = &r->t->unigram;
  const json_t *vocab = json_object_get(model, "vocab"), *unknown = json_object_get(model, "unk_id");
  size_t i, n = json_array_size(vocab);
  json_t *pair;
  if (!json_is_array(vocab)) return ma_json_bad(r, "vocab is no list");
  if (n == 0) return ma_json_bad(r, "vocab is empty");
  r->t->model = MA_MODEL_UNIGRAM;
  MA_TRY(ma_json_flag(r, model, "byte_fallback", false, &u->has_byte_fallback));
  MA_TRY(ma_vocabulary_reserve(&r->t->vocabulary, n, r->err));
  MA_TRY(MA_NEW(&u->scores, n, r->err));
  json_array_foreach(vocab, i, pair) {
    const json_t *token = json_array_get(pair, 0), *score = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_string(token) || !json_is_number(score))
      MA_TRY(ma_json_bad(r, "vocab has an entry that is not [token, score] (number %zu)", i));
    u->scores[i] = json_number_value(score);
    if (!isfinite(u->scores[i])) MA_TRY(ma_json_bad(r, "vocab has a score that is not finite (number %zu)", i));
    MA_TRY(ma_vocabulary_set(&r->t->vocabulary, (int32_t)i, json_string_value(token), json_string_length(token), true,
                             r->err));
  }
  MA_TRY(ma_vocabulary_index(&r->t->vocabulary, false, r->err));
  if (!unknown || json_is_null(unknown)) goto done;
  if (!json_is_integer(unknown) || json_integer_value(unknown) < 0 || json_integer_value(unknown) >= (json_int_t)n)
    MA_TRY(ma_json_bad(r, "unk_id is not in vocab"));
  u->unknown = (int32_t)json_integer_value(unknown);
done:
  return st;
}

ma_status ma_json_model(ma_json_reader *r, const json_t *root) {
  ma_status st = MA_OK;
  const json_t *model = json_object_get(root, "model");
  r->section = "model";
  if (!json_is_object(model)) return ma_json_bad(r, "is missing or no object");
  MA_TRY(ma_json_text(r, model, "type", &r->type));
  if (!r->type) r->type = json_is_array(json_object_get(model, "vocab")) ? "Unigram" : "BPE";
  if (ma_json_is(r, "BPE")) MA_TRY(read_bpe(r, model));
  else if (ma_json_is(r, "Unigram")) MA_TRY(read_unigram(r, model));
  else MA_TRY(ma_json_lacks(r));
  r->type = NULL;
done:
  return st;
}

/* ---- added tokens ---- */

/* The id's text: the model's own, or a new one. */
static ma_status place_added(ma_json_reader *r, int32_t id, const char *content, size_t length, size_t n_added) {
  ma_vocabulary *v = &r->t->vocabulary;
  int32_t known = ma_vocabulary_find(v, content, length);
  if (known == id) return MA_OK;
  if (known >= 0) return ma_json_bad(r, "'%.60s' has id %d here and %d in model.vocab", content, id, known);
  if ((size_t)id >= v->n + n_added + (1u << 16))
    return ma_json_bad(r, "the id of '%.60s' is far beyond the vocabulary", content);
  ma_status st = ma_vocabulary_reserve(v, (size_t)id + 1, r->err);
  if (st != MA_OK) return st;
  if (v->tokens[id].text)
    return ma_json_bad(r, "'%.60s' has id %d, which '%.60s' has too", content, id, v->tokens[id].text);
  return ma_vocabulary_set(v, id, content, length, false, r->err);
}

ma_status ma_json_added(ma_json_reader *r, const json_t *root) {
  ma_status st = MA_OK;
  const json_t *list = json_object_get(root, "added_tokens");
  size_t i, n_model = r->t->vocabulary.n;
  json_t *item;
  r->section = "added_tokens";
  if (list && !json_is_null(list) && !json_is_array(list)) return ma_json_bad(r, "is no list");
  json_array_foreach(list, i, item) {
    const json_t *content = json_object_get(item, "content");
    ma_added a = {0};
    if (!json_is_string(content)) return ma_json_bad(r, "one has no content (number %zu)", i);
    a.text = (char *)(uintptr_t)json_string_value(content);
    a.length = json_string_length(content);
    if (a.length == 0) continue; /* never found, as in Hugging Face's */
    MA_TRY(ma_json_id(r, json_object_get(item, "id"), a.text, &a.id));
    MA_TRY(ma_json_flag(r, item, "special", false, &a.is_special));
    MA_TRY(ma_json_flag(r, item, "lstrip", false, &a.strips_left));
    MA_TRY(ma_json_flag(r, item, "rstrip", false, &a.strips_right));
    MA_TRY(ma_json_flag(r, item, "single_word", false, &a.is_single_word));
    MA_TRY(ma_json_flag(r, item, "normalized", !a.is_special, &a.is_normalized));
    for (size_t k = 0; k < r->t->n_added; k++)
      if (r->t->added[k].id == a.id) MA_TRY(ma_json_bad(r, "id %d is there twice ('%.60s')", a.id, a.text));
    MA_TRY(place_added(r, a.id, a.text, a.length, json_array_size(list)));
    MA_TRY(ma_tokenizer_add_added(r->t, a, r->err));
  }
  /* A score for ids that the model does not have is never read, but the list is as long as the vocabulary. */
  if (r->t->model == MA_MODEL_UNIGRAM && r->t->vocabulary.n > n_model) {
    MA_TRY(ma_resize((void **)&r->t->unigram.scores, r->t->vocabulary.n, sizeof(double), r->err));
    memset(r->t->unigram.scores + n_model, 0, (r->t->vocabulary.n - n_model) * sizeof(double));
  }
done:
  return st;
}
