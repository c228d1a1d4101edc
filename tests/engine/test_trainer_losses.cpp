// SPDX-License-Identifier: MIT
// Trainings with each classification loss: they learn, and what a loss accumulates is kept and compared.
#include "tests/engine/trainer_test.h"

namespace gradlibra {
namespace {

using Json = nlohmann::json;

ExperimentConfig with_loss(ExperimentConfig config, const std::string& type) {
  config.model.loss.type = type;
  config.model.loss.bags.edges = {3};  // class 0 is the frequent one
  config.train.checkpoint_every = 1;
  config.train.keep_checkpoints = 20;
  return config;
}

// Whatever a loss accumulates goes on bit for bit; a detector of it needs no annotations.
TEST_F(TrainerTest, EveryLossTrainsResumesAndDetects) {
  struct Case {
    const char *type, *changes;  // a tensor of its state that every step changes
    int channels;
  };
  for (const auto& [type, changes, channels] :
       {Case{"cross_entropy", nullptr, 3}, Case{"focal", nullptr, 3}, Case{"class_balanced", nullptr, 3},
        Case{"eqlv2", " train.state.eqlv2.gradients train.state.eqlv2.ratios", 3},
        Case{"bags", " train.state.bags.sampling", 7}, Case{"seesaw", " train.state.seesaw.counts", 4}}) {
    SCOPED_TRACE(type);
    const ExperimentConfig c = with_loss(config(), type);
    const std::string whole = std::string("whole_") + type, parts = std::string("parts_") + type;
    EXPECT_EQ(trainer(c, whole, false, 6)->run(), Trainer::Outcome::stopped);
    EXPECT_EQ(trainer(c, parts, false, 3)->run(), Trainer::Outcome::stopped);
    EXPECT_EQ(trainer(c, parts, true, 6)->run(), Trainer::Outcome::stopped);
    const SafetensorsFile end = checkpoint(whole, 6);
    EXPECT_EQ(differences(end, checkpoint(parts, 6)), "");
    EXPECT_TRUE(all_finite(end));
    if (changes != nullptr) {
      EXPECT_HAS(differences(checkpoint(whole, 5), end), changes);
    }
    EXPECT_EQ(end.tensors.at("bbox_head.reppoints_cls_out.bias").shape, std::vector<int64_t>{channels});

    const LoadedDetector loaded = load_detector(context_, {end, "end", {}}, "", {});
    Tape tape(context_, Tape::Mode::inference);
    const Predictions found = loaded.detector->predict(tape, tape.constant(context_.zeros({1, 64, 64, 3})));
    EXPECT_EQ(found.scores.dim(2), 3);
    for (const float score : context_.download<float>(found.scores)) EXPECT_TRUE(score >= 0 && score <= 1);
  }
}

TEST_F(TrainerTest, EveryLossLearns) {
  for (const char* type : {"class_balanced", "eqlv2", "bags", "seesaw"}) {
    SCOPED_TRACE(type);
    ExperimentConfig c = with_loss(config(), type);
    c.train.checkpoint_every = 0;
    c.schedule.epochs = 8;
    c.schedule.steps = {};
    EXPECT_EQ(trainer(c, type)->run(), Trainer::Outcome::finished);
    const std::vector<Json> lines = log(type);
    EXPECT_LT(last_of_first(lines, "loss_cls"), 0.9);
  }
}

// The second stage of the published training: another classifier on a finished detector.
TEST_F(TrainerTest, GroupSoftmaxTrainsTheClassifierAlone) {
  static_cast<void>(trainer(with_loss(config(), "cross_entropy"), "first", false, 2)->run());
  const SafetensorsFile first = checkpoint("first", 2);
  ExperimentConfig c = with_loss(config(), "bags");
  c.model.loss.bags.finetune = true;
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "second")); }), "train.pretrained");
  c.train.pretrained = (work("first") / "checkpoints" / "checkpoint_2.safetensors").string();
  EXPECT_EQ(trainer(c, "second", false, 3)->run(), Trainer::Outcome::stopped);
  const SafetensorsFile second = checkpoint("second", 3), before = checkpoint("second", 1);
  const auto is_classifier = [](const std::string& name) { return name.starts_with("bbox_head.reppoints_cls_out."); };
  for (const auto& [name, tensor] : second.tensors) {
    if (is_classifier(name)) {
      EXPECT_FALSE(before.tensors.at(name) == tensor) << name << " did not train";
      EXPECT_TRUE(second.tensors.contains("optim.momentum." + name));
    } else if (name.starts_with("optim.")) {
      EXPECT_TRUE(is_classifier(name.substr(std::string("optim.momentum.").size()))) << name;
    } else if (!name.starts_with("train.")) {
      EXPECT_TRUE(first.tensors.at(name) == tensor) << name << " changed";
    }
  }
  EXPECT_EQ(trainer(c, "second", true, 4)->run(), Trainer::Outcome::stopped);
}

// Groups decide what a channel means; weights of classes, what the training was about.
TEST_F(TrainerTest, WhatALossMadeOfTheAnnotationsIsCompared) {
  static_cast<void>(trainer(with_loss(config(), "bags"), "bags", false, 1)->run());
  ExperimentConfig other = with_loss(config(), "bags");
  other.model.loss.bags.edges = {2, 3};  // no class below 2: the same groups
  EXPECT_EQ(trainer(other, "bags", true, 2)->run(), Trainer::Outcome::stopped);
  SafetensorsFile file = checkpoint("bags", 1);
  file.metadata["instances"] = "[2,3,2]";
  EXPECT_HAS(message_of([&] {
               static_cast<void>(load_detector(context_, {file, "swapped", {}}, "", {}));
             }),
             "swapped: train.state.bags.groups has 2.000000 at 0, the annotations and model.loss of now make it 1.0");
  static_cast<void>(trainer(with_loss(config(), "class_balanced"), "cbl", false, 1)->run());
  other = with_loss(config(), "class_balanced");
  other.model.loss.class_balanced.beta = 0.9;
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(other, "cbl", true)); }),
             "checkpoint_1.safetensors: train.state.class_balanced.weights has ");
}

}  // namespace
}  // namespace gradlibra
