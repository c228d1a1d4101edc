// SPDX-License-Identifier: MIT
// Values to pixels, and where an axis is marked.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace gradlibra {

struct Interval {
  double low = 0, high = 1;
};

// The smallest interval around values that are finite (and, for a logarithmic axis, positive).
class ValueRange {
 public:
  void add(double value, bool positive) {
    if (!std::isfinite(value) || (positive && value <= 0)) return;
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  // `otherwise` where there was no value.
  [[nodiscard]] Interval around(Interval otherwise) const { return low_ > high_ ? otherwise : Interval{low_, high_}; }

 private:
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

class Scale {
 public:
  // Values of `range` lie from `from` to `to` pixels; a logarithmic range is widened to 1, 2 or 5 times a power of ten.
  Scale(Interval range, double from, double to, bool log);
  [[nodiscard]] bool shows(double value) const { return std::isfinite(value) && (!log_ || value > 0); }
  [[nodiscard]] double operator()(double value) const {
    return from_ + (at(value) - low_) / (high_ - low_) * (to_ - from_);
  }
  [[nodiscard]] double base() const { return from_; }
  // The same, at most as far as the axis goes.
  [[nodiscard]] double within(double value) const {
    return std::clamp((*this)(value), std::min(from_, to_), std::max(from_, to_));
  }
  [[nodiscard]] bool log() const { return log_; }
  // About `count` round values, at most twice as many.
  [[nodiscard]] std::vector<double> ticks(int count) const;

 private:
  [[nodiscard]] double at(double value) const { return log_ ? std::log10(value) : value; }
  bool log_;
  double from_, to_, low_, high_;
};

}  // namespace gradlibra
