// SPDX-License-Identifier: MIT
// The modulated deformable convolution through every library: the worked example, sums in double precision and their
// differences.
#include <cmath>

#include "tests/kernels/map_values.h"
#include "tests/kernels/vectors.h"
#include "tests/messages.h"
#include "tests/runtime/autograd/gradient_check.h"

namespace gradlibra {
namespace {

using ops::Activation;
using testing::Doubles;
using testing::GradientCheck;
using testing::Input;
using testing::Leaves;
using testing::random_input;
using testing::seed_gradient;

class ModulatedConvolution : public ::testing::TestWithParam<ConvolutionLibrary> {
 protected:
  Context context{1, GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Libraries, ModulatedConvolution, ::testing::ValuesIn(testing::convolution_libraries()),
                         [](const auto& library) {
                           return library.param == ConvolutionLibrary::best ? "Best" : "Plain";
                         });

// arXiv:1811.11168, eq. 1. A sample is the sum over all pixels of their hat functions there, 0 outside the map.
struct Oracle {
  Shape x_shape;
  int64_t outputs, kernel;
  Activation activation;

  Doubles operator()(const Doubles& x, const Doubles& prediction, const Doubles& weight, const Doubles& bias) const {
    const int64_t N = x_shape[0], H = x_shape[1], W = x_shape[2], C = x_shape[3], taps = kernel * kernel;
    const auto at = [](const Doubles& v, int64_t i) { return v[static_cast<size_t>(i)]; };
    Doubles y;
    for (int64_t cell = 0; cell < N * H * W; ++cell)
      for (int64_t o = 0; o < outputs; ++o) {
        double sum = bias.empty() ? 0 : at(bias, o);
        for (int64_t t = 0; t < taps; ++t) {
          const int64_t row = cell / W % H, column = cell % W, image = cell / (H * W);
          const double py =
              static_cast<double>(row - kernel / 2 + t / kernel) + at(prediction, cell * 3 * taps + 2 * t);
          const double px =
              static_cast<double>(column - kernel / 2 + t % kernel) + at(prediction, cell * 3 * taps + 2 * t + 1);
          const double mask = 1 / (1 + std::exp(-at(prediction, cell * 3 * taps + 2 * taps + t)));
          for (int64_t i = 0; i < H; ++i)
            for (int64_t j = 0; j < W; ++j) {
              const double weigh = std::max(0.0, 1 - std::abs(py - static_cast<double>(i))) *
                                   std::max(0.0, 1 - std::abs(px - static_cast<double>(j)));
              if (weigh == 0) continue;
              for (int64_t c = 0; c < C; ++c)
                sum += mask * weigh * at(weight, (o * taps + t) * C + c) * at(x, ((image * H + i) * W + j) * C + c);
            }
        }
        y.push_back(activation == Activation::relu ? std::max(sum, 0.0) : sum);
      }
    return y;
  }
};

TEST_P(ModulatedConvolution, WorkedExample) {
  const nlohmann::json example = testing::read_vectors("deform")["modulated_deform_conv"];
  const auto filled = [&](const char* key, int64_t images, int64_t channels, int64_t cells) {
    const nlohmann::json& in = example["inputs"][key];  // images, channels, cells to images, cells, channels
    const std::vector<float> v = testing::filler(in[0], images * channels * cells, in[2], in[3]);
    std::vector<float> turned(v.size());
    for (int64_t n = 0; n < images; ++n)
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = 0; i < cells; ++i)
          turned[static_cast<size_t>((n * cells + i) * channels + c)] =
              v[static_cast<size_t>((n * channels + c) * cells + i)];
    return turned;
  };
  Leaves leaves(context,
                {{{1, 3, 3, 2}, filled("x", 1, 2, 9)},
                 {{1, 3, 3, 27}, filled("conv_offset_out", 1, 27, 9)},
                 {{1, 3, 3, 2}, filled("weight", 1, 2, 9)},
                 {{1}, testing::flatten<float>(example["inputs"]["bias"])}},
                {});
  Tape tape(context, Tape::Mode::inference);
  const auto v = leaves.vars();
  const Var y = ops::modulated_deform_conv2d(tape, v[0], v[1], v[2], v[3], Activation::none);
  const double tol = example["tol"];
  testing::expect_near(context.download<float>(y.node().value), testing::flatten(example["expected"]["y"]), tol);
}

TEST_P(ModulatedConvolution, Gradients) {
  for (const int64_t kernel : {1, 3})
    for (const bool with_bias : {false, true}) {
      const Shape x{2, 3, 4, 2};
      const Activation activation = with_bias ? Activation::none : Activation::relu;
      const Oracle oracle{x, 3, kernel, activation};
      GradientCheck check;
      check.inputs = {random_input(x, 1), random_input({2, 3, 4, 3 * kernel * kernel}, 2, -1.7f, 1.7f),
                      random_input({3, kernel, kernel, 2}, 3)};
      if (with_bias) check.inputs.push_back(random_input({3}, 4));
      check.op = [=](Tape& tape, const std::vector<Var>& v) {
        return ops::modulated_deform_conv2d(tape, v[0], v[1], v[2], with_bias ? v[3] : Var(), activation);
      };
      check.oracle = [=](const std::vector<Doubles>& v) {
        return oracle(v[0], v[1], v[2], with_bias ? v[3] : Doubles());
      };
      check.trained_alone = {{0}, {1}, {2}, {0, 1}};
      check.run(context);
    }
}

// As the layer has it: the prediction comes from the same map.
TEST_P(ModulatedConvolution, PredictedFromTheFeatures) {
  const Shape x{1, 4, 3, 2};
  const Oracle oracle{x, 2, 3, Activation::relu};
  GradientCheck check;
  check.inputs = {random_input(x, 5), random_input({27, 1, 1, 2}, 6), random_input({2, 3, 3, 2}, 7),
                  random_input({2}, 8)};
  check.op = [](Tape& tape, const std::vector<Var>& v) {
    const Var prediction = ops::conv2d(tape, v[0], v[1], Var(), {}, Activation::none);
    return ops::modulated_deform_conv2d(tape, v[0], prediction, v[2], v[3], Activation::relu);
  };
  check.oracle = [=](const std::vector<Doubles>& v) {
    Doubles prediction;
    for (size_t cell = 0; cell < 12; ++cell)
      for (size_t k = 0; k < 27; ++k)
        prediction.push_back(v[0][2 * cell] * v[1][2 * k] + v[0][2 * cell + 1] * v[1][2 * k + 1]);
    return oracle(v[0], prediction, v[2], v[3]);
  };
  check.trained_alone = {{0}, {1}, {2, 3}};
  check.run(context);
}

// At the start of the layer: offsets 0 and masks of 1/2.
TEST_P(ModulatedConvolution, StartsAsHalfAPlainConvolution) {
  Leaves leaves(context,
                {random_input({2, 5, 4, 8}, 1),
                 {{2, 5, 4, 27}, std::vector<float>(2 * 5 * 4 * 27, 0.0f)},
                 random_input({6, 3, 3, 8}, 2)},
                {});
  Tape tape(context, Tape::Mode::inference);
  const auto v = leaves.vars();
  const Var y = ops::modulated_deform_conv2d(tape, v[0], v[1], v[2], Var(), Activation::none);
  std::vector<float> want =
      context.download<float>(ops::conv2d(tape, v[0], v[2], Var(), {.padding = 1}, Activation::none).node().value);
  for (float& w : want) w *= 0.5f;
  testing::expect_near(context.download<float>(y.node().value), want, 2e-6, 1e-6);
}

// Samples that are kept and samples that are taken again are the same.
TEST_P(ModulatedConvolution, KeptColumnsGiveTheSameBits) {
  const std::vector<Input> inputs{random_input({2, 5, 4, 3}, 1), random_input({2, 5, 4, 27}, 2, -1.7f, 1.7f),
                                  random_input({4, 3, 3, 3}, 3), random_input({4}, 4)};
  const auto results = [&](bool keep) {
    context.configure({.keep_columns = keep});
    Leaves leaves(context, inputs, {0, 1, 2, 3});
    Tape tape(context);
    const auto v = leaves.vars();
    const Var y = ops::modulated_deform_conv2d(tape, v[0], v[1], v[2], v[3], Activation::relu);
    std::vector<std::vector<float>> all{context.download<float>(y.node().value)};
    seed_gradient(tape, y, random_input({2, 5, 4, 4}, 5).values);
    tape.backward();
    for (size_t i = 0; i < 4; ++i) all.push_back(leaves.gradient(i));
    return all;
  };
  EXPECT_EQ(results(true), results(false));
}

// Maps in bfloat16: what float gives on the rounded values, but for the columns, which are rounded.
TEST_P(ModulatedConvolution, BFloat16FollowsFloat) {
  const std::vector<float> x = testing::rounded(random_input({2, 5, 4, 8}, 1).values),
                           prediction = testing::rounded(random_input({2, 5, 4, 27}, 2, -1.7f, 1.7f).values),
                           seed = testing::rounded(random_input({2, 5, 4, 6}, 3).values),
                           weight = testing::rounded(random_input({6, 3, 3, 8}, 4).values),
                           bias = testing::rounded(random_input({6}, 5).values);
  const auto run = [&]<class T>(T) {
    const auto map = [&](const std::vector<float>& v, Shape shape) {
      return context.upload<T>(testing::stored<T>(v), shape);
    };
    const auto floats = [&](const Tensor& t) { return testing::widened(context.download<T>(t)); };
    Leaves leaves(context, {{{6, 3, 3, 8}, weight}, {{6}, bias}}, {0, 1});
    Node features, predicted;
    features.value = map(x, {2, 5, 4, 8});
    predicted.value = map(prediction, {2, 5, 4, 27});
    features.requires_grad = predicted.requires_grad = true;
    Tape tape(context);
    const Var y = ops::modulated_deform_conv2d(tape, Var(&features), Var(&predicted), leaves.vars()[0],
                                               leaves.vars()[1], Activation::relu);
    EXPECT_EQ(y.dtype(), features.value.dtype());
    std::vector<std::vector<float>> all{floats(y.node().value)};
    y.node().grad = map(seed, y.shape());
    y.node().grad_written = true;
    tape.backward();
    for (const Tensor* grad : {&features.grad, &predicted.grad}) all.push_back(floats(*grad));
    for (const size_t i : {0u, 1u}) all.push_back(leaves.gradient(i));
    return all;
  };
  const auto got = run(bfloat16{}), want = run(0.0f);
  for (size_t i = 0; i < want.size(); ++i) {
    SCOPED_TRACE(i);
    double largest = 0;
    for (const float v : want[i]) largest = std::max(largest, std::abs(double{v}));
    testing::expect_near(got[i], want[i], largest / 64, 1.0 / 64);
  }
}

TEST_P(ModulatedConvolution, NothingIsComputedForShapes) {
  Tape tape(context, Tape::Mode::shapes);
  const Var x = tape.make({2, 5, 4, 8}, false), prediction = tape.make({2, 5, 4, 27}, false),
            weight = tape.make({6, 3, 3, 8}, false);
  const Var y = ops::modulated_deform_conv2d(tape, x, prediction, weight, Var(), Activation::relu);
  EXPECT_EQ(y.shape(), (Shape{2, 5, 4, 6}));
}

TEST_P(ModulatedConvolution, EmptyBatchAndWrongShapes) {
  const std::vector<Input> inputs{random_input({0, 3, 3, 2}, 1), random_input({0, 3, 3, 27}, 2),
                                  random_input({4, 3, 3, 2}, 3), random_input({4}, 4), random_input({0, 3, 3, 18}, 5)};
  Leaves leaves(context, inputs, {0, 1, 2, 3});
  const auto v = leaves.vars();
  Tape tape(context);
  const Var y = ops::modulated_deform_conv2d(tape, v[0], v[1], v[2], v[3], Activation::relu);
  seed_gradient(tape, y, {});
  tape.backward();
  EXPECT_EQ(leaves.gradient(2), std::vector<float>(72, 0.0f));
  EXPECT_EQ(leaves.gradient(3), std::vector<float>(4, 0.0f));
  EXPECT_EQ(message_of<std::invalid_argument>(
                [&] { (void)ops::modulated_deform_conv2d(tape, v[0], v[4], v[2], v[3], Activation::relu); }),
            "modulated_deform_conv2d: prediction has shape (0, 3, 3, 18), expected (0, 3, 3, 27)");
}

}  // namespace
}  // namespace gradlibra
