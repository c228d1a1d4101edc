// SPDX-License-Identifier: MIT
// Configurations of runs, compared key by key.
#pragma once

#include <map>
#include <string>

#include "engine/experiment_config.h"

namespace gradlibra {

// A resolved configuration's keys with their values as text: "schedule.lr", "0.02".
using ConfigKeys = std::map<std::string, std::string>;
// Of what to_yaml gives.
[[nodiscard]] ConfigKeys keys_of(const std::string& yaml);
// Those that decide a run's result wherever it is made: without seed, paths, ranks, device and precision, and without
// what says how images are loaded and what is logged and kept.
[[nodiscard]] ConfigKeys deciding_keys(const ExperimentConfig& config);
// Leaves those of any keys.
void keep_deciding(ConfigKeys& keys);
// The names of the keys that differ, the first five; empty: none.
[[nodiscard]] std::string difference(const ConfigKeys& a, const ConfigKeys& b);

}  // namespace gradlibra
