/* OpenBLAS, loaded at run time.  It picks its kernel when it is loaded and knows no processor younger than
 * itself: on AVX-512 machines that it does not recognise it falls back to AVX2 kernels, at about half the
 * speed.  So the kernel is named, in OPENBLAS_CORETYPE, before the library comes in. */
#include "backend/cpu/blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 }; /* CBLAS_ORDER, CBLAS_TRANSPOSE */

typedef void cblas_sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a,
                            int lda, const float *b, int ldb, float beta, float *c, int ldc);

/* The library is one for the whole process, as the loader sees it; written once, under pthread_once. */
static struct {
  pthread_once_t once;
  cblas_sgemm_fn *sgemm;
  const char *(*corename)(void);
  const char *(*config)(void);
  char problem[256];
} blas = {.once = PTHREAD_ONCE_INIT};

/* The kernel that suits this processor, or NULL: OpenBLAS's own choice is right. */
static const char *better_kernel(void) {
#ifdef MASSACT_X86
  bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512) return "SkylakeX";
#endif
  return NULL;
}

/* dlsym gives an object pointer; ISO C converts it to a function pointer through memory only. */
static void find(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  memcpy(function, &symbol, sizeof symbol);
}

static void load(void) {
  static const char *const names[] = {
#ifdef MASSACT_OPENBLAS
      MASSACT_OPENBLAS,
#endif
      "libopenblas.so.0", "libopenblas.so", "libopenblas.dylib"};
  const char *kernel = better_kernel();
  if (kernel) setenv("OPENBLAS_CORETYPE", kernel, 0);
  void *library = NULL;
  for (size_t i = 0; !library && i < sizeof names / sizeof names[0]; i++)
    library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (library) {
    find(library, "cblas_sgemm", &blas.sgemm);
    find(library, "openblas_get_corename", &blas.corename);
    find(library, "openblas_get_config", &blas.config);
  }
  if (!blas.sgemm)
    snprintf(blas.problem, sizeof blas.problem, "OpenBLAS is missing (%s); install it (Debian: libopenblas0-openmp)",
             library ? "the library has no cblas_sgemm" : "libopenblas.so.0 cannot be loaded");
}

ma_status ma_blas_open(ma_error *err) {
  pthread_once(&blas.once, load);
  return blas.sgemm ? MA_OK : ma_fail(err, MA_UNSUPPORTED, "%s", blas.problem);
}

/* BLAS wants a step of at least a row's width, also where there is one row, whose step means nothing: a view of
 * one token has whatever its sizes gave it. */
static int step_of(int64_t step, int64_t rows, int64_t columns) {
  if (rows <= 1 && step < columns) step = columns;
  return step < 1 ? 1 : (int)step;
}

void ma_sgemm(int64_t m, int64_t n, int64_t k, float alpha, ma_matrix a, ma_matrix b, float beta, float *c,
              int64_t c_step) {
  if (m == 0 || n == 0) return;
  int a_step = a.is_transposed ? step_of(a.step, k, m) : step_of(a.step, m, k);
  int b_step = b.is_transposed ? step_of(b.step, n, k) : step_of(b.step, k, n);
  blas.sgemm(ROW_MAJOR, a.is_transposed ? TRANSPOSE : NO_TRANSPOSE, b.is_transposed ? TRANSPOSE : NO_TRANSPOSE, (int)m,
             (int)n, (int)k, alpha, a.data, a_step, b.data, b_step, beta, c, step_of(c_step, m, n));
}

void ma_blas_describe(char *text, size_t size) {
  ma_error err;
  if (ma_blas_open(&err) != MA_OK) {
    snprintf(text, size, "%s", err.message);
    return;
  }
  /* The configuration begins "OpenBLAS 0.3.21 ..."; the first two words name the library. */
  const char *config = blas.config ? blas.config() : "OpenBLAS";
  size_t words = strcspn(config, " ");
  if (config[words]) words += 1 + strcspn(config + words + 1, " ");
  snprintf(text, size, "%.*s, %s kernels, %d threads", (int)words, config, blas.corename ? blas.corename() : "unknown",
           ma_threads());
}
