// SPDX-License-Identifier: MIT
// A tiny data set and trainers on it, for the tests of the training loop.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/trainer.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() {
    put_tiny_set(folder_ / "data", 7);
  }  // 4 steps per epoch: the last batch is filled up from the epoch's start

  [[nodiscard]] ExperimentConfig config() const { return tiny_config(folder_ / "data"); }
  [[nodiscard]] std::filesystem::path work(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] SafetensorsFile checkpoint(const std::string& name, int64_t step) const {
    return CheckpointStore::load(work(name) / "checkpoints" / fmt::format("checkpoint_{}.safetensors", step)).file;
  }
  [[nodiscard]] std::unique_ptr<Trainer> trainer(const ExperimentConfig& config, const std::string& name,
                                                 bool resume = false, int64_t stop = -1) {
    return std::make_unique<Trainer>(context_, alone_, config, options(name, resume, stop));
  }
  [[nodiscard]] Trainer::Options options(const std::string& name, bool resume = false, int64_t stop = -1) const {
    Trainer::Options options;
    options.work_dir = work(name);
    options.resume = resume;
    options.stop_after_step = stop;
    options.quiet = true;
    return options;
  }
  [[nodiscard]] std::vector<nlohmann::json> log(const std::string& name) const {
    std::vector<nlohmann::json> lines;
    std::ifstream file(work(name) / "log.jsonl");
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }

  TemporaryFolder folder_;
  Context context_{1};
  SingleProcess alone_;
};

// The names of the tensors that differ in any bit, and of the metadata.
inline std::string differences(const SafetensorsFile& a, const SafetensorsFile& b) {
  std::string names;
  if (a.tensors.size() != b.tensors.size()) names += "(other tensors)";
  for (const auto& [name, tensor] : a.tensors) {
    const auto other = b.tensors.find(name);
    if (other == b.tensors.end() || !(other->second == tensor)) names += " " + name;
  }
  for (const auto& [key, text] : a.metadata) {
    const auto other = b.metadata.find(key);
    if (other == b.metadata.end() || other->second != text) names += " metadata:" + key;
  }
  return names;
}

inline bool all_finite(const SafetensorsFile& file) {
  for (const auto& [name, tensor] : file.tensors)
    for (const float value : tensor.to_floats())
      if (!std::isfinite(value)) return false;
  return true;
}

// What a term of the last four lines adds up to, as a share of the first four.
inline double last_of_first(const std::vector<nlohmann::json>& lines, const char* term) {
  double first = 0, last = 0;
  for (size_t i = 0; i < 4; ++i) {
    first += lines.at(i).at(term).get<double>();
    last += lines.at(lines.size() - 1 - i).at(term).get<double>();
  }
  return last / first;
}

}  // namespace gradlibra
