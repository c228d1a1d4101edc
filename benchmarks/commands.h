// SPDX-License-Identifier: MIT
// The commands of `benchmark`: their options, and what each measures.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace gradlibra {

struct BenchmarkCommand {
  CLI::App* parser = nullptr;  // asked for if it was parsed
  // Measures, prints lines for a person, and returns what --json prints; null on ranks that print nothing. `code` is
  // the program's exit code.
  std::function<nlohmann::ordered_json(int& code)> run;
  std::string example;  // a command line
};

// Each adds its command to `app`, which outlives what it returns.
[[nodiscard]] BenchmarkCommand add_kernels_command(CLI::App& app);
[[nodiscard]] BenchmarkCommand add_step_command(CLI::App& app);
[[nodiscard]] BenchmarkCommand add_data_command(CLI::App& app);
[[nodiscard]] BenchmarkCommand add_comm_command(CLI::App& app);

}  // namespace gradlibra
