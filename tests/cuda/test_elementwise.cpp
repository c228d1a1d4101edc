// SPDX-License-Identifier: MIT
// The CUDA elementwise kernels against the host versions; bit for bit where no product can be fused into a sum.
#include "kernels/elementwise.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/map_values.h"

namespace gradlibra::testing {
namespace {

using namespace kernels;

class ElementwiseCuda : public CudaTest {
 protected:
  // Runs `op` on both executors for sizes around packs and blocks, from an address that is aligned and one that is not.
  // op(executor, a, b, y); y holds b's values before.
  template <class T, class Op>
  void compare_stored(Op op, double atol, double rtol) {
    std::mt19937 rng(1);
    Cpu cpu(1);
    for (const int64_t size : {0, 1, 3, 4, 5, 7, 8, 9, 255, 256, 1023, 1025, 5000})
      for (const int64_t skip : {0, 1}) {
        SCOPED_TRACE("size " + std::to_string(size) + ", skip " + std::to_string(skip));
        std::vector<float> values = random_floats(size + skip, rng);
        for (size_t i = 2; i < values.size(); i += 11) values[i] = 0;
        for (size_t i = 3; i < values.size(); i += 13) values[i] = kNaN;
        for (size_t i = 4; i < values.size(); i += 17) values[i] = -kInfinity;
        std::vector<T> a = stored<T>(values), b = stored<T>(random_floats(size + skip, rng)), y = b;
        DeviceArray<T> dev_a({size + skip}, a), dev_b({size + skip}, b), dev_y({size + skip}, y);
        const auto host = [&](std::vector<T>& v) { return View<T>(v.data() + skip, {size}); };
        const auto device = [&](DeviceArray<T>& v) { return View<T>(v.view().data() + skip, {size}); };
        op(cpu, host(a), host(b), host(y));
        op(cuda, device(dev_a), device(dev_b), device(dev_y));
        expect_near_or_nan(widened(dev_y.to_host()), widened(y), atol, rtol);
        expect_near_or_nan(widened(dev_a.to_host()), widened(a), atol, rtol);
      }
  }
  // bfloat16 may be a step apart where float may differ at all.
  template <class Op>
  void compare(Op op, double atol = 0) {
    compare_stored<float>(op, atol, 0);
    compare_stored<bfloat16>(op, atol, atol > 0 ? kBfloat16Step : 0);
  }
};

TEST_F(ElementwiseCuda, Fill) {
  compare([](auto& device, auto, auto, auto y) { fill(device, y, -1.3f); });
}

TEST_F(ElementwiseCuda, CopyAndScale) {
  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
    compare([mode](auto& device, auto a, auto, auto y) { copy(device, a, y, mode); });
    // One rounding may be fused away: half a unit in the last place of a value below 4.
    compare([mode](auto& device, auto a, auto, auto y) { scale(device, a, -0.3f, y, mode); }, 2.4e-7);
  }
}

TEST_F(ElementwiseCuda, Add) {
  compare([](auto& device, auto a, auto b, auto y) { add(device, a, b, y); });
  compare([](auto& device, auto a, auto b, auto) { add(device, b, a, a); });
}

TEST_F(ElementwiseCuda, Relu) {
  compare([](auto& device, auto a, auto, auto y) { relu(device, a, y); });
  compare([](auto& device, auto a, auto b, auto y) { add_relu(device, a, b, y); });
  compare([](auto& device, auto a, auto b, auto) { add_relu(device, a, b, a); });
  for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add})
    compare([mode](auto& device, auto a, auto b, auto y) { relu_backward(device, a, b, y, mode); });
}

TEST_F(ElementwiseCuda, SubtractRow) {
  std::mt19937 rng(3);
  Cpu cpu(1);
  for (const Shape& shape :
       {Shape{0, 3}, Shape{3, 0}, Shape{1, 1}, Shape{300, 18}, Shape{7, 1}, Shape{5, 3, 2}, Shape{2, 1025}})
    for (const int64_t skip : {0, 1}) {
      SCOPED_TRACE(shape.to_string() + ", skip " + std::to_string(skip));
      const int64_t C = shape.dim(-1);
      const std::vector<float> x = random_floats(shape.size() + skip, rng), row = random_floats(C, rng);
      std::vector<float> y(x.size());
      DeviceArray<float> dev_x({shape.size() + skip}, x), dev_row({C}, row), dev_y({shape.size() + skip}, y);
      subtract_row(cpu, {x.data() + skip, shape}, {row.data(), {C}}, {y.data() + skip, shape});
      const View<float> from(dev_x.view().data() + skip, shape);
      subtract_row(cuda, from, dev_row.view(), {dev_y.view().data() + skip, shape});
      expect_near_or_nan(dev_y.to_host(), y, 0, 0);
      if (skip == 1) y[0] = x[0];  // before the view
      subtract_row(cuda, from, dev_row.view(), from);
      expect_near_or_nan(dev_x.to_host(), y, 0, 0);
    }
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
    expect_near_or_nan(dev_wide.to_host(), wide, 0, 0);

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
    for (size_t i = 0; i < got.size(); ++i)  // a NaN may be another NaN
      ASSERT_TRUE(got[i].bits == narrow[i].bits || (std::isnan(to_float(got[i])) && std::isnan(to_float(narrow[i]))))
          << i;
  }
}

TEST_F(ElementwiseCuda, CastsThatAdd) {
  std::mt19937 rng(4);
  Cpu cpu(1);
  for (const int64_t size : {0, 1, 7, 8, 1025}) {
    const Shape shape{size};
    const std::vector<float> x = random_floats(size, rng);
    std::vector<bfloat16> narrow = stored<bfloat16>(random_floats(size, rng));
    std::vector<float> wide = random_floats(size, rng);
    DeviceArray<float> dev_x(shape, x), dev_wide(shape, wide);
    DeviceArray<bfloat16> dev_narrow(shape, narrow);
    const auto run = [](auto& device, View<const float> from, View<bfloat16> middle, View<float> to) {
      cast(device, from, middle, Accumulate::add);
      cast(device, middle, to, Accumulate::add);
    };
    run(cpu, {x.data(), shape}, {narrow.data(), shape}, {wide.data(), shape});
    run(cuda, dev_x.view(), dev_narrow.view(), dev_wide.view());
    expect_near_or_nan(widened(dev_narrow.to_host()), widened(narrow), 0, 0);
    expect_near_or_nan(dev_wide.to_host(), wide, 0, 0);
  }
}

}  // namespace
}  // namespace gradlibra::testing
