/* Cutting pieces at matches: a piece becomes stretches, matches and what lies between, which the behaviour drops or
 * joins. */
#include "base/memory.h"
#include "text/text_internal.h"

/* A stretch of a piece: a match or what lies between two. */
typedef struct stretch {
  size_t at, length;
  bool is_match;
} stretch;

/* Collects stretches into new spans, as the behaviour says. */
typedef struct cutter {
  const ma_step *step;
  ma_pieces *out;
  stretch held; /* not added yet: the next one may join it */
  bool holds;
  ma_error *err;
} cutter;

static ma_status flush(cutter *c) {
  if (!c->holds) return MA_OK;
  c->holds = false;
  return ma_pieces_add(c->out, c->held.at, c->held.length, c->err);
}

static ma_status take(cutter *c, stretch s) {
  bool joins = false;
  if (c->step->is_inverted) s.is_match = !s.is_match;
  switch (c->step->behaviour) {
    case MA_SPLIT_REMOVED:
      if (s.is_match) return flush(c);
      break;
    case MA_SPLIT_ISOLATED: break;
    case MA_SPLIT_MERGED_WITH_PREVIOUS: joins = c->holds && s.is_match && !c->held.is_match; break;
    case MA_SPLIT_MERGED_WITH_NEXT: joins = c->holds && !s.is_match && c->held.is_match; break;
    case MA_SPLIT_CONTIGUOUS: joins = c->holds && s.is_match == c->held.is_match; break;
  }
  if (joins) {
    c->held.length += s.length;
    /* A joined pair ends a chain in both merging behaviours. */
    if (c->step->behaviour != MA_SPLIT_CONTIGUOUS) return flush(c);
    return MA_OK;
  }
  ma_status st = flush(c);
  c->held = s;
  c->holds = true;
  return st;
}

static ma_status split_piece(cutter *c, ma_matches *matches, const char *text, ma_span piece) {
  size_t done = 0;
  ma_status st = MA_OK;
  ma_matches_start(matches, text + piece.at, piece.length);
  for (;;) {
    ma_span match;
    bool found;
    MA_TRY(ma_matches_next(matches, &match, &found, c->err));
    if (!found) break;
    if (match.at > done) MA_TRY(take(c, (stretch){piece.at + done, match.at - done, false}));
    MA_TRY(take(c, (stretch){piece.at + match.at, match.length, true}));
    done = match.at + match.length;
  }
  if (piece.length > done) MA_TRY(take(c, (stretch){piece.at + done, piece.length - done, false}));
  MA_TRY(flush(c));
done:
  return st;
}

ma_status ma_step_split(const ma_step *step, ma_pieces *pieces, ma_error *err) {
  ma_status st = MA_OK;
  ma_pieces out = {0};
  ma_matches matches = {0};
  cutter c = {.step = step, .out = &out, .err = err};
  MA_TRY(ma_matches_open(&matches, &step->pattern, err));
  for (size_t i = 0; i < pieces->n; i++) MA_TRY(split_piece(&c, &matches, pieces->text.data, pieces->spans[i]));
  ma_free(pieces->spans);
  pieces->spans = out.spans;
  pieces->n = out.n;
  pieces->capacity = out.capacity;
  out = (ma_pieces){0};
done:
  ma_matches_close(&matches);
  ma_pieces_release(&out);
  return st;
}
