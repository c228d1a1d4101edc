// SPDX-License-Identifier: MIT
// The version of NVIDIA's kernel driver, as its users know it.
#pragma once

#include <algorithm>
#include <string>

namespace gradlibra {

// "580.159.04" of what /proc/driver/nvidia/version begins with; empty if nothing in its first line is such a number:
//   NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs-builder@..)  Tue ..
[[nodiscard]] inline std::string driver_version(const std::string& text) {
  const std::string line = text.substr(0, text.find('\n'));
  for (size_t begin = 0; begin < line.size();) {
    const size_t end = std::min(line.find(' ', begin), line.size());
    std::string word = line.substr(begin, end - begin);
    const size_t dot = word.find('.');
    if (dot != 0 && dot != std::string::npos && word.back() != '.' &&
        word.find_first_not_of("0123456789.") == std::string::npos)
      return word;
    begin = end + 1;
  }
  return "";
}

}  // namespace gradlibra
