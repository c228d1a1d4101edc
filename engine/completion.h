// SPDX-License-Identifier: MIT
// Completion for bash, made from what a program says of its own options.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace gradlibra {

// A script for bash-completion: subcommands, options, values of options that have a choice, and the keys of a
// configuration where overrides are taken.
[[nodiscard]] std::string bash_completion(const CLI::App& app);

}  // namespace gradlibra
