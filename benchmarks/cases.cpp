// SPDX-License-Identifier: MIT
#include "benchmarks/cases.h"

namespace gradlibra {

View<float> CaseMemory::boxes(Shape shape, int64_t size, double least, double most) {
  std::vector<float> values(static_cast<size_t>(shape.size()));
  const auto side = static_cast<double>(size);
  for (size_t i = 0; i + 3 < values.size(); i += 4) {
    const double w = std::min(side, random_.uniform(least, most)), h = std::min(side, random_.uniform(least, most));
    const double x = random_.uniform(0, side - w), y = random_.uniform(0, side - h);
    values[i] = static_cast<float>(x), values[i + 1] = static_cast<float>(y);
    values[i + 2] = static_cast<float>(x + w), values[i + 3] = static_cast<float>(y + h);
  }
  return upload(shape, values);
}

int64_t CaseSizes::cells() const {
  int64_t sum = 0;
  for (int l = 0; l < kLevels; ++l) sum += level_map(l).size() / (N * channels);
  return sum;
}

std::vector<float> cell_priors(const CaseSizes& sizes) {
  std::vector<float> priors;
  for (int l = 0; l < kLevels; ++l) {
    const int64_t side = sizes.level_map(l)[1];
    const auto stride = static_cast<float>(8 << l);
    for (int64_t y = 0; y < side; ++y)
      for (int64_t x = 0; x < side; ++x)
        priors.insert(priors.end(), {static_cast<float>(x) * stride, static_cast<float>(y) * stride, stride});
  }
  return priors;
}

std::vector<KernelCase> kernel_cases(const CaseSizes& sizes, bool mixed) {
  std::vector<KernelCase> cases;
  // Arrays are filled on the host, which takes long for large maps: those come last.
  add_loss_cases(sizes, cases);
  add_detection_cases(sizes, cases);
  add_dense_cases(sizes, cases);
  add_anchor_cases(sizes, cases);
  add_map_cases<float>(sizes, cases);
  add_convolution_cases<float>(sizes, cases);
  if (mixed) {
    add_map_cases<bfloat16>(sizes, cases);
    add_convolution_cases<bfloat16>(sizes, cases);
  }
  return cases;
}

}  // namespace gradlibra
