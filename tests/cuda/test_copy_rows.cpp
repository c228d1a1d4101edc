// SPDX-License-Identifier: MIT
// CUDA row copies against the host version.
#include "kernels/copy_rows.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class CopyRowsCuda : public CudaTest {
 protected:
  void compare(const Shape& x_shape, int64_t x_offset, const Shape& y_shape, int64_t y_offset, int64_t rows) {
    SCOPED_TRACE(x_shape.to_string() + " to " + y_shape.to_string());
    Cpu cpu(1);
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      const std::vector<float> x = random_floats(x_shape.size(), rng);
      std::vector<float> y = random_floats(y_shape.size(), rng);
      DeviceArray<float> dev_x(x_shape, x), dev_y(y_shape, y);
      copy_rows(cpu, {x.data(), x_shape}, x_offset, {y.data(), y_shape}, y_offset, rows, mode);
      copy_rows(cuda, dev_x.view(), x_offset, dev_y.view(), y_offset, rows, mode);
      expect_near_or_nan(dev_y.to_host(), y, 0, 0);
    }
  }
  std::mt19937 rng{1};
};

TEST_F(CopyRowsCuda, EqualsHost) {
  compare({2, 16, 8}, 0, {2, 21, 8}, 5, 16);  // packs
  compare({2, 21, 8}, 5, {2, 16, 8}, 0, 16);
  compare({3, 7, 5}, 1, {3, 9, 5}, 2, 6);          // 5 channels
  compare({2, 5, 4}, 0, {2, 5, 4}, 0, 5);          // all of it
  compare({1, 300, 10}, 1, {1, 400, 10}, 3, 298);  // several blocks, unaligned start
  compare({3, 2, 2}, 0, {3, 3, 2}, 1, 2);          // aligned block, unaligned image stride
}

TEST_F(CopyRowsCuda, NothingToCopy) {
  compare({0, 4, 2}, 0, {0, 5, 2}, 1, 4);
  compare({2, 4, 2}, 4, {2, 5, 2}, 5, 0);
  compare({2, 4, 0}, 0, {2, 5, 0}, 1, 4);
  DeviceArray<float> x({1, 4, 2}), y({1, 3, 2});
  EXPECT_THROW(copy_rows(cuda, x.view(), 0, y.view(), 0, 4, Accumulate::add), std::invalid_argument);
}

// More images than CUDA has blocks in y.
TEST_F(CopyRowsCuda, ManyImages) { compare({65537, 1, 1}, 0, {65537, 2, 1}, 1, 1); }

}  // namespace
}  // namespace gradlibra::testing
