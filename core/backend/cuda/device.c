/* GPUs as devices: finding them, their memory and their stream, and the table of kernels. */
#include <pthread.h>
#include <stdio.h>

#include "backend/cuda/cuda_internal.h"

enum { MAX_DEVICES = 16 };

/* Devices live as long as the process.  Each is opened once, under the lock, and does not change afterwards. */
static struct {
  pthread_once_t once;
  pthread_mutex_t lock;
  int count;
  char problem[160];
  ma_device devices[MAX_DEVICES];
  ma_cuda states[MAX_DEVICES];
} cuda = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- errors ---- */

ma_status ma_cuda_check(const ma_device *device, cudaError_t code, const char *what, ma_error *err) {
  if (code == cudaSuccess) return MA_OK;
  (void)cudaGetLastError(); /* an error that a later call can get over is not reported twice */
  ma_status status = code == cudaErrorMemoryAllocation ? MA_NO_MEMORY : MA_UNSUPPORTED;
  return ma_fail(err, status, "%s: %s: %s", device->name, what, cudaGetErrorString(code));
}

ma_status ma_cuda_use(const ma_device *device, ma_error *err) {
  return ma_cuda_check(device, cudaSetDevice(device->index), "choosing the device", err);
}

/* ---- memory ---- */

static ma_status memory(ma_device *device, uint64_t *free_bytes, uint64_t *total_bytes, ma_error *err) {
  size_t now_free, total;
  uint64_t reserved = 0, used = 0;
  cudaMemPool_t pool;
  ma_status st = ma_cuda_use(device, err);
  if (st != MA_OK) return st;
  st = ma_cuda_check(device, cudaMemGetInfo(&now_free, &total), "asking for its memory", err);
  if (st != MA_OK) return st;
  /* What the pool keeps for later is free as well. */
  if (cudaDeviceGetDefaultMemPool(&pool, device->index) == cudaSuccess) {
    (void)cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved);
    (void)cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used);
  }
  *free_bytes = (uint64_t)now_free + (reserved - used);
  *total_bytes = (uint64_t)total;
  return MA_OK;
}

ma_status ma_cuda_alloc(ma_device *device, void **out, size_t bytes, ma_error *err) {
  uint64_t free_bytes = 0, total_bytes = 0;
  ma_status st = ma_cuda_use(device, err);
  *out = NULL;
  if (st != MA_OK) return st;
  cudaError_t code = cudaMallocAsync(out, bytes ? bytes : 1, ma_cuda_state(device)->stream);
  if (code != cudaErrorMemoryAllocation) return ma_cuda_check(device, code, "reserving memory", err);
  (void)cudaGetLastError();
  if (memory(device, &free_bytes, &total_bytes, NULL) != MA_OK) free_bytes = total_bytes = 0;
  return ma_fail(err, MA_NO_MEMORY, "%s: no memory for %.1f MB; %.1f of its %.1f GB are free", device->name,
                 (double)bytes / 1e6, (double)free_bytes / 1e9, (double)total_bytes / 1e9);
}

void ma_cuda_free(ma_device *device, void *data) {
  if (data && cudaSetDevice(device->index) == cudaSuccess) (void)cudaFreeAsync(data, ma_cuda_state(device)->stream);
}

/* ---- waiting, and what is reported then ---- */

static ma_status complaint_of(const ma_device *device, ma_error *err) {
  static const char *const messages[] = {"",
#define MA_COMPLAINT(name, message) message,
                                         MA_COMPLAINTS(MA_COMPLAINT)
#undef MA_COMPLAINT
  };
  ma_complaint *complaint = ma_cuda_state(device)->complaint;
  int kind = complaint->kind;
  if (kind == MA_COMPLAINT_none) return MA_OK;
  complaint->kind = MA_COMPLAINT_none;
  return ma_fail(err, MA_BAD_ARGUMENT, messages[kind], complaint->value, complaint->bound);
}

static ma_status sync(ma_device *device, ma_error *err) {
  ma_status st = ma_cuda_use(device, err);
  if (st == MA_OK)
    st = ma_cuda_check(device, cudaStreamSynchronize(ma_cuda_state(device)->stream), "waiting for its kernels", err);
  return st == MA_OK ? complaint_of(device, err) : st;
}

/* CUDA has read memory that is not page-locked, and ours is not, when the call returns: no need to wait for the device. */
static ma_status upload(ma_device *device, void *to, const void *from, size_t bytes, ma_error *err) {
  ma_status st = ma_cuda_use(device, err);
  if (st != MA_OK || !bytes) return st;
  return ma_cuda_check(device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, ma_cuda_state(device)->stream),
                       "copying to it", err);
}

static ma_status download(ma_device *device, void *to, const void *from, size_t bytes, ma_error *err) {
  ma_status st = ma_cuda_use(device, err);
  if (st == MA_OK && bytes)
    st = ma_cuda_check(device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, ma_cuda_state(device)->stream),
                       "copying from it", err);
  return st == MA_OK ? sync(device, err) : st;
}

/* ---- the table ---- */

static const ma_kernels kernels = {
#define MA_OP(name, params, doc) .name = ma_cuda_##name,
#include "tensor/ops.def"
#undef MA_OP
};

static const ma_backend backend = {
    .name = "cuda",
    .keeps_16_bit = true,
    .alloc = ma_cuda_alloc,
    .free = ma_cuda_free,
    .upload = upload,
    .download = download,
    .sync = sync,
    .memory = memory,
    .kernels = &kernels,
};

/* ---- finding ---- */

static void look(void) {
  cudaError_t code = cudaGetDeviceCount(&cuda.count);
  if (code != cudaSuccess) cuda.count = 0;
  if (cuda.count > MAX_DEVICES) cuda.count = MAX_DEVICES;
  if (cuda.count == 0)
    snprintf(cuda.problem, sizeof cuda.problem, "%s", code == cudaSuccess ? "none is there" : cudaGetErrorString(code));
}

int ma_cuda_count(const char **problem) {
  pthread_once(&cuda.once, look);
  if (problem) *problem = cuda.count ? NULL : cuda.problem;
  return cuda.count;
}

/* The pool keeps what is freed instead of giving it back to the driver, which would wait for the device. */
static ma_status keep_freed(const ma_device *device, ma_error *err) {
  cudaMemPool_t pool;
  uint64_t all = UINT64_MAX;
  ma_status st =
      ma_cuda_check(device, cudaDeviceGetDefaultMemPool(&pool, device->index), "finding its memory pool", err);
  if (st != MA_OK) return st;
  return ma_cuda_check(device, cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all),
                       "setting its memory pool", err);
}

static ma_status open_device(ma_device *device, ma_cuda *state, ma_error *err) {
  ma_status st = MA_OK;
  struct cudaDeviceProp about;
  MA_TRY(ma_cuda_use(device, err));
  MA_TRY(ma_cuda_check(device, cudaGetDeviceProperties(&about, device->index), "asking for its name", err));
  snprintf(device->hardware, sizeof device->hardware, "%s", about.name);
  MA_TRY(keep_freed(device, err));
  MA_TRY(ma_cuda_check(device,
                       cudaDeviceGetAttribute(&state->n_processors, cudaDevAttrMultiProcessorCount, device->index),
                       "counting its processors", err));
  MA_TRY(ma_cuda_check(
      device, cudaDeviceGetAttribute(&state->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device->index),
      "asking for its shared memory", err));
  MA_TRY(ma_cuda_check(device, cudaHostAlloc((void **)&state->complaint, sizeof *state->complaint, cudaHostAllocMapped),
                       "locking memory", err));
  *state->complaint = (ma_complaint){0};
  MA_TRY(ma_cuda_check(device, cudaHostGetDevicePointer((void **)&state->device_complaint, state->complaint, 0),
                       "mapping memory", err));
  MA_TRY(
      ma_cuda_check(device, cudaStreamCreateWithFlags(&state->stream, cudaStreamNonBlocking), "making a stream", err));
done:
  return st;
}

ma_status ma_cuda_open(ma_device **out, int index, ma_error *err) {
  ma_status st = MA_OK;
  ma_device *device = &cuda.devices[index];
  pthread_mutex_lock(&cuda.lock);
  if (!device->backend) {
    device->index = index;
    snprintf(device->name, sizeof device->name, "cuda:%d", index);
    device->state = &cuda.states[index];
    st = open_device(device, &cuda.states[index], err);
    if (st == MA_OK) device->backend = &backend;
  }
  pthread_mutex_unlock(&cuda.lock);
  *out = st == MA_OK ? device : NULL;
  return st;
}
