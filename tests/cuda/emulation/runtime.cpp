/* The device's memory: a range of addresses that is closed to the host but while a kernel or a copy runs.  Closing takes long in
 * some virtual machines, so it is done every 64th time: what reads the memory from outside, and does so in a test, is found soon
 * enough.  With MASSACT_EMULATION=strict it is done every time. */
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "cuda_runtime_api.h"
#include "fiber.h"

#ifdef MA_FIBER_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes)   static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) static_cast<void>(0)
#endif

namespace {

constexpr size_t ARENA = size_t{16} << 30, GRAIN = 256;

/* One device, as the driver has it. */
struct device {
  std::recursive_mutex lock;
  char *arena = nullptr;
  size_t top = 0; /* bytes that were ever in use */
  size_t used = 0;
  int n_entered = 0;
  unsigned n_left = 0; /* how often it was left */
  int protection = PROT_NONE;
  size_t protected_bytes = 0;
  const bool is_strict = getenv("MASSACT_EMULATION") && strcmp(getenv("MASSACT_EMULATION"), "strict") == 0;
  std::map<size_t, size_t> taken, left; /* offset to bytes, of what is in use and of the gaps below `top` */
  void *host = nullptr;                 /* the memory of the host that the device sees */
  size_t host_bytes = 0;
  cudaError_t last = cudaSuccess;
};

device &the() {
  static device d;
  return d;
}

cudaError_t fail(cudaError_t error) {
  the().last = error;
  return error;
}

void protect(int how) {
  device &d = the();
  if (how == PROT_NONE && !d.is_strict && ++d.n_left % 64 != 0) return;
  const size_t bytes = d.top; /* grows, and what is new is closed */
  if (how == d.protection && bytes == d.protected_bytes) return;
  if (bytes && mprotect(d.arena, bytes, how) != 0) {
    perror("emulated device: mprotect");
    abort();
  }
  d.protection = how;
  d.protected_bytes = bytes;
}

bool is_device(const void *data) {
  const device &d = the();
  const char *at = static_cast<const char *>(data);
  return (d.arena && at >= d.arena && at < d.arena + ARENA) ||
         (d.host && at >= static_cast<char *>(d.host) && at < static_cast<char *>(d.host) + d.host_bytes);
}

/* The smallest gap that holds `bytes`, or new addresses. */
bool take(size_t bytes, size_t *offset) {
  device &d = the();
  auto best = d.left.end();
  for (auto gap = d.left.begin(); gap != d.left.end(); ++gap)
    if (gap->second >= bytes && (best == d.left.end() || gap->second < best->second)) best = gap;
  if (best == d.left.end()) {
    if (d.top + bytes > ARENA) return false;
    *offset = d.top;
    d.top += bytes;
    return true;
  }
  *offset = best->first;
  const size_t rest = best->second - bytes;
  d.left.erase(best);
  if (rest) d.left[*offset + bytes] = rest;
  return true;
}

void give_back(size_t offset, size_t bytes) {
  std::map<size_t, size_t> &left = the().left;
  auto after = left.lower_bound(offset);
  if (after != left.end() && after->first == offset + bytes) {
    bytes += after->second;
    after = left.erase(after);
  }
  if (after != left.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  left[offset] = bytes;
}

} // namespace

extern "C" {

void ma_emulation_enter(void) {
  the().lock.lock();
  if (the().n_entered++ == 0) protect(PROT_READ | PROT_WRITE);
}

void ma_emulation_leave(void) {
  if (--the().n_entered == 0) protect(PROT_NONE);
  the().lock.unlock();
}

void ma_emulation_check_pointer(const char *what, const void *data) {
  if (!data || is_device(data)) return;
  fprintf(stderr, "emulated device: %s is given a pointer that is not the device's: %p\n", what, data);
  abort();
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = getenv("MASSACT_NO_GPU") ? 0 : 1; /* for tests of what is said then */
  return *count ? cudaSuccess : fail(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice); }

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
  (void)device;
  *value = attribute == cudaDevAttrMultiProcessorCount ? 2 : 232448;
  return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
  const cudaError_t last = the().last;
  the().last = cudaSuccess;
  return last;
}

const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    default: return "invalid device ordinal";
  }
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device) {
  if (device != 0) return cudaErrorInvalidDevice;
  std::snprintf(out->name, sizeof out->name, "emulated on the CPU");
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  *free_bytes = ARENA - the().used;
  *total_bytes = ARENA;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
  (void)device;
  *pool = nullptr;
  return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
  (void)pool;
  (void)attribute;
  *static_cast<uint64_t *>(value) = 0;
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
  (void)pool;
  (void)attribute;
  (void)value;
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void **out, size_t bytes, cudaStream_t stream) {
  (void)stream;
  device &d = the();
  const std::lock_guard<std::recursive_mutex> guard(d.lock);
  if (!d.arena) {
    void *arena = mmap(nullptr, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) return fail(cudaErrorMemoryAllocation);
    d.arena = static_cast<char *>(arena);
  }
  /* A grain more than is asked for: nobody's, so that a sanitizer sees who reads past the end. */
  size_t offset;
  if (bytes > ARENA || !take((bytes + 2 * GRAIN - 1) / GRAIN * GRAIN, &offset)) return fail(cudaErrorMemoryAllocation);
  const size_t whole = (bytes + 2 * GRAIN - 1) / GRAIN * GRAIN;
  d.taken[offset] = whole;
  d.used += whole;
  *out = d.arena + offset;
  ma_emulation_enter();
  ASAN_POISON_MEMORY_REGION(*out, whole);
  ASAN_UNPOISON_MEMORY_REGION(*out, bytes);
  memset(*out, 0xFF, bytes); /* NaN: nothing is there until it is written */
  ma_emulation_leave();
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void *data, cudaStream_t stream) {
  (void)stream;
  device &d = the();
  const std::lock_guard<std::recursive_mutex> guard(d.lock);
  const auto found = d.taken.find(static_cast<size_t>(static_cast<char *>(data) - d.arena));
  if (found == d.taken.end()) {
    fprintf(stderr, "emulated device: what is freed was not allocated, or is freed twice\n");
    abort();
  }
  ASAN_POISON_MEMORY_REGION(data, found->second);
  d.used -= found->second;
  give_back(found->first, found->second);
  d.taken.erase(found);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
  (void)flags;
  device &d = the();
  if (d.host) return fail(cudaErrorMemoryAllocation); /* one is all that massact asks for */
  d.host = ::operator new(bytes, std::nothrow);
  d.host_bytes = bytes;
  *out = d.host;
  return d.host ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaHostGetDevicePointer(void **out, void *host, unsigned flags) {
  (void)flags;
  *out = host;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  (void)stream;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (to_device != is_device(to) || from_device != is_device(from)) return fail(cudaErrorInvalidValue);
  ma_emulation_enter();
  memcpy(to, from, bytes);
  ma_emulation_leave();
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
  (void)stream;
  if (!is_device(to)) return fail(cudaErrorInvalidValue);
  ma_emulation_enter();
  memset(to, value, bytes);
  ma_emulation_leave();
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  (void)flags;
  *stream = nullptr;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  (void)stream;
  return cudaSuccess;
}
}
