/* Tokenizers from GGUF metadata: tokenizer.ggml.* (gguf.md, "Tokenizer").  Whatever it says is checked. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/text_internal.h"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4, TYPE_UNUSED = 5, TYPE_BYTE = 6 };

/* What tokenizer.ggml.pre stands for. */
static const struct {
  const char *name, *regex;
  bool splits_digits, ignores_merges, composes;
} pre_tokenizers[] = {
    {"gpt-2", ma_regex_gpt2, false, false, false},   {"gpt2", ma_regex_gpt2, false, false, false},
    {"phi-2", ma_regex_gpt2, false, false, false},   {"olmo", ma_regex_gpt2, false, false, false},
    {"smollm", ma_regex_gpt2, true, false, false},   {"llama-bpe", ma_regex_llama3, false, true, false},
    {"llama3", ma_regex_llama3, false, true, false}, {"llama-v3", ma_regex_llama3, false, true, false},
    {"qwen2", ma_regex_qwen2, false, false, true},
};

static ma_status bad(const ma_gguf *g, ma_error *err, const char *key, const char *problem) {
  return ma_fail(err, MA_BAD_FILE, "%s: tokenizer.ggml.%s %s", ma_gguf_path(g), key, problem);
}

static const ma_gguf_value *find(const ma_gguf *g, const char *key) {
  char full[96];
  snprintf(full, sizeof full, "tokenizer.ggml.%s", key);
  return ma_gguf_find(g, full);
}

/* A list of strings; `is_needed` makes its absence an error. */
static ma_status texts(const ma_gguf *g, const char *key, bool is_needed, const ma_gguf_value **out, ma_error *err) {
  *out = find(g, key);
  if (!*out) return is_needed ? bad(g, err, key, "is missing") : MA_OK;
  if (!(*out)->is_array || (*out)->type != MA_GGUF_STRING) return bad(g, err, key, "is not a list of strings");
  for (uint64_t i = 0; i < (*out)->n; i++) {
    const ma_gguf_text *text = &(*out)->texts[i];
    if (ma_utf8_bad_byte(text->data, text->length) < text->length)
      return bad(g, err, key, "has a string that is not UTF-8");
  }
  return MA_OK;
}

/* The i-th of a list of numbers that is as long as the vocabulary. */
static ma_status numbers(const ma_gguf *g, const char *key, uint64_t n, const ma_gguf_value **out, ma_error *err) {
  double number;
  *out = find(g, key);
  if (!*out) return MA_OK;
  if (!(*out)->is_array || !ma_gguf_number(*out, 0, &number)) return bad(g, err, key, "is not a list of numbers");
  return (*out)->n == n ? MA_OK : bad(g, err, key, "does not have a number for each token");
}

/* As numbers, but all of them integers. */
static ma_status integers(const ma_gguf *g, const char *key, uint64_t n, const ma_gguf_value **out, ma_error *err) {
  int64_t number;
  ma_status st = numbers(g, key, n, out, err);
  for (uint64_t i = 0; st == MA_OK && *out && i < n; i++)
    if (!ma_gguf_integer(*out, i, &number)) return bad(g, err, key, "is not a list of integers");
  return st;
}

/* The id under a key; -1 where it is absent. */
static ma_status special_id(const ma_gguf *g, const char *key, size_t n, int32_t *out, ma_error *err) {
  int64_t id;
  const ma_gguf_value *v = find(g, key);
  *out = -1;
  if (!v) return MA_OK;
  if (v->is_array || !ma_gguf_integer(v, 0, &id)) return bad(g, err, key, "is not an integer");
  if (id < 0 || (uint64_t)id >= n) return bad(g, err, key, "is outside the vocabulary");
  *out = (int32_t)id;
  return MA_OK;
}

static ma_status flag(const ma_gguf *g, const char *key, bool otherwise, bool *out, ma_error *err) {
  const ma_gguf_value *v = find(g, key);
  *out = otherwise;
  if (!v) return MA_OK;
  if (v->is_array || v->type != MA_GGUF_BOOL) return bad(g, err, key, "is not a bool");
  *out = v->data[0] != 0;
  return MA_OK;
}

/* ---- vocabulary ---- */

static ma_status read_tokens(ma_tokenizer *t, const ma_gguf *g, const ma_gguf_value *types, ma_error *err) {
  ma_status st = MA_OK;
  const ma_gguf_value *all;
  MA_TRY(texts(g, "tokens", true, &all, err));
  if (all->n == 0 || all->n > INT32_MAX / 2) return bad(g, err, "tokens", "is empty or too long");
  MA_TRY(ma_vocabulary_reserve(&t->vocabulary, (size_t)all->n, err));
  for (uint64_t i = 0; i < all->n; i++) {
    int64_t type = TYPE_NORMAL;
    MA_TRY(ma_vocabulary_set(&t->vocabulary, (int32_t)i, all->texts[i].data, all->texts[i].length, true, err));
    if (types) ma_gguf_integer(types, i, &type);
    if ((type == TYPE_CONTROL || type == TYPE_USER || type == TYPE_UNKNOWN) && all->texts[i].length > 0)
      MA_TRY(ma_tokenizer_add_added(t,
                                    (ma_added){.id = (int32_t)i,
                                               .text = (char *)(uintptr_t)all->texts[i].data,
                                               .length = all->texts[i].length,
                                               .is_special = type != TYPE_USER},
                                    err));
  }
done:
  return st;
}

/* ---- byte-level BPE: merges are listed ---- */

static ma_status read_merges(ma_tokenizer *t, const ma_gguf *g, ma_error *err) {
  ma_status st = MA_OK;
  const ma_gguf_value *merges;
  ma_text joined = {0};
  MA_TRY(texts(g, "merges", true, &merges, err));
  MA_TRY(ma_bpe_reserve(&t->bpe, (size_t)merges->n, err));
  for (uint64_t i = 0; i < merges->n; i++) {
    const ma_gguf_text *m = &merges->texts[i];
    /* "left right": the blank after the first character, which may itself be one. */
    const char *blank = m->length > 1 ? memchr(m->data + 1, ' ', m->length - 1) : NULL;
    if (!blank) MA_TRY(bad(g, err, "merges", "has an entry that is not two tokens"));
    size_t left = (size_t)(blank - m->data), right = m->length - left - 1;
    joined.length = 0;
    MA_TRY(ma_text_add(&joined, m->data, left, err));
    MA_TRY(ma_text_add(&joined, blank + 1, right, err));
    int32_t a = ma_vocabulary_find(&t->vocabulary, m->data, left);
    int32_t b = ma_vocabulary_find(&t->vocabulary, blank + 1, right);
    int32_t id = ma_vocabulary_find(&t->vocabulary, joined.data, joined.length);
    if (a < 0 || b < 0 || id < 0) MA_TRY(bad(g, err, "merges", "joins what is not in tokenizer.ggml.tokens"));
    ma_bpe_add(&t->bpe, a, b, (uint32_t)i, id, false);
  }
done:
  ma_text_release(&joined);
  return st;
}

static ma_status read_pre(ma_tokenizer *t, const ma_gguf *g, ma_error *err) {
  ma_status st = MA_OK;
  char name[64] = "default";
  const ma_gguf_value *v = find(g, "pre");
  if (v && (v->is_array || v->type != MA_GGUF_STRING || v->texts[0].length >= sizeof name))
    return bad(g, err, "pre", "is not a short string");
  if (v) snprintf(name, sizeof name, "%.*s", (int)v->texts[0].length, v->texts[0].data);
  for (size_t i = 0; i < sizeof pre_tokenizers / sizeof pre_tokenizers[0]; i++) {
    if (strcmp(pre_tokenizers[i].name, name) != 0) continue;
    t->bpe.ignores_merges = pre_tokenizers[i].ignores_merges;
    if (pre_tokenizers[i].composes) {
      ma_step *step;
      MA_TRY(ma_steps_add(&t->normalizer, &step, err));
      step->kind = MA_STEP_UNICODE;
      step->form = UTF8PROC_COMPOSE | UTF8PROC_STABLE;
    }
    if (pre_tokenizers[i].splits_digits)
      MA_TRY(ma_steps_add_split(&t->pre_tokenizer, "\\p{N}", MA_SPLIT_ISOLATED, false, err));
    MA_TRY(ma_steps_add_split(&t->pre_tokenizer, pre_tokenizers[i].regex, MA_SPLIT_ISOLATED, false, err));
    snprintf(t->description, sizeof t->description, "byte-level BPE (%s)", name);
    return MA_OK;
  }
  return ma_fail(err, MA_UNSUPPORTED, "%s: tokenizer.ggml.pre = '%s' is a pre-tokenizer that massact does not have",
                 ma_gguf_path(g), name);
done:
  return st;
}

static ma_status load_byte_level(ma_tokenizer *t, const ma_gguf *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_decode_step *step;
  MA_TRY(ma_vocabulary_index(&t->vocabulary, false, err));
  MA_TRY(read_merges(t, g, err));
  MA_TRY(read_pre(t, g, err));
  t->is_byte_level = true;
  MA_TRY(ma_tokenizer_add_decoder(t, MA_DECODE_BYTES, &step, err));
done:
  return st;
}

/* ---- SentencePiece BPE: what may be joined is what is a token, by descending score ---- */

static int by_score(const void *pa, const void *pb) {
  double a = **(const double *const *)pa, b = **(const double *const *)pb;
  return a > b ? -1 : a < b;
}

/* Equal scores have equal ranks. */
static ma_status rank_scores(uint32_t **out, const ma_gguf_value *scores, size_t n, ma_error *err) {
  ma_status st = MA_OK;
  double *score = NULL;
  const double **order = NULL;
  uint32_t *ranks = NULL;
  MA_TRY(MA_NEW(&score, n, err));
  MA_TRY(MA_NEW(&order, n, err));
  MA_TRY(MA_NEW(&ranks, n, err));
  for (size_t i = 0; i < n; i++) {
    ma_gguf_number(scores, i, &score[i]);
    order[i] = &score[i];
  }
  qsort(order, n, sizeof *order, by_score);
  uint32_t rank = 0;
  for (size_t i = 0; i < n; i++) {
    if (i > 0 && *order[i] < *order[i - 1]) rank++;
    ranks[order[i] - score] = rank;
  }
  *out = ranks;
  ranks = NULL;
done:
  ma_free(score);
  ma_free((void *)order);
  ma_free(ranks);
  return st;
}

static ma_status merges_of_scores(ma_tokenizer *t, const uint32_t *ranks, const ma_gguf_value *types, ma_error *err) {
  const ma_vocabulary *v = &t->vocabulary;
  size_t n_splits = 0;
  for (size_t id = 0; id < v->n; id++) n_splits += v->tokens[id].length;
  ma_status st = ma_bpe_reserve(&t->bpe, n_splits, err);
  for (size_t id = 0; st == MA_OK && id < v->n; id++) {
    int64_t type = TYPE_NORMAL;
    if (types) ma_gguf_integer(types, id, &type);
    if (type != TYPE_NORMAL) continue;
    const ma_token *token = &v->tokens[id];
    for (size_t cut = 1; cut < token->length; cut++) {
      if (((uint8_t)token->text[cut] & 0xC0) == 0x80) continue;
      int32_t left = ma_vocabulary_find(v, token->text, cut);
      int32_t right = ma_vocabulary_find(v, token->text + cut, token->length - cut);
      if (left >= 0 && right >= 0) ma_bpe_add(&t->bpe, left, right, ranks[id], (int32_t)id, false);
    }
  }
  return st;
}

static ma_status load_sentencepiece(ma_tokenizer *t, const ma_gguf *g, const ma_gguf_value *types, ma_error *err) {
  ma_status st = MA_OK;
  const ma_gguf_value *scores;
  uint32_t *ranks = NULL;
  ma_step *step;
  ma_decode_step *decoder;
  bool prefix;
  MA_TRY(numbers(g, "scores", t->vocabulary.n, &scores, err));
  if (!scores) MA_TRY(bad(g, err, "scores", "is missing"));
  for (uint64_t i = 0; i < scores->n; i++) {
    double score;
    if (!ma_gguf_number(scores, i, &score) || !isfinite(score))
      MA_TRY(bad(g, err, "scores", "has one that is not finite"));
  }
  MA_TRY(flag(g, "add_space_prefix", true, &prefix, err));
  MA_TRY(ma_vocabulary_index(&t->vocabulary, false, err));
  MA_TRY(rank_scores(&ranks, scores, t->vocabulary.n, err));
  MA_TRY(merges_of_scores(t, ranks, types, err));
  t->bpe.has_byte_fallback = t->bpe.fuses_unknown = true;
  if (prefix) {
    MA_TRY(ma_steps_add(&t->normalizer, &step, err));
    step->kind = MA_STEP_PREPEND;
    MA_TRY(ma_strdup(&step->content, "\xE2\x96\x81", err));
    step->content_length = 3;
  }
  MA_TRY(ma_steps_add(&t->normalizer, &step, err));
  step->kind = MA_STEP_REPLACE;
  MA_TRY(ma_pattern_literal(&step->pattern, " ", 1, err));
  MA_TRY(ma_strdup(&step->content, "\xE2\x96\x81", err));
  step->content_length = 3;
  MA_TRY(ma_tokenizer_add_decoder(t, MA_DECODE_REPLACE, &decoder, err));
  MA_TRY(ma_pattern_literal(&decoder->pattern, "\xE2\x96\x81", 3, err));
  MA_TRY(ma_strdup(&decoder->with, " ", err));
  MA_TRY(ma_tokenizer_add_decoder(t, MA_DECODE_BYTE_FALLBACK, &decoder, err));
  MA_TRY(ma_tokenizer_add_decoder(t, MA_DECODE_FUSE, &decoder, err));
  if (prefix) {
    MA_TRY(ma_tokenizer_add_decoder(t, MA_DECODE_STRIP, &decoder, err));
    MA_TRY(ma_strdup(&decoder->content, " ", err));
    decoder->start = 1;
  }
  snprintf(t->description, sizeof t->description, "SentencePiece BPE");
done:
  ma_free(ranks);
  return st;
}

/* ---- all ---- */

ma_status ma_tokenizer_load_gguf(ma_tokenizer *t, const ma_gguf *g, ma_error *err) {
  ma_status st = MA_OK;
  const ma_gguf_value *types, *model = find(g, "model"), *tokens = find(g, "tokens");
  bool adds_bos, adds_eos;
  if (!model || model->is_array || model->type != MA_GGUF_STRING)
    return bad(g, err, "model", "is missing or no string");
  ma_gguf_text kind = model->texts[0];
  bool is_gpt2 = kind.length == 4 && memcmp(kind.data, "gpt2", 4) == 0;
  bool is_llama = kind.length == 5 && memcmp(kind.data, "llama", 5) == 0;
  if (!is_gpt2 && !is_llama)
    return ma_fail(err, MA_UNSUPPORTED, "%s: tokenizer.ggml.model = '%.*s'; massact reads gpt2 and llama",
                   ma_gguf_path(g), (int)(kind.length < 32 ? kind.length : 32), kind.data);
  MA_TRY(integers(g, "token_type", tokens ? tokens->n : 0, &types, err));
  MA_TRY(read_tokens(t, g, types, err));
  MA_TRY(special_id(g, "unknown_token_id", t->vocabulary.n, &t->bpe.unknown, err));
  if (is_gpt2) t->bpe.unknown = -1; /* every byte is a token */
  MA_TRY(is_gpt2 ? load_byte_level(t, g, err) : load_sentencepiece(t, g, types, err));
  MA_TRY(special_id(g, "bos_token_id", t->vocabulary.n, &t->bos, err));
  MA_TRY(special_id(g, "eos_token_id", t->vocabulary.n, &t->eos, err));
  MA_TRY(flag(g, "add_bos_token", is_llama, &adds_bos, err));
  MA_TRY(flag(g, "add_eos_token", false, &adds_eos, err));
  MA_TRY(ma_tokenizer_finish(t, err));
  if (adds_bos && t->bos >= 0) MA_TRY(ma_ids_add(&t->prefix, t->bos, err));
  if (adds_eos && t->eos >= 0) MA_TRY(ma_ids_add(&t->suffix, t->eos, err));
done:
  return st;
}
