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

}  // namespace
}  // namespace gradlibra::testing
