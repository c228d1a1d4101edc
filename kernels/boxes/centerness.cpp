// SPDX-License-Identifier: MIT
// Centerness on the host.
#include "kernels/boxes/centerness.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {

int64_t centerness_workspace(int64_t rows) { return chunk_count(rows, kCenternessRows); }

void check_centerness_targets(View<const float> priors, View<const float> boxes, View<const float> weights,
                              View<float> centerness, View<double> sum, View<double> workspace) {
  const char* const op = "centerness_targets";
  require(boxes.rank() == 3, op, "boxes must be (N, P, 4), are " + boxes.shape().to_string());
  const int64_t N = boxes.dim(0), P = boxes.dim(1);
  require_shape(op, "priors", priors, {P, 3});
  require_shape(op, "boxes", boxes, {N, P, 4});
  require_shape(op, "weights", weights, {N, P});
  require_shape(op, "centerness", centerness, {N, P});
  require_shape(op, "sum", sum, {1});
  require(workspace.size() >= centerness_workspace(N * P), op, "workspace is too small");
}

void centerness_targets(Cpu& cpu, View<const float> priors, View<const float> boxes, View<const float> weights,
                        View<float> centerness, View<double> sum, View<double> workspace) {
  check_centerness_targets(priors, boxes, weights, centerness, sum, workspace);
  const int64_t P = boxes.dim(1), rows = weights.size();
  parallel_chunks(cpu, rows, kCenternessRows, [&](int64_t chunk, int64_t begin, int64_t end) {
    double part = 0;
    for (int64_t i = begin; i < end; ++i) {
      centerness[i] = weights[i] == 0 ? 0 : centerness_of(priors.data() + 3 * (i % P), boxes.data() + 4 * i);
      part += static_cast<double>(centerness[i]);
    }
    workspace[chunk] = part;
  });
  sum[0] = 0;
  for (int64_t chunk = 0; chunk < centerness_workspace(rows); ++chunk) sum[0] += workspace[chunk];
}

}  // namespace gradlibra::kernels
