// SPDX-License-Identifier: MIT
// The one place that knows which neck a detector has.
#pragma once

#include <memory>
#include <span>

#include "models/necks/neck.h"
#include "runtime/training/parameters.h"

namespace gradlibra {

struct ModelConfig;

// The neck of config.detector, its parameters added to the store. in_channels: of C2..C5. std::invalid_argument names
// the configuration key that does not fit.
[[nodiscard]] std::unique_ptr<Neck> make_neck(const ModelConfig& config, ParameterStore& store,
                                              std::span<const int> in_channels);

}  // namespace gradlibra
