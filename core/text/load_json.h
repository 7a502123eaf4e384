/* Reading tokenizer.json, shared by the files that read its sections.  Every field is checked: one of the wrong type is
 * an error that names file, section and component, never taken for absent. */
#ifndef MASSACT_TEXT_LOAD_JSON_H
#define MASSACT_TEXT_LOAD_JSON_H

#include "text/text_internal.h"

/* What reading carries along. */
typedef struct ma_json_reader {
  ma_tokenizer *t;
  const char *path;
  const char *section; /* "normalizer", for messages */
  const char *type;    /* of the component that is read; NULL: none */
  ma_error *err;
} ma_json_reader;

/* Fails with "PATH: SECTION 'TYPE' ..." before the message. */
ma_status ma_json_bad(const ma_json_reader *r, const char *format, ...) MA_PRINTF(2, 3);
ma_status ma_json_lacks(const ma_json_reader *r); /* the component is one that massact does not have */
/* Puts the place before the message of a call that failed. */
ma_status ma_json_at(const ma_json_reader *r, ma_status st);

/* Fields of an object.  Absent and null are the same.  Texts are borrowed. */
ma_status ma_json_flag(const ma_json_reader *r, const json_t *object, const char *key, bool otherwise, bool *out);
/* NULL where it is absent; text with a NUL in it fails. */
ma_status ma_json_text(const ma_json_reader *r, const json_t *object, const char *key, const char **out);
ma_status ma_json_needed(const ma_json_reader *r, const json_t *object, const char *key, const char **out);
ma_status ma_json_count(const ma_json_reader *r, const json_t *object, const char *key, size_t *out);
/* {"Regex": ...} or {"String": ...} under "pattern". */
ma_status ma_json_pattern(const ma_json_reader *r, const json_t *object, ma_pattern *out);
/* The old and new spelling of Metaspace's options. */
ma_status ma_json_scheme(const ma_json_reader *r, const json_t *object, int *out);

bool ma_json_is(const ma_json_reader *r, const char *type);

typedef ma_status ma_json_component(ma_json_reader *r, const json_t *component);

/* Calls `one` for root[section], or for each member of a Sequence there (under `list`); null is none. */
ma_status ma_json_each(ma_json_reader *r, const json_t *root, const char *section, const char *list,
                       ma_json_component *one);

/* One component each. */
ma_status ma_json_normalizer(ma_json_reader *r, const json_t *component);
ma_status ma_json_pre_tokenizer(ma_json_reader *r, const json_t *component);
ma_status ma_json_decoder(ma_json_reader *r, const json_t *component);
ma_status ma_json_post_processor(ma_json_reader *r, const json_t *component);

/* root["model"]: vocabulary and merges or scores. */
ma_status ma_json_model(ma_json_reader *r, const json_t *root);
/* root["added_tokens"]; after the model. */
ma_status ma_json_added(ma_json_reader *r, const json_t *root);
ma_status ma_json_id(const ma_json_reader *r, const json_t *value, const char *token, int32_t *out);

#endif
