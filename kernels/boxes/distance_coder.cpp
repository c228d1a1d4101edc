// SPDX-License-Identifier: MIT
#include "kernels/boxes/distance_coder.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_encode_distances(View<const float> boxes, View<const float> weights, View<const float> priors,
                            View<float> distances) {
  const char* const op = "encode_distances";
  require(boxes.rank() == 3, op, "boxes must be (N, P, 4), are " + boxes.shape().to_string());
  const int64_t N = boxes.dim(0), P = boxes.dim(1);
  require_shape(op, "boxes", boxes, {N, P, 4});
  require_shape(op, "weights", weights, {N, P});
  require_shape(op, "priors", priors, {P, 3});
  require_shape(op, "distances", distances, {N, P, 4});
}

void check_decode_distances(View<const float> distances, View<const float> priors, View<float> boxes) {
  const char* const op = "decode_distances";
  require(distances.rank() == 3, op, "distances must be (N, P, 4), are " + distances.shape().to_string());
  const int64_t N = distances.dim(0), P = distances.dim(1);
  require_shape(op, "distances", distances, {N, P, 4});
  require_shape(op, "priors", priors, {P, 3});
  require_shape(op, "boxes", boxes, {N, P, 4});
}

void encode_distances(Cpu& cpu, View<const float> boxes, View<const float> weights, View<const float> priors,
                      DistanceUnit unit, View<float> distances) {
  check_encode_distances(boxes, weights, priors, distances);
  const int64_t P = boxes.dim(1);
  parallel_for(cpu, weights.size(), 1024, [&](int64_t row) {
    const float* prior = priors.data() + 3 * (row % P);
    const float u = unit == DistanceUnit::stride ? prior[2] : 1;
    for (int64_t c = 0; c < 4; ++c) {
      const float distance = boxes[4 * row + c] - prior[c % 2];
      distances[4 * row + c] = weights[row] == 0 ? 0 : (c < 2 ? -distance : distance) / u;
    }
  });
}

void decode_distances(Cpu& cpu, View<const float> distances, View<const float> priors, DistanceUnit unit,
                      View<float> boxes) {
  check_decode_distances(distances, priors, boxes);
  const int64_t P = distances.dim(1);
  parallel_for(cpu, boxes.size() / 4, 1024, [&](int64_t row) {
    const float* prior = priors.data() + 3 * (row % P);
    const float u = unit == DistanceUnit::stride ? prior[2] : 1;
    for (int64_t c = 0; c < 4; ++c) {
      const float distance = distances[4 * row + c] * u;
      boxes[4 * row + c] = prior[c % 2] + (c < 2 ? -distance : distance);
    }
  });
}

}  // namespace gradlibra::kernels
