// SPDX-License-Identifier: MIT
// Overlap losses on the host: worked examples, ties, collapsed boxes, NaN, finite differences of the definition.
#include "kernels/losses/iou_loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "kernels/losses/iou_entry.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using nlohmann::json;
using Floats = std::vector<float>;

constexpr IouMode kModes[] = {IouMode::log, IouMode::linear, IouMode::square, IouMode::giou};

IouMode mode_of(const std::string& name) {
  const std::map<std::string, IouMode> modes{
      {"log", IouMode::log}, {"linear", IouMode::linear}, {"square", IouMode::square}, {"giou", IouMode::giou}};
  return modes.at(name);
}

struct Result {
  double loss = NAN;
  Floats grad;
};

Result run(const Floats& pred, const Floats& target, const Floats& weights, const IouLoss& options,
           double loss_weight = 1, double normalizer = 1, int threads = 2) {
  const auto R = static_cast<int64_t>(weights.size());
  Cpu cpu(threads);
  Result result;
  result.grad.assign(pred.size(), kNaN);
  std::vector<double> norm{normalizer}, loss{NAN}, workspace(static_cast<size_t>(iou_loss_workspace(R)), NAN);
  iou_loss(cpu, view(pred, {R, 4}), view(target, {R, 4}), view(weights, {R}), options,
           {loss_weight, View<const double>(norm.data(), {1}), view(loss, {1}), view(result.grad, {R, 4}),
            view(workspace, {static_cast<int64_t>(workspace.size())})});
  result.loss = loss[0];
  return result;
}

TEST(IouLoss, WorkedExamples) {
  const json vectors = read_vectors("iou_loss");
  ASSERT_EQ(vectors["iou"].size(), 32u);
  for (const json& example : vectors["iou"]) {
    SCOPED_TRACE(example.dump());
    const Result result = run(flatten<float>(example["pred"]), flatten<float>(example["target"]), {1},
                              {.mode = mode_of(example["mode"]), .eps = example["eps"]});
    EXPECT_TRUE(near(result.loss, example["loss"], 1e-12, 1e-7));
    const auto grad = flatten(example["grad_pred"]);
    for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(near(result.grad[i], grad[i], 1e-16, 1e-7)) << i;
  }
}

TEST(IouLoss, WeightedExamples) {
  const json vectors = read_vectors("iou_loss");
  const json& weighted = vectors["iou_weighted"];
  const Result result = run(flatten<float>(weighted["pred"]), flatten<float>(weighted["target"]),
                            flatten<float>(weighted["weights"]), {}, 1, weighted["avg_factor"]);
  EXPECT_TRUE(near(result.loss, weighted["total"], 0, 1e-6));  // weights in single precision
  expect_near(result.grad, flatten(weighted["grad"]), 1e-12, 1e-6);

  const json& in = vectors["box_losses"]["inputs"];
  for (const char* name : {"iou", "giou"}) {
    SCOPED_TRACE(name);
    const json& want = vectors["box_losses"]["expected"][name];
    const IouLoss options{.mode = std::string(name) == "giou" ? IouMode::giou : IouMode::log};
    const Result got = run(flatten<float>(in["pred"]), flatten<float>(in["target"]), flatten<float>(in["weight"]),
                           options, 1, in["avg_factor"]);
    EXPECT_TRUE(near(got.loss, want["loss"], 0, 3e-7));
    expect_near(got.grad, flatten(want["grad"]), 1e-9, 1e-6);
  }
}

// Distances from a point: the same as the boxes around it, gradients by left and top reversed.
TEST(IouLoss, DistancesExample) {
  const json example = read_vectors("iou_loss")["distance_chain"];
  const Result by_distance = run(flatten<float>(example["pred_ltrb"]), flatten<float>(example["target_ltrb"]), {1},
                                 {.form = BoxForm::distances});
  EXPECT_TRUE(near(by_distance.loss, example["loss"], 0, 1e-7));
  expect_near(by_distance.grad, flatten(example["grad_ltrb"]), 1e-12, 1e-6);
  const Result by_box = run(flatten<float>(example["pred_box"]), flatten<float>(example["target_box"]), {1}, {});
  EXPECT_TRUE(near(by_box.loss, example["loss"], 0, 1e-7));
  expect_near(by_box.grad, flatten(example["grad_box"]), 1e-12, 1e-6);
}

// Where the box is does not matter, unlike for corners, which lose digits far from the origin.
TEST(IouLoss, DistancesOfATinyBox) {
  const Floats pred{0.011f, 0.012f, 0.013f, 0.014f}, target{0.01f, 0.013f, 0.012f, 0.015f};
  const Result result = run(pred, target, {1}, {.form = BoxForm::distances, .eps = 1e-12f});
  const double w = 0.01 + 0.012, h = 0.012 + 0.014, I = w * h;
  const double U = (0.011 + 0.013) * (0.012 + 0.014) + (0.01 + 0.012) * (0.013 + 0.015) - I;
  EXPECT_NEAR(result.loss, -std::log(I / U), 1e-6);
}

// A box that has collapsed on one axis still overlaps its target there in the sense of the gradient: it can grow.
TEST(IouLoss, CollapsedBoxGrows) {
  const Result flat = run({2, 0, 2, 0}, {3, 4, 5, 6}, {1}, {.mode = IouMode::giou, .form = BoxForm::distances});
  EXPECT_NEAR(flat.loss, 1, 1e-6);  // no overlap, nothing enclosed beyond the target
  EXPECT_EQ(flat.grad[0], 0);
  EXPECT_LT(flat.grad[1], 0);  // a longer distance lowers the loss
  EXPECT_LT(flat.grad[3], 0);
  // Below eps the logarithm is held, and its gradient with it.
  const Result held = run({2, 0, 2, 0}, {3, 4, 5, 6}, {1}, {.form = BoxForm::distances});
  EXPECT_NEAR(held.loss, -std::log(1e-6), 1e-6);
  EXPECT_EQ(held.grad, Floats(4, 0.0f));
}

TEST(IouLoss, WeightZeroSelectsAndNaNShows) {
  const Floats pred{kNaN, 0, kInfinity, 1, 0, 0, 2, 2}, target{0, 0, 1, 1, 0, 0, 1, 1};
  for (const IouMode mode : kModes) {
    const Result ignored = run(pred, target, {0, 1}, {.mode = mode});
    EXPECT_TRUE(std::isfinite(ignored.loss));
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(ignored.grad[i], 0);
    for (size_t i = 4; i < 8; ++i) EXPECT_TRUE(std::isfinite(ignored.grad[i]));
    const Result bad = run(pred, target, {1, 1}, {.mode = mode});
    EXPECT_TRUE(std::isnan(bad.loss));
    EXPECT_TRUE(std::isfinite(bad.grad[4]));
  }
}

TEST(IouLoss, NoRows) {
  EXPECT_EQ(run({}, {}, {}, {}).loss, 0);
  EXPECT_EQ(run({1, 2, 3, 4}, {0, 0, 1, 1}, {0}, {}).loss, 0);
}

// The definition once more, from areas.
double definition(const double* P, const double* T, IouMode mode, double eps) {
  const double w = std::max(0.0, std::min(P[2], T[2]) - std::max(P[0], T[0]));
  const double h = std::max(0.0, std::min(P[3], T[3]) - std::max(P[1], T[1]));
  const double U = std::max(eps, (P[2] - P[0]) * (P[3] - P[1]) + (T[2] - T[0]) * (T[3] - T[1]) - w * h);
  const double E =
      std::max(eps, (std::max(P[2], T[2]) - std::min(P[0], T[0])) * (std::max(P[3], T[3]) - std::min(P[1], T[1])));
  const double iou = w * h / U;
  switch (mode) {
    case IouMode::log:
      return -std::log(std::max(iou, eps));
    case IouMode::linear:
      return 1 - iou;
    case IouMode::square:
      return 1 - iou * iou;
    case IouMode::giou:
      return 1 - (iou - (E - U) / E);
  }
  return NAN;
}

TEST(IouLoss, FiniteDifferences) {
  std::mt19937 rng(8);
  const double loss_weight = 0.7, normalizer = 3;
  for (const IouMode mode : kModes)
    for (const bool distances : {false, true}) {
      Floats pred = random_floats(4 * 40, rng, 0.1f, 9), target = random_floats(4 * 40, rng, 0.1f, 9);
      if (!distances)
        for (Floats* boxes : {&pred, &target})
          for (size_t i = 0; i < boxes->size(); i += 4)
            for (size_t c = 0; c < 2; ++c) (*boxes)[i + c + 2] += (*boxes)[i + c];
      const Floats weights = random_floats(40, rng, 0, 2);
      const auto oracle = [&](size_t moved, double by) {
        double sum = 0;
        for (size_t i = 0; i < 40; ++i) {
          double P[4], T[4];
          for (size_t c = 0; c < 4; ++c) {
            const double sign = distances && c < 2 ? -1 : 1;
            P[c] = sign * (double{pred[4 * i + c]} + (4 * i + c == moved ? by : 0));
            T[c] = sign * double{target[4 * i + c]};
          }
          sum += double{weights[i]} * definition(P, T, mode, 1e-6);
        }
        return loss_weight / normalizer * sum;
      };
      const IouLoss options{.mode = mode, .form = distances ? BoxForm::distances : BoxForm::corners};
      const Result result = run(pred, target, weights, options, loss_weight, normalizer);
      EXPECT_TRUE(near(result.loss, oracle(0, 0), 0, 1e-6));
      for (size_t i = 0; i < pred.size(); ++i)
        EXPECT_TRUE(near(result.grad[i], (oracle(i, 1e-6) - oracle(i, -1e-6)) / 2e-6, 1e-6, 1e-4)) << i;
    }
}

TEST(IouLoss, SameBitsForEveryNumberOfThreads) {
  std::mt19937 rng(6);
  const Floats pred = random_floats(4 * 1333, rng, 0, 5), target = random_floats(4 * 1333, rng, 0, 5);
  const Floats weights = random_floats(1333, rng, 0, 1);
  const IouLoss options{.mode = IouMode::giou, .form = BoxForm::distances};
  const Result one = run(pred, target, weights, options, 1, 7, 1);
  for (const int threads : {2, 3, 5}) {
    const Result many = run(pred, target, weights, options, 1, 7, threads);
    EXPECT_EQ(one.loss, many.loss);
    EXPECT_TRUE(same_bits(one.grad, many.grad));
  }
}

TEST(IouLoss, RefusesWrongInput) {
  EXPECT_THROW(run({1, 2, 3, 4}, {0, 0, 0, 0}, {1}, {.eps = 0}), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
