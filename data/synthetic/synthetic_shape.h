// SPDX-License-Identifier: MIT
// Outlines of cells and nuclei as signed distances: rounded polygons, irregular ellipses, bent ribbons for spindles.
#pragma once

#include <array>

#include "data/synthetic/synthetic_math.h"

namespace gradlibra {

// How an outline departs from a circle.
struct OutlineStyle {
  float aspect = 1;        // short axis over long axis; the long axis is the first axis of the frame
  int corners = 0;         // 0: ellipse; otherwise a rounded polygon of so many sides
  float irregularity = 0;  // standard deviation of the slow wobble of the radius, as a fraction
  float pear = 0;          // narrowing towards the end of the first axis
  float notch = 0;         // depth of one indentation at a random place, as a fraction of the radius
};

// A closed curve around the origin, star-shaped, as a table of radii over the pseudo-angle.
class Outline {
 public:
  Outline() = default;
  // With the area of a circle of the given diameter.
  Outline(float diameter, const OutlineStyle& style, Random& random);

  // Distance to the curve, positive inside; exact to first order near the curve.
  [[nodiscard]] float depth(Vec p) const {
    const float t = pseudo_angle(p) * (kSteps / 4);
    const int i = std::min(static_cast<int>(t), kSteps - 1);
    const float f = t - static_cast<float>(i);
    const float radius = radius_[i] + (radius_[i + 1] - radius_[i]) * f;
    return (radius - length(p)) * slant_[i];
  }
  // Radius of the curve in the direction of p.
  [[nodiscard]] float radius_towards(Vec p) const;
  [[nodiscard]] float reach() const { return reach_; }  // largest radius

 private:
  static constexpr int kSteps = 256;
  std::array<float, kSteps + 1> radius_{};
  std::array<float, kSteps + 1> slant_{};
  float reach_ = 0;
};

// A band along v = bend * u^2 + twist * u^3, |u| <= length / 2, whose half-width runs from a tail (u < 0) over a body
// to the other end.
class Ribbon {
 public:
  Ribbon() = default;
  // tail: 0 gives a symmetric spindle, 1 a tadpole with its head at u > 0.
  Ribbon(float length, float width, float tail, Random& random);

  [[nodiscard]] float depth(Vec p) const {
    const float end = std::abs(p.x) - half_length_;
    const float u = std::clamp(p.x, -half_length_, half_length_);
    const float offset = std::abs(p.y - u * u * (bend_ + twist_ * u));
    const float t = (u / half_length_ + 1) * (kSteps / 2);
    const int i = std::min(static_cast<int>(t), kSteps - 1);
    const float half_width = width_[i] + (width_[i + 1] - width_[i]) * (t - static_cast<float>(i));
    const float side = (half_width - offset) * slant_[i];
    return end > 0 ? std::min(side, -end) : side;
  }
  // The point on the middle line at u = position * half the length, and the direction of the line there.
  [[nodiscard]] Vec middle(float position) const;
  [[nodiscard]] Vec direction(float position) const;
  [[nodiscard]] float width_at(float position) const;
  [[nodiscard]] float reach() const { return reach_; }

 private:
  static constexpr int kSteps = 64;
  std::array<float, kSteps + 1> width_{};  // half-widths
  std::array<float, kSteps + 1> slant_{};
  float half_length_ = 1, bend_ = 0, twist_ = 0, reach_ = 0;
};

}  // namespace gradlibra
