// SPDX-License-Identifier: MIT
// Detection on loose images: ids, one bad picture, files that grow.
#include "engine/detection.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "runtime/base/files.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Names = std::vector<std::string>;

Dataset named(const Names& ids) {
  Dataset dataset;
  dataset.classes = kTinyClasses;
  for (const std::string& id : ids) dataset.images.push_back({id, id + ".png", 64, 64, {}});
  return dataset;
}

TEST(CocoResultFiles, IdsAreOfOneType) {
  const Detections one_each{{{{1, 2, 3, 4}, 0, 0.5}}, {{{1, 2, 3, 4}, 1, 0.5}}};
  Json json = Json::parse(coco_results_json(named({"7", "12"}), one_each));
  EXPECT_EQ(json[0]["image_id"], 7);
  EXPECT_EQ(json[1]["image_id"], 12);
  json = Json::parse(coco_results_json(named({"7", "007"}), one_each));
  EXPECT_EQ(json[0]["image_id"], "7");
  EXPECT_EQ(json[1]["image_id"], "007");
  json = Json::parse(coco_results_json(named({"7", "slide"}), one_each));
  EXPECT_EQ(json[0]["image_id"], "7");
}

TEST(CocoResultFiles, AreCompleteAfterEveryImage) {
  TemporaryFolder folder;
  const Dataset dataset = named({"a", "b", "c"});
  const Detections found{{{{1, 2, 3, 4}, 0, 0.5}, {{1, 2, 9, 4}, 2, 0.25}}, {}, {{{5, 6, 7, 8}, 1, 0.125}}};
  CocoResultsFile file(folder / "d.json", dataset);
  EXPECT_EQ(Json::parse(get(folder / "d.json")), Json::array());
  for (size_t i = 0; i < 3; ++i) {
    file.add(i, found[i]);
    Detections so_far(found.begin(), found.begin() + static_cast<int64_t>(i) + 1);
    EXPECT_EQ(Json::parse(get(folder / "d.json")), Json::parse(coco_results_json(dataset, so_far))) << i;
  }
  EXPECT_HAS(message_of([&] { CocoResultsFile nowhere(folder / "d.json/e.json", dataset); }), "d.json");
}

// A limit on the file's size stands for a full disk.
TEST(CocoResultFiles, AFullDiskLeavesTheImagesBefore) {
  const TemporaryFolder folder;
  const Dataset dataset = named({"a", "b"});
  const std::vector<Detection> found{{{1, 2, 3, 4}, 0, 0.5}, {{1, 2, 9, 4}, 2, 0.25}};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto message_at = [&](uint64_t bytes, const std::function<void()>& action) {
    const rlimit full{bytes, before.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
    std::string message = message_of<WriteError>(action);
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    return message;
  };
  CocoResultsFile file(folder / "d.json", dataset);
  file.add(0, found);
  const std::string so_far = get(folder / "d.json");
  for (const size_t more : {0, 1, 2, 3, 4, 40, 200}) {
    EXPECT_HAS(message_at(so_far.size() + more, [&] { file.add(1, found); }), "d.json: File too large");
    EXPECT_EQ(get(folder / "d.json"), so_far) << more;
  }
  file.add(1, found);
  EXPECT_EQ(Json::parse(get(folder / "d.json")), Json::parse(coco_results_json(dataset, {found, found})));
  // One that is begun anew takes the place of the old one as a whole, or not at all.
  const std::string whole = get(folder / "d.json");
  EXPECT_HAS(message_at(2, [&] { CocoResultsFile again(folder / "d.json", dataset); }), "d.json");
  EXPECT_EQ(get(folder / "d.json"), whole);
  std::signal(SIGXFSZ, old_handler);
}

TEST(FoundObjects, AreOnePlaceWithTheirClasses) {
  const std::vector<Detection> detections{{{0, 0, 10, 10}, 0, 0.6},
                                          {{1, 0, 10, 10}, 1, 0.8},
                                          {{0, 0, 10, 9}, 2, 0.2},
                                          {{30, 0, 40, 10}, 1, 0.5},
                                          {{33, 0, 43, 10}, 1, 0.4}};  // of the same class: another object
  const auto objects = group_by_object(detections, 0.3);
  ASSERT_EQ(objects.size(), 3u);
  EXPECT_EQ(objects[0].best.label, 1);
  ASSERT_EQ(objects[0].others.size(), 1u);
  EXPECT_EQ(objects[0].others[0].label, 0);
  EXPECT_EQ(objects[1].best.score, 0.5);
  EXPECT_TRUE(objects[1].others.empty());
  EXPECT_EQ(objects[2].best.score, 0.4);
  EXPECT_EQ(group_by_object(detections, 0)[0].others.size(), 2u);
}

class DetectReadable : public ::testing::Test {
 protected:
  DetectReadable() : detector_(context_, config_.model, 3) {
    config_.model.test.score_threshold = 0;
    detector_.parameters().initialize(1);
    for (int i = 0; i < 7; ++i) {
      fs::create_directories(folder_ / "in");
      write_image(folder_ / fmt::format("in/{}.png", i), drawn(tiny_image(i)));
    }
  }
  // Indices that the sink was given; messages in bad_.
  std::vector<size_t> run(bool* finished = nullptr) {
    const Dataset dataset = as_dataset(list_images(folder_ / "in", false), kTinyClasses, false,
                                       [&](const std::string& message) { bad_.push_back(message); });
    std::vector<size_t> seen;
    const bool all = detect_readable(
        detector_, dataset, config_, signal_,
        [&](size_t image, const std::vector<Detection>&) {
          seen.push_back(image);
          if (seen.size() == stop_after_) signal_ = 2;
          if (seen.size() == fail_after_) throw std::runtime_error("disk full");
        },
        [&](const std::string& message) { bad_.push_back(message); });
    if (finished != nullptr) *finished = all;
    return seen;
  }
  TemporaryFolder folder_;
  ExperimentConfig config_ = tiny_config("");
  Context context_{1};
  Detector detector_;
  std::atomic<int> signal_{0};
  size_t stop_after_ = 0, fail_after_ = 0;
  Names bad_;
};

TEST_F(DetectReadable, ABadPictureIsNamedAndTheOthersAreDone) {
  bool finished = false;
  EXPECT_EQ(run(&finished), (std::vector<size_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_TRUE(finished);
  // Two with a good header and no end, in one batch and in another.
  for (const int i : {2, 3, 6}) {
    const std::string bytes = get(folder_ / fmt::format("in/{}.png", i));
    put(folder_ / fmt::format("in/{}.png", i), bytes.substr(0, bytes.size() / 2));
  }
  put(folder_ / "in/9.png", "no picture at all");
  EXPECT_EQ(run(&finished), (std::vector<size_t>{0, 1, 4, 5}));
  EXPECT_TRUE(finished);
  ASSERT_EQ(bad_.size(), 4u);
  for (const auto& [message, name] : {std::pair{0, "9.png"}, {1, "2.png"}, {2, "3.png"}, {3, "6.png"}})
    EXPECT_HAS(bad_[static_cast<size_t>(message)], name);
}

TEST_F(DetectReadable, APictureLargerThanTheInputCostsNoOther) {
  write_image(folder_ / "in/3.png", plain_image(65, 64));
  EXPECT_EQ(run(), (std::vector<size_t>{0, 1, 2, 4, 5, 6}));
  ASSERT_EQ(bad_.size(), 1u);
  EXPECT_HAS(bad_[0], "in/3.png: is 65 x 64 pixels (width x height), larger than the network input 64 x 64");
  config_.loader.resize = "fit";
  EXPECT_EQ(run().size(), 7u);
}

TEST_F(DetectReadable, ASignalEndsItAndAnErrorOfTheSinkPasses) {
  stop_after_ = 3;
  bool finished = true;
  EXPECT_EQ(run(&finished), (std::vector<size_t>{0, 1, 2}));
  EXPECT_FALSE(finished);
  signal_ = 0;
  stop_after_ = 0;
  fail_after_ = 2;
  EXPECT_EQ(message_of([&] { (void)run(); }), "disk full");
  EXPECT_TRUE(bad_.empty());
}

}  // namespace
}  // namespace gradlibra
