// SPDX-License-Identifier: MIT
// The JSON header of a safetensors file, checked; internal to runtime/base/safetensors*.cpp.
#pragma once

#include "runtime/base/safetensors.h"

namespace gradlibra {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsHeader {
  struct Entry {
    std::string name;
    FileDType dtype = FileDType::f32;
    std::vector<int64_t> shape;
    uint64_t begin = 0, end = 0;  // bytes from the start of the data
  };
  std::vector<Entry>
      entries;  // by offset: the first begins at 0, each begins where the previous one ends, the last ends the data
  std::map<std::string, std::string> metadata;
};

[[nodiscard]] SafetensorsHeader parse_safetensors_header(const std::string& json, uint64_t data_bytes,
                                                         std::string_view name);

[[nodiscard]] bool parse_dtype(std::string_view name, FileDType& dtype);
// False on overflow.
[[nodiscard]] bool safetensors_bytes(const std::vector<int64_t>& shape, FileDType dtype, uint64_t& bytes);

}  // namespace gradlibra
