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
  bool starts_input; /* what the text begins with is what the input begins with */
} ma_pieces;

ma_status ma_pieces_add(ma_pieces *p, size_t at, size_t length, ma_error *err);
void ma_pieces_release(ma_pieces *p);

/* A growing list of ids. */
typedef struct ma_ids {
  int32_t *ids;
  size_t n, capacity;
} ma_ids;

ma_status ma_ids_add(ma_ids *out, int32_t id, ma_error *err);

/* ---- patterns ---- */

/* A compiled regular expression (PCRE2, JIT) or a literal string. */
typedef struct ma_pattern {
  pcre2_code *code;
  char *literal;
  size_t literal_length;
} ma_pattern;

/* `regex` is in the syntax of Oniguruma, which Hugging Face's tokenizers use (regex.c). */
ma_status ma_pattern_regex(ma_pattern *out, const char *regex, size_t length, ma_error *err);
ma_status ma_pattern_literal(ma_pattern *out, const char *text, size_t length, ma_error *err);
void ma_pattern_release(ma_pattern *p);

/* Appends the expression as PCRE2 writes it; what has no exact counterpart fails with its name. */
ma_status ma_regex_translate(ma_text *out, const char *regex, size_t length, ma_error *err);

/* The matches of a pattern in one text after the other.  An empty match counts, except directly behind a match. */
typedef struct ma_matches {
  const ma_pattern *pattern;
  pcre2_match_data *data;
  pcre2_match_context *context;
  const char *text;
  size_t length, from, last_end;
} ma_matches;

ma_status ma_matches_open(ma_matches *m, const ma_pattern *pattern, ma_error *err);
void ma_matches_start(ma_matches *m, const char *text, size_t length); /* borrows the text */
ma_status ma_matches_next(ma_matches *m, ma_span *match, bool *found, ma_error *err);
void ma_matches_close(ma_matches *m);

/* ---- normalisers and pre-tokenizers: a list of steps ---- */

typedef enum ma_step_kind {
  MA_STEP_UNICODE, /* `form` of utf8proc */
  MA_STEP_LOWER,
  MA_STEP_STRIP_ACCENTS, /* drops combining marks */
  MA_STEP_NMT,           /* drops control characters, other blanks become U+0020 */
  MA_STEP_CHARSMAP,      /* SentencePiece's compiled rules in `content` */
  MA_STEP_PREPEND,       /* `content` before text that is not empty */
  MA_STEP_REPLACE,       /* `pattern` by `content` */
  MA_STEP_STRIP,         /* white space at either end */
  MA_STEP_SPLIT,         /* at matches of `pattern`, by `behaviour` */
  MA_STEP_SPACE,         /* a blank before a piece that begins with none (ByteLevel's add_prefix_space) */
  MA_STEP_ALPHABET,      /* every byte becomes its letter of the byte-level alphabet */
  MA_STEP_METASPACE      /* blanks become `content`, one is put in front, cut before each */
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
  bool is_inverted;      /* SPLIT: what lies between matches counts as the match */
  bool at_start, at_end; /* STRIP */
  int form;              /* UNICODE: utf8proc options */
  enum { MA_PREPEND_ALWAYS, MA_PREPEND_FIRST, MA_PREPEND_NEVER } scheme; /* METASPACE */
  bool splits;                                                           /* METASPACE */
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
/* Applies all steps. */
ma_status ma_steps_apply(const ma_steps *s, ma_pieces *pieces, ma_error *err);

/* Appends the rewritten text of one piece to `out` (normalize.c).  *starts_input is cleared when the beginning of
 * the text is dropped. */
ma_status ma_step_rewrite(const ma_step *step, ma_text *out, const char *text, size_t length, bool *starts_input,
                          ma_error *err);
/* Cuts every piece (split.c). */
ma_status ma_step_split(const ma_step *step, ma_pieces *pieces, ma_error *err);

/* Checks the blob of a Precompiled normaliser: after this every walk over it stays inside. */
ma_status ma_charsmap_check(const char *blob, size_t length, ma_error *err);
ma_status ma_charsmap_apply(const char *blob, size_t length, ma_text *out, const char *text, size_t n, ma_error *err);

bool ma_is_white_space(int32_t character); /* Unicode's White_Space */
/* "U+00E9", or "byte 0x80" where there is no character, written to `name`, for messages. */
const char *ma_character_name(const char *text, size_t length, char name[16]);

/* ---- vocabulary ---- */

typedef struct ma_token {
  char *text; /* as the file spells it.  NULL: the id is not used */
  size_t length;
  bool is_model;   /* the model knows it; else it was only added */
  bool is_special; /* an added token that decoding can skip */
  char *bytes;     /* byte-level models: what the model matches, where that is not the spelling */
  size_t n_bytes;
  char *decoded; /* added tokens that the normaliser changes: what decoding starts from (no NUL in it) */
} ma_token;

typedef struct ma_vocabulary {
  ma_token *tokens;
  size_t n;
  uint32_t *slots; /* id + 1, open addressing */
  size_t n_slots;
  bool is_byte_level; /* what it was indexed by */
} ma_vocabulary;

/* Makes room for ids 0 .. n - 1. */
ma_status ma_vocabulary_reserve(ma_vocabulary *v, size_t n, ma_error *err);
/* Sets the text of an id (copied). */
ma_status ma_vocabulary_set(ma_vocabulary *v, int32_t id, const char *text, size_t length, bool is_model,
                            ma_error *err);
/* After all are set: what ma_vocabulary_find looks in.  `byte_level`: by the bytes that a token's letters stand for;
 * a token with other letters is never found.  The last of equal texts is found. */
ma_status ma_vocabulary_index(ma_vocabulary *v, bool byte_level, ma_error *err);
int32_t ma_vocabulary_find(const ma_vocabulary *v, const char *text, size_t length); /* -1: none */
/* What an indexed token matches; false: nothing. */
bool ma_vocabulary_key(const ma_vocabulary *v, size_t id, const char **text, size_t *length);
/* Ids of the 256 bytes: of byte-level vocabularies the byte, of others "<0xNN>" (`fallback`); -1: none. */
void ma_vocabulary_find_bytes(const ma_vocabulary *v, bool fallback, int32_t ids[256]);
void ma_vocabulary_release(ma_vocabulary *v);

/* The GPT-2 alphabet: every byte as a printable character. */
ma_status ma_alphabet_add(ma_text *out, const char *bytes, size_t length, ma_error *err);
/* Writes the bytes that a text in the alphabet stands for (at most `length`); false: it has other characters. */
bool ma_alphabet_bytes(const char *text, size_t length, char *bytes, size_t *n);

/* ---- byte-pair encoding ---- */

typedef struct ma_merge {
  uint64_t pair; /* left << 32 | right; UINT64_MAX: empty */
  uint32_t rank;
  int32_t id;
} ma_merge;

typedef struct ma_bpe {
  ma_merge *slots;
  size_t n_slots, n;
  uint64_t *joints;      /* which neighbours some merge joins, a bit for a hash; NULL: any */
  int32_t byte_ids[256]; /* of byte-level models the byte, with byte fallback "<0xNN>"; -1: none */
  int32_t unknown;       /* -1: none */
  bool has_byte_fallback, fuses_unknown, ignores_merges;
  bool lacks_unknown; /* the file names an unknown token that the vocabulary lacks */
} ma_bpe;

ma_status ma_bpe_reserve(ma_bpe *b, size_t n, ma_error *err);
/* A pair that is there already takes the new rank if `replaces`, else it keeps its own. */
void ma_bpe_add(ma_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id, bool replaces);
/* After all merges and the vocabulary's index are there, and the fields above are set. */
ma_status ma_bpe_finish(ma_bpe *b, const ma_vocabulary *v, ma_error *err);
void ma_bpe_release(ma_bpe *b);

/* Memory that encoding a piece needs, kept over the pieces of a call. */
typedef struct ma_scratch {
  struct ma_symbol *symbols;
  struct ma_candidate *heap;
  size_t n_symbols, n_heap, symbol_capacity, heap_capacity;
  struct ma_node *nodes; /* unigram */
  size_t node_capacity;
} ma_scratch;

ma_status ma_bpe_encode(const ma_bpe *b, const ma_vocabulary *v, ma_scratch *scratch, const char *text, size_t length,
                        ma_ids *out, ma_error *err);
void ma_scratch_release(ma_scratch *s);

/* ---- unigram ---- */

typedef struct ma_edge {
  uint32_t node; /* it leads from */
  uint32_t next; /* to; 0: the slot is empty */
  uint8_t byte;
} ma_edge;

typedef struct ma_unigram {
  double *scores; /* one a token */
  double unknown_score;
  ma_edge *edges;  /* a trie of the tokens, its edges in open addressing */
  int32_t *leaves; /* id that ends at a node; -1: none */
  size_t n_edges, n_nodes;
  int32_t byte_ids[256];
  int32_t unknown; /* -1: none */
  bool has_byte_fallback;
} ma_unigram;

/* After scores, `unknown` and the vocabulary's index are there. */
ma_status ma_unigram_finish(ma_unigram *u, const ma_vocabulary *v, ma_error *err);
ma_status ma_unigram_encode(const ma_unigram *u, const ma_vocabulary *v, ma_scratch *scratch, const char *text,
                            size_t length, ma_ids *out, ma_error *err);
void ma_unigram_release(ma_unigram *u);

/* ---- decoders ---- */

typedef enum ma_decode_kind {
  MA_DECODE_BYTES,         /* letters of the byte-level alphabet to bytes, joined; what is not UTF-8 becomes U+FFFD */
  MA_DECODE_REPLACE,       /* `pattern` by `with`, in each token */
  MA_DECODE_BYTE_FALLBACK, /* runs of <0xNN> */
  MA_DECODE_FUSE,
  MA_DECODE_STRIP,    /* up to `start` times `content` in front, `stop` times behind */
  MA_DECODE_METASPACE /* `content` is a blank; in the first token nothing if `start` */
} ma_decode_kind;

typedef struct ma_decode_step {
  ma_decode_kind kind;
  ma_pattern pattern;
  char *content, *with;
  size_t start, stop;
} ma_decode_step;

void ma_decode_step_release(ma_decode_step *step);

/* ---- the tokenizer ---- */

typedef struct ma_added {
  int32_t id;
  char *text;
  size_t length;
  bool is_special, strips_left, strips_right, is_single_word, is_normalized;
} ma_added;

typedef enum ma_model_kind { MA_MODEL_BPE, MA_MODEL_UNIGRAM } ma_model_kind;

struct ma_tokenizer {
  ma_vocabulary vocabulary;
  ma_model_kind model;
  ma_bpe bpe;
  ma_unigram unigram;
  bool is_byte_level; /* pieces reach the model as bytes: every byte is a character to it */
  ma_steps normalizer, pre_tokenizer;
  ma_decode_step *decoders;
  size_t n_decoders;
  bool joins_with_blank; /* there is no decoder: tokens are joined by blanks */
  ma_added *added;       /* longest first */
  size_t n_added;
  ma_pattern word;       /* a character of a word, where an added token is a single word */
  ma_ids prefix, suffix; /* what the template adds */
  int32_t bos, eos;
  char description[96];
};

ma_status ma_tokenizer_load_json(ma_tokenizer *t, const char *path, ma_error *err);
ma_status ma_tokenizer_load_gguf(ma_tokenizer *t, const ma_gguf *g, ma_error *err);
ma_status ma_tokenizer_add_added(ma_tokenizer *t, ma_added added, ma_error *err); /* copies its text */
/* A zeroed decoder at the end of the list. */
ma_status ma_tokenizer_add_decoder(ma_tokenizer *t, ma_decode_kind kind, ma_decode_step **out, ma_error *err);
/* Indexes the vocabulary and makes the model ready; after all that the file says is set. */
ma_status ma_tokenizer_finish(ma_tokenizer *t, ma_error *err);

/* The expressions of pre-tokenizers that several files name. */
extern const char ma_regex_gpt2[], ma_regex_llama3[], ma_regex_qwen2[];
ma_status ma_steps_add_split(ma_steps *s, const char *regex, ma_behaviour behaviour, bool inverted, ma_error *err);

#endif
