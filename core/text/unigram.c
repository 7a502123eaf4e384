/* Unigram models (Kudo 2018): of all ways to write a piece as tokens the one with the highest sum of scores, found by
 * Viterbi's algorithm over a trie of the tokens.  Scores are added in double and only a strictly better way replaces an
 * earlier one, as in Hugging Face's tokenizers, so that ties fall alike. */
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/text_internal.h"

static const double unknown_penalty = 10.0; /* below the worst token, as in SentencePiece */

/* The best way to the place behind some bytes. */
struct ma_node {
  double score;
  size_t from; /* where its last token begins; SIZE_MAX: no way yet */
  size_t to;   /* of places on the best way: where the next token ends */
  int32_t id;
};

typedef struct ma_node node;

/* ---- the trie ---- */

static size_t slot_of(const ma_unigram *u, uint32_t from, uint8_t byte) {
  uint64_t h = ((uint64_t)from << 8 | byte) * 0x9E3779B97F4A7C15u;
  size_t at = (size_t)(h >> 24) & (u->n_edges - 1);
  while (u->edges[at].next && (u->edges[at].node != from || u->edges[at].byte != byte))
    at = (at + 1) & (u->n_edges - 1);
  return at;
}

/* Nodes are as many as the tokens have bytes at most; node 0 is the root. */
static ma_status make_trie(ma_unigram *u, const ma_vocabulary *v, ma_error *err) {
  ma_status st = MA_OK;
  size_t n_bytes = 0, length;
  const char *text;
  for (size_t id = 0; id < v->n; id++)
    if (ma_vocabulary_key(v, id, &text, &length)) n_bytes += length;
  if (n_bytes >= UINT32_MAX / 4) return ma_fail(err, MA_BAD_FILE, "tokens of %zu bytes are too many", n_bytes);
  for (u->n_edges = 1024; u->n_edges < 2 * n_bytes;) u->n_edges *= 2;
  MA_TRY(MA_NEW(&u->edges, u->n_edges, err));
  MA_TRY(MA_NEW(&u->leaves, n_bytes + 1, err));
  for (size_t i = 0; i <= n_bytes; i++) u->leaves[i] = -1;
  u->n_nodes = 1;
  for (size_t id = 0; id < v->n; id++) {
    if (!ma_vocabulary_key(v, id, &text, &length) || length == 0) continue;
    uint32_t at = 0;
    for (size_t i = 0; i < length; i++) {
      size_t slot = slot_of(u, at, (uint8_t)text[i]);
      if (!u->edges[slot].next) u->edges[slot] = (ma_edge){at, (uint32_t)u->n_nodes++, (uint8_t)text[i]};
      at = u->edges[slot].next;
    }
    u->leaves[at] = (int32_t)id; /* of equal tokens the last */
  }
done:
  return st;
}

ma_status ma_unigram_finish(ma_unigram *u, const ma_vocabulary *v, ma_error *err) {
  ma_status st = MA_OK;
  double lowest = 0;
  bool is_first = true;
  for (size_t id = 0; id < v->n; id++) {
    if (!v->tokens[id].is_model) continue;
    if (is_first || u->scores[id] < lowest) lowest = u->scores[id];
    is_first = false;
  }
  u->unknown_score = lowest - unknown_penalty;
  MA_TRY(make_trie(u, v, err));
  ma_vocabulary_find_bytes(v, true, u->byte_ids);
done:
  return st;
}

void ma_unigram_release(ma_unigram *u) {
  ma_free(u->scores);
  ma_free(u->edges);
  ma_free(u->leaves);
  *u = (ma_unigram){0};
}

/* ---- encoding ---- */

static void offer(node *to, double score, size_t from, int32_t id) {
  if (to->from == SIZE_MAX || score > to->score) *to = (node){.score = score, .from = from, .id = id};
}

static ma_status lacks_unknown(ma_error *err, const char *text, size_t length) {
  char name[16];
  return ma_fail(err, MA_BAD_ARGUMENT, "tokenizer: the text has %s, which is no token, and the model has no unk_id",
                 ma_character_name(text, length, name));
}

static ma_status find_best(const ma_unigram *u, const ma_vocabulary *v, node *best, const char *text, size_t length,
                           ma_error *err) {
  best[0] = (node){.id = -1};
  for (size_t i = 1; i <= length; i++) best[i].from = SIZE_MAX;
  for (size_t at = 0, n; at < length; at += n) {
    bool has_single = false;
    uint32_t state = 0;
    n = v->is_byte_level ? 1 : ma_utf8_sequence(text + at, length - at);
    if (n == 0) n = 1;
    for (size_t end = at; end < length; end++) {
      state = u->edges[slot_of(u, state, (uint8_t)text[end])].next;
      if (!state) break;
      int32_t id = u->leaves[state];
      if (id < 0) continue;
      offer(&best[end + 1], u->scores[id] + best[at].score, at, id);
      has_single |= end + 1 - at == n;
    }
    if (has_single) continue;
    node *to = &best[at + n];
    double score = u->unknown_score + best[at].score;
    bool is_better = to->from == SIZE_MAX || score > to->score;
    if (is_better && u->unknown < 0) return lacks_unknown(err, text + at, n);
    offer(to, score, at, u->unknown);
  }
  return MA_OK;
}

/* A stretch of unknown characters: a token of that text, its bytes, or the unknown token. */
static ma_status add_unknown(const ma_unigram *u, const ma_vocabulary *v, const char *text, size_t length, ma_ids *out,
                             ma_error *err) {
  ma_status st = MA_OK;
  int32_t id = ma_vocabulary_find(v, text, length);
  bool has_bytes = id < 0 && u->has_byte_fallback;
  for (size_t i = 0; i < length && has_bytes; i++) has_bytes = u->byte_ids[(uint8_t)text[i]] >= 0;
  if (!has_bytes) return ma_ids_add(out, id >= 0 ? id : u->unknown, err);
  for (size_t i = 0; i < length && st == MA_OK; i++) st = ma_ids_add(out, u->byte_ids[(uint8_t)text[i]], err);
  return st;
}

ma_status ma_unigram_encode(const ma_unigram *u, const ma_vocabulary *v, ma_scratch *s, const char *text, size_t length,
                            ma_ids *out, ma_error *err) {
  ma_status st = MA_OK;
  if (length + 1 > s->node_capacity) {
    MA_TRY(ma_resize((void **)&s->nodes, 2 * length + 64, sizeof *s->nodes, err));
    s->node_capacity = 2 * length + 64;
  }
  node *best = s->nodes;
  MA_TRY(find_best(u, v, best, text, length, err));
  for (size_t end = length; end > 0; end = best[end].from) best[best[end].from].to = end;
  for (size_t at = 0, end; at < length; at = end) {
    end = best[at].to;
    if (best[end].id != u->unknown) {
      MA_TRY(ma_ids_add(out, best[end].id, err));
      continue;
    }
    while (end < length && best[best[end].to].id == u->unknown) end = best[end].to;
    MA_TRY(add_unknown(u, v, text + at, end - at, out, err));
  }
done:
  return st;
}
