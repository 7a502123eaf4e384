/* Documents that come in parts, cut into pieces that threads can work on: long ones after line ends where that changes nothing
 * (see ma_feed_add), short ones a piece each. */
#ifndef MASSACT_TEXT_FEED_H
#define MASSACT_TEXT_FEED_H

#include "text/text_internal.h"

typedef struct ma_feed_piece {
  size_t at, length; /* in the feed's text */
  bool begins, ends; /* a document */
} ma_feed_piece;

typedef struct ma_feed {
  ma_text text;
  ma_feed_piece *pieces; /* ready to be worked on */
  size_t n_pieces, piece_capacity;
  size_t open;     /* where what is not a piece yet begins */
  size_t checked;  /* up to where the text is known to be UTF-8 */
  size_t searched; /* up to where no place to cut was found */
  size_t offset;   /* of the text's byte 0 in the open document */
  bool is_inside;  /* a document, of which a piece is made */
  int n_refused;   /* places in a row where may_cut said no */
  /* Whether cutting `text` at `at` changes nothing for whoever reads the pieces; NULL: it never does much, and a document
   * without a good place is cut at a bad one. */
  bool (*may_cut)(void *self, const char *text, size_t length, size_t at);
  void *self;
} ma_feed;

/* The next part of a document; `ends`: it is the last.  Good places to cut at are line ends between two characters that are no
 * blanks, which no usual pattern takes together with what follows.  What is not UTF-8 fails with its offset in the document,
 * a document that is longer than MA_FEED_LIMIT and cannot be cut with MA_UNSUPPORTED. */
ma_status ma_feed_add(ma_feed *f, const char *text, size_t length, bool ends, ma_error *err);
/* Ends a document that is open. */
ma_status ma_feed_end(ma_feed *f, ma_error *err);
/* Whether the pieces are enough for all threads. */
bool ma_feed_is_full(const ma_feed *f);
/* Forgets the pieces. */
void ma_feed_drop(ma_feed *f);
void ma_feed_release(ma_feed *f);

enum { MA_FEED_LIMIT = 1 << 30 };

#endif
