// SPDX-License-Identifier: MIT
// Anchors of cells and levels, and the assigners that take them, as heads call them.
#include "models/anchors.h"

#include <gtest/gtest.h>

#include "models/assigners/atss_assigner.h"
#include "models/assigners/uniform_assigner.h"
#include "models/assigners/valid_cells.h"
#include "tests/kernels/vectors.h"

namespace gradlibra {
namespace {

using testing::flatten;
using testing::read_vectors;
using Floats = std::vector<float>;
using Ints = std::vector<int32_t>;

Floats flat(const std::vector<std::array<float, 4>>& boxes) {
  Floats values;
  for (const auto& box : boxes) values.insert(values.end(), box.begin(), box.end());
  return values;
}

class AnchorsTest : public ::testing::Test {
 protected:
  const Anchors& anchors(AnchorGrid& grid, const std::vector<std::pair<int, int>>& sizes) {
    std::vector<Var> levels;
    for (const auto& [height, width] : sizes) levels.push_back(tape.make({1, height, width, 1}, false));
    return grid(tape, levels);
  }
  // One image; label m of box m.
  GroundTruth truth(const Floats& boxes) {
    const auto M = static_cast<int64_t>(boxes.size()) / 4;
    return {context.upload<float>(boxes, {1, M, 4}), context.zeros({1, M}, DType::i32),
            context.upload<int32_t>(Ints{static_cast<int32_t>(M)}, {1})};
  }
  Context context{1, ConvolutionLibrary::plain};
  Tape tape{context, Tape::Mode::inference};
};

// The points of cells without anchors, at the cells' corners and in their middles.
TEST_F(AnchorsTest, PointsOfCells) {
  const auto example = read_vectors("fcos")["points"];
  const auto& in = example["inputs"];
  const std::vector<Var> levels{tape.make({1, in["h"], in["w"], 1}, false)};
  for (const auto& [place, key] :
       {std::pair{PriorGrid::Place::corner, "offset_0"}, {PriorGrid::Place::center, "offset_half"}}) {
    PriorGrid grid({in["stride"]}, 4, place);
    Floats want;
    for (const auto& point : example["expected"][key])
      want.insert(want.end(), {point[0], point[1], in["stride"].get<float>()});
    EXPECT_EQ(context.download<float>(grid(tape, levels).points), want) << key;
  }
}

TEST_F(AnchorsTest, WorkedExamples) {
  const auto example = read_vectors("anchors")["anchors"];
  const auto &in = example["inputs"], &want = example["expected"];
  const double tol = example["tol"];
  for (size_t l = 0; l < 5; ++l)
    testing::expect_near(flat(base_anchors(in["atss"]["strides"][l], in["atss"]["scales"].get<std::vector<double>>(),
                                           in["atss"]["ratios"].get<std::vector<double>>())),
                         flatten(want["atss_base"][l]), tol);
  const auto all_of = [&](const char* name, const char* base) {
    return flat(base_anchors(in[name][base], in[name]["scales"].get<std::vector<double>>(),
                             in[name]["ratios"].get<std::vector<double>>()));
  };
  testing::expect_near(all_of("yolof", "stride"), flatten(want["yolof_base"]), tol);
  testing::expect_near(all_of("order", "base"), flatten(want["order_base"]), tol);
  AnchorGrid grid({in["grid"]["stride"]}, in["grid"]["scales"], in["grid"]["ratios"]);
  EXPECT_EQ(context.download<float>(anchors(grid, {{in["grid"]["h"], in["grid"]["w"]}}).boxes),
            flatten<float>(want["grid"]));
}

TEST_F(AnchorsTest, LevelsFollowEachOtherAndAreMadeOnce) {
  AnchorGrid grid({8, 16}, {8}, {1});
  const Anchors& made = anchors(grid, {{2, 3}, {1, 2}});
  EXPECT_EQ(made.priors.level_rows, (std::vector<int64_t>{6, 2}));
  const Floats boxes = context.download<float>(made.boxes), points = context.download<float>(made.priors.points);
  EXPECT_EQ(Floats(boxes.end() - 4, boxes.end()), (Floats{-48, -64, 80, 64}));
  EXPECT_EQ(Floats(points.end() - 3, points.end()), (Floats{16, 0, 16}));
  EXPECT_EQ(&anchors(grid, {{2, 3}, {1, 2}}), &made);
  EXPECT_NE(&anchors(grid, {{3, 2}, {1, 2}}), &made);
  EXPECT_THROW((void)anchors(grid, {{2, 2}}), std::invalid_argument);
  Tape shapes(context, Tape::Mode::shapes);
  const std::vector<Var> levels{shapes.make({1, 4, 4, 1}, false), shapes.make({1, 2, 2, 1}, false)};
  EXPECT_EQ(grid(shapes, levels).boxes.shape(), (Shape{20, 4}));
}

TEST_F(AnchorsTest, UniformMatching) {
  const auto example = read_vectors("anchors")["uniform_assigner"];
  AnchorGrid grid({32}, {1, 2, 4, 8, 16}, {1});
  const Anchors& cells = anchors(grid, {{2, 2}});
  const Var predicted =
      tape.constant(context.upload<float>(flatten<float>(example["inputs"]["predicted"]), {1, 20, 4}));
  const UniformMatch match =
      assign_uniform(tape, predicted, cells, truth(flatten<float>(example["inputs"]["gt"])), {}, {});
  EXPECT_EQ(context.download<int32_t>(match.assignment.matched), flatten<int32_t>(example["expected"]["assigned"]));
  EXPECT_EQ(match.pairs.shape(), (Shape{1, 8, 3}));
  const double positives = example["expected"]["num_pos"], negatives = example["expected"]["num_neg"];
  EXPECT_EQ(context.download<double>(match.assignment.counts),
            (std::vector<double>{positives, positives + negatives, positives, positives + negatives}));
}

TEST_F(AnchorsTest, AdaptiveSelectionLeavesOutThePadding) {
  AnchorGrid grid({8, 16}, {2}, {1});
  const Anchors& cells = anchors(grid, {{8, 8}, {4, 4}});
  GroundTruth objects = truth({2, 2, 30, 30});
  const auto positives = [&](const Ints& matched) { return std::count(matched.begin(), matched.end(), 1); };
  const Ints whole = context.download<int32_t>(
      assign_atss(tape, cells, objects, valid_cells(tape, cells.priors, objects), {}).matched);
  EXPECT_GT(positives(whole), 0);
  EXPECT_EQ(std::count(whole.begin(), whole.end(), -1), 0);
  objects.sizes = context.upload<int32_t>(Ints{32, 20}, {1, 2});  // padded to 32 x 32, of 64 x 64
  objects.orientations = context.upload<int32_t>(Ints{0}, {1});
  const Ints part = context.download<int32_t>(
      assign_atss(tape, cells, objects, valid_cells(tape, cells.priors, objects), {}).matched);
  EXPECT_GT(positives(part), 0);
  EXPECT_EQ(std::count(part.begin(), part.end(), -1), 48 + 12);
}

}  // namespace
}  // namespace gradlibra
