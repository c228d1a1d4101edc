// SPDX-License-Identifier: MIT
// A loss or gradient that is not a number: nothing is updated, and the message says what to look at.
#include <algorithm>
#include <functional>

#include "data/loading/augment.h"
#include "runtime/training/weights.h"
#include "tests/engine/trainer_test.h"

namespace gradlibra {
namespace {

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

// train.max_non_finite counts steps in a row. Here images with a box, whose box loss overflows in float, and without
// take turns.
TEST_F(TrainerTest, AFiniteStepEndsTheCountOfOthers) {
  constexpr int kImages = 6;
  const std::vector<int64_t> order = epoch_order(kImages, static_cast<uint64_t>(TrainConfig{}.seed), 0);
  for (int i = 0; i < kImages; ++i) {
    TinyImage image = tiny_image(i);
    if ((std::find(order.begin(), order.end(), i) - order.begin()) % 2 == 1) image.objects.clear();
    put_tiny(folder_ / "turns", image);
  }
  ExperimentConfig c = tiny_config(folder_ / "turns");
  c.data.filter_empty = false;
  c.loader.batch_size = 1;
  c.schedule.epochs = 1;
  c.model.head.init_loss_weight = c.model.head.refine_loss_weight = 1e39;
  c.train.max_non_finite = 1;
  EXPECT_EQ(trainer(c, "run")->run(), Trainer::Outcome::finished);
  const std::vector<nlohmann::json> lines = log("run");
  ASSERT_EQ(lines.size(), static_cast<size_t>(kImages));
  for (size_t i = 0; i < lines.size(); ++i)
    EXPECT_EQ(lines[i].at("grad_norm").is_null(), i % 2 == 0) << lines[i].dump();  // JSON has no infinity
}

// It would be the newest checkpoint, and resuming would go on from infinities.
TEST_F(TrainerTest, WeightsThatAreNoNumbersAreNotRescued) {
  ExperimentConfig c = config();
  c.train.checkpoint_every = 1000;
  static_cast<void>(trainer(c, "older", false, 2)->run());
  c.schedule.lr = 3e38;
  c.schedule.warmup_iterations = 0;
  c.optimizer.clip_norm = 0;
  for (const bool older : {false, true}) {
    const std::string name = older ? "older" : "run";
    const auto run = trainer(c, name, older);
    const std::string message = message_of<NonFiniteError>([&] { static_cast<void>(run->run()); });
    EXPECT_HAS(message, " is not finite either, no checkpoint was written since the start");
    EXPECT_GT(run->step(), older ? 2 : 0);
    const auto newest = CheckpointStore(work(name) / "checkpoints").load_latest();
    ASSERT_EQ(newest.has_value(), older);
    if (older) {
      EXPECT_EQ(newest->step, 2);
    }
  }
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
      "batch: gt_counts of image 0: is 9, and 0 to ");
  EXPECT_HAS(message([](SafetensorsFile& f) { f.tensors["gt_counts"] = make_file_tensor(std::vector<float>{1}, {1}); }),
             "batch: tensor 'gt_counts'");
  EXPECT_HAS(message([](SafetensorsFile& f) { f.metadata["ids"] = "[\"a\""; }), "'ids' in its metadata is no JSON");
  EXPECT_HAS(message([](SafetensorsFile& f) { f.metadata["ids"] = std::string(200000, '['); }), "batch: 'ids' in its");
  EXPECT_HAS(message([](SafetensorsFile& f) { f.metadata["ids"] = "[]"; }), "batch: ids: has 0 ids for 1 images");
  EXPECT_HAS(message([](SafetensorsFile& f) { f.metadata["ids"] = "[7]"; }), "batch: ids[0]: is 7, not text");
  EXPECT_HAS(message([](SafetensorsFile& f) { f.metadata.erase("ids"); }), "batch: no 'ids'");
}

// Two images of 4 x 8 with up to two boxes, for a detector of three classes.
TEST(BatchFile, ValuesAreThoseOfABatch) {
  const TemporaryFolder folder;
  Batch good{.N = 2, .H = 4, .W = 8, .max_boxes = 2};
  good.images.assign(2 * 4 * 8 * 3, 0);
  good.orientations = {0, 7};
  good.sizes = {4, 8, 1, 1};
  good.gt_boxes = {0, 0, 4, 4, 0, 0, 0, 0, 1, 1, 1, 1, 2, 0, 8, 3};
  good.gt_labels = {2, -1, 0, 1};
  good.gt_counts = {1, 2};
  good.ids = {"a", "b"};
  const auto message = [&](const std::function<void(Batch&)>& change, std::optional<int64_t> classes = 3) {
    Batch bad = good;
    change(bad);
    write_safetensors(folder / "b", batch_file(bad));
    return message_of([&] { static_cast<void>(read_batch(folder / "b", classes)); });
  };
  EXPECT_EQ(message([](Batch&) {}), "");
  EXPECT_EQ(message([](Batch& b) { b.gt_labels[1] = 99; }), "") << "behind the count";
  EXPECT_HAS(message([](Batch& b) { b.gt_labels[3] = 3; }),
             "b: gt_labels of image 1, box 1: is 3, and 0 to 2 are allowed");
  EXPECT_HAS(message([](Batch& b) { b.gt_labels[0] = -1; }), "b: gt_labels of image 0, box 0: is -1, and 0 to 2");
  EXPECT_EQ(message([](Batch& b) { b.gt_labels[0] = 99; }, std::nullopt), "");
  EXPECT_HAS(message([](Batch& b) { b.gt_labels[0] = -1; }, std::nullopt), "gt_labels of image 0, box 0: is -1");
  for (const float side : {NAN, INFINITY})
    EXPECT_HAS(message([&](Batch& b) { b.gt_boxes[6] = side; }),
               fmt::format("b: gt_boxes of image 0, box 1: is {}, and finite numbers", side));
  EXPECT_HAS(message([](Batch& b) { b.gt_boxes[12] = 9; }), "b: gt_boxes of image 1, box 1: is 9 0 8 3, and x1 <= x2");
  EXPECT_HAS(message([](Batch& b) { b.sizes[0] = 5; }), "b: sizes of image 0, height: is 5, and 1 to 4 are allowed");
  EXPECT_HAS(message([](Batch& b) { b.sizes[3] = -1; }), "b: sizes of image 1, width: is -1, and 1 to 8 are allowed");
  EXPECT_HAS(message([](Batch& b) { b.orientations[0] = 8; }), "b: orientations of image 0: is 8, and 0 to 7");
  EXPECT_HAS(message([](Batch& b) { b.orientations[1] = -1; }), "b: orientations of image 1: is -1, and 0 to 7");
  EXPECT_HAS(message([](Batch& b) { b.gt_counts[1] = -1; }), "b: gt_counts of image 1: is -1, and 0 to 2");
  EXPECT_HAS(message([](Batch& b) { b = {.H = 4, .W = 8}; }), "b: images has no image");
}

}  // namespace
}  // namespace gradlibra
