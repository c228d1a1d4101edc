// SPDX-License-Identifier: MIT
// Modulation of deformable columns on the host.
#include "kernels/convolution/deform_modulation.h"

#include <algorithm>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

constexpr int64_t kRowsPerTask = 512;
constexpr int64_t kValuesPerTask = 32768;

// grad[c] * columns[c] summed over C channels in eight interleaved parts: vectorises, and the order is fixed.
template <MapType T>
float product(const T* grad, const T* columns, int64_t C) {
  constexpr int kLanes = 8;
  float parts[kLanes] = {};
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes)
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) parts[l] += to_float(grad[c + l]) * to_float(columns[c + l]);
  for (int l = 0; c + l < C; ++l) parts[l] += to_float(grad[c + l]) * to_float(columns[c + l]);
  return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

}  // namespace

ModulationDims split_modulation_dims(const char* op, const Shape& prediction, const Shape& offsets, const Shape& mask) {
  require(prediction.rank() == 4 && prediction[3] % 3 == 0, op,
          "prediction has shape " + prediction.to_string() + ", expected (N, H, W, 3*K*K)");
  const int64_t N = prediction[0], H = prediction[1], W = prediction[2], taps = prediction[3] / 3;
  require_shape(op, "offsets", offsets, {N, H, W, 2 * taps});
  require_shape(op, "mask", mask, {N, H, W, taps});
  return {N * H * W, taps};
}

ColumnDims modulate_columns_dims(const char* op, const Shape& columns, const Shape& mask, const Shape& modulated) {
  require(columns.rank() == 5, op, "columns have shape " + columns.to_string() + ", expected (N, H, W, K*K, C)");
  require(columns[4] <= INT32_MAX, op, "columns have more than 2^31 - 1 channels: " + columns.to_string());
  require_shape(op, "mask", mask, {columns[0], columns[1], columns[2], columns[3]});
  require_shape(op, "modulated columns", modulated, columns);
  return {mask.size(), columns[4]};
}

ModulationDims split_modulation_backward_dims(const Shape& prediction, const Shape& grad_offsets,
                                              const Shape& grad_mask, const Shape& grad_prediction) {
  const char* op = "split_modulation_backward";
  require_shape(op, "grad_prediction", grad_prediction, prediction);
  return split_modulation_dims(op, prediction, grad_offsets, grad_mask);
}

ColumnDims modulate_columns_backward_dims(const Shape& columns, const Shape& mask, const Shape& grad,
                                          const Shape& grad_mask) {
  const char* op = "modulate_columns_backward";
  require_shape(op, "grad_mask", grad_mask, mask);
  return modulate_columns_dims(op, columns, mask, grad);
}

template <MapType T>
void split_modulation(Cpu& cpu, View<const T> prediction, View<float> offsets, View<float> mask) {
  const auto [rows, taps] =
      split_modulation_dims("split_modulation", prediction.shape(), offsets.shape(), mask.shape());
  parallel_for(cpu, rows, kRowsPerTask, [=, taps = taps](int64_t row) {
    const T* in = prediction.data() + row * 3 * taps;
    for (int64_t k = 0; k < 2 * taps; ++k) offsets[row * 2 * taps + k] = to_float(in[k]);
    for (int64_t t = 0; t < taps; ++t) mask[row * taps + t] = mask_of(to_float(in[2 * taps + t])).mask;
  });
}

template <MapType T>
void split_modulation_backward(Cpu& cpu, In<T> prediction, View<const float> grad_offsets, View<const float> grad_mask,
                               const GradTarget<T>& grad_prediction) {
  const auto [rows, taps] = split_modulation_backward_dims(prediction.shape(), grad_offsets.shape(), grad_mask.shape(),
                                                           grad_prediction.grad.shape());
  const bool add = grad_prediction.adds();
  parallel_for(cpu, rows, kRowsPerTask, [=, taps = taps, &grad_prediction](int64_t row) {
    const T* in = prediction.data() + row * 3 * taps;
    T* out = grad_prediction.grad.data() + row * 3 * taps;
    for (int64_t k = 0; k < 3 * taps; ++k) {
      const float g = k < 2 * taps ? grad_offsets[row * 2 * taps + k]
                                   : grad_mask[row * taps + k - 2 * taps] * mask_of(to_float(in[k])).slope;
      out[k] = from_float<T>(add ? to_float(out[k]) + g : g);
    }
  });
}

template <MapType T>
void modulate_columns(Cpu& cpu, In<T> columns, View<const float> mask, View<T> modulated) {
  const auto [samples, C] = modulate_columns_dims("modulate_columns", columns.shape(), mask.shape(), modulated.shape());
  parallel_for(cpu, samples, kValuesPerTask / std::max<int64_t>(C, 1) + 1, [=, C = C](int64_t sample) {
    const T* in = columns.data() + sample * C;
    T* out = modulated.data() + sample * C;
    const float m = mask[sample];
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) out[c] = from_float<T>(m * to_float(in[c]));
  });
}

template <MapType T>
void modulate_columns_backward(Cpu& cpu, In<T> columns, View<const float> mask, View<T> grad, View<float> grad_mask) {
  const auto [samples, C] =
      modulate_columns_backward_dims(columns.shape(), mask.shape(), grad.shape(), grad_mask.shape());
  parallel_for(cpu, samples, kValuesPerTask / std::max<int64_t>(C, 1) + 1, [=, C = C](int64_t sample) {
    T* g = grad.data() + sample * C;
    grad_mask[sample] = product(g, columns.data() + sample * C, C);
    const float m = mask[sample];
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) g[c] = from_float<T>(m * to_float(g[c]));
  });
}

template void split_modulation(Cpu&, View<const float>, View<float>, View<float>);
template void split_modulation(Cpu&, View<const bfloat16>, View<float>, View<float>);
template void split_modulation_backward(Cpu&, View<const float>, View<const float>, View<const float>,
                                        const GradTarget<float>&);
template void split_modulation_backward(Cpu&, View<const bfloat16>, View<const float>, View<const float>,
                                        const GradTarget<bfloat16>&);
template void modulate_columns(Cpu&, View<const float>, View<const float>, View<float>);
template void modulate_columns(Cpu&, View<const bfloat16>, View<const float>, View<bfloat16>);
template void modulate_columns_backward(Cpu&, View<const float>, View<const float>, View<float>, View<float>);
template void modulate_columns_backward(Cpu&, View<const bfloat16>, View<const float>, View<bfloat16>, View<float>);

}  // namespace gradlibra::kernels
