// SPDX-License-Identifier: MIT
// Strided row copies on the host: the rows of one image are one contiguous block.
#include "kernels/copy_rows.h"

#include <cstring>

#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_copy_rows(View<const float> x, int64_t x_offset, View<float> y, int64_t y_offset, int64_t rows) {
  require(
      x.rank() == 3 && y.rank() == 3 && x.dim(0) == y.dim(0) && x.dim(2) == y.dim(2), "copy_rows",
      "x has shape " + x.shape().to_string() + ", y " + y.shape().to_string() + ", expected (N, X, C) and (N, Y, C)");
  require(rows >= 0 && x_offset >= 0 && y_offset >= 0 && x_offset + rows <= x.dim(1) && y_offset + rows <= y.dim(1),
          "copy_rows",
          std::to_string(rows) + " rows from row " + std::to_string(x_offset) + " of " + x.shape().to_string() +
              " to row " + std::to_string(y_offset) + " of " + y.shape().to_string());
}

void copy_rows(Cpu& cpu, View<const float> x, int64_t x_offset, View<float> y, int64_t y_offset, int64_t rows,
               Accumulate mode) {
  check_copy_rows(x, x_offset, y, y_offset, rows);
  const int64_t C = x.dim(2), block = rows * C;
  for (int64_t n = 0; n < x.dim(0); ++n) {
    const float* from = x.data() + (n * x.dim(1) + x_offset) * C;
    float* to = y.data() + (n * y.dim(1) + y_offset) * C;
    parallel_chunks(cpu, block, 65536, [&](int64_t, int64_t begin, int64_t end) {
      if (mode == Accumulate::overwrite) {
        std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin) * sizeof(float));
        return;
      }
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    });
  }
}

}  // namespace gradlibra::kernels
