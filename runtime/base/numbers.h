// SPDX-License-Identifier: MIT
// Numbers from text, without a locale and without rests.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>

namespace gradlibra {

// All of the text as a number: nothing before or behind it, and in the type's range; else nothing.
template <class T>
[[nodiscard]] std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace gradlibra
