// SPDX-License-Identifier: MIT
// Pictures with many boxes: colours that can be told apart, labels that do not hide anything, dashes.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>

#include "data/images/image.h"
#include "data/images/label_layout.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

using Vector = std::array<double, 3>;
using Matrix = std::array<Vector, 3>;

Vector times(const Matrix& m, const Vector& v) {
  Vector result{};
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 3; ++j) result[i] += m[i][j] * v[j];
  return result;
}

// CIE L*a*b* (D65) of linear RGB.
Vector lab(const Vector& rgb) {
  Vector xyz = times({{{0.4124, 0.3576, 0.1805}, {0.2126, 0.7152, 0.0722}, {0.0193, 0.1192, 0.9505}}}, rgb);
  const Vector white{0.9505, 1, 1.089};
  for (size_t i = 0; i < 3; ++i) {
    const double t = std::max(0.0, xyz[i]) / white[i];
    xyz[i] = t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16 / 116.;
  }
  return {116 * xyz[1] - 16, 500 * (xyz[0] - xyz[1]), 200 * (xyz[1] - xyz[2])};
}

Vector linear(Color c) {
  Vector rgb{double(c.r), double(c.g), double(c.b)};
  for (double& v : rgb) v = v / 255 <= 0.04045 ? v / 255 / 12.92 : std::pow((v / 255 + 0.055) / 1.055, 2.4);
  return rgb;
}

// Severity 1 of G. M. Machado et al., "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009),
// and normal sight. A difference of 2.3 is just noticeable side by side; 20 is another colour.
TEST(Colours, TenClassesAreToldApartByEverybody) {
  const std::vector<std::pair<const char*, Matrix>> sights{
      {"normal", {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}},
      {"protanopia",
       {{{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}}},
      {"deuteranopia",
       {{{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}}},
      {"tritanopia",
       {{{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}}}}};
  for (const auto& [name, matrix] : sights)
    for (int a = 0; a < 10; ++a)
      for (int b = 0; b < a; ++b) {
        const auto seen = [&, m = matrix](int label) {
          Vector rgb = times(m, linear(class_color(label)));
          for (double& v : rgb) v = std::clamp(v, 0.0, 1.0);
          return lab(rgb);
        };
        const Vector p = seen(a), q = seen(b);
        EXPECT_GT(std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]), 20) << name << ": " << a << " and " << b;
      }
}

bool overlap(const PixelRect& a, const PixelRect& b) {
  return a.x1 < b.x2 && b.x1 < a.x2 && a.y1 < b.y2 && b.y1 < a.y2;
}

TEST(Labels, StandOverTheirBoxWhereThereIsRoom) {
  const std::vector<PixelRect> boxes{{50, 60, 90, 100}, {50, 0, 90, 30}};
  const auto places = place_labels(200, 150, boxes, {{0, 0, 30, 9}, {0, 0, 30, 9}});
  EXPECT_EQ(places[0].x1, 50);
  EXPECT_EQ(places[0].y2, 60);
  EXPECT_EQ(places[1].y1, 30);  // under it: over it is no picture
}

TEST(Labels, CoverNeitherEachOtherNorWhatTheBoxesShow) {
  std::mt19937 rng(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<PixelRect> boxes, sizes;
    for (int i = 0; i < 12; ++i) {
      const int x = static_cast<int>(rng() % 440), y = static_cast<int>(rng() % 440);
      boxes.push_back({x, y, x + 20 + static_cast<int>(rng() % 50), y + 20 + static_cast<int>(rng() % 50)});
      sizes.push_back({0, 0, 40 + static_cast<int>(rng() % 60), 9});
    }
    boxes[1] = boxes[0];  // two classes at one place
    const auto places = place_labels(512, 512, boxes, sizes);
    for (size_t i = 0; i < places.size(); ++i) {
      EXPECT_TRUE(places[i].x1 >= 0 && places[i].y1 >= 0 && places[i].x2 <= 512 && places[i].y2 <= 512);
      EXPECT_EQ(places[i].x2 - places[i].x1, sizes[i].x2);
      for (size_t j = 0; j < i; ++j) EXPECT_FALSE(overlap(places[i], places[j])) << i << " and " << j;
      for (const PixelRect& box : boxes) EXPECT_FALSE(overlap(places[i], box)) << i;
    }
  }
}

TEST(Labels, KeepOffEachOtherEvenWhereBoxesFillThePicture) {
  const std::vector<PixelRect> boxes(6, {0, 0, 100, 60}), sizes(6, {0, 0, 45, 9});
  const auto places = place_labels(100, 60, boxes, sizes);
  for (size_t i = 0; i < places.size(); ++i)
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(overlap(places[i], places[j]));
  // A label wider than the picture begins at its edge.
  EXPECT_EQ(place_labels(20, 60, {{5, 20, 10, 30}}, {{0, 0, 45, 9}})[0].x1, 0);
}

TEST(Dashes, AreGapsInTheSameOutline) {
  Image solid = plain_image(60, 40), dashed = solid;
  const Color red{255, 0, 0};
  draw_box(solid, 5, 5, 55, 35, red, 2);
  draw_box(dashed, 5, 5, 55, 35, red, 2, LineStyle::dashed);
  int on = 0, off = 0;
  for (int y = 0; y < 40; ++y)
    for (int x = 0; x < 60; ++x) {
      const bool in_solid = solid.at(x, y)[0] == 255, in_dashed = dashed.at(x, y)[0] == 255;
      EXPECT_TRUE(in_solid || !in_dashed) << x << "," << y;
      if (in_solid) ++(in_dashed ? on : off);
    }
  EXPECT_GT(on, 3 * (on + off) / 10);
  EXPECT_GT(off, 3 * (on + off) / 10);
  // Far outside: nothing to draw, and no time lost on it.
  draw_box(dashed, -1e30f, -1e30f, 1e30f, 1e30f, red, 2, LineStyle::dashed);
}

TEST(LabelledBoxes, TheFirstIsOnTop) {
  Image image = plain_image(80, 60);
  draw_labelled_boxes(image, {{10, 20, 50, 50, 0, "a"}, {10, 20, 50, 50, 1, "b"}, {NAN, 0, 5, 5, 2, ""}});
  const Color first = class_color(0);
  EXPECT_EQ(image.at(30, 49)[0], first.r);
  EXPECT_EQ(image.at(30, 49)[2], first.b);
}

}  // namespace
}  // namespace gradlibra
