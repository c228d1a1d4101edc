// SPDX-License-Identifier: MIT
// CUDA SGD against the host version.
#include "kernels/sgd.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class SgdCuda : public CudaTest {
 protected:
  std::mt19937 rng{1};
  Cpu cpu{1};
};

TEST_F(SgdCuda, EqualsHost) {
  const Sgd options{.momentum = 0.8f, .weight_decay = 0.01f, .lr_factor = 2};
  for (const int64_t size : {0, 1, 4, 7, 1025, 4096})
    for (const int64_t skip : {0, 1})
      for (const float grad_scale : {1.0f, 0.3f, NAN}) {
        SCOPED_TRACE("size " + std::to_string(size) + ", skip " + std::to_string(skip));
        std::vector<float> param = random_floats(size + skip, rng), velocity = random_floats(size + skip, rng);
        const std::vector<float> grad = random_floats(size + skip, rng), lr{0.1f}, factor{grad_scale};
        DeviceArray<float> dev_param({size + skip}, param), dev_velocity({size + skip}, velocity);
        const DeviceArray<float> dev_grad({size + skip}, grad), dev_lr({1}, lr), dev_factor({1}, factor);
        sgd_step(cpu, {param.data() + skip, {size}}, {grad.data() + skip, {size}}, {velocity.data() + skip, {size}},
                 {lr.data(), {1}}, {factor.data(), {1}}, options);
        sgd_step(cuda, {dev_param.view().data() + skip, {size}}, {dev_grad.view().data() + skip, {size}},
                 {dev_velocity.view().data() + skip, {size}}, dev_lr.view(), dev_factor.view(), options);
        expect_near_or_nan(dev_velocity.to_host(), velocity, 4e-7, 0);  // products may be fused into the sums
        expect_near_or_nan(dev_param.to_host(), param, 4e-7, 0);
      }
}

TEST_F(SgdCuda, ClipFactorEqualsHost) {
  for (const double total : {0.0, 1e-20, 16900.0, 1e70, static_cast<double>(INFINITY), static_cast<double>(NAN)})
    for (const float max_norm : {35.0f, 0.0f, -1.0f}) {
      std::vector<float> factor(1);
      const DeviceArray<double> dev_total({1}, {total});
      DeviceArray<float> dev_factor({1});
      for (const std::vector<double>& losses :
           {std::vector<double>{}, {1, 2, 3}, {1, std::numeric_limits<double>::infinity()}, {NAN, 1}}) {
        const Shape shape{static_cast<int64_t>(losses.size())};
        const DeviceArray<double> dev_losses(shape, losses);
        clip_factor(cpu, {&total, {1}}, {losses.data(), shape}, max_norm, {factor.data(), {1}});
        clip_factor(cuda, dev_total.view(), dev_losses.view(), max_norm, dev_factor.view());
        expect_near_or_nan(dev_factor.to_host(), factor, 0, 0);
      }
    }
}

}  // namespace
}  // namespace gradlibra::testing
