// SPDX-License-Identifier: MIT
// The page of one training.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace gradlibra {

struct RunPageOptions {
  std::filesystem::path folder;      // of the training, or of a run of an experiment
  std::filesystem::path evaluation;  // empty: looked for (read_run)
  std::string split;                 // of the pictures; empty: as the evaluation says, else test
  int pictures = 6;                  // best ones, and worst ones
  std::vector<std::string> overrides;
};

// HTML. What is missing is a line in its section; std::runtime_error or ConfigError name the file and place of what is
// damaged.
[[nodiscard]] std::string run_page(const RunPageOptions& options);

}  // namespace gradlibra
