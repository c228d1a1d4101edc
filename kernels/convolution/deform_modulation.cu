// SPDX-License-Identifier: MIT
// Modulation of deformable columns on the GPU. Columns are nine times a map, so all of it is bound by their bytes: 16
// of them a thread at a time. In the backward pass a group of up to 32 threads owns a sample; it reads gradient and
// columns once, writes the gradient, and sums its products by shuffles.
#include "kernels/block_sum.cuh"
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

// columns and modulated may be the same array. `vectors`: a pack lies in one sample, and on 16 bytes.
template <class T>
__global__ void modulate_columns_kernel(const T* columns, const float* __restrict__ mask, int64_t size, int C,
                                        bool vectors, T* modulated) {
  for_each_pack<kPack<T>>(size, vectors, [=](auto width, int64_t i) {
    constexpr int V = decltype(width)::value;
    Pack<V> v = load<V>(columns + i);
    const float m = mask[divide(i, C)];
    for (int k = 0; k < V; ++k) v[k] *= m;
    store<V>(modulated + i, v);
  });
}

// `lanes`, a power of two and at most 32, threads own a sample.
template <class T, int V>
__global__ void modulate_columns_backward_kernel(const T* __restrict__ columns, const float* __restrict__ mask,
                                                 int64_t samples, int C, int lanes, T* __restrict__ grad,
                                                 float* __restrict__ grad_mask) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread & (lanes - 1);
  const int64_t sample = int64_t{blockIdx.x} * (kBlock / lanes) + thread / lanes;
  const bool there = sample < samples;
  float sum = 0;
  if (there) {
    const float m = mask[sample];
    for (int c = lane * V; c < C; c += lanes * V) {
      const int64_t at = sample * C + c;
      const Pack<V> v = load<V>(columns + at);
      Pack<V> g = load<V>(grad + at);
      for (int k = 0; k < V; ++k) {
        sum += g[k] * v[k];
        g[k] *= m;
      }
      store<V>(grad + at, g);
    }
  }
  for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (there && lane == 0) grad_mask[sample] = sum;
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

template <MapType T>
void modulate_columns(Cuda& cuda, In<T> columns, View<const float> mask, View<T> modulated) {
  const ColumnDims d = modulate_columns_dims("modulate_columns", columns.shape(), mask.shape(), modulated.shape());
  if (columns.size() == 0) return;
  launch(modulate_columns_kernel<T>, pack_blocks(columns.size(), kPack<T>), kBlock, 0, cuda.stream(), columns.data(),
         mask.data(), columns.size(), static_cast<int>(d.C),
         d.C % kPack<T> == 0 && aligned(columns.data(), modulated.data()), modulated.data());
}

template <MapType T>
void modulate_columns_backward(Cuda& cuda, In<T> columns, View<const float> mask, View<T> grad, View<float> grad_mask) {
  const ColumnDims d = modulate_columns_backward_dims(columns.shape(), mask.shape(), grad.shape(), grad_mask.shape());
  if (d.samples == 0) return;
  with_pack<T>(d.C, aligned(columns.data(), grad.data()), [&](auto V) {
    const int lanes = lanes_for(d.C, V);
    launch(modulate_columns_backward_kernel<T, V>, blocks_for(d.samples, kBlock / lanes), kBlock, 0, cuda.stream(),
           columns.data(), mask.data(), d.samples, static_cast<int>(d.C), lanes, grad.data(), grad_mask.data());
  });
}

template void split_modulation(Cuda&, View<const float>, View<float>, View<float>);
template void split_modulation(Cuda&, View<const bfloat16>, View<float>, View<float>);
template void split_modulation_backward(Cuda&, View<const float>, View<const float>, View<const float>,
                                        const GradTarget<float>&);
template void split_modulation_backward(Cuda&, View<const bfloat16>, View<const float>, View<const float>,
                                        const GradTarget<bfloat16>&);
template void modulate_columns(Cuda&, View<const float>, View<const float>, View<float>);
template void modulate_columns(Cuda&, View<const bfloat16>, View<const float>, View<bfloat16>);
template void modulate_columns_backward(Cuda&, View<const float>, View<const float>, View<float>, View<float>);
template void modulate_columns_backward(Cuda&, View<const bfloat16>, View<const float>, View<bfloat16>, View<float>);

}  // namespace gradlibra::kernels
