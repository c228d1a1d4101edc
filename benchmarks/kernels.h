// SPDX-License-Identifier: MIT
// `benchmark kernels`: time, least traffic and arithmetic of every kernel, as a share of what the device reaches at
// best.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/device/context.h"

namespace gradlibra {

struct KernelBenchmarkOptions {
  std::vector<int64_t> batches{8, 32};
  int64_t size = 512;    // side of the network's input in pixels, a multiple of 32
  std::string filter;    // part of a kernel's name; empty: all
  double seconds = 0.1;  // about, per row
  bool copies = false;   // also time a copy of as many bytes as each row moves at least
};

// Rows as they are measured go to `say` (a table with its head); the result is what --json prints.
// std::invalid_argument names the kernels there are if none contains `filter`.
[[nodiscard]] nlohmann::ordered_json benchmark_kernels(Context& context, const KernelBenchmarkOptions& options,
                                                       const std::function<void(const std::string&)>& say);

}  // namespace gradlibra
