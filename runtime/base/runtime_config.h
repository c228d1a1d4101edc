// SPDX-License-Identifier: MIT
// How the device computes: the part of a configuration that changes speed and rounding, not the method.
#pragma once

#include <string>

#include "runtime/base/config.h"

namespace gradlibra {

struct RuntimeConfig {
  std::string precision = "fp32";
  std::string conv_tuning = "heuristic";
  std::string matrix_products = "auto";
  bool deterministic = true;
  bool parallel_levels = true;
  bool keep_columns = true;
  bool cuda_graph = true;
  void describe(ConfigVisitor& v);
};

}  // namespace gradlibra
