// SPDX-License-Identifier: MIT
#include "models/heads/reppoints_ops.h"

#include "kernels/elementwise.h"

namespace gradlibra::ops {

Var subtract_row(Tape& tape, Var x, const Tensor& row, float grad_factor) {
  Var y = tape.make(x.shape(), x.requires_grad());
  tape.run([&](auto& device) { kernels::subtract_row(device, x.view(), row.view(), y.out()); });
  tape.on_backward(y, {x}, [=, &tape] {
    const auto target = tape.grad_of(x);
    tape.run([&](auto& device) { kernels::scale(device, Tape::grad(y), grad_factor, target.grad, target.mode); });
  });
  return y;
}

Var add_detached(Tape& tape, Var a, Var b) {
  Var y = tape.make(a.shape(), a.requires_grad());
  tape.run([&](auto& device) { kernels::add(device, a.view(), b.view(), y.out()); });
  tape.on_backward(y, {a}, [=, &tape] { tape.pass_grad(y, a); });
  return y;
}

GridPoints grid_points(Tape& tape, Var regression, Var previous, float half, int side) {
  std::vector<int64_t> dims(regression.shape().dims().begin(), regression.shape().dims().end());
  dims.back() = 2 * int64_t{side} * side;
  Var points = tape.make(Shape(dims), regression.requires_grad());
  Var boxes = tape.make(regression.shape(), false);
  const kernels::PreviousBoxes from{previous ? previous.view() : View<const float>(), half};
  tape.run([&](auto& device) { kernels::grid_points(device, regression.view(), from, points.out(), boxes.out()); });
  tape.on_backward(points, {regression, previous}, [=, &tape] {
    const auto target = tape.grad_of(regression);
    tape.run([&](auto& device) {
      kernels::grid_points_backward(device, regression.view(), from, Tape::grad(points), target);
    });
  });
  return {points, boxes};
}

Var points_to_boxes(Tape& tape, Var offsets, const Tensor& priors, Var moment, kernels::BoxTransform transform,
                    float moment_mul) {
  const int64_t N = offsets.dim(0), P = offsets.dim(1);
  Var boxes = tape.make({N, P, 4}, offsets.requires_grad());
  const kernels::PointSets sets{.offsets = offsets.view(),
                                .priors = priors.view(),
                                .moment = moment ? moment.view() : View<const float>(),
                                .transform = transform};
  tape.run([&](auto& device) { kernels::points_to_boxes(device, sets, boxes.out()); });
  tape.on_backward(boxes, {offsets, moment}, [=, &tape] {
    const kernels::PointSetGradients gradients{
        .offsets = tape.grad_of(offsets), .moment = tape.grad_if_wanted(moment), .moment_mul = moment_mul};
    Tensor workspace = tape.context().empty({kernels::points_to_boxes_workspace(N * P)});
    tape.run([&](auto& device) {
      kernels::points_to_boxes_backward(device, sets, Tape::grad(boxes), gradients, workspace.view());
    });
  });
  return boxes;
}

}  // namespace gradlibra::ops
