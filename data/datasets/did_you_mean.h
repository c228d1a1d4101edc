// SPDX-License-Identifier: MIT
// The known name that a misspelt one was probably meant to be.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gradlibra {

[[nodiscard]] std::string_view trim(std::string_view text);   // blanks of ASCII off both ends
[[nodiscard]] std::string lower_case(std::string_view text);  // of ASCII letters

// The nearest of `known` to `name`: equal but for capitals, blanks, hyphens and underscores, or else at most a third of
// its letters away (insertions, deletions, exchanges). Empty if none is near.
[[nodiscard]] std::string nearest_name(std::string_view name, const std::vector<std::string>& known);
// "; did you mean 'cell'?", or nothing.
[[nodiscard]] std::string did_you_mean(std::string_view name, const std::vector<std::string>& known);

}  // namespace gradlibra
