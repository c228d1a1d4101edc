// SPDX-License-Identifier: MIT
// Continuing a training: bit for bit wherever it was broken off, and refusing what does not belong together.
#include <thread>

#include "tests/engine/trainer_test.h"

namespace gradlibra {
namespace {

using Json = nlohmann::json;

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

// The order of the images and the weights are the checkpoint's: what the configuration says of them now is not so.
TEST_F(TrainerTest, ResumingKeepsTheSeedAndSaysSo) {
  static_cast<void>(trainer(config(), "run", false, 2)->run());
  static_cast<void>(trainer(config(), "same", false, 2)->run());
  ExperimentConfig c = config();
  const int64_t seed = c.train.seed;
  c.train.seed = seed + 8;
  c.train.pretrained = "not/there.safetensors";
  Trainer::Options loud = options("run", true, 4);
  loud.quiet = false;
  ::testing::internal::CaptureStdout();
  static_cast<void>(Trainer(context_, alone_, c, loud).run());
  const std::string said = ::testing::internal::GetCapturedStdout();
  EXPECT_HAS(said, fmt::format("note: train.seed stays {}", seed));
  EXPECT_HAS(said, "note: train.pretrained is not read");
  EXPECT_EQ(said.find("the one given now is used"), std::string::npos) << said;
  static_cast<void>(trainer(config(), "same", true, 4)->run());
  EXPECT_EQ(differences(checkpoint("run", 4), checkpoint("same", 4)), "");
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

TEST_F(TrainerTest, ResumingWithAnotherModelIsRefused) {
  static_cast<void>(trainer(config(), "run", false, 1)->run());
  ExperimentConfig other = config();
  other.model.head.stacked_convs = 2;
  const std::string message = message_of([&] { static_cast<void>(trainer(other, "run", true)); });
  EXPECT_HAS(message, "checkpoint_1.safetensors does not fit the model");
  EXPECT_HAS(message, "missing from the file: ");
  EXPECT_HAS(message, "bbox_head.cls_convs.1.conv.weight");
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

// Checksums are right in a file that another program has changed.
TEST_F(TrainerTest, DamagedMetadataIsNamed) {
  static_cast<void>(trainer(config(), "run", false, 2)->run());
  const SafetensorsFile good = checkpoint("run", 2);
  CheckpointStore store(work("run") / "checkpoints", 3);
  const auto changed = [&](const std::string& key, const std::string& text) {
    SafetensorsFile bad = good;
    bad.metadata[key] = text;
    EXPECT_TRUE(store.save(bad, 2).ok());
  };
  const auto resume = [&] { return message_of([&] { static_cast<void>(trainer(config(), "run", true)->run()); }); };
  const auto load = [&] {
    return message_of([&] { static_cast<void>(load_detector(context_, open_checkpoint(work("run")), "", {})); });
  };
  for (const std::string& text : {std::string(200000, '['), std::string("[1e400]"), std::string("{\"a\":"),
                                  std::string("7"), std::string("[[]]"), std::string("{\"a\": 7}")}) {
    SCOPED_TRACE(text.substr(0, 20));
    for (const std::string key : {"classes", "groups", "instances", "data"}) {
      changed(key, text);
      if (key != "data") {
        EXPECT_HAS(load(), "checkpoint_2.safetensors: ");
        EXPECT_HAS(load(), key);
      }
      if (key != "groups") {
        EXPECT_HAS(resume(), "checkpoint_2.safetensors: ");
        EXPECT_HAS(resume(), key);
      }
    }
  }
  changed("instances", "[3,2]");
  EXPECT_HAS(load(), "checkpoint_2.safetensors: instances: has 2 numbers for 3 classes");
  changed("instances", "[3,2,-2]");
  EXPECT_HAS(resume(), "checkpoint_2.safetensors: instances[2]: is -2");
  changed("classes", R"(["a", "b", "a"])");
  EXPECT_HAS(load(), "checkpoint_2.safetensors: classes[2]: is there twice");
  changed("classes", "[]");
  EXPECT_HAS(resume(), "checkpoint_2.safetensors: classes: has no class");
  changed("groups", R"({"frequent": 3})");
  EXPECT_HAS(load(), "checkpoint_2.safetensors: groups.frequent: is 3, not a list");
  changed("classes", good.metadata.at("classes"));
  EXPECT_EQ(load(), "");
  EXPECT_EQ(resume(), "");
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

// Hours of training that no checkpoint would hold: refused before the first step.
TEST_F(TrainerTest, ADiskWithoutRoomForACheckpointIsRefusedAtTheStart) {
  const std::filesystem::path full = "/proc/self/task";  // of a file system without a free byte
  if (CheckpointStore(full).space_problem(1).empty()) GTEST_SKIP() << full << " is not full";
  std::filesystem::create_directories(work("run"));
  std::filesystem::create_directory_symlink(full, work("run") / "checkpoints");
  EXPECT_HAS(message_of([&] { static_cast<void>(trainer(config(), "run")); }),
             "not enough space for a checkpoint in " + (work("run") / "checkpoints").string());
  EXPECT_FALSE(std::filesystem::exists(work("run") / "config.yaml"));
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

}  // namespace
}  // namespace gradlibra
