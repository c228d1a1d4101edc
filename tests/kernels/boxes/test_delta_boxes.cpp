// SPDX-License-Identifier: MIT
// Deltas to boxes on the host: worked examples, clamps, gradients against differences in double precision.
#include "kernels/boxes/delta_boxes.h"

#include <gtest/gtest.h>

#include "tests/kernels/host_array.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

constexpr DeltaCoder kAtss{.std_centre = 0.1f, .std_size = 0.2f};
constexpr DeltaCoder kYolof{.centre_clamp = 32};

std::vector<float> decode(const std::vector<float>& anchors, const std::vector<float>& deltas,
                          const DeltaCoder& coder) {
  Cpu cpu(2);
  const auto P = static_cast<int64_t>(anchors.size()) / 4, N = static_cast<int64_t>(deltas.size()) / 4 / P;
  Floats boxes({N, P, 4});
  decode_deltas(cpu, view(anchors, {P, 4}), view(deltas, {N, P, 4}), coder, boxes.view());
  return boxes.values;
}

TEST(DeltaBoxes, WorkedExamples) {
  const auto example = read_vectors("anchors")["delta_coder"];
  const auto anchors = flatten<float>(example["inputs"]["prior"]), gt = flatten<float>(example["inputs"]["gt"]),
             deltas = flatten<float>(example["inputs"]["deltas"]);
  const auto& want = example["expected"];
  expect_near(decode(anchors, deltas, {}), flatten(want["decode_std1"]), 1e-4, 1e-6);
  expect_near(decode(anchors, deltas, kYolof), flatten(want["decode_std1_ctr_clamp"]), 1e-4, 1e-6);
  std::vector<float> clipped = decode(anchors, deltas, kAtss);
  for (float& v : clipped) v = std::min(std::max(v, 0.0f), 128.0f);
  expect_near(clipped, flatten(want["decode_std_01_02_clipped"]), 1e-4, 1e-6);

  for (const auto& [name, coder] : {std::pair("encode_std_01_02", kAtss), std::pair("encode_std_1", DeltaCoder{})}) {
    std::vector<float> encoded(gt.size());
    for (size_t i = 0; i < gt.size(); i += 4) encode_box(&anchors[i], &gt[i], coder, &encoded[i]);
    expect_near(encoded, flatten(want[name]), 1e-6, 1e-6);
  }
}

TEST(DeltaBoxes, DecodingInvertsEncoding) {
  std::mt19937 rng(3);
  for (const DeltaCoder& coder : {kAtss, DeltaCoder{}}) {
    for (int i = 0; i < 100; ++i) {
      const auto v = random_floats(8, rng, 1, 60);
      const float anchor[4] = {v[0], v[1], v[0] + v[2], v[1] + v[3]}, box[4] = {v[4], v[5], v[4] + v[6], v[5] + v[7]};
      float deltas[4];
      encode_box(anchor, box, coder, deltas);
      expect_near(decode({anchor, anchor + 4}, {deltas, deltas + 4}, coder), std::vector<float>(box, box + 4), 1e-4);
    }
  }
}

TEST(DeltaBoxes, NothingAndNaN) {
  EXPECT_TRUE(decode({0, 0, 1, 1}, {}, {}).empty());
  const auto boxes = decode({0, 0, 8, 8}, {kNaN, 0, 0, kNaN}, kYolof);
  EXPECT_TRUE(std::isnan(boxes[0]) && std::isnan(boxes[1]) && std::isnan(boxes[2]) && std::isnan(boxes[3]));
  const auto endless = decode({0, 0, 8, 8}, {kInfinity, -kInfinity, kInfinity, -kInfinity}, kYolof);
  EXPECT_FLOAT_EQ(endless[0], 4 + 32 - 4 * 62.5f);
  EXPECT_FLOAT_EQ(endless[1], 4 - 32);  // of no height: nothing clamps it from below
  EXPECT_FLOAT_EQ(endless[3], 4 - 32);
}

// One axis in double: (lo, hi) of a box.
std::array<double, 2> exact(double lo, double hi, double shift, double log_size, const DeltaCoder& coder) {
  const double limit = std::abs(std::log(16.0 / 1000)), clamp = coder.centre_clamp;
  double moved = (hi - lo) * shift * coder.std_centre, growth = std::min(log_size * coder.std_size, limit);
  if (clamp > 0)
    moved = std::clamp(moved, -clamp, clamp);
  else
    growth = std::max(growth, -limit);
  const double centre = (lo + hi) / 2 + moved, size = (hi - lo) * std::exp(growth);
  return {centre - size / 2, centre + size / 2};
}

// Deltas on both sides of every clamp.
TEST(DeltaBoxes, GradientsAreDifferences) {
  Cpu cpu(2);
  const int64_t N = 3, P = 41;
  std::mt19937 rng(5);
  for (const DeltaCoder& coder : {kAtss, kYolof, DeltaCoder{}}) {
    std::vector<float> anchors;
    for (int64_t p = 0; p < P; ++p) {
      const auto v = random_floats(4, rng, 4, 100);
      anchors.insert(anchors.end(), {v[0], v[1], v[0] + v[2], v[1] + v[3]});
    }
    const float reach = coder.std_centre == 1 ? 6 : 30;
    const Floats deltas({N, P, 4}, random_floats(N * P * 4, rng, -reach, reach)),
        grad_boxes = random_array({N, P, 4}, 8);
    Floats grad({N, P, 4}), boxes({N, P, 4});
    decode_deltas(cpu, view(anchors, {P, 4}), deltas.view(), coder, boxes.view());
    decode_deltas_backward(cpu, view(anchors, {P, 4}), deltas.view(), coder, grad_boxes.view(), grad.view(),
                           Accumulate::overwrite);
    int held = 0;
    for (int64_t row = 0; row < N * P; ++row)
      for (int axis = 0; axis < 2; ++axis) {
        const int64_t p = row % P, i = 4 * row + axis;
        const double lo = anchors[static_cast<size_t>(4 * p + axis)],
                     hi = anchors[static_cast<size_t>(4 * p + 2 + axis)];
        const auto weighted = [&](double shift, double log_size) {
          const auto box = exact(lo, hi, shift, log_size, coder);
          return box[0] * grad_boxes[i] + box[1] * grad_boxes[i + 2];
        };
        const auto want = exact(lo, hi, deltas[i], deltas[i + 2], coder);
        EXPECT_TRUE(near(boxes[i], want[0], 1e-3, 1e-6) && near(boxes[i + 2], want[1], 1e-3, 1e-6));
        const double h = 1e-5, a = deltas[i], b = deltas[i + 2];
        EXPECT_TRUE(near(grad[i], (weighted(a + h, b) - weighted(a - h, b)) / (2 * h), 1e-4, 1e-4)) << row;
        EXPECT_TRUE(near(grad[i + 2], (weighted(a, b + h) - weighted(a, b - h)) / (2 * h), 1e-2, 1e-4)) << row;
        held += grad[i] == 0 || grad[i + 2] == 0;
      }
    EXPECT_GT(held, 10);
    EXPECT_LT(held, 2 * N * P - 10);

    Floats twice = grad;
    decode_deltas_backward(cpu, view(anchors, {P, 4}), deltas.view(), coder, grad_boxes.view(), twice.view(),
                           Accumulate::add);
    for (int64_t i = 0; i < grad.size(); ++i) ASSERT_EQ(twice[i], 2 * grad[i]);
  }
}

// On the limit itself the gradient is that of the inside.
TEST(DeltaBoxes, OnTheLimitTheGradientPasses) {
  Cpu cpu(1);
  const std::vector<float> anchor{0, 0, 16, 16}, on{2, -2, 0, 0}, beyond{2.001f, -2.001f, 0, 0}, ones{1, 1, 1, 1};
  for (const auto& [deltas, want] : {std::pair(on, 32.0f), std::pair(beyond, 0.0f)}) {
    Floats grad({1, 1, 4});
    decode_deltas_backward(cpu, view(anchor, {1, 4}), view(deltas, {1, 1, 4}), kYolof, view(ones, {1, 1, 4}),
                           grad.view(), Accumulate::overwrite);
    EXPECT_EQ(grad[0], want);
    EXPECT_EQ(grad[1], want);
  }
}

TEST(DeltaBoxes, ShapesAreChecked) {
  Cpu cpu(1);
  Floats boxes({1, 2, 4});
  const std::vector<float> four(4), eight(8);
  EXPECT_THROW(decode_deltas(cpu, view(four, {1, 4}), view(eight, {1, 2, 4}), {}, boxes.view()), std::invalid_argument);
  EXPECT_THROW(decode_deltas(cpu, view(eight, {2, 4}), view(eight, {2, 4}), {}, boxes.view()), std::invalid_argument);
  EXPECT_THROW(decode_deltas(cpu, view(eight, {2, 4}), view(eight, {1, 2, 4}), {.centre_clamp = -1}, boxes.view()),
               std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::kernels
