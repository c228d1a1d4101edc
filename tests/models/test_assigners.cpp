// SPDX-License-Identifier: MIT
// From priors or boxes and ground truth to what the losses are told: the worked numbers of the kernels' tests once
// more, through the functions that heads call.
#include <gtest/gtest.h>

#include "models/assigners/max_iou_assigner.h"
#include "models/assigners/point_assigner.h"
#include "models/rank_sums.h"
#include "tests/kernels/vectors.h"

namespace gradlibra {
namespace {

using testing::flatten;
using testing::read_vectors;
using Floats = std::vector<float>;
using Ints = std::vector<int32_t>;

class Assigners : public ::testing::Test {
 protected:
  // One image; label m of box m unless said otherwise.
  GroundTruth truth(const Floats& boxes) {
    const auto M = static_cast<int64_t>(boxes.size()) / 4;
    Ints labels;
    for (int m = 0; m < M; ++m) labels.push_back(m);
    return {context.upload<float>(boxes, {1, M, 4}), context.upload<int32_t>(labels, {1, M}),
            context.upload<int32_t>(Ints{static_cast<int32_t>(M)}, {1})};
  }
  Assignment matched(const Ints& rows, int64_t images = 1) {
    return counted(tape, context.upload<int32_t>(rows, {images, static_cast<int64_t>(rows.size()) / images}));
  }
  Ints ints(const Tensor& t) { return context.download<int32_t>(t); }
  Floats floats(const Tensor& t) { return context.download<float>(t); }
  std::vector<double> doubles(const Tensor& t) { return context.download<double>(t); }

  Context context{1, ConvolutionLibrary::plain};
  Tape tape{context, Tape::Mode::inference};
};

TEST_F(Assigners, NearestPoints) {
  const auto vectors = read_vectors("assign");
  for (const char* name : {"point_assigner", "point_assigner_tie", "point_assigner_level"}) {
    SCOPED_TRACE(name);
    const auto& example = vectors[name];
    std::vector<int> strides;
    std::vector<Var> levels;
    for (const auto& level : example["inputs"]["h_w_stride"]) {
      levels.push_back(tape.make({1, level[0], level[1], 1}, false));
      strides.push_back(level[2]);
    }
    PriorGrid grid(strides, 4);
    const Priors& priors = grid(tape, levels);
    const Assignment assignment = assign_points(tape, priors, truth(flatten<float>(example["inputs"]["gt"])), {}, {});
    EXPECT_EQ(ints(assignment.matched), flatten<int32_t>(example["expected"]["assigned"]));
    EXPECT_EQ(assignment.matched.shape(), (Shape{1, priors.points.dim(0)}));
  }
}

TEST_F(Assigners, LargestOverlap) {
  // Three boxes against two objects: one fits, one overlaps by 45 %, one not at all.
  const Var boxes =
      tape.constant(context.upload<float>(Floats{0, 0, 10, 10, 40, 0, 50, 4.5f, 80, 80, 90, 90}, {1, 3, 4}));
  const GroundTruth objects = truth({0, 0, 10, 10, 40, 0, 50, 10});
  const Assignment lenient = assign_max_iou(tape, boxes, objects, {}, {});
  EXPECT_EQ(ints(lenient.matched), (Ints{1, 2, 0}));  // the second object's best box is its own
  EXPECT_EQ(doubles(lenient.counts), (std::vector<double>{2, 3, 2, 3}));
  const Assignment strict = assign_max_iou(tape, boxes, objects, {}, {.min_pos_iou = 0.5f});
  EXPECT_EQ(ints(strict.matched), (Ints{1, -1, 0}));
  EXPECT_EQ(doubles(strict.counts), (std::vector<double>{1, 2, 1, 2}));
}

TEST_F(Assigners, TargetsOfAnAssignment) {
  const Assignment assignment = matched({0, 2, -1, 1});
  const GroundTruth objects = truth({1, 2, 3, 4, 5, 6, 7, 8});
  const Targets targets = gather_targets(tape, assignment, objects, 9);
  EXPECT_EQ(ints(targets.labels), (Ints{9, 1, 9, 0}));
  EXPECT_EQ(floats(targets.class_weights), (Floats{1, 1, 0, 1}));
  EXPECT_EQ(floats(targets.boxes), (Floats{0, 0, 0, 0, 5, 6, 7, 8, 0, 0, 0, 0, 1, 2, 3, 4}));
  EXPECT_EQ(floats(targets.box_weights), (Floats{0, 1, 0, 1}));

  const Targets boxes = box_targets(tape, assignment, objects);
  EXPECT_TRUE(boxes.labels.empty());
  EXPECT_TRUE(boxes.class_weights.empty());
  EXPECT_EQ(floats(boxes.boxes), floats(targets.boxes));
  EXPECT_EQ(floats(boxes.box_weights), floats(targets.box_weights));
}

TEST_F(Assigners, Normalizers) {
  // Two images: three positives, one negative and an ignored row; five negatives.
  const Assignment assignment = matched({1, 1, 2, 0, -1, 0, 0, 0, 0, 0}, 2);
  const auto value = [&](const char* name, int ranks) {
    return doubles(normalizer(tape, assignment, parse_normalizer(name), ranks)).at(0);
  };
  EXPECT_EQ(value("num_pos", 1), 3);
  EXPECT_EQ(value("num_valid", 1), 9);
  EXPECT_EQ(value("num_pos_image_min1", 1), 4);
  EXPECT_EQ(value("pos_plus_neg", 1), 10);
  EXPECT_EQ(value("num_pos", 2), 3);
  EXPECT_EQ(value("num_pos", 4), 4) << "at least 1 for each rank";
  EXPECT_EQ(doubles(normalizer(tape, matched({0, 0}), Normalizer::num_pos, 1)).at(0), 1);
  try {
    (void)parse_normalizer("num_rows");
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("model.loss.normalizer"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("num_pos_image_min1"), std::string::npos) << error.what();
  }
}

// Sums of 6 and 8 over 3 and 1 positives: ranks whose gradients are summed give what one rank gives, 14 / 4, and not
// the mean of 6 / 3 and 8 / 1.
TEST_F(Assigners, SummedGradientsAreThoseOfTheWholeBatch) {
  const double divisor = doubles(normalizer(tape, matched({1, 1, 2, 1}), Normalizer::num_pos, 2)).at(0);
  EXPECT_EQ(6 / divisor + 8 / divisor, 3.5);
}

TEST_F(Assigners, PriorsOfEveryLevel) {
  PriorGrid grid({8, 16}, 4);
  const std::vector<Var> levels{tape.make({2, 1, 2, 5}, false), tape.make({2, 1, 1, 5}, false)};
  const Priors& priors = grid(tape, levels);
  EXPECT_EQ(floats(priors.points), (Floats{0, 0, 8, 8, 0, 8, 0, 0, 16}));
  EXPECT_EQ(floats(priors.box_scales), (Floats{1.0f / 32, 1.0f / 32, 1.0f / 64}));
  EXPECT_EQ(priors.level_rows, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(&grid(tape, levels), &priors) << "kept";
  EXPECT_THROW((void)grid(tape, std::vector<Var>{levels[0]}), std::invalid_argument);

  Tape shapes(context, Tape::Mode::shapes);
  const std::vector<Var> large{shapes.make({1, 512, 512, 5}, false), shapes.make({1, 256, 256, 5}, false)};
  const int64_t reserved = context.memory().bytes_reserved();
  const Priors& unmade = grid(shapes, large);
  EXPECT_EQ(unmade.points.shape(), (Shape{512 * 512 + 256 * 256, 3}));
  EXPECT_EQ(context.memory().bytes_reserved(), reserved);
}

// The other rank holds ten times as much, and sees all parts in one reduction.
class TenTimes final : public Communicator {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world_size() const override { return 2; }
  void sum(View<double> values) override {
    ++reductions;
    for (int64_t i = 0; i < values.size(); ++i) values[i] *= 11;
  }
  void sum(View<float>) override {}
  void broadcast(View<float>, int) override {}
  void barrier() override {}
  std::vector<std::string> gather(const std::string& own) override { return {own, own}; }
  int reductions = 0;
};

TEST_F(Assigners, SumsOverRanksInOneReduction) {
  const auto part = [&](std::vector<double> values) {
    return context.upload<double>(values, {static_cast<int64_t>(values.size())});
  };
  Tensor a = part({1, 2}), b = part({3}), none;
  SingleProcess alone;
  sum_over_ranks(tape, alone, {&a, &b});
  EXPECT_EQ(doubles(a), (std::vector<double>{1, 2}));
  TenTimes ranks;
  sum_over_ranks(tape, ranks, {&a, &none, &b});
  EXPECT_EQ(doubles(a), (std::vector<double>{11, 22}));
  EXPECT_EQ(doubles(b), (std::vector<double>{33}));
  EXPECT_EQ(ranks.reductions, 1);
}

}  // namespace
}  // namespace gradlibra
