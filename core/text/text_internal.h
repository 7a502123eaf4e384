/* What the parts of a tokenizer share.  Text flows as pieces: spans over one buffer, which a step cuts further
 * or rewrites. */
#ifndef MASSACT_TEXT_INTERNAL_H
#define MASSACT_TEXT_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>

#include "text/tokenizer.h"

/* ---- growing text ---- */

typedef struct ma_text {
  char *data; /* with a NUL behind, once anything was added */
  size_t length, capacity;
} ma_text;

ma_status ma_text_add(ma_text *t, const char *data, size_t length, ma_error *err);
void ma_text_release(ma_text *t);

/* ---- pieces ---- */

typedef struct ma_span {
  size_t at, length;
} ma_span;

typedef struct ma_pieces {
  ma_text text;
  ma_span *spans;
  size_t n, capacity;
} ma_pieces;

ma_status ma_pieces_add(ma_pieces *p, size_t at, size_t length, ma_error *err);
void ma_pieces_release(ma_pieces *p);

/* ---- patterns ---- */

/* A compiled regular expression (PCRE2, JIT) or a literal string. */
typedef struct ma_pattern {
  pcre2_code *code;
  char *literal;
  size_t literal_length;
} ma_pattern;

ma_status ma_pattern_regex(ma_pattern *out, const char *regex, ma_error *err);
ma_status ma_pattern_literal(ma_pattern *out, const char *text, size_t length, ma_error *err);
void ma_pattern_release(ma_pattern *p);

/* Next match at or behind `from`; *found false: none.  `data` belongs to the call (NULL for literals). */
ma_status ma_pattern_find(const ma_pattern *p, pcre2_match_data *data, const char *text, size_t length,
                          size_t from, ma_span *match, bool *found, ma_error *err);

/* ---- normalisers and pre-tokenizers: a list of steps ---- */

typedef enum ma_step_kind {
  MA_STEP_UNICODE,    /* `form` of utf8proc */
  MA_STEP_LOWER,
  MA_STEP_PREPEND,    /* `content` before text that is not empty */
  MA_STEP_REPLACE,    /* `pattern` by `content` */
  MA_STEP_STRIP,      /* white space at either end */
  MA_STEP_SPLIT,      /* at matches of `pattern`, by `behaviour` */
  MA_STEP_SPACE,      /* a blank before a piece that begins with none (ByteLevel's add_prefix_space) */
  MA_STEP_METASPACE   /* blanks become `content`, one is put in front, cut before each */
} ma_step_kind;

typedef enum ma_behaviour {
  MA_SPLIT_REMOVED,
  MA_SPLIT_ISOLATED,
  MA_SPLIT_MERGED_WITH_PREVIOUS,
  MA_SPLIT_MERGED_WITH_NEXT,
  MA_SPLIT_CONTIGUOUS
} ma_behaviour;

typedef struct ma_step {
  ma_step_kind kind;
  ma_pattern pattern;
  ma_behaviour behaviour;
  bool is_inverted;           /* SPLIT: what lies between matches counts as the match */
  bool at_start, at_end;      /* STRIP */
  int form;                   /* UNICODE: utf8proc options */
  enum { MA_PREPEND_ALWAYS, MA_PREPEND_FIRST, MA_PREPEND_NEVER } scheme; /* METASPACE */
  bool splits;                /* METASPACE */
  char *content;
  size_t content_length;
} ma_step;

typedef struct ma_steps {
  ma_step *steps;
  size_t n;
} ma_steps;

/* A zeroed step at the end of the list. */
ma_status ma_steps_add(ma_steps *s, ma_step **out, ma_error *err);
void ma_steps_release(ma_steps *s);
/* Applies all steps.  `is_first`: the text begins the input. */
ma_status ma_steps_apply(const ma_steps *s, ma_pieces *pieces, bool is_first, ma_error *err);

/* ---- vocabulary ---- */

typedef struct ma_token {
  char *text; /* as the model matches it: raw bytes for byte-level models.  NULL: the id is not used */
  size_t length;
  char *spelling; /* as the file spells it, where that differs */
} ma_token;

typedef struct ma_vocabulary {
  ma_token *tokens;
  size_t n;
  uint32_t *slots; /* id + 1, open addressing */
  size_t n_slots;
} ma_vocabulary;

/* Makes room for ids 0 .. n - 1. */
ma_status ma_vocabulary_reserve(ma_vocabulary *v, size_t n, ma_error *err);
/* Sets the text of an id (copied); the last of equal texts is found. */
ma_status ma_vocabulary_set(ma_vocabulary *v, int32_t id, const char *text, size_t length, ma_error *err);
/* After all are set. */
ma_status ma_vocabulary_index(ma_vocabulary *v, ma_error *err);
int32_t ma_vocabulary_find(const ma_vocabulary *v, const char *text, size_t length); /* -1: none */
void ma_vocabulary_release(ma_vocabulary *v);

/* The GPT-2 alphabet: every byte as a printable character.  Rewrites the token texts to the bytes they stand for;
 * texts with any other character stay. */
ma_status ma_vocabulary_to_bytes(ma_vocabulary *v, ma_error *err);

/* ---- byte-pair encoding ---- */

typedef struct ma_merge {
  uint64_t pair; /* left << 32 | right; UINT64_MAX: empty */
  uint32_t rank;
  int32_t id;
} ma_merge;

typedef struct ma_bpe {
  ma_merge *slots;
  size_t n_slots, n;
  int32_t byte_ids[256]; /* of byte-level models the byte, with byte fallback "<0xNN>"; -1: none */
  int32_t unknown;       /* -1: none */
  bool is_byte_level;    /* pieces are bytes, not characters */
  bool has_byte_fallback, fuses_unknown, ignores_merges;
} ma_bpe;

ma_status ma_bpe_reserve(ma_bpe *b, size_t n, ma_error *err);
/* Earlier ranks win; a pair that is there already keeps its rank. */
void ma_bpe_add(ma_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id);
void ma_bpe_release(ma_bpe *b);

/* A growing list of ids. */
typedef struct ma_ids {
  int32_t *ids;
  size_t n, capacity;
} ma_ids;

ma_status ma_ids_add(ma_ids *out, int32_t id, ma_error *err);

/* Memory that encoding a piece needs, kept over the pieces of a call. */
typedef struct ma_bpe_scratch {
  struct ma_symbol *symbols;
  struct ma_candidate *heap;
  size_t n_symbols, n_heap, symbol_capacity, heap_capacity;
} ma_bpe_scratch;

ma_status ma_bpe_encode(const ma_bpe *b, const ma_vocabulary *v, ma_bpe_scratch *scratch, const char *text,
                        size_t length, ma_ids *out, ma_error *err);
void ma_bpe_scratch_release(ma_bpe_scratch *s);

/* ---- decoders ---- */

typedef enum ma_decode_kind {
  MA_DECODE_BYTES,         /* joins; what is not UTF-8 becomes U+FFFD */
  MA_DECODE_REPLACE,       /* `content` by `with`, in each token */
  MA_DECODE_BYTE_FALLBACK, /* runs of <0xNN> */
  MA_DECODE_FUSE,
  MA_DECODE_STRIP,         /* up to `start` times `content` in front, `stop` times behind */
  MA_DECODE_METASPACE      /* `content` is a blank, except the first in front */
} ma_decode_kind;

typedef struct ma_decode_step {
  ma_decode_kind kind;
  char *content, *with;
  size_t start, stop;
} ma_decode_step;

/* ---- the tokenizer ---- */

typedef struct ma_added {
  int32_t id;
  char *text;
  size_t length;
  bool is_special, strips_left, strips_right, is_single_word, is_normalized;
} ma_added;

struct ma_tokenizer {
  ma_vocabulary vocabulary;
  ma_bpe bpe;
  ma_steps normalizer, pre_tokenizer;
  ma_decode_step *decoders;
  size_t n_decoders;
  ma_added *added; /* longest first */
  size_t n_added;
  ma_ids prefix, suffix; /* what the template adds */
  int32_t bos, eos;
  char description[96];
};

ma_status ma_tokenizer_load_json(ma_tokenizer *t, const char *path, ma_error *err);
ma_status ma_tokenizer_load_gguf(ma_tokenizer *t, const ma_gguf *g, ma_error *err);
ma_status ma_tokenizer_add_added(ma_tokenizer *t, ma_added added, ma_error *err); /* copies its text */
/* Ids of the 256 bytes; for byte fallback the tokens "<0x00>" to "<0xFF>". */
void ma_tokenizer_find_bytes(ma_tokenizer *t);

/* The expressions of pre-tokenizers that several files name. */
extern const char ma_regex_gpt2[], ma_regex_llama3[], ma_regex_qwen2[];
ma_status ma_steps_add_split(ma_steps *s, const char *regex, ma_behaviour behaviour, bool inverted, ma_error *err);

#endif
