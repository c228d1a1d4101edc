// SPDX-License-Identifier: MIT
// What a detector knows of the classes it tells apart.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gradlibra {

struct ClassInfo {
  std::vector<std::string> names;
  // Annotated boxes of each class in the training split, after all filtering. Empty where no training annotations are
  // at hand: detection, evaluation, costs, benchmarks. Whoever needs them for a training loss throws then; channels,
  // scores and costs must do without.
  std::vector<int64_t> instances;

  [[nodiscard]] int count() const { return static_cast<int>(names.size()); }
};

// `count` classes of which nothing is known.
[[nodiscard]] inline ClassInfo unknown_classes(int count) {
  ClassInfo classes;
  for (int c = 0; c < count; ++c) classes.names.push_back("class " + std::to_string(c));
  return classes;
}

}  // namespace gradlibra
