// SPDX-License-Identifier: MIT
// The one place that lists the kinds of detectors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/classes.h"
#include "models/heads/head.h"
#include "models/pyramid.h"
#include "runtime/training/parameters.h"

namespace gradlibra {

struct ModelConfig;

// Values of model.detector.
[[nodiscard]] std::vector<std::string> detector_kinds();

// The head of config.detector, its parameters added to the store. std::invalid_argument names the key, and the kinds if
// there is none such.
[[nodiscard]] std::unique_ptr<Head> make_head(const ModelConfig& config, ParameterStore& store, const Pyramid& pyramid,
                                              const ClassInfo& classes);

}  // namespace gradlibra
