// SPDX-License-Identifier: MIT
#include "models/heads/anchor_ops.h"

namespace gradlibra::ops {

Var decode_deltas(Tape& tape, Var deltas, const Anchors& anchors, const kernels::DeltaCoder& coder) {
  const Shape rows{deltas.dim(0), anchors.boxes.dim(0), 4};
  require(deltas.shape().size() == rows.size(), "decode_deltas",
          "deltas " + deltas.shape().to_string() + " for " + std::to_string(rows[1]) + " anchors");
  Var boxes = tape.make(rows, deltas.requires_grad());
  const View<const float> delta_rows(deltas.view().data(), rows);
  tape.run([&](auto& device) { kernels::decode_deltas(device, anchors.boxes.view(), delta_rows, coder, boxes.out()); });
  tape.on_backward(boxes, {deltas}, [=, &tape, &anchors] {
    const auto target = tape.grad_of(deltas);
    tape.run([&](auto& device) {
      kernels::decode_deltas_backward(device, anchors.boxes.view(), delta_rows, coder, Tape::grad(boxes),
                                      {target.grad.data(), rows}, target.mode);
    });
  });
  return boxes;
}

}  // namespace gradlibra::ops
