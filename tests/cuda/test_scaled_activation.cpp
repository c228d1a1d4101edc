// SPDX-License-Identifier: MIT
// A learned scale with its activation: CUDA against the host.
#include "kernels/scaled_activation.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class ScaledActivationCuda : public CudaTest {
 protected:
  void compare(const std::vector<float>& x, ScaledActivation f, Accumulate mode) {
    const auto size = static_cast<int64_t>(x.size());
    const std::vector<float> g = random_floats(size, 5), before = random_floats(size, 6), scale{1.3f};
    const DeviceArray<float> dx({size}, x), ds({}, scale), dg({size}, g);
    DeviceArray<float> y({size}), grad_x({size}, before), grad_scale({}, {0.5f});
    DeviceArray<double> workspace({scaled_activation_workspace(size)});
    scaled_activation(cuda, dx.view(), ds.view(), f, y.view());
    scaled_activation_backward(cuda, dx.view(), ds.view(), f, std::as_const(y).view(), dg.view(), {grad_x.view(), mode},
                               {grad_scale.view(), mode}, workspace.view());
    Cpu cpu(2);
    std::vector<float> want_y(x.size()), want_x = before, want_scale{0.5f};
    std::vector<double> host_workspace(static_cast<size_t>(scaled_activation_workspace(size)));
    const View<const float> hx(x.data(), {size}), hs(scale.data(), {1}), hg(g.data(), {size});
    scaled_activation(cpu, hx, hs, f, View<float>(want_y.data(), {size}));
    scaled_activation_backward(cpu, hx, hs, f, View<const float>(want_y.data(), {size}), hg,
                               {View<float>(want_x.data(), {size}), mode}, {View<float>(want_scale.data(), {1}), mode},
                               View<double>(host_workspace.data(), {static_cast<int64_t>(host_workspace.size())}));
    expect_near_or_nan(y.to_host(), want_y, 0, 1e-6);
    expect_near_or_nan(grad_x.to_host(), want_x, 1e-6, 1e-6);
    expect_near_or_nan(grad_scale.to_host(), want_scale, 1e-5, 1e-6);
  }
};

TEST_F(ScaledActivationCuda, EqualsHost) {
  std::mt19937 rng(2);
  for (const ScaledActivation f : {ScaledActivation::identity, ScaledActivation::exp, ScaledActivation::clamp})
    for (const int64_t size : {0, 1, 1000, 1024, 2500})
      for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
        compare(random_floats(size, rng, -2, 2), f, mode);
}

TEST_F(ScaledActivationCuda, ZeroInfinityAndNaNEqualHost) {
  for (const ScaledActivation f : {ScaledActivation::identity, ScaledActivation::exp, ScaledActivation::clamp}) {
    compare({0, -0.0f, 1}, f, Accumulate::overwrite);
    compare({kNaN, 1}, f, Accumulate::overwrite);
    compare({100, 1}, f, Accumulate::overwrite);
  }
}

}  // namespace
}  // namespace gradlibra::kernels
