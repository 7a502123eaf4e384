/* Normalisers and pre-tokenizers: each step rewrites the text of the pieces (normalize.c) or cuts them (split.c). */
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "text/text_internal.h"

const char ma_regex_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char ma_regex_llama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char ma_regex_qwen2[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

ma_status ma_steps_add(ma_steps *s, ma_step **out, ma_error *err) {
  ma_status st = ma_resize((void **)&s->steps, s->n + 1, sizeof *s->steps, err);
  if (st != MA_OK) return st;
  *out = &s->steps[s->n++];
  **out = (ma_step){0};
  return MA_OK;
}

ma_status ma_steps_add_split(ma_steps *s, const char *regex, ma_behaviour behaviour, bool inverted, ma_error *err) {
  ma_step *step;
  ma_status st = ma_steps_add(s, &step, err);
  if (st != MA_OK) return st;
  step->kind = MA_STEP_SPLIT;
  step->behaviour = behaviour;
  step->is_inverted = inverted;
  return ma_pattern_regex(&step->pattern, regex, strlen(regex), err);
}

void ma_steps_release(ma_steps *s) {
  for (size_t i = 0; i < s->n; i++) {
    ma_pattern_release(&s->steps[i].pattern);
    ma_free(s->steps[i].content);
  }
  ma_free(s->steps);
  *s = (ma_steps){0};
}

/* ---- applying ---- */

static ma_status rewrite(const ma_step *step, ma_pieces *pieces, ma_error *err) {
  ma_status st = MA_OK;
  ma_pieces out = {.starts_input = pieces->starts_input && pieces->n > 0 && pieces->spans[0].at == 0};
  MA_TRY(ma_text_add(&out.text, "", 0, err));
  for (size_t i = 0; i < pieces->n; i++) {
    ma_span piece = pieces->spans[i];
    size_t at = out.text.length;
    bool begins = i == 0 && out.starts_input;
    MA_TRY(ma_step_rewrite(step, &out.text, pieces->text.data + piece.at, piece.length, &begins, err));
    if (i == 0) out.starts_input = begins;
    MA_TRY(ma_pieces_add(&out, at, out.text.length - at, err));
  }
  ma_pieces_release(pieces);
  *pieces = out;
  out = (ma_pieces){0};
done:
  ma_pieces_release(&out);
  return st;
}

ma_status ma_steps_apply(const ma_steps *s, ma_pieces *pieces, ma_error *err) {
  ma_status st = MA_OK;
  for (size_t i = 0; i < s->n && st == MA_OK; i++) {
    const ma_step *step = &s->steps[i];
    if (ma_interrupted()) return ma_fail(err, MA_INTERRUPTED, "interrupted");
    if (step->kind != MA_STEP_SPLIT) st = rewrite(step, pieces, err);
    bool cuts = step->kind == MA_STEP_SPLIT || (step->kind == MA_STEP_METASPACE && step->splits);
    if (st == MA_OK && cuts) st = ma_step_split(step, pieces, err);
  }
  return st;
}
