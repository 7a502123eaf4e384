/* cuBLASLt, loaded at run time: the program starts without it, and a machine without a GPU need not have it. */
#include "backend/cuda/blas.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

#define FUNCTIONS(FUNCTION)                      \
  FUNCTION(cublasLtCreate)                       \
  FUNCTION(cublasLtGetStatusString)              \
  FUNCTION(cublasLtMatmul)                       \
  FUNCTION(cublasLtMatmulAlgoGetHeuristic)       \
  FUNCTION(cublasLtMatmulDescCreate)             \
  FUNCTION(cublasLtMatmulDescDestroy)            \
  FUNCTION(cublasLtMatmulDescSetAttribute)       \
  FUNCTION(cublasLtMatmulPreferenceCreate)       \
  FUNCTION(cublasLtMatmulPreferenceDestroy)      \
  FUNCTION(cublasLtMatmulPreferenceSetAttribute) \
  FUNCTION(cublasLtMatrixLayoutCreate)           \
  FUNCTION(cublasLtMatrixLayoutDestroy)          \
  FUNCTION(cublasLtMatrixLayoutSetAttribute)

/* The library is one for the whole process, as the loader sees it; written once, under pthread_once. */
static struct {
  pthread_once_t once;
  bool is_loaded;
  char problem[256];
#define FUNCTION(name) __typeof__(&name) name;
  FUNCTIONS(FUNCTION)
#undef FUNCTION
} lt = {.once = PTHREAD_ONCE_INIT};

#ifdef MASSACT_CUDA_EMULATED
static void load(void) {
#define FUNCTION(function) lt.function = function;
  FUNCTIONS(FUNCTION)
#undef FUNCTION
  lt.is_loaded = true;
}
#else
#define TEXT_OF(a)         #a
#define TEXT(a)            TEXT_OF(a)
#define LIBRARY            "libcublasLt.so." TEXT(MASSACT_CUDA_MAJOR)

/* dlsym gives an object pointer; ISO C converts it to a function pointer through memory only. */
static bool find(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  memcpy(function, &symbol, sizeof symbol);
  return symbol != NULL;
}

static void load(void) {
  static const char *const names[] = {LIBRARY, MASSACT_CUDA_LIBRARIES "/" LIBRARY};
  void *library = NULL;
  for (size_t i = 0; !library && i < sizeof names / sizeof names[0]; i++)
    library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  lt.is_loaded = library != NULL;
#define FUNCTION(function) lt.is_loaded = lt.is_loaded && find(library, #function, &lt.function);
  FUNCTIONS(FUNCTION)
#undef FUNCTION
  if (!lt.is_loaded)
    snprintf(lt.problem, sizeof lt.problem, "%s; install CUDA's libcublas-%s, or use device = \"cpu\"",
             library ? LIBRARY " lacks a function" : LIBRARY " cannot be loaded", TEXT(MASSACT_CUDA_MAJOR));
}
#endif

/* MA_OK, or what cuBLASLt says. */
static ma_status check(const ma_device *device, cublasStatus_t code, const char *what, ma_error *err) {
  if (code == CUBLAS_STATUS_SUCCESS) return MA_OK;
  ma_status status = code == CUBLAS_STATUS_ALLOC_FAILED ? MA_NO_MEMORY : MA_UNSUPPORTED;
  return ma_fail(err, status, "%s: cuBLASLt, %s: %s", device->name, what, lt.cublasLtGetStatusString(code));
}

/* The handle, and the memory that products of this device's stream share. */
static ma_status open_blas(ma_device *device, ma_error *err) {
  ma_cuda *state = ma_cuda_state(device);
  ma_status st = MA_OK;
  cublasLtHandle_t handle = NULL;
  pthread_once(&lt.once, load);
  if (!lt.is_loaded) return ma_fail(err, MA_UNSUPPORTED, "%s: %s", device->name, lt.problem);
  MA_TRY(ma_cuda_use(device, err));
  if (!state->workspace) MA_TRY(ma_cuda_alloc(device, &state->workspace, MA_CUDA_WORKSPACE, err));
  if (!state->blas) {
    MA_TRY(check(device, lt.cublasLtCreate(&handle), "starting", err));
    state->blas = handle;
  }
done:
  return st;
}

static cudaDataType_t type_of(ma_dtype dtype) {
  return dtype == MA_F16 ? CUDA_R_16F : dtype == MA_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* What describes a product to the library. */
typedef struct description {
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t first, second, out;
  cublasLtMatmulPreference_t preference;
} description;

static void close_description(const description *d) {
  if (d->preference) lt.cublasLtMatmulPreferenceDestroy(d->preference);
  if (d->out) lt.cublasLtMatrixLayoutDestroy(d->out);
  if (d->second) lt.cublasLtMatrixLayoutDestroy(d->second);
  if (d->first) lt.cublasLtMatrixLayoutDestroy(d->first);
  if (d->product) lt.cublasLtMatmulDescDestroy(d->product);
}

/* The library's matrices are column-major, so that `rows` of ours are its columns. */
static cublasStatus_t describe_matrix(cublasLtMatrixLayout_t *out, ma_dtype dtype, int64_t rows, int64_t columns,
                                      int64_t step, int64_t n_batches, int64_t batch_step) {
  int32_t count = (int32_t)n_batches;
  if (step < columns) step = columns; /* of one row the step means nothing */
  cublasStatus_t code = lt.cublasLtMatrixLayoutCreate(out, type_of(dtype), (uint64_t)columns, (uint64_t)rows, step);
  if (code != CUBLAS_STATUS_SUCCESS || n_batches == 1) return code;
  code = lt.cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
  if (code != CUBLAS_STATUS_SUCCESS) return code;
  return lt.cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_step,
                                             sizeof batch_step);
}

/* The largest power of two, up to what the library takes for granted, that divides the address. */
static uint32_t alignment_of(const void *data) {
  uint32_t alignment = 256;
  while ((uintptr_t)data % alignment != 0) alignment /= 2;
  return alignment;
}

/* All of a product that its description and the choice of its kernel depend on; no padding, so that two can be compared as
 * bytes.  The library takes the bias's alignment from the address that it is given when it chooses, so that it counts too. */
typedef struct shape {
  int64_t m, n, k, n_batches;
  int64_t steps[3], batch_steps[3]; /* of b, a, out */
  uint32_t alignments[4];           /* of b, a, out, bias */
  int32_t dtype, out_dtype;
  int32_t turns[2], has_bias, allows_tf32;
} shape;
_Static_assert(sizeof(shape) == 10 * sizeof(int64_t) + 10 * sizeof(int32_t), "a shape has no padding");

static shape shape_of(const ma_cuda_gemm *g, bool allows_tf32) {
  return (shape){
      .m = g->m,
      .n = g->n,
      .k = g->k,
      .n_batches = g->n_batches,
      .steps = {g->b.step, g->a.step, g->out_step},
      .batch_steps = {g->b.batch_step, g->a.batch_step, g->out_batch_step},
      .alignments = {alignment_of(g->b.data), alignment_of(g->a.data), alignment_of(g->out), alignment_of(g->bias)},
      .dtype = (int32_t)g->dtype,
      .out_dtype = (int32_t)g->out_dtype,
      .turns = {g->b.is_transposed, g->a.is_transposed},
      .has_bias = g->bias != NULL,
      .allows_tf32 = allows_tf32 && g->dtype == MA_F32,
  };
}

/* Row-major out = a b is column-major out^T = b^T a^T: the library's first matrix is our b. */
static cublasStatus_t describe(description *d, const ma_cuda_gemm *g, const shape *like) {
  cublasOperation_t first = g->b.is_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                    second = g->a.is_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  uint64_t workspace = MA_CUDA_WORKSPACE;
  uint32_t in_f32 = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* parts of a sum are added up in f32, in one order */
  uint32_t of_first = like->alignments[0], of_second = like->alignments[1], of_out = like->alignments[2];
  cublasLtEpilogue_t epilogue = g->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
#define STEP(call)                                  \
  do {                                              \
    cublasStatus_t code = (call);                   \
    if (code != CUBLAS_STATUS_SUCCESS) return code; \
  } while (0)
#define SET_PRODUCT(attribute, value) \
  STEP(lt.cublasLtMatmulDescSetAttribute(d->product, attribute, &(value), sizeof(value)))
#define PREFER(attribute, value) \
  STEP(lt.cublasLtMatmulPreferenceSetAttribute(d->preference, attribute, &(value), sizeof(value)))
  STEP(lt.cublasLtMatmulDescCreate(&d->product, like->allows_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                                   CUDA_R_32F));
  SET_PRODUCT(CUBLASLT_MATMUL_DESC_TRANSA, first);
  SET_PRODUCT(CUBLASLT_MATMUL_DESC_TRANSB, second);
  SET_PRODUCT(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (g->bias) SET_PRODUCT(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g->bias);
  STEP(describe_matrix(&d->first, g->dtype, g->b.is_transposed ? g->n : g->k, g->b.is_transposed ? g->k : g->n,
                       g->b.step, g->n_batches, g->b.batch_step));
  STEP(describe_matrix(&d->second, g->dtype, g->a.is_transposed ? g->k : g->m, g->a.is_transposed ? g->m : g->k,
                       g->a.step, g->n_batches, g->a.batch_step));
  STEP(describe_matrix(&d->out, g->out_dtype, g->m, g->n, g->out_step, g->n_batches, g->out_batch_step));
  STEP(lt.cublasLtMatmulPreferenceCreate(&d->preference));
  PREFER(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  PREFER(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, in_f32);
  PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of_first);
  PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of_second);
  PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_out);
  PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_out);
#undef PREFER
#undef SET_PRODUCT
#undef STEP
  return CUBLAS_STATUS_SUCCESS;
}

/* A product that has been described, and the kernel that the library chose for it: both take the host longer than a launch. */
typedef struct product {
  shape like;
  description d; /* empty: nothing is kept here */
  cublasLtMatmulAlgo_t algo;
  uint64_t used; /* when, in products of this device */
} product;

enum { SETS = 64, WAYS = 4 };

/* A device's, as long as the process, like its handle.  Each is in the set that its shape says: a model has few shapes, but two
 * that it needs in turn may meet there. */
struct ma_cuda_products {
  product at[SETS][WAYS];
  uint64_t count; /* of uses */
};

static uint32_t hash_of(const shape *like) {
  const unsigned char *bytes = (const unsigned char *)like;
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (size_t i = 0; i < sizeof *like; i++) hash = (hash ^ bytes[i]) * 16777619u;
  return hash;
}

static bool is_like(const product *p, const shape *like) {
  return p->d.product && memcmp(&p->like, like, sizeof *like) == 0;
}

/* Where the product of this shape is, or is to be: instead of the one of its set that was used longest ago. */
static product *place_of(struct ma_cuda_products *products, const shape *like) {
  product *set = products->at[hash_of(like) % SETS], *oldest = set;
  for (product *p = set; p < set + WAYS; p++) {
    if (is_like(p, like)) return p;
    if (p->used < oldest->used) oldest = p;
  }
  return oldest;
}

static ma_status choose(ma_device *device, product *p, const ma_cuda_gemm *g, ma_error *err) {
  ma_status st = MA_OK;
  cublasLtHandle_t handle = ma_cuda_state(device)->blas;
  const description *d = &p->d;
  cublasLtMatmulHeuristicResult_t found;
  int n_found = 0;
  MA_TRY(check(device, describe(&p->d, g, &p->like), "describing a product", err));
  MA_TRY(check(device,
               lt.cublasLtMatmulAlgoGetHeuristic(handle, d->product, d->first, d->second, d->out, d->out, d->preference,
                                                 1, &found, &n_found),
               "choosing a kernel", err));
  if (n_found == 0) MA_TRY(check(device, CUBLAS_STATUS_NOT_SUPPORTED, "choosing a kernel", err));
  p->algo = found.algo;
done:
  if (st != MA_OK) {
    close_description(d);
    *p = (product){0};
  }
  return st;
}

/* The product of this shape, described where it is not kept.  The bias lies elsewhere each time. */
static ma_status product_of(product **out, ma_device *device, const ma_cuda_gemm *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_cuda *state = ma_cuda_state(device);
  shape like = shape_of(g, device->allows_tf32);
  if (!state->products) MA_TRY(MA_NEW(&state->products, 1, err));
  product *p = *out = place_of(state->products, &like);
  if (!is_like(p, &like)) {
    close_description(&p->d);
    *p = (product){.like = like};
    MA_TRY(choose(device, p, g, err));
  } else if (g->bias) {
    MA_TRY(check(
        device,
        lt.cublasLtMatmulDescSetAttribute(p->d.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias),
        "describing a product", err));
  }
  p->used = ++state->products->count;
done:
  return st;
}

ma_status ma_cuda_multiply(ma_device *device, const ma_cuda_gemm *g, ma_error *err) {
  ma_status st = MA_OK;
  ma_cuda *state = ma_cuda_state(device);
  product *p;
  if (g->m == 0 || g->n == 0 || g->n_batches == 0) return MA_OK;
  MA_TRY(open_blas(device, err));
  MA_TRY(product_of(&p, device, g, err));
  MA_TRY(check(device,
               lt.cublasLtMatmul(state->blas, p->d.product, &g->alpha, g->b.data, p->d.first, g->a.data, p->d.second,
                                 &g->beta, g->out, p->d.out, g->out, p->d.out, &p->algo, state->workspace,
                                 MA_CUDA_WORKSPACE, state->stream),
               "multiplying", err));
done:
  return st;
}
