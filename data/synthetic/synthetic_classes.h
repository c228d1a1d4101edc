// SPDX-License-Identifier: MIT
// What tells the ten classes apart (size, nucleus, halo, stain, company; ranges overlap) and how often each occurs.
#pragma once

#include <vector>

#include "data/synthetic/synthetic_math.h"

namespace gradlibra {

// Indices into cervical_classes().
enum CellClass {
  kInflammation,
  kNormal,
  kHsil,
  kAtrophy,
  kBareNucleus,
  kScc,
  kTrichomonad,
  kLsil,
  kAscUs,
  kAscH,
  kCellClasses
};

// One cell's measures. Lengths are in units of one pixel at scale 1, about 0.42 micrometres; diameters are those of the
// circle of equal area, so nucleus^2 / diameter^2 is the nucleus-to-cytoplasm (N/C) ratio of areas of a cell with one
// nucleus.
struct CellTraits {
  float diameter = 0;      // whole cell; of a bare nucleus: the nucleus
  float aspect = 1;        // short over long axis of the cell
  float irregularity = 0;  // of the cell's outline
  float opacity = 1;       // of the cytoplasm: thin squamous cells against dense small ones
  float nucleus = 0;       // diameter
  float nucleus_aspect = 1;
  float nucleus_irregularity = 0;
  float darkness = 1;          // optical density of the chromatin
  float coarseness = 0;        // contrast of the chromatin texture
  float halo = 0;              // width of the clearing around the nucleus
  float halo_depth = 0;        // how clear it is, 0..1
  float halo_rim = 0;          // thickening of the cytoplasm behind it
  float orange = 0, pink = 0;  // share of the keratin and eosin stains; the rest is cyan
  float neutrophils = 0;       // how many lie about the cell
  float debris = 0;            // specks of necrosis about the cell
};

struct Range {
  float low = 0, high = 0;
};

// Traits of one cell. A fraction is `borderline`: drawn part of the way (`blend`) towards a class that is mistaken for
// it in practice (normal - inflammation - ASC_US - LSIL; atrophy - ASC_H - HSIL - SCC).
[[nodiscard]] CellTraits sample_traits(CellClass cell, float borderline, Range blend, Random& random);

struct Card {
  CellClass cell;
  bool beside_previous = false;  // in a cluster with the card before
};
// The class of every annotated cell of a split, in order, is dealt from shuffled decks of 50 cards in which all classes
// occur, so that even small splits hold every class: over two decks inflammation 45, normal and HSIL 15, atrophy 6,
// bare nuclei 5, SCC 4, trichomonads and LSIL 3, ASC_US and ASC_H 2. Parabasal cells of atrophy come in clusters of
// three, HSIL and trichomonads partly in pairs.
[[nodiscard]] std::vector<Card> make_deck(uint64_t seed, uint64_t split, uint64_t deck);
inline constexpr int kDeckSize = 50;

}  // namespace gradlibra
