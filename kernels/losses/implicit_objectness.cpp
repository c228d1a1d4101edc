// SPDX-License-Identifier: MIT
// Implicit objectness on the host.
#include "kernels/losses/implicit_objectness.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_implicit_objectness(const char* op, View<const float> logits, View<const float> objectness, const Shape& z) {
  require(logits.rank() == 2, op, "logits must be (R, C), are " + logits.shape().to_string());
  require_shape(op, "objectness", objectness, {logits.dim(0)});
  require_shape(op, "z", z, logits.shape());
}

void implicit_objectness(Cpu& cpu, View<const float> logits, View<const float> objectness, View<float> z) {
  check_implicit_objectness("implicit_objectness", logits, objectness, z.shape());
  const int64_t C = logits.dim(1);
  parallel_for(cpu, logits.dim(0), 256, [&](int64_t r) {
    for (int64_t c = 0; c < C; ++c) z[r * C + c] = joint_logit(logits[r * C + c], objectness[r]).z;
  });
}

void check_implicit_objectness_backward(View<const float> logits, View<const float> objectness,
                                        View<const float> grad_z, View<float> grad_logits,
                                        View<float> grad_objectness) {
  const char* op = "implicit_objectness_backward";
  check_implicit_objectness(op, logits, objectness, grad_z.shape());
  require_shape(op, "grad_logits", grad_logits, logits.shape());
  require_shape(op, "grad_objectness", grad_objectness, objectness.shape());
}

void implicit_objectness_backward(Cpu& cpu, View<const float> logits, View<const float> objectness,
                                  View<const float> grad_z, View<float> grad_logits, Accumulate mode_logits,
                                  View<float> grad_objectness, Accumulate mode_objectness) {
  check_implicit_objectness_backward(logits, objectness, grad_z, grad_logits, grad_objectness);
  const int64_t C = logits.dim(1);
  parallel_for(cpu, logits.dim(0), 256, [&](int64_t r) {
    double sum = 0;
    for (int64_t c = 0; c < C; ++c) {
      const int64_t i = r * C + c;
      const float g = grad_z[i];
      float by_class = 0;
      if (g != 0) {
        const JointLogit joint = joint_logit(logits[i], objectness[r]);
        by_class = g * joint.by_class;
        sum += static_cast<double>(g * joint.by_objectness);
      }
      grad_logits[i] = mode_logits == Accumulate::add ? grad_logits[i] + by_class : by_class;
    }
    const auto total = static_cast<float>(sum);
    grad_objectness[r] = mode_objectness == Accumulate::add ? grad_objectness[r] + total : total;
  });
}

}  // namespace gradlibra::kernels
