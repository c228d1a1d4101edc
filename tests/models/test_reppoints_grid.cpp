// SPDX-License-Identifier: MIT
// RepPoints on grids: boxes in place of free points (model.head.use_grid_points), and free points that start on a grid
// (model.head.center_init: false).
#include <algorithm>

#include "models/heads/reppoints_head.h"
#include "runtime/training/optimizer.h"
#include "tests/messages.h"
#include "tests/models/head_test.h"

namespace gradlibra {
namespace {

using namespace testing;
using GridHeads = HeadTest;

// Over two levels of a 64 x 64 image: 64 cells of stride 8 and 16 of stride 16.
struct SmallRepPoints : SmallHead<RepPointsHead> {
  explicit SmallRepPoints(Context& c, const RepPointsConfig& config)
      : SmallHead(c, small(config), {8, {8, 16}}, LossConfig{}) {}
  static RepPointsConfig small(RepPointsConfig config) {
    config.feat_channels = 8;
    config.point_channels = 8;
    config.stacked_convs = 1;
    return config;
  }
  void set(const std::string& name, const Floats& values) {
    context.upload<float>(values, store.find(name)->node.value);
    context.convolution().weights_changed();
  }
  // Every cell gives these values.
  void make_constant(const std::string& layer, const Floats& bias) {
    set(layer + ".weight", Floats(value(layer + ".weight").size(), 0.0f));
    set(layer + ".bias", bias);
  }
  Floats predicted(const std::string& note) {
    Tape tape(context, Tape::Mode::inspection);
    (void)head.predict(tape, levels(tape, {0}));
    return context.download<float>(tape.noted(note).node().value);
  }
};
const char* const kInit = "bbox_head.reppoints_pts_init_out";
const char* const kRefine = "bbox_head.reppoints_pts_refine_out";

TEST_F(GridHeads, FourChannelsAndNoExponents) {
  for (const int points : {9, 25}) {
    SmallRepPoints head(context, {.num_points = points, .transform = "minmax", .use_grid_points = true});
    EXPECT_EQ(head.store.find("bbox_head.moment_transfer"), nullptr);
    for (const std::string out : {kInit, kRefine}) {
      EXPECT_EQ(head.store.find(out + ".weight")->node.value.shape(), (Shape{4, 1, 1, 8}));
      EXPECT_EQ(head.store.find(out + ".bias")->node.value.shape(), Shape{4});
    }
    EXPECT_EQ(head.predicted("bbox_head.level0.pts_refine").size(), 64u * 2 * static_cast<size_t>(points));
  }
}

// From nothing regressed: four strides a side around the cell's point, in both stages, and so the boxes.
TEST_F(GridHeads, StartsFromASquareOfPointBaseScale) {
  SmallRepPoints head(context, {.transform = "minmax", .use_grid_points = true, .point_base_scale = 4});
  for (const char* out : {kInit, kRefine}) head.make_constant(out, {0, 0, 0, 0});
  const Floats square{-2, -2, -2, 0, -2, 2, 0, -2, 0, 0, 0, 2, 2, -2, 2, 0, 2, 2};
  for (const char* note : {"bbox_head.level1.pts_init", "bbox_head.level1.pts_refine"}) {
    const Floats points = head.predicted(note);
    ASSERT_EQ(points.size(), 16u * 18);
    for (size_t i = 0; i < points.size(); ++i) ASSERT_EQ(points[i], square[i % 18]) << note << " " << i;
  }
  Tape tape(context, Tape::Mode::inference);
  const Floats boxes = context.download<float>(head.head.predict(tape, head.levels(tape, {0})).boxes.node().value);
  const Floats last(boxes.end() - 4, boxes.end());  // of the point (48, 48), stride 16
  EXPECT_EQ(last, (Floats{16, 16, 80, 80}));
}

// The second stage regresses from the first one's box, and its points replace the first ones instead of being added.
TEST_F(GridHeads, TheSecondStageRegressesFromTheFirstOnesBox) {
  SmallRepPoints head(context, {.transform = "minmax", .use_grid_points = true});
  const float twice = std::log(2.0f);
  head.make_constant(kInit, {0.25f, 0, 0, twice});    // x -1 .. 3, y -4 .. 4
  head.make_constant(kRefine, {0, -0.5f, twice, 0});  // x -3 .. 5, y -8 .. 0
  const Floats want_init{-4, -1, -4, 1, -4, 3, 0, -1, 0, 1, 0, 3, 4, -1, 4, 1, 4, 3};
  const Floats want_refine{-8, -3, -8, 1, -8, 5, -4, -3, -4, 1, -4, 5, 0, -3, 0, 1, 0, 5};
  const Floats init = head.predicted("bbox_head.level0.pts_init"),
               refine = head.predicted("bbox_head.level0.pts_refine");
  expect_near(Floats(init.begin(), init.begin() + 18), want_init, 1e-5);
  expect_near(Floats(refine.begin(), refine.begin() + 18), want_refine, 1e-5);
}

// No gradient of the second box loss through the box that it starts from.
TEST_F(GridHeads, RefinementDoesNotMoveTheInitialBox) {
  SmallRepPoints head(context,
                      {.transform = "minmax", .use_grid_points = true, .gradient_mul = 0, .init_loss_weight = 0});
  const Losses losses = head.train({0}, truth({some}, 4));
  ASSERT_GT(losses.at("loss_pts_refine"), 0);
  EXPECT_TRUE(all_zero(head.gradient(std::string(kInit) + ".weight")));
  EXPECT_FALSE(all_zero(head.gradient(std::string(kRefine) + ".weight")));
  // Through the taps there is one: what gradient_mul scales.
  SmallRepPoints through(context, {.transform = "minmax", .use_grid_points = true, .init_loss_weight = 0});
  (void)through.train({0}, truth({some}, 4));
  EXPECT_FALSE(all_zero(through.gradient(std::string(kInit) + ".weight")));
}

// The first box loss, whose targets do not depend on the boxes, against its differences by what the layer adds to all
// cells: through concatenation, grid, extent and loss.
TEST_F(GridHeads, GradientOfTheFirstStage) {
  for (const RepPointsConfig& config :
       {RepPointsConfig{.transform = "minmax", .use_grid_points = true, .gradient_mul = 0, .refine_loss_weight = 0},
        RepPointsConfig{.transform = "moment", .center_init = false, .gradient_mul = 0, .refine_loss_weight = 0}}) {
    SmallRepPoints head(context, config);
    const GroundTruth boxes = truth({some}, 4);
    const std::string name = std::string(kInit) + ".bias";
    (void)head.train({0}, boxes);
    const Floats gradient = head.gradient(name), start = head.value(name);
    for (size_t k = 0; k < start.size(); ++k) {
      double loss[2];
      for (const int side : {0, 1}) {
        Floats moved = start;
        moved[k] += side == 0 ? -5e-3f : 5e-3f;
        head.set(name, moved);
        loss[side] = head.train({0}, boxes).at("loss_pts_init");
      }
      EXPECT_TRUE(near(gradient[k], (loss[1] - loss[0]) / 1e-2, 2e-3, 1e-2)) << k;
    }
    EXPECT_FALSE(all_zero(gradient));
  }
}

TEST_F(GridHeads, Train) {
  for (const bool boxes : {true, false}) {
    SmallRepPoints head(context, {.transform = "minmax", .use_grid_points = boxes, .center_init = false});
    head.store.initialize(5);
    Optimizer optimizer(head.store, {.clip_norm = 10});
    const GroundTruth objects = truth({some, {{2, 2, 30, 18, 0}}}, 4);
    Losses first, last;
    for (int step = 0; step < 30; ++step) {
      last = head.train({0, 1}, objects);
      for (const auto& [name, value] : last) ASSERT_TRUE(std::isfinite(value)) << name << " " << step;
      if (step == 0) first = last;
      optimizer.set_lr(0.05);
      optimizer.update();
    }
    EXPECT_LT(last.at("loss_cls"), 0.9 * first.at("loss_cls"));
    EXPECT_LT(last.at("loss_pts_init"), 0.9 * first.at("loss_pts_init"));
  }
}

TEST_F(GridHeads, BatchesWithoutBoxesAndBoxesThatHardlyExist) {
  SmallRepPoints head(context, {.transform = "minmax", .use_grid_points = true});
  EXPECT_EQ(head.train({0, 1}, truth({{}, {}}, 4)).at("loss_pts_refine"), 0);
  expect_finite(head.gradients());
  for (const auto& [name, value] : head.train({0}, truth({hardly_boxes}, 4))) EXPECT_TRUE(std::isfinite(value)) << name;
  expect_finite(head.gradients());
}

// Two strides to each side for a scale of 4, whatever the number of points; nothing else changes in the first stage.
TEST_F(GridHeads, PointsWithoutCenterInitStartOnAGrid) {
  for (const int points : {9, 25}) {
    SmallRepPoints centred(context, {.num_points = points}),
        spread(context, {.num_points = points, .center_init = false});
    const Floats from = centred.predicted("bbox_head.level0.pts_init"),
                 to = spread.predicted("bbox_head.level0.pts_init");
    ASSERT_EQ(from.size(), to.size());
    const int side = points == 9 ? 3 : 5;
    for (size_t i = 0; i < to.size(); ++i) {
      const int channel = static_cast<int>(i % (2 * static_cast<size_t>(points))), k = channel / 2;
      const int place = channel % 2 == 0 ? k / side : k % side;  // y, x
      const float start = 4.0f * static_cast<float>(place) / static_cast<float>(side - 1) - 2;
      ASSERT_TRUE(near(to[i], from[i] + start, 1e-6, 1e-6)) << i;
    }
    (void)spread.train({0}, truth({some}, 4));
    expect_finite(spread.gradients());
  }
}

TEST_F(GridHeads, ErrorsNameTheKey) {
  const auto message = [&](const RepPointsConfig& config) {
    return message_of<std::invalid_argument>([&] { const SmallRepPoints head(context, config); });
  };
  for (const char* transform : {"moment", "partial_minmax"}) {
    const std::string text = message({.transform = transform, .use_grid_points = true});
    EXPECT_HAS(text, "model.head.use_grid_points");
    EXPECT_HAS(text, std::string("model.head.transform must be minmax, is ") + transform);
  }
  EXPECT_HAS(message({.num_points = 1, .transform = "minmax", .use_grid_points = true}), "model.head.num_points");
  EXPECT_HAS(message({.num_points = 1, .transform = "minmax", .center_init = false}), "center_init: false");
  EXPECT_EQ(message({.num_points = 1, .transform = "minmax"}), "");
}

}  // namespace
}  // namespace gradlibra
