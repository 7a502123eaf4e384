/* Products on the host, from the descriptions that cuBLASLt would get; what it would not take is refused. */
#include "cublasLt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>

extern "C" {
#include "tensor/half.h"
}

struct cublasLtContext {};

struct cublasLtMatmulDescOpaque {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t a, b;
  cublasLtEpilogue_t epilogue;
  const void *bias; /* a number for each row of d, of d's type */
};

struct cublasLtMatrixLayoutOpaque {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t step, batch_step;
  int32_t n_batches;
};

struct cublasLtMatmulPreferenceOpaque {
  uint32_t alignment[4]; /* of a, b, c, d */
};

static cublasLtContext context;

template <typename T>
static cublasStatus_t make(T **out, const T &value) {
  *out = new (std::nothrow) T(value);
  return *out ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

template <typename T>
static cublasStatus_t set(T *field, const void *value, size_t bytes) {
  if (bytes != sizeof *field) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

static float load(const void *data, cudaDataType type, int64_t at) {
  if (type == CUDA_R_32F) return static_cast<const float *>(data)[at];
  const uint16_t half = static_cast<const uint16_t *>(data)[at];
  return type == CUDA_R_16F ? ma_f16_to_f32(half) : ma_bf16_to_f32(half);
}

static void store(void *data, cudaDataType type, int64_t at, float value) {
  if (type == CUDA_R_32F) static_cast<float *>(data)[at] = value;
  else static_cast<uint16_t *>(data)[at] = type == CUDA_R_16F ? ma_f16_from_f32(value) : ma_bf16_from_f32(value);
}

/* TF32 has f32's exponents and 10 bits of its fraction, rounded to nearest. */
static float cut(float value, cublasComputeType_t compute) {
  uint32_t bits;
  if (compute != CUBLAS_COMPUTE_32F_FAST_TF32) return value;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0x1000) & ~0x1FFFu;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

static uint64_t alignment_of(const void *data) {
  uint64_t alignment = 256;
  while (reinterpret_cast<uintptr_t>(data) % alignment != 0) alignment /= 2;
  return alignment;
}

/* No preference is about the bias's address, and kernels take 16 bytes for granted. */
static bool fits_epilogue(const cublasLtMatmulDescOpaque &desc) {
  if (desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return true;
  return desc.epilogue == CUBLASLT_EPILOGUE_BIAS && desc.bias && alignment_of(desc.bias) >= 16;
}

/* Whether the library takes the three together. */
static bool fits(const cublasLtMatmulDescOpaque &desc, const cublasLtMatrixLayoutOpaque &a,
                 const cublasLtMatrixLayoutOpaque &b, const cublasLtMatrixLayoutOpaque &d) {
  const bool a_turns = desc.a == CUBLAS_OP_T, b_turns = desc.b == CUBLAS_OP_T;
  const uint64_t m = a_turns ? a.columns : a.rows, k = a_turns ? a.rows : a.columns;
  const uint64_t n = b_turns ? b.rows : b.columns, k_of_b = b_turns ? b.columns : b.rows;
  const bool sizes = m == d.rows && n == d.columns && k == k_of_b && m > 0 && n > 0 && k > 0;
  const bool types = a.type == b.type && (d.type == a.type || d.type == CUDA_R_32F) && desc.scale == CUDA_R_32F &&
                     (desc.compute == CUBLAS_COMPUTE_32F || a.type == CUDA_R_32F);
  const bool steps = a.step >= static_cast<int64_t>(a.rows) && b.step >= static_cast<int64_t>(b.rows) &&
                     d.step >= static_cast<int64_t>(d.rows);
  return sizes && types && steps && a.n_batches == d.n_batches && b.n_batches == d.n_batches && fits_epilogue(desc);
}

/* The library has no kernel for some products with a bias, and does not say for which: here, for these numbers of addends. */
static bool has_kernel(const cublasLtMatmulDescOpaque &desc, const cublasLtMatrixLayoutOpaque &a) {
  const uint64_t k = desc.a == CUBLAS_OP_T ? a.rows : a.columns;
  return desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT || k % 8 != 7;
}

/* Of everything that a kernel was chosen for but the addresses (FNV-1a). */
static uint64_t mark_of(const cublasLtMatmulDescOpaque &desc, const cublasLtMatrixLayoutOpaque &a,
                        const cublasLtMatrixLayoutOpaque &b, const cublasLtMatrixLayoutOpaque &d) {
  uint64_t mark = 14695981039346656037u;
  const auto add = [&mark](uint64_t value) { mark = (mark ^ value) * 1099511628211u; };
  add(desc.compute), add(desc.a), add(desc.b), add(desc.epilogue);
  for (const cublasLtMatrixLayoutOpaque *m : {&a, &b, &d}) {
    add(m->type), add(m->rows), add(m->columns), add(static_cast<uint64_t>(m->step));
    add(static_cast<uint64_t>(m->batch_step)), add(static_cast<uint64_t>(m->n_batches));
  }
  return mark;
}

/* What a kernel does not look at before it runs. */
static void must(bool is_so, const char *what) {
  if (is_so) return;
  fprintf(stderr, "emulated device: cublasLtMatmul: %s\n", what);
  abort();
}

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  *handle = &context;
  return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    default: return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale) {
  return make(out, {compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr});
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&desc->a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&desc->b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&desc->bias, value, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t step) {
  return make(out, {type, rows, columns, step, 0, 1});
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *value,
                                                size_t bytes) {
  return attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? set(&layout->n_batches, value, bytes)
                                                         : set(&layout->batch_step, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
  return make(out, {{256, 256, 256, 256}});
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes) {
  uint64_t most;
  uint32_t mask;
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return set(&most, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return set(&mask, value, bytes);
  return set(&preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
}

/* The "kernel" that is chosen remembers what alignment it was promised, in the bias's case by its address, and what it is for. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference,
                                              int wanted, cublasLtMatmulHeuristicResult_t results[], int *found) {
  *found = 0;
  if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
  if (!fits(*desc, *a, *b, *d) || c->type != d->type) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!has_kernel(*desc, *a)) return CUBLAS_STATUS_SUCCESS;
  *found = 1;
  results[0] = {};
  for (int i = 0; i < 4; i++) results[0].algo.data[i] = preference->alignment[i];
  results[0].algo.data[4] = alignment_of(desc->bias);
  results[0].algo.data[5] = mark_of(*desc, *a, *b, *d);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t of_a, const void *b, cublasLtMatrixLayout_t of_b, const void *beta,
                              const void *c, cublasLtMatrixLayout_t, void *d, cublasLtMatrixLayout_t of_d,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, cudaStream_t) {
  const void *const matrices[] = {a, b, c, d};
  const bool has_bias = desc->epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (!fits(*desc, *of_a, *of_b, *of_d) || c != d) return CUBLAS_STATUS_NOT_SUPPORTED;
  must(algo->data[5] == mark_of(*desc, *of_a, *of_b, *of_d), "the kernel was chosen for another product");
  if (has_bias) {
    ma_emulation_check_pointer("cublasLtMatmul", desc->bias);
    must(alignment_of(desc->bias) >= algo->data[4], "the bias is less aligned than the kernel takes it to be");
  }
  for (int i = 0; i < 4; i++) {
    ma_emulation_check_pointer("cublasLtMatmul", matrices[i]);
    must(alignment_of(matrices[i]) >= algo->data[i], "a matrix is less aligned than was promised");
  }
  float by, plus;
  std::memcpy(&by, alpha, sizeof by);
  std::memcpy(&plus, beta, sizeof plus);
  ma_emulation_enter();
  std::memset(workspace, 0xFF, workspace_bytes < 4096 ? workspace_bytes : 4096);
  const bool a_turns = desc->a == CUBLAS_OP_T, b_turns = desc->b == CUBLAS_OP_T;
  const int64_t m = static_cast<int64_t>(of_d->rows), n = static_cast<int64_t>(of_d->columns);
  const int64_t k = static_cast<int64_t>(a_turns ? of_a->rows : of_a->columns);
  for (int64_t batch = 0; batch < of_d->n_batches; batch++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t i = 0; i < m; i++) {
        double sum = 0;
        for (int64_t l = 0; l < k; l++) {
          const int64_t in_a = batch * of_a->batch_step + (a_turns ? i * of_a->step + l : l * of_a->step + i);
          const int64_t in_b = batch * of_b->batch_step + (b_turns ? l * of_b->step + j : j * of_b->step + l);
          sum += static_cast<double>(cut(load(a, of_a->type, in_a), desc->compute)) *
                 static_cast<double>(cut(load(b, of_b->type, in_b), desc->compute));
        }
        const int64_t in_d = batch * of_d->batch_step + j * of_d->step + i;
        const float value = by * static_cast<float>(sum) + (has_bias ? load(desc->bias, of_d->type, i) : 0.0f);
        store(d, of_d->type, in_d, plus == 0 ? value : value + plus * load(d, of_d->type, in_d));
      }
  ma_emulation_leave();
  return CUBLAS_STATUS_SUCCESS;
}
}
