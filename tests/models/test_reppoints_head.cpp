// SPDX-License-Identifier: MIT
// The RepPoints head's losses in the cases that training meets but examples do not show.
#include "models/heads/reppoints_head.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/models/head_test.h"

namespace gradlibra {
namespace {

using testing::Box;
using testing::CountingLoss;
using testing::Floats;
using testing::Losses;
using testing::TwoRanks;
using Heads = testing::HeadTest;

// What the head notes on the tape.
struct Told {
  std::vector<int32_t> init_assigned, refine_assigned;
  double init_normalizer = 0, refine_normalizer = 0;
  std::vector<Floats> logits;  // of each level
};

// A small head over two levels of a 64 x 64 image: 64 cells of stride 8 and 16 of stride 16.
struct SmallRepPoints : testing::SmallHead<RepPointsHead> {
  template <class Loss = LossConfig>
  SmallRepPoints(Context& c, const RepPointsConfig& config, Loss loss = {})
      : SmallHead(c, small(config), {8, {8, 16}}, std::move(loss)) {}
  static RepPointsConfig small(RepPointsConfig config) {
    config.feat_channels = 8;
    config.point_channels = 8;
    config.stacked_convs = 1;
    return config;
  }
  using SmallHead::train;
  Losses train(const std::vector<int>& images, const GroundTruth& truth, Told* targets,
               Communicator* communicator = nullptr) {
    Tape tape(context, Tape::Mode::inspection);
    SingleProcess alone;
    Losses losses = train(tape, images, truth, communicator != nullptr ? *communicator : alone);
    for (const char* level : {"0", "1"}) {
      const Floats of_level =
          context.download<float>(tape.noted(std::string("bbox_head.level") + level + ".cls_out").node().value);
      targets->logits.push_back(of_level);
    }
    const auto noted = [&](const char* name) -> const Tensor& { return tape.noted(name).node().value; };
    targets->init_assigned = context.download<int32_t>(noted("targets.init_assigned"));
    targets->refine_assigned = context.download<int32_t>(noted("targets.refine_assigned"));
    targets->init_normalizer = context.download<double>(noted("targets.init_normalizer"))[0];
    targets->refine_normalizer = context.download<double>(noted("targets.refine_normalizer"))[0];
    return losses;
  }
};

TEST_F(Heads, ABatchWithoutBoxesTrainsTheBackground) {
  for (const char* type : {"cross_entropy", "focal", "grad_libra"})
    for (const int64_t max_boxes : {0, 1, 7}) {
      SCOPED_TRACE(std::string(type) + ", max_boxes " + std::to_string(max_boxes));
      SmallRepPoints head(context, {}, {.type = type});
      Told targets;
      const Losses losses = head.train({0, 1}, truth({{}, {}}, max_boxes), &targets);
      EXPECT_GT(losses.at("loss_cls"), 0);
      EXPECT_TRUE(std::isfinite(losses.at("loss_cls")));
      EXPECT_EQ(losses.at("loss_pts_init"), 0);
      EXPECT_EQ(losses.at("loss_pts_refine"), 0);
      EXPECT_EQ(targets.refine_normalizer, 1);
      expect_finite(head.gradients());
      EXPECT_FALSE(all_zero(head.gradient("bbox_head.reppoints_cls_out.weight")));
      EXPECT_TRUE(all_zero(head.gradient("bbox_head.reppoints_pts_refine_out.weight")));
      EXPECT_TRUE(all_zero(head.gradient("bbox_head.moment_transfer")));
    }
}

// The losses of a batch are those of its images, each times its own normaliser.
TEST_F(Heads, AnEmptyImageBesideAFullOne) {
  SmallRepPoints head(context, {}, {.type = "cross_entropy"});
  Told both, full, empty;
  const Losses together = head.train({0, 1}, truth({some, {}}, 4), &both);
  expect_finite(head.gradients());
  const Losses alone = head.train({0}, truth({some}, 4), &full), background = head.train({1}, truth({{}}, 4), &empty);
  EXPECT_GT(together.at("loss_pts_init"), 0);
  EXPECT_NEAR(together.at("loss_pts_init"), alone.at("loss_pts_init"), 1e-6);  // the empty image has no positives
  EXPECT_NEAR(together.at("loss_pts_refine"), alone.at("loss_pts_refine"), 1e-6);
  EXPECT_NEAR(together.at("loss_cls") * both.refine_normalizer,
              alone.at("loss_cls") * full.refine_normalizer + background.at("loss_cls") * empty.refine_normalizer,
              1e-4);
  const auto& assigned = both.init_assigned;
  EXPECT_EQ(std::count_if(assigned.begin(), assigned.begin() + 80, [](int32_t a) { return a > 0; }), 3);
  EXPECT_EQ(std::count(assigned.begin() + 80, assigned.end(), 0), 80);
}

// The deformable convolutions' share of the gradient of the initial points is scaled, nothing else: so the whole is an
// affine function of gradient_mul.
TEST_F(Heads, GradientMulScalesTheWayThroughTheDeformableTaps) {
  const GroundTruth boxes = truth({some}, 4);
  const auto gradient_with = [&](double factor, const std::string& name) {
    SmallRepPoints head(context, {.gradient_mul = factor});
    (void)head.train({0}, boxes);
    return head.gradient(name);
  };
  const std::string out = "bbox_head.reppoints_pts_init_out.weight";
  const Floats none = gradient_with(0, out), tenth = gradient_with(0.1, out), one = gradient_with(1, out);
  double largest = 0;
  for (size_t i = 0; i < one.size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(one[i]) - none[i]));
  ASSERT_GT(largest, 1e-3);
  for (size_t i = 0; i < one.size(); ++i)
    EXPECT_NEAR(tenth[i] - none[i], 0.1 * (one[i] - none[i]), 1e-5 * largest + 1e-6) << i;
  // Layers that the way does not pass.
  EXPECT_EQ(gradient_with(0, "bbox_head.reppoints_cls_out.weight"),
            gradient_with(1, "bbox_head.reppoints_cls_out.weight"));
  EXPECT_EQ(gradient_with(0, "bbox_head.cls_convs.0.conv.weight"),
            gradient_with(1, "bbox_head.cls_convs.0.conv.weight"));
  // Without boxes only the classification sends anything through the taps.
  SmallRepPoints head(context, {.gradient_mul = 0});
  (void)head.train({0}, truth({{}}, 1));
  EXPECT_TRUE(all_zero(head.gradient(out)));
}

// The refined points are offsets from the initial ones, which the second box loss does not move.
TEST_F(Heads, RefinementDoesNotMoveTheInitialPoints) {
  SmallRepPoints head(context, {.gradient_mul = 0, .init_loss_weight = 0});
  const Losses losses = head.train({0}, truth({some}, 4));
  ASSERT_GT(losses.at("loss_pts_refine"), 0);
  EXPECT_TRUE(all_zero(head.gradient("bbox_head.reppoints_pts_init_out.weight")));
  EXPECT_FALSE(all_zero(head.gradient("bbox_head.reppoints_pts_refine_out.weight")));
}

// By the definition: squares of four strides around the cells' points, overlaps from 0.5 on positive, below 0.4
// background, between ignored, and every object's best square its own.
TEST_F(Heads, TheFirstStageCanGoByOverlapWithSquares) {
  const std::vector<std::vector<Box>> images{{{0, 8, 32, 40, 0}, {-16, -10, 48, 44, 1}}, {{30, 20, 60, 62, 2}}};
  SmallRepPoints head(context, {.init_assigner = "max_iou"});
  Told told;
  const Losses losses = head.train({0, 1}, truth(images, 3), &told);
  EXPECT_GT(losses.at("loss_pts_init"), 0);
  std::vector<Box> squares;
  for (const int stride : {8, 16})
    for (int y = 0; y < 64; y += stride)
      for (int x = 0; x < 64; x += stride) {
        const auto half = static_cast<float>(2 * stride), px = static_cast<float>(x), py = static_cast<float>(y);
        squares.push_back({px - half, py - half, px + half, py + half, 0});
      }
  const auto overlap = [](const Box& a, const Box& b) {
    const double width = std::max(0.f, std::min(a.x2, b.x2) - std::max(a.x1, b.x1)),
                 height = std::max(0.f, std::min(a.y2, b.y2) - std::max(a.y1, b.y1)), both = width * height;
    return both / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - both);
  };
  std::vector<int32_t> want;
  for (const std::vector<Box>& objects : images) {
    std::vector<int32_t> matched;
    for (const Box& square : squares) {
      size_t best = 0;
      for (size_t m = 0; m < objects.size(); ++m)
        if (overlap(square, objects[m]) > overlap(square, objects[best])) best = m;
      const double most = overlap(square, objects[best]);
      matched.push_back(most >= 0.5 ? static_cast<int32_t>(best) + 1 : most < 0.4 ? 0 : -1);
    }
    for (size_t m = 0; m < objects.size(); ++m) {
      double most = 0;
      for (const Box& square : squares) most = std::max(most, overlap(square, objects[m]));
      for (size_t i = 0; i < squares.size(); ++i)
        if (overlap(squares[i], objects[m]) > most - 1e-9) matched[i] = static_cast<int32_t>(m) + 1;
    }
    want.insert(want.end(), matched.begin(), matched.end());
  }
  EXPECT_EQ(told.init_assigned, want);
  for (const int32_t kind : {-1, 0, 1, 2}) EXPECT_NE(std::count(want.begin(), want.end(), kind), 0) << kind;
}

TEST_F(Heads, MomentMulScalesTheMomentGradient) {
  const GroundTruth boxes = truth({some}, 4);
  SmallRepPoints full(context, {.moment_mul = 1}), hundredth(context, {.moment_mul = 0.01});
  (void)full.train({0}, boxes);
  (void)hundredth.train({0}, boxes);
  const Floats a = full.gradient("bbox_head.moment_transfer"), b = hundredth.gradient("bbox_head.moment_transfer");
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_GT(std::abs(a[i]), 1e-3);
    EXPECT_NEAR(b[i], 0.01 * a[i], 1e-6 * std::abs(a[i]));
  }
}

TEST_F(Heads, TransformsWithoutMomentHaveNoMomentParameter) {
  for (const char* transform : {"minmax", "partial_minmax"}) {
    SmallRepPoints head(context, {.transform = transform});
    EXPECT_EQ(head.store.find("bbox_head.moment_transfer"), nullptr);
    const Losses losses = head.train({0}, truth({some}, 4));
    EXPECT_GT(losses.at("loss_pts_init"), 0) << transform;
    expect_finite(head.gradients());
  }
}

TEST_F(Heads, PointsMustBeAnOddSquare) {
  for (const int points : {-1, 0, 2, 4, 8, 10, 16, 36}) {
    try {
      const SmallRepPoints head(context, {.num_points = points});
      FAIL() << points;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find("model.head.num_points: " + std::to_string(points)), std::string::npos)
          << error.what();
    }
  }
  SmallRepPoints head(context, {.num_points = 25});
  EXPECT_TRUE(std::isfinite(head.train({0}, truth({some}, 4)).at("loss_cls")));
}

TEST_F(Heads, Normalisers) {
  const GroundTruth boxes = truth({some, {}}, 4);
  double unnormalised = 0;
  for (const char* name : {"num_pos", "num_valid", "num_pos_image_min1", "pos_plus_neg"}) {
    SCOPED_TRACE(name);
    SmallRepPoints head(context, {.refine_pos_iou = 0.3, .refine_neg_iou = 0.25},
                        {.type = "cross_entropy", .normalizer = name});
    Told targets;
    const Losses losses = head.train({0, 1}, boxes, &targets);
    // Counted here from the assignments.
    const auto divisor = [&](const std::vector<int32_t>& rows, bool classification) {
      double positives = 0, valid = 0, positives_min1 = 0, positives_and_negatives = 0;
      for (size_t n = 0; n < 2; ++n) {
        double image_positives = 0, image_negatives = 0;
        for (size_t p = 0; p < 80; ++p) {
          image_positives += rows[n * 80 + p] > 0;
          image_negatives += rows[n * 80 + p] == 0;
        }
        positives += image_positives;
        valid += image_positives + image_negatives;
        positives_min1 += std::max(image_positives, 1.0);
        positives_and_negatives += std::max(image_positives, 1.0) + std::max(image_negatives, 1.0);
      }
      const std::string option = name;
      if (option == "num_pos_image_min1") return positives_min1;
      if (option == "pos_plus_neg") return positives_and_negatives;
      return option == "num_valid" && classification ? valid : std::max(positives, 1.0);
    };
    EXPECT_EQ(targets.init_normalizer, divisor(targets.init_assigned, false));
    EXPECT_EQ(targets.refine_normalizer, divisor(targets.refine_assigned, true));
    const double sum = losses.at("loss_cls") * targets.refine_normalizer;
    if (unnormalised == 0) unnormalised = sum;
    EXPECT_NEAR(sum, unnormalised, 1e-6 * unnormalised);
  }
}

TEST_F(Heads, NormaliserIsTheSumOverRanks) {
  TwoRanks ranks;
  SmallRepPoints head(context, {});
  Told here, all;
  const Losses alone = head.train({0}, truth({some}, 4), &here),
               shared = head.train({0}, truth({some}, 4), &all, &ranks);
  EXPECT_EQ(here.init_normalizer, 3);
  EXPECT_EQ(all.init_normalizer, 10);
  EXPECT_NEAR(shared.at("loss_pts_init"), alone.at("loss_pts_init") * 3 / 10, 1e-6);
}

// Of two images in a batch of 64 x 64 one is 20 x 40 pixels and counts as 32 x 64. What lies below it is nobody's: no
// target, no negative, no count.
TEST_F(Heads, CellsInThePaddingTakeNoPart) {
  GroundTruth boxes = truth({some, {{2, 2, 30, 18, 0}}}, 4);
  const std::vector<int32_t> sizes{64, 64, 20, 40}, as_stored{0, 0};
  boxes.sizes = context.upload<int32_t>(sizes, {2, 2});
  boxes.orientations = context.upload<int32_t>(as_stored, {2});
  SmallRepPoints head(context, {.refine_pos_iou = 0.3, .refine_neg_iou = 0.25},
                      {.type = "cross_entropy", .normalizer = "num_valid"});
  Told told;
  const Losses losses = head.train({0, 1}, boxes, &told);
  double loss = 0, valid = 0;
  for (size_t n = 0; n < 2; ++n)
    for (size_t p = 0; p < 80; ++p) {
      const size_t level = p < 64 ? 0 : 1, cell = p - 64 * level, row = cell / (level == 0 ? 8 : 4);
      const bool padding = n == 1 && row >= (level == 0 ? 4u : 2u);
      const int32_t of_points = told.init_assigned[80 * n + p], of_boxes = told.refine_assigned[80 * n + p];
      EXPECT_EQ(of_points == -1, padding) << n << " " << p;
      EXPECT_TRUE(of_boxes == -1 || !padding) << n << " " << p;
      if (of_boxes < 0) continue;
      ++valid;
      for (int c = 0; c < 3; ++c) {
        const int label = of_boxes == 0 ? 3 : n == 1 ? 0 : some[static_cast<size_t>(of_boxes - 1)].label;
        const double z = told.logits[level][3 * (n * (level == 0 ? 64 : 16) + cell) + static_cast<size_t>(c)];
        loss += std::log1p(std::exp(label == c ? -z : z));
      }
    }
  EXPECT_LE(valid, 80 + 40);
  EXPECT_GT(valid, 80);
  EXPECT_EQ(told.refine_normalizer, valid);
  EXPECT_NEAR(losses.at("loss_cls"), loss / valid, 1e-5);

  // Turned on its side the small image is 40 x 20: as 64 x 32, the right half is padding.
  const std::vector<int32_t> turned{0, 4};
  boxes.orientations = context.upload<int32_t>(turned, {2});
  (void)head.train({0, 1}, boxes, &told);
  for (size_t p = 0; p < 64; ++p) EXPECT_EQ(told.init_assigned[80 + p] == -1, p % 8 >= 4) << p;
  // Where sizes are not known all cells count, and so they do if all images fill the batch.
  const std::vector<int32_t> full{64, 64, 64, 64};
  boxes.sizes = context.upload<int32_t>(full, {2, 2});
  const Losses filled = head.train({0, 1}, boxes, &told);
  EXPECT_EQ(filled, head.train({0, 1}, truth({some, {{2, 2, 30, 18, 0}}}, 4)));
  EXPECT_EQ(std::count(told.init_assigned.begin(), told.init_assigned.end(), -1), 0);
}

TEST_F(Heads, FiveThousandBoxes) {
  std::mt19937 random(5);
  const auto uniform = [&](float size) { return size * static_cast<float>(random() >> 8) / 16777216.0f; };
  std::vector<Box> boxes;
  for (int i = 0; i < 5000; ++i) {
    const float x = uniform(60), y = uniform(60);
    boxes.push_back({x, y, x + 1 + uniform(30), y + 1 + uniform(30), static_cast<int>(random() % 3)});
  }
  SmallRepPoints head(context, {});
  Told targets;
  const Losses losses = head.train({0, 1}, truth({boxes, some}, 5000), &targets);
  for (const auto& [name, value] : losses) {
    EXPECT_TRUE(std::isfinite(value)) << name;
    EXPECT_GT(value, 0) << name;
  }
  expect_finite(head.gradients());
  const auto& assigned = targets.init_assigned;
  const auto positives = std::count_if(assigned.begin(), assigned.begin() + 80, [](int32_t a) { return a > 0; });
  EXPECT_GT(positives, 40);  // nearly every cell is nearest to one of so many boxes
  EXPECT_GT(*std::max_element(assigned.begin(), assigned.end()), 1000);
}

TEST_F(Heads, BoxesThatHardlyExist) {
  for (const char* transform : {"moment", "minmax"}) {
    SmallRepPoints head(context, {.transform = transform});
    for (const auto& [name, value] : head.train({0}, truth({hardly_boxes}, 4)))
      EXPECT_TRUE(std::isfinite(value)) << name;
    expect_finite(head.gradients());
  }
}

TEST_F(Heads, TheBiasOfTheClassifierStartsAtThePrior) {
  SmallRepPoints head(context, {}, {.prior_probability = 0.01});
  head.store.initialize(0);
  for (const float b : context.download<float>(head.store.find("bbox_head.reppoints_cls_out.bias")->node.value))
    EXPECT_NEAR(b, -4.59512, 1e-5);
}

TEST_F(Heads, TakesAnyLoss) {
  auto made = std::make_unique<CountingLoss>(context);
  CountingLoss& loss = *made;
  SmallRepPoints head(context, {}, std::unique_ptr<ClassificationLoss>(std::move(made)));
  expect_serves(head, loss, truth({some}, 4), "bbox_head.reppoints_cls_out.bias", 1, 80);
  EXPECT_EQ(head.gradient("bbox_head.reppoints_cls_out.bias"), Floats(4, 80));  // a one from each of the cells
}

TEST_F(Heads, OneLevelPerStride) {
  SmallRepPoints head(context, {});
  expect_one_level_per_stride(head, truth({some}, 4));
}

}  // namespace
}  // namespace gradlibra
