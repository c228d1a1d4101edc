// SPDX-License-Identifier: MIT
// Checks of options. CLI11's own print bounds of 309 digits, and let NaN through.
#pragma once

#include <CLI/CLI.hpp>

namespace gradlibra {

[[nodiscard]] CLI::Validator at_least_zero();
[[nodiscard]] CLI::Validator above_zero();
[[nodiscard]] CLI::Validator from_zero_to_one();

}  // namespace gradlibra
