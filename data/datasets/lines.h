// SPDX-License-Identifier: MIT
// A text line by line, as lists and tables are read.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "data/datasets/did_you_mean.h"

namespace gradlibra {

struct Line {
  std::string_view text;  // without the blanks around it, never empty
  int number = 0;         // from 1; blank lines count
};

// Those that are not blank, as views of `text`.
[[nodiscard]] inline std::vector<Line> lines_of(std::string_view text) {
  std::vector<Line> lines;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (const std::string_view line = trim(text.substr(0, end)); !line.empty()) lines.push_back({line, number});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace gradlibra
