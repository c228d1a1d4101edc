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

  Both<> random(Shape shape, float lo = -1, float hi = 1) { return {shape, random_floats(shape.size(), rng, lo, hi)}; }

  template <class T>
  void compare_forward(const Shape& shape) {
    SCOPED_TRACE(shape.to_string());
    const Shape K{shape[0]};
    Both<> weight = random(shape), gamma = random(K, -2, 2), beta = random(K), mean = random(K, -3, 3),
           var = random(K, 0.1f, 4);
    Both<T> folded_weight = unwritten<T>(shape), folded_bias = unwritten<T>(K);
    const auto run = [&](auto& device) {
      const StoredNorm norm{gamma.on(device), beta.on(device), mean.on(device), var.on(device), kEps};
      fold_batch_norm(device, weight.on(device), norm, folded_weight.on(device), folded_bias.on(device));
    };
    on_both(run);
    expect_near(widened(folded_weight.device()), widened(folded_weight.host()), 0);
    expect_near(widened(folded_bias.device()), widened(folded_bias.host()), 0);
  }

  // outputs: bits 0 to 2 for weight, gamma and beta.
  template <class T>
  void compare_backward(const Shape& shape, int outputs, Accumulate mode_weight, Accumulate mode_gamma,
                        Accumulate mode_beta) {
    SCOPED_TRACE(shape.to_string() + ", outputs " + std::to_string(outputs));
    const Shape K{shape[0]};
    Both<> weight = random(shape), gamma = random(K, -2, 2), mean = random(K, -3, 3), var = random(K, 0.1f, 4),
           grad_folded_bias = random(K), grad_weight = random(shape), grad_gamma = random(K), grad_beta = random(K);
    Both<T> grad_folded_weight(shape, stored<T>(random_floats(shape.size(), rng)));
    const auto run = [&](auto& device) {
      const StoredNorm norm{.gamma = gamma.on(device), .mean = mean.on(device), .var = var.on(device), .eps = kEps};
      UnfoldedGradients to;
      if ((outputs & 1) != 0) to.weight = {grad_weight.on(device), mode_weight};
      if ((outputs & 2) != 0) to.gamma = {grad_gamma.on(device), mode_gamma};
      if ((outputs & 4) != 0) to.beta = {grad_beta.on(device), mode_beta};
      fold_batch_norm_backward<T>(device, weight.on(device), norm,
                                  {grad_folded_weight.on(device), grad_folded_bias.on(device)}, to);
    };
    on_both(run);
    expect_near_or_nan(grad_weight.device(), grad_weight.host(), 1e-6, 0);  // a product may be fused into the sum
    expect_near_or_nan(grad_gamma.device(), grad_gamma.host(), 1e-7,
                       1.2e-7);  // doubles in another order, then rounded
    expect_near_or_nan(grad_beta.device(), grad_beta.host(), 0, 0);
  }
  std::mt19937 rng{1};
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
  Both<> weight = random(shape), gamma = random(K), mean = random(K), var = random(K, 1, 2), grad = random(shape),
         grad_bias = random(K), grad_gamma = random(K);
  const auto run = [&](auto& device) {
    const StoredNorm norm{.gamma = gamma.on(device), .mean = mean.on(device), .var = var.on(device), .eps = kEps};
    fold_batch_norm_backward<float>(device, weight.on(device), norm, {grad.on(device), grad_bias.on(device)},
                                    {.weight = {grad.on(device)}, .gamma = {grad_gamma.on(device)}});
  };
  on_both(run);
  expect_near_or_nan(grad.device(), grad.host(), 0, 0);
  expect_near_or_nan(grad_gamma.device(), grad_gamma.host(), 1e-7, 1.2e-7);
}

}  // namespace
}  // namespace gradlibra::testing
