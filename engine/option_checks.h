// SPDX-License-Identifier: MIT
// Checks of options. CLI11's own print bounds of 309 digits, and let NaN through.
#pragma once

#include <CLI/CLI.hpp>

namespace gradlibra {

[[nodiscard]] CLI::Validator at_least_zero();
[[nodiscard]] CLI::Validator above_zero();
[[nodiscard]] CLI::Validator from_zero_to_one();
// Of every --output, --input, .. of the program and its commands: an empty one is a shell's variable that is not set.
void refuse_empty_paths(CLI::App& app);

}  // namespace gradlibra
