/* Byte-pair encoding (Sennrich et al. 2016): of all neighbours that may be merged the one with the lowest rank is,
 * the leftmost of equals, until none is left.  A heap of candidates over a linked list of symbols makes that
 * n log n for a word of any length. */
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "text/text_internal.h"

struct ma_symbol {
  int32_t id;
  int32_t previous, next; /* -1: none.  A symbol that was merged away has id -1 */
};

/* A merge that was possible when it was noted; it still is if both symbols are what they were. */
struct ma_candidate {
  uint32_t rank;
  int32_t left, left_id, right_id, id;
};

typedef struct ma_symbol symbol;
typedef struct ma_candidate candidate;

/* ---- the table of merges ---- */

static size_t slot_of(const ma_bpe *b, uint64_t pair) {
  uint64_t h = pair * 0x9E3779B97F4A7C15u;
  size_t at = (size_t)(h >> 20) & (b->n_slots - 1);
  while (b->slots[at].pair != UINT64_MAX && b->slots[at].pair != pair) at = (at + 1) & (b->n_slots - 1);
  return at;
}

ma_status ma_bpe_reserve(ma_bpe *b, size_t n, ma_error *err) {
  b->n_slots = 64;
  while (b->n_slots < 3 * n) b->n_slots *= 2;
  ma_status st = MA_NEW(&b->slots, b->n_slots, err);
  for (size_t i = 0; st == MA_OK && i < b->n_slots; i++) b->slots[i].pair = UINT64_MAX;
  return st;
}

static uint64_t pair_of(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

void ma_bpe_add(ma_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id, bool replaces) {
  size_t at = slot_of(b, pair_of(left, right));
  if (b->slots[at].pair != UINT64_MAX && !replaces) return;
  b->n += b->slots[at].pair == UINT64_MAX;
  b->slots[at] = (ma_merge){pair_of(left, right), rank, id};
}

void ma_bpe_release(ma_bpe *b) {
  ma_free(b->slots);
  ma_free(b->joints);
  *b = (ma_bpe){0};
}

/* ---- joints: where a piece can be cut before merging ----
 *
 * A merge of A and B joins the last character of A with the first of B.  Neighbours that no merge joins stay apart
 * whatever happens around them, so what lies between such places is merged on its own: a text without pre-tokenizer
 * falls into words, which fit the cache.  The set of joints is a bit for a hash: a false hit only cuts less. */

enum { JOINT_BITS = 18 };

static size_t joint_of(int32_t left, int32_t right) {
  return (size_t)((pair_of(left, right) * 0x9E3779B97F4A7C15u) >> (64 - JOINT_BITS));
}

static bool may_join(const ma_bpe *b, int32_t left, int32_t right) {
  size_t at = joint_of(left, right);
  return !b->joints || (b->joints[at / 64] >> (at % 64) & 1);
}

/* The first or last character of a token's text, by id; -1: it is no token. */
static int32_t edge_of(const ma_bpe *b, const ma_vocabulary *v, int32_t id, bool last) {
  const char *text;
  size_t length, n = 1, at = 0;
  if (!ma_vocabulary_key(v, (size_t)id, &text, &length) || length == 0) return -1;
  if (v->is_byte_level) return b->byte_ids[(uint8_t)text[last ? length - 1 : 0]];
  if (last)
    for (at = length - 1; at > 0 && ((uint8_t)text[at] & 0xC0) == 0x80;) at--;
  n = ma_utf8_sequence(text + at, length - at);
  return n ? ma_vocabulary_find(v, text + at, n) : -1;
}

ma_status ma_bpe_finish(ma_bpe *b, const ma_vocabulary *v, ma_error *err) {
  ma_vocabulary_find_bytes(v, !v->is_byte_level, b->byte_ids);
  ma_status st = MA_NEW(&b->joints, (1u << JOINT_BITS) / 64, err);
  for (size_t i = 0; st == MA_OK && i < b->n_slots; i++) {
    if (b->slots[i].pair == UINT64_MAX) continue;
    int32_t left = (int32_t)(b->slots[i].pair >> 32), right = (int32_t)b->slots[i].pair;
    bool is_plain = left != b->unknown && right != b->unknown;
    for (int byte = 0; byte < 256 && !v->is_byte_level; byte++)
      is_plain &= left != b->byte_ids[byte] && right != b->byte_ids[byte];
    int32_t from = edge_of(b, v, left, true), to = edge_of(b, v, right, false);
    if (!is_plain || from < 0 || to < 0) {
      /* Symbols that are not characters take part in merges: cut nowhere. */
      ma_free(b->joints);
      b->joints = NULL;
      break;
    }
    size_t at = joint_of(from, to);
    b->joints[at / 64] |= (uint64_t)1 << (at % 64);
  }
  return st;
}

/* ---- the heap ---- */

static bool comes_first(const candidate *a, const candidate *b) {
  return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static ma_status push(ma_scratch *s, candidate c, ma_error *err) {
  if (s->n_heap == s->heap_capacity) {
    size_t capacity = s->heap_capacity ? 2 * s->heap_capacity : 256;
    ma_status st = ma_resize((void **)&s->heap, capacity, sizeof *s->heap, err);
    if (st != MA_OK) return st;
    s->heap_capacity = capacity;
  }
  size_t at = s->n_heap++;
  for (; at > 0 && comes_first(&c, &s->heap[(at - 1) / 2]); at = (at - 1) / 2) s->heap[at] = s->heap[(at - 1) / 2];
  s->heap[at] = c;
  return MA_OK;
}

static candidate pop(ma_scratch *s) {
  candidate first = s->heap[0], last = s->heap[--s->n_heap];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= s->n_heap) break;
    if (child + 1 < s->n_heap && comes_first(&s->heap[child + 1], &s->heap[child])) child++;
    if (!comes_first(&s->heap[child], &last)) break;
    s->heap[at] = s->heap[child];
    at = child;
  }
  if (s->n_heap) s->heap[at] = last;
  return first;
}

/* ---- symbols ---- */

static ma_status add_symbol(ma_scratch *s, int32_t id, ma_error *err) {
  if (s->n_symbols == s->symbol_capacity) {
    size_t capacity = s->symbol_capacity ? 2 * s->symbol_capacity : 256;
    if (capacity > INT32_MAX) return ma_fail(err, MA_BAD_ARGUMENT, "tokenizer: a word of 2^31 symbols");
    ma_status st = ma_resize((void **)&s->symbols, capacity, sizeof *s->symbols, err);
    if (st != MA_OK) return st;
    s->symbol_capacity = capacity;
  }
  int32_t at = (int32_t)s->n_symbols++;
  s->symbols[at] = (symbol){id, at - 1, at + 1};
  return MA_OK;
}

/* The ids of the bytes of a character that is no token; false where one of them is none either. */
static bool has_bytes(const ma_bpe *b, const char *text, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (b->byte_ids[(uint8_t)text[i]] < 0) return false;
  return b->has_byte_fallback;
}

static ma_status start(const ma_bpe *b, const ma_vocabulary *v, ma_scratch *s, const char *text, size_t length,
                       ma_error *err) {
  ma_status st = MA_OK;
  char name[16];
  bool is_unknown = false; /* an unknown token is due: it comes before the next known one */
  s->n_symbols = 0;
  for (size_t at = 0, n; at < length; at += n) {
    n = v->is_byte_level ? 1 : ma_utf8_sequence(text + at, length - at);
    if (n == 0) n = 1;
    int32_t id = v->is_byte_level ? b->byte_ids[(uint8_t)text[at]] : ma_vocabulary_find(v, text + at, n);
    if (id >= 0) {
      if (is_unknown) MA_TRY(add_symbol(s, b->unknown, err));
      is_unknown = false;
      MA_TRY(add_symbol(s, id, err));
    } else if (has_bytes(b, text + at, n)) {
      for (size_t i = 0; i < n; i++) MA_TRY(add_symbol(s, b->byte_ids[(uint8_t)text[at + i]], err));
    } else if (b->lacks_unknown) {
      MA_TRY(ma_fail(err, MA_BAD_ARGUMENT,
                     "tokenizer: the text has %s, which is no token, and the vocabulary lacks the unknown token",
                     ma_character_name(text + at, n, name)));
    } else if (b->unknown >= 0) {
      if (is_unknown && !b->fuses_unknown) MA_TRY(add_symbol(s, b->unknown, err));
      is_unknown = true;
    }
  }
  if (is_unknown) MA_TRY(add_symbol(s, b->unknown, err));
done:
  return st;
}

/* ---- merging ---- */

/* Notes the merge of the symbol at `left` with its neighbour, if there is one. */
static ma_status note(const ma_bpe *b, ma_scratch *s, int32_t left, ma_error *err) {
  if (left < 0 || s->symbols[left].next < 0) return MA_OK;
  int32_t left_id = s->symbols[left].id, right_id = s->symbols[s->symbols[left].next].id;
  const ma_merge *m = &b->slots[slot_of(b, pair_of(left_id, right_id))];
  if (m->pair == UINT64_MAX) return MA_OK;
  return push(s, (candidate){m->rank, left, left_id, right_id, m->id}, err);
}

/* Merges symbols from .. to - 1 among themselves and adds what is left of them. */
static ma_status merge_stretch(const ma_bpe *b, ma_scratch *s, int32_t from, int32_t to, ma_ids *out, ma_error *err) {
  ma_status st = MA_OK;
  s->n_heap = 0;
  s->symbols[to - 1].next = -1;
  s->symbols[from].previous = -1;
  for (int32_t i = from; i < to; i++) MA_TRY(note(b, s, i, err));
  while (s->n_heap) {
    candidate c = pop(s);
    symbol *left = &s->symbols[c.left];
    if (left->id != c.left_id || left->next < 0) continue;
    symbol *right = &s->symbols[left->next];
    if (right->id != c.right_id) continue;
    left->id = c.id;
    right->id = -1;
    left->next = right->next;
    if (left->next >= 0) s->symbols[left->next].previous = c.left;
    MA_TRY(note(b, s, left->previous, err));
    MA_TRY(note(b, s, c.left, err));
  }
  for (int32_t i = from; i >= 0; i = s->symbols[i].next) MA_TRY(ma_ids_add(out, s->symbols[i].id, err));
done:
  return st;
}

ma_status ma_bpe_encode(const ma_bpe *b, const ma_vocabulary *v, ma_scratch *s, const char *text, size_t length,
                        ma_ids *out, ma_error *err) {
  ma_status st = MA_OK;
  if (b->ignores_merges) {
    int32_t whole = ma_vocabulary_find(v, text, length);
    if (whole >= 0) return ma_ids_add(out, whole, err);
  }
  MA_TRY(start(b, v, s, text, length, err));
  int32_t n = (int32_t)s->n_symbols;
  for (int32_t from = 0, to; from < n; from = to) {
    for (to = from + 1; to < n && may_join(b, s->symbols[to - 1].id, s->symbols[to].id);) to++;
    MA_TRY(merge_stretch(b, s, from, to, out, err));
  }
done:
  return st;
}

void ma_scratch_release(ma_scratch *s) {
  ma_free(s->symbols);
  ma_free(s->heap);
  ma_free(s->nodes);
  *s = (ma_scratch){0};
}
