// SPDX-License-Identifier: MIT
// Tables behind the outlines of synthetic cells.
#include "data/synthetic/synthetic_shape.h"

namespace gradlibra {

Outline::Outline(float diameter, const OutlineStyle& style, Random& random) {
  constexpr int kHarmonics = 7;
  std::array<Vec, kHarmonics> wobble{};
  for (int k = 2; k < kHarmonics; ++k) {
    const float amplitude = style.irregularity * 1.4F / static_cast<float>(k);
    wobble[k] = {amplitude * random.bell(), amplitude * random.bell()};
  }
  struct Side {
    Vec normal;
    float distance = 1;
  };
  std::array<Side, 8> sides{};
  const int corners = std::min(style.corners, 8);
  const float turn = random.uniform();
  for (int k = 0; k < corners; ++k) {
    const float t = 4 * (static_cast<float>(k) + turn + random.uniform(-0.22F, 0.22F)) / static_cast<float>(corners);
    sides[k] = {from_pseudo_angle(t < 0 ? t + 4 : t), random.uniform(0.8F, 1.12F)};
  }
  const Vec notch_direction = random_direction(random);

  std::array<Vec, kSteps + 1> direction;
  for (int i = 0; i <= kSteps; ++i) {
    const Vec d = from_pseudo_angle(static_cast<float>(i % kSteps) * (4.0F / kSteps));
    direction[i] = d;
    const Vec q = {d.x, d.y / style.aspect};
    float radius = 1 / length(q);
    if (corners > 0) {
      // A soft minimum over the sides: the p-norm of the reciprocal distances, p = 8, taken by three square roots.
      float sum = 0;
      for (int k = 0; k < corners; ++k) {
        const float c = std::max(0.0F, dot(sides[k].normal, q) / sides[k].distance);
        const float c2 = c * c, c4 = c2 * c2;
        sum += c4 * c4;
      }
      // The circle of radius 1.5 bounds the corners where two sides lie far apart.
      const float norm2 = dot(q, q) / (1.5F * 1.5F), norm4 = norm2 * norm2;
      sum += norm4 * norm4;
      radius = 1 / std::sqrt(std::sqrt(std::sqrt(sum)));
    }
    // cos(k a) and sin(k a) by complex powers of the direction.
    Vec power = d;
    float factor = 1 - style.pear * d.x;
    for (int k = 2; k < kHarmonics; ++k) {
      power = {power.x * d.x - power.y * d.y, power.x * d.y + power.y * d.x};
      factor += dot(wobble[k], power);
    }
    const float near = smooth_step(0.6F, 1.0F, dot(d, notch_direction));
    radius_[i] = radius * std::max(0.25F, factor) * (1 - style.notch * near);
  }

  float area = 0;
  for (int i = 0; i < kSteps; ++i) {
    area += 0.5F * radius_[i] * radius_[i + 1] *
            (direction[i].x * direction[i + 1].y - direction[i].y * direction[i + 1].x);
  }
  const float scale = 0.5F * diameter * std::sqrt(3.14159265F / area);
  for (float& radius : radius_) {
    radius *= scale;
    reach_ = std::max(reach_, radius);
  }
  for (int i = 0; i < kSteps; ++i) {
    const Vec a = direction[i], b = direction[i + 1];
    const float angle = a.x * b.y - a.y * b.x;
    const float slope = (radius_[i + 1] - radius_[i]) / angle;
    const float middle = 0.5F * (radius_[i] + radius_[i + 1]);
    slant_[i] = middle / std::sqrt(middle * middle + slope * slope);
  }
  slant_[kSteps] = slant_[0];
}

float Outline::radius_towards(Vec p) const {
  const float t = pseudo_angle(p) * (kSteps / 4);
  return radius_[std::min(static_cast<int>(t), kSteps)];
}

Ribbon::Ribbon(float length, float width, float tail, Random& random) : half_length_(length / 2) {
  const float bow = random.uniform(-0.28F, 0.28F);
  bend_ = bow / half_length_;
  twist_ = random.uniform(-0.15F, 0.15F) / (half_length_ * half_length_);
  const float lump = random.uniform(-0.12F, 0.12F);
  const float place = random.uniform(0.35F, 0.6F);  // where the head of a tadpole is widest
  for (int i = 0; i <= kSteps; ++i) {
    const float s = 2 * static_cast<float>(i) / kSteps - 1;  // -1 .. 1 along the ribbon
    const float spindle = (1 - s * s) * std::sqrt(1 - s * s);
    const float from_head = s > place ? (s - place) / (1 - place) : (place - s) / (0.5F * (1 + place));
    const float head = from_head < 1 ? std::sqrt(1 - from_head * from_head) : 0;
    const float thread = 0.2F * smooth_step(-1, -0.8F, s) * (s < place ? 1.0F : 0.0F);
    const float tadpole = std::max(head, thread);
    const float profile = spindle + (tadpole - spindle) * tail;
    width_[i] = 0.5F * width * profile * (1 + lump * (4 * s * s - 1) * s);
    const float u = s * half_length_;
    const float v = u * u * (bend_ + twist_ * u);
    reach_ = std::max(reach_, std::sqrt(u * u + v * v) + width_[i]);
  }
  for (int i = 0; i <= kSteps; ++i) {
    const float u = (2 * static_cast<float>(i) / kSteps - 1) * half_length_;
    const float slope = u * (2 * bend_ + 3 * twist_ * u);
    slant_[i] = 1 / std::sqrt(1 + slope * slope);
  }
}

Vec Ribbon::middle(float position) const {
  const float u = position * half_length_;
  return {u, u * u * (bend_ + twist_ * u)};
}

Vec Ribbon::direction(float position) const {
  const float u = position * half_length_;
  const float slope = u * (2 * bend_ + 3 * twist_ * u);
  const float norm = std::sqrt(1 + slope * slope);
  return {1 / norm, slope / norm};
}

float Ribbon::width_at(float position) const {
  const int i = std::clamp(static_cast<int>((position + 1) * (kSteps / 2)), 0, kSteps);
  return 2 * width_[i];
}

}  // namespace gradlibra
