/* Stacks to switch between: what a thread of an emulated block runs on. */
#ifndef MASSACT_EMULATION_FIBER_H
#define MASSACT_EMULATION_FIBER_H

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define MA_FIBER_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MA_FIBER_ASAN
#endif
#endif

struct ma_fiber {
  void *stack; /* NULL: the thread's own */
  size_t stack_bytes;
#if defined(__x86_64__)
  void *pointer;
#else
  ucontext_t context;
#endif
#ifdef MA_FIBER_ASAN
  void *fake_stack; /* the sanitizer's, while the fiber waits */
#endif
};

/* A stack on which `entry`, which never returns, will run.  False without memory. */
bool ma_fiber_make(ma_fiber *fiber, size_t stack_bytes, void (*entry)());
/* The first thing that `entry` does. */
void ma_fiber_begin(ma_fiber *me);
/* Goes on with `to`; comes back when somebody switches to `from`. */
void ma_fiber_switch(ma_fiber *from, ma_fiber *to);

#endif
