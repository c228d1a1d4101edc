// SPDX-License-Identifier: MIT
// The training loop: what it learns from, logs and reports, its end on a signal, bounded memory.
#include <csignal>
#include <thread>

#include "data/loading/augment.h"
#include "tests/engine/trainer_test.h"

namespace gradlibra {
namespace {

using Json = nlohmann::json;

TEST_F(TrainerTest, TheSeedDecides) {
  ExperimentConfig c = config();
  static_cast<void>(trainer(c, "one", false, 2)->run());
  static_cast<void>(trainer(c, "same", false, 2)->run());
  c.train.seed = 2;
  static_cast<void>(trainer(c, "other", false, 2)->run());
  EXPECT_EQ(differences(checkpoint("one", 2), checkpoint("same", 2)), "");
  EXPECT_HAS(differences(checkpoint("one", 2), checkpoint("other", 2)), " backbone.conv1.weight");
}

TEST_F(TrainerTest, TrainingLearns) {
  ExperimentConfig c = config();
  c.schedule.epochs = 15;
  c.schedule.steps = {};
  EXPECT_EQ(trainer(c, "run")->run(), Trainer::Outcome::finished);
  const std::vector<Json> lines = log("run");
  EXPECT_LT(last_of_first(lines, "loss"), 0.8);
}

// Also after a stop and a resume, to the same bits.
TEST_F(TrainerTest, OtherDetectorsLearn) {
  ExperimentConfig c = config();
  c.schedule.epochs = 10;
  c.schedule.steps = {};
  c.model.neck.extra = "on_output";
  for (const char* detector : {"fcos", "atss", "yolof"}) {
    SCOPED_TRACE(detector);
    const std::string whole = std::string(detector) + ".whole", parts = std::string(detector) + ".parts";
    c.model.detector = detector;
    static_cast<void>(trainer(c, whole)->run());
    const std::vector<Json> lines = log(whole);
    for (const char* name : {"loss_cls", "loss_bbox"}) EXPECT_TRUE(lines[0].contains(name)) << lines[0].dump();
    EXPECT_EQ(lines[0].contains("loss_centerness"), c.model.detector != "yolof");
    EXPECT_LT(last_of_first(lines, "loss"), 0.8);
    static_cast<void>(trainer(c, parts, false, 21)->run());
    static_cast<void>(trainer(c, parts, true)->run());
    EXPECT_EQ(differences(checkpoint(whole, 40), checkpoint(parts, 40)), "");
    if (c.model.detector == "yolof") continue;
    EXPECT_NE(checkpoint(whole, 40).tensors.at("bbox_head.scales.0.scale").to_floats(), std::vector<float>{1});
    EXPECT_TRUE(checkpoint(whole, 40).tensors.at("bbox_head.scales.0.scale").shape.empty());
  }
}

TEST_F(TrainerTest, ThereIsSomethingToTrainOn) {
  for (int i = 0; i < 3; ++i) {
    TinyImage image = tiny_image(i);
    image.objects.clear();
    put_tiny(folder_ / "empty", image);
  }
  const ExperimentConfig c = tiny_config(folder_ / "empty");
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "empty")); }), "no box to train on");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "empty/checkpoints"));
}

TEST_F(TrainerTest, ImagesWithoutBoxesTrain) {
  for (const int with_boxes : {0, 1}) {  // all batches of the four steps empty; three of four batches empty
    const auto root = folder_ / fmt::format("sparse{}", with_boxes);
    const int images = with_boxes == 0 ? 20 : 7;
    // A box there must be: where none is wanted, on the image that comes last.
    const auto last = epoch_order(images, static_cast<uint64_t>(TrainConfig{}.seed), 0).back();
    for (int i = 0; i < images; ++i) {
      TinyImage image = tiny_image(i);
      if (i != (with_boxes == 0 ? last : 0)) image.objects.clear();
      put_tiny(root, image);
    }
    for (const char* loss : {"cross_entropy", "focal", "grad_libra"}) {
      ExperimentConfig c = tiny_config(root);
      c.data.filter_empty = false;
      c.model.loss.type = loss;
      const std::string name = fmt::format("{}{}", loss, with_boxes);
      EXPECT_EQ(trainer(c, name, false, 4)->run(), Trainer::Outcome::stopped);
      EXPECT_TRUE(all_finite(checkpoint(name, 4))) << name;
      for (const Json& line : log(name)) {
        EXPECT_TRUE(std::isfinite(line.at("loss").get<double>())) << name;
        EXPECT_GT(line.at("grad_norm").get<double>(), 0) << name;  // background teaches too
        if (with_boxes == 0) {
          EXPECT_EQ(line.at("loss_pts_init"), 0.0);
          EXPECT_EQ(line.at("loss_pts_refine"), 0.0);
        }
      }
    }
  }
}

TEST_F(TrainerTest, ASignalEndsWithACheckpoint) {
  std::atomic<int> signal{0};
  Trainer::Options o = options("run");
  o.signal = &signal;
  ExperimentConfig c = config();
  c.schedule.epochs = 1000000;
  Trainer run(context_, alone_, c, o);
  std::jthread sender([&] {
    const auto log_file = work("run") / "log.jsonl";
    while (!std::filesystem::exists(log_file) || std::filesystem::file_size(log_file) == 0) std::this_thread::yield();
    signal = SIGTERM;
  });
  EXPECT_EQ(run.run(), Trainer::Outcome::stopped);
  ASSERT_GE(run.step(), 1);
  EXPECT_EQ(checkpoint("run", run.step()).metadata.at("step"), std::to_string(run.step()));
  // One that comes before the first step as well.
  Trainer early(context_, alone_, c, [&] {
    Trainer::Options other = options("early");
    other.signal = &signal;
    return other;
  }());
  EXPECT_EQ(early.run(), Trainer::Outcome::stopped);
  EXPECT_EQ(checkpoint("early", 0).metadata.at("step"), "0");
}

TEST_F(TrainerTest, TheLogHasOneLinePerStepAndTheConfigurationIsSaved) {
  const ExperimentConfig c = config();
  static_cast<void>(trainer(c, "run", false, 7)->run());
  const std::vector<Json> lines = log("run");
  ASSERT_EQ(lines.size(), 7u);
  for (size_t i = 0; i < lines.size(); ++i) {
    const Json& line = lines[i];
    EXPECT_EQ(line.at("step"), i + 1);
    EXPECT_EQ(line.at("epoch"), i / 4 + 1);
    double sum = 0;
    for (const char* key : {"loss_cls", "loss_pts_init", "loss_pts_refine"}) sum += line.at(key).get<double>();
    EXPECT_NEAR(line.at("loss").get<double>(), sum, 1e-12 * sum);
    for (const char* key : {"lr", "grad_norm", "step_seconds", "memory_mb"})
      EXPECT_GT(line.at(key).get<double>(), 0) << key;
    EXPECT_GE(line.at("data_wait").get<double>(), 0);
    EXPECT_GE(line.at("step_seconds").get<double>(), line.at("data_wait").get<double>());
    EXPECT_EQ(line.size(), i == 0 ? 17u : 11u) << line.dump();  // what is told of the classes comes with log_every
  }
  EXPECT_DOUBLE_EQ(lines[0].at("lr").get<double>(), 0.01 * 0.1);  // the warm-up's start
  EXPECT_DOUBLE_EQ(lines[4].at("lr").get<double>(),
                   0.001 * (1 - (1 - 4 / 5.) * 0.9));  // second epoch, end of the warm-up
  EXPECT_DOUBLE_EQ(lines[6].at("lr").get<double>(), 0.001);

  ExperimentConfig read;
  ConfigSource(work("run") / "config.yaml", {}).read_into(read);
  EXPECT_EQ(to_yaml(read), to_yaml(c));
  EXPECT_EQ(checkpoint("run", 7).metadata.at("config"), to_yaml(c));
}

// Ratio of gradients and norm of the classifier of each class stand in the lines of every log_every-th step; recording
// them changes no bit of the training, and checkpoints with and without the record go on.
TEST_F(TrainerTest, WhatIsRecordedOfTheClassesIsLogged) {
  ExperimentConfig c = config();
  c.schedule.epochs = 1;
  c.train.log_every = 3;
  EXPECT_EQ(trainer(c, "recorded")->run(), Trainer::Outcome::finished);
  const std::vector<Json> lines = log("recorded");
  ASSERT_EQ(lines.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    SCOPED_TRACE(i);
    ASSERT_EQ(lines[i].contains("gradient_ratio"), i != 1);
    if (i == 1) continue;
    double largest = 0;
    for (const std::string& name : kTinyClasses) {
      for (const char* key : {"gradient_ratio", "gradient_ratio_ce"}) {
        const double ratio = lines[i][key][name].get<double>();
        EXPECT_TRUE(i == 0 ? ratio >= 0 : ratio > 0) << name;  // not every class is in the first batch
      }
      for (const char* key : {"gradient_hard_positive", "gradient_hard_negative"}) {
        EXPECT_GE(lines[i][key][name].get<double>(), 0) << name;
        EXPECT_LE(lines[i][key][name].get<double>(), 1) << name;
      }
      // From a probability of a hundredth for every class nearly all pull comes from the wrong side, and no push does.
      if (i == 0 && lines[i]["gradient_ratio"][name].get<double>() > 0) {
        EXPECT_EQ(lines[i]["gradient_hard_positive"][name].get<double>(), 1) << name;
        EXPECT_EQ(lines[i]["gradient_hard_negative"][name].get<double>(), 0) << name;
      }
      EXPECT_GT(lines[i]["weight_norm_raw"][name].get<double>(), 0) << name;
      largest = std::max(largest, lines[i]["weight_norm"][name].get<double>());
    }
    EXPECT_EQ(largest, 1);
  }

  ExperimentConfig off = c;
  off.train.class_gradients = false;
  EXPECT_EQ(trainer(off, "off")->run(), Trainer::Outcome::finished);
  EXPECT_FALSE(log("off")[0].contains("gradient_ratio"));
  EXPECT_EQ(differences(checkpoint("off", 4), checkpoint("recorded", 4)), "(other tensors) metadata:config");

  // On and off again.
  c.schedule.epochs = off.schedule.epochs = 2;
  EXPECT_EQ(trainer(c, "off", true)->run(), Trainer::Outcome::finished);
  EXPECT_TRUE(log("off").back().contains("gradient_ratio"));
  EXPECT_EQ(trainer(off, "recorded", true)->run(), Trainer::Outcome::finished);
  EXPECT_FALSE(log("recorded").back().contains("gradient_ratio"));
}

TEST(StepRanges, AreTwoNumbersAndNotEmpty) {
  for (const auto& [text, first, last] : {std::tuple<const char*, int64_t, int64_t>{"100:110", 100, 110},
                                          {"0:1", 0, 1},
                                          {"7:5000000000", 7, 5000000000}}) {
    const StepRange range = parse_step_range(text);
    EXPECT_EQ(range.first, first) << text;
    EXPECT_EQ(range.last, last) << text;
  }
  for (const char* text : {"", ":", "5", "5:", ":5", "5:5", "6:5", "-1:5", "1:-1", "a:b", "1:2:3", "1:2x", "1x:2",
                           "1.5:3", "1:99999999999999999999"})
    EXPECT_HAS(message_of<std::invalid_argument>([&] { static_cast<void>(parse_step_range(text)); }),
               fmt::format("--profile-steps {}: not A:B with 0 <= A < B, such as 100:110", text));
}

TEST_F(TrainerTest, MemoryDoesNotGrow) {
  ExperimentConfig c = config();
  c.schedule.epochs = 15;
  c.train.checkpoint_every = 1000;
  static_cast<void>(trainer(c, "run")->run());
  const std::vector<Json> lines = log("run");
  ASSERT_EQ(lines.size(), 60u);
  for (size_t i = 10; i < lines.size(); ++i)
    EXPECT_EQ(lines[i].at("memory_mb"), lines[9].at("memory_mb")) << "step " << i + 1;
}

}  // namespace
}  // namespace gradlibra
