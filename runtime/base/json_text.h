// SPDX-License-Identifier: MIT
// JSON that others may have written. nlohmann's parser takes any depth, and whoever then copies, compares or prints the
// value recurses: a file of brackets would overflow the stack.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

#include "runtime/base/utf8.h"

namespace gradlibra {

// More than any file of this program has.
inline constexpr int kMostJsonLevels = 64;
[[nodiscard]] bool nests_deeper(std::string_view text, int levels = kMostJsonLevels);

// std::runtime_error "is no JSON: .." for what is none, holds a number beyond the range of a double, or nests deeper
// than kMostJsonLevels. The caller names the file.
template <class Json = nlohmann::json>
[[nodiscard]] Json parse_json(std::string_view text) {
  if (nests_deeper(text))
    throw std::runtime_error("is no JSON of this program: nests deeper than " + std::to_string(kMostJsonLevels) +
                             " levels");
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const typename Json::exception& error) {  // "[json.exception..] parse error at line 3, column 14: .."
    const std::string_view what = error.what();
    const size_t at = what.find("at line"), number = what.find("] ");
    throw std::runtime_error("is no JSON: " + escaped(what.substr(at != what.npos       ? at
                                                                  : number != what.npos ? number + 2
                                                                                        : 0)));
  }
}

// A discarded value (is_discarded()) instead of an error.
template <class Json = nlohmann::json>
[[nodiscard]] Json parse_json_or_discard(std::string_view text) {
  if (nests_deeper(text)) return Json(Json::value_t::discarded);
  try {
    return Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  } catch (const typename Json::exception&) {  // thrown all the same: a number beyond any range
    return Json(Json::value_t::discarded);
  }
}

}  // namespace gradlibra
