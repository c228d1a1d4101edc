// SPDX-License-Identifier: MIT
// Deformable convolution on the host: the columns of one image at a time, and a plain product.
#include "kernels/convolution/deform_conv2d.h"

#include <string>
#include <vector>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

namespace {

// In eight interleaved sums, so that it vectorises; `size` is a multiple of eight.
float dot(const bfloat16* a, const bfloat16* b, int64_t size) {
  float parts[8] = {};
  for (int64_t k = 0; k < size; k += 8)
#pragma omp simd
    for (int64_t l = 0; l < 8; ++l) parts[l] += to_float(a[k + l]) * to_float(b[k + l]);
  return ((parts[0] + parts[4]) + (parts[2] + parts[6])) + ((parts[1] + parts[5]) + (parts[3] + parts[7]));
}

}  // namespace

DeformDims deform_conv2d_dims(const Shape& x, const Shape& offsets, const Shape& weight, int kernel, const Shape& y) {
  const char* op = "deform_conv2d";
  require(x.rank() == 4, op, "x has shape " + x.to_string() + ", expected (N, H, W, C)");
  require(x[3] % 8 == 0, op, "x has " + std::to_string(x[3]) + " channels, expected a multiple of 8");
  const DeformDims d = deform_dims(op, x, offsets, {x[0], x[1], x[2], int64_t{kernel} * kernel, x[3]}, kernel, {});
  require(weight.rank() == 4 && weight == Shape{weight[0], kernel, kernel, d.C} && weight[0] < INT32_MAX, op,
          "weight has shape " + weight.to_string() + ", expected (O, " + std::to_string(kernel) + ", " +
              std::to_string(kernel) + ", " + std::to_string(d.C) + ")");
  const Shape expected{d.N, d.H, d.W, weight[0]};
  require(y == expected, op, "y has shape " + y.to_string() + ", expected " + expected.to_string());
  return d;
}

void deform_conv2d(Cpu& cpu, View<const bfloat16> x, View<const float> offsets, View<const bfloat16> weight, int kernel,
                   Activation activation, View<bfloat16> y) {
  const DeformDims d = deform_conv2d_dims(x.shape(), offsets.shape(), weight.shape(), kernel, y.shape());
  const int64_t cells = d.H * d.W, taps = int64_t{kernel} * kernel, depth = taps * d.C, O = weight.dim(0);
  std::vector<bfloat16> columns(static_cast<size_t>(cells * depth));
  for (int64_t n = 0; n < d.N; ++n) {
    deform_im2col<bfloat16>(cpu, {x.data() + n * cells * d.C, {1, d.H, d.W, d.C}},
                            {offsets.data() + n * cells * 2 * taps, {1, d.H, d.W, 2 * taps}}, kernel,
                            {columns.data(), {1, d.H, d.W, taps, d.C}});
    parallel_for(cpu, cells, 16, [&](int64_t cell) {
      const bfloat16* column = columns.data() + cell * depth;
      for (int64_t o = 0; o < O; ++o) {
        float sum = dot(weight.data() + o * depth, column, depth);
        if (activation == Activation::relu && sum < 0) sum = 0;
        y[(n * cells + cell) * O + o] = to_bfloat16(sum);
      }
    });
  }
}

}  // namespace gradlibra::kernels
