// SPDX-License-Identifier: MIT
// One entry of a sigmoid loss in any precision: what all losses of the family share, and what a member brings.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/host_device.h"

namespace gradlibra::kernels {

// Where an entry of the logits stands: its row's label (C: background) and its channel.
struct EntryPlace {
  int32_t label, channel;
  GRADLIBRA_HOST_DEVICE bool positive() const { return label == channel; }
};

// Loss of one entry and its derivative by the logit.
template <class T>
struct Entry {
  T loss, grad;
};

// With t = -z for a positive entry and t = z for a negative one (a background row is negative for every class),
//   g = sigmoid(t) = |p - y|,   ce = log(1 + e^t),   every loss is   l = psi(g) * ce,
//   dl/dt = g * psi(g) + g * psi'(g) * (1-g) * ce     without the second term where psi is held constant.
// A member of the family has weight<T>(), a plain struct in the precision of the evaluation, with
//   T psi(T g, EntryPlace)            the weight of the cross-entropy
//   T slope(T g, T psi, EntryPlace)   g * psi'(g), or 0 where psi is held constant
// It may hold pointers to memory of the device that evaluates it (weights by class).
template <class T, class Weight>
GRADLIBRA_HOST_DEVICE inline Entry<T> sigmoid_entry(T logit, EntryPlace place, const Weight& weight) {
  constexpr T kMax = static_cast<T>(std::is_same_v<T, float> ? double{FLT_MAX} : DBL_MAX);
  const bool positive = place.positive();
  const T t = positive ? -logit : logit;
  const T e = std::exp(-std::abs(t));
  const T larger = 1 / (1 + e), smaller = e * larger;
  const T g = t >= 0 ? larger : smaller;            // sigmoid(t)
  const T one_minus_g = t >= 0 ? smaller : larger;  // sigmoid(-t), not a subtraction
  // Ternaries, not fmax and fmin, which would drop a NaN.
  const T ce = (t > 0 ? t : 0) + std::log1p(e);           // softplus(t)
  const T decay = one_minus_g * (ce > kMax ? kMax : ce);  // -> 0 as t -> inf, where the product would be 0 * inf

  const T psi = weight.psi(g, place);
  const T grad_t = g * psi + weight.slope(g, psi, place) * decay;
  return {psi * ce, positive ? -grad_t : grad_t};
}

}  // namespace gradlibra::kernels
