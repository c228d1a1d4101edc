// SPDX-License-Identifier: MIT
// Execution contexts that hand control to each other by name, with a few instructions and no system call.
#pragma once

#include <cstddef>

namespace gradlibra::emulator {

// A stack with a suspended computation, or (default constructed) the stack of whoever switches away from it.
class Fiber {
 public:
  static constexpr size_t kStackBytes = 128 * 1024;  // the sanitizers' frames and reports need more than 64 KiB

  Fiber() = default;
  // entry() must never return. It starts at the first switch to this fiber.
  explicit Fiber(void (*entry)());
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // Suspends the running computation as `from` and goes on with `to`; returns when something switches to `from`.
  static void switch_to(Fiber& from, Fiber& to);

 private:
  static void arrived(Fiber& self);
  static void first_entry();

  void* context_ = nullptr;  // stack pointer (or ucontext_t) of the suspended computation
  char* mapping_ = nullptr;  // guard page and stack; null for a stack that is not ours
  size_t mapping_bytes_ = 0;
  void (*entry_)() = nullptr;
  // What AddressSanitizer must know about a stack it switches to.
  const void* stack_bottom_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace gradlibra::emulator
