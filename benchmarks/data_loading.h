// SPDX-License-Identifier: MIT
// `benchmark data`: the loader alone, with nothing that consumes its batches.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/experiment_config.h"

namespace gradlibra {

struct DataBenchmarkOptions {
  int64_t batches = 20;
  std::vector<int> workers;  // decoding threads to try; empty: those of the configuration
};

// For each number of workers an epoch over the training images of the first `batches` batches (fewer if there are not
// so many) with an empty cache of decoded images ("cold": read and decode; the operating system may still hold the
// files), then more of them ("warm": from the cache, as far as loader.cache_mb reaches), behind those that the workers
// had prepared in the meantime and at least eight times as many. std::runtime_error if there is no training image.
[[nodiscard]] nlohmann::ordered_json benchmark_data(const ExperimentConfig& config,
                                                    const DataBenchmarkOptions& options);

// Its result as a table.
[[nodiscard]] std::string data_text(const nlohmann::ordered_json& result);

}  // namespace gradlibra
