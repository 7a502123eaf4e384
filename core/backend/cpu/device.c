/* The CPU as a device: plain memory, and the table of kernels. */
#include <string.h>
#include <unistd.h>

#include "backend/cpu/cpu_internal.h"
#include "base/memory.h"

static ma_status cpu_alloc(ma_device *device, void **out, size_t bytes, ma_error *err) {
  (void)device;
  return ma_alloc_aligned(out, bytes, err);
}

static void cpu_free(ma_device *device, void *data) {
  (void)device;
  ma_free(data);
}

static ma_status cpu_copy(ma_device *device, void *to, const void *from, size_t bytes, ma_error *err) {
  (void)device;
  (void)err;
  if (bytes) memmove(to, from, bytes);
  return MA_OK;
}

static ma_status cpu_sync(ma_device *device, ma_error *err) {
  (void)device;
  (void)err;
  return MA_OK;
}

static ma_status cpu_memory(ma_device *device, uint64_t *free_bytes, uint64_t *total_bytes, ma_error *err) {
  (void)device;
  long page = sysconf(_SC_PAGESIZE), all = sysconf(_SC_PHYS_PAGES), available = sysconf(_SC_AVPHYS_PAGES);
  if (page < 0 || all < 0 || available < 0) return ma_fail(err, MA_IO, "the system does not tell its memory");
  *free_bytes = (uint64_t)available * (uint64_t)page;
  *total_bytes = (uint64_t)all * (uint64_t)page;
  return MA_OK;
}

static const ma_kernels kernels = {
#define MA_OP(name, params, doc) .name = ma_cpu_##name,
#include "tensor/ops.def"
#undef MA_OP
};

static const ma_backend backend = {
    .name = "cpu",
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .sync = cpu_sync,
    .memory = cpu_memory,
    .kernels = &kernels,
};

/* There is one CPU, and nothing in its description ever changes. */
static ma_device cpu = {.backend = &backend, .name = "cpu"};

ma_device *ma_device_cpu(void) { return &cpu; }
