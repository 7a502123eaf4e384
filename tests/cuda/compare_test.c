/* Every operation on the GPU (or its emulation) against the CPU: cases.def has a line a case.  A row without a case fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "tensor/backend.h"
#include "tensor/ops.h"

enum { MOST = 8, N_LAYOUTS = 6, N_PLAIN = MA_U8 + 1, N_BLOCKS = MA_N_DTYPES - MA_Q4_0 };

/* What a call works on, on one device. */
typedef struct bench {
  ma_tensor in[MOST], out[MOST];
  ma_tensor *outs[MOST];
  ma_stats stats;
  ma_random random;
  ma_attention_how how;
  ma_logits_how logits;
} bench;

typedef struct test_case {
  const char *row, *inputs, *text;
  int variants;
  double tolerance;
  ma_status (*call)(bench *b, int v, ma_error *err);
} test_case;

#define IN(i)         (&b->in[i])
#define OUT(i)        (&b->out[i])
#define OUTS          b->outs
#define STATS         (&b->stats)
#define RANDOM        (&b->random)
#define HOW(v, extra) attention_how(b, v, extra)
#define LOGITS(v)     logits_how(b, v)
#define TARGETS(i)    targets_of(b, i, err)
#define PASTE_(a, b)  a##b
#define PASTE(a, b)   PASTE_(a, b)

/* Bits of v: a window, a cap, ALiBi, an extra key and value, which are inputs `extra` and the next one (there always, even where
 * they are not used); above them what scores are rounded to. */
static const ma_attention_how *attention_how(bench *b, int v, int extra) {
  static const float slopes[] = {0.25f, -0.125f, 0.0625f, 0.5f, 0.3f, 0.01f};
  b->how = (ma_attention_how){
      .scale = 0.1f, .window = v & 1 ? 21 : 0, .softcap = v & 2 ? 1.5f : 0, .step = (ma_dtype)(v / 16)};
  if (v & 4) b->how.alibi_slopes = slopes;
  if (v & 8) b->how.extra_key = IN(extra), b->how.extra_value = IN(extra + 1);
  return &b->how;
}

/* Bits of v: a scale, a cap, steps of bf16. */
static const ma_logits_how *logits_how(bench *b, int v) {
  b->logits = (ma_logits_how){.scale = v & 1 ? 0.5f : 0, .softcap = v & 2 ? 3 : 0, .step = v & 4 ? MA_BF16 : MA_F32};
  return &b->logits;
}

/* Input `i`, less the one number of the next: some are negative, some, perhaps, outside of the vocabulary. */
static const ma_tensor *targets_of(bench *b, int i, ma_error *err) {
  assert_int_equal(ma_binary(IN(MOST - 1), MA_BINARY_sub, IN(i), IN(i + 1), err), MA_OK);
  return IN(MOST - 1);
}

static void round_inputs(bench *b, int n, int dtype) {
  for (int i = 0; i < n; i++) (void)ma_round_to(&b->in[i], (ma_dtype)dtype, &b->in[i], NULL);
}

/* Heads of input 0, [B T heads d], as inputs 5, 6 and 7: q, k and v, as a product with fused weights gives them. */
static void split_heads(bench *b, int64_t n_heads, int64_t n_groups) {
  ma_error err = {0};
  const int64_t first[] = {0, n_heads, n_heads + n_groups}, n[] = {n_heads, n_groups, n_groups};
  for (int i = 0; i < 3; i++) assert_int_equal(ma_tensor_narrow(IN(5 + i), IN(0), 2, first[i], n[i], &err), MA_OK);
}

#define CASE(row, variants, tolerance, inputs, ...)                          \
  static ma_status PASTE(call_, __LINE__)(bench * b, int v, ma_error *err) { \
    (void)v;                                                                 \
    return __VA_ARGS__;                                                      \
  }
#include "cases.def"
#undef CASE

static const test_case cases[] = {
#define CASE(row, variants, tolerance, inputs, ...) \
  {#row, inputs, #__VA_ARGS__, variants, tolerance, PASTE(call_, __LINE__)},
#include "cases.def"
#undef CASE
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

static ma_device *gpu;

/* ---- inputs ---- */

typedef struct input {
  char type; /* a letter of cases.def, in lower case */
  bool has_specials, in_order;
  int64_t below;
  int n_dims;
  int64_t shape[MA_MAX_DIMS];
} input;

static const char *read_input(input *in, const char *text) {
  char *end;
  *in = (input){.type = *text};
  if (in->type >= 'A' && in->type <= 'Z') {
    in->has_specials = true;
    in->type = (char)(in->type - 'A' + 'a');
  }
  text++;
  if (*text == '<') in->below = strtoll(text + 1, &end, 10), text = end;
  if (*text == '!') in->in_order = true, text++;
  assert_int_equal(*text, ':');
  do {
    in->shape[in->n_dims++] = strtoll(text + 1, &end, 10);
    text = end;
  } while (*text == 'x');
  return *text ? text + 1 : text;
}

static ma_dtype type_of(const input *in, int turn) {
  switch (in->type) {
    case 'f': return (ma_dtype)(turn % 3);
    case 'a': return (ma_dtype)(turn % N_PLAIN);
    case 'b': return (ma_dtype)(MA_Q4_0 + turn % N_BLOCKS);
    case 'i': return MA_I64;
    case 'j': return MA_I32;
    case 'h': return MA_F16;
    case 'e': return MA_BF16;
    case 'u': return MA_U8;
    default: return MA_F32;
  }
}

static int turns_of(const input *in) {
  return in->type == 'f' ? 3 : in->type == 'a' ? N_PLAIN : in->type == 'b' ? N_BLOCKS : 1;
}

#define must(call)                                         \
  do {                                                     \
    ma_error must_err = {0}, *err = &must_err;             \
    if ((call) != MA_OK) fail_msg("%s", must_err.message); \
  } while (0)

/* Random bytes that are no huge numbers where they are taken for f16: its highest exponent bit is in bytes of odd index. */
static void fill_blocks(ma_tensor *t, ma_random *random) {
  uint8_t *bytes = ma_tensor_data(t);
  for (size_t i = 0; i < ma_tensor_bytes(t); i++)
    bytes[i] = (uint8_t)(ma_random_below(random, 256) & (i % 2 ? 0xBF : 0xFF));
}

static double draw(const input *in, ma_dtype dtype, ma_random *random) {
  static const double specials[] = {NAN, INFINITY, -INFINITY, -0.0, 0, 1, 0.5, -2.5, 65504};
  if (in->below) return (double)ma_random_below(random, (uint64_t)in->below);
  if (in->type == 'u') return (double)ma_random_below(random, 2);
  double x = 2 * ma_random_normal(random);
  if (!ma_dtype_is_float(dtype)) return rint(20 * (dtype == MA_U8 ? fabs(x) : x));
  return in->has_specials && ma_random_below(random, 4) == 0 ? specials[ma_random_below(random, 9)] : x;
}

/* Contiguous, on the CPU. */
static ma_tensor make(const input *in, ma_dtype dtype, int n_dims, const int64_t *shape, ma_random *random) {
  ma_tensor t, plain;
  int64_t count;
  must(ma_tensor_new(&t, ma_device_cpu(), dtype, n_dims, shape, err));
  if (ma_dtype_is_block(dtype)) {
    fill_blocks(&t, random);
    return t;
  }
  count = ma_tensor_count(&t);
  must(ma_tensor_reshape(&plain, &t, 1, &count, err));
  for (int64_t i = 0; i < count; i++) must(ma_tensor_set(&plain, &i, draw(in, dtype, random), err));
  ma_tensor_release(&plain);
  return t;
}

/* Ways to lie in memory.  Each is memory of one shape and a view of it of another. */
enum { LIES, TRANSPOSED, STEPPED, NARROWED, SAME_FIRST, SAME_LAST };

static int layout_of(const input *in, int layout) {
  if (in->in_order || layout == LIES || in->n_dims == 0) return LIES;
  if (in->type == 'b') return in->n_dims > 1 ? NARROWED : LIES;
  if (layout == TRANSPOSED && in->n_dims < 2) return STEPPED;
  /* Elements that are one cannot be written to. */
  return in->type == 'o' && layout >= SAME_FIRST ? STEPPED : layout;
}

static int memory_shape(int64_t *shape, const input *in, int layout) {
  int n = in->n_dims;
  memcpy(shape, in->shape, sizeof in->shape);
  if (layout == TRANSPOSED) shape[0] = in->shape[n - 1], shape[n - 1] = in->shape[0];
  if (layout == STEPPED) shape[n++] = 3;
  if (layout == NARROWED) shape[0] += 3;
  if (layout == SAME_FIRST) shape[0] = 1;
  if (layout == SAME_LAST) shape[n - 1] = 1;
  return n;
}

static ma_tensor view_of(const ma_tensor *memory, const input *in, int layout) {
  ma_tensor view;
  if (layout == TRANSPOSED) must(ma_tensor_transpose(&view, memory, 0, in->n_dims - 1, err));
  else if (layout == STEPPED) must(ma_tensor_select(&view, memory, in->n_dims, 1, err));
  else if (layout == NARROWED) must(ma_tensor_narrow(&view, memory, 0, 2, in->shape[0], err));
  else if (layout == LIES) view = ma_tensor_retain(memory);
  else must(ma_tensor_expand(&view, memory, in->n_dims, in->shape, err));
  return view;
}

/* The same numbers, lying the same way, on both devices. */
static void fill_benches(bench *on_cpu, bench *on_gpu, const char *inputs, int turn, int layout, uint64_t seed) {
  int n_in = 0, n_out = 0;
  ma_random random = {seed, 0};
  input in;
  *on_cpu = *on_gpu = (bench){.random = {7, 3}};
  for (int i = 0; i < MOST; i++) on_cpu->outs[i] = &on_cpu->out[i], on_gpu->outs[i] = &on_gpu->out[i];
  for (int i = 0; *inputs; i++) {
    int64_t shape[MA_MAX_DIMS];
    inputs = read_input(&in, inputs);
    int way = layout_of(&in, layout == LIES ? LIES : (layout + i) % N_LAYOUTS), n_dims = memory_shape(shape, &in, way);
    ma_tensor memory = make(&in, type_of(&in, turn), n_dims, shape, &random), moved;
    must(ma_tensor_move(&moved, &memory, gpu, err));
    *(in.type == 'o' ? &on_cpu->out[n_out] : &on_cpu->in[n_in]) = view_of(&memory, &in, way);
    *(in.type == 'o' ? &on_gpu->out[n_out] : &on_gpu->in[n_in]) = view_of(&moved, &in, way);
    if (in.type == 'o') n_out++;
    else n_in++;
    ma_tensor_release(&memory);
    ma_tensor_release(&moved);
  }
}

static void empty_bench(bench *b) {
  for (int i = 0; i < MOST; i++) ma_tensor_release(&b->in[i]), ma_tensor_release(&b->out[i]);
}

/* ---- comparing ---- */

typedef struct place {
  const test_case *c;
  int v, turn, layout;
  const char *how;
} place;

static void complain(const place *p, const char *what, const char *got, const char *expected) {
  fail_msg("%s with %s, variant %d, types %d, layout %d, %s: %s is %s, not %s", p->c->text, p->c->inputs, p->v, p->turn,
           p->layout, p->how, what, got, expected);
}

static double unit_of(ma_dtype dtype) {
  return dtype == MA_F16 ? 0x1p-10 : dtype == MA_BF16 ? 0x1p-7 : dtype == MA_F32 ? 0x1p-22 : 0;
}

static void compare_number(const place *p, const char *what, double got, double expected, double unit) {
  char of_got[40], of_expected[40];
  double allowed = fmax(p->c->tolerance, p->c->tolerance > 0 ? unit : 0) * fmax(1, fabs(expected));
  if (isnan(expected) ? isnan(got) : got == expected || fabs(got - expected) <= allowed) return;
  snprintf(of_got, sizeof of_got, "%.9g", got);
  snprintf(of_expected, sizeof of_expected, "%.9g", expected);
  complain(p, what, of_got, of_expected);
}

static void compare_blocks(const place *p, const char *what, const ma_tensor *got, const ma_tensor *expected) {
  if (memcmp(ma_tensor_data(got), ma_tensor_data(expected), ma_tensor_bytes(expected)) != 0)
    complain(p, what, "other bytes", "the CPU's");
}

static void compare_tensors(const place *p, const char *what, const ma_tensor *on_gpu, const ma_tensor *expected) {
  ma_tensor got, list_got, list;
  int64_t count = ma_tensor_count(expected);
  char name[64];
  must(ma_tensor_move(&got, on_gpu, ma_device_cpu(), err));
  assert_int_equal(got.dtype, expected->dtype);
  assert_true(ma_tensor_same_shape(&got, expected));
  ma_tensor packed;
  must(ma_tensor_convert(&packed, expected, expected->dtype, err));
  if (ma_dtype_is_block(got.dtype)) {
    compare_blocks(p, what, &got, &packed);
  } else {
    must(ma_tensor_reshape(&list_got, &got, 1, &count, err));
    must(ma_tensor_reshape(&list, &packed, 1, &count, err));
    for (int64_t i = 0; i < count; i++) {
      double x, y;
      must(ma_tensor_get(&x, &list_got, &i, err));
      must(ma_tensor_get(&y, &list, &i, err));
      snprintf(name, sizeof name, "%s[%lld]", what, (long long)i);
      compare_number(p, name, x, y, unit_of(expected->dtype));
    }
    ma_tensor_release(&list_got);
    ma_tensor_release(&list);
  }
  ma_tensor_release(&packed);
  ma_tensor_release(&got);
}

static void compare_stats(const place *p, const ma_stats *got, const ma_stats *expected) {
#define FIELD(name) compare_number(p, #name, (double)got->name, (double)expected->name, 0)
  FIELD(count), FIELD(n_top), FIELD(median), FIELD(mean), FIELD(std), FIELD(kurtosis), FIELD(l1), FIELD(l2), FIELD(min);
  FIELD(max), FIELD(n_nonfinite), FIELD(n_over_f16);
  for (int i = 0; i < expected->n_top; i++) FIELD(top_index[i]), FIELD(top_value[i]);
#undef FIELD
}

static void compare(const place *p, const bench *on_gpu, const bench *on_cpu) {
  for (int i = 0; i < MOST; i++) {
    char name[16];
    snprintf(name, sizeof name, "out %d", i);
    if (!on_cpu->out[i].storage) continue;
    assert_non_null(on_gpu->out[i].storage);
    compare_tensors(p, name, &on_gpu->out[i], &on_cpu->out[i]);
  }
  compare_stats(p, &on_gpu->stats, &on_cpu->stats);
  assert_int_equal(on_gpu->random.counter, on_cpu->random.counter);
}

/* ---- running ---- */

/* Outputs that the call made on the CPU, as every second column of something wider on the GPU.  False where there is none. */
static bool give_outputs(bench *on_gpu, const bench *on_cpu, const bool *was_given) {
  bool any = false;
  for (int i = 0; i < MOST; i++) {
    const ma_tensor *like = &on_cpu->out[i];
    if (!like->storage || was_given[i] || ma_dtype_is_block(like->dtype) || like->n_dims == MA_MAX_DIMS) continue;
    ma_tensor wide;
    int64_t shape[MA_MAX_DIMS];
    memcpy(shape, like->shape, sizeof shape);
    shape[like->n_dims] = 2;
    must(ma_tensor_new(&wide, gpu, like->dtype, like->n_dims + 1, shape, err));
    must(ma_tensor_select(&on_gpu->out[i], &wide, like->n_dims, 1, err));
    ma_tensor_release(&wide);
    any = true;
  }
  return any;
}

/* One choice of types and layouts.  True where the CPU could do it. */
static bool run(const place *p) {
  ma_error on_cpu_err = {0}, on_gpu_err = {0};
  bench on_cpu, on_gpu;
  bool was_given[MOST];
  uint64_t seed = (uint64_t)(p->v * 100 + p->turn * 10 + p->layout);
  const char *inputs = p->c->inputs;
  fill_benches(&on_cpu, &on_gpu, inputs, p->turn, p->layout, seed);
  for (int i = 0; i < MOST; i++) was_given[i] = on_cpu.out[i].storage != NULL;
  ma_status expected = p->c->call(&on_cpu, p->v, &on_cpu_err), got = p->c->call(&on_gpu, p->v, &on_gpu_err);
  if (got == MA_OK) got = gpu->backend->sync(gpu, &on_gpu_err);
  if (got != expected)
    complain(p, "the status", got == MA_OK ? "good" : on_gpu_err.message,
             expected == MA_OK ? "good" : on_cpu_err.message);
  if (expected == MA_OK) compare(p, &on_gpu, &on_cpu);
  if (expected == MA_OK && p->layout != LIES && !strstr(p->c->text, "convert")) {
    place given = *p;
    bench again, unused;
    given.how = "output given";
    fill_benches(&unused, &again, inputs, p->turn, p->layout, seed);
    if (give_outputs(&again, &on_cpu, was_given)) {
      got = p->c->call(&again, p->v, &on_gpu_err);
      /* Where the row's check refuses an output like this one, there is nothing to compare. */
      if (got == MA_OK) compare(&given, &again, &on_cpu);
    }
    empty_bench(&again);
    empty_bench(&unused);
  }
  empty_bench(&on_cpu);
  empty_bench(&on_gpu);
  return expected == MA_OK;
}

static void test_case_everywhere(void **state) {
  const test_case *c = *state;
  int turns = 1, n_done = 0;
  input in;
  for (const char *text = c->inputs; *text;) {
    text = read_input(&in, text);
    turns = turns_of(&in) > turns ? turns_of(&in) : turns;
  }
  /* Where there are many variants each meets a third of the layouts, so that it takes seconds. */
  const int stride = c->variants < 16 ? 1 : 3;
  for (int v = 0; v < c->variants; v++)
    for (int turn = 0; turn < turns; turn++)
      for (int layout = v % stride; layout < N_LAYOUTS; layout += stride)
        n_done += run(&(place){c, v, turn, layout, "output made"});
  if (n_done == 0) fail_msg("%s with %s: the CPU never does this", c->text, c->inputs);
}

static void test_every_row_has_a_case(void **state) {
  (void)state;
#define MA_OP(name, params, doc)                                                \
  {                                                                             \
    bool has_case = false;                                                      \
    for (int i = 0; i < N_CASES; i++) has_case |= !strcmp(cases[i].row, #name); \
    if (!has_case) fail_msg("cases.def has no case of %s", #name);              \
  }
#include "tensor/ops.def"
#undef MA_OP
}

/* compare_test [ROW]: everything, or the cases of one row. */
int main(int argc, char **argv) {
  static struct CMUnitTest tests[N_CASES + 1];
  size_t n = 0;
  ma_error err = {0};
  if (ma_device_find(&gpu, "cuda", &err) != MA_OK) {
    printf("skipped: everything (%s)\n", err.message);
    return 0;
  }
  for (int i = 0; i < N_CASES; i++) {
    if (argc > 1 && strcmp(argv[1], cases[i].row) != 0) continue;
    tests[n++] = (struct CMUnitTest){cases[i].text, test_case_everywhere, NULL, NULL, (void *)(uintptr_t)&cases[i]};
  }
  tests[n++] = (struct CMUnitTest){"every row has a case", test_every_row_has_a_case, NULL, NULL, NULL};
  return _cmocka_run_group_tests("cuda", tests, n, NULL, NULL);
}
