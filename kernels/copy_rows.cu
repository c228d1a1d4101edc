// SPDX-License-Identifier: MIT
// Strided row copies on the device. The rows of one image are one contiguous block: a thread owns four neighbouring
// floats of it (one where addresses or sizes do not allow 16 bytes), blockIdx.y strides over the images.
#include "kernels/copy_rows.h"
#include "kernels/launch.h"
#include "kernels/vector_access.cuh"

namespace gradlibra::kernels {
namespace {

template <int V>
__global__ void copy_rows_kernel(const float* x, int64_t x_stride, float* y, int64_t y_stride, int64_t block, int64_t N,
                                 bool add) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
  if (i >= block) return;
  for (int64_t n = blockIdx.y; n < N; n += gridDim.y)
    store<V>(y + n * y_stride + i, load<V>(x + n * x_stride + i), add);
}

}  // namespace

void copy_rows(Cuda& cuda, View<const float> x, int64_t x_offset, View<float> y, int64_t y_offset, int64_t rows,
               Accumulate mode) {
  check_copy_rows(x, x_offset, y, y_offset, rows);
  const int64_t N = x.dim(0), C = x.dim(2), block = rows * C;
  if (N == 0 || block == 0) return;
  const float* from = x.data() + x_offset * C;
  float* to = y.data() + y_offset * C;
  const int64_t x_stride = x.dim(1) * C, y_stride = y.dim(1) * C;
  const bool vectors = aligned(from, to) && block % 4 == 0 && x_stride % 4 == 0 && y_stride % 4 == 0;
  const int64_t items = vectors ? block / 4 : block;
  launch(vectors ? copy_rows_kernel<4> : copy_rows_kernel<1>, row_grid(items, N), row_block(items), 0, cuda.stream(),
         from, x_stride, to, y_stride, block, N, mode == Accumulate::add);
}

}  // namespace gradlibra::kernels
