// SPDX-License-Identifier: MIT
// The drawing of rows for balanced group softmax: CUDA draws the host's rows.
#include "kernels/losses/bags_sample.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/losses/softmax_losses.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class BagsSampleCuda : public CudaTest {
 protected:
  void compare(const Labels& labels, const Floats& weights, const Labels& group_of, int64_t G, double beta,
               const Doubles& state, int rank) {
    const auto R = static_cast<int64_t>(labels.size()), C = static_cast<int64_t>(group_of.size());
    Cpu cpu(2);
    std::vector<uint8_t> want(static_cast<size_t>(R * G));
    Doubles want_sums(static_cast<size_t>(G + 1));
    std::vector<int64_t> host_workspace(static_cast<size_t>(bags_sample_workspace(cpu, R, G)));
    bags_sample(cpu, {labels.data(), {R}}, {weights.data(), {R}}, {group_of.data(), {C}}, beta, {state.data(), {2}},
                rank, {want.data(), {R, G}}, {want_sums.data(), {G + 1}},
                {host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}});
    const DeviceArray<int32_t> l({R}, labels), groups({C}, group_of);
    const DeviceArray<float> w({R}, weights);
    const DeviceArray<double> s({2}, state);
    DeviceArray<uint8_t> sample({R, G});
    DeviceArray<double> sums({G + 1});
    DeviceArray<int64_t> workspace({bags_sample_workspace(cuda, R, G)});
    bags_sample(cuda, l.view(), w.view(), groups.view(), beta, s.view(), rank, sample.view(), sums.view(),
                workspace.view());
    EXPECT_EQ(sample.to_host(), want);
    expect_near(sums.to_host(), want_sums, 0, 1e-12);
  }
};

TEST_F(BagsSampleCuda, DrawsTheHostsRows) {
  std::mt19937 rng(1);
  for (const int64_t R : {0, 1, 255, 700, 5000})
    for (const double beta : {0.0, 0.5, 8.0, 1e9}) {
      Labels labels;
      Floats weights;
      for (int64_t i = 0; i < R; ++i) {
        labels.push_back(rng() % 20 == 0 ? static_cast<int32_t>(rng() % 6) - 1 : 4);
        weights.push_back(static_cast<float>(rng() % 4) / 2);
      }
      compare(labels, weights, {1, 3, 2, 1}, 3, beta, {5, 17}, 2);
    }
}

// Next to all rows are candidates, and the k-th smallest hash is in any bin.
TEST_F(BagsSampleCuda, EveryNumberOfOthers) {
  Labels labels(300, 1);
  for (size_t own = 0; own < 260; own += 13) {
    std::fill_n(labels.begin(), own, 0);
    compare(labels, Floats(300, 1), {1}, 1, 0.37, {0, static_cast<double>(own)}, 0);
  }
}

}  // namespace
}  // namespace gradlibra::kernels
