/* Decoders and post-processors of tokenizer.json. */
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/load_json.h"

/* ---- decoders ---- */

/* The one character under a key, copied. */
static ma_status read_character(const ma_json_reader *r, const json_t *c, const char *key, char **out) {
  const char *text;
  ma_status st = ma_json_needed(r, c, key, &text);
  if (st != MA_OK) return st;
  size_t n = strlen(text);
  return n && ma_utf8_sequence(text, n) == n ? ma_strdup(out, text, r->err)
                                             : ma_json_bad(r, "%s is not one character", key);
}

ma_status ma_json_decoder(ma_json_reader *r, const json_t *c) {
  ma_status st = MA_OK;
  ma_decode_step *step;
  ma_tokenizer *t = r->t;
  const char *text;
  int scheme = 0;
  if (ma_json_is(r, "ByteLevel")) return ma_tokenizer_add_decoder(t, MA_DECODE_BYTES, &step, r->err);
  if (ma_json_is(r, "ByteFallback")) return ma_tokenizer_add_decoder(t, MA_DECODE_BYTE_FALLBACK, &step, r->err);
  if (ma_json_is(r, "Fuse")) return ma_tokenizer_add_decoder(t, MA_DECODE_FUSE, &step, r->err);
  if (ma_json_is(r, "Replace")) {
    MA_TRY(ma_tokenizer_add_decoder(t, MA_DECODE_REPLACE, &step, r->err));
    MA_TRY(ma_json_needed(r, c, "content", &text));
    MA_TRY(ma_strdup(&step->with, text, r->err));
    return ma_json_pattern(r, c, &step->pattern);
  }
  if (ma_json_is(r, "Strip")) {
    MA_TRY(ma_tokenizer_add_decoder(t, MA_DECODE_STRIP, &step, r->err));
    MA_TRY(ma_json_count(r, c, "start", &step->start));
    MA_TRY(ma_json_count(r, c, "stop", &step->stop));
    return read_character(r, c, "content", &step->content);
  }
  if (ma_json_is(r, "Metaspace")) {
    MA_TRY(ma_tokenizer_add_decoder(t, MA_DECODE_METASPACE, &step, r->err));
    MA_TRY(ma_json_scheme(r, c, &scheme));
    step->start = scheme != MA_PREPEND_NEVER;
    return read_character(r, c, "replacement", &step->content);
  }
  return ma_json_lacks(r);
done:
  return st;
}

/* ---- post-processors: ids around the text ---- */

static ma_status check_id(const ma_json_reader *r, const json_t *value, const char *name, int32_t *out) {
  ma_status st = ma_json_id(r, value, name, out);
  if (st != MA_OK) return st;
  return (size_t)*out < r->t->vocabulary.n ? MA_OK
                                           : ma_json_bad(r, "the id of '%.60s' is outside the vocabulary", name);
}

static ma_status add_special(const ma_json_reader *r, const json_t *specials, const char *name, ma_ids *out) {
  ma_status st = MA_OK;
  size_t i;
  int32_t id;
  json_t *value;
  const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
  if (!json_is_array(ids)) return ma_json_bad(r, "special_tokens has no ids for '%.60s'", name);
  json_array_foreach(ids, i, value) {
    MA_TRY(check_id(r, value, name, &id));
    MA_TRY(ma_ids_add(out, id, r->err));
  }
done:
  return st;
}

static ma_status read_template(const ma_json_reader *r, const json_t *c, ma_ids *prefix, ma_ids *suffix) {
  ma_status st = MA_OK;
  size_t i, n_texts = 0;
  json_t *item;
  const json_t *specials = json_object_get(c, "special_tokens"), *single = json_object_get(c, "single");
  if (!json_is_array(single)) return ma_json_bad(r, "single is no list");
  json_array_foreach(single, i, item) {
    const json_t *special = json_object_get(item, "SpecialToken"), *sequence = json_object_get(item, "Sequence");
    const char *name;
    if (!special == !sequence) return ma_json_bad(r, "a part of single is neither SpecialToken nor Sequence");
    MA_TRY(ma_json_needed(r, special ? special : sequence, "id", &name));
    if (special) MA_TRY(add_special(r, specials, name, n_texts ? suffix : prefix));
    else if (strcmp(name, "A") != 0) return ma_json_bad(r, "single has the sequence '%.20s'", name);
    else n_texts++;
  }
  if (n_texts != 1) return ma_json_bad(r, "single has the text %zu times", n_texts);
done:
  return st;
}

/* ["[CLS]", 101] */
static ma_status read_pair(const ma_json_reader *r, const json_t *c, const char *key, ma_ids *out) {
  const json_t *pair = json_object_get(c, key);
  const char *name = json_string_value(json_array_get(pair, 0));
  int32_t id;
  if (json_array_size(pair) != 2 || !name) return ma_json_bad(r, "%s is not [token, id]", key);
  ma_status st = check_id(r, json_array_get(pair, 1), name, &id);
  return st == MA_OK ? ma_ids_add(out, id, r->err) : st;
}

ma_status ma_json_post_processor(ma_json_reader *r, const json_t *c) {
  ma_status st = MA_OK;
  ma_ids *prefix = &r->t->prefix, *suffix = &r->t->suffix;
  if (ma_json_is(r, "ByteLevel")) return MA_OK; /* it trims offsets, which nobody asks for */
  if (prefix->n || suffix->n) return ma_json_bad(r, "behind another that adds tokens it is not supported");
  if (ma_json_is(r, "TemplateProcessing")) return read_template(r, c, prefix, suffix);
  if (!ma_json_is(r, "BertProcessing") && !ma_json_is(r, "RobertaProcessing")) return ma_json_lacks(r);
  MA_TRY(read_pair(r, c, "cls", prefix));
  MA_TRY(read_pair(r, c, "sep", suffix));
done:
  return st;
}
