// SPDX-License-Identifier: MIT
// Selection of detections: thresholds, ties, limits, and images without any.
#include "models/heads/select_detections.h"

#include <cmath>

#include "tests/kernels/vectors.h"

namespace gradlibra {
namespace {

using Floats = std::vector<float>;

class SelectDetections : public ::testing::Test {
 protected:
  // Scores (N, P, C), boxes (N, P, 4); one level unless said otherwise; all images of `height` x `width`.
  std::vector<std::vector<ScoredBox>> select(int64_t N, int64_t C, const Floats& scores, const Floats& boxes,
                                             const TestConfig& test, std::vector<int64_t> level_rows = {},
                                             int height = 100, int width = 100, const Floats& factors = {}) {
    const auto P = static_cast<int64_t>(boxes.size()) / 4 / std::max<int64_t>(N, 1);
    if (level_rows.empty()) level_rows = {P};
    std::vector<int32_t> sizes;
    for (int64_t n = 0; n < N; ++n) sizes.insert(sizes.end(), {height, width});
    Tape tape(context, Tape::Mode::inference);
    Predictions found{tape.constant(context.upload<float>(boxes, {N, P, 4})),
                      context.upload<float>(scores, {N, P, C}),
                      {},
                      level_rows};
    if (!factors.empty()) found.factors = context.upload<float>(factors, {N, P});
    return select_detections(context, found, sizes, test);
  }
  // P boxes of 4 x 4 that do not touch, in a row from the left.
  static Floats separate_boxes(int64_t P) {
    Floats boxes;
    for (int64_t p = 0; p < P; ++p) {
      const auto x = static_cast<float>(5 * p);
      boxes.insert(boxes.end(), {x, 0, x + 4, 4});
    }
    return boxes;
  }
  // Which of separate_boxes a detection is.
  static int cell(const ScoredBox& box) { return static_cast<int>(box.x1 / 5); }
  static std::vector<int> cells(const std::vector<ScoredBox>& boxes) {
    std::vector<int> result;
    for (const ScoredBox& box : boxes) result.push_back(cell(box));
    return result;
  }

  Context context{1, ConvolutionLibrary::plain};
};

TEST_F(SelectDetections, WorkedExample) {
  const auto example = testing::read_vectors("select_detections");
  const auto& inputs = example["inputs"];
  const auto& expected = example["expected"];
  const auto found = select(1, 2, testing::flatten<float>(inputs["prob"]), testing::flatten<float>(inputs["boxes"]),
                            {.score_threshold = inputs["score_thr"], .nms_iou = inputs["iou_threshold"]});
  ASSERT_EQ(found.size(), 1u);
  ASSERT_EQ(found[0].size(), expected["boxes"].size());
  for (size_t i = 0; i < found[0].size(); ++i) {
    const ScoredBox& box = found[0][i];
    EXPECT_EQ((Floats{box.x1, box.y1, box.x2, box.y2}), testing::flatten<float>(expected["boxes"][i])) << i;
    EXPECT_EQ(box.score, expected["scores"][i].get<float>()) << i;
    EXPECT_EQ(box.label, expected["labels"][i].get<int>()) << i;
  }
}

// The score of a cell times its factor: the second example, whose limits are those of a test.
TEST_F(SelectDetections, WorkedExampleWithFactors) {
  const auto example = testing::read_vectors("nms")["post_process"];
  const auto& inputs = example["inputs"];
  const auto& expected = example["expected"]["factor"];
  const auto found = select(
      1, 2, testing::flatten<float>(inputs["prob"]), testing::flatten<float>(inputs["boxes"]),
      {.score_threshold = inputs["score_thr"], .nms_pre = 5, .nms_iou = inputs["iou_threshold"], .max_per_image = 3},
      {}, 100, 100, testing::flatten<float>(inputs["factor"]));
  ASSERT_EQ(found[0].size(), expected["boxes"].size());
  for (size_t i = 0; i < found[0].size(); ++i) {
    const ScoredBox& box = found[0][i];
    EXPECT_EQ((Floats{box.x1, box.y1, box.x2, box.y2}), testing::flatten<float>(expected["boxes"][i])) << i;
    EXPECT_TRUE(testing::near(box.score, expected["scores"][i], 1e-7)) << i;
    EXPECT_EQ(box.label, expected["labels"][i].get<int>()) << i;
  }
}

// Boxes that reach out of a picture wider than high.
TEST_F(SelectDetections, WorkedExampleOfClipping) {
  const auto example = testing::read_vectors("fcos")["distance_coder"];
  const auto &size = example["inputs"]["image_hw"], &want = example["expected"]["boxes_clipped"];
  const auto found =
      select(1, 1, {0.9f, 0.8f, 0.7f}, testing::flatten<float>(example["expected"]["boxes"]), {}, {}, size[0], size[1]);
  ASSERT_EQ(found[0].size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    const ScoredBox& box = found[0][i];
    EXPECT_EQ((Floats{box.x1, box.y1, box.x2, box.y2}), testing::flatten<float>(want[i])) << i;
  }
}

// "score > 0.05" compares single precision with single precision: a score that reads 0.05 is not above 0.05.
TEST_F(SelectDetections, ThresholdIsStrictInSinglePrecision) {
  const float threshold = 0.05f;
  const auto found = select(1, 1, {threshold, std::nextafter(threshold, 1.0f), std::nextafter(threshold, 0.0f)},
                            separate_boxes(3), {.score_threshold = 0.05});
  EXPECT_EQ(cells(found[0]), std::vector<int>{1});
}

TEST_F(SelectDetections, TiesGoToTheLowerIndex) {
  const auto found = select(1, 1, {0.5f, 0.9f, 0.5f, 0.5f, 0.9f}, separate_boxes(5), {});
  EXPECT_EQ(cells(found[0]), (std::vector<int>{1, 4, 0, 2, 3}));
  // Also where a limit cuts through a tie, ...
  EXPECT_EQ(cells(select(1, 1, {0.5f, 0.9f, 0.5f, 0.5f, 0.9f}, separate_boxes(5), {.nms_pre = 3})[0]),
            (std::vector<int>{1, 4, 0}));
  EXPECT_EQ(cells(select(1, 1, {0.5f, 0.9f, 0.5f, 0.5f, 0.9f}, separate_boxes(5), {.max_per_image = 4})[0]),
            (std::vector<int>{1, 4, 0, 2}));
  // ... among the classes of a cell, ...
  const auto classes = select(1, 2, {0.5f, 0.5f}, separate_boxes(1), {});
  ASSERT_EQ(classes[0].size(), 2u);
  EXPECT_EQ(classes[0][0].label, 0);
  EXPECT_EQ(classes[0][1].label, 1);
  // ... and among boxes that suppress each other.
  const auto overlapping = select(1, 1, {0.5f, 0.5f}, {0, 0, 10, 10, 1, 0, 11, 10}, {});
  ASSERT_EQ(overlapping[0].size(), 1u);
  EXPECT_EQ(overlapping[0][0].x1, 0);
}

TEST_F(SelectDetections, EachLevelKeepsItsBest) {
  const Floats scores{0.9f, 0.8f, 0.7f, 0.2f, 0.1f, 0.3f};
  EXPECT_EQ(cells(select(1, 1, scores, separate_boxes(6), {.nms_pre = 2}, {3, 2, 1})[0]),
            (std::vector<int>{0, 1, 5, 3, 4}));
  EXPECT_EQ(cells(select(1, 1, scores, separate_boxes(6), {.nms_pre = 1}, {3, 2, 1})[0]), (std::vector<int>{0, 5, 3}));
  EXPECT_EQ(select(1, 1, scores, separate_boxes(6), {.nms_pre = 0}, {3, 2, 1})[0].size(), 6u);
  // The limit counts (cell, class) entries, not cells.
  const auto found = select(1, 2, {0.9f, 0.8f, 0.7f, 0.1f}, separate_boxes(2), {.nms_pre = 2});
  EXPECT_EQ(cells(found[0]), (std::vector<int>{0, 0}));
}

TEST_F(SelectDetections, SuppressesWithinAClassOnly) {
  const Floats boxes{0, 0, 10, 10, 1, 0, 11, 10, 30, 30, 40, 40};
  const auto found = select(1, 2, {0.9f, 0, 0.8f, 0.7f, 0, 0.6f}, boxes, {});
  ASSERT_EQ(found[0].size(), 3u);
  EXPECT_EQ(found[0][1].score, 0.7f);
  EXPECT_EQ(found[0][1].label, 1);
  // An overlap of exactly the threshold survives: 5 of 10 and 10.
  EXPECT_EQ(select(1, 1, {0.9f, 0.8f}, {0, 0, 2, 10, 1, 0, 2, 10}, {.nms_iou = 0.5})[0].size(), 2u);
  EXPECT_EQ(select(1, 1, {0.9f, 0.8f}, {0, 0, 2, 10, 1, 0, 2, 10}, {.nms_iou = 0.49})[0].size(), 1u);
}

TEST_F(SelectDetections, ClipsToHeightAndWidth) {
  const auto found = select(1, 1, {0.9f}, {-5, -6, 500, 600}, {}, {}, 30, 70);
  ASSERT_EQ(found[0].size(), 1u);
  EXPECT_EQ(found[0][0].x1, 0);
  EXPECT_EQ(found[0][0].y1, 0);
  EXPECT_EQ(found[0][0].x2, 70);
  EXPECT_EQ(found[0][0].y2, 30);
}

TEST_F(SelectDetections, BoxesWithoutArea) {
  // Outside the image, a line, turned inside out, sound.
  const Floats boxes{200, 200, 210, 210, 5, 5, 5, 20, 20, 20, 10, 10, 40, 40, 50, 50}, scores{0.9f, 0.8f, 0.7f, 0.6f};
  const auto dropped = select(1, 1, scores, boxes, {});
  ASSERT_EQ(dropped[0].size(), 1u);
  EXPECT_EQ(dropped[0][0].x1, 40);
  EXPECT_EQ(select(1, 1, scores, boxes, {.keep_empty_boxes = true})[0].size(), 4u);
}

TEST_F(SelectDetections, NotANumberIsNeverFound) {
  const float nan = testing::kNaN;
  Floats boxes = separate_boxes(3);
  boxes[5] = nan;
  for (const bool keep_empty : {false, true}) {
    const auto found = select(1, 1, {nan, 0.9f, 0.8f}, boxes, {.keep_empty_boxes = keep_empty});
    EXPECT_EQ(cells(found[0]), std::vector<int>{2}) << keep_empty;
  }
}

TEST_F(SelectDetections, AtMostSoManyPerImage) {
  const Floats scores{0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
  EXPECT_EQ(cells(select(1, 1, scores, separate_boxes(5), {.max_per_image = 2})[0]), (std::vector<int>{4, 3}));
}

// 0 and -1 are "all", as in other systems, and so is more than there can be.
TEST_F(SelectDetections, AllPerImage) {
  const Floats scores{0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
  for (const int all : {0, -1, 5, 1000, std::numeric_limits<int>::max()})
    EXPECT_EQ(cells(select(1, 1, scores, separate_boxes(5), {.nms_pre = -1, .max_per_image = all})[0]),
              (std::vector<int>{4, 3, 2, 1, 0}))
        << all;
}

TEST_F(SelectDetections, ImagesAreApart) {
  Floats boxes;
  for (int n = 0; n < 3; ++n) {
    const Floats of_image = separate_boxes(2);
    boxes.insert(boxes.end(), of_image.begin(), of_image.end());
  }
  const auto found = select(3, 1, {0.9f, 0.1f, 0.01f, 0.02f, 0.03f, 0.7f}, boxes, {});
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(cells(found[0]), (std::vector<int>{0, 1}));
  EXPECT_TRUE(found[1].empty());
  EXPECT_EQ(cells(found[2]), (std::vector<int>{1}));
  // Each with its own size.
  const std::vector<int32_t> sizes{100, 100, 100, 100, 100, 6};
  Tape tape(context, Tape::Mode::inference);
  const auto clipped = select_detections(context,
                                         {tape.constant(context.upload<float>(boxes, {3, 2, 4})),
                                          context.upload<float>(Floats(6, 0.9f), {3, 2, 1}),
                                          {},
                                          {2}},
                                         sizes, {});
  EXPECT_EQ(clipped[1][1].x2, 9);
  EXPECT_EQ(clipped[2][1].x2, 6);
}

TEST_F(SelectDetections, NoCandidates) {
  const auto found = select(2, 2, Floats(12, 0.01f), Floats(24, 1.0f), {});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_TRUE(found[0].empty());
  EXPECT_TRUE(found[1].empty());
  EXPECT_TRUE(select(0, 2, {}, {}, {}).empty());
}

TEST_F(SelectDetections, OneSizePerImage) {
  Tape tape(context, Tape::Mode::inference);
  EXPECT_THROW(
      (void)select_detections(context, {tape.constant(context.zeros({2, 1, 4})), context.zeros({2, 1, 1}), {}, {1}},
                              std::vector<int32_t>{10, 10}, {}),
      std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra
