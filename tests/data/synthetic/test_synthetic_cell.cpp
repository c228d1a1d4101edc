// SPDX-License-Identifier: MIT
// Synthetic cells differ as cytology says, neighbouring classes overlap, outlines and boxes are what they claim.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "data/synthetic/synthesize.h"
#include "data/synthetic/synthetic_cell.h"

namespace gradlibra {
namespace {

struct Means {
  double nucleus_area = 0, ratio = 0, darkness = 0, halo = 0, neutrophils = 0, diameter = 0, aspect = 0;
};
Means mean_traits(CellClass cell) {
  Random random(7, {static_cast<uint64_t>(cell)});
  constexpr int kSamples = 2000;
  Means m;
  for (int i = 0; i < kSamples; ++i) {
    const CellTraits t = sample_traits(cell, 0.1F, {0.25F, 0.5F}, random);
    m.nucleus_area += t.nucleus * t.nucleus / kSamples;
    m.ratio += t.nucleus * t.nucleus / (t.diameter * t.diameter) / kSamples;
    m.darkness += t.darkness / kSamples;
    m.halo += t.halo * t.halo_depth / kSamples;
    m.neutrophils += t.neutrophils / kSamples;
    m.diameter += t.diameter / kSamples;
    m.aspect += t.aspect / kSamples;
  }
  return m;
}

TEST(SyntheticCell, DifferAsCytologySays) {
  std::array<Means, kCellClasses> m;
  for (int c = 0; c < kCellClasses; ++c) m[c] = mean_traits(static_cast<CellClass>(c));
  // N/C ratio by area, ascending.
  const CellClass by_ratio[] = {kNormal, kInflammation, kAscUs, kLsil, kAtrophy, kAscH, kHsil};
  for (int i = 0; i + 1 < 7; ++i)
    EXPECT_LT(1.2 * m[by_ratio[i]].ratio, m[by_ratio[i + 1]].ratio) << cervical_classes()[by_ratio[i + 1]];
  EXPECT_NEAR(m[kBareNucleus].ratio, 1, 1e-6);
  // Nuclear area against a normal cell: ASC_US about three times, LSIL more, reactive cells less than both.
  EXPECT_GT(m[kAscUs].nucleus_area, 2.3 * m[kNormal].nucleus_area);
  EXPECT_LT(m[kAscUs].nucleus_area, 3.7 * m[kNormal].nucleus_area);
  EXPECT_GT(m[kLsil].nucleus_area, 3.7 * m[kNormal].nucleus_area);
  EXPECT_LT(m[kInflammation].nucleus_area, 0.8 * m[kAscUs].nucleus_area);
  const CellClass by_darkness[] = {kTrichomonad, kAtrophy, kAscUs, kLsil, kHsil, kScc};
  for (int i = 0; i + 1 < 6; ++i) EXPECT_LT(1.1 * m[by_darkness[i]].darkness, m[by_darkness[i + 1]].darkness) << i;
  EXPECT_GT(m[kLsil].halo, 2 * m[kInflammation].halo);
  EXPECT_GT(m[kInflammation].halo, 2 * m[kNormal].halo);
  EXPECT_GT(m[kInflammation].neutrophils, 3 * m[kNormal].neutrophils);
  EXPECT_LT(m[kHsil].diameter, m[kAscH].diameter);
  EXPECT_LT(2 * m[kAscH].diameter, 1.1 * m[kNormal].diameter);
  EXPECT_LT(m[kScc].aspect, 0.5);
  EXPECT_LT(m[kTrichomonad].diameter, m[kHsil].diameter);
}

// The fraction of pairs that one measure alone puts in the wrong order: hard, not hopeless.
TEST(SyntheticCell, NeighboursOverlap) {
  const auto wrong = [](CellClass smaller, CellClass larger, float CellTraits::*trait) {
    Random a(1, {}), b(2, {});
    int n = 0;
    for (int i = 0; i < 4000; ++i)
      n += sample_traits(smaller, 0.1F, {0.25F, 0.5F}, a).*trait > sample_traits(larger, 0.1F, {0.25F, 0.5F}, b).*trait
               ? 1
               : 0;
    return n / 4000.0;
  };
  for (const double part :
       {wrong(kInflammation, kAscUs, &CellTraits::nucleus), wrong(kAscUs, kLsil, &CellTraits::nucleus),
        wrong(kNormal, kInflammation, &CellTraits::nucleus), wrong(kAscH, kHsil, &CellTraits::darkness),
        wrong(kHsil, kScc, &CellTraits::darkness)}) {
    EXPECT_GT(part, 0.005);
    EXPECT_LT(part, 0.25);
  }
}

// --- drawing ---------------------------------------------------------------------------------------------------------

TEST(SyntheticCell, ExponentialAndPseudoAngle) {
  for (const float x : {0.0F, 1e-6F, 0.3F, 0.6931472F, 1.0F, 2.5F, 7.0F, 30.0F})
    EXPECT_NEAR(exp_minus(x) * std::exp(x), 1, 1e-5) << x;
  EXPECT_LT(exp_minus(1e9F), 1e-20F);
  for (const float t : {0.0F, 0.25F, 1.0F, 1.75F, 2.0F, 2.5F, 3.0F, 3.9F}) {
    const Vec v = from_pseudo_angle(t);
    EXPECT_NEAR(length(v), 1, 1e-6);
    EXPECT_NEAR(pseudo_angle({5 * v.x, 5 * v.y}), t, 1e-5);
  }
  EXPECT_EQ(pseudo_angle({0, 0}), 0);
}

TEST(SyntheticCell, OutlineHasTheAreaOfItsDiameterAndDistancesOfSlopeOne) {
  Random random(3, {});
  for (int n = 0; n < 20; ++n) {
    const Outline outline(
        40, {.aspect = 0.5F + 0.025F * static_cast<float>(n), .corners = n % 8, .irregularity = 0.04F, .notch = 0.1F},
        random);
    double area = 0;
    for (float y = -60; y < 60; y += 0.25F) {
      for (float x = -60; x < 60; x += 0.25F) area += outline.depth({x, y}) > 0 ? 0.0625 : 0;
    }
    EXPECT_NEAR(area, 3.14159265 * 400, 3.14159265 * 400 * 0.01) << n;
    EXPECT_GT(outline.depth({0, 0}), 0);
  }
  const Outline circle(40, {}, random);
  EXPECT_NEAR(circle.depth({17, 0}), 3, 0.02);
  EXPECT_NEAR(circle.depth({0, -24}), -4, 0.02);
  EXPECT_NEAR(circle.reach(), 20, 0.02);
}

// One cell alone on clear glass.
struct Portrait {
  Image image;
  DrawnCell drawn;
  int dark = 0;         // pixels of the nucleus
  PixelBounds stained;  // around all pixels clearly darker than the glass
};
Portrait draw_alone(CellClass cell, uint64_t seed) {
  Random random(seed, {});
  Staining staining = random_staining(random);
  staining.vignette = 0, staining.tilt = {}, staining.defocus = 0.3F;
  Smear smear(256, 1, staining, random);
  const CellTraits traits = sample_traits(cell, 0.1F, {0.25F, 0.5F}, random);
  Portrait p;
  p.drawn = SyntheticCell(cell, traits, random).draw(smear, {128, 128}, random).value();
  p.image = smear.develop(random);
  p.stained = {256, 256, 0, 0};
  for (int y = 0; y < 256; ++y) {
    for (int x = 0; x < 256; ++x) {
      const uint8_t* pixel = p.image.at(x, y);
      p.dark += pixel[0] < 140 && pixel[1] < 140 ? 1 : 0;
      const float glass = 255 * staining.white[1], red = 255 * staining.white[0];
      if (static_cast<float>(pixel[1]) > 0.95F * glass && static_cast<float>(pixel[0]) > 0.95F * red) continue;
      p.stained.x1 = std::min(p.stained.x1, x), p.stained.y1 = std::min(p.stained.y1, y);
      p.stained.x2 = std::max(p.stained.x2, x + 1), p.stained.y2 = std::max(p.stained.y2, y + 1);
    }
  }
  return p;
}

TEST(SyntheticCell, BoxesAreTightAroundTheStain) {
  for (int c = 0; c < kCellClasses; ++c) {
    if (c == kTrichomonad) continue;  // flagella are stained but not part of the box
    for (uint64_t seed = 0; seed < 6; ++seed) {
      const Portrait p = draw_alone(static_cast<CellClass>(c), seed);
      EXPECT_EQ(p.drawn.visible, 1);
      // The thread of a tadpole may be too thin to count at its end; elsewhere the softness of the edge is the slack.
      const int slack = c == kScc ? 8 : 4;
      EXPECT_NEAR(p.drawn.box.x1, p.stained.x1, slack) << cervical_classes()[c] << " " << seed;
      EXPECT_NEAR(p.drawn.box.y1, p.stained.y1, slack) << cervical_classes()[c] << " " << seed;
      EXPECT_NEAR(p.drawn.box.x2, p.stained.x2, slack) << cervical_classes()[c] << " " << seed;
      EXPECT_NEAR(p.drawn.box.y2, p.stained.y2, slack) << cervical_classes()[c] << " " << seed;
    }
  }
}

TEST(SyntheticCell, PixelsShowTheNuclearShare) {
  std::array<double, kCellClasses> share{};
  for (int c = 0; c < kCellClasses; ++c) {
    for (uint64_t seed = 0; seed < 12; ++seed) {
      const Portrait p = draw_alone(static_cast<CellClass>(c), 100 + seed);
      share[c] += static_cast<double>(p.dark) / static_cast<double>(p.drawn.box.area()) / 12;
    }
  }
  EXPECT_LT(share[kNormal], share[kInflammation]);
  EXPECT_LT(share[kInflammation], share[kAscUs]);
  EXPECT_LT(share[kAscUs], share[kLsil]);
  EXPECT_LT(share[kLsil], share[kAscH]);
  EXPECT_LT(share[kAscH], share[kHsil]);
  EXPECT_LT(share[kTrichomonad], 0.1);  // its nucleus is faint
  EXPECT_GT(share[kBareNucleus], 0.5);
}

}  // namespace
}  // namespace gradlibra
