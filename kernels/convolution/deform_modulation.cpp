// SPDX-License-Identifier: MIT
// Offsets and masks out of one prediction, on the host.
#include "kernels/convolution/deform_modulation.h"

#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

constexpr int64_t kRowsPerTask = 512;

}  // namespace

ModulationDims split_modulation_dims(const char* op, const Shape& prediction, const Shape& offsets, const Shape& mask) {
  require(prediction.rank() == 4 && prediction[3] % 3 == 0, op,
          "prediction has shape " + prediction.to_string() + ", expected (N, H, W, 3*K*K)");
  const int64_t N = prediction[0], H = prediction[1], W = prediction[2], taps = prediction[3] / 3;
  require_shape(op, "offsets", offsets, {N, H, W, 2 * taps});
  require_shape(op, "mask", mask, {N, H, W, taps});
  return {N * H * W, taps};
}

ModulationDims split_modulation_backward_dims(const Shape& prediction, const Shape& grad_offsets,
                                              const Shape& grad_mask, const Shape& grad_prediction) {
  const char* op = "split_modulation_backward";
  require_shape(op, "grad_prediction", grad_prediction, prediction);
  return split_modulation_dims(op, prediction, grad_offsets, grad_mask);
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

template void split_modulation(Cpu&, View<const float>, View<float>, View<float>);
template void split_modulation(Cpu&, View<const bfloat16>, View<float>, View<float>);
template void split_modulation_backward(Cpu&, View<const float>, View<const float>, View<const float>,
                                        const GradTarget<float>&);
template void split_modulation_backward(Cpu&, View<const bfloat16>, View<const float>, View<const float>,
                                        const GradTarget<bfloat16>&);

}  // namespace gradlibra::kernels
