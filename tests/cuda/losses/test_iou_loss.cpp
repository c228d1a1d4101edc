// SPDX-License-Identifier: MIT
// Overlap losses: CUDA against the host.
#include "kernels/losses/iou_loss.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class IouLossCuda : public CudaTest {
 protected:
  double compare(const std::vector<float>& pred, const std::vector<float>& target, const std::vector<float>& weights,
                 const IouLoss& options) {
    const double loss_weight = 0.5, normalizer = 3;
    const auto R = static_cast<int64_t>(weights.size());
    const DeviceArray<float> p({R, 4}, pred), t({R, 4}, target), w({R}, weights);
    const DeviceArray<double> norm({1}, {normalizer});
    DeviceArray<double> loss({1}), workspace({iou_loss_workspace(R)});
    DeviceArray<float> grad({R, 4});
    iou_loss(cuda, p.view(), t.view(), w.view(), options,
             {loss_weight, norm.view(), loss.view(), grad.view(), workspace.view()});
    Cpu cpu(2);
    std::vector<double> want_loss(1), host_workspace(static_cast<size_t>(iou_loss_workspace(R)));
    std::vector<float> want_grad(pred.size());
    iou_loss(cpu, View<const float>(pred.data(), {R, 4}), View<const float>(target.data(), {R, 4}),
             View<const float>(weights.data(), {R}), options,
             {loss_weight, View<const double>(&normalizer, {1}), View<double>(want_loss.data(), {1}),
              View<float>(want_grad.data(), {R, 4}),
              View<double>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())})});
    expect_near_or_nan(loss.to_host(), want_loss, 1e-12, 1e-6);
    expect_near_or_nan(grad.to_host(), want_grad, 1e-9, 1e-6);
    return loss.to_host()[0];
  }
};

TEST_F(IouLossCuda, EqualsHost) {
  std::mt19937 rng(3);
  for (const IouMode mode : {IouMode::log, IouMode::linear, IouMode::square, IouMode::giou})
    for (const BoxForm form : {BoxForm::corners, BoxForm::distances})
      for (const int64_t R : {1, 255, 256, 1033}) {
        std::vector<float> weights = random_floats(R, rng, 0, 1);
        for (float& w : weights)
          if (w < 0.5f) w = 0;
        // Whole numbers: many ties, many boxes without an area.
        std::vector<float> pred = random_floats(4 * R, rng, 0, 6), target = random_floats(4 * R, rng, 0, 6);
        for (auto* boxes : {&pred, &target})
          for (size_t i = 0; i < boxes->size(); ++i)
            if (i / 4 % 2 == 0) (*boxes)[i] = std::floor((*boxes)[i]);
        EXPECT_TRUE(std::isfinite(compare(pred, target, weights, {mode, form})));
      }
}

TEST_F(IouLossCuda, EdgesEqualHost) {
  EXPECT_EQ(compare({}, {}, {}, {}), 0);
  EXPECT_EQ(compare({kNaN, 1, 2, 3}, {0, 0, 0, 0}, {0}, {}), 0);
  EXPECT_TRUE(std::isnan(compare({kNaN, 1, 2, 3}, {0, 0, 1, 1}, {1}, {})));
  EXPECT_GT(compare({0, 0, 1, 1}, {5, 5, 6, 6}, {1}, {}), 2);
}

}  // namespace
}  // namespace gradlibra::kernels
