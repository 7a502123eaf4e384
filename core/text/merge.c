/* Words to merges.  All words lie behind each other in one array, a slot a byte; a token takes as many slots as it has bytes:
 * its id in the first, and in the last, where it has several, how many they are, so that neighbours are found both ways.  Each
 * pair of neighbours knows how often it occurs and where; merging one touches only these places. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/threads.h"
#include "text/train_internal.h"

#define INSIDE 0x80000000u /* of a slot that begins no token; in a last one the token's length is added */
#define NONE   UINT32_MAX

typedef struct place {
  uint32_t slot, next; /* next: NONE ends the list */
} place;

typedef struct pair {
  uint32_t left, right;
  uint32_t first, last; /* of its places; first may be NONE */
  uint32_t changed;     /* the last merge that made it more frequent */
  uint32_t merge;       /* the merge that it has become; NONE */
  int64_t count;
} pair;

/* What to merge next: the most frequent, among these the smallest ids.  A count may be out of date, but only too high. */
typedef struct candidate {
  int64_t count;
  uint64_t key; /* left << 32 | right */
  uint32_t pair;
} candidate;

typedef struct merger {
  const ma_words *words;
  uint32_t *slots, *word_of; /* word_of: which word a slot belongs to */
  size_t n_slots;
  ma_words *tokens;
  uint32_t *lengths; /* of tokens in bytes, room for all */
  pair *pairs;
  size_t n_pairs, pair_capacity;
  uint32_t *index; /* pair + 1, open addressing by left and right */
  size_t n_index;
  place *places;
  size_t n_places, place_capacity;
  uint32_t free_place; /* a list of places that are no longer used */
  candidate *heap;
  size_t n_heap, heap_capacity;
  uint32_t *changed; /* pairs that the current merge made more frequent */
  size_t n_changed, changed_capacity;
  uint32_t *merges; /* left, right; left = NONE: made again by a later one */
  size_t n_merges, merge_capacity;
  ma_text spelling;
  ma_error *err;
} merger;

static ma_status reserve(void **block, size_t *capacity, size_t needed, size_t size, ma_error *err) {
  if (needed <= *capacity) return MA_OK;
  size_t wanted = *capacity ? 2 * *capacity : 1024;
  if (wanted >= NONE)
    return ma_fail(err, MA_UNSUPPORTED, "the text has too many different words to train a tokenizer on");
  ma_status st = ma_resize(block, wanted, size, err);
  if (st == MA_OK) *capacity = wanted;
  return st;
}

/* ---- pairs ---- */

static size_t hash(uint32_t left, uint32_t right) {
  uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
  return (size_t)(h ^ h >> 29);
}

static ma_status grow_index(merger *m) {
  size_t n = m->n_index ? 2 * m->n_index : 4096;
  uint32_t *index;
  ma_status st = MA_NEW(&index, n, m->err);
  if (st != MA_OK) return st;
  for (size_t i = 0; i < m->n_pairs; i++) {
    size_t at = hash(m->pairs[i].left, m->pairs[i].right) & (n - 1);
    while (index[at]) at = (at + 1) & (n - 1);
    index[at] = (uint32_t)i + 1;
  }
  ma_free(m->index);
  m->index = index;
  m->n_index = n;
  return MA_OK;
}

/* The pair, new where it is not known. */
static ma_status find_pair(merger *m, uint32_t left, uint32_t right, uint32_t *out) {
  ma_status st = MA_OK;
  if (2 * m->n_pairs >= m->n_index) MA_TRY(grow_index(m));
  size_t at = hash(left, right) & (m->n_index - 1);
  for (; m->index[at]; at = (at + 1) & (m->n_index - 1)) {
    const pair *p = &m->pairs[m->index[at] - 1];
    if (p->left != left || p->right != right) continue;
    *out = m->index[at] - 1;
    return MA_OK;
  }
  MA_TRY(reserve((void **)&m->pairs, &m->pair_capacity, m->n_pairs + 1, sizeof *m->pairs, m->err));
  *out = (uint32_t)m->n_pairs++;
  m->pairs[*out] = (pair){.left = left, .right = right, .first = NONE, .last = NONE, .changed = NONE, .merge = NONE};
  m->index[at] = *out + 1;
done:
  return st;
}

static ma_status add_place(merger *m, pair *p, uint32_t slot) {
  uint32_t new = m->free_place;
  if (new != NONE) {
    m->free_place = m->places[new].next;
  } else {
    ma_status st = reserve((void **)&m->places, &m->place_capacity, m->n_places + 1, sizeof *m->places, m->err);
    if (st != MA_OK) return st;
    new = (uint32_t)m->n_places++;
  }
  m->places[new] = (place){slot, NONE};
  if (p->first == NONE) p->first = new;
  else m->places[p->last].next = new;
  p->last = new;
  return MA_OK;
}

/* ---- candidates: a heap ---- */

static bool precedes(const candidate *a, const candidate *b) {
  return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void sift_down(merger *m, size_t at) {
  candidate moved = m->heap[at];
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= m->n_heap) break;
    if (child + 1 < m->n_heap && precedes(&m->heap[child + 1], &m->heap[child])) child++;
    if (!precedes(&m->heap[child], &moved)) break;
    m->heap[at] = m->heap[child];
    at = child;
  }
  m->heap[at] = moved;
}

static ma_status push(merger *m, uint32_t index) {
  const pair *p = &m->pairs[index];
  if (p->count <= 0) return MA_OK;
  ma_status st = reserve((void **)&m->heap, &m->heap_capacity, m->n_heap + 1, sizeof *m->heap, m->err);
  if (st != MA_OK) return st;
  candidate new = {p->count, (uint64_t)p->left << 32 | p->right, index};
  size_t at = m->n_heap++;
  while (at > 0 && precedes(&new, &m->heap[(at - 1) / 2])) {
    m->heap[at] = m->heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  m->heap[at] = new;
  return MA_OK;
}

/* The pair to merge next, NULL where none occurs `least` times. */
static pair *pop(merger *m, int64_t least) {
  while (m->n_heap > 0) {
    candidate *top = &m->heap[0];
    pair *p = &m->pairs[top->pair];
    bool is_current = top->count == p->count && p->first != NONE;
    if (p->first == NONE || is_current) {
      *top = m->heap[--m->n_heap];
    } else {
      top->count = p->count;
    }
    if (m->n_heap) sift_down(m, 0);
    if (is_current) return p->count >= least ? p : NULL;
  }
  return NULL;
}

/* ---- words ---- */

static uint64_t bytes_of_words(const ma_words *words) {
  uint64_t n = 0;
  for (size_t i = 0; i < words->n; i++) n += words->words[i].length;
  return n;
}

static ma_status lay_out(merger *m, const uint32_t byte_ids[256]) {
  ma_status st = MA_OK;
  uint64_t n = bytes_of_words(m->words);
  if (n >= INSIDE)
    MA_TRY(ma_fail(m->err, MA_UNSUPPORTED, "the text has too many different words to train a tokenizer on"));
  MA_TRY(MA_NEW(&m->slots, n, m->err));
  MA_TRY(MA_NEW(&m->word_of, n, m->err));
  for (size_t i = 0; i < m->words->n; i++) {
    const char *text = ma_words_text(m->words, i);
    for (uint32_t k = 0; k < m->words->words[i].length; k++) {
      m->word_of[m->n_slots] = (uint32_t)i;
      m->slots[m->n_slots++] = byte_ids[(uint8_t)text[k]];
    }
  }
done:
  return st;
}

static int64_t count_at(const merger *m, size_t slot) { return (int64_t)m->words->words[m->word_of[slot]].count; }

/* Counts the pairs of the bytes. */
static ma_status first_pairs(merger *m) {
  ma_status st = MA_OK;
  for (size_t at = 1; at < m->n_slots; at++) {
    uint32_t index;
    if (m->word_of[at] != m->word_of[at - 1]) continue;
    MA_TRY(find_pair(m, m->slots[at - 1], m->slots[at], &index));
    m->pairs[index].count += count_at(m, at);
    MA_TRY(add_place(m, &m->pairs[index], (uint32_t)at - 1));
  }
  for (size_t i = 0; i < m->n_pairs; i++) MA_TRY(push(m, (uint32_t)i));
done:
  return st;
}

/* ---- merging ---- */

/* The pair of the tokens at and behind `slot` has become more frequent. */
static ma_status gain(merger *m, uint32_t left, uint32_t right, size_t slot) {
  ma_status st = MA_OK;
  uint32_t index;
  MA_TRY(find_pair(m, left, right, &index));
  pair *p = &m->pairs[index];
  p->count += count_at(m, slot);
  MA_TRY(add_place(m, p, (uint32_t)slot));
  if (p->changed == m->n_merges) goto done;
  p->changed = (uint32_t)m->n_merges;
  MA_TRY(reserve((void **)&m->changed, &m->changed_capacity, m->n_changed + 1, sizeof *m->changed, m->err));
  m->changed[m->n_changed++] = index;
done:
  return st;
}

static ma_status lose(merger *m, uint32_t left, uint32_t right, size_t slot) {
  uint32_t index;
  ma_status st = find_pair(m, left, right, &index);
  if (st == MA_OK) m->pairs[index].count -= count_at(m, slot);
  return st;
}

/* Whether a token begins at `slot` in the word of `other`. */
static bool is_beside(const merger *m, size_t slot, size_t other) {
  return slot < m->n_slots && m->word_of[slot] == m->word_of[other];
}

/* Joins the tokens left and right at `slot` to `id`, where they still are. */
static ma_status join_at(merger *m, uint32_t left, uint32_t right, uint32_t id, size_t slot) {
  ma_status st = MA_OK;
  if (m->slots[slot] != left) return MA_OK;
  size_t second = slot + m->lengths[left];
  if (!is_beside(m, second, slot) || m->slots[second] != right) return MA_OK;
  size_t behind = second + m->lengths[right];
  if (slot > 0 && is_beside(m, slot - 1, slot)) {
    uint32_t last = m->slots[slot - 1];
    size_t before = last & INSIDE ? slot - (last & ~INSIDE) : slot - 1;
    MA_TRY(lose(m, m->slots[before], left, slot));
    MA_TRY(gain(m, m->slots[before], id, before));
  }
  m->slots[slot] = id;
  m->slots[second] = INSIDE;
  m->slots[behind - 1] = INSIDE | (uint32_t)(behind - slot);
  if (is_beside(m, behind, slot)) {
    MA_TRY(lose(m, right, m->slots[behind], slot));
    MA_TRY(gain(m, id, m->slots[behind], slot));
  }
done:
  return st;
}

/* The token that two make: a new one, or one of the same spelling. */
static ma_status make_token(merger *m, uint32_t left, uint32_t right, uint32_t *id) {
  ma_status st = MA_OK;
  size_t index;
  m->spelling.length = 0;
  MA_TRY(ma_text_add(&m->spelling, ma_words_text(m->tokens, left), m->tokens->words[left].length, m->err));
  MA_TRY(ma_text_add(&m->spelling, ma_words_text(m->tokens, right), m->tokens->words[right].length, m->err));
  MA_TRY(ma_words_add(m->tokens, m->spelling.data, m->spelling.length, 0, &index, m->err));
  m->lengths[index] = m->lengths[left] + m->lengths[right];
  *id = (uint32_t)index;
done:
  return st;
}

static ma_status merge(merger *m, pair *best) {
  ma_status st = MA_OK;
  uint32_t id, left = best->left, right = best->right, first = best->first, last = best->last;
  MA_TRY(make_token(m, left, right, &id));
  MA_TRY(reserve((void **)&m->merges, &m->merge_capacity, m->n_merges + 1, 2 * sizeof *m->merges, m->err));
  /* A pair that a token of the same spelling brings back is merged again: the later rank holds. */
  if (best->merge != NONE) m->merges[2 * best->merge] = NONE;
  best->merge = (uint32_t)m->n_merges;
  best->first = best->last = NONE;
  m->n_changed = 0;
  for (uint32_t at = first; at != NONE; at = m->places[at].next)
    MA_TRY(join_at(m, left, right, id, m->places[at].slot));
  m->places[last].next = m->free_place;
  m->free_place = first;
  for (size_t i = 0; i < m->n_changed; i++) MA_TRY(push(m, m->changed[i]));
  m->merges[2 * m->n_merges] = left;
  m->merges[2 * m->n_merges + 1] = right;
  m->n_merges++;
done:
  return st;
}

static ma_status merge_all(merger *m, size_t vocab_size, int64_t least) {
  ma_status st = MA_OK;
  size_t begun = m->tokens->n;
  ma_progress progress;
  ma_progress_start(&progress, "merges", vocab_size - begun);
  while (m->tokens->n < vocab_size) {
    if (ma_interrupted()) MA_TRY(ma_fail(m->err, MA_INTERRUPTED, "interrupted"));
    pair *best = pop(m, least);
    if (!best) break;
    MA_TRY(merge(m, best));
    ma_progress_update(&progress, m->tokens->n - begun);
  }
done:
  ma_progress_end(&progress);
  return st;
}

/* Drops merges that were made again. */
static void tidy(merger *m) {
  size_t kept = 0;
  for (size_t i = 0; i < m->n_merges; i++) {
    if (m->merges[2 * i] == NONE) continue;
    m->merges[2 * kept] = m->merges[2 * i];
    m->merges[2 * kept + 1] = m->merges[2 * i + 1];
    kept++;
  }
  m->n_merges = kept;
}

ma_status ma_merge_words(const ma_words *words, size_t vocab_size, uint64_t min_frequency, ma_words *tokens,
                         const uint32_t byte_ids[256], uint32_t **merges, size_t *n_merges, ma_error *err) {
  ma_status st = MA_OK;
  merger m = {.words = words, .tokens = tokens, .free_place = NONE, .err = err};
  int64_t least = min_frequency < 1 ? 1 : min_frequency > INT64_MAX ? INT64_MAX : (int64_t)min_frequency;
  *merges = NULL;
  *n_merges = 0;
  MA_TRY(MA_NEW(&m.lengths, vocab_size, err));
  for (int byte = 0; byte < 256; byte++) m.lengths[byte_ids[byte]] = 1;
  MA_TRY(lay_out(&m, byte_ids));
  MA_TRY(first_pairs(&m));
  MA_TRY(merge_all(&m, vocab_size, least));
  tidy(&m);
  *merges = m.merges;
  *n_merges = m.n_merges;
  m.merges = NULL;
done:
  ma_free(m.slots);
  ma_free(m.word_of);
  ma_free(m.lengths);
  ma_free(m.pairs);
  ma_free(m.index);
  ma_free(m.places);
  ma_free(m.heap);
  ma_free(m.changed);
  ma_free(m.merges);
  ma_text_release(&m.spelling);
  return st;
}
