// SPDX-License-Identifier: MIT
// The CUDA convolution against the host version, over shapes that fill tiles and shapes that do not.
#include "kernels/convolution/conv2d.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

struct Case {
  const char* what;
  Shape x, weight;
  ConvShape shape;
  bool bias;
};

class Conv2dCuda : public CudaTest {};

TEST_F(Conv2dCuda, MatchesHost) {
  const Case cases[] = {
      {"one element", {1, 1, 1, 1}, {1, 1, 1, 1}, {}, true},
      {"odd everything", {2, 5, 7, 3}, {5, 3, 3, 3}, {.padding = 1}, true},
      {"several tiles each way", {2, 9, 8, 19}, {70, 1, 1, 19}, {}, false},
      {"stem", {1, 15, 13, 3}, {10, 7, 7, 3}, {.stride = 2, .padding = 3}, true},
      {"stride without overlap", {3, 7, 7, 33}, {6, 1, 1, 33}, {.stride = 2}, false},
      {"dilated", {1, 9, 9, 5}, {6, 3, 3, 5}, {.padding = 2, .dilation = 2}, true},
      {"long stride, wide padding", {1, 4, 6, 2}, {3, 2, 5, 2}, {.stride = 3, .padding = 4}, false},
  };
  Cpu cpu(1);
  std::mt19937 rng(11);
  for (const Case& t : cases) {
    SCOPED_TRACE(t.what);
    const Shape y_shape{t.x[0], conv_size(t.x[1], t.weight[1], t.shape), conv_size(t.x[2], t.weight[2], t.shape),
                        t.weight[0]};
    const std::vector<float> x = random_floats(t.x.size(), rng), weight = random_floats(t.weight.size(), rng);
    const std::vector<float> bias = random_floats(t.weight[0], rng), grad_y = random_floats(y_shape.size(), rng);
    const DeviceArray<float> dev_x(t.x, x), dev_weight(t.weight, weight), dev_bias({t.weight[0]}, bias),
        dev_grad_y(y_shape, grad_y);
    // Both sides add in the same order; the device fuses multiply and add.
    const auto atol = [](int64_t terms) { return 1e-7 * static_cast<double>(terms + 4); };

    std::vector<float> y(grad_y.size());
    const View<const float> host_bias = t.bias ? View<const float>(bias.data(), {t.weight[0]}) : View<const float>();
    conv2d(cpu, {x.data(), t.x}, {weight.data(), t.weight}, host_bias, t.shape, {y.data(), y_shape});
    DeviceArray<float> dev_y(y_shape);
    conv2d(cuda, dev_x.view(), dev_weight.view(), t.bias ? dev_bias.view() : View<const float>(), t.shape,
           dev_y.view());
    expect_near_or_nan(dev_y.to_host(), y, atol(t.weight.size() / t.weight[0]), 0);

    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      // What overwrite must not read is NaN on the device.
      const bool add = mode == Accumulate::add;
      std::vector<float> grad_x = random_floats(t.x.size(), rng), grad_weight = random_floats(t.weight.size(), rng);
      DeviceArray<float> dev_grad_x = add ? DeviceArray<float>(t.x, grad_x) : DeviceArray<float>(t.x);
      DeviceArray<float> dev_grad_weight =
          add ? DeviceArray<float>(t.weight, grad_weight) : DeviceArray<float>(t.weight);
      conv2d_backward_data(cpu, {grad_y.data(), y_shape}, {weight.data(), t.weight}, t.shape, {grad_x.data(), t.x},
                           mode);
      conv2d_backward_data(cuda, dev_grad_y.view(), dev_weight.view(), t.shape, dev_grad_x.view(), mode);
      expect_near_or_nan(dev_grad_x.to_host(), grad_x, atol(t.weight.size() / t.weight[3]), 0);
      conv2d_backward_weight(cpu, {x.data(), t.x}, {grad_y.data(), y_shape}, t.shape, {grad_weight.data(), t.weight},
                             mode);
      conv2d_backward_weight(cuda, dev_x.view(), dev_grad_y.view(), t.shape, dev_grad_weight.view(), mode);
      expect_near_or_nan(dev_grad_weight.to_host(), grad_weight, atol(y_shape.size() / y_shape[3]), 0);
    }
  }
}

TEST_F(Conv2dCuda, NoImages) {
  const DeviceArray<float> x({0, 5, 5, 4}), weight({2, 3, 3, 4}, std::vector<float>(72, 1.0f)), grad_y({0, 5, 5, 2});
  DeviceArray<float> y({0, 5, 5, 2}), grad_x({0, 5, 5, 4}), grad_weight({2, 3, 3, 4});
  const ConvShape same{.padding = 1};
  conv2d(cuda, x.view(), weight.view(), {}, same, y.view());
  conv2d_backward_data(cuda, grad_y.view(), weight.view(), same, grad_x.view(), Accumulate::overwrite);
  conv2d_backward_weight(cuda, x.view(), grad_y.view(), same, grad_weight.view(), Accumulate::overwrite);
  EXPECT_EQ(grad_weight.to_host(), std::vector<float>(72, 0.0f));
}

TEST_F(Conv2dCuda, ShapesAreCheckedBeforeAnythingRuns) {
  const DeviceArray<float> x({1, 4, 4, 3}), weight({2, 3, 3, 5});
  DeviceArray<float> y({1, 2, 2, 2});
  EXPECT_THROW(conv2d(cuda, x.view(), weight.view(), {}, {}, y.view()), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
