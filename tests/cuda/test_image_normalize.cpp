// SPDX-License-Identifier: MIT
// CUDA image normalisation against the host version, bit for bit: both divide in float32.
#include "kernels/image_normalize.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class ImageNormalizeCuda : public CudaTest {
 protected:
  void compare(const Shape& shape, const std::vector<int32_t>& turns, const std::vector<int32_t>& sizes, bool bgr) {
    SCOPED_TRACE(shape.to_string());
    compare_stored<float>(shape, turns, sizes, bgr);
    compare_stored<bfloat16>(shape, turns, sizes, bgr);
  }
  template <class T>
  void compare_stored(const Shape& shape, const std::vector<int32_t>& turns, const std::vector<int32_t>& sizes,
                      bool bgr) {
    Cpu cpu(1);
    std::vector<uint8_t> images(static_cast<size_t>(shape.size()));
    for (uint8_t& v : images) v = static_cast<uint8_t>(rng() >> 8);
    std::vector<T> out(images.size());
    const ImageNormalize options{.bgr = bgr};
    const Shape n{shape[0]}, n2{shape[0], 2};
    const DeviceArray<uint8_t> dev_images(shape, images);
    const DeviceArray<int32_t> dev_turns(n, turns), dev_sizes(n2, sizes);
    DeviceArray<T> dev_out(shape);
    image_normalize<T>(cpu, {images.data(), shape}, {turns.data(), n}, {sizes.data(), n2}, options,
                       {out.data(), shape});
    image_normalize(cuda, dev_images.view(), dev_turns.view(), dev_sizes.view(), options, dev_out.view());
    expect_near_or_nan(widened(dev_out.to_host()), widened(out), 0, 0);
  }
  std::mt19937 rng{1};
};

TEST_F(ImageNormalizeCuda, EqualsHost) {
  for (int32_t turn = 0; turn < 8; ++turn) {
    compare({2, 12, 12, 3}, {turn, 7 - turn}, {12, 12, 7, 10}, turn % 2 == 0);  // rows of packs, if float
    compare({2, 8, 16, 3}, {turn, 7 - turn}, {8, 16, 7, 10}, turn % 2 == 0);    // of either type
    compare({2, 9, 13, 3}, {turn, 7 - turn}, {9, 13, 5, 8}, turn % 2 == 1);     // rows of single floats; some are cut
  }
  compare({1, 3, 120, 3}, {1}, {2, 119}, false);  // several blocks
  compare({3, 4, 4, 3}, {0, 1, 6}, {-3, 2, 99, 99, 0, 0}, false);
}

TEST_F(ImageNormalizeCuda, Empty) { compare({0, 8, 8, 3}, {}, {}, false); }

TEST_F(ImageNormalizeCuda, MoreRowsThanBlocksInY) { compare({1, 65537, 1, 3}, {2}, {65537, 1}, false); }

}  // namespace
}  // namespace gradlibra::testing
