// SPDX-License-Identifier: MIT
#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define GRADLIBRA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GRADLIBRA_ASAN 1
#endif
#endif
#ifdef GRADLIBRA_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)

// void gradlibra_switch(void** from, void* to): pushes what a call must preserve (System V ABI), saves the stack
// pointer in *from, takes `to` as the stack pointer and pops the same.
asm(R"(
.text
.p2align 4
.globl gradlibra_switch
.type gradlibra_switch, @function
gradlibra_switch:
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
.size gradlibra_switch, .-gradlibra_switch
.section .note.GNU-stack,"",@progbits
.text
)");
extern "C" void gradlibra_switch(void** from, void* to);

static void* prepare(char* top, size_t, void (*entry)()) {
  // Six registers, the return address, and a null where entry's own return address would be: there the stack pointer is
  // 8 modulo 16, as after a call.
  auto** slots = reinterpret_cast<void**>(top) - 8;
  for (int i = 0; i < 8; ++i) slots[i] = nullptr;
  slots[6] = reinterpret_cast<void*>(entry);
  return slots;
}
static void release(void*) {}

#elif defined(__aarch64__)

// As above (AAPCS64): x19 to x30 and the low halves of v8 to v15.
asm(R"(
.text
.p2align 4
.globl gradlibra_switch
.type gradlibra_switch, %function
gradlibra_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size gradlibra_switch, .-gradlibra_switch
.section .note.GNU-stack,"",%progbits
.text
)");
extern "C" void gradlibra_switch(void** from, void* to);

static void* prepare(char* top, size_t, void (*entry)()) {
  auto** slots = reinterpret_cast<void**>(top) - 20;
  for (int i = 0; i < 20; ++i) slots[i] = nullptr;
  slots[11] = reinterpret_cast<void*>(entry);  // x30
  return slots;
}
static void release(void*) {}

#else

#include <ucontext.h>

// Portable, with a system call for the signal mask at every switch.
static void gradlibra_switch(void** from, void* to) {
  if (*from == nullptr) *from = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(*from), static_cast<ucontext_t*>(to));
}
static void* prepare(char* top, size_t bytes, void (*entry)()) {
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = top - bytes;
  context->uc_stack.ss_size = bytes;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}
static void release(void* context) { delete static_cast<ucontext_t*>(context); }

#endif

namespace gradlibra::emulator {
namespace {

// The two ends of the switch in progress. Kernels run on one host thread at a time.
Fiber* switching_from = nullptr;
Fiber* switching_to = nullptr;

}  // namespace

Fiber::Fiber(void (*entry)()) : entry_(entry) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  mapping_bytes_ = kStackBytes + page;
  void* mapping =
      mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<char*>(mapping);
  mprotect(mapping_, page, PROT_NONE);  // a stack that grows too far stops there
  stack_bottom_ = mapping_ + page;
  stack_bytes_ = kStackBytes;
  context_ = prepare(mapping_ + mapping_bytes_, kStackBytes, &Fiber::first_entry);
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
  release(context_);
#ifdef GRADLIBRA_ASAN
  __asan_unpoison_memory_region(stack_bottom_, stack_bytes_);  // its frames did not return
#endif
  munmap(mapping_, mapping_bytes_);
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  switching_from = &from;
  switching_to = &to;
#ifdef GRADLIBRA_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_bottom_, to.stack_bytes_);
#endif
  gradlibra_switch(&from.context_, to.context_);
  arrived(from);
}

void Fiber::arrived([[maybe_unused]] Fiber& self) {
#ifdef GRADLIBRA_ASAN
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(self.fake_stack_, &bottom, &bytes);
  switching_from->stack_bottom_ = bottom;  // the only way to learn it for a stack that is not ours
  switching_from->stack_bytes_ = bytes;
#endif
}

void Fiber::first_entry() {
  arrived(*switching_to);
  switching_to->entry_();
  std::abort();
}

}  // namespace gradlibra::emulator
