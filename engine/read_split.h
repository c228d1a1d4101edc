// SPDX-License-Identifier: MIT
// How every program reads a split: checked in full by the loader's settings before anything is computed, and with a
// line that says what was kept and what was not.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/experiment_config.h"

namespace gradlibra {

// --split of the programs: train, val or test.
[[nodiscard]] Split split_named(const std::string& name);

using Say = std::function<void(const std::string&)>;

// The training split; std::runtime_error if there is nothing to train on in it, or nothing of a class that the
// configuration names.
[[nodiscard]] Dataset read_training_split(const ExperimentConfig& config, const Say& say);
// Any split as an evaluation takes it: no image and no truth is left out without an error, unless the configuration
// says so.
[[nodiscard]] Dataset read_evaluation_split(const ExperimentConfig& config, Split split, const Say& say);

// How many pictures (by their files) of `b` are in `a` as well.
[[nodiscard]] int64_t shared_images(const Dataset& a, const Dataset& b);

}  // namespace gradlibra
