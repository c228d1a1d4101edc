// SPDX-License-Identifier: MIT
// Options of the assignment, as the heads hand them on: with another value than the default another assignment.
#include "kernels/boxes/uniform_assign.h"
#include "tests/models/small_heads.h"

namespace gradlibra {
namespace {

using namespace testing;
using Ints = std::vector<int32_t>;

class HeadAssigners : public HeadTest {
 protected:
  // Rows of the object, or as many as are ignored.
  static std::vector<size_t> rows_of(const Ints& assigned, int32_t which = 1) {
    std::vector<size_t> rows;
    for (size_t p = 0; p < assigned.size(); ++p)
      if (assigned[p] == which) rows.push_back(p);
    return rows;
  }
  // What a head without any output gives to an object, by the note.
  Ints assigned(const RepPointsConfig& config, const Box& object, const std::string& note) {
    AnyRepPoints head(context, config);
    head.clear();
    (void)head.step({0}, truth({{object}}, 1));
    return head.told<int32_t>(note);
  }
  // Without any output a head's boxes are squares.
  static RepPointsConfig on_a_grid(RepPointsConfig config) {
    config.transform = "minmax";
    config.use_grid_points = true;
    return config;
  }
};

TEST_F(HeadAssigners, RepPointsTakesSoManyPoints) {
  const Box object{18, 20, 46, 44, 0};
  for (const int count : {1, 4})
    EXPECT_EQ(rows_of(assigned({.init_pos_num = count}, object, "targets.init_assigned")).size(),
              static_cast<size_t>(count));
}

// An object of twelve strides of the lower level, six of the upper.
TEST_F(HeadAssigners, PointBaseScaleSaysWhichLevelIsWhose) {
  const Box object{0, 0, 48, 48, 0};
  const auto row = [&](double scale) {
    return rows_of(assigned({.point_base_scale = scale}, object, "targets.init_assigned")).at(0);
  };
  EXPECT_LT(row(4), 64u);
  EXPECT_GE(row(2), 64u);
}

// What starts from a square, compares with one or is measured in one, does so in one of that scale.
TEST_F(HeadAssigners, PointBaseScaleIsTheSideOfSquares) {
  for (const bool boxes : {true, false}) {
    AnyRepPoints head(context,
                      {.transform = "minmax", .use_grid_points = boxes, .center_init = false, .point_base_scale = 2});
    head.clear();
    (void)head.step({0}, truth({{}}, 1));
    const Floats got = head.told("bbox_head.init_boxes");
    const Floats last(got.end() - 4, got.end());  // of the point (48, 48), stride 16
    EXPECT_EQ(last, (Floats{32, 32, 64, 64})) << boxes;
  }
  const RepPointsConfig by_overlap{.point_base_scale = 2, .init_assigner = "max_iou", .refine_pos_iou = 0.99};
  EXPECT_EQ(rows_of(assigned(by_overlap, {32, 32, 64, 64, 0}, "targets.init_assigned")), std::vector<size_t>{79});
  const auto loss = [&](double scale) {
    AnyRepPoints head(context, {.point_base_scale = scale, .smooth_l1_beta = 1e-6});
    return head.step({0}, truth({{{20, 20, 26, 26, 0}}}, 1)).at("loss_pts_init");
  };
  EXPECT_NEAR(loss(2), 2 * loss(4), 1e-4 * loss(2));
}

// Squares of 32 pixels around the points of the lower level: one is the object, its neighbours overlap it by 0.6, 0.39
// those that lie across, and less those further on.
TEST_F(HeadAssigners, OverlapsOfRepPointsBoxes) {
  const std::string note = "targets.refine_assigned";
  const Box object{8, 8, 40, 40, 0};
  const auto refined = [&](RepPointsConfig config, const Box& box) {
    return assigned(on_a_grid(std::move(config)), box, note);
  };
  const Ints strict = refined({.refine_pos_iou = 0.9, .refine_neg_iou = 0.5}, object);
  EXPECT_EQ(rows_of(strict), std::vector<size_t>{27});
  EXPECT_EQ(rows_of(strict, -1), (std::vector<size_t>{19, 26, 28, 35}));
  EXPECT_EQ(rows_of(refined({.refine_pos_iou = 0.55, .refine_neg_iou = 0.5}, object)),
            (std::vector<size_t>{19, 26, 27, 28, 35}));
  const Ints wide = refined({.refine_pos_iou = 0.9, .refine_neg_iou = 0.38}, object);
  EXPECT_EQ(rows_of(wide, -1), (std::vector<size_t>{18, 19, 20, 26, 28, 34, 35, 36}));
  // Of an object between the squares the best box is its own, unless it overlaps too little: 28 / 36.
  const Box between{12, 8, 44, 40, 0};
  EXPECT_EQ(rows_of(refined({.refine_pos_iou = 0.9, .refine_min_pos_iou = 0.7}, between)),
            (std::vector<size_t>{27, 28}));
  EXPECT_TRUE(rows_of(refined({.refine_pos_iou = 0.9, .refine_min_pos_iou = 0.8}, between)).empty());
}

// An upright object, one of whose nearest anchors of either level has half of it in common: with one candidate a level
// both pass, of nine more do.
TEST_F(HeadAssigners, AtssTakesSoManyCandidates) {
  const auto rows = [&](int topk) {
    AnyAtss head(context, {.topk = topk});
    (void)head.step({0}, truth({{{24, 16, 40, 48, 0}}}, 1));
    return rows_of(head.told<int32_t>("targets.assigned"));
  };
  EXPECT_EQ(rows(1), (std::vector<size_t>{36, 64 + 10}));
  EXPECT_GT(rows(9).size(), 2u);
}

TEST_F(HeadAssigners, YolofMatchesSoOften) {
  for (const int times : {1, 3}) {
    AnyYolof head(context, {.match_times = times});
    (void)head.step({0, 1}, truth({some, {{2, 2, 30, 28, 0}}}, 5));
    EXPECT_EQ(head.noted("targets.pairs").shape(), (Shape{2, 2 * times, 5}));
  }
}

// Boxes that are still the anchors: of sides 16, 32 and 64 around the corners of cells.
TEST_F(HeadAssigners, YolofIgnoresByOverlap) {
  const Box object{16, 16, 48, 48, 0};  // the anchor of 32 pixels around (32, 32)
  const auto run = [&](const YolofConfig& config) {
    auto head = std::make_unique<AnyYolof>(context, config);
    head->clear();
    (void)head->step({0}, truth({{object}}, 1));
    return std::pair(head->told<int32_t>("targets.assigned"), head->told<int32_t>("targets.pairs"));
  };
  const size_t itself = 3 * 10 + 1;
  // The nearest four overlap it: by 1 itself, by 1 / 3 those one stride off.
  const auto [assigned, pairs] = run({.pos_ignore_iou = 0.15, .neg_ignore_iou = 1});
  EXPECT_EQ(rows_of(assigned).size(), 4u);
  EXPECT_TRUE(rows_of(assigned, -1).empty());
  const auto [choosy, choosy_pairs] = run({.pos_ignore_iou = 0.5, .neg_ignore_iou = 1});
  EXPECT_EQ(rows_of(choosy), std::vector<size_t>{itself});
  EXPECT_EQ(rows_of(choosy, -1).size(), 3u);
  EXPECT_EQ(std::count_if(choosy_pairs.begin(), choosy_pairs.end(), [](int32_t p) { return p >= 0; }), 2);
  // Every anchor that touches the object, if it is not matched.
  const auto [wary, wary_pairs] = run({.pos_ignore_iou = 0.15, .neg_ignore_iou = 0});
  EXPECT_EQ(rows_of(wary).size(), 4u);
  EXPECT_GT(rows_of(wary, -1).size(), 10u);
}

// However far the network would move a box, its centre stays so near to that of its anchor.
TEST_F(HeadAssigners, YolofHoldsCentres) {
  for (const double clamp : {2.0, 8.0}) {
    AnyYolof head(context, {.centre_clamp = clamp});
    head.clear();
    context.upload<float>(Floats(12, 5), head.store.find("bbox_head.bbox_pred.bias")->node.value);
    (void)head.step({0}, truth({{}}, 1));
    const Floats boxes = head.told("bbox_head.boxes");
    for (size_t row = 0; row < boxes.size() / 4; ++row) {
      const double x = static_cast<double>(row / 3 % 4) * 16, y = static_cast<double>(row / 12) * 16;
      ASSERT_NEAR((boxes[4 * row] + boxes[4 * row + 2]) / 2, x + clamp, 1e-2) << row;
      ASSERT_NEAR((boxes[4 * row + 1] + boxes[4 * row + 3]) / 2, y + clamp, 1e-2) << row;
    }
  }
}

}  // namespace
}  // namespace gradlibra
