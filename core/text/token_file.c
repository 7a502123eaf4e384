#include "text/token_file.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/threads.h"
#include "text/feed.h"

enum { VERSION = 1, HEADER_BYTES = 128, MAX_U16_VOCABULARY = 1 << 16 };

#define NO_ID UINT32_MAX
static const char magic[8] = {'M', 'A', 'S', 'S', 'A', 'C', 'T', 'T'};

/* ---- the header ---- */

typedef struct header {
  char magic[8];
  uint32_t version, id_bytes;
  uint64_t n_tokens, n_documents;
  uint32_t vocab_size, bos, eos, zero;
  uint8_t vocabulary[MA_SHA256_BYTES];
  uint8_t reserved[48];
} header;

_Static_assert(sizeof(header) == HEADER_BYTES, "the header has no padding");

static header to_header(const ma_token_info *info) {
  header h = {.version = VERSION,
              .id_bytes = info->id_bytes,
              .n_tokens = info->n_tokens,
              .n_documents = info->n_documents,
              .vocab_size = info->vocab_size,
              .bos = info->bos < 0 ? NO_ID : (uint32_t)info->bos,
              .eos = info->eos < 0 ? NO_ID : (uint32_t)info->eos};
  memcpy(h.magic, magic, sizeof magic);
  memcpy(h.vocabulary, info->vocabulary, sizeof h.vocabulary);
  return h;
}

static bool is_zero(const uint8_t *bytes, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (bytes[i]) return false;
  return true;
}

static bool is_id(uint32_t id, const header *h) { return id == NO_ID || id < h->vocab_size; }

static ma_status check_header(const header *h, size_t size, const char *path, ma_error *err) {
  if (size < HEADER_BYTES || memcmp(h->magic, magic, sizeof magic) != 0)
    return ma_fail(err, MA_BAD_FILE, "'%s' is no token file; massact.tokens.write makes one from texts", path);
  if (h->version != VERSION)
    return ma_fail(err, MA_BAD_FILE, "token file '%s' has version %u, and this massact reads version %d", path,
                   h->version, VERSION);
  bool is_sound = (h->id_bytes == 2 || h->id_bytes == 4) && h->vocab_size > 0 && h->vocab_size <= INT32_MAX &&
                  (h->id_bytes == 4 || h->vocab_size <= MAX_U16_VOCABULARY) && is_id(h->bos, h) && is_id(h->eos, h) &&
                  h->zero == 0 && is_zero(h->reserved, sizeof h->reserved);
  if (!is_sound) return ma_fail(err, MA_BAD_FILE, "token file '%s': its header makes no sense", path);
  uint64_t bytes = size - HEADER_BYTES;
  if (bytes % h->id_bytes != 0 || bytes / h->id_bytes != h->n_tokens)
    return ma_fail(err, MA_BAD_FILE,
                   "token file '%s' says that it has %llu tokens of %u bytes, but %llu bytes follow: it is %s", path,
                   (unsigned long long)h->n_tokens, h->id_bytes, (unsigned long long)bytes,
                   bytes / h->id_bytes < h->n_tokens ? "cut off" : "too long");
  return MA_OK;
}

/* ---- reading ---- */

struct ma_token_file {
  ma_map *map;
  ma_token_info info;
};

ma_status ma_token_file_open(ma_token_file **out, const char *path, ma_error *err) {
  ma_status st = MA_OK;
  ma_token_file *f = NULL;
  header h = {0};
  *out = NULL;
  MA_TRY(MA_NEW(&f, 1, err));
  MA_TRY(ma_map_open(&f->map, path, err));
  size_t size = ma_map_size(f->map);
  if (size) memcpy(&h, ma_map_data(f->map), size < sizeof h ? size : sizeof h);
  MA_TRY(ma_map_check(f->map, err));
  MA_TRY(check_header(&h, size, path, err));
  f->info = (ma_token_info){.id_bytes = h.id_bytes,
                            .n_tokens = h.n_tokens,
                            .n_documents = h.n_documents,
                            .vocab_size = h.vocab_size,
                            .bos = h.bos == NO_ID ? -1 : (int32_t)h.bos,
                            .eos = h.eos == NO_ID ? -1 : (int32_t)h.eos};
  memcpy(f->info.vocabulary, h.vocabulary, sizeof h.vocabulary);
  *out = f;
  f = NULL;
done:
  ma_token_file_close(f);
  return st;
}

void ma_token_file_close(ma_token_file *f) {
  if (!f) return;
  ma_map_release(f->map);
  ma_free(f);
}

const ma_token_info *ma_token_file_info(const ma_token_file *f) { return &f->info; }

static uint32_t id_at(const ma_token_file *f, uint64_t at) {
  const uint8_t *ids = ma_map_data(f->map) + HEADER_BYTES;
  uint16_t narrow;
  uint32_t wide;
  if (f->info.id_bytes == 2) return memcpy(&narrow, ids + 2 * at, sizeof narrow), narrow;
  return memcpy(&wide, ids + 4 * at, sizeof wide), wide;
}

ma_status ma_token_file_read(const ma_token_file *f, uint64_t at, size_t n, ma_dtype dtype, void *out, ma_error *err) {
  const char *path = ma_map_path(f->map);
  if (at > f->info.n_tokens || n > f->info.n_tokens - at)
    return ma_fail(err, MA_BAD_ARGUMENT, "token file '%s' has %llu tokens; %zu from number %llu on are too many", path,
                   (unsigned long long)f->info.n_tokens, n, (unsigned long long)at);
  for (size_t i = 0; i < n; i++) {
    uint32_t id = id_at(f, at + i);
    if (id >= f->info.vocab_size)
      return ma_fail(err, MA_BAD_FILE,
                     "token file '%s': token number %llu is %u, beyond its vocabulary of %u: it is damaged", path,
                     (unsigned long long)(at + i), id, f->info.vocab_size);
    if (dtype == MA_I64) ((int64_t *)out)[i] = id;
    else ((int32_t *)out)[i] = (int32_t)id;
  }
  return ma_map_check(f->map, err);
}

/* ---- writing ---- */

/* A piece of text and what it becomes. */
typedef struct encoded {
  int32_t *ids;
  size_t n;
  ma_status st;
  ma_error err;
} encoded;

struct ma_token_writer {
  ma_writer *file;
  const ma_tokenizer *tokenizer;
  ma_token_info info;
  ma_feed feed;
  encoded *encoded; /* one a piece */
  size_t capacity;
};

static bool is_same(const int32_t *a, const int32_t *b, size_t n) { return n == 0 || memcmp(a, b, n * sizeof *a) == 0; }

/* Whether the ids on both sides of a cut are those of the whole, as far as its surroundings tell. */
static bool is_clean_cut(void *self, const char *text, size_t length, size_t at) {
  enum { CONTEXT = 256 };
  const ma_token_writer *w = self;
  size_t from = at < CONTEXT ? 0 : at - CONTEXT, to = length - at < CONTEXT ? length : at + CONTEXT, n = 0,
         n_before = 0, n_behind = 0;
  int32_t *whole = NULL, *before = NULL, *behind = NULL;
  while (from < at && ((uint8_t)text[from] & 0xC0) == 0x80) from++;
  while (to > at && to < length && ((uint8_t)text[to] & 0xC0) == 0x80) to--;
  bool is_clean = ma_tokenizer_encode(w->tokenizer, text + from, to - from, false, &whole, &n, NULL) == MA_OK &&
                  ma_tokenizer_encode(w->tokenizer, text + from, at - from, false, &before, &n_before, NULL) == MA_OK &&
                  ma_tokenizer_encode(w->tokenizer, text + at, to - at, false, &behind, &n_behind, NULL) == MA_OK &&
                  n == n_before + n_behind && is_same(whole, before, n_before) &&
                  is_same(whole + n_before, behind, n_behind);
  ma_free(whole);
  ma_free(before);
  ma_free(behind);
  return is_clean;
}

ma_status ma_token_writer_open(ma_token_writer **out, const char *path, const ma_tokenizer *tokenizer,
                               const ma_token_info *info, ma_error *err) {
  ma_status st = MA_OK;
  ma_token_writer *w = NULL;
  size_t size = ma_tokenizer_size(tokenizer);
  *out = NULL;
  MA_TRY(MA_NEW(&w, 1, err));
  w->tokenizer = tokenizer;
  w->info = *info;
  w->info.n_tokens = w->info.n_documents = 0;
  w->info.vocab_size = (uint32_t)size;
  w->info.id_bytes = size <= MAX_U16_VOCABULARY ? 2 : 4;
  w->feed.may_cut = is_clean_cut;
  w->feed.self = w;
  MA_TRY(ma_writer_open(&w->file, path, err));
  header h = to_header(&w->info);
  MA_TRY(ma_writer_write(w->file, &h, sizeof h, err));
  *out = w;
  w = NULL;
done:
  ma_token_writer_close(w);
  return st;
}

static void forget_encoded(ma_token_writer *w) {
  for (size_t i = 0; i < w->capacity; i++) {
    ma_free(w->encoded[i].ids);
    w->encoded[i] = (encoded){0};
  }
}

void ma_token_writer_close(ma_token_writer *w) {
  if (!w) return;
  forget_encoded(w);
  ma_free(w->encoded);
  ma_feed_release(&w->feed);
  ma_writer_close(w->file);
  ma_free(w);
}

static void encode_pieces(void *self, size_t begin, size_t end) {
  ma_token_writer *w = self;
  for (size_t i = begin; i < end; i++) {
    const ma_feed_piece *piece = &w->feed.pieces[i];
    encoded *e = &w->encoded[i];
    if (piece->length == 0) continue;
    e->st =
        ma_tokenizer_encode(w->tokenizer, w->feed.text.data + piece->at, piece->length, false, &e->ids, &e->n, &e->err);
  }
}

/* Ids as the file has them; u16 are made in place. */
static ma_status put_ids(ma_token_writer *w, int32_t *ids, size_t n, ma_error *err) {
  w->info.n_tokens += n;
  if (w->info.id_bytes == 4) return ma_writer_write(w->file, ids, n * sizeof *ids, err);
  uint8_t *narrow = (uint8_t *)ids;
  for (size_t i = 0; i < n; i++) {
    uint16_t id = (uint16_t)ids[i];
    memcpy(narrow + 2 * i, &id, sizeof id);
  }
  return ma_writer_write(w->file, narrow, 2 * n, err);
}

static ma_status put_id(ma_token_writer *w, int32_t id, ma_error *err) {
  return id < 0 ? MA_OK : put_ids(w, &id, 1, err);
}

/* Encodes the pieces that have come together, and writes them in their order. */
static ma_status write_round(ma_token_writer *w, ma_error *err) {
  ma_status st = MA_OK;
  size_t n = w->feed.n_pieces;
  if (n > w->capacity) {
    MA_TRY(ma_resize((void **)&w->encoded, n, sizeof *w->encoded, err));
    memset(w->encoded + w->capacity, 0, (n - w->capacity) * sizeof *w->encoded);
    w->capacity = n;
  }
  ma_parallel_for(n, 1, encode_pieces, w);
  for (size_t i = 0; i < n; i++) {
    const ma_feed_piece *piece = &w->feed.pieces[i];
    encoded *e = &w->encoded[i];
    if (e->st != MA_OK && err) *err = e->err;
    MA_TRY(e->st);
    if (piece->begins && piece->ends && piece->length == 0) continue; /* an empty document is none */
    if (piece->begins) {
      w->info.n_documents++;
      MA_TRY(put_id(w, w->info.bos, err));
    }
    MA_TRY(put_ids(w, e->ids, e->n, err));
    if (piece->ends) MA_TRY(put_id(w, w->info.eos, err));
  }
  ma_feed_drop(&w->feed);
done:
  forget_encoded(w);
  return st;
}

ma_status ma_token_writer_add(ma_token_writer *w, const char *text, size_t length, bool ends, ma_error *err) {
  ma_status st = MA_OK;
  MA_TRY(ma_feed_add(&w->feed, text, length, ends, err));
  if (ma_feed_is_full(&w->feed)) MA_TRY(write_round(w, err));
done:
  return st;
}

ma_status ma_token_writer_commit(ma_token_writer *w, ma_error *err) {
  ma_status st = MA_OK;
  MA_TRY(ma_feed_end(&w->feed, err));
  MA_TRY(write_round(w, err));
  header h = to_header(&w->info);
  MA_TRY(ma_writer_patch(w->file, 0, &h, sizeof h, err));
  MA_TRY(ma_writer_commit(w->file, err));
done:
  return st;
}
