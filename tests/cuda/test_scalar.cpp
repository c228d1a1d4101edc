// SPDX-License-Identifier: MIT
#include "kernels/scalar.h"

#include "tests/cuda/device_array.h"

namespace gradlibra::testing {
namespace {

class ScalarCuda : public CudaTest {};

TEST_F(ScalarCuda, EqualsHost) {
  Cpu cpu(1);
  for (const double x : {0.0, 1.0, 7.0, 1e12, -3.0}) {
    double want = 0;
    kernels::scaled_maximum(cpu, {&x, {1}}, 0.25, 1.0, {&want, {1}});
    const DeviceArray<double> in({1}, {x});
    DeviceArray<double> out({1});
    kernels::scaled_maximum(cuda, in.view(), 0.25, 1.0, out.view());
    EXPECT_EQ(out.to_host()[0], want) << x;
  }
}

TEST_F(ScalarCuda, AddsIfFinite) {
  const DeviceArray<double> x({300}, std::vector<double>(300, 2));
  DeviceArray<double> y({300}, std::vector<double>(300, 1));
  for (const auto& [ok, want] : {std::pair{kNaN, 1.0}, {kInfinity, 1.0}, {0.5f, 3.0}}) {
    const DeviceArray<float> flag({1}, {ok});
    kernels::add_if_finite(cuda, x.view(), flag.view(), y.view());
    EXPECT_EQ(y.to_host(), std::vector<double>(300, want));
  }
  DeviceArray<double> maxima({300});
  kernels::scaled_maximum(cuda, y.view(), 0.25, 0.5, maxima.view());
  EXPECT_EQ(maxima.to_host(), std::vector<double>(300, 0.75));
}

TEST_F(ScalarCuda, GathersByIndex) {
  std::vector<double> x(7), want(300);
  std::vector<int32_t> index(300);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.5 * static_cast<double>(i);
  for (size_t i = 0; i < want.size(); ++i) want[i] = x[static_cast<size_t>(index[i] = static_cast<int32_t>(i * 5 % 7))];
  const DeviceArray<double> device_x({7}, x);
  const DeviceArray<int32_t> device_index({300}, index);
  DeviceArray<double> y({300});
  kernels::gather(cuda, device_x.view(), device_index.view(), y.view());
  EXPECT_EQ(y.to_host(), want);
}

}  // namespace
}  // namespace gradlibra::testing
