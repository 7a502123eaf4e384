/* Defaults, checks and the table of fields, all from spec.def. */
#include "model/spec.h"

#include <math.h>

#include "base/bytes.h"
#include "base/memory.h"

static const ma_field fields[] = {
#define MA_INT(name, value, doc)             {#name, NULL, doc, MA_FIELD_INT, offsetof(ma_spec, name)},
#define MA_FLOAT(name, value, doc)           {#name, NULL, doc, MA_FIELD_FLOAT, offsetof(ma_spec, name)},
#define MA_BOOL(name, value, doc)            {#name, NULL, doc, MA_FIELD_BOOL, offsetof(ma_spec, name)},
#define MA_CHOICE(name, value, choices, doc) {#name, choices, doc, MA_FIELD_CHOICE, offsetof(ma_spec, name)},
#include "model/spec.def"
#undef MA_INT
#undef MA_FLOAT
#undef MA_BOOL
#undef MA_CHOICE
};

size_t ma_spec_n_fields(void) { return sizeof fields / sizeof fields[0]; }
const ma_field *ma_spec_field(size_t i) { return &fields[i]; }

void ma_spec_defaults(ma_spec *spec) {
  *spec = (ma_spec){
#define MA_INT(name, value, doc)             .name = value,
#define MA_FLOAT(name, value, doc)           .name = value,
#define MA_BOOL(name, value, doc)            .name = value,
#define MA_CHOICE(name, value, choices, doc) .name = value,
#include "model/spec.def"
#undef MA_INT
#undef MA_FLOAT
#undef MA_BOOL
#undef MA_CHOICE
  };
}

void ma_spec_release(ma_spec *spec) {
  for (int i = 0; i < spec->n_ropes; i++) ma_free(spec->ropes[i].frequencies);
  ma_free(spec->rope_of_layer);
  ma_free(spec->windows);
  ma_spec_defaults(spec);
}

/* ---- checks ---- */

/* Sizes stay below 2^31, so that the product of any two is an int64 and BLAS can take each. */
static ma_status check_size(const char *name, int64_t value, int64_t most, ma_error *err) {
  if (value >= 1 && value <= most) return MA_OK;
  return ma_fail(err, MA_BAD_FILE, "spec: %s = %lld must be between 1 and %lld", name, (long long)value,
                 (long long)most);
}

static ma_status check_sizes(const ma_spec *s, ma_error *err) {
  ma_status st = MA_OK;
  const int64_t most = INT32_MAX;
  MA_TRY(check_size("n_layers", s->n_layers, MA_MAX_LAYERS, err));
  MA_TRY(check_size("n_heads", s->n_heads, 1 << 16, err));
  MA_TRY(check_size("n_kv_heads", s->n_kv_heads, 1 << 16, err));
  MA_TRY(check_size("d_model", s->d_model, 1 << 24, err));
  MA_TRY(check_size("d_head", s->d_head, 1 << 16, err));
  MA_TRY(check_size("d_ff", s->d_ff, 1 << 26, err));
  MA_TRY(check_size("vocab_size", s->vocab_size, most, err));
  MA_TRY(check_size("max_positions", s->max_positions, most, err));
  if (s->n_heads % s->n_kv_heads != 0)
    return ma_fail(err, MA_BAD_FILE, "spec: n_heads = %lld is not a multiple of n_kv_heads = %lld",
                   (long long)s->n_heads, (long long)s->n_kv_heads);
  if (s->d_embed < 0 || s->d_embed > 1 << 24)
    return ma_fail(err, MA_BAD_FILE, "spec: d_embed = %lld is out of range", (long long)s->d_embed);
done:
  return st;
}

static ma_status check_numbers(const ma_spec *s, ma_error *err) {
  for (size_t i = 0; i < ma_spec_n_fields(); i++) {
    if (fields[i].kind != MA_FIELD_FLOAT) continue;
    double value = *(const double *)((const char *)s + fields[i].offset);
    if (!isfinite(value)) return ma_fail(err, MA_BAD_FILE, "spec: %s is not a finite number", fields[i].name);
  }
  if (s->norm_eps < 0) return ma_fail(err, MA_BAD_FILE, "spec: norm_eps is negative");
  return MA_OK;
}

static ma_status check_ropes(const ma_spec *s, ma_error *err) {
  if (s->position == MA_POSITION_ROPE && s->n_ropes == 0)
    return ma_fail(err, MA_BAD_FILE, "spec: position is rope but no frequencies are given");
  for (int i = 0; i < s->n_ropes; i++) {
    if (s->ropes[i].n < 1 || 2 * s->ropes[i].n > s->d_head)
      return ma_fail(err, MA_BAD_FILE, "spec: rope %d has %lld frequencies, but d_head is %lld", i,
                     (long long)s->ropes[i].n, (long long)s->d_head);
  }
  for (int64_t l = 0; s->rope_of_layer && l < s->n_layers; l++) {
    if (s->rope_of_layer[l] < -1 || s->rope_of_layer[l] >= s->n_ropes)
      return ma_fail(err, MA_BAD_FILE, "spec: layer %lld uses rope %d of %d", (long long)l, s->rope_of_layer[l],
                     s->n_ropes);
  }
  for (int64_t l = 0; s->windows && l < s->n_layers; l++) {
    if (s->windows[l] < 0) return ma_fail(err, MA_BAD_FILE, "spec: layer %lld has a negative window", (long long)l);
  }
  return MA_OK;
}

ma_status ma_spec_check(const ma_spec *spec, ma_error *err) {
  ma_status st = MA_OK;
  MA_TRY(check_sizes(spec, err));
  MA_TRY(check_numbers(spec, err));
  MA_TRY(check_ropes(spec, err));
  if (spec->shared_norm && !(spec->parallel && spec->norm_before))
    return ma_fail(err, MA_BAD_FILE, "spec: shared_norm needs parallel and norm_before");
  if (spec->n_experts < 0 || spec->n_experts > MA_MAX_EXPERTS)
    return ma_fail(err, MA_BAD_FILE, "spec: n_experts = %lld must be between 0 and %d", (long long)spec->n_experts,
                   MA_MAX_EXPERTS);
  if (spec->n_experts > 0 && (spec->n_experts_used < 1 || spec->n_experts_used > spec->n_experts))
    return ma_fail(err, MA_BAD_FILE, "spec: n_experts_used = %lld must be between 1 and n_experts = %lld",
                   (long long)spec->n_experts_used, (long long)spec->n_experts);
  if (spec->n_experts > 0 && !spec->gated)
    return ma_fail(err, MA_BAD_FILE, "spec: experts without a gate are not supported");
  if (spec->parallel && spec->norm_sum)
    return ma_fail(err, MA_BAD_FILE, "spec: parallel and norm_sum exclude each other");
done:
  return st;
}

/* ---- derived ---- */

ma_unary_kind ma_spec_activation(const ma_spec *spec) {
  static const ma_unary_kind kinds[] = {MA_UNARY_gelu, MA_UNARY_gelu_tanh, MA_UNARY_silu, MA_UNARY_relu,
                                        MA_UNARY_gelu_tanh};
  return kinds[spec->activation];
}

/* With n heads a power of two the slopes are 2^(-m i / n), i = 1..n; otherwise those of the next power of
 * two, odd i first, cut to n (as the authors' code and MPT's do). */
void ma_spec_alibi_slopes(const ma_spec *spec, float *out) {
  int64_t power = 1;
  while (power < spec->n_heads) power *= 2;
  bool exact = power == spec->n_heads;
  for (int64_t h = 0; h < spec->n_heads; h++) {
    int64_t odd = 2 * h + 1, i = exact ? h : odd < power ? odd : 2 * h - power;
    out[h] = (float)pow(2.0, -spec->alibi_max * (double)(i + 1) / (double)power);
  }
}
