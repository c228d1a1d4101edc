// SPDX-License-Identifier: MIT
// Deformable convolution as columns (arXiv:1703.06211, eq. 2-5): a matrix product with the weight follows. In its
// second version a mask multiplies every sample (arXiv:1811.11168, eq. 1).
//
// The plain definition, forward and back, one sample after the other, with m = mask[sample], 1 without a mask:
//   for n, row, col, t = kr*K + kc:                           sample = ((n*H + row)*W + col)*K*K + t
//     py = row - pad + kr + offsets[sample].y                 y0 = floor py,   ly = py - y0
//     px = col - pad + kc + offsets[sample].x                 x0 = floor px,   lx = px - x0
//     nothing more unless -1 < py < H and -1 < px < W
//     for the corners (a, b) = (0,0), (0,1), (1,0), (1,1), where p = (n, y0 + a, x0 + b) is on the map:
//       wy = a ? ly : 1 - ly,   dy = a ? 1 : -1               wx = b ? lx : 1 - lx,   dx = b ? 1 : -1
//       columns[sample, c]     += m * wy * wx * x[p, c]
//       grad_x[p, c]           += m * wy * wx * grad_columns[sample, c]
//       grad_offsets[sample].y += m * dy * wx * sum over c of grad_columns[sample, c] * x[p, c]
//       grad_offsets[sample].x += m * wy * dx * sum over c of grad_columns[sample, c] * x[p, c]
//       grad_mask[sample]      += wy * wx * sum over c of grad_columns[sample, c] * x[p, c]
// deform_im2col.cpp is these loops, parallel over cells, and over images and channels for grad_x, which is a scatter;
// it is tested against another sampler in double (tests/kernels/convolution/test_deform_im2col.cpp). deform_im2col.cu
// is tested against it, and turns the scatter into a gather over samples that sorted_samples.cuh sorts: their heads say
// how.
#pragma once

#include <cstdint>

#include "kernels/executor.h"
#include "kernels/grad_target.h"
#include "kernels/map_type.h"
#include "kernels/view.h"

namespace gradlibra::kernels {

struct DeformDims {
  int64_t N = 0, H = 0, W = 0, C = 0;
  int K = 0, padding = 0;
};

// Throws std::invalid_argument with the shapes in the message unless the three, and the mask if there is one, belong
// together and K is odd.
DeformDims deform_dims(const char* op, const Shape& x, const Shape& offsets, const Shape& columns, int kernel,
                       View<const float> mask);

// T is float or bfloat16 for x, columns and their gradients; offsets and their gradient are float. Sums are made in
// float and rounded once, also with Accumulate::add.

// Kernel K x K (K odd), stride 1, padding (K-1)/2, dilation 1, one offset group. Tap t = kr*K + kc reads x at
//   py = row - pad + kr + offsets[n,row,col,2t]        px = col - pad + kc + offsets[n,row,col,2t+1]
// bilinearly: 0 (and all derivatives 0) if py <= -1, py >= H, px <= -1 or px >= W; otherwise the four corners around
// (floor py, floor px), those outside the map counting as 0. At integer positions derivatives are the right-hand ones.
// NaN offsets sample 0.
// x (N, H, W, C), offsets (N, H, W, 2*K*K) y before x, columns (N, H, W, K*K, C) row-major: tap, then channel.
// mask (N, H, W, K*K), or none: a view without data.
template <MapType T>
void deform_im2col(Cpu&, In<T> x, View<const float> offsets, int kernel, View<T> columns, View<const float> mask = {});
template <MapType T>
void deform_im2col(Cuda&, In<T> x, View<const float> offsets, int kernel, View<T> columns, View<const float> mask = {});

// The gradients; grad_columns is that of the columns as they are, behind a mask.
//
// grad_x[p] (+)= sum of weight * grad_columns[sample] over the samples that have pixel p as a corner of weight other
// than 0, in ascending order of sample = ((n*H + row)*W + col)*K*K + t, one by one, the first added to 0 or to what
// grad_x holds. Both versions keep this order, so they differ by fused multiply-adds only, and a NaN shows where it
// lands.
//
// grad_offsets (+)= sum over c of grad_columns * d sample / d (py, px), channels in a fixed order, and mask.grad = sum
// over c of grad_columns * sample before the mask. The CUDA version makes both from four sums over c, of grad_columns *
// x at each corner, rounded to float each.
//
// The host version needs no workspace (in bfloat16 it allocates one image in float per thread). The CUDA version
// numbers samples and their channels in int32: it throws where 4*N*H*W*K*K, N*(H+1)*(W+1) or the packs of 16 bytes of
// grad_columns (its values, where C is not in whole packs) are 2^31 or more. Maps whose C is in whole packs must lie on
// 16 bytes there.
struct DeformWorkspace {
  View<int32_t> samples;  // deform_im2col_workspace values: the samples of each pixel, sorted and weighed
  View<float> products;   // deform_im2col_products values
  // `samples` holds what an earlier call has left for the same offsets, mask, N, H, W and kernel, with any C: several
  // convolutions that sample at the same points sort once.
  bool sorted = false;
};
struct DeformMask {
  View<const float> values = {};  // as deform_im2col has had them
  View<float> grad = {};          // of the same shape; overwritten
};
int64_t deform_im2col_workspace(const Shape& x, int kernel);
template <MapType T>
int64_t deform_im2col_products(const Shape& x, int kernel) {
  constexpr int64_t kPackSize = 16 / sizeof(T);
  const int64_t slab = 32 * (x[3] % kPackSize == 0 ? kPackSize : 1);  // channels of a warp
  return 4 * x[0] * x[1] * x[2] * kernel * kernel * ((x[3] + slab - 1) / slab);
}
// T follows from grad_columns.
template <MapType T>
void deform_im2col_backward(Cpu&, In<T> x, View<const float> offsets, View<const T> grad_columns, int kernel,
                            const GradTarget<T>& grad_x, const GradTarget<>& grad_offsets,
                            const DeformWorkspace& workspace, const DeformMask& mask = {});
template <MapType T>
void deform_im2col_backward(Cuda&, In<T> x, View<const float> offsets, View<const T> grad_columns, int kernel,
                            const GradTarget<T>& grad_x, const GradTarget<>& grad_offsets,
                            const DeformWorkspace& workspace, const DeformMask& mask = {});

// What both versions check first.
template <MapType T>
DeformDims deform_backward_dims(In<T> x, View<const float> offsets, View<const T> grad_columns, int kernel,
                                const GradTarget<T>& grad_x, const GradTarget<>& grad_offsets, const DeformMask& mask) {
  const char* op = "deform_im2col_backward";
  const DeformDims d = deform_dims(op, x.shape(), offsets.shape(), grad_columns.shape(), kernel, mask.values);
  require_shape(op, "grad_x", grad_x.grad, x.shape());
  require_shape(op, "grad_offsets", grad_offsets.grad, offsets.shape());
  if (mask.values.data() != nullptr) require_shape(op, "grad_mask", mask.grad, mask.values.shape());
  return d;
}

}  // namespace gradlibra::kernels
