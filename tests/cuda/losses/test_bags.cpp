// SPDX-License-Identifier: MIT
// Balanced group softmax: CUDA against the host.
#include "kernels/losses/bags.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/losses/softmax_losses.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class BagsCuda : public CudaTest {
 protected:
  struct Layouts {
    explicit Layouts(const BagsTables& t)
        : group_of({t.C()}, t.group_of), channel_of({t.C()}, t.channel_of), first({t.G() + 2}, t.first) {}
    [[nodiscard]] BagsLayout device() const { return {group_of.view(), channel_of.view(), first.view()}; }
    DeviceArray<int32_t> group_of, channel_of, first;
  };
  static BagsLayout host(const BagsTables& t) {
    return {{t.group_of.data(), {t.C()}}, {t.channel_of.data(), {t.C()}}, {t.first.data(), {t.G() + 2}}};
  }

  SoftmaxResult compare(const Floats& logits, const Labels& labels, const Floats& weights,
                        const std::vector<uint8_t>& sample, const BagsTables& tables) {
    const auto R = static_cast<int64_t>(labels.size());
    const int64_t K = tables.channels(), G = tables.G();
    Doubles norms;
    for (int64_t g = 0; g <= G; ++g) norms.push_back(1.5 + static_cast<double>(g));
    Doubles want_loss(1), host_workspace(static_cast<size_t>(bags_loss_workspace(R)));
    Floats want(logits.size());
    Cpu cpu(2);
    bags_loss(cpu, {logits.data(), {R, K}}, {labels.data(), {R}}, {weights.data(), {R}}, {sample.data(), {R, G}},
              host(tables),
              {0.7,
               {norms.data(), {G + 1}},
               {want_loss.data(), {1}},
               {want.data(), {R, K}},
               {host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}}});
    const Layouts layouts(tables);
    const DeviceArray<float> z({R, K}, logits), w({R}, weights);
    const DeviceArray<int32_t> l({R}, labels);
    const DeviceArray<uint8_t> s({R, G}, sample);
    const DeviceArray<double> n({G + 1}, norms);
    DeviceArray<float> grad({R, K});
    DeviceArray<double> loss({1}), workspace({bags_loss_workspace(R)});
    bags_loss(cuda, z.view(), l.view(), w.view(), s.view(), layouts.device(),
              {0.7, n.view(), loss.view(), grad.view(), workspace.view()});
    expect_near_or_nan(loss.to_host(), want_loss, 0, 1e-6);
    expect_near_or_nan(grad.to_host(), want, 1e-30, 3e-6);
    return {loss.to_host()[0], grad.to_host()};
  }
};

TEST_F(BagsCuda, EqualsHost) {
  std::mt19937 rng(1);
  for (const auto& groups : std::vector<std::vector<Labels>>{{{0}}, {{1, 2}, {0}}, {{0, 4}, {2}, {1, 3, 5}}}) {
    const BagsTables tables(groups);
    for (const int64_t R : {0, 1, 65, 700}) {
      Labels labels;
      Floats weights;
      std::vector<uint8_t> sample;
      for (int64_t i = 0; i < R; ++i) {
        labels.push_back(static_cast<int32_t>(rng() % static_cast<unsigned>(tables.C() + 2)) - 1);
        weights.push_back(static_cast<float>(rng() % 3) / 2);
        for (int64_t g = 0; g < tables.G(); ++g) sample.push_back(rng() % 2);
      }
      compare(random_floats(R * tables.channels(), rng, -15, 15), labels, weights, sample, tables);
    }
  }
}

TEST_F(BagsCuda, EdgesEqualHost) {
  const BagsTables two({{1}, {0}});
  EXPECT_TRUE(std::isfinite(
      compare({0, 0, 1, 1, kNaN, kInfinity, kNaN, kNaN, 0, 0, 0, 0}, {2, 0}, {1, 0}, {1, 0, 1, 1}, two).loss));
  EXPECT_TRUE(std::isnan(compare({0, 0, kNaN, 1, 2, 3}, {2}, {1}, {1, 1}, two).loss));
  EXPECT_GT(compare({1e4f, -1e4f, 1e38f, 0, -3e4f, 3e4f}, {1}, {1}, {1, 1}, two).loss, 1e30);
}

TEST_F(BagsCuda, ScoresEqualHost) {
  std::mt19937 rng(2);
  Cpu cpu(2);
  const BagsTables tables({{0, 4}, {2}, {1, 3, 5}});
  const Layouts layouts(tables);
  for (const int64_t R : {0, 1, 300}) {
    const Floats logits = random_floats(R * tables.channels(), rng, -30, 30);
    Floats want(static_cast<size_t>(R * tables.C()));
    bags_scores(cpu, {logits.data(), {R, tables.channels()}}, host(tables), {want.data(), {R, tables.C()}});
    const DeviceArray<float> z({R, tables.channels()}, logits);
    DeviceArray<float> scores({R, tables.C()});
    bags_scores(cuda, z.view(), layouts.device(), scores.view());
    expect_near(scores.to_host(), want, 1e-37, 1e-6);
  }
}

}  // namespace
}  // namespace gradlibra::kernels
