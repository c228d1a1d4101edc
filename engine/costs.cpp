// SPDX-License-Identifier: MIT
#include "engine/costs.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace gradlibra {

std::string costs_table(const Detector& detector, int64_t height, int64_t width) {
  std::string text = fmt::format("{:<40} {:>14} {:>14}\n", "part", "parameters", "GMACs");
  int64_t parameters = 0, multiply_adds = 0;
  for (const auto& part : detector.costs(height, width)) {
    text += fmt::format("{:<40} {:>14} {:>14.3f}\n", part.part, part.parameters,
                        static_cast<double>(part.multiply_adds) / 1e9);
    parameters += part.parameters;
    if (!part.sampling) multiply_adds += part.multiply_adds;
  }
  text += fmt::format("{:<40} {:>14} {:>14.3f}\n", fmt::format("total, one {}x{} image", width, height), parameters,
                      static_cast<double>(multiply_adds) / 1e9);
  return text;
}

std::string costs_json(const Detector& detector, int64_t height, int64_t width) {
  nlohmann::ordered_json json{{"height", height}, {"width", width}};
  for (const auto& part : detector.costs(height, width))
    json["parts"][part.part] = {{"parameters", part.parameters}, {"multiply_adds", part.multiply_adds}};
  return json.dump(1) + "\n";
}

}  // namespace gradlibra
