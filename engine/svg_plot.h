// SPDX-License-Identifier: MIT
// Curves and bars as SVG: what a training's figures need, no more.
#pragma once

#include <string>
#include <vector>

namespace gradlibra {

// A curve through its points; where a value is not finite, or not positive on a logarithmic axis, it is broken.
struct Series {
  std::string name;
  std::vector<double> x, y;
};

struct Axes {
  std::string title, x_label, y_label;
  bool log_y = false;
};

// Curves with a legend, each in a colour and a pattern of dashes of its own.
[[nodiscard]] std::string svg_curves(const Axes& axes, const std::vector<Series>& series);
// One bar for each name, from 0 (from the smallest decade on a logarithmic axis), its value written on it.
[[nodiscard]] std::string svg_bars(const Axes& axes, const std::vector<std::string>& names,
                                   const std::vector<double>& values);

}  // namespace gradlibra
