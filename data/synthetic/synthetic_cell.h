// SPDX-License-Identifier: MIT
// One annotated cell of a synthetic smear: its shape made from traits, and its drawing.
#pragma once

#include <optional>
#include <vector>

#include "data/synthetic/synthetic_classes.h"
#include "data/synthetic/synthetic_smear.h"

namespace gradlibra {

// Whole pixels: columns x1 .. x2 - 1, rows y1 .. y2 - 1.
struct PixelBounds {
  int x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  [[nodiscard]] int64_t area() const { return static_cast<int64_t>(x2 - x1) * (y2 - y1); }
};

struct DrawnCell {
  PixelBounds box;     // tight around the part inside the patch
  double visible = 1;  // area of `box` over that of the box without the patch's border
};

class SyntheticCell {
 public:
  SyntheticCell(CellClass cell, const CellTraits& traits, Random& random);

  [[nodiscard]] const CellTraits& traits() const { return traits_; }
  [[nodiscard]] float reach() const;  // no part of the cell is further from its centre, flagella excepted
  [[nodiscard]] float radius() const { return 0.5F * traits_.diameter; }
  [[nodiscard]] int nuclei() const { return static_cast<int>(nuclei_.size()); }

  // Adds the cell at `centre`. Its box spans the pixels at least half covered by the body: cytoplasm and nucleus; the
  // nucleus alone of a bare nucleus; the body without flagella of a trichomonad. Nothing is returned if no pixel of it
  // lies inside.
  std::optional<DrawnCell> draw(Smear& smear, Vec centre, Random& random) const;

 private:
  struct Nucleus {
    Outline outline;
    Vec place, axis;
    Vec nucleolus;
    float nucleolus_radius = 0;
  };
  [[nodiscard]] float body_depth(Vec p) const;
  [[nodiscard]] Density cytoplasm(const Smear& smear, Vec p, float depth, float nucleus_depth) const;
  [[nodiscard]] Density chromatin(const Smear& smear, const Nucleus& nucleus, Vec p, float depth) const;
  void draw_flagella(Smear& smear, Vec centre, Random& random) const;

  CellClass class_;
  CellTraits traits_;
  bool spindle_ = false;  // body is the ribbon, otherwise the outline
  Outline outline_;
  Ribbon ribbon_;
  Vec axis_;
  std::vector<Nucleus> nuclei_;
  Outline halo_;  // of a koilocyte: the cleared space
  Vec halo_place_;
  float fold_ = 0;  // distance of the folding line from the centre; 0: none
  Vec fold_normal_;
  struct Crease {
    Vec through, normal;
    float reach = 0, strength = 0;
  };
  std::vector<Crease> creases_;
  Vec texture_;     // where this cell looks into the noise
  float edge_ = 1;  // softness of the border
  float rim_ = 0;   // darker border
  float mottling_ = 0, grain_ = 0;
};

}  // namespace gradlibra
