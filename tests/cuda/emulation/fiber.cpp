#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>

#ifdef MA_FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
/* Saves what a callee must preserve on the stack, changes stacks, and takes the other's from there.  (swapcontext asks the
 * kernel for the signal mask each time, and blocks of threads switch a million times.) */
extern "C" void ma_fiber_jump(void **save, void *to);
asm(R"(
.text
.globl ma_fiber_jump
.type ma_fiber_jump, @function
ma_fiber_jump:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ma_fiber_jump, .-ma_fiber_jump
.section .note.GNU-stack,"",@progbits
.text
)");
#endif

bool ma_fiber_make(ma_fiber *fiber, size_t stack_bytes, void (*entry)()) {
  void *stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) return false;
  *fiber = {};
  fiber->stack = stack;
  fiber->stack_bytes = stack_bytes;
#if defined(__x86_64__)
  /* Six registers, the address that `ret` goes to, and the alignment that a called function expects. */
  uintptr_t *top = reinterpret_cast<uintptr_t *>(static_cast<char *>(stack) + stack_bytes) - 2;
  top[0] = reinterpret_cast<uintptr_t>(entry);
  fiber->pointer = top - 6;
#else
  if (getcontext(&fiber->context) != 0) return false;
  fiber->context.uc_stack.ss_sp = stack;
  fiber->context.uc_stack.ss_size = stack_bytes;
  makecontext(&fiber->context, entry, 0);
#endif
  return true;
}

#ifdef MA_FIBER_ASAN
/* The stack that this thread came with, for switching back to it. */
static thread_local const void *own_stack;
static thread_local size_t own_stack_bytes;

void ma_fiber_begin(ma_fiber *) {
  const void *stack;
  size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (!own_stack) own_stack = stack, own_stack_bytes = bytes;
}
#else
void ma_fiber_begin(ma_fiber *) {}
#endif

void ma_fiber_switch(ma_fiber *from, ma_fiber *to) {
#ifdef MA_FIBER_ASAN
  __sanitizer_start_switch_fiber(&from->fake_stack, to->stack ? to->stack : own_stack,
                                 to->stack ? to->stack_bytes : own_stack_bytes);
#endif
#if defined(__x86_64__)
  ma_fiber_jump(&from->pointer, to->pointer);
#else
  swapcontext(&from->context, &to->context);
#endif
#ifdef MA_FIBER_ASAN
  __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}
