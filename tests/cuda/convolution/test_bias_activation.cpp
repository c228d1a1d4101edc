// SPDX-License-Identifier: MIT
// The CUDA version against the host's, bit for bit: there is no product that could be fused into a sum.
#include "kernels/convolution/bias_activation.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class BiasActivationCuda : public CudaTest {
 protected:
  // parts: bits 0 to 2 for bias, residual and ReLU. skip_*: elements before the view, so that it is not aligned.
  template <class T>
  void compare(const Shape& shape, int parts, int64_t skip, int64_t skip_bias) {
    SCOPED_TRACE(shape.to_string() + ", parts " + std::to_string(parts) + ", skip " + std::to_string(skip) + " and " +
                 std::to_string(skip_bias));
    const int64_t C = shape.dim(-1), size = shape.size();
    std::vector<float> values = random_floats(size + skip, rng);
    for (size_t i = 2; i < values.size(); i += 11) values[i] = kNaN;
    for (size_t i = 3; i < values.size(); i += 13) values[i] = -kInfinity;
    std::vector<T> x = stored<T>(values), residual = stored<T>(random_floats(size + skip, rng)), y = residual;
    std::vector<T> bias = stored<T>(random_floats(C + skip_bias, rng));
    DeviceArray<T> dev_x({size + skip}, x), dev_residual({size + skip}, residual), dev_y({size + skip}, y);
    DeviceArray<T> dev_bias({C + skip_bias}, bias);
    const auto run = [&](auto& device, T* from, T* b, T* add, T* to) {
      bias_activation<T>(device, {from + skip, shape},
                         (parts & 1) != 0 ? View<const T>(b + skip_bias, {C}) : View<const T>(),
                         (parts & 2) != 0 ? View<const T>(add + skip, shape) : View<const T>(),
                         (parts & 4) != 0 ? Activation::relu : Activation::none, {to + skip, shape});
    };
    run(cpu, x.data(), bias.data(), residual.data(), y.data());
    const auto data = [](auto& array) { return array.view().data(); };
    run(cuda, data(dev_x), data(dev_bias), data(dev_residual), data(dev_y));
    expect_near_or_nan(widened(dev_y.to_host()), widened(y), 0, 0);
    run(cuda, data(dev_x), data(dev_bias), data(dev_residual), data(dev_x));  // in place
    if (skip > 0) y[0] = x[0];                                                // before the view
    expect_near_or_nan(widened(dev_x.to_host()), widened(y), 0, 0);
  }
  Cpu cpu{1};
  std::mt19937 rng{1};
};

TEST_F(BiasActivationCuda, EqualsHost) {
  for (const Shape& shape : {Shape{0, 8}, Shape{3, 0}, Shape{1, 1}, Shape{37, 18}, Shape{41, 10}, Shape{9, 3, 16},
                             Shape{3, 1032}, Shape{2, 1025}, Shape{700, 4}})
    for (int parts = 0; parts < 8; ++parts)
      for (const int64_t skip : {0, 1}) {
        const int64_t skip_bias = parts % 2;  // an unaligned bias beside an aligned map as well
        compare<float>(shape, parts, skip, skip_bias);
        compare<bfloat16>(shape, parts, skip, skip_bias);
        compare<float>(shape, parts, skip, 0);
        compare<bfloat16>(shape, parts, skip, 0);
      }
}

// More packs than threads in the largest grid.
TEST_F(BiasActivationCuda, MorePacksThanThreads) { compare<bfloat16>({8192 * 256 + 77, 8}, 7, 0, 0); }

}  // namespace
}  // namespace gradlibra::testing
