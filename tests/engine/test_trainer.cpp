// SPDX-License-Identifier: MIT
// The training loop: resuming bit for bit, refusing what does not belong together, stopping, logging, bounded memory.
#include "engine/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/loading/augment.h"
#include "runtime/training/weights.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

using Json = nlohmann::json;

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
  [[nodiscard]] std::vector<Json> log(const std::string& name) const {
    std::vector<Json> lines;
    std::ifstream file(work(name) / "log.jsonl");
    for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
    return lines;
  }

  TemporaryFolder folder_;
  Context context_{1};
  SingleProcess alone_;
};

// The names of the tensors that differ in any bit, and of the metadata.
std::string differences(const SafetensorsFile& a, const SafetensorsFile& b) {
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

bool all_finite(const SafetensorsFile& file) {
  for (const auto& [name, tensor] : file.tensors)
    for (const float value : tensor.to_floats())
      if (!std::isfinite(value)) return false;
  return true;
}

TEST_F(TrainerTest, ResumingAnywhereGivesTheSameBits) {
  ExperimentConfig c = config();
  c.train.checkpoint_every = 1;
  c.train.keep_checkpoints = 20;
  const auto whole = trainer(c, "whole");
  EXPECT_EQ(whole->run(), Trainer::Outcome::finished);
  ASSERT_EQ(whole->step(), 12);
  // In the warm-up, at an epoch's end (where the rate drops), in the middle of the second epoch, twice in one epoch.
  for (const int64_t stop : {3, 4, 6, 9, 10}) {
    const auto part = trainer(c, "parts", stop > 3, stop);
    EXPECT_EQ(part->run(), Trainer::Outcome::stopped);
    EXPECT_EQ(part->step(), stop);
  }
  EXPECT_EQ(trainer(c, "parts", true)->run(), Trainer::Outcome::finished);
  for (int64_t step = 1; step <= 12; ++step) {
    const SafetensorsFile a = checkpoint("whole", step), b = checkpoint("parts", step);
    EXPECT_EQ(differences(a, b), "") << "step " << step;
    EXPECT_TRUE(all_finite(a)) << "step " << step;
  }
  // The comparison means something: every step changes weights, momentum and place.
  const std::string changed = differences(checkpoint("whole", 11), checkpoint("whole", 12));
  EXPECT_HAS(changed, " bbox_head.reppoints_cls_out.weight");
  EXPECT_HAS(changed, " optim.momentum.backbone.conv1.weight");
  EXPECT_HAS(changed, " backbone.bn1.running_mean");
  EXPECT_HAS(changed, " metadata:step");
  // The logs agree as well, but for times.
  const std::vector<Json> a = log("whole"), b = log("parts");
  ASSERT_EQ(a.size(), 12u);
  ASSERT_EQ(b.size(), 12u);
  for (size_t i = 0; i < a.size(); ++i)
    for (const char* key : {"step", "epoch", "lr", "loss", "grad_norm"})
      EXPECT_EQ(a[i].at(key), b[i].at(key)) << key << " line " << i;
}

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
  double first = 0, last = 0;
  for (size_t i = 0; i < 4; ++i) {
    first += lines[i].at("loss").get<double>();
    last += lines[lines.size() - 1 - i].at("loss").get<double>();
  }
  EXPECT_LT(last, 0.8 * first);
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
    double first = 0, last = 0;
    for (size_t i = 0; i < 4; ++i) {
      first += lines[i].at("loss").get<double>();
      last += lines[lines.size() - 1 - i].at("loss").get<double>();
    }
    EXPECT_LT(last, 0.8 * first);
    static_cast<void>(trainer(c, parts, false, 21)->run());
    static_cast<void>(trainer(c, parts, true)->run());
    EXPECT_EQ(differences(checkpoint(whole, 40), checkpoint(parts, 40)), "");
    if (c.model.detector == "yolof") continue;
    EXPECT_NE(checkpoint(whole, 40).tensors.at("bbox_head.scales.0.scale").to_floats(), std::vector<float>{1});
    EXPECT_TRUE(checkpoint(whole, 40).tensors.at("bbox_head.scales.0.scale").shape.empty());
  }
}

TEST_F(TrainerTest, AUsedFolderNeedsResume) {
  static_cast<void>(trainer(config(), "run", false, 1)->run());
  const SafetensorsFile before = checkpoint("run", 1);
  const std::string message = message_of([&] { static_cast<void>(trainer(config(), "run")); });
  EXPECT_HAS(message, "--resume");
  EXPECT_HAS(message, "run already holds a training (checkpoint_1.safetensors)");
  EXPECT_EQ(differences(checkpoint("run", 1), before), "");
  // --resume in an empty folder starts; a finished training stays as it is.
  EXPECT_EQ(trainer(config(), "fresh", true)->run(), Trainer::Outcome::finished);
  const auto again = trainer(config(), "fresh", true);
  EXPECT_EQ(again->run(), Trainer::Outcome::finished);
  EXPECT_EQ(again->step(), 12);
}

TEST_F(TrainerTest, ResumingWithOtherClassesOrDataIsRefused) {
  static_cast<void>(trainer(config(), "run", false, 6)->run());
  ExperimentConfig swapped = config();
  std::swap(swapped.data.classes[0], swapped.data.classes[1]);  // fits by shape
  std::string message = message_of([&] { static_cast<void>(trainer(swapped, "run", true)); });
  EXPECT_HAS(message, R"(["disc","square","bar"])");
  EXPECT_HAS(message, R"(["square","disc","bar"])");
  ExperimentConfig more = config();
  more.data.classes.push_back("star");
  message = message_of([&] { static_cast<void>(trainer(more, "run", true)); });
  EXPECT_HAS(message, R"(["disc","square","bar","star"])");
  // One box that has moved by a pixel, another class, another order.
  const auto change = [&](const TinyImage& tiny) {
    put(folder_ / "data/Annotations" / (tiny.id + ".xml"), voc_xml(tiny.id + ".png", 64, 64, tiny.objects));
    return message_of([&] { static_cast<void>(trainer(config(), "run", true)); });
  };
  TinyImage moved = tiny_image(2);
  moved.objects[0].x1 = std::to_string(std::stoi(moved.objects[0].x1) + 1);
  message = change(moved);
  EXPECT_HAS(message, "the training data have changed since: 7 images with 7 boxes then, 7 with 7 now, with other ids");
  EXPECT_HAS(message, "--changed-data");
  TinyImage renamed = tiny_image(2);
  renamed.objects[0].name = kTinyClasses[0] == renamed.objects[0].name ? kTinyClasses[1] : kTinyClasses[0];
  EXPECT_HAS(change(renamed), "have changed since");
  EXPECT_EQ(change(tiny_image(2)), "");  // as it was
  // Another number of steps per epoch: the place in the epoch, and with it the schedule, would be another.
  put_tiny(folder_ / "data", tiny_image(7));
  put_tiny(folder_ / "data", tiny_image(8));
  message = message_of([&] { static_cast<void>(trainer(config(), "run", true)); });
  EXPECT_HAS(message, "7 images with 7 boxes then, 9 with 9 now.");
  Trainer::Options allowed = options("run", true);
  allowed.changed_data = true;
  message = message_of([&] { static_cast<void>(Trainer(context_, alone_, config(), allowed).run()); });
  EXPECT_HAS(message, "step 6, epoch 1, batch 2");
  EXPECT_HAS(message, "5 steps per epoch");
}

TEST_F(TrainerTest, ACheckpointWithoutCountsOfBoxesIsReadAsBefore) {
  static_cast<void>(trainer(config(), "run", false, 2)->run());
  const std::filesystem::path path = work("run") / "checkpoints" / "checkpoint_2.safetensors";
  SafetensorsFile file = checkpoint("run", 2);
  EXPECT_EQ(file.metadata.at("instances"), "[3,2,2]");
  file.metadata.erase("instances");
  EXPECT_TRUE(CheckpointStore(path.parent_path(), 3).save(file, 2).ok());
  EXPECT_EQ(load_detector(context_, {file, "old", {}}, "", {}).detector->classes().instances, std::vector<int64_t>{});
  EXPECT_EQ(trainer(config(), "run", true)->run(), Trainer::Outcome::finished);
}

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
    double first = 0, last = 0;
    for (size_t i = 0; i < 4; ++i) {
      first += lines[i].at("loss_cls").get<double>();
      last += lines[lines.size() - 1 - i].at("loss_cls").get<double>();
    }
    EXPECT_LT(last, 0.9 * first);
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

TEST_F(TrainerTest, ResumingWithAnotherModelIsRefused) {
  static_cast<void>(trainer(config(), "run", false, 1)->run());
  ExperimentConfig other = config();
  other.model.head.stacked_convs = 2;
  const std::string message = message_of([&] { static_cast<void>(trainer(other, "run", true)); });
  EXPECT_HAS(message, "checkpoint_1.safetensors does not fit the model");
  EXPECT_HAS(message, "missing from the file: ");
  EXPECT_HAS(message, "bbox_head.cls_convs.1.conv.weight");
}

TEST_F(TrainerTest, ADamagedNewestCheckpointIsNamedAndTheOneBeforeTaken) {
  ExperimentConfig c = config();
  c.train.checkpoint_every = 1;
  c.train.keep_checkpoints = 20;
  static_cast<void>(trainer(c, "whole", false, 6)->run());
  static_cast<void>(trainer(c, "run", false, 5)->run());
  const auto newest = work("run") / "checkpoints/checkpoint_5.safetensors";
  std::string bytes = get(newest);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  put(newest, bytes);
  Trainer::Options loud = options("run", true, 6);
  loud.quiet = false;
  ::testing::internal::CaptureStdout();
  Trainer resumed(context_, alone_, c, loud);
  const std::string said = ::testing::internal::GetCapturedStdout();
  EXPECT_HAS(said, "checkpoint_5.safetensors: damaged");
  EXPECT_HAS(said, "checkpoint_4.safetensors at step 4");
  EXPECT_EQ(resumed.step(), 4);
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(resumed.run(), Trainer::Outcome::stopped);
  static_cast<void>(::testing::internal::GetCapturedStdout());
  EXPECT_EQ(differences(checkpoint("run", 6), checkpoint("whole", 6)), "");
}

TEST_F(TrainerTest, PretrainedWeightsOfADamagedCheckpointAreRefused) {
  static_cast<void>(trainer(config(), "run", false, 1)->run());
  const auto file = work("run") / "checkpoints/checkpoint_1.safetensors";
  ExperimentConfig c = config();
  c.train.pretrained = file.string();
  EXPECT_EQ(message_of([&] { static_cast<void>(trainer(c, "good")); }), "");
  std::string bytes = get(file);
  bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 1);
  put(file, bytes);
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "bad")); }), "checkpoint_1.safetensors: damaged");
}

// Exactly, or not at all.
TEST_F(TrainerTest, ResumingWithAnotherBatchSize) {
  put_tiny_set(folder_ / "data", 12);
  ExperimentConfig c = config();
  c.loader.batch_size = 4;  // 3 steps per epoch
  static_cast<void>(trainer(c, "inside", false, 4)->run());
  static_cast<void>(trainer(c, "between", false, 3)->run());
  c.loader.batch_size = 5;  // 3 as well
  const std::string message = message_of([&] { static_cast<void>(trainer(c, "inside", true)); });
  EXPECT_HAS(message, "behind batch 1 of epoch 2, of 4 images each (loader.batch_size 4, ranks 1); now a batch has 5");
  EXPECT_EQ(trainer(c, "between", true)->run(), Trainer::Outcome::finished);
  c.loader.batch_size = 3;  // 4 steps per epoch
  static_cast<void>(trainer(c, "three", false, 4)->run());
  c.loader.batch_size = 4;
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "three", true)->run()); }),
             "does not fit 3 steps per epoch");
}

TEST_F(TrainerTest, ALossThatIsNoNumberStopsBeforeTheUpdate) {
  ExperimentConfig c = config();
  c.train.checkpoint_every = 1;
  c.schedule.lr = 1e25;
  c.schedule.warmup_iterations = 0;
  c.optimizer.clip_norm = 0;
  const auto run = trainer(c, "run");
  std::string message;
  try {
    static_cast<void>(run->run());
  } catch (const NonFiniteError& error) {
    message = error.what();
  }
  ASSERT_GE(run->step(), 1);
  ASSERT_LT(run->step(), 4);
  EXPECT_HAS(message, "loss_");
  EXPECT_HAS(message, fmt::format("at step {}", run->step()));
  EXPECT_HAS(message, "learning rate 1e+25");
  EXPECT_HAS(message, "images: tiny_00");
  EXPECT_HAS(message, "schedule.lr");
  // The batch can be run again.
  const auto dump = work("run") / fmt::format("nonfinite_step_{}.safetensors", run->step());
  EXPECT_HAS(message, dump.string());
  const Batch batch = read_batch(dump);
  ASSERT_EQ(batch.ids.size(), 2u);
  EXPECT_HAS(message, "images: " + batch.ids[0] + ", " + batch.ids[1]);
  EXPECT_TRUE(batch_file(batch) == read_safetensors(dump));
  const SafetensorsFile last = checkpoint("run", run->step());
  for (const Parameter& p : run->detector().parameters().all()) {
    if (p.buffer) continue;  // running statistics belong to the forward pass
    EXPECT_TRUE(to_file_tensor(context_, p.node.value, p.layout) == last.tensors.at(p.name)) << p.name;
    EXPECT_TRUE(to_file_tensor(context_, p.velocity, p.layout) == last.tensors.at("optim.momentum." + p.name))
        << p.name;
  }
  EXPECT_FALSE(
      std::filesystem::exists(work("run") / fmt::format("checkpoints/checkpoint_{}.safetensors", run->step() + 1)));
}

TEST_F(TrainerTest, ABatchFileIsChecked) {
  const Dataset dataset{kTinyClasses, {}, {{"a", folder_ / "data/JPEGImages/tiny_000.png", 64, 64, {}}}};
  Loader loader(dataset, config().loader, {}, LoaderMode::evaluate, {});
  Batch batch;
  ASSERT_TRUE(loader.next(batch));
  const SafetensorsFile good = batch_file(batch);
  const auto message = [&](const std::function<void(SafetensorsFile&)>& change) {
    SafetensorsFile bad = good;
    change(bad);
    write_safetensors(folder_ / "batch", bad);
    return message_of([&] { static_cast<void>(read_batch(folder_ / "batch")); });
  };
  EXPECT_EQ(message([](SafetensorsFile&) {}), "");
  EXPECT_HAS(message([](SafetensorsFile& f) { f.tensors.erase("sizes"); }), "no tensor 'sizes'");
  EXPECT_HAS(message([](SafetensorsFile& f) {
               f.tensors["gt_labels"].shape = {8, 1};
             }),
             "batch: tensor 'gt_labels' has another type or shape");
  EXPECT_HAS(
      message([](SafetensorsFile& f) { f.tensors["gt_counts"] = make_file_tensor(std::vector<int32_t>{9}, {1}); }),
      "gt_counts out of range");
  EXPECT_HAS(message([](SafetensorsFile& f) { f.tensors["gt_counts"] = make_file_tensor(std::vector<float>{1}, {1}); }),
             "batch: tensor 'gt_counts'");
  EXPECT_EQ(message([](SafetensorsFile& f) { f.metadata["ids"] = "[\"a\""; }), "");
}

TEST_F(TrainerTest, AnInfiniteInputIsNamedAtTheFirstStep) {
  ExperimentConfig c = config();
  c.model.pixel_std = {0, 0, 0};
  const auto run = trainer(c, "run");
  const std::string message = message_of([&] { static_cast<void>(run->run()); });
  EXPECT_HAS(message, "learning rate is not the cause");
  EXPECT_HAS(message, "model.pixel_std");
  EXPECT_FALSE(message.find("Lower schedule.lr") != std::string::npos);
  EXPECT_EQ(run->step(), 0);
}

// The loss is a double and finite, its gradient a float and not.
TEST_F(TrainerTest, AGradientThatIsNoNumberUpdatesNothing) {
  ExperimentConfig c = config();
  c.model.loss.weight = 1e39;
  for (const int allowed : {0, 3}) {
    c.train.max_non_finite = allowed;
    const auto run = trainer(c, fmt::format("run{}", allowed));
    SafetensorsFile before, after;
    for (Parameter& p : run->detector().parameters().all())
      if (!p.buffer) before.tensors[p.name] = to_file_tensor(context_, p.node.value, p.layout);
    const std::string message = message_of([&] { static_cast<void>(run->run()); });
    EXPECT_HAS(message, "the gradient norm is ");
    EXPECT_HAS(message, fmt::format("at step {}", allowed));
    EXPECT_HAS(message, "images: tiny_00");
    EXPECT_EQ(run->step(), allowed);
    for (Parameter& p : run->detector().parameters().all())
      if (!p.buffer) after.tensors[p.name] = to_file_tensor(context_, p.node.value, p.layout);
    EXPECT_EQ(differences(before, after), "");
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
    EXPECT_EQ(line.size(), i == 0 ? 15u : 11u) << line.dump();  // what is told of the classes comes with log_every
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

TEST_F(TrainerTest, PretrainedWeightsFitOrAreRefused) {
  ExperimentConfig c = config();
  c.train.pretrained = (folder_ / "none.safetensors").string();
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "a")); }), "none.safetensors");

  Detector other(context_, c.model, 5);
  other.parameters().initialize(77);
  SafetensorsFile backbone;  // as torchvision has it
  for (Parameter& p : other.parameters().all())
    if (p.section == Section::backbone)
      backbone.tensors[p.name.substr(9)] = to_file_tensor(context_, p.node.value, p.layout);
  backbone.tensors["fc.weight"] = make_file_tensor(std::vector<float>(64 * 10, 1), {10, 64});
  backbone.tensors["bn1.num_batches_tracked"] = make_file_scalar<int64_t>(3);
  c.train.pretrained = (folder_ / "resnet18.safetensors").string();
  write_safetensors(c.train.pretrained, backbone);
  const auto fits = trainer(c, "b");
  for (Parameter& p : fits->detector().parameters().all()) {
    if (p.section != Section::backbone) continue;
    EXPECT_TRUE(to_file_tensor(context_, p.node.value, p.layout) == backbone.tensors.at(p.name.substr(9))) << p.name;
  }

  // A detector with other classes gives its backbone alone when that is asked for, and is refused otherwise.
  Detector of_others(context_, c.model, 5);
  of_others.parameters().initialize(78);
  SafetensorsFile whole;
  save_weights(of_others.parameters(), whole);
  c.train.pretrained = (folder_ / "detector.safetensors").string();
  write_safetensors(c.train.pretrained, whole);
  std::string refused = message_of([&] { static_cast<void>(trainer(c, "other_classes")); });
  EXPECT_HAS(refused, "does not fit the model");
  EXPECT_HAS(refused, "train.pretrained_scope=no_classifier");
  // All but the classifier, which starts as it does from scratch.
  c.train.pretrained_scope = "no_classifier";
  {
    const auto tuned = trainer(c, "no_classifier");
    Detector start(context_, c.model, tuned->detector().classes());
    start.parameters().initialize(static_cast<uint64_t>(c.train.seed));
    for (Parameter& p : tuned->detector().parameters().all()) {
      const bool classifier = p.name.starts_with("bbox_head.reppoints_cls_out.");
      Parameter* own = start.parameters().find(p.name);
      EXPECT_TRUE(to_file_tensor(context_, p.node.value, p.layout) ==
                  (classifier ? to_file_tensor(context_, own->node.value, own->layout) : whole.tensors.at(p.name)))
          << p.name;
    }
  }
  c.train.pretrained_scope = "backbone";
  const auto taken = trainer(c, "backbone_alone");
  Detector fresh(context_, c.model, taken->detector().classes());
  fresh.parameters().initialize(static_cast<uint64_t>(c.train.seed));
  for (size_t i = 0; i < fresh.parameters().all().size(); ++i) {
    Parameter& p = taken->detector().parameters().all()[i];
    const FileTensor now = to_file_tensor(context_, p.node.value, p.layout);
    Parameter& before = fresh.parameters().all()[i];
    const bool of_backbone = p.section == Section::backbone;
    EXPECT_TRUE(now ==
                (of_backbone ? whole.tensors.at(p.name) : to_file_tensor(context_, before.node.value, before.layout)))
        << p.name;
  }
  c.train.pretrained_scope = "auto";
  c.train.pretrained = (folder_ / "resnet18.safetensors").string();

  const FileTensor stem = backbone.tensors.at("conv1.weight");
  backbone.tensors["conv1.weight"] = make_file_tensor(std::vector<float>(16 * 3 * 49), {16, 3, 7, 7});
  write_safetensors(c.train.pretrained, backbone);
  std::string message = message_of([&] { static_cast<void>(trainer(c, "c")); });
  EXPECT_HAS(message, "backbone.conv1.weight: file (16, 3, 7, 7), model (8, 3, 7, 7)");
  EXPECT_HAS(message, "resnet18.safetensors");
  backbone.tensors.erase("conv1.weight");
  write_safetensors(c.train.pretrained, backbone);
  message = message_of([&] { static_cast<void>(trainer(c, "c")); });
  EXPECT_HAS(message, "missing from the file: 1\n    backbone.conv1.weight");
  // Nothing in common.
  write_safetensors(c.train.pretrained, {{{"stem.weight", stem}}, {}});
  message = message_of([&] { static_cast<void>(trainer(c, "c")); });
  EXPECT_HAS(message, "matched: 0");
  EXPECT_HAS(message, "backbone.stem.weight");
}

TEST_F(TrainerTest, ACheckpointThatCannotBeWrittenIsAWarningUnlessItIsTheLast) {
  ExperimentConfig c = config();
  c.train.checkpoint_every = 2;
  Trainer::Options loud = options("run", false, 4);
  loud.quiet = false;
  ::testing::internal::CaptureStdout();
  {
    Trainer run(context_, alone_, c, loud);
    std::filesystem::create_directories(work("run") /
                                        "checkpoints/checkpoint_2.safetensors");  // in the way of the file
    EXPECT_EQ(run.run(), Trainer::Outcome::stopped);
  }
  const std::string said = ::testing::internal::GetCapturedStdout();
  EXPECT_HAS(said, "warning: no checkpoint at step 2: cannot rename");
  EXPECT_EQ(checkpoint("run", 4).metadata.at("step"), "4");

  const auto run = trainer(c, "lost", false, 3);
  std::filesystem::create_directories(work("lost") / "checkpoints/checkpoint_3.safetensors");
  EXPECT_HAS(message_of([&] { static_cast<void>(run->run()); }), "no checkpoint at step 3: cannot rename");
}

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

// Whatever ends a training: here its images go away, and come back.
TEST_F(TrainerTest, ImagesThatVanishLeaveACheckpointAndResumingGivesTheSameBits) {
  ExperimentConfig c = config();
  c.loader.cache_mb = 0;
  c.loader.retry_seconds = 0;
  c.train.checkpoint_every = 1000;
  const auto whole = trainer(c, "whole");
  static_cast<void>(whole->run());
  const auto images = folder_ / "data/JPEGImages", gone = folder_ / "data/gone";
  std::string message;
  int64_t reached = 0;
  {
    const auto run = trainer(c, "run");
    std::filesystem::rename(images, gone);
    message = message_of([&] { static_cast<void>(run->run()); });
    reached = run->step();
    std::filesystem::rename(gone, images);
  }
  EXPECT_HAS(message, "no such file");
  EXPECT_HAS(message, fmt::format("The checkpoint of step {} is kept; continue with --resume", reached));
  EXPECT_EQ(checkpoint("run", reached).metadata.at("step"), std::to_string(reached));
  EXPECT_FALSE(std::filesystem::exists(work("run") / "finished"));
  // With patience it waits until they are there again.
  c.loader.retry_seconds = 60;
  const auto waiting = trainer(c, "run", true);
  std::filesystem::rename(images, gone);
  std::jthread back([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    std::filesystem::rename(gone, images);
  });
  EXPECT_EQ(waiting->run(), Trainer::Outcome::finished);
  SafetensorsFile a = checkpoint("whole", 12), b = checkpoint("run", 12);
  a.metadata.erase("config");
  b.metadata.erase("config");
  EXPECT_EQ(differences(a, b), "");
  EXPECT_TRUE(std::filesystem::exists(work("run") / "finished"));
}

TEST_F(TrainerTest, ResumingNamesTheKeysThatDiffer) {
  static_cast<void>(trainer(config(), "run", false, 2)->run());
  ExperimentConfig c = config();
  c.schedule.lr = 0.005;
  c.train.log_every = 3;
  Trainer::Options loud = options("run", true);
  loud.quiet = false;
  ::testing::internal::CaptureStdout();
  { const Trainer resumed(context_, alone_, c, loud); }
  const std::string said = ::testing::internal::GetCapturedStdout();
  EXPECT_HAS(said, "the one given now is used\n  schedule.lr: 0.01, now 0.005\n  train.log_every: 20, now 3\n");
}

TEST_F(TrainerTest, AFolderInUseIsRefusedAndTheLogHasEachStepOnce) {
  ExperimentConfig c = config();
  c.train.checkpoint_every = 4;
  {
    const auto first = trainer(c, "run", false, 6);
    EXPECT_HAS(message_of([&] { static_cast<void>(trainer(c, "run", true)); }), "in use by process");
    static_cast<void>(first->run());
  }
  // As after kill -9: the log has gone further than the checkpoint, and its last line is torn.
  std::filesystem::remove(work("run") / "checkpoints/checkpoint_6.safetensors");
  std::ofstream(work("run") / "log.jsonl", std::ios::app) << R"({"step":7,"epo)";
  EXPECT_EQ(trainer(c, "run", true)->run(), Trainer::Outcome::finished);
  const std::vector<Json> lines = log("run");
  ASSERT_EQ(lines.size(), 12u);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i].at("step"), i + 1);
  EXPECT_HAS(get(work("run") / "log.cut.jsonl"), R"({"step":5,)");
}

}  // namespace
}  // namespace gradlibra
