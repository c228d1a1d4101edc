// SPDX-License-Identifier: MIT
// FCOS assignment on the host: worked examples, ends of ranges, ties, random cases against the step-by-step definition.
#include "kernels/boxes/fcos_assign.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tests/kernels/boxes/fcos_cases.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Ints = std::vector<int32_t>;
using Floats = std::vector<float>;

Ints run(const Floats& priors, const Floats& gt, const Ints& counts, const FcosAssign& options, int threads = 2) {
  Cpu cpu(threads);
  const auto P = static_cast<int64_t>(priors.size()) / 3, N = static_cast<int64_t>(counts.size());
  const int64_t M = N > 0 ? static_cast<int64_t>(gt.size()) / 4 / N : 0;
  Ints assigned(static_cast<size_t>(N * P), -77);
  fcos_assign(cpu, view(priors, {P, 3}), view(gt, {N, M, 4}), view(counts, {N}), options, view(assigned, {N, P}));
  return assigned;
}

TEST(FcosAssign, WorkedExamples) {
  const auto example = read_vectors("fcos")["fcos_targets"];
  const auto& in = example["inputs"];
  std::vector<Level> levels;
  for (const auto& level : in["h_w_stride"]) levels.push_back({level[0], level[1], level[2]});
  const Floats priors = center_priors(levels), gt = flatten<float>(in["gt"]);
  const auto labels = flatten<int32_t>(in["labels"]);
  FcosAssign options{.levels = 2, .strides = {8, 16}};
  for (int l = 0; l < 2; ++l) {
    options.least[l] = in["ranges"][static_cast<size_t>(l)][0];
    options.most[l] = in["ranges"][static_cast<size_t>(l)][1];
  }
  for (const auto& [name, radius] : {std::pair("plain", 0.0f), std::pair("center_radius_1_5", 1.5f)}) {
    SCOPED_TRACE(name);
    options.center_radius = radius;
    Ints want;
    for (const auto& level : example["expected"][name])
      for (const int32_t label : level["labels"]) want.push_back(label);
    Ints got;
    for (const int32_t a : run(priors, gt, {3}, options)) got.push_back(a > 0 ? labels[static_cast<size_t>(a - 1)] : 3);
    EXPECT_EQ(got, want);
  }
}

// One cell of stride 8 at (4, 4).
int32_t claim(const Floats& gt, const FcosAssign& options) {
  return run({4, 4, 8}, gt, {static_cast<int32_t>(gt.size() / 4)}, options)[0];
}

TEST(FcosAssign, EndsOfTheRangeBelongToIt) {
  const FcosAssign options{.levels = 1, .strides = {8}, .least = {16}, .most = {32}};
  EXPECT_EQ(claim({0, 0, 36, 8}, options), 1);  // reaches 32
  EXPECT_EQ(claim({0, 0, 36.01f, 8}, options), 0);
  EXPECT_EQ(claim({0, 0, 8, 20}, options), 1);  // reaches 16
  EXPECT_EQ(claim({0, 0, 8, 19.99f}, options), 0);
  EXPECT_EQ(claim({0, 0, 20, 20}, {.levels = 1, .strides = {16}, .least = {16}, .most = {32}}), 0);  // no such level
}

TEST(FcosAssign, StrictlyInside) {
  const FcosAssign options{.levels = 1, .strides = {8}, .least = {-1}, .most = {1e8f}};
  EXPECT_EQ(claim({0, 0, 8, 8}, options), 1);
  EXPECT_EQ(claim({4, 0, 8, 8}, options), 0);
  EXPECT_EQ(claim({0, 0, 8, 4}, options), 0);
  EXPECT_EQ(claim({kNaN, 0, 8, 8}, options), 0);
  EXPECT_EQ(claim({0, 0, 8, kNaN}, options), 0);
  EXPECT_EQ(claim({8, 8, 0, 0}, options), 0);
}

TEST(FcosAssign, CenterSampling) {
  FcosAssign options{.levels = 1, .strides = {8}, .least = {-1}, .most = {1e8f}, .center_radius = 1.5f};
  EXPECT_EQ(claim({0, 0, 8, 31.9f}, options), 1);  // the centre is 11.95 below
  EXPECT_EQ(claim({0, 0, 8, 32}, options), 0);     // exactly 12: on the border
  EXPECT_EQ(claim({3.9f, 0, 100, 8}, options), 0);
  options.center_radius = 0;
  EXPECT_EQ(claim({3.9f, 0, 100, 8}, options), 1);
}

TEST(FcosAssign, SmallestObjectThenLowestIndex) {
  const FcosAssign options{.levels = 1, .strides = {8}, .least = {-1}, .most = {1e8f}};
  EXPECT_EQ(claim({0, 0, 30, 30, 0, 0, 10, 10, 0, 0, 20, 20}, options), 2);
  EXPECT_EQ(claim({0, 0, 30, 30, 0, 0, 10, 20, 0, 0, 20, 10}, options), 2);  // equal areas
}

TEST(FcosAssign, NoObjectsOrCells) {
  const FcosAssign options{.levels = 1, .strides = {8}, .least = {-1}, .most = {1e8f}};
  EXPECT_EQ(run({4, 4, 8, 12, 4, 8}, {}, {0, 0}, options), (Ints{0, 0, 0, 0}));
  EXPECT_EQ(run({4, 4, 8}, {0, 0, 8, 8, 0, 0, 8, 8}, {0, 1}, options), (Ints{0, 1}));
  EXPECT_TRUE(run({}, {0, 0, 8, 8}, {1}, options).empty());
  EXPECT_THROW(run({4, 4, 8}, {0, 0, 8, 8}, {1}, {}), std::invalid_argument);
}

// Cells are looked at in runs; one without a place takes nothing from its neighbours.
TEST(FcosAssign, CellsInAnyOrder) {
  const FcosAssign options = fcos_options(1.5f);
  Floats priors = center_priors(kFcosPyramid);
  std::mt19937 rng(3);
  const Floats gt = random_boxes(9, 128, 0, rng);
  const Ints sorted = run(priors, gt, {9}, options);
  std::vector<size_t> order(sorted.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), rng);
  Floats shuffled{kNaN, kNaN, 8};
  for (const size_t p : order) shuffled.insert(shuffled.end(), &priors[3 * p], &priors[3 * p] + 3);
  const Ints got = run(shuffled, gt, {9}, options);
  EXPECT_EQ(got[0], 0);
  for (size_t i = 0; i < order.size(); ++i) ASSERT_EQ(got[i + 1], sorted[order[i]]) << order[i];
}

// The rules in order, over a list of claims.
int32_t by_definition(const FcosAssign& options, const float* prior, const Floats& gt, size_t first, int32_t count) {
  struct Claim {
    double area;
    int32_t id;
  };
  std::vector<Claim> claims;
  int level = -1;
  for (int l = 0; l < options.levels; ++l)
    if (options.strides[l] == prior[2]) level = l;
  for (int32_t g = 0; g < count; ++g) {
    const float* b = gt.data() + first + 4 * static_cast<size_t>(g);
    const double x = prior[0], y = prior[1], s = prior[2];
    const double sides[4] = {x - b[0], y - b[1], b[2] - x, b[3] - y};
    double inside[4] = {sides[0], sides[1], sides[2], sides[3]};
    if (options.center_radius > 0) {
      const double cx = (double{b[0]} + b[2]) / 2, cy = (double{b[1]} + b[3]) / 2, r = options.center_radius * s;
      inside[0] = x - std::max(cx - r, double{b[0]}), inside[2] = std::min(cx + r, double{b[2]}) - x;
      inside[1] = y - std::max(cy - r, double{b[1]}), inside[3] = std::min(cy + r, double{b[3]}) - y;
    }
    const double reach = *std::max_element(sides, sides + 4);
    if (*std::min_element(inside, inside + 4) > 0 && reach >= options.least[level] && reach <= options.most[level])
      claims.push_back({(double{b[2]} - b[0]) * (double{b[3]} - b[1]), g + 1});
  }
  if (claims.empty()) return 0;
  return std::min_element(claims.begin(), claims.end(), [](const Claim& a, const Claim& b) { return a.area < b.area; })
      ->id;
}

TEST(FcosAssign, EqualsTheDefinition) {
  std::mt19937 rng(11);
  const Floats priors = center_priors(kFcosPyramid);
  const size_t P = priors.size() / 3;
  for (const float radius : {0.0f, 1.5f})
    for (const float grid : {0.0f, 1.0f, 8.0f}) {
      const FcosAssign options = fcos_options(radius);
      const Floats gt = random_boxes(3 * 12, 128, grid, rng);
      const Ints counts{12, 0, 7};
      const Ints got = run(priors, gt, counts, options, 3);
      int positives = 0;
      for (size_t row = 0; row < got.size(); ++row) {
        const size_t n = row / P;
        ASSERT_EQ(got[row], by_definition(options, &priors[3 * (row % P)], gt, n * 12 * 4, counts[n])) << row;
        positives += got[row] > 0;
      }
      EXPECT_GT(positives, 3);  // of two images with 19 objects, half of them smaller than a cell
    }
}

}  // namespace
}  // namespace gradlibra::kernels
