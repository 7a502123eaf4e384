/* What the fuzz targets share.  A target is LLVMFuzzerTestOneInput over bytes that may be anything: it must come back, leak
 * nothing, and give one line of error where it gives one. */
#ifndef MASSACT_FUZZ_FUZZ_H
#define MASSACT_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "format/checkpoint.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A folder of this process for the files that a target writes; it goes when the process ends well. */
const char *fuzz_folder(void);
/* Writes FOLDER/name; `path` holds its name. */
void fuzz_write(char path[256], const char *name, const uint8_t *data, size_t size);
/* A failure has a code and one line of text without control characters. */
void fuzz_check_error(ma_status st, const ma_error *err);
/* Looks at every tensor, as f32. */
void fuzz_read_tensors(const ma_checkpoint *c);
/* Encodes the text and decodes what comes out; then decodes ids that may not exist. */
void fuzz_tokenizer(const ma_tokenizer *t, const char *text, size_t length);

#endif
