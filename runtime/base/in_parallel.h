// SPDX-License-Identifier: MIT
// Independent pieces of work on several threads.
#pragma once

#include <cstddef>
#include <functional>

namespace gradlibra {

// Calls work(0) .. work(count - 1) on up to `threads` threads, this one among them, and waits for all. After an
// exception no further call begins; the first one is thrown here. For work of milliseconds and more: kernels have
// kernels/parallel.h.
void in_parallel(size_t count, size_t threads, const std::function<void(size_t)>& work);

}  // namespace gradlibra
