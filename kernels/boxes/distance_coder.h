// SPDX-License-Identifier: MIT
// Boxes as distances of their sides from a point: left, top, right, bottom (FCOS, arXiv:1904.01355, eq. 1).
#pragma once

#include "kernels/executor.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

enum class DistanceUnit { pixel, stride };

// Prior p of priors (P, 3) is (x, y, stride); u is 1 or its stride.
//   encode: distances = ((x - x1) / u, (y - y1) / u, (x2 - x) / u, (y2 - y) / u); rows of weight 0 give 0, whatever
//           their boxes hold
//   decode: boxes = (x - l u, y - t u, x + r u, y + b u)
// boxes, distances (N, P, 4), weights (N, P). N*P may be 0. A side that a point lies beyond has a negative distance.
void encode_distances(Cpu&, View<const float> boxes, View<const float> weights, View<const float> priors,
                      DistanceUnit unit, View<float> distances);
void encode_distances(Cuda&, View<const float> boxes, View<const float> weights, View<const float> priors,
                      DistanceUnit unit, View<float> distances);
void decode_distances(Cpu&, View<const float> distances, View<const float> priors, DistanceUnit unit,
                      View<float> boxes);
void decode_distances(Cuda&, View<const float> distances, View<const float> priors, DistanceUnit unit,
                      View<float> boxes);

// What both versions check first.
void check_encode_distances(View<const float> boxes, View<const float> weights, View<const float> priors,
                            View<float> distances);
void check_decode_distances(View<const float> distances, View<const float> priors, View<float> boxes);

}  // namespace gradlibra::kernels
