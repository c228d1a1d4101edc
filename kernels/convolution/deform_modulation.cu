// SPDX-License-Identifier: MIT
// Offsets and masks out of one prediction, on the GPU.
#include "kernels/convolution/deform_modulation.h"
#include "kernels/divide.cuh"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {

namespace {

// One thread per predicted value.
template <class T>
__global__ void split_modulation_kernel(const T* __restrict__ prediction, int64_t size, int taps,
                                        float* __restrict__ offsets, float* __restrict__ mask) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= size) return;
  const int64_t row = divide(i, 3 * taps);
  const int k = static_cast<int>(i - row * 3 * taps);
  const float v = to_float(prediction[i]);
  if (k < 2 * taps)
    offsets[row * 2 * taps + k] = v;
  else
    mask[row * taps + k - 2 * taps] = mask_of(v).mask;
}

template <class T>
__global__ void split_modulation_backward_kernel(const T* __restrict__ prediction,
                                                 const float* __restrict__ grad_offsets,
                                                 const float* __restrict__ grad_mask, int64_t size, int taps, bool add,
                                                 T* __restrict__ grad_prediction) {
  const int64_t i = int64_t{blockIdx.x} * kBlock + threadIdx.x;
  if (i >= size) return;
  const int64_t row = divide(i, 3 * taps);
  const int k = static_cast<int>(i - row * 3 * taps);
  const float g = k < 2 * taps ? grad_offsets[row * 2 * taps + k]
                               : grad_mask[row * taps + k - 2 * taps] * mask_of(to_float(prediction[i])).slope;
  store<1>(grad_prediction + i, Pack<1>{{g}}, add);
}

}  // namespace

template <MapType T>
void split_modulation(Cuda& cuda, View<const T> prediction, View<float> offsets, View<float> mask) {
  const ModulationDims d = split_modulation_dims("split_modulation", prediction.shape(), offsets.shape(), mask.shape());
  const int64_t size = prediction.size();
  if (size == 0) return;
  launch(split_modulation_kernel<T>, blocks_for(size, kBlock), kBlock, 0, cuda.stream(), prediction.data(), size,
         static_cast<int>(d.taps), offsets.data(), mask.data());
}

template <MapType T>
void split_modulation_backward(Cuda& cuda, In<T> prediction, View<const float> grad_offsets,
                               View<const float> grad_mask, const GradTarget<T>& grad_prediction) {
  const ModulationDims d = split_modulation_backward_dims(prediction.shape(), grad_offsets.shape(), grad_mask.shape(),
                                                          grad_prediction.grad.shape());
  const int64_t size = prediction.size();
  if (size == 0) return;
  launch(split_modulation_backward_kernel<T>, blocks_for(size, kBlock), kBlock, 0, cuda.stream(), prediction.data(),
         grad_offsets.data(), grad_mask.data(), size, static_cast<int>(d.taps), grad_prediction.adds(),
         grad_prediction.grad.data());
}

template void split_modulation(Cuda&, View<const float>, View<float>, View<float>);
template void split_modulation(Cuda&, View<const bfloat16>, View<float>, View<float>);
template void split_modulation_backward(Cuda&, View<const float>, View<const float>, View<const float>,
                                        const GradTarget<float>&);
template void split_modulation_backward(Cuda&, View<const bfloat16>, View<const float>, View<const float>,
                                        const GradTarget<bfloat16>&);

}  // namespace gradlibra::kernels
