// SPDX-License-Identifier: MIT
// Equalization loss v2, and the members of the sigmoid family that look a weight up: CUDA against the host.
#include "kernels/losses/eqlv2.h"

#include "kernels/losses/class_balanced.h"
#include "kernels/losses/cross_entropy.h"
#include "kernels/losses/focal.h"
#include "kernels/losses/sigmoid_loss.h"
#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

class EqlV2Cuda : public CudaTest {
 protected:
  struct Rows {
    Floats logits, weights;
    std::vector<int32_t> labels;
  };
  static Rows random_rows(int64_t R, int64_t K, int64_t C, std::mt19937& rng) {
    Rows rows{random_floats(R * K, rng, -12, 12), {}, {}};
    for (int64_t i = 0; i < R; ++i) {
      rows.labels.push_back(static_cast<int32_t>(rng() % static_cast<unsigned>(C + 2)) - 1);
      rows.weights.push_back(static_cast<float>(rng() % 3) / 2);
    }
    return rows;
  }

  Doubles gradients(const Rows& rows, const Floats& class_weights, int64_t C, Doubles& want) {
    const auto R = static_cast<int64_t>(rows.labels.size()), K = static_cast<int64_t>(class_weights.size()) / 2;
    Doubles host_workspace(static_cast<size_t>(eqlv2_gradients_workspace(R, C)));
    want.assign(static_cast<size_t>(2 * C), NAN);
    eqlv2_gradients(cpu, {rows.logits.data(), {R, K}}, {rows.labels.data(), {R}}, {rows.weights.data(), {R}},
                    {class_weights.data(), {2, K}}, {want.data(), {2, C}},
                    {host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}});
    const DeviceArray<float> z({R, K}, rows.logits), w({R}, rows.weights), cw({2, K}, class_weights);
    const DeviceArray<int32_t> l({R}, rows.labels);
    DeviceArray<double> got({2, C}), workspace({eqlv2_gradients_workspace(R, C)});
    eqlv2_gradients(cuda, z.view(), l.view(), w.view(), cw.view(), got.view(), workspace.view());
    return got.to_host();
  }

  // make(pointer) is the member with that memory.
  template <class Make>
  void compare_loss(const Rows& rows, const Floats& table, int64_t K, const Make& make) {
    const auto R = static_cast<int64_t>(rows.labels.size());
    const Doubles norm{3};
    Doubles want_loss(1), host_workspace(static_cast<size_t>(sigmoid_loss_workspace(R, K)));
    Floats want(rows.logits.size());
    sigmoid_loss(cpu, {rows.logits.data(), {R, K}}, {rows.labels.data(), {R}}, {rows.weights.data(), {R}},
                 make(table.data()),
                 {0.7,
                  {norm.data(), {1}},
                  {want_loss.data(), {1}},
                  {want.data(), {R, K}},
                  {host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}}});
    const DeviceArray<float> z({R, K}, rows.logits), w({R}, rows.weights),
        t({static_cast<int64_t>(table.size())}, table);
    const DeviceArray<int32_t> l({R}, rows.labels);
    const DeviceArray<double> n({1}, norm);
    DeviceArray<float> grad({R, K});
    DeviceArray<double> loss({1}), workspace({sigmoid_loss_workspace(R, K)});
    sigmoid_loss(cuda, z.view(), l.view(), w.view(), make(t.view().data()),
                 {0.7, n.view(), loss.view(), grad.view(), workspace.view()});
    expect_near(loss.to_host(), want_loss, 0, 1e-6);
    expect_near(grad.to_host(), want, 1e-30, 3e-6);
  }
  Cpu cpu{2};
};

TEST_F(EqlV2Cuda, GradientsEqualHost) {
  std::mt19937 rng(4);
  for (const auto& [R, C, K] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{0, 3, 3},
                                                                                  {1, 1, 1},
                                                                                  {64, 10, 10},
                                                                                  {65, 10, 11},
                                                                                  {300, 3, 4},
                                                                                  {17000, 2, 2},
                                                                                  {130, 255, 256},
                                                                                  {70, 300, 301}}) {
    Doubles want;
    const Doubles got = gradients(random_rows(R, K, C, rng), random_floats(2 * K, rng, 0.1f, 5), C, want);
    expect_near(got, want, 1e-12, 1e-6);
  }
}

TEST_F(EqlV2Cuda, IgnoredRowsAndNaN) {
  Doubles want;
  EXPECT_EQ(gradients({{kNaN, kInfinity, 1, kNaN}, {0, 1}, {0, -1}}, Floats(4, 1), 2, want), Doubles(4, 0));
  const Doubles got = gradients({{kNaN, 0, -kInfinity, 1}, {1, 1}, {2, 0}}, Floats(4, 1), 2, want);
  expect_near_or_nan(got, want, 0, 1e-6);
  EXPECT_TRUE(std::isnan(got[2]));
}

TEST_F(EqlV2Cuda, WeightsStateAndScoresEqualHost) {
  const int64_t C = 5;
  for (const int64_t K : {C, C + 1}) {
    const Doubles ratios{100, 0, 0.8, 1.1, 3};
    const EqlV2Options options{.gamma = 3, .mu = 0.9, .alpha = 2};
    Floats want(static_cast<size_t>(2 * K));
    eqlv2_weights(cpu, {ratios.data(), {C}}, options, {want.data(), {2, K}});
    const DeviceArray<double> r({C}, ratios);
    DeviceArray<float> weights({2, K});
    eqlv2_weights(cuda, r.view(), options, weights.view());
    expect_near(weights.to_host(), want, 0, 1e-6);
  }
  const DeviceArray<double> gained({2, C}, {1, 2, 0, 4, 5, 6, 7, 8, 9, 0});
  DeviceArray<double> sums({2, C}, Doubles(10, 0.5)), ratios({C}, Doubles(5, 100));
  for (const float ok : {kNaN, 1.0f, kInfinity}) {
    const DeviceArray<float> flag({1}, {ok});
    eqlv2_accumulate(cuda, gained.view(), flag.view(), sums.view(), ratios.view());
    if (std::isnan(ok)) {
      EXPECT_EQ(sums.to_host(), Doubles(10, 0.5));
    }
  }
  EXPECT_EQ(sums.to_host(), (Doubles{1.5, 2.5, 0.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 0.5}));
  EXPECT_NEAR(ratios.to_host()[4], 11, 1e-8);

  std::mt19937 rng(6);
  for (const int64_t R : {0, 1, 300}) {
    const Floats logits = random_floats(R * (C + 1), rng, -20, 20);
    Floats want(static_cast<size_t>(R * C));
    eqlv2_scores(cpu, {logits.data(), {R, C + 1}}, {want.data(), {R, C}});
    const DeviceArray<float> z({R, C + 1}, logits);
    DeviceArray<float> scores({R, C});
    eqlv2_scores(cuda, z.view(), scores.view());
    expect_near(scores.to_host(), want, 1e-37, 1e-6);
  }
}

TEST_F(EqlV2Cuda, MembersThatLookUpAWeightEqualHost) {
  std::mt19937 rng(8);
  for (const auto& [R, K] : std::vector<std::pair<int64_t, int64_t>>{{7, 5}, {65, 3}, {200, 1}, {601, 7}}) {
    Rows rows = random_rows(R, K, K, rng);
    if (R > 200)  // nearly all background of one weight, as in a dense head
      for (size_t i = 0; i < rows.labels.size(); ++i)
        if (i % 50 > 0) rows.labels[i] = static_cast<int32_t>(K), rows.weights[i] = 1;
    const Floats table = random_floats(2 * K + 1, rng, 0.1f, 5);
    compare_loss(rows, table, K, [channels = static_cast<int>(K)](const float* p) { return EqlV2{p, channels}; });
    for (const bool by_row : {true, false}) {
      compare_loss(rows, table, K, [&](const float* p) { return ClassBalanced<CrossEntropy>{{}, p, by_row}; });
      compare_loss(rows, table, K, [&](const float* p) { return ClassBalanced<Focal>{{.gamma = 0.5}, p, by_row}; });
    }
  }
}

}  // namespace
}  // namespace gradlibra::kernels
