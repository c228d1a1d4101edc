// SPDX-License-Identifier: MIT
// Normalisation by groups of channels in double precision, element by element, and its gradient by central differences.
#pragma once

#include <cmath>
#include <functional>
#include <vector>

#include "tests/kernels/host_array.h"

namespace gradlibra::testing {

struct NormOracle {
  int64_t N, R, C, G;  // images, rows (positions) of an image, channels, groups
  double eps = 1e-5;
  bool relu = false;
  std::vector<double> x{}, weight{}, bias{};

  [[nodiscard]] size_t group(size_t i) const {
    const auto c = static_cast<int64_t>(i) % C, n = static_cast<int64_t>(i) / (R * C);
    return static_cast<size_t>(n * G + c / (C / G));
  }

  // Two passes over the elements of each group.
  void moments(std::vector<double>& mean, std::vector<double>& var) const {
    const auto groups = static_cast<size_t>(N * G);
    const auto m = static_cast<double>(R * (C / G));
    mean.assign(groups, 0);
    var.assign(groups, 0);
    for (size_t i = 0; i < x.size(); ++i) mean[group(i)] += x[i] / m;
    for (size_t i = 0; i < x.size(); ++i) var[group(i)] += (x[i] - mean[group(i)]) * (x[i] - mean[group(i)]) / m;
  }

  [[nodiscard]] std::vector<double> forward() const {
    std::vector<double> mean, var, y(x.size());
    moments(mean, var);
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t c = i % static_cast<size_t>(C);
      y[i] = weight[c] * (x[i] - mean[group(i)]) / std::sqrt(var[group(i)] + eps) + bias[c];
      if (relu && y[i] < 0) y[i] = 0;
    }
    return y;
  }

  // d <grad_y, forward()> / d values, where values is one of x, weight, bias.
  [[nodiscard]] std::vector<double> gradient(std::vector<double> NormOracle::*values,
                                             const std::vector<double>& grad_y) const {
    NormOracle moved = *this;
    std::vector<double> result((this->*values).size());
    for (size_t i = 0; i < result.size(); ++i) {
      const double at = (this->*values)[i], h = 1e-5;
      double difference = 0;
      for (const double side : {1.0, -1.0}) {
        (moved.*values)[i] = at + side * h;
        const std::vector<double> y = moved.forward();
        for (size_t j = 0; j < y.size(); ++j) difference += side * grad_y[j] * y[j];
      }
      (moved.*values)[i] = at;
      result[i] = difference / (2 * h);
    }
    return result;
  }
};

inline std::vector<double> as_doubles(const std::vector<float>& v) { return {v.begin(), v.end()}; }

}  // namespace gradlibra::testing
