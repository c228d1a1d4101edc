// SPDX-License-Identifier: MIT
// Shape and shading of synthetic cells.
#include "data/synthetic/synthetic_cell.h"

#include <limits>

namespace gradlibra {

namespace {

bool squamous(CellClass c) { return c == kNormal || c == kInflammation || c == kAscUs || c == kLsil; }

}  // namespace

SyntheticCell::SyntheticCell(CellClass cell, const CellTraits& traits, Random& random) : class_(cell), traits_(traits) {
  axis_ = random_direction(random);
  texture_ = {random.uniform(0, 1000), random.uniform(0, 1000)};
  const CellTraits& t = traits_;
  edge_ = squamous(cell) ? random.uniform(1.2F, 3) : random.uniform(1, 2);
  rim_ = squamous(cell) ? random.uniform(0.1F, 0.4F) : random.uniform(0.05F, 0.25F);
  mottling_ = random.uniform(0.2F, 0.45F);
  grain_ = random.uniform(0.1F, 0.24F);

  if (cell == kScc && random.chance(0.75F)) {
    // Area of a ribbon is about 0.59 of length times width; the thread of a tadpole adds little.
    spindle_ = true;
    const float stretch = std::sqrt(t.aspect * 0.59F);
    const float spindle_length = 0.886F * t.diameter / stretch;
    const float tail = random.chance(0.45F) ? random.uniform(0.7F, 1) : random.uniform(0, 0.25F);
    ribbon_ = Ribbon(spindle_length, spindle_length * t.aspect, tail, random);
  } else {
    OutlineStyle style = {.aspect = t.aspect, .irregularity = t.irregularity};
    if (squamous(cell)) style.corners = random.between(4, 7);
    if (cell == kTrichomonad) style.pear = random.uniform(0.12F, 0.3F);
    if (cell == kScc)
      style = {.aspect = std::max(t.aspect, 0.4F), .corners = random.between(3, 5), .irregularity = 0.14F};
    outline_ = Outline(t.diameter, style, random);
  }

  // Two nuclei, side by side and smaller each, are a mark of LSIL and happen in reactive cells.
  const float twin_chance = cell == kLsil ? 0.4F : cell == kInflammation ? 0.07F : cell == kAscUs ? 0.06F : 0;
  const int count = random.chance(twin_chance) ? 2 : 1;
  const float each = count == 2 ? 0.8F * t.nucleus : t.nucleus;
  const float room = std::max(0.0F, 0.5F * (t.diameter * t.aspect - t.nucleus) - 2);
  Vec place = {0.45F * room * random.bell() / 2, 0.45F * room * random.bell() / 2};
  if (cell == kTrichomonad) place = {0.18F * t.diameter, 0.05F * t.diameter * random.bell()};
  Vec along = random_direction(random);
  if (spindle_) {
    const float s = random.uniform(0.1F, 0.4F);
    place = ribbon_.middle(s);
    along = ribbon_.direction(s);
  }
  for (int k = 0; k < count; ++k) {
    Nucleus n;
    float diameter = each;
    OutlineStyle style = {.aspect = t.nucleus_aspect, .irregularity = t.nucleus_irregularity};
    if ((cell == kHsil || cell == kScc || cell == kAscH) && random.chance(0.5F))
      style.notch = random.uniform(0.05F, 0.22F);
    if (spindle_) {
      // As wide as the ribbon lets it be, and long instead.
      const float widest = 0.72F * ribbon_.width_at(0.25F);
      style.aspect = std::min(style.aspect, widest / diameter);
      if (diameter * std::sqrt(style.aspect) > widest) diameter = widest / std::sqrt(style.aspect);
    }
    n.outline = Outline(diameter, style, random);
    n.axis = spindle_ ? along : random_direction(random);
    const float side = count == 2 ? (k == 0 ? -0.52F : 0.52F) * each : 0;
    n.place = {place.x + along.x * side, place.y + along.y * side};
    const float nucleolus_chance = cell == kInflammation  ? 0.35F
                                   : cell == kScc         ? 0.3F
                                   : cell == kBareNucleus ? 0.2F
                                                          : 0.04F;
    if (random.chance(nucleolus_chance)) {
      n.nucleolus_radius = diameter * random.uniform(0.07F, 0.12F);
      n.nucleolus = {diameter * 0.12F * random.bell(), diameter * 0.12F * random.bell()};
    }
    nuclei_.push_back(n);
  }
  if (t.halo > 0) {
    const float span = each * (count == 2 ? 1.55F : 1.0F);
    const float sharp = smooth_step(3, 12, t.halo);
    halo_ =
        Outline(span + 2 * t.halo, {.aspect = random.uniform(0.7F, 1), .irregularity = 0.03F + 0.06F * sharp}, random);
    halo_place_ = {place.x + 0.25F * sharp * t.halo * random.bell(), place.y + 0.25F * sharp * t.halo * random.bell()};
  }

  if (squamous(cell)) {
    const float size = t.diameter * t.aspect;
    if (random.chance(0.25F)) {
      fold_ = std::max(random.uniform(0.34F, 0.46F) * size, 0.5F * t.nucleus + length(place) + 4);
      fold_normal_ = random_direction(random);
    }
    const int creases = random.between(0, 4);
    for (int k = 0; k < creases; ++k) {
      const Vec d = random_direction(random);
      const float r = random.uniform(0.2F, 0.45F) * t.diameter;
      creases_.push_back({{d.x * r, d.y * r},
                          random_direction(random),
                          random.uniform(0.1F, 0.3F) * t.diameter,
                          random.uniform(0.12F, 0.4F)});
    }
  }
}

float SyntheticCell::reach() const { return (spindle_ ? ribbon_.reach() : outline_.reach()) + 3; }

float SyntheticCell::body_depth(Vec p) const { return spindle_ ? ribbon_.depth(p) : outline_.depth(p); }

Density SyntheticCell::cytoplasm(const Smear& smear, Vec p, float depth, float nucleus_depth) const {
  const CellTraits& t = traits_;
  const Vec q = {p.x + texture_.x, p.y + texture_.y};
  // Mottled dyes: the share of pink wanders over the cell.
  const float drift = 0.18F * smear.noise(q, 34);
  const float orange = std::clamp(t.orange + (t.orange > 0 ? drift : 0), 0.0F, 1.0F);
  const float pink = std::clamp(t.pink + drift, 0.0F, 1 - orange);
  const Staining& s = smear.staining();
  Density stain = s.cyan * (1 - orange - pink) + s.pink * pink + s.orange * orange;
  if (class_ == kTrichomonad) stain = (s.cyan + s.orange * 0.2F + s.mucus * 0.9F) * 0.75F;  // grey-green

  float amount = t.opacity * (0.72F + 0.28F * smooth_step(0, 0.3F * t.diameter, depth));
  amount *=
      1 + mottling_ * (0.65F * smear.noise(q, 17) + 0.35F * smear.noise({q.y, q.x}, 7)) + grain_ * smear.noise(q, 2.6F);
  amount *= 1 + rim_ * (1 - smooth_step(0, 4.5F, std::abs(depth - 1.5F)));
  for (const Crease& crease : creases_) {
    const Vec d = {p.x - crease.through.x, p.y - crease.through.y};
    const float across = std::abs(dot(d, crease.normal) + 0.004F * dot(d, d));
    const float along = length(d);
    if (along < crease.reach)
      amount *= 1 + crease.strength * (1 - smooth_step(0.3F, 2.2F, across)) * (1 - along / crease.reach);
  }
  if (t.halo > 0 && nucleus_depth < 1) {
    const float into = halo_.depth({p.x - halo_place_.x, p.y - halo_place_.y});
    const float softness = 4.5F - 3 * smooth_step(4, 12, t.halo);
    amount *= 1 - t.halo_depth * smear.cover(into, softness);
    const float behind = -into;
    if (behind > 0) amount *= 1 + t.halo_rim * (1 - smooth_step(1.5F, 11, behind));
  }
  return stain * std::max(0.0F, amount);
}

Density SyntheticCell::chromatin(const Smear& smear, const Nucleus& nucleus, Vec p, float depth) const {
  const CellTraits& t = traits_;
  const Vec q = {p.x + texture_.y, p.y + texture_.x};
  const float clump = 0.6F * smear.noise(q, 4.6F) + 0.4F * smear.noise({q.y + 17, q.x}, 2.1F);
  float amount = t.darkness * (1 + 1.2F * t.coarseness * clump);
  amount *= 1 + 0.3F * (1 - smooth_step(0.5F, 3.2F, depth));  // membrane
  Density density = smear.staining().chromatin * amount;
  if (nucleus.nucleolus_radius > 0) {
    const Vec d = {p.x - nucleus.nucleolus.x, p.y - nucleus.nucleolus.y};
    density = density + (smear.staining().chromatin * 0.7F + smear.staining().pink) *
                            smear.cover(nucleus.nucleolus_radius - length(d), 1.2F);
  }
  return density;
}

std::optional<DrawnCell> SyntheticCell::draw(Smear& smear, Vec centre, Random& random) const {
  constexpr int kFar = std::numeric_limits<int>::max();
  PixelBounds full = {kFar, kFar, -kFar, -kFar}, seen = full;
  const auto extend = [](PixelBounds& box, int x, int y) {
    box.x1 = std::min(box.x1, x), box.y1 = std::min(box.y1, y);
    box.x2 = std::max(box.x2, x + 1), box.y2 = std::max(box.y2, y + 1);
  };
  const bool bare = class_ == kBareNucleus;
  smear.for_pixels(centre, reach(), true, [&](Vec offset, int x, int y, Density& density) {
    const Vec p = into_frame(offset, axis_);
    float nucleus_depth = -100, nucleus_cover = 0;
    Density dark;
    for (const Nucleus& nucleus : nuclei_) {
      const Vec q = into_frame({p.x - nucleus.place.x, p.y - nucleus.place.y}, nucleus.axis);
      const float depth = nucleus.outline.depth(q);
      nucleus_depth = std::max(nucleus_depth, depth);
      const float inside = smear.cover(depth, 1.6F);
      if (inside <= 0) continue;
      nucleus_cover = std::max(nucleus_cover, inside);
      dark = dark + chromatin(smear, nucleus, q, depth) * inside;  // overlapping nuclei are darker
    }
    float body = nucleus_cover;
    if (!bare) {
      float depth = body_depth(p), flap = 0;
      if (fold_ > 0) {
        // What lies beyond the fold is turned over onto the cell, where it doubles the density.
        const float beyond = dot(p, fold_normal_) - fold_;
        const Vec mirrored = {p.x - 2 * beyond * fold_normal_.x, p.y - 2 * beyond * fold_normal_.y};
        if (beyond < 0) flap = smear.cover(std::min(body_depth(mirrored), -beyond), 1.2F);
        depth = std::min(depth, -beyond);
      }
      const float inside = smear.cover(depth, edge_);
      if (inside > 0) density = density + cytoplasm(smear, p, depth, nucleus_depth) * (inside * (1 + 0.9F * flap));
      body = std::max(body, inside);
    }
    density = density + dark;
    if (body < 0.5F) return;
    extend(full, x, y);
    if (x >= 0 && y >= 0 && x < smear.size() && y < smear.size()) extend(seen, x, y);
  });
  if (class_ == kTrichomonad) draw_flagella(smear, centre, random);
  if (seen.x2 <= seen.x1) return std::nullopt;
  return DrawnCell{seen, static_cast<double>(seen.area()) / static_cast<double>(full.area())};
}

void SyntheticCell::draw_flagella(Smear& smear, Vec centre, Random& random) const {
  const Density hair = (smear.staining().mucus + smear.staining().chromatin * 0.35F) * random.uniform(0.6F, 1.1F);
  const int count = random.between(2, 4);
  const Vec tip = {outline_.radius_towards({1, 0}), 0};
  for (int k = 0; k < count; ++k) {
    const Vec start = out_of_frame({tip.x - 1, random.uniform(-1.5F, 1.5F)}, axis_);
    const float tilt = random.uniform(-0.6F, 0.6F), norm = std::sqrt(1 + tilt * tilt);
    const Vec direction = out_of_frame({1 / norm, tilt / norm}, axis_);
    smear.draw_thread({centre.x + start.x, centre.y + start.y}, direction, random.uniform(9, 18), 1.1F, hair, random);
  }
  const Vec back = out_of_frame({-outline_.radius_towards({-1, 0}) + 1, 0}, axis_);
  smear.draw_thread({centre.x + back.x, centre.y + back.y}, {-axis_.x, -axis_.y}, random.uniform(4, 8), 1.2F, hair,
                    random);
}

}  // namespace gradlibra
