// SPDX-License-Identifier: MIT
// Whatever value a configuration's ranges let through, a training step takes; or it is refused by its key before.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "engine/batches.h"
#include "engine/builder.h"
#include "engine/step_dump.h"
#include "models/losses/classification_loss.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

struct Bound {
  std::string key, value;
};

// The ends of the range of every number.
class Bounds : public ConfigVisitor {
 public:
  void field(std::string_view, bool&, std::string_view) override {}
  void field(std::string_view key, int&, std::string_view, NumberRange range) override { add(key, range, "{:.0f}"); }
  void field(std::string_view key, int64_t&, std::string_view, NumberRange range) override {
    add(key, range, "{:.0f}");
  }
  void field(std::string_view key, double&, std::string_view, NumberRange range) override { add(key, range, "{}"); }
  void field(std::string_view, std::string&, std::string_view) override {}
  void field(std::string_view, std::vector<int>&, std::string_view, NumberRange) override {}
  void field(std::string_view, std::vector<double>&, std::string_view, NumberRange) override {}
  void field(std::string_view, std::vector<std::string>&, std::string_view) override {}
  void field(std::string_view, std::map<std::string, std::vector<std::string>>&, std::string_view) override {}
  void choice(std::string_view, std::string&, const std::vector<std::string>&, std::string_view) override {}
  std::vector<Bound> all;

 protected:
  void enter(std::string_view key, std::string_view) override { path_ += std::string(key) + "."; }
  void leave() override { path_.erase(path_.rfind('.', path_.size() - 2) + 1); }

 private:
  // Beyond this a network is too large for a test.
  static constexpr double kLarge = 128;
  void add(std::string_view key, const NumberRange& range, const char* form) {
    const auto text = [&](double value) { return fmt::format(fmt::runtime(form), value); };
    const std::string name = path_ + std::string(key);
    if (std::abs(range.least) <= kLarge && !range.above) all.push_back({name, text(range.least)});
    if (std::abs(range.most) <= kLarge) all.push_back({name, text(range.most)});
  }
  std::string path_;
};

class ModelRanges : public ::testing::Test {
 protected:
  ModelRanges() {
    for (int i = 0; i < 2; ++i) put_tiny(folder_ / "data", tiny_image(i));
    std::vector<Finding> findings;
    dataset_ = read_dataset(tiny_config(folder_ / "data").data, Split::train, findings);
    batch_ = batch_of(dataset_, tiny_config(folder_ / "data"), {});
  }

  // What is wrong with a step under these settings; empty: nothing.
  std::string step(const std::vector<std::string>& settings) {
    ExperimentConfig config = tiny_config(folder_ / "data");
    try {
      ConfigSource::from_text(to_yaml(config), "tiny", settings).read_into(config);
      Detector detector(context_, config.model, {kTinyClasses, {9, 5, 2}});
      detector.parameters().initialize(1);
      DeviceBatch device;
      upload(context_, batch_, device);
      Tape tape(context_);
      SingleProcess alone;
      static_cast<void>(detector.loss(tape, detector.normalize(tape, device.images), device.truth, alone));
      tape.backward();
      Tape inference(context_, Tape::Mode::inference);
      static_cast<void>(detector.detect(inference, detector.normalize(inference, device.images), batch_.sizes));
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }

  TemporaryFolder folder_;
  Context context_{1};
  Dataset dataset_;
  Batch batch_;
};

TEST_F(ModelRanges, TheirEndsTrainOrAreRefusedByKey) {
  ExperimentConfig config;
  Bounds bounds;
  config.describe(bounds);
  int taken = 0, refused = 0;
  for (const Bound& bound : bounds.all) {
    if (!bound.key.starts_with("model.")) continue;
    const std::string setting = bound.key + "=" + bound.value;
    std::vector<std::vector<std::string>> others;
    if (bound.key.starts_with("model.loss.")) {
      for (const std::string& kind : loss_kinds()) others.push_back({"model.loss.type=" + kind});
    } else {
      for (const char* detector : {"reppoints", "fcos", "atss", "yolof"})
        others.push_back({std::string("model.detector=") + detector});
    }
    for (std::vector<std::string> settings : others) {
      settings.push_back(setting);
      const std::string problem = step(settings);
      ++(problem.empty() ? taken : refused);
      EXPECT_TRUE(problem.empty() || problem.find(bound.key) != std::string::npos)
          << settings[0] << " " << setting << ": " << problem;
    }
  }
  EXPECT_GT(taken, 300);
  EXPECT_LT(refused, 40);
}

}  // namespace
}  // namespace gradlibra
