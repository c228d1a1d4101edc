// SPDX-License-Identifier: MIT
// CUDA folding of batch norms against the host version; bit for bit but for sums in another order.
#include "kernels/norms/batch_norm_fold.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class BatchNormFoldCuda : public CudaTest {
 protected:
  static constexpr float kEps = 1e-5f;

  // A parameter or gradient on both sides.
  struct Both {
    std::vector<float> host;
    DeviceArray<float> device;
    Both(Shape shape, std::vector<float> values) : host(std::move(values)), device(shape, host) {}
    View<float> on(Cpu&) { return {host.data(), device.view().shape()}; }
    View<float> on(Cuda&) { return device.view(); }
  };
  Both random(Shape shape, float lo = -1, float hi = 1) { return {shape, random_floats(shape.size(), rng, lo, hi)}; }

  template <class T>
  void compare_forward(const Shape& shape) {
    SCOPED_TRACE(shape.to_string());
    const Shape K{shape[0]};
    Both weight = random(shape), gamma = random(K, -2, 2), beta = random(K), mean = random(K, -3, 3),
         var = random(K, 0.1f, 4);
    std::vector<T> folded(static_cast<size_t>(shape.size())), bias(static_cast<size_t>(K.size()));
    DeviceArray<T> dev_folded(shape), dev_bias(K);
    const auto run = [&](auto& device, View<T> folded_weight, View<T> folded_bias) {
      fold_batch_norm(device, weight.on(device), gamma.on(device), beta.on(device), mean.on(device), var.on(device),
                      kEps, folded_weight, folded_bias);
    };
    run(cpu, {folded.data(), shape}, {bias.data(), K});
    run(cuda, dev_folded.view(), dev_bias.view());
    expect_near_or_nan(widened(dev_folded.to_host()), widened(folded), 0, 0);
    expect_near_or_nan(widened(dev_bias.to_host()), widened(bias), 0, 0);
  }

  // outputs: bits 0 to 2 for weight, gamma and beta.
  template <class T>
  void compare_backward(const Shape& shape, int outputs, Accumulate mode_weight, Accumulate mode_gamma,
                        Accumulate mode_beta) {
    SCOPED_TRACE(shape.to_string() + ", outputs " + std::to_string(outputs));
    const Shape K{shape[0]};
    Both weight = random(shape), gamma = random(K, -2, 2), mean = random(K, -3, 3), var = random(K, 0.1f, 4),
         grad_folded_bias = random(K), grad_weight = random(shape), grad_gamma = random(K), grad_beta = random(K);
    const std::vector<T> grad_folded_weight = stored<T>(random_floats(shape.size(), rng));
    const DeviceArray<T> dev_grad_folded_weight(shape, grad_folded_weight);
    const auto run = [&](auto& device, View<const T> grad_folded) {
      const auto view = [&](Both& a, int which) { return (outputs >> which & 1) != 0 ? a.on(device) : View<float>(); };
      fold_batch_norm_backward<T>(device, weight.on(device), gamma.on(device), mean.on(device), var.on(device), kEps,
                                  grad_folded, grad_folded_bias.on(device), view(grad_weight, 0), mode_weight,
                                  view(grad_gamma, 1), mode_gamma, view(grad_beta, 2), mode_beta);
    };
    run(cpu, {grad_folded_weight.data(), shape});
    run(cuda, dev_grad_folded_weight.view());
    expect_near_or_nan(grad_weight.device.to_host(), grad_weight.host, 1e-6, 0);  // a product may be fused into the sum
    expect_near_or_nan(grad_gamma.device.to_host(), grad_gamma.host, 1e-7,
                       1.2e-7);  // doubles in another order, then rounded
    expect_near_or_nan(grad_beta.device.to_host(), grad_beta.host, 0, 0);
  }
  std::mt19937 rng{1};
  Cpu cpu{1};
};

TEST_F(BatchNormFoldCuda, ForwardEqualsHost) {
  for (const Shape& shape : {Shape{0, 4}, Shape{3, 0}, Shape{1, 1}, Shape{7, 13}, Shape{5, 3, 3, 8}, Shape{3, 1030},
                             Shape{4, 3, 3, 256}, Shape{300, 12}}) {
    compare_forward<float>(shape);
    compare_forward<bfloat16>(shape);
  }
}

TEST_F(BatchNormFoldCuda, BackwardEqualsHost) {
  constexpr auto overwrite = Accumulate::overwrite, add = Accumulate::add;
  for (const Shape& shape : {Shape{0, 4}, Shape{3, 0}, Shape{1, 1}, Shape{7, 13}, Shape{5, 3, 3, 8}, Shape{3, 1030},
                             Shape{4, 3, 3, 256}, Shape{300, 12}}) {
    compare_backward<float>(shape, 7, overwrite, overwrite, overwrite);
    compare_backward<float>(shape, 7, add, add, add);
    compare_backward<bfloat16>(shape, 7, overwrite, overwrite, overwrite);
    compare_backward<bfloat16>(shape, 7, add, add, add);
  }
  for (int outputs = 0; outputs < 8; ++outputs) {
    compare_backward<float>({3, 20}, outputs, add, overwrite, add);
    compare_backward<bfloat16>({3, 20}, outputs, overwrite, add, overwrite);
  }
}

TEST_F(BatchNormFoldCuda, GradientOfTheWeightMayReplaceThatOfTheFoldedWeight) {
  const Shape shape{3, 300}, K{3};
  Both weight = random(shape), gamma = random(K), mean = random(K), var = random(K, 1, 2), grad = random(shape),
       grad_bias = random(K), grad_gamma = random(K);
  const auto run = [&](auto& device) {
    fold_batch_norm_backward<float>(device, weight.on(device), gamma.on(device), mean.on(device), var.on(device), kEps,
                                    grad.on(device), grad_bias.on(device), grad.on(device), Accumulate::overwrite,
                                    grad_gamma.on(device), Accumulate::overwrite, {}, Accumulate::overwrite);
  };
  run(cpu);
  run(cuda);
  expect_near_or_nan(grad.device.to_host(), grad.host, 0, 0);
  expect_near_or_nan(grad_gamma.device.to_host(), grad_gamma.host, 1e-7, 1.2e-7);
}

}  // namespace
}  // namespace gradlibra::testing
