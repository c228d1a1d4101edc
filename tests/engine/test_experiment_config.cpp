// SPDX-License-Identifier: MIT
// The whole configuration: every number says what values make sense, and its default is one of them.
#include "engine/experiment_config.h"

#include <gtest/gtest.h>

namespace gradlibra {
namespace {

class RangeCheck : public ConfigVisitor {
 public:
  void field(std::string_view, bool&, std::string_view) override {}
  void field(std::string_view key, int& value, std::string_view, NumberRange range) override {
    check(key, value, range);
  }
  void field(std::string_view key, int64_t& value, std::string_view, NumberRange range) override {
    check(key, static_cast<double>(value), range);
  }
  void field(std::string_view key, double& value, std::string_view, NumberRange range) override {
    check(key, value, range);
  }
  void field(std::string_view, std::string&, std::string_view) override {}
  void field(std::string_view key, std::vector<int>& values, std::string_view, NumberRange range) override {
    check(key, values.empty() ? range.least : values[0], range);
  }
  void field(std::string_view key, std::vector<double>& values, std::string_view, NumberRange range) override {
    check(key, values.empty() ? range.least : values[0], range);
  }
  void field(std::string_view, std::vector<std::string>&, std::string_view) override {}
  void field(std::string_view, std::map<std::string, std::vector<std::string>>&, std::string_view) override {}
  void choice(std::string_view, std::string&, const std::vector<std::string>&, std::string_view) override {}
  int numbers = 0;

 protected:
  void enter(std::string_view key, std::string_view) override { section_ = key; }
  void leave() override {}

 private:
  void check(std::string_view key, double value, const NumberRange& range) {
    ++numbers;
    EXPECT_TRUE(range.declared) << section_ << "." << key
                                << " declares no range (at_least, between, above, any_number)";
    EXPECT_TRUE(range.holds(value)) << section_ << "." << key << ": the default " << value << " is not "
                                    << range.to_string();
  }
  std::string section_;
};

TEST(Experiment, EveryNumberDeclaresItsRange) {
  ExperimentConfig config;
  RangeCheck check;
  config.describe(check);
  EXPECT_GT(check.numbers, 50);
}

// What a run accepts, the configuration in its checkpoint gives back: the bounds themselves as well.
TEST(Experiment, ExtremeValuesReadBack) {
  ExperimentConfig config;
  config.train.seed = INT64_MAX;
  config.model.test.max_per_image = -1;
  config.model.test.nms_pre = 0;
  config.schedule.lr = 0;
  config.optimizer.clip_norm = 1e-300;
  config.train.keep_checkpoints = -1;
  config.data.root = "/data/run #3: 'a' \"b\"\t";
  ExperimentConfig back;
  ConfigSource::from_text(to_yaml(config), "stored").read_into(back);
  EXPECT_TRUE(config_differences(values_of(config), values_of(back)).empty());
  EXPECT_EQ(back.train.seed, INT64_MAX);
  EXPECT_EQ(back.data.root, config.data.root);
}

void expect_refused(const std::string& text) {
  ExperimentConfig config;
  const std::string key = text.substr(0, text.find('='));
  try {
    ConfigSource({}, {text}).read_into(config);
    ADD_FAILURE() << text << " was accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("expected"), std::string::npos) << error.what();
  }
}

TEST(Experiment, ValuesThatMakeNoSenseAreRefused) {
  for (const char* text : {"train.seed=-1",          "schedule.epochs=0",         "schedule.epochs=-3",
                           "schedule.lr=-1",         "schedule.lr=.nan",          "model.test.max_per_image=-2",
                           "loader.batch_size=0",    "loader.height=33",          "loader.workers=0",
                           "loader.cache_mb=-1",     "model.pixel_std=[0, 1, 1]", "optimizer.momentum=1.5",
                           "optimizer.clip_norm=-1", "train.keep_checkpoints=-2", "train.evaluate_every=-2",
                           "train.patience=-1",      "train.average_decay=1",     "synthesize.size=0",
                           "schedule.steps=[-1]",    "loader.max_boxes=0",        "model.head.stacked_convs=-1"})
    expect_refused(text);
  // What a kernel would refuse, but only in the first step.
  for (const char* text : {"model.head.smooth_l1_beta=0", "model.head.init_pos_num=17", "model.yolof.match_times=17"})
    expect_refused(text);
}

}  // namespace
}  // namespace gradlibra
