// SPDX-License-Identifier: MIT
// What `inspect model` prints.
#include "engine/costs.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

TEST(Costs, AddUp) {
  Context context(1);
  const Detector detector(context, tiny_config("unused").model, 3);
  const std::string table = costs_table(detector, 64, 96);
  const auto json = nlohmann::json::parse(costs_json(detector, 64, 96));
  EXPECT_EQ(json.at("height"), 64);
  EXPECT_EQ(json.at("width"), 96);
  int64_t parameters = 0;
  for (const auto& [part, cost] : json.at("parts").items()) {
    parameters += cost.at("parameters").get<int64_t>();
    EXPECT_HAS(table, part);
  }
  EXPECT_EQ(parameters, detector.parameters().parameter_count());
  EXPECT_HAS(table, std::to_string(parameters));
  EXPECT_HAS(table, "total, one 96x64 image");
}

}  // namespace
}  // namespace gradlibra
