// SPDX-License-Identifier: MIT
// The CUDA elementwise kernels against the host versions; bit for bit where no product can be fused into a sum.
#include "kernels/elementwise.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class ElementwiseCuda : public CudaTest {
 protected:
  // Runs `op` on both executors for sizes around packs and blocks, from an address that is aligned and one that is not.
  // op(executor, a, b, y); y holds b's values before.
  template <class Op>
  void compare(Op op, double atol = 0) {
    std::mt19937 rng(1);
    Cpu cpu(1);
    for (const int64_t size : {0, 1, 3, 4, 5, 255, 256, 1023, 1025, 5000})
      for (const int64_t skip : {0, 1}) {
        SCOPED_TRACE("size " + std::to_string(size) + ", skip " + std::to_string(skip));
        std::vector<float> a = random_floats(size + skip, rng), b = random_floats(size + skip, rng);
        for (size_t i = 2; i < a.size(); i += 11) a[i] = 0;
        for (size_t i = 3; i < a.size(); i += 13) a[i] = std::numeric_limits<float>::quiet_NaN();
        for (size_t i = 4; i < a.size(); i += 17) a[i] = -std::numeric_limits<float>::infinity();
        std::vector<float> y = b;
        DeviceArray<float> dev_a({size + skip}, a), dev_b({size + skip}, b), dev_y({size + skip}, y);
        const auto host = [&](std::vector<float>& v) { return View<float>(v.data() + skip, {size}); };
        const auto device = [&](DeviceArray<float>& v) { return View<float>(v.view().data() + skip, {size}); };
        op(cpu, host(a), host(b), host(y));
        op(cuda, device(dev_a), device(dev_b), device(dev_y));
        expect_close(dev_y.to_host(), y, atol, 0);
      }
  }
};

TEST_F(ElementwiseCuda, Fill) {
  compare([](auto& device, auto, auto, View<float> y) { fill(device, y, -1.5f); });
}

TEST_F(ElementwiseCuda, CopyAndScale) {
  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
    compare([mode](auto& device, View<const float> a, auto, View<float> y) { copy(device, a, y, mode); });
    // One rounding may be fused away: half a unit in the last place of a value below 4.
    compare([mode](auto& device, View<const float> a, auto, View<float> y) { scale(device, a, -0.3f, y, mode); },
            2.4e-7);
  }
}

TEST_F(ElementwiseCuda, Relu) {
  compare([](auto& device, View<const float> a, auto, View<float> y) { relu(device, a, y); });
  compare([](auto& device, View<const float> a, View<const float> b, View<float> y) { add_relu(device, a, b, y); });
  compare([](auto& device, View<float> a, View<const float> b, View<float>) { add_relu(device, a, b, a); });
  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
    compare([mode](auto& device, View<const float> a, View<const float> b, View<float> y) {
      relu_backward(device, a, b, y, mode);
    });
}

TEST_F(ElementwiseCuda, Casts) {
  Cpu cpu(1);
  for (const int64_t skip : {0, 1}) {  // skipping one bfloat16 leaves 2-byte alignment
    std::vector<bfloat16> all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<uint16_t>(i);
    const int64_t size = 65536 - skip;
    std::vector<float> wide(all.size());
    cast(cpu, View<const bfloat16>(all.data() + skip, {size}), View<float>(wide.data(), {size}));
    DeviceArray<bfloat16> dev_all({65536}, all);
    DeviceArray<float> dev_wide({65536}, wide);
    cast(cuda, View<const bfloat16>(dev_all.view().data() + skip, {size}), View<float>(dev_wide.view().data(), {size}));
    expect_close(dev_wide.to_host(), wide, 0, 0);

    std::mt19937 rng(2);
    std::vector<float> values = random_floats(65536, rng, -100, 100);
    for (size_t i = 0; i < values.size(); i += 3)  // any bit pattern: subnormals, infinities, every kind of NaN
      values[i] = std::bit_cast<float>(static_cast<uint32_t>(rng()));
    std::vector<bfloat16> narrow(65536);
    cast(cpu, View<const float>(values.data(), {size}), View<bfloat16>(narrow.data() + skip, {size}));
    DeviceArray<float> dev_values({65536}, values);
    DeviceArray<bfloat16> dev_narrow({65536}, std::vector<bfloat16>(65536));
    cast(cuda, View<const float>(dev_values.view().data(), {size}),
         View<bfloat16>(dev_narrow.view().data() + skip, {size}));
    const std::vector<bfloat16> got = dev_narrow.to_host();
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bits, narrow[i].bits) << i;
  }
}

}  // namespace
}  // namespace gradlibra::testing
