/* The threads of a launch: blocks one after the other, the threads of a block as fibers that take turns. */
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <vector>

#include "cuda_runtime.h"
#include "fiber.h"

thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t STACK_BYTES = 256 << 10;
constexpr unsigned WARP = 32;

struct runner {
  ma_fiber fiber;
  unsigned thread; /* that it runs now */
};

/* Lanes of a warp that wait for each other. */
struct meeting {
  unsigned mask, arrived;
  std::vector<runner *> waiting;
};

struct copy {
  void *to;
  const void *from;
  size_t bytes;
};

struct warp {
  unsigned lanes, left; /* masks: lanes that exist, lanes whose thread has ended */
  std::vector<meeting> meetings;
  alignas(16) unsigned char given[WARP][32];
  unsigned predicates;
};

/* The block that runs.  Runners are kept from launch to launch. */
struct block {
  const char *name;
  void (*body)(void *);
  void *self;
  unsigned n_threads, n_started, n_ended;
  bool is_reversed;
  std::vector<std::unique_ptr<runner>> runners;
  std::vector<runner *> idle, at_barrier;
  std::deque<runner *> ready;
  std::vector<warp> warps;
  std::vector<std::vector<copy>> copies; /* of each thread, that it has not waited for */
  std::vector<unsigned char> shared;
  ma_fiber scheduler;
  runner *current;
  int count; /* of __syncthreads_count */
  bool is_running;
};

thread_local block b;
thread_local unsigned n_launches;

[[noreturn]] void die(const char *what) {
  fprintf(stderr, "emulated kernel '%s', block (%u %u %u), thread %u: %s\n", b.name, blockIdx.x, blockIdx.y, blockIdx.z,
          b.current ? b.current->thread : 0, what);
  abort();
}

void set_thread_index(unsigned thread) {
  threadIdx = dim3(thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y);
}

/* Gives way until somebody makes this thread ready. */
void wait() {
  runner *me = b.current;
  ma_fiber_switch(&me->fiber, &b.scheduler);
  set_thread_index(me->thread);
}

void release_block() {
  for (runner *r : b.at_barrier) b.ready.push_back(r);
  b.at_barrier.clear();
}

/* Runs threads of the block, one after the other, for as long as there are new ones. */
void run_threads() {
  ma_fiber_begin(&b.current->fiber);
  for (;;) {
    while (b.n_started < b.n_threads) {
      const unsigned position = b.n_started++, thread = b.is_reversed ? b.n_threads - 1 - position : position;
      b.current->thread = thread;
      set_thread_index(thread);
      b.body(b.self);
      b.n_ended++;
      b.warps[thread / WARP].left |= 1u << thread % WARP;
      if (!b.at_barrier.empty() && b.at_barrier.size() == b.n_threads - b.n_ended) release_block();
    }
    b.idle.push_back(b.current);
    ma_fiber_switch(&b.current->fiber, &b.scheduler);
  }
}

runner *take_idle() {
  if (b.idle.empty()) {
    b.runners.push_back(std::make_unique<runner>());
    b.idle.push_back(b.runners.back().get());
    if (!ma_fiber_make(&b.idle.back()->fiber, STACK_BYTES, run_threads)) die("no memory for the stack of a thread");
  }
  runner *r = b.idle.back();
  b.idle.pop_back();
  return r;
}

void run_block() {
  b.n_started = b.n_ended = 0;
  b.warps.assign((b.n_threads + WARP - 1) / WARP, warp{});
  b.copies.resize(b.n_threads);
  for (auto &copies : b.copies) copies.clear();
  for (unsigned t = 0; t < b.n_threads; t++) b.warps[t / WARP].lanes |= 1u << t % WARP;
  for (unsigned char &byte : b.shared) byte = 0xFF; /* NaN: nothing is there until it is written */
  for (;;) {
    if (b.n_started < b.n_threads) {
      b.current = take_idle();
    } else if (!b.ready.empty()) {
      b.current = b.ready.front();
      b.ready.pop_front();
    } else {
      break;
    }
    ma_fiber_switch(&b.scheduler, &b.current->fiber);
  }
  if (b.n_ended != b.n_threads)
    die("threads wait for each other for ever: a barrier or a warp function that not all of them reach");
}

/* The lanes of `mask` meet: the last to come makes the others ready. */
void meet(unsigned mask) {
  warp &w = b.warps[b.current->thread / WARP];
  const unsigned lane = 1u << b.current->thread % WARP, wanted = mask & w.lanes;
  if (!(mask & lane)) die("a warp function whose mask leaves out the thread that calls it");
  if (wanted & w.left) die("a warp function whose mask names a thread that has ended");
  size_t i = 0;
  while (i < w.meetings.size() && w.meetings[i].mask != mask) i++;
  if (i == w.meetings.size()) w.meetings.push_back({mask, 0, {}});
  w.meetings[i].arrived |= lane;
  if (w.meetings[i].arrived == wanted) {
    for (runner *r : w.meetings[i].waiting) b.ready.push_back(r);
    w.meetings.erase(w.meetings.begin() + static_cast<std::ptrdiff_t>(i));
  } else {
    w.meetings[i].waiting.push_back(b.current);
    wait();
  }
}

} // namespace

unsigned char *ma_emulation_shared() { return b.shared.data(); }

int ma_emulation_lane() { return static_cast<int>(b.current->thread % WARP); }

void ma_emulation_run(const char *name, dim3 blocks, dim3 threads, size_t shared, void (*body)(void *), void *self) {
  if (b.is_running) die("a kernel that launches a kernel");
  const unsigned n_threads = threads.x * threads.y * threads.z;
  b.name = name, b.body = body, b.self = self, b.n_threads = n_threads, b.is_running = true;
  b.shared.resize(shared + 1);
  blockDim = threads, gridDim = blocks;
  if (n_threads == 0 || n_threads > 1024 || shared > 232448 || blocks.x > 0x7FFFFFFFu || blocks.y > 65535 ||
      blocks.z > 65535)
    die("a launch that no GPU takes: too many threads, blocks or bytes of shared memory");
  n_launches++;
  ma_emulation_enter();
  for (unsigned z = 0; z < blocks.z; z++)
    for (unsigned y = 0; y < blocks.y; y++)
      for (unsigned x = 0; x < blocks.x; x++) {
        blockIdx = dim3(x, y, z);
        b.is_reversed = (n_launches + x + y + z) % 2 != 0;
        run_block();
      }
  ma_emulation_leave();
  b.is_running = false;
}

void __syncthreads() {
  b.at_barrier.push_back(b.current);
  if (b.at_barrier.size() < b.n_threads - b.n_ended) {
    wait();
    return;
  }
  b.at_barrier.pop_back();
  release_block();
}

int __syncthreads_count(int predicate) {
  __syncthreads();
  b.count = 0;
  __syncthreads();
  b.count += predicate != 0;
  __syncthreads();
  return b.count;
}

int __syncthreads_and(int predicate) { return __syncthreads_count(predicate == 0) == 0; }

void __syncwarp(unsigned mask) { meet(mask); }

unsigned __ballot_sync(unsigned mask, int predicate) {
  const unsigned given = predicate != 0;
  unsigned all = 0;
  warp &w = b.warps[b.current->thread / WARP];
  std::memcpy(w.given[b.current->thread % WARP], &given, sizeof given);
  meet(mask);
  for (unsigned lane = 0; lane < WARP; lane++) {
    unsigned one = 0;
    if (mask & w.lanes & 1u << lane) std::memcpy(&one, w.given[lane], sizeof one);
    all |= one << lane;
  }
  meet(mask);
  return all;
}

void ma_emulation_exchange(unsigned mask, const void *mine, void *theirs, size_t bytes, int from) {
  warp &w = b.warps[b.current->thread / WARP];
  std::memcpy(w.given[b.current->thread % WARP], mine, bytes);
  meet(mask);
  const bool takes_part = (mask & w.lanes) >> (static_cast<unsigned>(from) % WARP) & 1;
  std::memcpy(theirs, takes_part ? w.given[static_cast<unsigned>(from) % WARP] : mine, bytes);
  meet(mask);
}

void ma_emulation_gather(unsigned mask, const void *mine, void *all, size_t bytes) {
  warp &w = b.warps[b.current->thread / WARP];
  std::memcpy(w.given[b.current->thread % WARP], mine, bytes);
  meet(mask);
  for (unsigned lane = 0; lane < WARP; lane++)
    std::memcpy(static_cast<unsigned char *>(all) + lane * bytes, w.given[lane], bytes);
  meet(mask);
}

void ma_emulation_copy_later(void *to, const void *from, size_t bytes) {
  b.copies[b.current->thread].push_back({to, from, bytes});
}

void ma_emulation_copy_now() {
  for (const copy &c : b.copies[b.current->thread]) std::memcpy(c.to, c.from, c.bytes);
  b.copies[b.current->thread].clear();
}
