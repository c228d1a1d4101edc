// SPDX-License-Identifier: MIT
#include "models/assigners/assignment.h"

#include <array>
#include <stdexcept>

#include "kernels/boxes/assign.h"
#include "kernels/scalar.h"

namespace gradlibra {

namespace {

Targets gather(Tape& tape, const Assignment& assignment, const GroundTruth& truth, int classes, bool with_labels) {
  const int64_t N = assignment.matched.dim(0), P = assignment.matched.dim(1);
  Context& context = tape.context();
  Targets targets;
  View<int32_t> labels;
  View<float> class_weights;
  if (with_labels) {
    targets.labels = context.empty({N, P}, DType::i32);
    targets.class_weights = context.empty({N, P});
    labels = targets.labels.view<int32_t>();
    class_weights = targets.class_weights.view();
  }
  targets.boxes = context.empty({N, P, 4});
  targets.box_weights = context.empty({N, P});
  tape.run([&](auto& device) {
    kernels::gather_targets(device, assignment.matched.view<int32_t>(), truth.boxes.view(),
                            truth.labels.view<int32_t>(), classes, labels, class_weights, targets.boxes.view(),
                            targets.box_weights.view());
  });
  return targets;
}

}  // namespace

Assignment counted(Tape& tape, Tensor matched) {
  Assignment assignment{std::move(matched), tape.context().empty({4}, DType::f64)};
  Tensor workspace = tape.context().empty({kernels::count_assigned_workspace(assignment.matched.dim(0))}, DType::i32);
  tape.run([&](auto& device) {
    kernels::count_assigned(device, std::as_const(assignment.matched).view<int32_t>(), assignment.counts.view<double>(),
                            workspace.view<int32_t>());
  });
  return assignment;
}

Targets gather_targets(Tape& tape, const Assignment& assignment, const GroundTruth& truth, int classes) {
  return gather(tape, assignment, truth, classes, /*with_labels=*/true);
}

Targets box_targets(Tape& tape, const Assignment& assignment, const GroundTruth& truth) {
  return gather(tape, assignment, truth, 0, /*with_labels=*/false);
}

Normalizer parse_normalizer(const std::string& name) {
  constexpr std::array<const char*, 4> kNames{"num_pos", "num_valid", "num_pos_image_min1", "pos_plus_neg"};
  for (size_t i = 0; i < kNames.size(); ++i)
    if (name == kNames[i]) return static_cast<Normalizer>(i);
  throw std::invalid_argument("model.loss.normalizer: '" + name +
                              "' is not one of num_pos, num_valid, num_pos_image_min1, pos_plus_neg");
}

Tensor normalizer(Tape& tape, const Assignment& summed, Normalizer kind, int ranks) {
  Tensor result = tape.context().empty({1}, DType::f64);
  const View<const double> count(summed.counts.view<double>().data() + static_cast<int>(kind), {1});
  tape.run([&](auto& device) { kernels::scaled_maximum(device, count, 1, ranks, result.view<double>()); });
  return result;
}

}  // namespace gradlibra
