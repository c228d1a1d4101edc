// SPDX-License-Identifier: MIT
// 8-bit images to network input: turn, flip, channel order, (value - mean) / std, zero padding.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/executor.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

// Bits of an orientation code, the eight symmetries of the square. Transposition (x and y swapped) comes first, then
// the flips act on its result.
inline constexpr int32_t kFlipHorizontal = 1;
inline constexpr int32_t kFlipVertical = 2;
inline constexpr int32_t kTranspose = 4;

struct ImageNormalize {
  std::array<float, 3> mean{123.675f, 116.28f, 103.53f};  // in the network's channel order
  std::array<float, 3> std{58.395f, 57.12f, 57.375f};
  bool bgr = false;  // the network wants B,G,R; images are always stored R,G,B
};

// out[n,y,x,c] = (images[n,y',x',c'] - mean[c]) / std[c] inside the image's own size, 0 in the padding outside it
// (padding is zero after normalisation, as in MMDetection's pipeline).
// images (N, H, W, 3) uint8.   orientations (N): bits above.   sizes (N, 2): height, width of the valid content of each
// *stored* image, at its top left corner; 0 <= size <= (H, W). A transposed image's valid content is (width, height);
// what falls outside H x W is cut (sizes live on the device, where nothing can be thrown; sizes outside 0..H, 0..W are
// clamped). out (N, H, W, 3) float or bfloat16. Flips act within the valid content. N may be 0.
template <MapType T>
void image_normalize(Cpu&, View<const uint8_t> images, View<const int32_t> orientations, View<const int32_t> sizes,
                     const ImageNormalize& options, View<T> out);
template <MapType T>
void image_normalize(Cuda&, View<const uint8_t> images, View<const int32_t> orientations, View<const int32_t> sizes,
                     const ImageNormalize& options, View<T> out);

// What both versions check first.
void check_image_normalize(View<const uint8_t> images, View<const int32_t> orientations, View<const int32_t> sizes,
                           const Shape& out);

}  // namespace gradlibra::kernels
