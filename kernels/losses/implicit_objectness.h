// SPDX-License-Identifier: MIT
// Implicit objectness of YOLOF (arXiv:2103.09460): a class logit and the anchor's objectness as one logit, whose score
// is the product of theirs.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/executor.h"
#include "kernels/host_device.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// With sigma(z) = sigma(a) * sigma(b):
//   z = a + b - log(1 + e^a + e^b) = -log(e^-a + e^-b + e^(-a-b))
//   dz/da = (e^-a + e^(-a-b)) / S,   dz/db = (e^-b + e^(-a-b)) / S,   S = e^-a + e^-b + e^(-a-b)
// The second form has no cancellation: the largest exponential is taken out, and no logit is clamped (MMDetection
// clamps e^a and e^b at 1e8, which changes z where a logit is above 18.4 and gives NaN gradients above 88).
struct JointLogit {
  float z, by_class, by_objectness;
};
GRADLIBRA_HOST_DEVICE inline JointLogit joint_logit(float a, float b) {
  const float lower = a < b ? a : b, upper = a < b ? b : a;
  // The exponents -lower, -upper and -lower - upper, less the largest of them.
  const bool both_negative = upper < 0;  // then -lower - upper is the largest
  const float e_lower = both_negative ? std::exp(upper) : 1,
              e_upper = both_negative ? std::exp(lower) : std::exp(lower - upper),
              e_both = both_negative ? 1 : std::exp(-upper);
  const float rest = both_negative ? e_lower + e_upper : e_upper + e_both, S = 1 + rest;
  const float by_lower = (e_lower + e_both) / S, by_upper = (e_upper + e_both) / S;
  const float z = (both_negative ? lower + upper : lower) - std::log1p(rest);
  return {z, a < b ? by_lower : by_upper, a < b ? by_upper : by_lower};
}

// logits (R, C) of anchors, objectness (R), z (R, C). R may be 0.
void implicit_objectness(Cpu&, View<const float> logits, View<const float> objectness, View<float> z);
void implicit_objectness(Cuda&, View<const float> logits, View<const float> objectness, View<float> z);

// grad_logits (R, C) (+)= grad_z * dz/da;  grad_objectness (R) (+)= the sum over c of grad_z * dz/db, in double, c
// ascending. Where grad_z is 0 nothing is added, whatever the logits hold: rows without weight.
void implicit_objectness_backward(Cpu&, View<const float> logits, View<const float> objectness,
                                  View<const float> grad_z, View<float> grad_logits, Accumulate mode_logits,
                                  View<float> grad_objectness, Accumulate mode_objectness);
void implicit_objectness_backward(Cuda&, View<const float> logits, View<const float> objectness,
                                  View<const float> grad_z, View<float> grad_logits, Accumulate mode_logits,
                                  View<float> grad_objectness, Accumulate mode_objectness);

// What all of them check first, and then the gradients.
void check_implicit_objectness(const char* op, View<const float> logits, View<const float> objectness, const Shape& z);
void check_implicit_objectness_backward(View<const float> logits, View<const float> objectness,
                                        View<const float> grad_z, View<float> grad_logits, View<float> grad_objectness);

}  // namespace gradlibra::kernels
