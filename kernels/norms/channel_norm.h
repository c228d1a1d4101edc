// SPDX-License-Identifier: MIT
// What batch norm and group norm share: NHWC maps normalised over the rows of an image and the channels of a group.
//
// The plain definition:
//   for each image n and group g, over its m elements (rows r, channels c of the group):
//     mean = sum x / m                  rstd = 1 / sqrt(sum (x - mean)^2 / m + eps)
//     x_hat = (x - mean) * rstd         y = weight[c] * x_hat + bias[c], or 0 if that is negative and relu is asked
//   and back, with g = grad_y, or 0 where relu cut:
//     grad_bias[c] += sum g             grad_weight[c] += sum g * x_hat                       over images and rows
//     a = sum weight[c] * g / m         b = sum weight[c] * g * x_hat / m                     over the group
//     grad_x = rstd * (weight[c] * g - a - x_hat * b)
//
// Its rungs; the first tests the others:
//   channel_norm.cpp   the host: sums per chunk of rows, the chunks joined; what can be read first
//   channel_norm.cu    the same in passes over the map; channel_norm.cuh opens with the words for it
//   group_norm.cu      small images: all passes in one launch
// What tests the first is the definition in double, element by element, with gradients by differences
// (tests/kernels/norms/norm_oracle.h). `benchmark kernels --filter norm` times the others on a GPU, and with
// `--device cpu` the first.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/norms/norm_passes.h"
#include "kernels/row_chunks.h"

namespace gradlibra::kernels {

// x is N images of R rows (positions) of C channels in G groups; a group has m = R * C / G elements per image.
// Group norm: N images of H*W rows. Batch norm: one "image" with all rows of the batch, and as many groups as channels.
struct NormShape {
  int64_t N, R, C, G;
  GRADLIBRA_HOST_DEVICE constexpr int64_t channels_per_group() const { return C / G; }
  GRADLIBRA_HOST_DEVICE constexpr int64_t chunks() const { return row_chunks(R, C); }  // per image
  // Sums are taken in two steps: per chunk of rows and channel into the workspace, then over the chunks. Two values per
  // (image, chunk, channel), and two per (image, group).
  GRADLIBRA_HOST_DEVICE constexpr int64_t partials() const { return N * chunks() * C; }
  [[nodiscard]] constexpr int64_t workspace() const { return 2 * (partials() + N * G); }
};

// mean and rstd (N * G elements) of x; 0 and 1 / sqrt(eps) for groups without elements. In each chunk, sums of x - s
// and (x - s)^2 with s the chunk's first row: s is one of the n values, so cancellation costs at most a factor n of
// float's precision, n <= 1024, whatever the mean. Chunks are joined by m*var = sum_i M2_i + n_i (mean_i - mean)^2, in
// double. Running statistics (one image): G elements, the variance with divisor m - 1.
template <MapType T>
void norm_statistics(Cpu&, const char* op, const NormShape&, const NormStatisticsPass<T>&);
template <MapType T>
void norm_statistics(Cuda&, const char* op, const NormShape&, const NormStatisticsPass<T>&);

// y = weight * (x - mean) * rstd + bias, then max(y, 0) if relu. y may be x.
template <MapType T>
void norm_forward(Cpu&, const char* op, const NormShape&, const NormForwardPass<T>&);
template <MapType T>
void norm_forward(Cuda&, const char* op, const NormShape&, const NormForwardPass<T>&);

// norm_statistics and norm_forward, of the same x, mean and rstd and without running statistics, in two launches where
// norm_forward can join the chunks itself, else in three.
template <MapType T>
void norm_statistics_and_forward(Cuda&, const char* op, const NormShape&, const NormStatisticsPass<T>&,
                                 const NormForwardPass<T>&);

// With g = grad_y where y > 0 (everywhere without relu) and x_hat = (x - mean) * rstd:
//   grad_bias (+)= sum g,   grad_weight (+)= sum g * x_hat   over images and rows,
//   grad_x (+)= rstd * (weight*g - (1/m) sum(weight*g) - x_hat * (1/m) sum(weight*g*x_hat))  sums over the group.
template <MapType T>
void norm_backward(Cpu&, const char* op, const NormShape&, const NormBackwardPass<T>&);
template <MapType T>
void norm_backward(Cuda&, const char* op, const NormShape&, const NormBackwardPass<T>&);

// The last line of it, from given averages (N * G) of weight*g and weight*g*x_hat. Parameters and workspace of the pass
// are not looked at.
template <MapType T>
void norm_input_gradient(Cpu&, const char* op, const NormShape&, const NormBackwardPass<T>&,
                         View<const float> average_g, View<const float> average_g_x_hat);
template <MapType T>
void norm_input_gradient(Cuda&, const char* op, const NormShape&, const NormBackwardPass<T>&,
                         View<const float> average_g, View<const float> average_g_x_hat);

NormShape batch_norm_shape(const char* op, const Shape& x, int64_t fewest_rows = 0);  // x (..., C)
NormShape group_norm_shape(const char* op, const Shape& x, int groups);               // x (N, H, W, C)

}  // namespace gradlibra::kernels
