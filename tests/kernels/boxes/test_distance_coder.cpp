// SPDX-License-Identifier: MIT
// Distances from a point to the sides of a box and back, on the host.
#include "kernels/boxes/distance_coder.h"

#include <gtest/gtest.h>

#include "tests/kernels/boxes/fcos_cases.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Floats = std::vector<float>;

Floats encode(const Floats& boxes, const Floats& weights, const Floats& priors, DistanceUnit unit) {
  Cpu cpu(2);
  const auto P = static_cast<int64_t>(priors.size()) / 3, N = P > 0 ? static_cast<int64_t>(weights.size()) / P : 2;
  Floats distances(boxes.size(), kNaN);
  encode_distances(cpu, view(boxes, {N, P, 4}), view(weights, {N, P}), view(priors, {P, 3}), unit,
                   view(distances, {N, P, 4}));
  return distances;
}

Floats decode(const Floats& distances, const Floats& priors, DistanceUnit unit) {
  Cpu cpu(2);
  const auto P = static_cast<int64_t>(priors.size()) / 3,
             N = P > 0 ? static_cast<int64_t>(distances.size()) / 4 / P : 2;
  Floats boxes(distances.size(), kNaN);
  decode_distances(cpu, view(distances, {N, P, 4}), view(priors, {P, 3}), unit, view(boxes, {N, P, 4}));
  return boxes;
}

TEST(DistanceCoder, WorkedExample) {
  const auto example = read_vectors("fcos")["distance_coder"];
  const auto points = flatten<float>(example["inputs"]["points"]);
  Floats priors;
  for (size_t i = 0; i < points.size(); i += 2) priors.insert(priors.end(), {points[i], points[i + 1], 8});
  const auto distances = flatten<float>(example["inputs"]["distances"]);
  const auto boxes = flatten<float>(example["expected"]["boxes"]);
  EXPECT_EQ(decode(distances, priors, DistanceUnit::pixel), boxes);
  EXPECT_EQ(encode(boxes, Floats(3, 1), priors, DistanceUnit::pixel), distances);
}

TEST(DistanceCoder, TargetsExample) {
  const auto example = read_vectors("fcos")["fcos_targets"];
  std::vector<Level> levels;
  for (const auto& level : example["inputs"]["h_w_stride"]) levels.push_back({level[0], level[1], level[2]});
  const Floats priors = center_priors(levels);
  for (const char* name : {"plain", "center_radius_1_5", "center_radius_1_5_normalised"}) {
    SCOPED_TRACE(name);
    const DistanceUnit unit = std::string(name).ends_with("normalised") ? DistanceUnit::stride : DistanceUnit::pixel;
    const auto labels_of_boxes = flatten<int>(example["inputs"]["labels"]);
    Floats boxes, weights, want;
    for (const auto& level : example["expected"][name]) {
      for (const int label : level["labels"]) {
        weights.push_back(label < 3 ? 1 : 0);
        Floats box(4, kNaN);
        for (size_t g = 0; g < labels_of_boxes.size(); ++g)
          if (labels_of_boxes[g] == label) box = flatten<float>(example["inputs"]["gt"][g]);
        boxes.insert(boxes.end(), box.begin(), box.end());
      }
      const auto targets = flatten<float>(level["targets"]);
      want.insert(want.end(), targets.begin(), targets.end());
    }
    EXPECT_EQ(encode(boxes, weights, priors, unit), want);
  }
}

TEST(DistanceCoder, InStridesOfTheLevel) {
  const Floats priors{4, 12, 8, 16, 16, 32};
  const Floats boxes{0, 4, 20, 28, 0, -16, 80, 48};
  const Floats distances = encode(boxes, {1, 1}, priors, DistanceUnit::stride);
  EXPECT_EQ(distances, (Floats{0.5f, 1, 2, 2, 0.5f, 1, 2, 1}));
  EXPECT_EQ(decode(distances, priors, DistanceUnit::stride), boxes);
}

TEST(DistanceCoder, PriorsAreSharedByImagesAndNoRowsAreFine) {
  EXPECT_EQ(decode({1, 1, 1, 1, 2, 2, 2, 2}, {10, 20, 8}, DistanceUnit::pixel), (Floats{9, 19, 11, 21, 8, 18, 12, 22}));
  EXPECT_TRUE(decode({}, {}, DistanceUnit::pixel).empty());
  EXPECT_TRUE(encode({}, {}, {}, DistanceUnit::pixel).empty());
  EXPECT_EQ(encode({0, 0, 9, 9}, {1}, {-1, 4, 8}, DistanceUnit::pixel), (Floats{-1, 4, 10, 5}));  // outside
  Cpu cpu(1);
  const Floats distances(4, 1), prior(3, 8);
  Floats boxes(4);
  EXPECT_THROW(decode_distances(cpu, view(distances, {1, 1, 4}), view(prior, {1, 3}), DistanceUnit::pixel,
                                view(boxes, {1, 4, 1})),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
