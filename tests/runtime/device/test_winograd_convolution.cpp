// SPDX-License-Identifier: MIT
// Convolutions large enough for Winograd's algorithm, against the plain loops. Where the library has no Winograd (no
// oneDNN, no AVX-512) its direct convolutions take the same tests, but for the one that tells them apart.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "runtime/device/context.h"
#include "tests/support.h"

namespace gradlibra {
namespace {

using Floats = std::vector<float>;
using kernels::Activation;

struct Sizes {
  int64_t N, H, W, C, K;
  [[nodiscard]] Shape x() const { return {N, H, W, C}; }
  [[nodiscard]] Shape weight() const { return {K, 3, 3, C}; }
  [[nodiscard]] Shape y() const { return {N, H, W, K}; }
};
constexpr kernels::ConvShape kSame{.stride = 1, .padding = 1};

struct Values {
  Floats x, weight, bias, residual, grad_y;
};

Values random_values(const Sizes& s, std::mt19937& rng) {
  const auto random = [&](const Shape& of) { return testing::random_floats(of.size(), rng); };
  return {random(s.x()), random(s.weight()), random({s.K}), random(s.y()), random(s.y())};
}

struct Results {
  Floats y, grad_x, grad_weight, grad_bias;
};

enum class With { nothing, bias_and_relu, all };

Floats forward(Context& context, const Sizes& s, const Values& v) {
  const Tensor x = context.upload<float>(v.x, s.x()), weight = context.upload<float>(v.weight, s.weight()),
               bias = context.upload<float>(v.bias, {s.K});
  Tensor y = context.zeros(s.y());
  context.convolution().weight_changed(weight.data());  // another one lay there before
  context.convolution().forward(
      {.x = x, .weight = weight, .bias = bias.view(), .shape = kSame, .activation = Activation::relu, .y = y});
  return context.download<float>(y);
}

Results compute(Context& context, const Sizes& s, const Values& v, With with, Accumulate mode) {
  const Tensor x = context.upload<float>(v.x, s.x()), weight = context.upload<float>(v.weight, s.weight()),
               bias = context.upload<float>(v.bias, {s.K}), residual = context.upload<float>(v.residual, s.y()),
               grad_y = context.upload<float>(v.grad_y, s.y());
  Tensor y = context.zeros(s.y()), grad_x = context.upload<float>(v.x, s.x()),
         grad_weight = context.upload<float>(v.weight, s.weight()), grad_bias = context.upload<float>(v.bias, {s.K});
  Convolution& library = context.convolution();
  library.weight_changed(weight.data());  // another one lay there before
  Convolution::Forward call{.x = x, .weight = weight, .shape = kSame, .y = y};
  if (with != With::nothing) {
    call.bias = bias.view();
    call.activation = Activation::relu;
  }
  if (with == With::all) call.residual = residual;
  library.forward(call);
  library.backward_data(grad_y, weight, kSame, grad_x, mode);
  library.backward_weight(x, grad_y, kSame, grad_weight.view(),
                          with == With::nothing ? View<float>() : grad_bias.view(), mode);
  return {context.download<float>(y), context.download<float>(grad_x), context.download<float>(grad_weight),
          context.download<float>(grad_bias)};
}

// Sums of n products of values in [-1, 1): their size is about sqrt(n) / 3, roundings go with it.
double tolerance(int64_t products) { return 4e-6 * std::sqrt(static_cast<double>(products)); }

void expect_as_plain(Context& context, const Sizes& s, With with, Accumulate mode, std::mt19937& rng) {
  SCOPED_TRACE(std::to_string(s.N) + " x " + std::to_string(s.H) + " x " + std::to_string(s.W) + ", " +
               std::to_string(s.C) + " to " + std::to_string(s.K) + " channels");
  Context plain(1, ConvolutionLibrary::plain);
  const Values values = random_values(s, rng);
  const Results got = compute(context, s, values, with, mode), want = compute(plain, s, values, with, mode);
  testing::expect_near("y", got.y, want.y, tolerance(9 * s.C));
  testing::expect_near("grad_x", got.grad_x, want.grad_x, tolerance(9 * s.K));
  const double over_cells = 2 * tolerance(s.N * s.H * s.W);  // the plain loops add thousands one after the other
  testing::expect_near("grad_weight", got.grad_weight, want.grad_weight, over_cells);
  testing::expect_near("grad_bias", got.grad_bias, want.grad_bias, over_cells);
}

class WinogradConvolutions : public ::testing::TestWithParam<int> {
 protected:
  Context context{GetParam()};
  std::mt19937 rng{11};
};
INSTANTIATE_TEST_SUITE_P(Threads, WinogradConvolutions, ::testing::Values(1, 2, 3));

TEST_P(WinogradConvolutions, AsThePlainLoops) {
  expect_as_plain(context, {2, 20, 20, 32, 32}, With::nothing, Accumulate::overwrite, rng);
  expect_as_plain(context, {1, 17, 33, 64, 48}, With::bias_and_relu, Accumulate::add, rng);
  expect_as_plain(context, {3, 18, 19, 32, 80}, With::all, Accumulate::overwrite, rng);
  expect_as_plain(context, {8, 8, 8, 64, 64}, With::all, Accumulate::add, rng);     // the gradients alone
  expect_as_plain(context, {12, 22, 22, 32, 48}, With::all, Accumulate::add, rng);  // in parts of the batch
  expect_as_plain(context, {12, 22, 22, 32, 48}, With::all, Accumulate::overwrite, rng);
  expect_as_plain(context, {7, 12, 12, 48, 32}, With::all, Accumulate::overwrite, rng);     // which 7 has not
  expect_as_plain(context, {40, 1, 3, 32, 32}, With::bias_and_relu, Accumulate::add, rng);  // tiles mostly outside
}

// At both sides of what is taken: too few tiles, too few channels, channels that do not fill a block.
TEST_P(WinogradConvolutions, SmallOrUnevenOnesAsThePlainLoops) {
  expect_as_plain(context, {1, 12, 20, 32, 32}, With::all, Accumulate::add, rng);
  expect_as_plain(context, {2, 16, 16, 16, 32}, With::all, Accumulate::add, rng);
  expect_as_plain(context, {2, 16, 16, 32, 16}, With::all, Accumulate::add, rng);
  expect_as_plain(context, {2, 16, 16, 40, 32}, With::all, Accumulate::add, rng);
  expect_as_plain(context, {2, 16, 16, 32, 33}, With::all, Accumulate::add, rng);
}

TEST_P(WinogradConvolutions, RandomSizes) {
  const auto draw = [&](int64_t lo, int64_t hi) { return lo + static_cast<int64_t>(rng() % uint32_t(hi - lo + 1)); };
  for (int round = 0; round < 6; ++round) {
    const Sizes sizes{draw(1, 5), draw(9, 44), draw(9, 44), 16 * draw(2, 5), 16 * draw(2, 5)};
    const auto with = static_cast<With>(draw(0, 2));
    const auto mode = draw(0, 1) == 0 ? Accumulate::overwrite : Accumulate::add;
    expect_as_plain(context, sizes, with, mode, rng);
  }
}

// What a detector says of an image must not depend on the images beside it, of which the last batch has fewer. With
// many channels a sum is divided, and how follows from the batch if one lets it.
TEST_P(WinogradConvolutions, AnImageHasTheSameBitsInEveryBatch) {
  for (const Sizes& all : {Sizes{5, 16, 20, 64, 32}, Sizes{3, 33, 17, 32, 64}, Sizes{8, 12, 12, 32, 32},
                           Sizes{4, 32, 32, 256, 256}, Sizes{5, 24, 24, 256, 32}, Sizes{6, 16, 16, 512, 32}}) {
    const Values values = random_values(all, rng);
    const Floats together = forward(context, all, values);
    Sizes one = all;
    one.N = 1;
    Floats apart;
    for (int64_t n = 0; n < all.N; ++n) {
      const auto part = [&](const Floats& of) {
        const int64_t size = static_cast<int64_t>(of.size()) / all.N;
        return Floats(of.begin() + n * size, of.begin() + (n + 1) * size);
      };
      const Floats y = forward(context, one, {part(values.x), values.weight, values.bias, {}, {}});
      apart.insert(apart.end(), y.begin(), y.end());
    }
    testing::expect_same(together, apart);
  }
}

// Sums of small whole numbers are exact, but not where Winograd's transforms have multiplied them by fractions.
TEST_P(WinogradConvolutions, IsTakenWhereItPays) {
#if defined(__x86_64__)
  const bool has_avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                          __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
#else
  const bool has_avx512 = false;
#endif
  const bool is_held_back = std::getenv("DNNL_MAX_CPU_ISA") != nullptr || std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr;
  if (!has_avx512 || is_held_back || context.device_name().find("oneDNN") == std::string::npos)
    GTEST_SKIP() << "no Winograd on this machine: " << context.device_name();
  Context plain(1, ConvolutionLibrary::plain);
  const auto exact = [&](const Sizes& s) {
    Values values = random_values(s, rng);
    for (Floats* floats : {&values.x, &values.weight, &values.bias, &values.residual, &values.grad_y})
      for (float& v : *floats) v = std::round(8 * v);
    const Results got = compute(context, s, values, With::all, Accumulate::add),
                  want = compute(plain, s, values, With::all, Accumulate::add);
    return std::vector<bool>{got.y == want.y, got.grad_x == want.grad_x, got.grad_weight == want.grad_weight};
  };
  EXPECT_EQ(exact({4, 20, 20, 64, 64}), (std::vector<bool>{false, false, false}));
  EXPECT_EQ(exact({8, 8, 8, 64, 64}), (std::vector<bool>{true, false, false}));
  EXPECT_EQ(exact({1, 8, 8, 64, 64}), (std::vector<bool>{true, true, true}));
  EXPECT_EQ(exact({4, 20, 20, 16, 64}), (std::vector<bool>{true, true, true}));
}

TEST_P(WinogradConvolutions, RepeatsItsBits) {
  const Sizes sizes{8, 27, 22, 48, 64};
  const Values values = random_values(sizes, rng);
  const Results first = compute(context, sizes, values, With::all, Accumulate::add),
                second = compute(context, sizes, values, With::all, Accumulate::add);
  EXPECT_EQ(first.y, second.y);
  EXPECT_EQ(first.grad_x, second.grad_x);
  EXPECT_EQ(first.grad_weight, second.grad_weight);
  EXPECT_EQ(first.grad_bias, second.grad_bias);
}

}  // namespace
}  // namespace gradlibra
