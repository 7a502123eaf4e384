/* The devices of this build.  A new backend adds its lookup here. */
#include <string.h>

#include "tensor/backend.h"

ma_status ma_device_find(ma_device **out, const char *name, ma_error *err) {
  *out = NULL;
  if (strcmp(name, "cpu") == 0 || strcmp(name, "auto") == 0) {
    *out = ma_device_cpu();
    return MA_OK;
  }
  if (strncmp(name, "cuda", 4) == 0)
    return ma_fail(err, MA_UNSUPPORTED, "device '%s': this build has no CUDA backend; use cpu", name);
  return ma_fail(err, MA_BAD_ARGUMENT, "no device '%s'; there are auto and cpu", name);
}
