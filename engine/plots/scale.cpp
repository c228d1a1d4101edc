// SPDX-License-Identifier: MIT
#include "engine/plots/scale.h"

namespace gradlibra {
namespace {

constexpr double kSteps[] = {1, 2, 5};

// The nearest of 1, 2, 5 times a power of ten that is not above `value`, or not below it.
double round_down(double value) {
  const double decade = std::pow(10, std::floor(std::log10(value) + 1e-12));
  double result = decade;
  for (const double step : kSteps)
    if (step * decade <= value * (1 + 1e-9)) result = step * decade;
  return result;
}
double round_up(double value) {
  const double down = round_down(value);
  if (down >= value * (1 - 1e-9)) return down;
  const double decade = std::pow(10, std::floor(std::log10(down) + 1e-12));
  for (const double step : kSteps)
    if (step * decade > down * (1 + 1e-9)) return step * decade;
  return 10 * decade;
}

}  // namespace

Scale::Scale(Interval range, double from, double to, bool log) : log_(log), from_(from), to_(to) {
  if (log_) range = {round_down(range.low), round_up(range.high)};
  low_ = at(range.low);
  high_ = at(range.high);
  if (!(high_ > low_)) high_ = low_ + 1;
}

std::vector<double> Scale::ticks(int count) const {
  std::vector<double> result;
  if (log_) {
    const double decades = high_ - low_;
    // Whole decades where there are enough of them, else 1, 2 and 5 of each.
    const auto every = static_cast<int>(std::max(1.0, std::ceil(decades / count)));
    for (int decade = static_cast<int>(std::floor(low_ + 1e-9)); decade <= high_ + 1e-9; ++decade)
      for (const double step : kSteps) {
        if (step > 1 && (decades > 2.5 || every > 1)) continue;
        if (step == 1 && decade % every != 0) continue;
        const double value = step * std::pow(10, decade);
        if (std::log10(value) >= low_ - 1e-9 && std::log10(value) <= high_ + 1e-9) result.push_back(value);
      }
    return result;
  }
  const double rough = (high_ - low_) / count, magnitude = std::pow(10, std::floor(std::log10(rough)));
  double step = magnitude;
  for (const double factor : {2.0, 5.0, 10.0})
    if (step < rough * 0.75) step = factor * magnitude;
  for (double k = std::ceil(low_ / step - 1e-9); k * step <= high_ + 1e-9 * step; ++k) {
    const double value = k * step;
    result.push_back(value == 0 ? 0 : value);  // no -0
  }
  return result;
}

}  // namespace gradlibra
