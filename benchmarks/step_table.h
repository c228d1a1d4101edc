// SPDX-License-Identifier: MIT
// `benchmark step` with several values of its options: every combination, as a table.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmarks/training_step.h"
#include "engine/program.h"
#include "runtime/base/runtime_config.h"

namespace gradlibra {

struct StepChoices {
  std::vector<std::string> precision;
  std::vector<int64_t> batch{8};
  std::vector<std::string> graph, parallel_levels;  // "on" or "off"
};
struct StepChoice {
  RuntimeConfig runtime;
  int64_t batch;
};
// Batches change faster than precisions, graphs faster than batches, levels the fastest. Of what has no value: as
// `configured`.
[[nodiscard]] std::vector<StepChoice> combinations(const StepChoices& choices, const RuntimeConfig& configured);

// Measures each and says a line of a table about it: {"what": "steps", "rows": [what `measure` returns, ..]}. One that
// fails, for want of memory for instance, is a line that says so; it has no row, `complete` is then false, and the
// others are measured all the same.
[[nodiscard]] nlohmann::ordered_json benchmark_steps(
    const std::vector<StepChoice>& all, const std::function<nlohmann::ordered_json(const StepChoice&)>& measure,
    const std::function<void(const std::string&)>& say, bool& complete);

// `benchmark step` whole: every combination of the choices on the configuration that the command line gives, each on a
// context of its own; with real_data on its training images. One combination is described in a few lines, several are
// a table.
[[nodiscard]] nlohmann::ordered_json benchmark_choices(const CommonOptions& common, const StepChoices& choices,
                                                       StepBenchmarkOptions options, bool real_data,
                                                       const std::function<void(const std::string&)>& say,
                                                       bool& complete);

}  // namespace gradlibra
