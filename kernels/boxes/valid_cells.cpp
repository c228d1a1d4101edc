// SPDX-License-Identifier: MIT
#include "kernels/boxes/valid_cells.h"

#include "kernels/image_normalize.h"
#include "kernels/parallel.h"

namespace gradlibra::kernels {

void check_valid_cells(View<const float> priors, View<const int32_t> sizes, View<const int32_t> orientations,
                       int divisor, View<uint8_t> valid) {
  const char* const op = "valid_cells";
  require(valid.rank() == 2, op, "valid must be (N, P), is " + valid.shape().to_string());
  require_shape(op, "priors", priors, {valid.dim(1), 3});
  require_shape(op, "sizes", sizes, {valid.dim(0), 2});
  require_shape(op, "orientations", orientations, {valid.dim(0)});
  require(divisor > 0, op, "divisor must be positive, is " + std::to_string(divisor));
}

void valid_cells(Cpu& cpu, View<const float> priors, View<const int32_t> sizes, View<const int32_t> orientations,
                 int divisor, View<uint8_t> valid) {
  check_valid_cells(priors, sizes, orientations, divisor, valid);
  const int64_t P = valid.dim(1);
  parallel_for(cpu, valid.size(), 4096, [&](int64_t row) {
    const int64_t n = row / P;
    const bool turned = (orientations[n] & kTranspose) != 0;
    const auto padded = [&](int32_t size) { return static_cast<float>((size + divisor - 1) / divisor * divisor); };
    const float height = padded(sizes[2 * n + (turned ? 1 : 0)]), width = padded(sizes[2 * n + (turned ? 0 : 1)]);
    const float* prior = priors.data() + 3 * (row % P);
    valid[row] = prior[0] < width && prior[1] < height ? 1 : 0;
  });
}

}  // namespace gradlibra::kernels
