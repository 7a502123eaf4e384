/* The devices of this build.  A new backend adds its lookup here. */
#include <stdlib.h>
#include <string.h>

#include "tensor/backend.h"
#ifdef MASSACT_CUDA
#include "backend/cuda/cuda_internal.h"

/* "cuda" or "cuda:N". */
static ma_status find_cuda(ma_device **out, const char *name, ma_error *err) {
  const char *problem, *number = name + 4;
  int count = ma_cuda_count(&problem);
  char *end = NULL;
  long index = *number == ':' ? strtol(number + 1, &end, 10) : 0;
  if (*number && (*number != ':' || end == number + 1 || *end))
    return ma_fail(err, MA_BAD_ARGUMENT, "no device '%s'; GPUs are cuda:0, cuda:1, ...", name);
  if (count == 0) return ma_fail(err, MA_UNSUPPORTED, "device '%s': no GPU can be used (%s); use cpu", name, problem);
  if (index < 0 || index >= count)
    return ma_fail(err, MA_BAD_ARGUMENT, "device '%s': the last GPU here is cuda:%d; use cpu", name, count - 1);
  return ma_cuda_open(out, (int)index, err);
}

/* An emulated GPU is there for tests (MASSACT_DEVICE), never a better choice. */
static bool prefers_cuda(void) {
#ifdef MASSACT_CUDA_EMULATED
  return false;
#else
  return ma_cuda_count(NULL) > 0;
#endif
}
#else
static ma_status find_cuda(ma_device **out, const char *name, ma_error *err) {
  (void)out;
  return ma_fail(err, MA_UNSUPPORTED, "device '%s': this build has no CUDA backend; use cpu", name);
}

static bool prefers_cuda(void) { return false; }
#endif

ma_status ma_device_find(ma_device **out, const char *name, ma_error *err) {
  *out = NULL;
  if (strcmp(name, "auto") == 0) name = getenv("MASSACT_DEVICE");
  if (!name || strcmp(name, "auto") == 0) name = prefers_cuda() ? "cuda" : "cpu";
  if (strcmp(name, "cpu") == 0) {
    *out = ma_device_cpu();
    return MA_OK;
  }
  if (strncmp(name, "cuda", 4) == 0) return find_cuda(out, name, err);
  return ma_fail(err, MA_BAD_ARGUMENT, "no device '%s'; there are auto, cpu and cuda", name);
}
