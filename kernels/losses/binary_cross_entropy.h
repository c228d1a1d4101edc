// SPDX-License-Identifier: MIT
// Binary cross-entropy of logits with targets between 0 and 1 (centerness), value and gradient in one pass.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/executor.h"
#include "kernels/host_device.h"
#include "kernels/losses/loss_sum.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// With s = out.weight / out.normalizer[0] and l = softplus(z) - t z, whose least value is the entropy of t, not 0:
//   out.loss[0] = s * sum_i w_i l_i                  double, fixed order
//   out.grad    = s * w_i * (sigmoid(z_i) - t_i)     for every row; 0, by selection, where w == 0
// logits, targets, weights (R). R may be 0: loss 0. A NaN in a row
// with w != 0 gives NaN; an infinite logit on the side of a target of 0 or 1 costs 0, on the other infinity. Entries
// are evaluated in double. out.workspace: binary_cross_entropy_workspace(R) doubles, the partial sums of
// kBinaryCrossEntropyRows rows each.
inline constexpr int kBinaryCrossEntropyRows = 256;
int64_t binary_cross_entropy_workspace(int64_t rows);
void binary_cross_entropy(Cpu&, View<const float> logits, View<const float> targets, View<const float> weights,
                          const LossSum& out);
void binary_cross_entropy(Cuda&, View<const float> logits, View<const float> targets, View<const float> weights,
                          const LossSum& out);

// What both versions check first.
void check_binary_cross_entropy(View<const float> logits, View<const float> targets, View<const float> weights,
                                const LossSum& out);

// One row.
struct BinaryEntry {
  double loss, grad;
};
GRADLIBRA_HOST_DEVICE inline BinaryEntry binary_entry(double z, double t) {
  // |z| times how far the target is from the side that z is on; nothing where that is 0, even of infinity.
  const double miss = z > 0 ? 1 - t : t, e = std::exp(-std::abs(z));
  return {(miss == 0 ? 0 : miss * std::abs(z)) + std::log1p(e), (z >= 0 ? 1 : e) / (1 + e) - t};
}

}  // namespace gradlibra::kernels
