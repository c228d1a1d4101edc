// SPDX-License-Identifier: MIT
// CUDA max pooling against the host version, bit for bit.
#include "kernels/max_pool.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class MaxPoolCuda : public CudaTest {
 protected:
  void compare(const Shape& shape, const PoolShape& s) {
    SCOPED_TRACE(shape.to_string() + " kernel " + std::to_string(s.kernel) + " stride " + std::to_string(s.stride));
    compare_stored<float>(shape, s);
    compare_stored<bfloat16>(shape, s);
  }
  template <class T>
  void compare_stored(const Shape& shape, const PoolShape& s) {
    Cpu cpu(1);
    const Shape pooled{shape[0], pooled_size(shape[1], s), pooled_size(shape[2], s), shape[3]};
    std::vector<float> values = random_floats(shape.size(), rng);
    for (float& v : values) v = std::floor(3 * v);  // ties
    for (size_t i = 5; i < values.size(); i += 29) values[i] = kNaN;
    for (size_t i = 6; i < values.size(); i += 31) values[i] = -kInfinity;
    const std::vector<T> x = stored<T>(values);
    std::vector<T> y(static_cast<size_t>(pooled.size()));
    std::vector<uint8_t> taps(y.size());
    const DeviceArray<T> dev_x(shape, x);
    DeviceArray<T> dev_y(pooled);
    DeviceArray<uint8_t> dev_taps(pooled);
    max_pool<T>(cpu, {x.data(), shape}, s, {y.data(), pooled}, {taps.data(), pooled});
    max_pool(cuda, dev_x.view(), s, dev_y.view(), dev_taps.view());
    expect_near_or_nan(widened(dev_y.to_host()), widened(y), 0, 0);
    ASSERT_EQ(dev_taps.to_host(), taps);

    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      const std::vector<T> grad_y = stored<T>(random_floats(pooled.size(), rng));
      std::vector<T> grad_x = stored<T>(random_floats(shape.size(), rng));
      const DeviceArray<T> dev_grad_y(pooled, grad_y);
      DeviceArray<T> dev_grad_x(shape,
                                mode == Accumulate::add ? grad_x : stored<T>(std::vector<float>(grad_x.size(), NAN)));
      max_pool_backward<T>(cpu, {grad_y.data(), pooled}, {taps.data(), pooled}, s, {grad_x.data(), shape}, mode);
      max_pool_backward(cuda, dev_grad_y.view(), std::as_const(dev_taps).view(), s, dev_grad_x.view(), mode);
      // The sum and the old value are added in another order, which may change a rounding.
      expect_near_or_nan(widened(dev_grad_x.to_host()), widened(grad_x), 2e-6,
                         std::is_same_v<T, bfloat16> ? kBfloat16Step : 0);
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
