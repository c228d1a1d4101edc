// SPDX-License-Identifier: MIT
// CUDA upsampling and addition against the host version.
#include "kernels/upsample_add.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class UpsampleAddCuda : public CudaTest {
 protected:
  void compare(const Shape& coarse_shape, const Shape& fine_shape) {
    SCOPED_TRACE(coarse_shape.to_string() + " to " + fine_shape.to_string());
    compare_stored<float>(coarse_shape, fine_shape);
    compare_stored<bfloat16>(coarse_shape, fine_shape);
  }
  template <class T>
  void compare_stored(const Shape& coarse_shape, const Shape& fine_shape) {
    Cpu cpu(1);
    const std::vector<T> coarse = stored<T>(random_floats(coarse_shape.size(), rng)),
                         fine = stored<T>(random_floats(fine_shape.size(), rng));
    std::vector<T> y(fine.size());
    const DeviceArray<T> dev_coarse(coarse_shape, coarse);
    DeviceArray<T> dev_fine(fine_shape, fine), dev_y(fine_shape);
    upsample_add<T>(cpu, {coarse.data(), coarse_shape}, {fine.data(), fine_shape}, {y.data(), fine_shape});
    upsample_add(cuda, dev_coarse.view(), dev_fine.view(), dev_y.view());
    expect_near_or_nan(widened(dev_y.to_host()), widened(y), 0, 0);
    upsample_add(cuda, dev_coarse.view(), dev_fine.view(), dev_fine.view());
    expect_near_or_nan(widened(dev_fine.to_host()), widened(y), 0, 0);

    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      std::vector<T> grad = stored<T>(random_floats(coarse_shape.size(), rng));
      DeviceArray<T> dev_grad(coarse_shape,
                              mode == Accumulate::add ? grad : stored<T>(std::vector<float>(grad.size(), NAN)));
      upsample_add_backward<T>(cpu, {fine.data(), fine_shape}, {grad.data(), coarse_shape}, mode);
      upsample_add_backward(cuda, DeviceArray<T>(fine_shape, fine).view(), dev_grad.view(), mode);
      expect_near_or_nan(widened(dev_grad.to_host()), widened(grad), 0, 0);  // the same order of summation
    }
  }
  std::mt19937 rng{1};
};

TEST_F(UpsampleAddCuda, EqualsHost) {
  compare({2, 4, 4, 8}, {2, 8, 8, 8});
  compare({1, 3, 7, 5}, {1, 5, 13, 5});
  compare({2, 1, 1, 300}, {2, 3, 2, 300});
  compare({1, 3, 2, 6}, {1, 3, 2, 6});
}

TEST_F(UpsampleAddCuda, Empty) {
  compare({0, 1, 1, 4}, {0, 2, 2, 4});
  compare({1, 1, 1, 0}, {1, 2, 2, 0});
}

TEST_F(UpsampleAddCuda, MoreRowsThanBlocksInY) { compare({1, 65537, 1, 1}, {1, 65540, 1, 1}); }

}  // namespace
}  // namespace gradlibra::testing
