// SPDX-License-Identifier: MIT
// The instructions of kernels/convolution/tensor_core.cuh by one product whose sums are exact in any order: every bit
// is known.
#include "kernels/convolution/tensor_core.h"

#include "kernels/bfloat16.h"
#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

class TensorCoreCuda : public CudaTest {
 protected:
  void expect_equal(const std::vector<bfloat16>& a, const std::vector<bfloat16>& b, const std::vector<float>& d) {
    const DeviceArray<bfloat16> dev_a({16, 16}, a), dev_b({8, 16}, b);
    DeviceArray<float> dev_d({16, 8}, d);
    kernels::multiply_tile(cuda, dev_a.view(), dev_b.view(), dev_d.view());
    std::vector<float> want = d;
    Cpu cpu(1);
    kernels::multiply_tile(cpu, {a.data(), {16, 16}}, {b.data(), {8, 16}}, {want.data(), {16, 8}});
    EXPECT_EQ(dev_d.to_host(), want);
  }
  static std::vector<bfloat16> integers(size_t size, uint32_t seed) {
    std::mt19937 rng(seed);
    std::vector<bfloat16> values(size);
    for (bfloat16& v : values) v = to_bfloat16(static_cast<float>(rng() % 17) - 8);
    return values;
  }
};

// b's columns are the unit vectors from 5 on, so d's columns are the columns of a from 5 on.
TEST_F(TensorCoreCuda, UnitVectorsPickRowsAndColumns) {
  std::vector<bfloat16> a(256), b(128);
  for (size_t i = 0; i < 16; ++i) {
    for (size_t k = 0; k < 16; ++k) a[i * 16 + k] = to_bfloat16(static_cast<float>(i * 16 + k));
    for (size_t j = 0; j < 8; ++j) b[j * 16 + i] = to_bfloat16(i == j + 5 ? 1.0f : 0.0f);
  }
  const DeviceArray<bfloat16> dev_a({16, 16}, a), dev_b({8, 16}, b);
  DeviceArray<float> dev_d({16, 8}, std::vector<float>(128, 0.5f));
  kernels::multiply_tile(cuda, dev_a.view(), dev_b.view(), dev_d.view());
  const std::vector<float> d = dev_d.to_host();
  for (size_t i = 0; i < 16; ++i)
    for (size_t j = 0; j < 8; ++j) EXPECT_EQ(d[i * 8 + j], static_cast<float>(i * 16 + j + 5) + 0.5f) << i << " " << j;
}

TEST_F(TensorCoreCuda, SmallIntegersAreExact) {
  for (uint32_t seed = 1; seed < 6; ++seed) {
    std::vector<float> d(128);
    for (size_t i = 0; i < d.size(); ++i) d[i] = static_cast<float>(i) - 50;
    expect_equal(integers(256, seed), integers(128, seed + 100), d);
  }
}

// What does not fit bfloat16 must not be lost on the way: products of 16 bits, sums of more.
TEST_F(TensorCoreCuda, SumsAreFloat) {
  std::vector<bfloat16> a = integers(256, 7), b = integers(128, 8);
  for (bfloat16& v : a) v = to_bfloat16(255 - std::abs(to_float(v)));
  for (bfloat16& v : b) v = to_bfloat16(247 - std::abs(to_float(v)));
  expect_equal(a, b, std::vector<float>(128, 3.0f));
}

TEST_F(TensorCoreCuda, WrongShapesThrow) {
  const DeviceArray<bfloat16> a({16, 16}), b({16, 8});
  DeviceArray<float> d({16, 8});
  EXPECT_THROW(kernels::multiply_tile(cuda, a.view(), b.view(), d.view()), std::invalid_argument);
}

}  // namespace
}  // namespace gradlibra::testing
