// SPDX-License-Identifier: MIT
// Blocks of pixels on the device: the host's bits, for aligned and unaligned results and every kind of shift.
#include "kernels/convolution/space_to_depth.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class SpaceToDepthCuda : public CudaTest {
 protected:
  template <class T>
  void compare(const Shape& in_shape, const Shape& out_shape, int shift, int64_t skip) {
    SCOPED_TRACE(in_shape.to_string() + " to " + out_shape.to_string() + ", shift " + std::to_string(shift) +
                 ", skip " + std::to_string(skip));
    const std::vector<T> in = stored<T>(random_floats(in_shape.size(), rng));
    std::vector<T> want(static_cast<size_t>(out_shape.size()));
    const DeviceArray<T> dev_in(in_shape, in);
    DeviceArray<T> dev_out({out_shape.size() + skip});
    space_to_depth<T>(cpu, {in.data(), in_shape}, shift, {want.data(), out_shape});
    space_to_depth<T>(cuda, dev_in.view(), shift, {dev_out.view().data() + skip, out_shape});
    const std::vector<T> got = dev_out.to_host();
    EXPECT_EQ(widened(std::vector<T>(got.begin() + skip, got.end())), widened(want));
  }
  Cpu cpu{1};
  std::mt19937 rng{1};
};

TEST_F(SpaceToDepthCuda, EqualsHost) {
  for (const auto& [in, out] : {std::pair<Shape, Shape>{{1, 1, 1, 1}, {1, 1, 1, 4}},
                                {{2, 31, 29, 3}, {2, 19, 18, 16}},
                                {{16, 7, 7, 3}, {16, 4, 4, 16}},
                                {{1, 9, 4, 2}, {1, 7, 9, 11}},
                                {{0, 8, 8, 3}, {0, 4, 4, 16}},
                                {{2, 6, 6, 0}, {2, 3, 3, 8}},
                                {{1, 64, 40, 3}, {1, 35, 23, 24}}})
    for (const int shift : {0, -1, -4, 3, 100})
      for (const int64_t skip : {0, 1}) {
        compare<float>(in, out, shift, skip);
        compare<bfloat16>(in, out, shift, skip);
      }
}

}  // namespace
}  // namespace gradlibra::testing
