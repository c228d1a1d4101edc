// SPDX-License-Identifier: MIT
// Convolution through cuDNN and cuBLASLt on a GPU against the host's plain loops. Skipped where there is no GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/cuda.h"
#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "runtime/device/context.h"
#include "runtime/device/cublaslt_library.h"
#include "tests/kernels/map_values.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using kernels::Activation;
using kernels::ConvShape;
using testing::stored;
using testing::widened;
using Floats = std::vector<float>;

struct Precision {
  const char* name;
  DType maps;
  FloatMath math;
  MatrixProducts products = MatrixProducts::automatic;
  // For the names of tests. NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's
  friend void PrintTo(const Precision& p, std::ostream* out) { *out << p.name; }
};

struct Case {
  const char* what;
  Shape x, weight;
  ConvShape shape;
};

const Case kCases[] = {
    {"one element", {1, 1, 1, 1}, {1, 1, 1, 1}, {}},
    {"odd everything", {2, 5, 7, 3}, {5, 3, 3, 3}, {.padding = 1}},
    {"stem", {2, 31, 29, 3}, {16, 7, 7, 3}, {.stride = 2, .padding = 3}},
    {"1x1", {2, 13, 11, 64}, {32, 1, 1, 64}, {}},
    {"1x1, stride, sizes that it does not divide", {3, 8, 7, 32}, {64, 1, 1, 32}, {.stride = 2}},
    {"3x3", {2, 17, 15, 64}, {64, 3, 3, 64}, {.padding = 1}},
    {"3x3, stride", {2, 16, 17, 32}, {48, 3, 3, 32}, {.stride = 2, .padding = 1}},
    {"dilated", {1, 19, 18, 24}, {16, 3, 3, 24}, {.padding = 2, .dilation = 2}},
    {"18 offsets", {2, 9, 9, 64}, {18, 1, 1, 64}, {}},
    {"product of rows", {1, 1000, 1, 72}, {40, 1, 1, 72}, {}},
    {"product of rows whose numbers 8 does not divide", {3, 7, 5, 27}, {10, 1, 1, 27}, {}},
    {"a weight gradient of many rows", {4, 32, 32, 64}, {18, 1, 1, 64}, {}},
};

const Precision kPrecisions[] = {
    {"fp32", DType::f32, FloatMath::fp32},
    {"tf32", DType::f32, FloatMath::tf32},
    {"bf16", DType::bf16, FloatMath::fp32},
    {"fp32_cudnn", DType::f32, FloatMath::fp32, MatrixProducts::cudnn},
    {"tf32_cudnn", DType::f32, FloatMath::tf32, MatrixProducts::cudnn},
    {"bf16_cudnn", DType::bf16, FloatMath::fp32, MatrixProducts::cudnn},
};

class CudnnConvolutionTest : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    try {
      context = Context::for_device("cuda");
    } catch (const NoGpu&) {
      GTEST_SKIP() << "no CUDA device";
    }
    convolution = make_cudnn_convolution(*context, options());
    ASSERT_NE(convolution, nullptr);
  }
  void TearDown() override { convolution.reset(); }  // before the context whose memory it uses

  static CudnnOptions options() { return {.float_math = GetParam().math, .products = GetParam().products}; }

  Floats random(const Shape& shape) { return testing::random_floats(shape.size(), rng); }
  // What a map of this precision holds of random values.
  Floats random_map(const Shape& shape) {
    const Floats values = random(shape);
    return maps == DType::bf16 ? testing::rounded(values) : values;
  }
  Tensor map(const Floats& values, const Shape& shape) {
    if (maps == DType::bf16) return context->upload<bfloat16>(stored<bfloat16>(values), shape);
    return context->upload<float>(values, shape);
  }
  Tensor unwritten_map(const Shape& shape) { return map(Floats(static_cast<size_t>(shape.size()), NAN), shape); }
  Floats values_of(const Tensor& t) {
    return t.dtype() == DType::bf16 ? widened(context->download<bfloat16>(t)) : context->download<float>(t);
  }

  // `terms` products of values below 1 are summed in another order than on the host, where float error grows as their
  // number. TF32: each factor also loses half a unit or one of its tenth bit, errors of random sign. bfloat16: factors
  // are exact.
  [[nodiscard]] double atol(int64_t terms) const {
    const double n = static_cast<double>(terms), order = 2e-7 * (n + 4);
    return maps == DType::f32 && GetParam().math == FloatMath::tf32 ? order + std::sqrt(n) / 256 : order;
  }
  // bfloat16 results are rounded; the sum already once or twice if bias or residual are added afterwards, or if it is
  // added to a gradient.
  [[nodiscard]] double rounding(int64_t terms) const {
    return maps == DType::bf16 ? 3 * std::sqrt(static_cast<double>(terms)) / 512 : 0;
  }
  void expect_close(const Floats& got, const Floats& want, double tolerance, const char* what) const {
    const double rtol = maps == DType::bf16 ? testing::kBfloat16Step : 0;
    ASSERT_EQ(got.size(), want.size()) << what;
    size_t worst = 0;
    double most = 0;  // deviation as a part of what is allowed
    for (size_t i = 0; i < got.size() && !std::isnan(most); ++i) {
      const double part = std::abs(got[i] - want[i]) / (tolerance + rtol * std::abs(want[i]));
      if (part <= most) continue;
      worst = i;
      most = part;
    }
    if (got.empty()) return;
    EXPECT_TRUE(most <= 1) << what << ", element " << worst << ": got " << got[worst] << ", want " << want[worst]
                           << ", tolerance " << tolerance << ", " << most << " of what is allowed";
  }

  std::unique_ptr<Context> context;
  std::unique_ptr<Convolution> convolution;
  DType maps = GetParam().maps;
  Cpu cpu{0};
  std::mt19937 rng{17};
};
INSTANTIATE_TEST_SUITE_P(Precisions, CudnnConvolutionTest, ::testing::ValuesIn(kPrecisions),
                         [](const auto& precision) { return precision.param.name; });

Shape output_shape(const Case& t) {
  return {t.x[0], kernels::conv_size(t.x[1], t.weight[1], t.shape), kernels::conv_size(t.x[2], t.weight[2], t.shape),
          t.weight[0]};
}

TEST_P(CudnnConvolutionTest, ForwardMatchesHost) {
  for (const Case& t : kCases) {
    SCOPED_TRACE(t.what);
    const Shape y_shape = output_shape(t);
    const int64_t terms = t.weight.size() / t.weight[0];
    const Floats x = random_map(t.x), weight = random_map(t.weight), bias = random_map({t.weight[0]}),
                 residual = random_map(y_shape);
    const Tensor dev_x = map(x, t.x), dev_weight = map(weight, t.weight), dev_residual = map(residual, y_shape);
    const Tensor dev_bias = map(bias, {t.weight[0]});
    for (int choice = 0; choice < 8; ++choice) {
      const bool has_bias = choice & 1, has_residual = choice & 2, relu = choice & 4;
      SCOPED_TRACE(std::string(has_bias ? "bias " : "") + (has_residual ? "residual " : "") + (relu ? "relu" : ""));
      Floats y(static_cast<size_t>(y_shape.size()));
      const View<float> host_y(y.data(), y_shape);
      kernels::conv2d(cpu, {x.data(), t.x}, {weight.data(), t.weight},
                      has_bias ? View<const float>(bias.data(), {t.weight[0]}) : View<const float>(), t.shape, host_y);
      if (has_residual) kernels::copy<float>(cpu, {residual.data(), y_shape}, host_y, Accumulate::add);
      if (relu) kernels::relu<float>(cpu, host_y, host_y);

      Tensor dev_y = unwritten_map(y_shape);
      Convolution::Forward call{.x = dev_x,
                                .weight = dev_weight,
                                .shape = t.shape,
                                .activation = relu ? Activation::relu : Activation::none,
                                .y = dev_y};
      if (has_bias) call.bias = dev_bias;
      if (has_residual) call.residual = dev_residual;
      convolution->forward(call);
      expect_close(values_of(dev_y), y, atol(terms) + rounding(terms), "y");
    }
  }
}

TEST_P(CudnnConvolutionTest, BackwardMatchesHost) {
  for (const Case& t : kCases) {
    const Shape y_shape = output_shape(t), bias_shape{t.weight[0]};
    const int64_t data_terms = t.weight.size() / t.weight[3], weight_terms = y_shape.size() / y_shape[3];
    const Floats x = random_map(t.x), weight = random_map(t.weight), grad_y = random_map(y_shape);
    const Tensor dev_x = map(x, t.x), dev_weight = map(weight, t.weight), dev_grad_y = map(grad_y, y_shape);
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      const bool add = mode == Accumulate::add;
      SCOPED_TRACE(std::string(t.what) + (add ? ", add" : ", overwrite"));
      // What overwrite must not read is NaN on the device.
      Floats grad_x = random_map(t.x), grad_weight = random(t.weight), grad_bias = random(bias_shape);
      Tensor dev_grad_x = add ? map(grad_x, t.x) : unwritten_map(t.x);
      Tensor dev_grad_weight = context->upload<float>(add ? grad_weight : Floats(grad_weight.size(), NAN), t.weight);
      Tensor dev_grad_bias = context->upload<float>(add ? grad_bias : Floats(grad_bias.size(), NAN), bias_shape);

      const View<const float> host_grad_y(grad_y.data(), y_shape);
      kernels::conv2d_backward_data(cpu, host_grad_y, {weight.data(), t.weight}, t.shape, {grad_x.data(), t.x}, mode);
      convolution->backward_data(dev_grad_y, dev_weight, t.shape, dev_grad_x, mode);
      expect_close(values_of(dev_grad_x), grad_x, atol(data_terms) + rounding(data_terms), "grad_x");

      kernels::conv2d_backward_weight(cpu, {x.data(), t.x}, host_grad_y, t.shape, {grad_weight.data(), t.weight}, mode);
      Floats workspace(static_cast<size_t>(kernels::sum_rows_workspace(weight_terms, bias_shape[0])));
      kernels::sum_rows(cpu, host_grad_y, {grad_bias.data(), bias_shape}, mode,
                        {workspace.data(), {static_cast<int64_t>(workspace.size())}});
      convolution->backward_weight(dev_x, dev_grad_y, t.shape, dev_grad_weight.view(), dev_grad_bias.view(), mode);
      if (!add && maps == DType::bf16) {  // the gradient may also be stored as the maps are
        Tensor stored_gradient = unwritten_map(t.weight);
        convolution->backward_weight(dev_x, dev_grad_y, t.shape, stored_gradient, {}, mode);
        expect_close(values_of(stored_gradient), grad_weight, atol(weight_terms) + rounding(weight_terms), "stored");
      }
      expect_close(values_of(dev_grad_weight), grad_weight, atol(weight_terms) + rounding(weight_terms), "grad_weight");
      expect_close(values_of(dev_grad_bias), grad_bias, 2e-7 * static_cast<double>(weight_terms + 4), "grad_bias");
    }
  }
}

// Everything that one convolution does in a step, into tensors that the caller keeps.
struct Step {
  Tensor x, weight, bias, y, grad_x, grad_weight, grad_bias;
  ConvShape shape;

  void run(Convolution& convolution) {
    convolution.forward(
        {.x = x, .weight = weight, .bias = bias, .shape = shape, .activation = Activation::relu, .y = y});
    convolution.backward_data(y, weight, shape, grad_x, Accumulate::add);
    convolution.backward_weight(x, y, shape, grad_weight.view(), grad_bias.view(), Accumulate::add);
  }
};

class CudnnStep : public CudnnConvolutionTest {
 protected:
  Step make_step() {
    Case t{"", {4, 28, 28, 64}, {128, 3, 3, 64}, {.padding = 1}};
    if (GetParam().products == MatrixProducts::automatic) t = {"", {4, 28, 28, 64}, {128, 1, 1, 64}, {}};  // cuBLASLt's
    const Shape y_shape = output_shape(t), bias_shape{128};
    return {.x = map(random_map(t.x), t.x),
            .weight = map(random_map(t.weight), t.weight),
            .bias = map(random_map(bias_shape), bias_shape),
            .y = unwritten_map(y_shape),
            .grad_x = map(random_map(t.x), t.x),
            .grad_weight = context->upload<float>(random(t.weight), t.weight),
            .grad_bias = context->upload<float>(random(bias_shape), bias_shape),
            .shape = t.shape};
  }
  std::vector<Floats> results(const Step& s) {
    return {values_of(s.y), values_of(s.grad_x), values_of(s.grad_weight), values_of(s.grad_bias)};
  }
  Step same_step() {
    rng.seed(23);
    return make_step();
  }
};
INSTANTIATE_TEST_SUITE_P(Precisions, CudnnStep, ::testing::ValuesIn(kPrecisions),
                         [](const auto& precision) { return precision.param.name; });

TEST_P(CudnnStep, SameBitsEveryTime) {
  Step first = same_step();
  first.run(*convolution);
  const std::vector<Floats> expected = results(first);
  for (int run = 0; run < 5; ++run) {
    Step again = same_step();
    again.run(*convolution);
    EXPECT_EQ(results(again), expected);
  }
  const auto another = make_cudnn_convolution(*context, options());
  Step again = same_step();
  again.run(*another);
  EXPECT_EQ(results(again), expected);
}

// A graph can only be recorded of work that neither allocates device memory nor waits: cudaMalloc or a synchronisation
// would make the recording invalid.
TEST_P(CudnnStep, RecordsInACudaGraph) {
  cudaStream_t stream = nullptr;
  context->run([&](auto& device) {
    if constexpr (std::is_same_v<std::decay_t<decltype(device)>, Cuda>) stream = device.stream();
  });
  Step eager = same_step();
  eager.run(*convolution);  // makes the plans, fills the memory pool
  const std::vector<Floats> expected = results(eager);

  Step recorded = same_step();
  context->synchronize();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  recorded.run(*convolution);
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&replay, graph, 0));
  check(cudaGraphLaunch(replay, stream));
  EXPECT_EQ(results(recorded), expected);
  check(cudaGraphExecDestroy(replay));
  check(cudaGraphDestroy(graph));
}

// Whichever plans win, they compute the same sums.
TEST_P(CudnnStep, TimedPlansAgreeWithTheHeuristics) {
  Step plain = same_step(), timed = same_step();
  plain.run(*convolution);
  CudnnOptions timed_options = options();
  timed_options.tuning = ConvTuning::timed;
  const auto tuned = make_cudnn_convolution(*context, timed_options);
  tuned->forward({.x = timed.x,
                  .weight = timed.weight,
                  .bias = timed.bias,
                  .shape = timed.shape,
                  .activation = Activation::relu,
                  .y = timed.y});
  expect_close(values_of(timed.y), values_of(plain.y), atol(576) + rounding(576), "y");
}

// What is there counts once, also at the first call, which tries several plans.
TEST_P(CudnnConvolutionTest, DataGradientsAreAddedOnce) {
  CudnnOptions timed_options = options();
  timed_options.tuning = ConvTuning::timed;
  const auto tuned = make_cudnn_convolution(*context, timed_options);
  for (const Case& t : kCases) {
    SCOPED_TRACE(t.what);
    const Shape y_shape = output_shape(t);
    const int64_t terms = t.weight.size() / t.weight[3];
    const Floats weight = random_map(t.weight), grad_y = random_map(y_shape);
    Floats grad_x = random_map(t.x);
    const Tensor dev_weight = map(weight, t.weight), dev_grad_y = map(grad_y, y_shape);
    Tensor dev_grad_x = map(grad_x, t.x);
    for (const char* call : {"first call", "second call"}) {
      kernels::conv2d_backward_data(cpu, {grad_y.data(), y_shape}, {weight.data(), t.weight}, t.shape,
                                    {grad_x.data(), t.x}, Accumulate::add);
      tuned->backward_data(dev_grad_y, dev_weight, t.shape, dev_grad_x, Accumulate::add);
      expect_close(values_of(dev_grad_x), grad_x, 2 * (atol(terms) + rounding(terms)), call);
    }
  }
  std::string why;
  EXPECT_EQ(tuned->timed_products().empty(), GetParam().products == MatrixProducts::cudnn || cublaslt(why) == nullptr);
}

TEST_P(CudnnConvolutionTest, NoImages) {
  const Tensor x = unwritten_map({0, 5, 5, 4}), weight = unwritten_map({2, 3, 3, 4}),
               grad_y = unwritten_map({0, 5, 5, 2});
  Tensor y = unwritten_map({0, 5, 5, 2}), grad_x = unwritten_map({0, 5, 5, 4});
  Tensor grad_weight = context->upload<float>(Floats(72, 3.0f), {2, 3, 3, 4});
  Tensor grad_bias = context->upload<float>(Floats(2, 3.0f), {2});
  const ConvShape same{.padding = 1};
  convolution->forward({.x = x, .weight = weight, .shape = same, .y = y});
  convolution->backward_data(grad_y, weight, same, grad_x, Accumulate::overwrite);
  convolution->backward_weight(x, grad_y, same, grad_weight.view(), grad_bias.view(), Accumulate::add);
  EXPECT_EQ(values_of(grad_weight), Floats(72, 3.0f));
  convolution->backward_weight(x, grad_y, same, grad_weight.view(), grad_bias.view(), Accumulate::overwrite);
  EXPECT_EQ(values_of(grad_weight), Floats(72, 0.0f));
  EXPECT_EQ(values_of(grad_bias), Floats(2, 0.0f));
}

TEST_P(CudnnConvolutionTest, ReluKeepsNaN) {
  const Shape shape{1, 4, 4, 16}, weight_shape{16, 1, 1, 16};
  const Tensor x = unwritten_map(shape), weight = map(Floats(256, 1.0f), weight_shape);
  Tensor y = map(Floats(256, 1.0f), shape);
  convolution->forward({.x = x, .weight = weight, .activation = Activation::relu, .y = y});
  for (const float v : values_of(y)) ASSERT_TRUE(std::isnan(v));
}

TEST_P(CudnnConvolutionTest, ShapesAndTypesAreCheckedBeforeAnythingRuns) {
  const Tensor x = unwritten_map({1, 4, 4, 3}), weight = unwritten_map({2, 3, 3, 5});
  Tensor y = unwritten_map({1, 2, 2, 2});
  EXPECT_THROW(convolution->forward({.x = x, .weight = weight, .y = y}), std::invalid_argument);
  const Tensor fits = unwritten_map({2, 3, 3, 3});
  Tensor other = context->empty({1, 2, 2, 2}, maps == DType::f32 ? DType::bf16 : DType::f32);
  EXPECT_THROW(convolution->forward({.x = x, .weight = fits, .y = other}), std::invalid_argument);
}

TEST(CudnnOnTheHost, ThereIsNone) {
  Context context(1);
  EXPECT_EQ(make_cudnn_convolution(context, {}), nullptr);
}

}  // namespace
}  // namespace gradlibra
