// SPDX-License-Identifier: MIT
#include "models/heads/yolof_ops.h"

#include "kernels/boxes/uniform_assign.h"
#include "kernels/elementwise.h"
#include "kernels/losses/implicit_objectness.h"
#include "runtime/autograd/ops/shared.h"

namespace gradlibra::ops {

Var anchor_rows(Tape& tape, Var x, int channels) {
  const int64_t N = x.dim(0), size = x.shape().size();
  require(x.dim(-1) % channels == 0, "anchor_rows",
          x.shape().to_string() + " is not anchors of " + std::to_string(channels) + " channels");
  Var y = tape.make({N, N == 0 ? 0 : size / N / channels, channels}, x.requires_grad());
  tape.run([&](auto& device) { kernels::copy(device, x.view(), y.out(), Accumulate::overwrite); });
  tape.on_backward(y, {x}, [=, &tape] {
    const auto target = tape.grad_of(x);
    tape.run(
        [&](auto& device) { kernels::copy(device, std::as_const(y.node().grad).view(), target.grad, target.mode); });
  });
  return y;
}

Var implicit_objectness(Tape& tape, Var logits, Var objectness, int channels) {
  const int64_t N = logits.dim(0), R = objectness.shape().size();
  require(logits.shape().size() == R * channels, "implicit_objectness",
          "logits " + logits.shape().to_string() + " and objectness " + objectness.shape().to_string() + " of " +
              std::to_string(channels) + " channels");
  Var z = tape.make({N, N == 0 ? 0 : R / N, channels}, logits.requires_grad() || objectness.requires_grad());
  const Shape rows{R, channels};
  const View<const float> a(logits.view().data(), rows), b(objectness.view().data(), {R});
  tape.run([&](auto& device) { kernels::implicit_objectness(device, a, b, {z.out().data(), rows}); });
  tape.on_backward(z, {logits, objectness}, [=, &tape] {
    const auto by_logits = tape.grad_of(logits), by_objectness = tape.grad_of(objectness);
    tape.run([&](auto& device) {
      kernels::implicit_objectness_backward(device, a, b, {Tape::grad(z).data(), rows}, {by_logits.grad.data(), rows},
                                            by_logits.mode, {by_objectness.grad.data(), {R}}, by_objectness.mode);
    });
  });
  return z;
}

PairedBoxes gather_pairs(Tape& tape, Var boxes, Tensor pairs, const GroundTruth& truth) {
  const int64_t N = pairs.dim(0), S = pairs.dim(1), M = pairs.dim(2);
  const auto kept = shared(std::move(pairs));
  PairedBoxes result{tape.make({N, S, M, 4}, boxes.requires_grad()), tape.context().empty({N, S, M, 4}),
                     tape.context().empty({N, S, M})};
  const Var rows = result.boxes;
  tape.run([&](auto& device) {
    kernels::gather_pairs(device, kept->view<int32_t>(), boxes.view(), truth.boxes.view(), rows.out(),
                          result.targets.view(), result.weights.view());
  });
  tape.on_backward(rows, {boxes}, [=, &tape] {
    const auto target = tape.grad_of(boxes);
    tape.run([&](auto& device) {
      kernels::gather_pairs_backward(device, kept->view<int32_t>(), Tape::grad(rows), target.grad, target.mode);
    });
  });
  return result;
}

}  // namespace gradlibra::ops
