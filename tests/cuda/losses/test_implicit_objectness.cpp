// SPDX-License-Identifier: MIT
// Joint logits of YOLOF: CUDA against the host.
#include "kernels/losses/implicit_objectness.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/host_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class ImplicitObjectnessCuda : public CudaTest {};

TEST_F(ImplicitObjectnessCuda, EqualsHost) {
  Cpu cpu(2);
  for (const Shape shape : {Shape{0, 3}, Shape{1, 1}, Shape{300, 7}, Shape{41, 80}}) {
    const int64_t R = shape[0];
    const Floats logits = random_array(shape, 1, -30, 30), objectness = random_array({R}, 2, -30, 30);
    Floats grad_z = random_array(shape, 3), z(shape), grad_logits = random_array(shape, 4),
           grad_objectness = random_array({R}, 5);
    for (int64_t i = 0; i < grad_z.size(); i += 3) grad_z[i] = 0;
    const DeviceArray<float> a(shape, logits.values), b({R}, objectness.values), g(shape, grad_z.values);
    DeviceArray<float> device_z(shape), by_logits(shape, grad_logits.values),
        by_objectness({R}, grad_objectness.values);
    implicit_objectness(cpu, logits.view(), objectness.view(), z.view());
    implicit_objectness(cuda, a.view(), b.view(), device_z.view());
    expect_near(device_z.to_host(), z.values, 1e-6, 1e-6);
    for (const Accumulate mode : {Accumulate::add, Accumulate::overwrite}) {
      implicit_objectness_backward(cpu, logits.view(), objectness.view(), grad_z.view(), grad_logits.view(), mode,
                                   grad_objectness.view(), mode);
      implicit_objectness_backward(cuda, a.view(), b.view(), g.view(), by_logits.view(), mode, by_objectness.view(),
                                   mode);
      expect_near(by_logits.to_host(), grad_logits.values, 1e-6, 1e-6);
      expect_near(by_objectness.to_host(), grad_objectness.values, 1e-5, 1e-6);
    }
  }
}

}  // namespace
}  // namespace gradlibra::kernels
