// SPDX-License-Identifier: MIT
// Sums of gradients by class: CUDA against the host.
#include "kernels/losses/class_gradients.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class ClassGradientsCuda : public CudaTest {
 protected:
  // C classes on the last C of K channels, in reverse order.
  void compare(int64_t R, int64_t C, int64_t K, bool every_row, bool by_class) {
    SCOPED_TRACE("R " + std::to_string(R) + ", C " + std::to_string(C) + ", K " + std::to_string(K));
    const std::vector<float> logits = random_floats(R * K, rng, -8, 8), weights = random_floats(R, rng, -0.5f, 1);
    std::vector<float> grads = random_floats(R * K, rng), row_weights = weights;
    for (float& w : row_weights) w = w < 0 ? 0 : w;
    for (size_t i = 0; i < grads.size(); i += 3) grads[i] = 0;
    std::vector<int32_t> labels(static_cast<size_t>(R)), channels(static_cast<size_t>(C));
    for (int32_t& label : labels) label = static_cast<int32_t>(rng() % static_cast<uint32_t>(C + 2)) - 1;
    for (int64_t c = 0; c < C; ++c) channels[static_cast<size_t>(c)] = static_cast<int32_t>(K - 1 - c);
    std::vector<double> normalizers(static_cast<size_t>(by_class ? C : 1));
    for (double& n : normalizers) n = 1 + rng() % 100;
    const ClassGradients options{.loss_weight = 0.5, .every_row = every_row};
    const Shape work{class_gradients_workspace(R, C)}, size{class_gradients_size(C)},
        norms{static_cast<int64_t>(normalizers.size())};

    const DeviceArray<float> z({R, K}, logits), g({R, K}, grads), w({R}, row_weights);
    const DeviceArray<int32_t> l({R}, labels), k({C}, channels);
    const DeviceArray<double> n(norms, normalizers);
    DeviceArray<double> sums(size), workspace(work);
    class_gradients(cuda, z.view(), g.view(), l.view(), w.view(), k.view(), n.view(), options, sums.view(),
                    workspace.view());
    std::vector<double> want(static_cast<size_t>(size[0])), host_work(static_cast<size_t>(work[0]));
    class_gradients(cpu, View<const float>(logits.data(), {R, K}), View<const float>(grads.data(), {R, K}),
                    View<const int32_t>(labels.data(), {R}), View<const float>(row_weights.data(), {R}),
                    View<const int32_t>(channels.data(), {C}), View<const double>(normalizers.data(), norms), options,
                    View<double>(want.data(), size), View<double>(host_work.data(), work));
    expect_near(sums.to_host(), want, 1e-30, 1e-6);

    for (const float ok : {kNaN, 0.5f}) {
      std::vector<double> totals(want.size(), 3);
      const DeviceArray<float> flag({1}, {ok});
      DeviceArray<double> dev_totals(size, totals);
      add_class_gradients(cuda, std::as_const(sums).view(), flag.view(), dev_totals.view());
      add_class_gradients(cpu, View<const double>(want.data(), size), View<const float>(&ok, {1}),
                          View<double>(totals.data(), size));
      expect_near(dev_totals.to_host(), totals, 0, 1e-6);
    }
  }
  std::mt19937 rng{6};
  Cpu cpu{2};
};

TEST_F(ClassGradientsCuda, EqualsHost) {
  for (const auto& [R, C, K] : {std::tuple<int64_t, int64_t, int64_t>{0, 3, 3},
                                {1, 1, 1},
                                {300, 10, 10},
                                {257, 3, 5},
                                {700, 10, 14},
                                {64, 70, 71}}) {
    compare(R, C, K, true, false);
    compare(R, C, K, false, true);
  }
}

TEST_F(ClassGradientsCuda, NoRowAddsAStepAlone) {
  const DeviceArray<double> sums({7}, {0, 0, 0, 0, 0, 0, 0});
  const DeviceArray<float> ok({1}, {1});
  DeviceArray<double> totals({7}, {1, 2, 3, 4, 5, 6, 7});
  add_class_gradients(cuda, sums.view(), ok.view(), totals.view());
  EXPECT_EQ(totals.to_host(), (std::vector<double>{1, 2, 3, 4, 6, 6, 7}));
}

}  // namespace
}  // namespace gradlibra::kernels
