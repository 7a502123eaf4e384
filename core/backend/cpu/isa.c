/* Which build of the row loops this processor runs. */
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/rows.h"

extern const ma_rows ma_rows_baseline;
#ifdef MASSACT_X86
extern const ma_rows ma_rows_avx2, ma_rows_avx512;
#endif

static const ma_rows *choose(const char *wanted) {
#ifdef MASSACT_X86
  bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && (!wanted || strcmp(wanted, "avx512") == 0)) return &ma_rows_avx512;
  if (has_avx2 && (!wanted || strcmp(wanted, "baseline") != 0)) return &ma_rows_avx2;
#endif
  (void)wanted;
  return &ma_rows_baseline;
}

const ma_rows *ma_rows_get(void) { return choose(getenv("MASSACT_ISA")); }
