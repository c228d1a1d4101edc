// SPDX-License-Identifier: MIT
// The convolutions of runtime/autograd/ops/convolution.h through every library, against sums in double precision.
#include <cmath>

#include "tests/runtime/autograd/gradient_check.h"

namespace gradlibra {
namespace {

using kernels::ConvShape;
using ops::Activation;
using testing::Doubles;
using testing::GradientCheck;
using testing::Input;
using testing::Leaves;
using testing::random_input;
using testing::seed_gradient;

struct Map {
  int64_t N, H, W, C;
};

// x in N, H, W, C order; 0 outside.
double at(const Doubles& x, const Map& m, int64_t n, int64_t i, int64_t j, int64_t c) {
  if (i < 0 || i >= m.H || j < 0 || j >= m.W) return 0;
  return x[static_cast<size_t>(((n * m.H + i) * m.W + j) * m.C + c)];
}

Doubles convolve(const Doubles& x, const Map& m, const Doubles& weight, int64_t K, int64_t R, int64_t S,
                 const Doubles& bias, const ConvShape& s, Activation activation) {
  const int64_t P = (m.H + 2 * s.padding - s.dilation * (R - 1) - 1) / s.stride + 1;
  const int64_t Q = (m.W + 2 * s.padding - s.dilation * (S - 1) - 1) / s.stride + 1;
  Doubles y;
  for (int64_t n = 0; n < m.N; ++n)
    for (int64_t p = 0; p < P; ++p)
      for (int64_t q = 0; q < Q; ++q)
        for (int64_t k = 0; k < K; ++k) {
          double sum = bias.empty() ? 0 : bias[static_cast<size_t>(k)];
          for (int64_t r = 0; r < R; ++r)
            for (int64_t t = 0; t < S; ++t)
              for (int64_t c = 0; c < m.C; ++c)
                sum += weight[static_cast<size_t>(((k * R + r) * S + t) * m.C + c)] *
                       at(x, m, n, p * s.stride - s.padding + r * s.dilation, q * s.stride - s.padding + t * s.dilation,
                          c);
          y.push_back(activation == Activation::relu ? std::max(sum, 0.0) : sum);
        }
  return y;
}

class ConvolutionOps : public ::testing::TestWithParam<ConvolutionLibrary> {
 protected:
  Context context{1, GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Libraries, ConvolutionOps, ::testing::ValuesIn(testing::convolution_libraries()),
                         [](const auto& library) {
                           return library.param == ConvolutionLibrary::best ? "Best" : "Plain";
                         });

void check_conv2d(Context& context, const Map& m, int64_t K, int64_t R, int64_t S, const ConvShape& shape, bool bias,
                  Activation activation) {
  SCOPED_TRACE("kernel " + std::to_string(R) + "x" + std::to_string(S) + ", stride " + std::to_string(shape.stride) +
               ", padding " + std::to_string(shape.padding) + ", dilation " + std::to_string(shape.dilation) +
               (bias ? ", bias" : ""));
  GradientCheck check;
  check.inputs = {random_input({m.N, m.H, m.W, m.C}, 1), random_input({K, R, S, m.C}, 2)};
  if (bias) check.inputs.push_back(random_input({K}, 3));
  check.op = [=](Tape& tape, const std::vector<Var>& v) {
    return ops::conv2d(tape, v[0], v[1], bias ? v[2] : Var(), shape, activation);
  };
  check.oracle = [=](const std::vector<Doubles>& v) {
    return convolve(v[0], m, v[1], K, R, S, bias ? v[2] : Doubles(), shape, activation);
  };
  check.trained_alone = {{0}, {1}};
  if (bias) check.trained_alone.push_back({1, 2});
  check.run(context);
}

TEST_P(ConvolutionOps, GradientsOfConv2d) {
  check_conv2d(context, {2, 5, 7, 3}, 4, 3, 3, {.padding = 1}, true, Activation::none);
  check_conv2d(context, {2, 5, 7, 3}, 4, 3, 3, {.padding = 1}, true, Activation::relu);
  check_conv2d(context, {1, 6, 5, 2}, 3, 3, 3, {.stride = 2, .padding = 1}, false, Activation::relu);
  check_conv2d(context, {2, 9, 7, 2}, 3, 3, 3, {.padding = 2, .dilation = 2}, true, Activation::none);
  check_conv2d(context, {1, 9, 8, 2}, 2, 7, 7, {.stride = 2, .padding = 3}, false, Activation::none);
  check_conv2d(context, {2, 4, 3, 5}, 6, 1, 1, {}, true, Activation::relu);
  check_conv2d(context, {1, 5, 6, 2}, 3, 1, 1, {.stride = 2}, false, Activation::none);
  check_conv2d(context, {1, 5, 6, 2}, 3, 2, 3, {}, true, Activation::none);
  check_conv2d(context, {1, 1, 1, 1}, 1, 1, 1, {}, true, Activation::none);
  // Fewer channels than a vector holds, on a map of even size: oneDNN's own weight gradient fails here.
  check_conv2d(context, {2, 8, 8, 3}, 4, 1, 1, {.stride = 2}, true, Activation::none);
  // Channels in whole vector registers, where libraries take other paths.
  check_conv2d(context, {1, 3, 3, 16}, 8, 3, 3, {.padding = 1}, true, Activation::relu);
}

// Stride 2 on an even size leaves the last row and column unread: their gradient is 0, not undefined.
TEST_P(ConvolutionOps, UnreadCellsHaveGradientZero) {
  const std::vector<Input> inputs{random_input({1, 4, 4, 2}, 1), random_input({3, 1, 1, 2}, 2)};
  Leaves leaves(context, inputs, {0});
  Tape tape(context);
  const Var y = ops::conv2d(tape, leaves.vars()[0], leaves.vars()[1], Var(), {.stride = 2}, Activation::none);
  seed_gradient(tape, y, std::vector<float>(12, 1.0f));
  tape.backward();
  const std::vector<float> grad = leaves.gradient(0);
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j)
      for (int c = 0; c < 2; ++c)
        if (i % 2 == 1 || j % 2 == 1) {
          EXPECT_EQ(grad[static_cast<size_t>((i * 4 + j) * 2 + c)], 0.0f) << i << ", " << j;
        }
}

TEST_P(ConvolutionOps, EmptyBatchHasParameterGradientsZero) {
  const std::vector<Input> inputs{random_input({0, 5, 5, 2}, 1), random_input({3, 3, 3, 2}, 2), random_input({3}, 3)};
  for (const int uses : {1, 2}) {
    Leaves leaves(context, inputs, {0, 1, 2});
    Tape tape(context);
    for (int use = 0; use < uses; ++use) {
      const Var y =
          ops::conv2d(tape, leaves.vars()[0], leaves.vars()[1], leaves.vars()[2], {.padding = 1}, Activation::relu);
      ASSERT_EQ(y.shape(), (Shape{0, 5, 5, 3}));
      seed_gradient(tape, y, {});
    }
    tape.backward();
    EXPECT_EQ(leaves.gradient(1), std::vector<float>(54, 0.0f));
    EXPECT_EQ(leaves.gradient(2), std::vector<float>(3, 0.0f));
  }
}

// As in a head that runs over pyramid levels: one weight, maps of different sizes, gradients added up.
TEST_P(ConvolutionOps, SharedWeightsAddOverLevels) {
  const Map fine{2, 6, 5, 3}, coarse{2, 3, 2, 3};
  GradientCheck check;
  check.inputs = {random_input({2, 6, 5, 3}, 1), random_input({2, 3, 2, 3}, 2), random_input({4, 3, 3, 3}, 3),
                  random_input({4}, 4)};
  check.op = [](Tape& tape, const std::vector<Var>& v) {
    const std::vector<Var> levels{ops::conv2d(tape, v[0], v[2], v[3], {.padding = 1}, Activation::relu),
                                  ops::conv2d(tape, v[1], v[2], v[3], {.padding = 1}, Activation::relu)};
    return ops::concat_levels(tape, levels);
  };
  check.oracle = [=](const std::vector<Doubles>& v) {
    const Doubles a = convolve(v[0], fine, v[2], 4, 3, 3, v[3], {.padding = 1}, Activation::relu);
    const Doubles b = convolve(v[1], coarse, v[2], 4, 3, 3, v[3], {.padding = 1}, Activation::relu);
    Doubles y;
    for (int64_t n = 0; n < 2; ++n) {
      y.insert(y.end(), a.begin() + n * 120, a.begin() + (n + 1) * 120);
      y.insert(y.end(), b.begin() + n * 24, b.begin() + (n + 1) * 24);
    }
    return y;
  };
  check.trained_alone = {{2, 3}};
  check.run(context);
}

// The statistics of a batch norm that are constant.
struct Statistics {
  Node mean, var;
  Statistics(Context& context, const std::vector<float>& means, const std::vector<float>& variances) {
    const auto size = static_cast<int64_t>(means.size());
    mean.value = context.upload<float>(means, {size});
    var.value = context.upload<float>(variances, {size});
  }
  [[nodiscard]] ops::BatchNormBuffers buffers() { return {.running_mean = &mean, .running_var = &var, .eps = 1e-3f}; }
};

// activation(gamma * (conv - mean) / sqrt(var + eps) + beta + residual), as two layers and a sum would give it.
TEST_P(ConvolutionOps, GradientsOfConv2dWithBatchNorm) {
  const std::vector<float> means{0.3f, -0.2f, 0, 1}, variances{0.5f, 2, 0.01f, 1};
  for (const bool with_residual : {false, true})
    for (const Activation activation : {Activation::none, Activation::relu}) {
      SCOPED_TRACE(with_residual ? "with a residual" : "alone");
      const Map m{2, 5, 4, 3};
      Statistics statistics(context, means, variances);
      GradientCheck check;
      check.inputs = {random_input({2, 5, 4, 3}, 1), random_input({4, 3, 3, 3}, 2), random_input({4}, 3, 0.5f, 2),
                      random_input({4}, 4)};
      if (with_residual) check.inputs.push_back(random_input({2, 3, 2, 4}, 5));
      check.op = [&](Tape& tape, const std::vector<Var>& v) {
        return ops::conv2d_batch_norm(tape, {.x = v[0],
                                             .weight = v[1],
                                             .gamma = v[2],
                                             .beta = v[3],
                                             .buffers = statistics.buffers(),
                                             .shape = {.stride = 2, .padding = 1},
                                             .residual = with_residual ? v[4] : Var(),
                                             .activation = activation});
      };
      check.oracle = [=](const std::vector<Doubles>& v) {
        Doubles y = convolve(v[0], m, v[1], 4, 3, 3, {}, {.stride = 2, .padding = 1}, Activation::none);
        for (size_t i = 0; i < y.size(); ++i) {
          const size_t k = i % 4;
          y[i] = v[2][k] * (y[i] - means[k]) / std::sqrt(variances[k] + 1e-3) + v[3][k];
          if (with_residual) y[i] += v[4][i];
          if (activation == Activation::relu) y[i] = std::max(y[i], 0.0);
        }
        return y;
      };
      check.trained_alone = {{0}, {1}, {2, 3}};  // a frozen norm, frozen weights, both
      if (with_residual) check.trained_alone.push_back({4});
      check.run(context);
    }
}

// A fold that was made before is the one that the op makes for itself.
TEST_P(ConvolutionOps, FoldsMadeBeforehandGiveTheSameBits) {
  Statistics statistics(context, {0.3f, -0.2f, 0, 1}, {0.5f, 2, 0.01f, 1});
  const std::vector<Input> inputs{random_input({2, 5, 4, 3}, 1), random_input({4, 3, 3, 3}, 2),
                                  random_input({4}, 3, 0.5f, 2), random_input({4}, 4)};
  const auto results = [&](bool beforehand) {
    Leaves leaves(context, inputs, {0, 1, 2, 3});
    Tape tape(context);
    const auto v = leaves.vars();
    ops::FoldedNorm folded;
    if (beforehand) folded = ops::fold_batch_norm(tape, v[1], v[2], v[3], statistics.buffers(), v[0].dtype());
    const Var y = ops::conv2d_batch_norm(tape, {.x = v[0],
                                                .weight = v[1],
                                                .gamma = v[2],
                                                .beta = v[3],
                                                .buffers = statistics.buffers(),
                                                .shape = {.padding = 1},
                                                .activation = Activation::relu,
                                                .folded = folded});
    std::vector<std::vector<float>> all{context.download<float>(y.node().value)};
    seed_gradient(tape, y, random_input({2, 5, 4, 4}, 5).values);
    tape.backward();
    for (int i = 0; i < 4; ++i) all.push_back(leaves.gradient(static_cast<size_t>(i)));
    return all;
  };
  EXPECT_EQ(results(true), results(false));
}

// Without a record the folded weight lives for one call, and the next one's may lie in the same memory.
TEST_P(ConvolutionOps, FoldedWeightsOfOneLayerAreNotTakenForAnother) {
  Statistics statistics(context, std::vector<float>(16, 0.0f), std::vector<float>(16, 1.0f));
  const std::vector<Input> inputs{random_input({1, 4, 4, 16}, 1),
                                  random_input({16, 3, 3, 16}, 2),
                                  random_input({16, 3, 3, 16}, 3),
                                  {{16}, std::vector<float>(16, 1.0f)},
                                  {{16}, std::vector<float>(16, 0.0f)}};
  Leaves leaves(context, inputs, {});
  const auto v = leaves.vars();
  const auto outputs = [&](std::initializer_list<int> weights) {
    Tape tape(context, Tape::Mode::inference);
    std::vector<std::vector<float>> values;
    for (const int w : weights)
      values.push_back(context.download<float>(ops::conv2d_batch_norm(tape, {.x = v[0],
                                                                             .weight = v[static_cast<size_t>(w)],
                                                                             .gamma = v[3],
                                                                             .beta = v[4],
                                                                             .buffers = statistics.buffers(),
                                                                             .shape = {.padding = 1}})
                                                   .node()
                                                   .value));
    return values;
  };
  const auto alone = outputs({2});
  EXPECT_EQ(outputs({1, 2})[1], alone[0]);
}

// Maps in bfloat16 give what float gives on the rounded input and weight, rounded once; so do the gradients.
TEST_P(ConvolutionOps, BFloat16IsFloatOnRoundedMaps) {
  const auto rounded = [](std::vector<float> values) {
    for (float& v : values) v = to_float(to_bfloat16(v));
    return values;
  };
  const std::vector<float> x = rounded(random_input({2, 5, 4, 8}, 1).values),
                           seed = rounded(random_input({2, 5, 4, 6}, 3).values);
  const std::vector<float> weight = rounded(random_input({6, 3, 3, 8}, 2).values),
                           bias = rounded(random_input({6}, 4).values);
  struct Result {
    std::vector<float> y, grad_x, grad_weight, grad_bias;
  };
  const auto run = [&](DType dtype) {
    const auto to_map = [&](const std::vector<float>& values, Shape shape) {
      if (dtype == DType::f32) return context.upload<float>(values, shape);
      std::vector<bfloat16> stored(values.size());
      std::transform(values.begin(), values.end(), stored.begin(), to_bfloat16);
      return context.upload<bfloat16>(stored, shape);
    };
    const auto floats = [&](const Tensor& t) {
      if (t.dtype() == DType::f32) return context.download<float>(t);
      const std::vector<bfloat16> stored = context.download<bfloat16>(t);
      std::vector<float> values(stored.size());
      std::transform(stored.begin(), stored.end(), values.begin(), [](bfloat16 v) { return to_float(v); });
      return values;
    };
    Leaves leaves(context, {{{6, 3, 3, 8}, weight}, {{6}, bias}}, {0, 1});
    Node node;
    node.value = to_map(x, {2, 5, 4, 8});
    node.requires_grad = true;
    Tape tape(context);
    const Var y = ops::conv2d(tape, Var(&node), leaves.vars()[0], leaves.vars()[1], {.padding = 1}, Activation::relu);
    Result result{.y = floats(y.node().value)};
    y.node().grad = to_map(seed, y.shape());
    y.node().grad_written = true;
    tape.backward();
    result.grad_x = floats(node.grad);
    result.grad_weight = leaves.gradient(0);
    result.grad_bias = leaves.gradient(1);
    return result;
  };
  const Result got = run(DType::bf16), want = run(DType::f32);
  const double half_step = 1.0 / 256;
  testing::expect_near(got.y, rounded(want.y), 1e-6, half_step);  // a sum on the edge may round the other way
  testing::expect_near(got.grad_x, want.grad_x, 1e-6, half_step);
  testing::expect_near(got.grad_weight, want.grad_weight, 1e-5, 1e-5);  // never rounded
  testing::expect_near(got.grad_bias, want.grad_bias, 1e-5, 1e-5);
}

// A library may keep weights in a layout of its own: after weights_changed() it must look again.
TEST_P(ConvolutionOps, NewWeightsAreSeen) {
  const std::vector<Input> inputs{random_input({1, 4, 4, 16}, 1), random_input({16, 3, 3, 16}, 2)};
  Leaves leaves(context, inputs, {});
  const auto forward = [&] {
    Tape tape(context, Tape::Mode::inference);
    const Var y = ops::conv2d(tape, leaves.vars()[0], leaves.vars()[1], Var(), {.padding = 1}, Activation::none);
    return context.download<float>(y.node().value);
  };
  const std::vector<float> before = forward();
  std::vector<float> doubled = inputs[1].values;
  for (float& v : doubled) v *= 2;
  context.upload<float>(doubled, leaves.vars()[1].node().value);
  context.convolution().weights_changed();
  std::vector<float> expected = before;
  for (float& v : expected) v *= 2;
  EXPECT_EQ(forward(), expected);
}

TEST_P(ConvolutionOps, WrongShapesAreErrors) {
  const std::vector<Input> inputs{random_input({1, 4, 4, 3}, 1), random_input({2, 3, 3, 4}, 2),
                                  random_input({4, 4}, 3)};
  Leaves leaves(context, inputs, {});
  Tape tape(context);
  EXPECT_THROW((void)ops::conv2d(tape, leaves.vars()[0], leaves.vars()[1], Var(), {}, Activation::none),
               std::invalid_argument);
  EXPECT_THROW((void)ops::conv2d(tape, leaves.vars()[2], leaves.vars()[1], Var(), {}, Activation::none),
               std::invalid_argument);
}

// arXiv:1703.06211, eq. 3-4: bilinear sampling, taps outside the map count as 0.
Doubles deform_convolve(const Doubles& x, const Map& m, const Doubles& offsets, const Doubles& weight, int64_t O,
                        int64_t K) {
  Doubles y;
  for (int64_t n = 0; n < m.N; ++n)
    for (int64_t i = 0; i < m.H; ++i)
      for (int64_t j = 0; j < m.W; ++j)
        for (int64_t o = 0; o < O; ++o) {
          double sum = 0;
          for (int64_t tap = 0; tap < K * K; ++tap) {
            const auto first = static_cast<size_t>((((n * m.H + i) * m.W + j) * K * K + tap) * 2);
            const double py = static_cast<double>(i - K / 2 + tap / K) + offsets[first];
            const double px = static_cast<double>(j - K / 2 + tap % K) + offsets[first + 1];
            const auto top = static_cast<int64_t>(std::floor(py)), left = static_cast<int64_t>(std::floor(px));
            for (int64_t c = 0; c < m.C; ++c) {
              double sample = 0;
              for (const int64_t row : {top, top + 1})
                for (const int64_t column : {left, left + 1})
                  sample += (1 - std::abs(py - static_cast<double>(row))) *
                            (1 - std::abs(px - static_cast<double>(column))) * at(x, m, n, row, column, c);
              sum += weight[static_cast<size_t>((o * K * K + tap) * m.C + c)] * sample;
            }
          }
          y.push_back(std::max(sum, 0.0));
        }
  return y;
}

TEST_P(ConvolutionOps, GradientsOfDeformConv2d) {
  for (const int64_t kernel : {1, 3}) {
    const Map m{2, 3, 4, 2};
    GradientCheck check;
    check.inputs = {random_input({m.N, m.H, m.W, m.C}, 1),
                    random_input({m.N, m.H, m.W, 2 * kernel * kernel}, 2, -1.7f, 1.7f),
                    random_input({3, kernel, kernel, m.C}, 3)};
    check.op = [](Tape& tape, const std::vector<Var>& v) {
      return ops::deform_conv2d(tape, v[0], v[1], v[2], Activation::relu);
    };
    check.oracle = [=](const std::vector<Doubles>& v) { return deform_convolve(v[0], m, v[1], v[2], 3, kernel); };
    check.trained_alone = {{0}, {1}, {2}, {0, 1}};
    check.run(context);
  }
}

// The features whose offsets a convolution predicts from the same features: two paths into x.
TEST_P(ConvolutionOps, DeformableOffsetsPredictedFromTheFeatures) {
  const Map m{1, 4, 3, 2};
  GradientCheck check;
  check.inputs = {random_input({m.N, m.H, m.W, m.C}, 5), random_input({18, 1, 1, m.C}, 6),
                  random_input({2, 3, 3, m.C}, 7)};
  check.op = [](Tape& tape, const std::vector<Var>& v) {
    const Var offsets = ops::conv2d(tape, v[0], v[1], Var(), {}, Activation::none);
    return ops::deform_conv2d(tape, v[0], offsets, v[2], Activation::relu);
  };
  check.oracle = [=](const std::vector<Doubles>& v) {
    return deform_convolve(v[0], m, convolve(v[0], m, v[1], 18, 1, 1, {}, {}, Activation::none), v[2], 2, 3);
  };
  check.trained_alone = {{0}, {1}};
  check.run(context);
}

// Samples that are kept and samples that are taken again are the same.
TEST_P(ConvolutionOps, KeptColumnsGiveTheSameBits) {
  const std::vector<Input> inputs{random_input({2, 5, 4, 3}, 1), random_input({2, 5, 4, 18}, 2, -1.7f, 1.7f),
                                  random_input({4, 3, 3, 3}, 3)};
  const auto gradients = [&](bool keep) {
    context.configure({.keep_columns = keep});
    EXPECT_EQ(context.keeps_columns(), keep);
    Leaves leaves(context, inputs, {0, 1, 2});
    Tape tape(context);
    const auto v = leaves.vars();
    const Var y = ops::deform_conv2d(tape, v[0], v[1], v[2], Activation::relu);
    seed_gradient(tape, y, random_input({2, 5, 4, 4}, 4).values);
    tape.backward();
    return std::vector{leaves.gradient(0), leaves.gradient(1), leaves.gradient(2)};
  };
  EXPECT_EQ(gradients(true), gradients(false));
}

// Two convolutions that sample at the same points, which may share what they know of them.
TEST_P(ConvolutionOps, SharedSamplePoints) {
  const std::vector<Input> inputs{random_input({2, 5, 4, 8}, 1), random_input({2, 5, 4, 18}, 2, -1.7f, 1.7f),
                                  random_input({4, 3, 3, 8}, 3), random_input({2, 5, 4, 16}, 4),
                                  random_input({4, 3, 3, 16}, 5)};
  const auto gradients = [&](const ops::SamplePoints& points) {
    Leaves leaves(context, inputs, {0, 1, 2, 3, 4});
    Tape tape(context);
    const auto v = leaves.vars();
    const Var first = ops::deform_conv2d(tape, v[0], v[1], v[2], Activation::relu, points);
    const Var second = ops::deform_conv2d(tape, v[3], v[1], v[4], Activation::relu, points);
    seed_gradient(tape, first, random_input({2, 5, 4, 4}, 6).values);
    seed_gradient(tape, second, random_input({2, 5, 4, 4}, 7).values);
    tape.backward();
    std::vector<std::vector<float>> all;
    for (size_t i = 0; i < 5; ++i) all.push_back(leaves.gradient(i));
    return all;
  };
  EXPECT_EQ(gradients(ops::sample_points()), gradients(nullptr));
}

// Only the map's gradient or only the offsets' is wanted.
TEST_P(ConvolutionOps, OneGradientOfDeformConv2d) {
  const std::vector<Input> inputs{random_input({1, 4, 3, 8}, 1), random_input({1, 4, 3, 18}, 2, -1.7f, 1.7f),
                                  random_input({4, 3, 3, 8}, 3)};
  const auto gradient = [&](const std::vector<size_t>& wanted, size_t of) {
    Leaves leaves(context, inputs, wanted);
    Tape tape(context);
    const auto v = leaves.vars();
    const Var y = ops::deform_conv2d(tape, v[0], v[1], v[2], Activation::relu);
    seed_gradient(tape, y, random_input({1, 4, 3, 4}, 6).values);
    tape.backward();
    return leaves.gradient(of);
  };
  EXPECT_EQ(gradient({0}, 0), gradient({0, 1, 2}, 0));
  EXPECT_EQ(gradient({1}, 1), gradient({0, 1, 2}, 1));
}

TEST_P(ConvolutionOps, DeformConv2dOfAnEmptyBatch) {
  const std::vector<Input> inputs{random_input({0, 3, 3, 2}, 1), random_input({0, 3, 3, 18}, 2),
                                  random_input({4, 3, 3, 2}, 3)};
  Leaves leaves(context, inputs, {0, 1, 2});
  Tape tape(context);
  const Var y = ops::deform_conv2d(tape, leaves.vars()[0], leaves.vars()[1], leaves.vars()[2], Activation::relu);
  seed_gradient(tape, y, {});
  tape.backward();
  EXPECT_EQ(leaves.gradient(2), std::vector<float>(72, 0.0f));
}

}  // namespace
}  // namespace gradlibra
