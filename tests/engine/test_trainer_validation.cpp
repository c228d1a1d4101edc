// SPDX-License-Identifier: MIT
// Validation during a training: its log, the best checkpoint, patience, the moving average.
#include "engine/evaluation.h"
#include "engine/read_split.h"
#include "runtime/training/weights.h"
#include "tests/engine/trainer_test.h"

namespace gradlibra {
namespace {

using Json = nlohmann::json;

TEST_F(TrainerTest, ValidationIsLoggedAndAMissingSplitIsFoundAtTheStart) {
  ExperimentConfig c = config();
  c.train.evaluate_every = 1;
  c.data.val = "val";
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "none")); }), "val.txt");
  put_tiny_set(folder_ / "data", 2, "val", 20);
  static_cast<void>(trainer(c, "run", false, 5)->run());
  const std::vector<Json> lines = log("run");
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[4].at("step"), 4);
  EXPECT_EQ(lines[4].at("epoch"), 1);
  EXPECT_GE(lines[4].at("val_map50").get<double>(), 0);
  // Evaluating leaves the training as it is.
  c.train.evaluate_every = 0;
  static_cast<void>(trainer(c, "plain", false, 5)->run());
  SafetensorsFile a = checkpoint("run", 5), b = checkpoint("plain", 5);
  a.metadata.clear();
  b.metadata.clear();
  EXPECT_EQ(differences(a, b), "");
  // Left to itself a training validates every epoch if the split is there.
  c.train.evaluate_every = -1;
  static_cast<void>(trainer(c, "default", false, 5)->run());
  EXPECT_EQ(log("default").size(), 6u);
  std::filesystem::remove(folder_ / "data/ImageSets/Main/val.txt");
  static_cast<void>(trainer(c, "without", false, 5)->run());
  EXPECT_EQ(log("without").size(), 5u);
  c.data.val = "vall";  // who names one means it
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "misspelt")); }), "vall");
}

// A validation that has no truth knows no mAP: nothing is the best, and no zero stands for it.
TEST_F(TrainerTest, AValidationWithoutTruthLogsNull) {
  ExperimentConfig c = config();
  c.data.val = "val";
  TinyImage empty = tiny_image(20);
  empty.objects.clear();
  put_tiny(folder_ / "data", empty, "val");
  Trainer::Options loud = options("run", false, 4);
  loud.quiet = false;
  ::testing::internal::CaptureStdout();
  {
    Trainer run(context_, alone_, c, loud);
    static_cast<void>(run.run());
  }
  const std::string said = ::testing::internal::GetCapturedStdout();
  EXPECT_HAS(said, "warning: none of them has a box");
  EXPECT_HAS(said, "epoch 1: validation mAP@0.5 -\n");
  EXPECT_TRUE(log("run").back().at("val_map50").is_null());
  EXPECT_FALSE(std::filesystem::exists(work("run") / "checkpoints/best"));
  c.train.patience = 2;
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "patient")); }),
             "no image of the validation split has a box");
}

TEST_F(TrainerTest, WithoutAValidationSplitItSaysSo) {
  Trainer::Options loud = options("run", false, 1);
  loud.quiet = false;
  ExperimentConfig c = config();
  c.data.val = "val";
  ::testing::internal::CaptureStdout();
  { const Trainer run(context_, alone_, c, loud); }
  const std::string said = ::testing::internal::GetCapturedStdout();
  EXPECT_HAS(said, "no validation: data.val: no file");
  EXPECT_HAS(said, "val.txt");
  std::filesystem::create_symlink("gone.txt", folder_ / "data/ImageSets/Main/val.txt");
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "linked")); }), "val.txt is a link to nothing");
}

// The best figure of other images is none to beat.
TEST_F(TrainerTest, ResumingWithOtherValidationDataForgetsTheBest) {
  put_tiny_set(folder_ / "data", 2, "val", 20);
  ExperimentConfig c = config();
  c.data.val = "val";
  c.schedule.lr = 0;
  static_cast<void>(trainer(c, "run", false, 8)->run());
  ASSERT_EQ(checkpoint("run", 8).metadata.at("best_step"), "4");
  put_tiny_set(folder_ / "data", 3, "val", 20);
  Trainer::Options loud = options("run", true);
  loud.quiet = false;
  ::testing::internal::CaptureStdout();
  static_cast<void>(Trainer(context_, alone_, c, loud).run());
  EXPECT_HAS(::testing::internal::GetCapturedStdout(), "note: the validation data have changed; the best mAP@0.5 of");
  EXPECT_EQ(checkpoint("run", 12).metadata.at("best_step"), "12");
}

// Validation, the best checkpoint, patience and the moving average go on as if nothing had happened, wherever the run
// is broken off.
TEST_F(TrainerTest, ResumingKeepsValidationsBestAndAverage) {
  put_tiny_set(folder_ / "data", 2, "val", 20);
  ExperimentConfig c = config();
  c.data.val = "val";
  c.model.test.score_threshold = 0;
  c.train.average_decay = 0.8;
  c.train.checkpoint_every = 1;
  c.train.keep_checkpoints = 0;
  EXPECT_EQ(trainer(c, "whole")->run(), Trainer::Outcome::finished);
  for (const int64_t stop : {3, 4, 8, 9}) static_cast<void>(trainer(c, "parts", stop > 3, stop)->run());
  EXPECT_EQ(trainer(c, "parts", true)->run(), Trainer::Outcome::finished);
  for (int64_t step = 1; step <= 12; ++step) {
    SafetensorsFile a = checkpoint("whole", step), b = checkpoint("parts", step);
    if (step == 4 || step == 8) {  // saved again when stopped there, after the validation
      for (const char* key : {"best_map50", "best_step", "validated_epochs", "validations_without_gain"})
        a.metadata.erase(key), b.metadata.erase(key);
    }
    EXPECT_EQ(differences(a, b), "") << "step " << step;
  }
  const SafetensorsFile last = checkpoint("whole", 12);
  EXPECT_EQ(last.metadata.at("validated_epochs"), "3");
  const std::string best = last.metadata.at("best_step");
  const auto best_of = [&](const std::string& name) {
    return CheckpointStore(work(name) / "checkpoints/best").load_latest().value();
  };
  EXPECT_EQ(std::to_string(best_of("whole").step), best);
  EXPECT_EQ(differences(best_of("whole").file, best_of("parts").file), "");
  const std::vector<Json> a = log("whole"), b = log("parts");
  ASSERT_EQ(a.size(), 15u);
  ASSERT_EQ(b.size(), 15u);
  double highest = -1;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].at("step"), b[i].at("step"));
    EXPECT_EQ(a[i].contains("val_map50"), b[i].contains("val_map50"));
    if (!a[i].contains("val_map50")) continue;
    EXPECT_EQ(a[i], b[i]);
    highest = std::max(highest, a[i].at("val_map50").get<double>());
  }
  EXPECT_EQ(fmt::format("{}", highest), last.metadata.at("best_map50"));
  // The average is none of the weights, and a detector is loaded with it unless told otherwise.
  EXPECT_FALSE(last.tensors.at("average.backbone.conv1.weight") == last.tensors.at("backbone.conv1.weight"));
  const auto loaded = [&](const std::vector<std::string>& overrides) {
    LoadedDetector d = load_detector(context_, open_checkpoint(work("whole")), "", overrides);
    Parameter* p = d.detector->parameters().find("backbone.conv1.weight");
    return std::pair{d.averaged, to_file_tensor(context_, p->node.value, p->layout)};
  };
  EXPECT_EQ(loaded({}), (std::pair{true, last.tensors.at("average.backbone.conv1.weight")}));
  EXPECT_EQ(loaded({"train.average_decay=0"}), (std::pair{false, last.tensors.at("backbone.conv1.weight")}));
  // Averaging leaves the training itself as it is.
  c.train.average_decay = 0;
  static_cast<void>(trainer(c, "plain", false, 3)->run());
  for (const auto& [name, tensor] : checkpoint("plain", 3).tensors)
    EXPECT_TRUE(tensor == checkpoint("whole", 3).tensors.at(name)) << name;
}

// What is validated is what the checkpoint detects with, and the training goes on from its own weights.
TEST_F(TrainerTest, AValidationIsOfTheMovingAverage) {
  put_tiny_set(folder_ / "data", 6, "val", 20);
  ExperimentConfig c = config();
  c.data.val = "val";
  c.schedule.epochs = 2;
  c.schedule.lr = 0.05;
  c.schedule.warmup_iterations = 0;
  c.model.test.score_threshold = 0;
  c.train.average_decay = 0.9;
  EXPECT_EQ(trainer(c, "run")->run(), Trainer::Outcome::finished);
  const auto map_with = [&](const std::vector<std::string>& overrides) {
    const LoadedDetector loaded = load_detector(context_, open_checkpoint(work("run")), "", overrides);
    const Dataset val = read_evaluation_split(loaded.config, Split::val, [](const std::string&) {});
    return voc_metrics(val, detect_dataset(*loaded.detector, val, loaded.config)).map.value();
  };
  const double logged = log("run").back().at("val_map50").get<double>();
  EXPECT_EQ(logged, map_with({}));
  EXPECT_NE(logged, map_with({"train.average_decay=0"})) << "this test could not tell one from the other";
  c.train.average_decay = 0;
  c.train.evaluate_every = 0;
  static_cast<void>(trainer(c, "plain")->run());
  for (const auto& [name, tensor] : checkpoint("plain", 8).tensors)
    EXPECT_TRUE(tensor == checkpoint("run", 8).tensors.at(name)) << name;
}

// Behind every second epoch of five, and a run in parts has no other ones.
TEST_F(TrainerTest, ValidationsComeEverySoManyEpochs) {
  put_tiny_set(folder_ / "data", 2, "val", 20);
  ExperimentConfig c = config();
  c.data.val = "val";
  c.loader.batch_size = 4;  // 2 steps per epoch
  c.schedule.epochs = 5;
  c.train.evaluate_every = 2;
  const auto validated = [&](const std::string& name) {
    std::vector<Json> lines = log(name);
    std::erase_if(lines, [](const Json& line) { return !line.contains("val_map50"); });
    return lines;
  };
  EXPECT_EQ(trainer(c, "whole")->run(), Trainer::Outcome::finished);
  const std::vector<Json> whole = validated("whole");
  ASSERT_EQ(whole.size(), 2u);
  EXPECT_EQ(whole[0].at("epoch"), 2);
  EXPECT_EQ(whole[0].at("step"), 4);
  EXPECT_EQ(whole[1].at("epoch"), 4);
  for (const int64_t stop : {2, 4, 5, 8}) static_cast<void>(trainer(c, "parts", stop > 2, stop)->run());
  EXPECT_EQ(trainer(c, "parts", true)->run(), Trainer::Outcome::finished);
  EXPECT_EQ(validated("parts"), whole);
  EXPECT_EQ(differences(checkpoint("parts", 10), checkpoint("whole", 10)), "");
}

TEST_F(TrainerTest, ImagesInBothSplitsAreCounted) {
  const auto said = [&](const std::string& name) {
    ExperimentConfig c = config();
    c.data.val = "val";
    Trainer::Options loud = options(name);
    loud.quiet = false;
    ::testing::internal::CaptureStdout();
    { const Trainer run(context_, alone_, c, loud); }
    return ::testing::internal::GetCapturedStdout();
  };
  put_tiny_set(folder_ / "data", 1, "val", 20);
  const std::string apart = said("apart");
  EXPECT_HAS(apart, "validation: 1 images every 1 epochs");
  EXPECT_EQ(apart.find("in the training split"), std::string::npos) << apart;
  put_tiny_set(folder_ / "data", 2, "val", 3);
  EXPECT_HAS(said("shared"), "warning: 2 of 3 validation images are in the training split, too\n");
}

TEST_F(TrainerTest, PatienceEndsATrainingThatNoLongerGains) {
  put_tiny_set(folder_ / "data", 2, "val", 20);
  ExperimentConfig c = config();
  c.data.val = "val";
  c.schedule.epochs = 50;
  c.schedule.lr = 0;  // every validation is like the first
  c.train.patience = 2;
  const auto run = trainer(c, "run");
  EXPECT_EQ(run->run(), Trainer::Outcome::finished);
  EXPECT_EQ(run->step(), 12);
  EXPECT_EQ(checkpoint("run", 12).metadata.at("validations_without_gain"), "2");
  EXPECT_TRUE(std::filesystem::exists(work("run") / "finished"));
}

TEST_F(TrainerTest, ResumingStaysStoppedUntilThereIsMorePatience) {
  put_tiny_set(folder_ / "data", 2, "val", 20);
  ExperimentConfig c = config();
  c.data.val = "val";
  c.schedule.epochs = 6;
  c.schedule.lr = 0;
  c.train.patience = 1;
  static_cast<void>(trainer(c, "run")->run());
  const auto again = trainer(c, "run", true);
  EXPECT_EQ(again->run(), Trainer::Outcome::finished);
  EXPECT_EQ(again->step(), 8);
}

TEST_F(TrainerTest, MorePatienceGoesOn) {
  put_tiny_set(folder_ / "data", 2, "val", 20);
  ExperimentConfig c = config();
  c.data.val = "val";
  c.schedule.epochs = 6;
  c.schedule.lr = 0;
  c.train.patience = 1;
  static_cast<void>(trainer(c, "run")->run());
  c.train.patience = 9;
  const auto again = trainer(c, "run", true);
  EXPECT_EQ(again->run(), Trainer::Outcome::finished);
  EXPECT_EQ(again->step(), 24);
  c.train.evaluate_every = 0;
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "none")); }), "train.patience counts validations");
}

}  // namespace
}  // namespace gradlibra
