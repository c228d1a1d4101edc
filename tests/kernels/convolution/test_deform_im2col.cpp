// SPDX-License-Identifier: MIT
// Deformable columns on the host: worked values, a whole layer with all its gradients, and finite differences of a
// sampler written independently in double precision.
#include "kernels/convolution/deform_im2col.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/kernels/vectors.h"
#include "tests/messages.h"

namespace gradlibra::kernels {
namespace {

using nlohmann::json;
using testing::expect_near;
using testing::filler;
using testing::flatten;
using testing::kInfinity;
using testing::kNaN;
using testing::random_floats;

const json& vectors() {
  static const json all = testing::read_vectors("deform");
  return all;
}

// (1, channels, height, width) as (1, height, width, channels).
std::vector<float> channels_last(const std::vector<double>& v, size_t channels, size_t cells) {
  std::vector<float> out(v.size());
  for (size_t c = 0; c < channels; ++c)
    for (size_t i = 0; i < cells; ++i) out[i * channels + c] = static_cast<float>(v[c * cells + i]);
  return out;
}

// One problem with its buffers; every run_ function returns the tensor that it computes, filled with NaN before.
struct Problem {
  Problem(Shape x_shape, int size)
      : shape(x_shape),
        kernel(size),
        offsets_shape{x_shape[0], x_shape[1], x_shape[2], 2 * int64_t{size} * size},
        columns_shape{x_shape[0], x_shape[1], x_shape[2], int64_t{size} * size, x_shape[3]},
        mask_shape{x_shape[0], x_shape[1], x_shape[2], int64_t{size} * size},
        x(random_floats(x_shape.size(), 1)),
        offsets(random_floats(offsets_shape.size(), 2, -2.5f, 2.5f)),
        grad_columns(random_floats(columns_shape.size(), 3)) {}
  // The same, modulated.
  [[nodiscard]] Problem masked() const {
    Problem p = *this;
    p.mask = random_floats(mask_shape.size(), 4, 0, 1);
    return p;
  }

  std::vector<float> run_forward(int threads = 2) const {
    Cpu cpu(threads);
    std::vector<float> out(static_cast<size_t>(columns_shape.size()), kNaN);
    deform_im2col<float>(cpu, {x.data(), shape}, {offsets.data(), offsets_shape}, kernel, {out.data(), columns_shape},
                         mask_view());
    return out;
  }
  std::vector<float> run_backward_mask(int threads = 2) const {
    std::vector<float> grad_x(x.size()), grad_offsets(offsets.size()), out(mask.size(), kNaN);
    backward(threads, {{grad_x.data(), shape}}, {{grad_offsets.data(), offsets_shape}}, &out);
    return out;
  }
  std::vector<float> run_backward_offsets(int threads = 2) const {
    std::vector<float> out(offsets.size(), kNaN);
    backward_offsets(threads, Accumulate::overwrite, out);
    return out;
  }
  std::vector<float> run_backward_data(int threads = 2) const {
    std::vector<float> out(x.size(), kNaN);
    backward_data(threads, Accumulate::overwrite, out);
    return out;
  }
  void backward_offsets(int threads, Accumulate mode, std::vector<float>& out) const {
    std::vector<float> grad_x(x.size());
    backward(threads, {{grad_x.data(), shape}}, {{out.data(), offsets_shape}, mode});
  }
  void backward_data(int threads, Accumulate mode, std::vector<float>& out) const {
    std::vector<float> grad_offsets(offsets.size());
    backward(threads, {{out.data(), shape}, mode}, {{grad_offsets.data(), offsets_shape}});
  }
  void backward(int threads, const GradTarget<>& grad_x, const GradTarget<>& grad_offsets,
                std::vector<float>* grad_mask = nullptr) const {
    Cpu cpu(threads);
    std::vector<float> unwanted(mask.size());
    deform_im2col_backward<float>(cpu, {x.data(), shape}, {offsets.data(), offsets_shape},
                                  {grad_columns.data(), columns_shape}, kernel, grad_x, grad_offsets, {},
                                  {mask_view(), {(grad_mask != nullptr ? *grad_mask : unwanted).data(), mask_shape}});
  }
  [[nodiscard]] View<const float> mask_view() const {
    return mask.empty() ? View<const float>() : View<const float>(mask.data(), mask_shape);
  }

  Shape shape;
  int kernel;
  Shape offsets_shape, columns_shape, mask_shape;
  std::vector<float> x, offsets, grad_columns;
  std::vector<float> mask;  // empty: none
};

// x at a real position by the hat function: sum over all cells of max(0, 1-|y-h|) max(0, 1-|x-w|) x[h, w].
double sample(const std::vector<double>& x, const Shape& s, int64_t n, double py, double px, int64_t c) {
  double sum = 0;
  for (int64_t h = 0; h < s[1]; ++h)
    for (int64_t w = 0; w < s[2]; ++w)
      sum += std::max(0.0, 1 - std::abs(py - static_cast<double>(h))) *
             std::max(0.0, 1 - std::abs(px - static_cast<double>(w))) *
             x[static_cast<size_t>(((n * s[1] + h) * s[2] + w) * s[3] + c)];
  return sum;
}

// The columns in double precision; `offsets` and `x` as double so that differences can be small. Without a mask: 1.
std::vector<double> oracle(const Problem& p, const std::vector<double>& x, const std::vector<double>& offsets,
                           const std::vector<double>& mask = {}) {
  std::vector<double> columns;
  const int pad = (p.kernel - 1) / 2;
  size_t o = 0;
  for (int64_t n = 0; n < p.shape[0]; ++n)
    for (int64_t row = 0; row < p.shape[1]; ++row)
      for (int64_t col = 0; col < p.shape[2]; ++col)
        for (int t = 0; t < p.kernel * p.kernel; ++t, o += 2)
          for (int64_t c = 0; c < p.shape[3]; ++c)
            columns.push_back((mask.empty() ? 1 : mask[o / 2]) *
                              sample(x, p.shape, n, static_cast<double>(row - pad + t / p.kernel) + offsets[o],
                                     static_cast<double>(col - pad + t % p.kernel) + offsets[o + 1], c));
  return columns;
}

std::vector<double> to_double(const std::vector<float>& v) { return {v.begin(), v.end()}; }

TEST(DeformIm2Col, FillerMatchesItsDescription) {
  const json& example = vectors()["filler"];
  for (size_t i = 0; i < example["inputs"]["names"].size(); ++i) {
    const std::vector<double> values = filler<double>(example["inputs"]["names"][i], example["inputs"]["count"], 0, 1);
    for (size_t k = 0; k < values.size(); ++k)
      EXPECT_NEAR(values[k], example["expected"]["u"][i][k].get<double>(), example["tol"].get<double>());
  }
}

// One tap at given positions of the 3 x 3 image 1 2 3 / 4 5 6 / 7 8 9: inside, across the border, on and beyond it.
TEST(DeformIm2Col, BorderTable) {
  const json& example = vectors()["bilinear_border"];
  const double tol = example["tol"];
  ASSERT_EQ(example["expected"]["rows"].size(), 10u);
  for (const json& row : example["expected"]["rows"]) {
    SCOPED_TRACE(row.dump());
    Problem p({1, 3, 3, 1}, 1);
    const std::vector<double> image = flatten(example["inputs"]["image"]);
    p.x.assign(image.begin(), image.end());
    // Cell (0, 0) reads the position itself; the others read far outside.
    std::fill(p.offsets.begin(), p.offsets.end(), -100.0f);
    p.offsets[0] = row["y_pos"].get<float>();
    p.offsets[1] = row["x_pos"].get<float>();
    std::fill(p.grad_columns.begin(), p.grad_columns.end(), 1.0f);
    const std::vector<float> columns = p.run_forward(), grad_offsets = p.run_backward_offsets();
    EXPECT_NEAR(columns[0], row["value"].get<double>(), tol);
    EXPECT_NEAR(grad_offsets[0], row["d_dy"].get<double>(), tol);
    EXPECT_NEAR(grad_offsets[1], row["d_dx"].get<double>(), tol);
    expect_near("d_input", p.run_backward_data(), flatten(row["d_input"]), tol);
    for (size_t i = 1; i < columns.size(); ++i) EXPECT_EQ(columns[i], 0);
    for (size_t i = 2; i < grad_offsets.size(); ++i) EXPECT_EQ(grad_offsets[i], 0);
  }
}

// out = W col, dcol = W' dout, dW = dout col': the layer of the reference with every gradient.
TEST(DeformIm2Col, WholeLayer) {
  const json& example = vectors()["deform_conv"];
  const json& in = example["inputs"];
  const json& want = example["expected"];
  const double tol = example["tol"];
  const auto fill = [&](const char* key) {
    int64_t size = 1;
    for (const json& dim : in[key][1]) size *= dim.get<int64_t>();
    return filler<double>(in[key][0], size, in[key][2], in[key][3]);
  };
  constexpr size_t kCells = 20, kTaps = 9, kIn = 2, kOut = 2;
  Problem p({1, 4, 5, kIn}, 3);
  p.x = channels_last(fill("x"), kIn, kCells);
  p.offsets = channels_last(fill("offset"), 2 * kTaps, kCells);
  const std::vector<double> weight = fill("weight");  // output, input, tap
  const std::vector<float> grad_y = channels_last(fill("grad_out"), kOut, kCells);
  const auto w = [&](size_t o, size_t c, size_t t) { return weight[(o * kIn + c) * kTaps + t]; };

  const std::vector<float> columns = p.run_forward();
  std::vector<float> y(kCells * kOut), grad_weight(weight.size());
  std::fill(p.grad_columns.begin(), p.grad_columns.end(), 0.0f);
  for (size_t i = 0; i < kCells; ++i)
    for (size_t o = 0; o < kOut; ++o)
      for (size_t t = 0; t < kTaps; ++t)
        for (size_t c = 0; c < kIn; ++c) {
          const size_t k = (i * kTaps + t) * kIn + c;
          y[i * kOut + o] += static_cast<float>(w(o, c, t) * columns[k]);
          p.grad_columns[k] += static_cast<float>(w(o, c, t) * grad_y[i * kOut + o]);
          grad_weight[(o * kIn + c) * kTaps + t] += grad_y[i * kOut + o] * columns[k];
        }
  expect_near("y", y, flatten(want["y"]), tol);
  expect_near("grad_weight", grad_weight, flatten(want["grad_weight"]), tol);
  expect_near("grad_x", p.run_backward_data(), flatten(want["grad_x"]), tol);
  expect_near("grad_offset", p.run_backward_offsets(), flatten(want["grad_offset"]), tol);
}

// Columns and gradients against double precision and its differences.
void expect_as_oracle(const Problem& p) {
  const std::vector<double> x = to_double(p.x), offsets = to_double(p.offsets), mask = to_double(p.mask);
  expect_near("columns", p.run_forward(), oracle(p, x, offsets, mask), 1e-6);

  const auto loss = [&](const std::vector<double>& columns) {
    double sum = 0;
    for (size_t i = 0; i < columns.size(); ++i) sum += p.grad_columns[i] * columns[i];
    return sum;
  };
  // Of loss_at(values) along one of some forty of the values, against the gradient.
  const auto expect_slopes = [](std::vector<double> values, const std::vector<float>& grad, double step,
                                double tolerance, const auto& loss_at, const auto& skip) {
    for (size_t k = 0; k < values.size(); k += 1 + values.size() / 40) {
      const double here = values[k];
      if (skip(here)) continue;
      values[k] = here + step;
      const double above = loss_at(values);
      values[k] = here - step;
      const double slope = (above - loss_at(values)) / (2 * step);
      values[k] = here;
      ASSERT_TRUE(std::abs(slope - grad[k]) <= tolerance) << k << ": " << slope << " " << grad[k];
    }
  };
  const auto none = [](double) { return false; };
  // Linear in x and in the mask: any step is exact. Piecewise bilinear in the offsets: exact unless the step crosses an
  // integer.
  constexpr double kStep = 1e-5;
  const auto crosses = [](double offset) { return std::abs(offset - std::round(offset)) < 2 * kStep; };
  expect_slopes(
      x, p.run_backward_data(), 0.5, 1e-5, [&](const auto& v) { return loss(oracle(p, v, offsets, mask)); }, none);
  expect_slopes(
      offsets, p.run_backward_offsets(), kStep, 2e-5, [&](const auto& v) { return loss(oracle(p, x, v, mask)); },
      crosses);
  expect_slopes(
      mask, p.run_backward_mask(), 0.5, 1e-5, [&](const auto& v) { return loss(oracle(p, x, offsets, v)); }, none);
}

TEST(DeformIm2Col, OracleOverManyShapes) {
  const std::pair<Shape, int> cases[] = {{{1, 1, 1, 1}, 1},  {{1, 1, 1, 3}, 3},  {{2, 5, 4, 8}, 3},  {{3, 2, 3, 5}, 5},
                                         {{1, 7, 6, 17}, 3}, {{2, 3, 9, 33}, 1}, {{1, 1, 12, 16}, 3}};
  for (const auto& [shape, kernel] : cases)
    for (const bool masked : {false, true}) {
      SCOPED_TRACE(shape.to_string() + " kernel " + std::to_string(kernel) + (masked ? " masked" : ""));
      const Problem p(shape, kernel);
      expect_as_oracle(masked ? p.masked() : p);
    }
}

TEST(DeformIm2Col, ZeroOffsetsAreAPlainIm2Col) {
  Problem p({2, 4, 5, 3}, 3);
  std::fill(p.offsets.begin(), p.offsets.end(), 0.0f);
  const std::vector<float> columns = p.run_forward();
  size_t i = 0;
  for (int64_t n = 0; n < 2; ++n)
    for (int64_t row = 0; row < 4; ++row)
      for (int64_t col = 0; col < 5; ++col)
        for (int64_t t = 0; t < 9; ++t)
          for (int64_t c = 0; c < 3; ++c, ++i) {
            const int64_t h = row - 1 + t / 3, w = col - 1 + t % 3;
            const bool inside = h >= 0 && h < 4 && w >= 0 && w < 5;
            ASSERT_EQ(columns[i], inside ? p.x[static_cast<size_t>(((n * 4 + h) * 5 + w) * 3 + c)] : 0.0f);
          }
}

TEST(DeformIm2Col, NaNAndHugeOffsetsSampleNothing) {
  for (const float bad : {kNaN, kInfinity, -kInfinity, 1e30f, -1e30f, 2147483648.0f, -4294967296.0f}) {
    Problem p({1, 3, 3, 2}, 3);
    std::fill(p.offsets.begin(), p.offsets.end(), bad);
    for (const float v : p.run_forward()) ASSERT_EQ(v, 0) << bad;
    for (const float v : p.run_backward_offsets()) ASSERT_EQ(v, 0) << bad;
    for (const float v : p.run_backward_data()) ASSERT_EQ(v, 0) << bad;
  }
}

TEST(DeformIm2Col, NaNGradientsAreNotLost) {
  Problem p({1, 3, 3, 9}, 3);
  std::fill(p.offsets.begin(), p.offsets.end(), 0.25f);
  std::fill(p.grad_columns.begin(), p.grad_columns.end(), kNaN);
  for (const float v : p.run_backward_data()) ASSERT_TRUE(std::isnan(v));
  EXPECT_TRUE(std::isnan(p.run_backward_offsets()[8]));
}

// Each sample lies on a pixel: the other corners weigh 0 and get nothing, not 0 * NaN.
TEST(DeformIm2Col, NaNGradientsStayWhereTheyLand) {
  Problem p({1, 3, 3, 2}, 3);
  std::fill(p.offsets.begin(), p.offsets.end(), 0.0f);
  p.grad_columns[(4 * 9 + 4) * 2 + 1] = kNaN;   // the middle tap of the middle cell, channel 1
  p.grad_columns[(4 * 9 + 8) * 2] = kInfinity;  // its last tap, channel 0
  const std::vector<float> grad_x = p.run_backward_data();
  for (size_t i = 0; i < grad_x.size(); ++i) EXPECT_EQ(std::isfinite(grad_x[i]), i != 4 * 2 + 1 && i != 8 * 2) << i;
}

// A mask of 1 changes nothing; 0 takes a sample away, and leaves the slope by the mask; NaN shows.
TEST(DeformIm2Col, SpecialMasks) {
  const Problem plain({2, 4, 3, 9}, 3);
  Problem p = plain;
  p.mask.assign(static_cast<size_t>(p.mask_shape.size()), 1.0f);
  EXPECT_EQ(p.run_forward(), plain.run_forward());
  EXPECT_EQ(p.run_backward_data(), plain.run_backward_data());
  EXPECT_EQ(p.run_backward_offsets(), plain.run_backward_offsets());
  const std::vector<float> slopes = p.run_backward_mask();
  p.mask.assign(p.mask.size(), 0.0f);
  for (const float v : p.run_forward()) ASSERT_EQ(v, 0);
  for (const float v : p.run_backward_data()) ASSERT_EQ(v, 0);
  for (const float v : p.run_backward_offsets()) ASSERT_EQ(v, 0);
  EXPECT_EQ(p.run_backward_mask(), slopes);
  p = Problem({1, 3, 3, 2}, 3);
  std::fill(p.offsets.begin(), p.offsets.end(), 0.25f);
  p.mask.assign(81, 0.5f);
  p.mask[4 * 9 + 4] = kNaN;  // the middle tap of the middle cell
  const std::vector<float> columns = p.run_forward(), offsets = p.run_backward_offsets();
  for (size_t i = 0; i < columns.size(); ++i) ASSERT_EQ(std::isnan(columns[i]), i / 2 == 4 * 9 + 4) << i;
  for (size_t i = 0; i < offsets.size(); ++i) ASSERT_EQ(std::isnan(offsets[i]), i / 2 == 4 * 9 + 4) << i;
  EXPECT_TRUE(std::isnan(p.run_backward_data()[static_cast<size_t>(4 * 2)]));
  for (const float v : p.run_backward_mask()) ASSERT_TRUE(std::isfinite(v));
}

TEST(DeformIm2Col, AddsToWhatIsThere) {
  const Problem p({2, 4, 3, 6}, 3);
  std::vector<float> grad_x(p.x.size(), 10.0f), grad_offsets(p.offsets.size(), -5.0f);
  p.backward_data(2, Accumulate::add, grad_x);
  p.backward_offsets(2, Accumulate::add, grad_offsets);
  std::vector<float> want_x = p.run_backward_data(), want_offsets = p.run_backward_offsets();
  for (float& v : want_x) v += 10;
  for (float& v : want_offsets) v -= 5;
  expect_near("grad_x", grad_x, want_x, 2e-5);
  expect_near("grad_offsets", grad_offsets, want_offsets, 1e-5);
}

TEST(DeformIm2Col, SameBitsForEveryNumberOfThreads) {
  for (const Shape& shape : {Shape{1, 9, 7, 40}, Shape{3, 9, 7, 72}}) {
    const Problem plain(shape, 3);
    for (const Problem& p : {plain, plain.masked()})
      for (const int threads : {2, 3, 8}) {
        EXPECT_EQ(p.run_forward(1), p.run_forward(threads));
        EXPECT_EQ(p.run_backward_offsets(1), p.run_backward_offsets(threads));
        EXPECT_EQ(p.run_backward_data(1), p.run_backward_data(threads));
        EXPECT_EQ(p.run_backward_mask(1), p.run_backward_mask(threads));
      }
  }
}

// Against the float version on the same (rounded) values: one rounding of the result, none on the way.
TEST(DeformIm2Col, Bfloat16RoundsOnce) {
  for (const auto& [shape, masked] : {std::pair(Shape{2, 4, 3, 6}, false),
                                      {Shape{1, 5, 4, 70}, false},
                                      {Shape{1, 1, 1, 1}, false},
                                      {Shape{2, 4, 3, 6}, true},
                                      {Shape{1, 5, 4, 70}, true}}) {
    Problem p(shape, 3);
    if (masked) p = p.masked();
    const auto narrow = [](std::vector<float>& wide) {
      std::vector<bfloat16> values(wide.size());
      for (size_t i = 0; i < wide.size(); ++i) {
        values[i] = to_bfloat16(wide[i]);
        wide[i] = to_float(values[i]);
      }
      return values;
    };
    const auto expect_rounded = [](const std::vector<bfloat16>& got, const std::vector<float>& want) {
      // Half the distance of two neighbours, and what the float versions may differ by.
      for (size_t i = 0; i < want.size(); ++i)
        ASSERT_TRUE(std::abs(to_float(got[i]) - want[i]) <= std::abs(want[i]) / 256 + 2e-6f)
            << i << ": got " << to_float(got[i]) << ", want " << want[i];
    };
    const std::vector<bfloat16> x = narrow(p.x), grad_columns = narrow(p.grad_columns);
    Cpu cpu(2);
    std::vector<bfloat16> columns(grad_columns.size());
    deform_im2col<bfloat16>(cpu, {x.data(), p.shape}, {p.offsets.data(), p.offsets_shape}, 3,
                            {columns.data(), p.columns_shape}, p.mask_view());
    expect_rounded(columns, p.run_forward());

    std::vector<float> want(p.x.size(), 0.7f);
    const std::vector<bfloat16> before = narrow(want);
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      std::vector<bfloat16> grad_x = before;
      std::vector<float> sums = want, grad_offsets(p.offsets.size()), grad_mask(p.mask.size());
      deform_im2col_backward<bfloat16>(cpu, {x.data(), p.shape}, {p.offsets.data(), p.offsets_shape},
                                       {grad_columns.data(), p.columns_shape}, 3, {{grad_x.data(), p.shape}, mode},
                                       {{grad_offsets.data(), p.offsets_shape}}, {},
                                       {p.mask_view(), {grad_mask.data(), p.mask_shape}});
      expect_near("grad_offsets", grad_offsets, p.run_backward_offsets(), 2e-6);
      expect_near("grad_mask", grad_mask, p.run_backward_mask(), 2e-6);
      p.backward_data(2, mode, sums);
      expect_rounded(grad_x, sums);
    }
  }
}

TEST(DeformIm2Col, EmptyInput) {
  for (const Shape& shape : {Shape{0, 4, 4, 8}, Shape{2, 0, 4, 8}, Shape{2, 4, 0, 8}}) {
    const Problem p = Problem(shape, 3).masked();
    EXPECT_TRUE(p.run_forward().empty());
    EXPECT_TRUE(p.run_backward_offsets().empty());
    EXPECT_TRUE(p.run_backward_data().empty());
  }
  // No channels: nothing to sample, and no slope.
  const Problem none = Problem({1, 2, 2, 0}, 3).masked();
  for (const float v : none.run_backward_offsets()) EXPECT_EQ(v, 0);
  for (const float v : none.run_backward_mask()) EXPECT_EQ(v, 0);
}

// Batches that are no multiple of anything (implementations that step through the batch have refused them), and a map
// whose columns would not fit the usual block counts.
TEST(DeformIm2Col, AnyBatchAndALargeMap) {
  for (const int64_t batch : {1, 3, 5, 33, 64}) {
    const Problem p({batch, 3, 4, 8}, 3);
    expect_near("columns", p.run_forward(), oracle(p, to_double(p.x), to_double(p.offsets)), 1e-6);
  }
  constexpr int64_t kSide = 2048;
  Problem p({1, kSide, kSide, 1}, 1);
  for (float& o : p.offsets) o = std::floor(o);  // whole cells: the answer is an element of x
  const std::vector<float> columns = p.run_forward();
  for (int64_t cell = 0; cell < kSide * kSide; ++cell) {
    const int64_t h = cell / kSide + static_cast<int64_t>(p.offsets[static_cast<size_t>(2 * cell)]);
    const int64_t w = cell % kSide + static_cast<int64_t>(p.offsets[static_cast<size_t>(2 * cell + 1)]);
    const bool inside = h >= 0 && h < kSide && w >= 0 && w < kSide;
    ASSERT_EQ(columns[static_cast<size_t>(cell)], inside ? p.x[static_cast<size_t>(h * kSide + w)] : 0.0f) << cell;
  }
}

TEST(DeformIm2Col, WrongShapesThrowWithTheNumbers) {
  Cpu cpu(1);
  std::vector<float> a(100), b(1000), c(1000);
  const auto run = [&](const Shape& offsets, const Shape& columns, int kernel, View<const float> mask = {}) {
    deform_im2col<float>(cpu, {a.data(), {1, 2, 3, 4}}, {b.data(), offsets}, kernel, {c.data(), columns}, mask);
  };
  EXPECT_NO_THROW(run({1, 2, 3, 18}, {1, 2, 3, 9, 4}, 3));
  EXPECT_THROW(run({1, 2, 3, 9}, {1, 2, 3, 9, 4}, 3), std::invalid_argument);
  EXPECT_THROW(run({1, 2, 3, 18}, {1, 2, 3, 4, 9}, 3), std::invalid_argument);
  EXPECT_THROW(run({1, 2, 3, 8}, {1, 2, 3, 4, 4}, 2), std::invalid_argument);
  EXPECT_EQ(message_of<std::invalid_argument>([&] {
              run({1, 3, 2, 18}, {1, 2, 3, 9, 4}, 3);
            }),
            "deform_im2col: offsets have shape (1, 3, 2, 18), expected (1, 2, 3, 18)");
  EXPECT_EQ(message_of<std::invalid_argument>([&] {
              run({1, 2, 3, 18}, {1, 2, 3, 9, 4}, 3, {a.data(), {1, 2, 3, 18}});
            }),
            "deform_im2col: mask has shape (1, 2, 3, 18), expected (1, 2, 3, 9)");
}

}  // namespace
}  // namespace gradlibra::kernels
