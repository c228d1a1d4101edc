// SPDX-License-Identifier: MIT
// One thread per number: neighbouring threads read and write neighbouring numbers.
#include "kernels/boxes/distance_coder.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

__global__ void encode_distances_kernel(const float* __restrict__ boxes, const float* __restrict__ weights,
                                        const float* __restrict__ priors, bool in_strides, int64_t size, int64_t P,
                                        float* __restrict__ distances) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= size) return;
  const int64_t row = i / 4, p = row % P;
  const int c = static_cast<int>(i % 4);
  const float distance = boxes[i] - priors[3 * p + c % 2], u = in_strides ? priors[3 * p + 2] : 1;
  distances[i] = weights[row] == 0 ? 0 : (c < 2 ? -distance : distance) / u;
}

__global__ void decode_distances_kernel(const float* __restrict__ distances, const float* __restrict__ priors,
                                        bool in_strides, int64_t size, int64_t P, float* __restrict__ boxes) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= size) return;
  const int64_t p = i / 4 % P;
  const int c = static_cast<int>(i % 4);
  const float distance = distances[i] * (in_strides ? priors[3 * p + 2] : 1);
  boxes[i] = priors[3 * p + c % 2] + (c < 2 ? -distance : distance);
}

}  // namespace

void encode_distances(Cuda& cuda, View<const float> boxes, View<const float> weights, View<const float> priors,
                      DistanceUnit unit, View<float> distances) {
  check_encode_distances(boxes, weights, priors, distances);
  if (boxes.size() == 0) return;
  launch(encode_distances_kernel, blocks_for(boxes.size(), kBlock), kBlock, 0, cuda.stream(), boxes.data(),
         weights.data(), priors.data(), unit == DistanceUnit::stride, boxes.size(), boxes.dim(1), distances.data());
}

void decode_distances(Cuda& cuda, View<const float> distances, View<const float> priors, DistanceUnit unit,
                      View<float> boxes) {
  check_decode_distances(distances, priors, boxes);
  if (boxes.size() == 0) return;
  launch(decode_distances_kernel, blocks_for(boxes.size(), kBlock), kBlock, 0, cuda.stream(), distances.data(),
         priors.data(), unit == DistanceUnit::stride, boxes.size(), boxes.dim(1), boxes.data());
}

}  // namespace gradlibra::kernels
