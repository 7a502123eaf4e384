/* Element types.  Floating and integer types have one element a block; GGUF block types pack `block`
 * elements into `bytes`; Q4_0 and Q8_0 can be made, none can be written into (format: gguf.md, ggml-common.h of the ggml project). */
#ifndef MASSACT_TENSOR_DTYPE_H
#define MASSACT_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

/* MA_DTYPE(constant, name, elements a block, bytes a block) */
#define MA_DTYPES(MA_DTYPE)        \
  MA_DTYPE(F32, "f32", 1, 4)       \
  MA_DTYPE(F16, "f16", 1, 2)       \
  MA_DTYPE(BF16, "bf16", 1, 2)     \
  MA_DTYPE(I32, "i32", 1, 4)       \
  MA_DTYPE(I64, "i64", 1, 8)       \
  MA_DTYPE(U8, "u8", 1, 1)         \
  MA_DTYPE(Q4_0, "q4_0", 32, 18)   \
  MA_DTYPE(Q4_1, "q4_1", 32, 20)   \
  MA_DTYPE(Q5_0, "q5_0", 32, 22)   \
  MA_DTYPE(Q5_1, "q5_1", 32, 24)   \
  MA_DTYPE(Q8_0, "q8_0", 32, 34)   \
  MA_DTYPE(Q2_K, "q2_k", 256, 84)  \
  MA_DTYPE(Q3_K, "q3_k", 256, 110) \
  MA_DTYPE(Q4_K, "q4_k", 256, 144) \
  MA_DTYPE(Q5_K, "q5_k", 256, 176) \
  MA_DTYPE(Q6_K, "q6_k", 256, 210)

typedef enum ma_dtype {
#define MA_DTYPE(constant, name, block, bytes) MA_##constant,
  MA_DTYPES(MA_DTYPE)
#undef MA_DTYPE
      MA_N_DTYPES
} ma_dtype;

typedef struct ma_dtype_info {
  const char *name;
  uint32_t block, bytes;
} ma_dtype_info;

const ma_dtype_info *ma_dtype_describe(ma_dtype dtype);
/* "f32", "torch.bfloat16", "float16", "BF16" ...; false when unknown. */
bool ma_dtype_parse(ma_dtype *out, const char *name);

static inline bool ma_dtype_is_block(ma_dtype d) { return d >= MA_Q4_0; }
static inline bool ma_dtype_is_float(ma_dtype d) { return d <= MA_BF16; }
/* Whether ma_copy converts to it. */
static inline bool ma_dtype_is_written(ma_dtype d) { return !ma_dtype_is_block(d) || d == MA_Q4_0 || d == MA_Q8_0; }

#endif
