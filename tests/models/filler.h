// SPDX-License-Identifier: MIT
// The deterministic filler of the worked network examples: tensors that any implementation can make from a name alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/training/parameters.h"
#include "tests/kernels/vectors.h"

namespace gradlibra::testing {

// A filled (N, C, H, W) array in N, H, W, C order (also O, I, kh, kw to K, R, S, C).
inline std::vector<float> filled_nhwc(const std::string& name, int64_t N, int64_t C, int64_t H, int64_t W, double lo,
                                      double hi) {
  const std::vector<float> nchw = filler(name, N * C * H * W, lo, hi);
  std::vector<float> nhwc(nchw.size());
  for (int64_t n = 0; n < N; ++n)
    for (int64_t c = 0; c < C; ++c)
      for (int64_t i = 0; i < H * W; ++i)
        nhwc[static_cast<size_t>((n * H * W + i) * C + c)] = nchw[static_cast<size_t>((n * C + c) * H * W + i)];
  return nhwc;
}

// Convolution weights uniform in +-sqrt(3 / fan_in); biases, running means and moment_transfer in +-0.1; norm weights,
// running variances and scales of levels in [0.8, 1.2].
inline void fill_parameters(ParameterStore& store) {
  for (Parameter& p : store.all()) {
    const Shape& s = p.node.value.shape();
    std::vector<float> values;
    if (p.role == Role::convolution_weight) {
      const double bound = std::sqrt(3.0 / static_cast<double>(s[1] * s[2] * s[3]));
      values = filled_nhwc(p.name, s[0], s[3], s[1], s[2], -bound, bound);
    } else if (p.role == Role::norm_scale || p.role == Role::running_variance || p.name.ends_with(".scale")) {
      values = filler(p.name, s.size(), 0.8, 1.2);
    } else {
      values = filler(p.name, s.size(), -0.1, 0.1);
    }
    store.context().upload<float>(values, p.node.value);
  }
  store.context().convolution().weights_changed();
}

}  // namespace gradlibra::testing
