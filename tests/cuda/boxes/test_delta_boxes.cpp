// SPDX-License-Identifier: MIT
// Deltas to boxes: CUDA against the host, deltas on both sides of every clamp.
#include "kernels/boxes/delta_boxes.h"

#include "tests/cuda/device_array.h"
#include "tests/kernels/host_array.h"

namespace gradlibra::kernels {
namespace {

using namespace gradlibra::testing;

class DeltaBoxesCuda : public CudaTest {};

TEST_F(DeltaBoxesCuda, EqualsHost) {
  Cpu cpu(2);
  for (const DeltaCoder& coder : {DeltaCoder{.std_centre = 0.1f, .std_size = 0.2f}, DeltaCoder{.centre_clamp = 32}})
    for (const Shape rows : {Shape{1, 1, 4}, Shape{2, 331, 4}, Shape{3, 0, 4}, Shape{0, 5, 4}}) {
      const int64_t P = rows[1];
      Floats anchors({P, 4});
      for (int64_t p = 0; p < P; ++p)
        for (int64_t c = 0; c < 4; ++c)
          anchors[4 * p + c] = static_cast<float>((7 * p + 3 * c) % 64 + (c >= 2 ? 70 + 31 * (p % 9) : 0));
      const Floats deltas = random_array(rows, 4, -7, 7), grad_boxes = random_array(rows, 5);
      Floats boxes(rows), grad = random_array(rows, 6);
      const DeviceArray<float> device_anchors({P, 4}, anchors.values), device_deltas(rows, deltas.values),
          device_grad_boxes(rows, grad_boxes.values);
      DeviceArray<float> device_boxes(rows), device_grad(rows), device_sum(rows, grad.values);
      decode_deltas(cpu, anchors.view(), deltas.view(), coder, boxes.view());
      decode_deltas(cuda, device_anchors.view(), device_deltas.view(), coder, device_boxes.view());
      expect_near(device_boxes.to_host(), boxes.values, 1e-4, 1e-6);
      decode_deltas_backward(cpu, anchors.view(), deltas.view(), coder, grad_boxes.view(), grad.view(),
                             Accumulate::add);
      decode_deltas_backward(cuda, device_anchors.view(), device_deltas.view(), coder, device_grad_boxes.view(),
                             device_sum.view(), Accumulate::add);
      expect_near(device_sum.to_host(), grad.values, 1e-4, 1e-5);
      decode_deltas_backward(cpu, anchors.view(), deltas.view(), coder, grad_boxes.view(), grad.view(),
                             Accumulate::overwrite);
      decode_deltas_backward(cuda, device_anchors.view(), device_deltas.view(), coder, device_grad_boxes.view(),
                             device_grad.view(), Accumulate::overwrite);
      expect_near(device_grad.to_host(), grad.values, 1e-4, 1e-5);
    }
}

}  // namespace
}  // namespace gradlibra::kernels
