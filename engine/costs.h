// SPDX-License-Identifier: MIT
// What a detector costs, for people and as JSON.
#pragma once

#include <string>

#include "models/detector.h"

namespace gradlibra {

// Parameters and multiply-adds per part of a detector for one height x width image.
[[nodiscard]] std::string costs_table(const Detector& detector, int64_t height, int64_t width);
[[nodiscard]] std::string costs_json(const Detector& detector, int64_t height, int64_t width);

}  // namespace gradlibra
