// SPDX-License-Identifier: MIT
// The table of class traits and the dealing of classes to cells.
#include "data/synthetic/synthetic_classes.h"

#include <utility>

#include "data/synthetic/synthesize.h"

namespace gradlibra {

const std::vector<std::string>& cervical_classes() {
  static const std::vector<std::string> classes = {"inflammation", "normal",      "HSIL", "atrophy", "bare_nucleus",
                                                   "SCC",          "trichomonad", "LSIL", "ASC_US",  "ASC_H"};
  return classes;
}

const std::map<std::string, std::vector<std::string>>& cervical_groups() {
  static const std::map<std::string, std::vector<std::string>> groups = {
      {"frequent", {"inflammation"}},
      {"common", {"normal", "HSIL"}},
      {"rare", {"atrophy", "bare_nucleus", "SCC", "trichomonad", "LSIL", "ASC_US", "ASC_H"}},
  };
  return groups;
}

namespace {

// Ranges a trait is drawn from, denser in the middle; see CellTraits for the units. Sources: The Bethesda System for
// Reporting Cervical Cytology, 3rd ed.: ASC_US nuclei have 2.5 to 3 times the area of a normal intermediate nucleus
// (about 35 um^2, here 16 units across), LSIL more than 3; HSIL and ASC_H are the size of metaplastic cells with a high
// N/C ratio, HSIL with the darker and more irregular nucleus.
struct BodyRanges {
  Range diameter, aspect, irregularity, opacity;
  float orange, pink;  // probabilities of the stains
  Range neutrophils, debris;
};
struct NucleusRanges {
  Range diameter;  // absolute for large cells, which have a share of 0,
  Range share;     // over the cell's diameter for small ones
  Range aspect, irregularity, darkness, coarseness;
  Range halo, halo_depth, halo_rim;
};

// clang-format off
constexpr BodyRanges kBodies[kCellClasses] = {
    //                  diameter   aspect        irregularity  opacity       orange pink  neutrophils debris
    /* inflammation */ {{74, 112}, {0.72, 1},    {0.02, 0.07}, {0.60, 1.05}, 0.06, 0.36, {5, 22}, {0, 4}},
    /* normal       */ {{80, 122}, {0.72, 1},    {0.01, 0.05}, {0.55, 1.00}, 0.12, 0.38, {0, 3},  {0, 2}},
    /* HSIL         */ {{34, 52},  {0.68, 1},    {0.03, 0.08}, {1.00, 1.60}, 0.02, 0.15, {0, 4},  {0, 4}},
    /* atrophy      */ {{38, 56},  {0.78, 1},    {0.01, 0.05}, {0.65, 1.05}, 0.03, 0.22, {0, 4},  {0, 3}},
    /* bare_nucleus */ {{20, 33},  {0.72, 1},    {0.00, 0.05}, {0.00, 0.00}, 0.00, 0.00, {0, 3},  {0, 2}},
    /* SCC          */ {{46, 78},  {0.16, 0.42}, {0.05, 0.12}, {1.00, 1.70}, 0.62, 0.22, {0, 8},  {8, 34}},
    /* trichomonad  */ {{25, 38},  {0.50, 0.72}, {0.02, 0.06}, {0.75, 1.25}, 0.00, 0.00, {0, 5},  {0, 3}},
    /* LSIL         */ {{78, 118}, {0.70, 1},    {0.02, 0.07}, {0.75, 1.20}, 0.16, 0.40, {0, 4},  {0, 2}},
    /* ASC_US       */ {{76, 116}, {0.70, 1},    {0.02, 0.06}, {0.60, 1.05}, 0.12, 0.38, {0, 5},  {0, 2}},
    /* ASC_H        */ {{38, 58},  {0.72, 1},    {0.02, 0.07}, {1.00, 1.50}, 0.02, 0.15, {0, 4},  {0, 2}},
};
constexpr NucleusRanges kNuclei[kCellClasses] = {
    //                  diameter  share       aspect      irregularity darkness      coarseness  halo     depth      rim
    /* inflammation */ {{18, 26}, {},         {.75, 1},   {.01, .06},  {.75, 1.15},  {.20, .45}, {3, 8},  {.45, .80}, {0, .15}},
    /* normal       */ {{13, 19}, {},         {.80, 1},   {.00, .04},  {.90, 1.40},  {.15, .35}, {0, 2},  {.00, .30}, {}},
    /* HSIL         */ {{},       {.64, .86}, {.60, .95}, {.05, .12},  {1.45, 2.10}, {.45, .80}, {},      {},         {}},
    /* atrophy      */ {{},       {.34, .50}, {.78, 1},   {.00, .05},  {.75, 1.15},  {.15, .35}, {0, 1},  {.00, .20}, {}},
    /* bare_nucleus */ {{},       {1, 1},     {.72, 1},   {.00, .06},  {.75, 1.35},  {.15, .40}, {},      {},         {}},
    /* SCC          */ {{},       {.38, .56}, {.38, .75}, {.06, .16},  {1.70, 2.70}, {.30, .80}, {},      {},         {}},
    /* trichomonad  */ {{},       {.20, .32}, {.45, .75}, {.00, .05},  {.30, .60},   {.10, .30}, {},      {},         {}},
    /* LSIL         */ {{28, 38}, {},         {.65, 1},   {.04, .11},  {1.20, 1.70}, {.35, .65}, {8, 17}, {.55, .85}, {.35, .9}},
    /* ASC_US       */ {{24, 31}, {},         {.70, 1},   {.02, .08},  {1.05, 1.45}, {.25, .50}, {0, 4},  {.00, .45}, {0, .15}},
    /* ASC_H        */ {{},       {.48, .68}, {.70, 1},   {.03, .09},  {1.15, 1.60}, {.30, .55}, {},      {},         {}},
};
// clang-format on

// Triangular-like: the mean of two uniform draws.
float draw(Range range, Random& random) {
  const float a = random.uniform(), b = random.uniform();
  return range.low + (range.high - range.low) * 0.5F * (a + b);
}

CellTraits sample_typical(CellClass cell, Random& random) {
  const BodyRanges& body = kBodies[cell];
  const NucleusRanges& nucleus = kNuclei[cell];
  CellTraits c;
  c.diameter = draw(body.diameter, random);
  c.aspect = draw(body.aspect, random);
  c.irregularity = draw(body.irregularity, random);
  c.opacity = draw(body.opacity, random);
  const float share = draw(nucleus.share, random);
  const float diameter = draw(nucleus.diameter, random);
  c.nucleus = nucleus.share.high > 0 ? share * c.diameter : diameter;
  c.nucleus_aspect = draw(nucleus.aspect, random);
  c.nucleus_irregularity = draw(nucleus.irregularity, random);
  c.darkness = draw(nucleus.darkness, random);
  c.coarseness = draw(nucleus.coarseness, random);
  c.halo = draw(nucleus.halo, random);
  c.halo_depth = draw(nucleus.halo_depth, random);
  c.halo_rim = draw(nucleus.halo_rim, random);
  const float stain = random.uniform(), purity = random.uniform(0.75F, 1);
  if (stain < body.orange) {
    c.orange = purity;
    c.pink = 1 - purity;
  } else if (stain < body.orange + body.pink) {
    c.pink = purity;
  } else {
    c.pink = 0.6F * (1 - purity);
  }
  // Superficial cells take up eosin or orange and have a shrunken, darker nucleus.
  if (cell == kNormal && c.pink + c.orange > 0.5F) {
    c.nucleus *= 0.85F;
    c.darkness *= 1.2F;
  }
  const float many = random.uniform();
  c.neutrophils = body.neutrophils.low + (body.neutrophils.high - body.neutrophils.low) * many * many;
  c.debris = draw(body.debris, random);
  return c;
}

float mix(float a, float b, float t) { return a + (b - a) * t; }

CellTraits mixed(const CellTraits& a, const CellTraits& b, float t) {
  CellTraits c = a;
  c.diameter = mix(a.diameter, b.diameter, t);
  c.aspect = mix(a.aspect, b.aspect, t);
  c.irregularity = mix(a.irregularity, b.irregularity, t);
  c.opacity = mix(a.opacity, b.opacity, t);
  c.nucleus = mix(a.nucleus, b.nucleus, t);
  c.nucleus_aspect = mix(a.nucleus_aspect, b.nucleus_aspect, t);
  c.nucleus_irregularity = mix(a.nucleus_irregularity, b.nucleus_irregularity, t);
  c.darkness = mix(a.darkness, b.darkness, t);
  c.coarseness = mix(a.coarseness, b.coarseness, t);
  c.halo = mix(a.halo, b.halo, t);
  c.halo_depth = mix(a.halo_depth, b.halo_depth, t);
  c.halo_rim = mix(a.halo_rim, b.halo_rim, t);
  c.neutrophils = mix(a.neutrophils, b.neutrophils, t);
  c.debris = mix(a.debris, b.debris, t);
  return c;  // stain of `a`
}

std::vector<CellClass> mistaken_for(CellClass cell) {
  switch (cell) {
    case kInflammation:
      return {kNormal, kAscUs};
    case kNormal:
      return {kInflammation, kAscUs};
    case kAscUs:
      return {kNormal, kLsil, kInflammation};
    case kLsil:
      return {kAscUs};
    case kHsil:
      return {kAscH, kScc};
    case kAscH:
      return {kHsil, kAtrophy};
    case kScc:
      return {kHsil};
    case kAtrophy:
      return {kAscH};
    default:
      return {};  // organisms and naked nuclei
  }
}

}  // namespace

CellTraits sample_traits(CellClass cell, float borderline, Range blend, Random& random) {
  CellTraits traits = sample_typical(cell, random);
  const bool between = random.chance(borderline);
  const std::vector<CellClass> others = mistaken_for(cell);
  if (between && !others.empty()) {
    const CellClass other = others[random.below(static_cast<int>(others.size()))];
    const CellTraits far = sample_typical(other, random);
    traits = mixed(traits, far, random.uniform(blend.low, blend.high));
  }
  return traits;
}

std::vector<Card> make_deck(uint64_t seed, uint64_t split, uint64_t deck) {
  Random random(seed, {split, deck, 0xDEC});  // patches use other last words
  // Cells that lie together: {class, cells in the cluster, clusters in even decks, in odd decks}.
  struct Bundle {
    CellClass cell;
    int cells, even, odd;
  };
  static constexpr Bundle kBundles[] = {
      {kInflammation, 1, 22, 23}, {kNormal, 1, 8, 7},      {kHsil, 1, 3, 4},  {kHsil, 2, 2, 2},
      {kAtrophy, 3, 1, 1},        {kBareNucleus, 1, 3, 2}, {kScc, 1, 2, 2},   {kTrichomonad, 2, 1, 0},
      {kTrichomonad, 1, 0, 1},    {kLsil, 1, 1, 2},        {kAscUs, 1, 1, 1}, {kAscH, 1, 1, 1}};
  std::vector<std::pair<CellClass, int>> bundles;
  for (const Bundle& bundle : kBundles)
    bundles.insert(bundles.end(), deck % 2 == 0 ? bundle.even : bundle.odd, {bundle.cell, bundle.cells});
  for (int i = static_cast<int>(bundles.size()) - 1; i > 0; --i) std::swap(bundles[i], bundles[random.below(i + 1)]);
  std::vector<Card> cards;
  for (const auto& [cell, cells] : bundles) {
    for (int k = 0; k < cells; ++k) cards.push_back({cell, k > 0});
  }
  return cards;
}

}  // namespace gradlibra
