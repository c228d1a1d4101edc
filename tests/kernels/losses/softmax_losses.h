// SPDX-License-Identifier: MIT
// What tests of losses with a softmax share.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace gradlibra::testing {

using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Labels = std::vector<int32_t>;

struct SoftmaxResult {
  double loss = NAN;
  Floats grad;
};

// What kernels::BagsLayout looks at. groups: classes of each, ascending.
struct BagsTables {
  Labels group_of, channel_of, first{0, 2};
  explicit BagsTables(const std::vector<Labels>& groups) {
    size_t classes = 0;
    for (const Labels& group : groups) classes += group.size();
    group_of.resize(classes);
    channel_of.resize(classes);
    for (size_t g = 0; g < groups.size(); ++g) {
      int32_t channel = first.back();
      for (const int32_t c : groups[g]) {
        group_of[static_cast<size_t>(c)] = static_cast<int32_t>(g + 1);
        channel_of[static_cast<size_t>(c)] = ++channel;
      }
      first.push_back(channel + 1);
    }
  }
  [[nodiscard]] int64_t C() const { return static_cast<int64_t>(group_of.size()); }
  [[nodiscard]] int64_t G() const { return static_cast<int64_t>(first.size()) - 2; }
  [[nodiscard]] int64_t channels() const { return first.back(); }
};

}  // namespace gradlibra::testing
