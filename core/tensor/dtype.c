#include "tensor/dtype.h"

#include <ctype.h>
#include <string.h>

static const ma_dtype_info infos[MA_N_DTYPES] = {
#define MA_DTYPE(constant, name, block, bytes) {name, block, bytes},
    MA_DTYPES(MA_DTYPE)
#undef MA_DTYPE
};

const ma_dtype_info *ma_dtype_describe(ma_dtype dtype) { return &infos[dtype]; }

bool ma_dtype_parse(ma_dtype *out, const char *name) {
  static const struct {
    const char *name;
    ma_dtype dtype;
  } others[] = {
      {"float32", MA_F32}, {"float", MA_F32}, {"float16", MA_F16}, {"half", MA_F16}, {"bfloat16", MA_BF16},
      {"int32", MA_I32},   {"int64", MA_I64}, {"long", MA_I64},    {"uint8", MA_U8},
  };
  char lower[16] = "";
  if (strncmp(name, "torch.", 6) == 0) name += 6;
  for (size_t i = 0; name[i]; i++) {
    if (i + 1 == sizeof lower) return false;
    lower[i] = (char)tolower((unsigned char)name[i]);
  }
  for (int i = 0; i < MA_N_DTYPES; i++) {
    if (strcmp(infos[i].name, lower) != 0) continue;
    *out = (ma_dtype)i;
    return true;
  }
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    if (strcmp(others[i].name, lower) != 0) continue;
    *out = others[i].dtype;
    return true;
  }
  return false;
}
