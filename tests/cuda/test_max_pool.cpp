// SPDX-License-Identifier: MIT
// CUDA max pooling against the host version, bit for bit.
#include "kernels/max_pool.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class MaxPoolCuda : public CudaTest {
 protected:
  void compare(const Shape& shape, const PoolShape& s) {
    SCOPED_TRACE(shape.to_string() + " kernel " + std::to_string(s.kernel) + " stride " + std::to_string(s.stride));
    Cpu cpu(1);
    const Shape pooled{shape[0], pooled_size(shape[1], s), pooled_size(shape[2], s), shape[3]};
    std::vector<float> x = random_floats(shape.size(), rng), y(static_cast<size_t>(pooled.size()));
    for (float& v : x) v = std::floor(3 * v);  // ties
    for (size_t i = 5; i < x.size(); i += 29) x[i] = std::numeric_limits<float>::quiet_NaN();
    for (size_t i = 6; i < x.size(); i += 31) x[i] = -std::numeric_limits<float>::infinity();
    std::vector<uint8_t> taps(y.size());
    const DeviceArray<float> dev_x(shape, x);
    DeviceArray<float> dev_y(pooled);
    DeviceArray<uint8_t> dev_taps(pooled);
    max_pool(cpu, {x.data(), shape}, s, {y.data(), pooled}, {taps.data(), pooled});
    max_pool(cuda, dev_x.view(), s, dev_y.view(), dev_taps.view());
    expect_close(dev_y.to_host(), y, 0, 0);
    ASSERT_EQ(dev_taps.to_host(), taps);

    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      const std::vector<float> grad_y = random_floats(pooled.size(), rng);
      std::vector<float> grad_x = random_floats(shape.size(), rng);
      const DeviceArray<float> dev_grad_y(pooled, grad_y);
      DeviceArray<float> dev_grad_x(shape, mode == Accumulate::add ? grad_x : std::vector<float>(grad_x.size(), NAN));
      max_pool_backward(cpu, {grad_y.data(), pooled}, {taps.data(), pooled}, s, {grad_x.data(), shape}, mode);
      max_pool_backward(cuda, dev_grad_y.view(), std::as_const(dev_taps).view(), s, dev_grad_x.view(), mode);
      expect_close(dev_grad_x.to_host(), grad_x, 2e-6, 0);  // the sum and the old value are added in another order
    }
  }
  std::mt19937 rng{1};
};

TEST_F(MaxPoolCuda, EqualsHost) {
  for (const PoolShape& s : {PoolShape{3, 2, 1}, PoolShape{1, 2, 0}, PoolShape{2, 3, 1}, PoolShape{5, 1, 2}}) {
    compare({2, 8, 9, 8}, s);
    compare({1, 7, 13, 3}, s);
    compare({1, 5, 5, 70}, s);
  }
  compare({1, 16, 15, 1}, {15, 2, 7});
}

TEST_F(MaxPoolCuda, Empty) {
  compare({0, 8, 8, 4}, {});
  compare({2, 8, 8, 0}, {});
}

TEST_F(MaxPoolCuda, MoreRowsThanBlocksInY) { compare({65537, 1, 1, 1}, {}); }

}  // namespace
}  // namespace gradlibra::testing
