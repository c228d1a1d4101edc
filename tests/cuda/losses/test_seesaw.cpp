// SPDX-License-Identifier: MIT
// Seesaw loss: CUDA against the host.
#include "kernels/losses/seesaw.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/losses/softmax_losses.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class SeesawCuda : public CudaTest {
 protected:
  // Runs both on the same input and compares; returns the device's.
  SoftmaxResult compare(const Floats& logits, const Labels& labels, const Floats& weights, const Doubles& counts) {
    const auto R = static_cast<int64_t>(labels.size()), C = static_cast<int64_t>(counts.size());
    const SeesawOptions options{.p = 0.7, .q = 1.5, .eps = 0.02};
    const Doubles norm{3}, gained(counts.size(), 2);
    Doubles want_loss(1), host_workspace(static_cast<size_t>(seesaw_loss_workspace(R)));
    Floats want(logits.size());
    Cpu cpu(2);
    seesaw_loss(cpu, {logits.data(), {R, C + 1}}, {labels.data(), {R}}, {weights.data(), {R}}, {counts.data(), {C}},
                {gained.data(), {C}}, options,
                {0.7,
                 {norm.data(), {1}},
                 {want_loss.data(), {1}},
                 {want.data(), {R, C + 1}},
                 {host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}}});
    const DeviceArray<float> z({R, C + 1}, logits), w({R}, weights);
    const DeviceArray<int32_t> l({R}, labels);
    const DeviceArray<double> n({1}, norm), before({C}, counts), more({C}, gained);
    DeviceArray<float> grad({R, C + 1});
    DeviceArray<double> loss({1}), workspace({seesaw_loss_workspace(R)});
    seesaw_loss(cuda, z.view(), l.view(), w.view(), before.view(), more.view(), options,
                {0.7, n.view(), loss.view(), grad.view(), workspace.view()});
    expect_near_or_nan(loss.to_host(), want_loss, 0, 1e-6);
    expect_near_or_nan(grad.to_host(), want, 1e-30, 3e-6);
    return {loss.to_host()[0], grad.to_host()};
  }
};

TEST_F(SeesawCuda, EqualsHost) {
  std::mt19937 rng(1);
  for (const auto& [R, C] : std::vector<std::pair<int64_t, int64_t>>{{0, 2}, {1, 1}, {65, 3}, {700, 10}, {33, 80}}) {
    Labels labels;
    Floats weights;
    Doubles counts;
    for (int64_t i = 0; i < R; ++i) {
      labels.push_back(static_cast<int32_t>(rng() % static_cast<unsigned>(C + 2)) - 1);
      weights.push_back(static_cast<float>(rng() % 3) / 2);
    }
    for (int64_t c = 0; c < C; ++c) counts.push_back(static_cast<double>(rng() % 1000));
    compare(random_floats(R * (C + 1), rng, -15, 15), labels, weights, counts);
  }
}

TEST_F(SeesawCuda, EdgesEqualHost) {
  EXPECT_TRUE(std::isfinite(compare({kNaN, kInfinity, 0, 1, 2, kNaN}, {2, 0}, {1, 0}, {1, 1}).loss));
  EXPECT_TRUE(std::isnan(compare({kNaN, 0, 0, 1, 2, 0}, {0, 1}, {1, 1}, {1, 1}).loss));
  EXPECT_GT(compare({-1e4f, 1e4f, -1e4f, -88, 88, 3e38f}, {0, 2}, {1, 1}, {5, 1}).loss, 1e30);
}

TEST_F(SeesawCuda, ScoresEqualHost) {
  std::mt19937 rng(2);
  Cpu cpu(2);
  for (const auto& [R, C] : std::vector<std::pair<int64_t, int64_t>>{{0, 2}, {1, 1}, {300, 10}}) {
    const Floats logits = random_floats(R * (C + 1), rng, -30, 30);
    Floats want(static_cast<size_t>(R * C));
    seesaw_scores(cpu, {logits.data(), {R, C + 1}}, {want.data(), {R, C}});
    const DeviceArray<float> z({R, C + 1}, logits);
    DeviceArray<float> scores({R, C});
    seesaw_scores(cuda, z.view(), scores.view());
    expect_near(scores.to_host(), want, 1e-37, 1e-6);
  }
}

}  // namespace
}  // namespace gradlibra::kernels
