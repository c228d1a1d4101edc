// SPDX-License-Identifier: MIT
// The slide of a synthetic smear: optical density that adds up (Beer and Lambert), what lies there besides cells,
// optics.
#pragma once

#include <vector>

#include "data/images/image.h"
#include "data/synthetic/synthetic_math.h"
#include "data/synthetic/synthetic_shape.h"

namespace gradlibra {

// Absorbance for red, green and blue light: intensity = background * exp(-density).
struct Density {
  float r = 0, g = 0, b = 0;
};
[[nodiscard]] inline Density operator*(Density d, float s) { return {d.r * s, d.g * s, d.b * s}; }
[[nodiscard]] inline Density operator+(Density a, Density b) { return {a.r + b.r, a.g + b.g, a.b + b.b}; }

// Stain and light of one patch.
struct Staining {
  Density chromatin, cyan, pink, orange, mucus;
  float white[3] = {1, 1, 1};  // background intensity
  Vec tilt;                    // fall of the light across the field, as a fraction
  float vignette = 0;          // fall towards the corners
  float defocus = 0;           // blur in units
  float far_defocus = 0;       // blur of the parts that lie out of focus; 0: there are none
  float far_level = 0;         // how much of the field that is: -1 nearly none, 1 nearly all
};
[[nodiscard]] Staining random_staining(Random& random);

// Positions and lengths are in units (pixels at scale 1), from the upper left corner.
class Smear {
 public:
  Smear(int size, float scale, const Staining& staining, Random& random);

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] float scale() const { return scale_; }
  [[nodiscard]] float pixel() const { return pixel_; }                              // in units
  [[nodiscard]] float field() const { return static_cast<float>(size_) * pixel_; }  // side of the patch
  [[nodiscard]] const Staining& staining() const { return staining_; }

  // Noise in [-1, 1] with features of `wavelength` units, fading out where they would be smaller than two pixels.
  [[nodiscard]] float noise(Vec p, float wavelength) const {
    const float fade = std::clamp(wavelength * scale_ - 1, 0.0F, 1.0F);
    return fade > 0 ? fade * noise_.at(p.x / wavelength, p.y / wavelength) : 0;
  }
  // Part of a pixel inside an edge `depth` units away, for an edge `softness` units wide.
  [[nodiscard]] float cover(float depth, float softness = 0) const {
    const float width = std::max(pixel_, softness);
    return std::clamp(depth / width + 0.5F, 0.0F, 1.0F);
  }

  // Calls shade(position relative to the centre, inside the patch or not, density to add to) for every pixel within
  // `reach`. With `outside`, pixels beyond the border are visited as well (density of a scratch pixel).
  template <class Shade>
  void for_pixels(Vec centre, float reach, bool outside, Shade&& shade) {
    int x1 = floor_int((centre.x - reach) * scale_), x2 = floor_int((centre.x + reach) * scale_) + 1;
    int y1 = floor_int((centre.y - reach) * scale_), y2 = floor_int((centre.y + reach) * scale_) + 1;
    if (!outside) {
      x1 = std::max(x1, 0), y1 = std::max(y1, 0), x2 = std::min(x2, size_), y2 = std::min(y2, size_);
    }
    Density scratch;
    for (int y = y1; y < y2; ++y) {
      for (int x = x1; x < x2; ++x) {
        const bool inside = x >= 0 && y >= 0 && x < size_ && y < size_;
        const Vec p = {(static_cast<float>(x) + 0.5F) * pixel_ - centre.x,
                       (static_cast<float>(y) + 0.5F) * pixel_ - centre.y};
        shade(p, x, y, inside ? density_[static_cast<size_t>(y) * size_ + x] : scratch);
      }
    }
  }

  // Things that are not annotated.
  void draw_background(Random& random, float amount = 1);  // film of mucus over the whole field
  void draw_strand(Random& random);                        // a mucus thread
  void draw_fragment(Vec centre, Random& random);          // cytoplasm without a nucleus
  void draw_squame(Vec centre, Random& random);            // a whole cell that lost its nucleus, folded or keratinised
  void draw_pale_body(Vec centre, Random& random);         // degenerate cytoplasm of a trichomonad's size and colour
  void draw_smudge(Vec centre, Random& random);            // smeared chromatin of a destroyed cell
  void draw_blood_cell(Vec centre, Random& random);
  void draw_neutrophil(Vec centre, Random& random);
  void draw_speck(Vec centre, Random& random);  // debris
  void draw_bacteria(Vec centre, Random& random);
  void draw_thread(Vec from, Vec direction, float length, float width, Density density, Random& random);  // curved hair

  // The picture: light, focus, sensor noise.
  [[nodiscard]] Image develop(Random& random) const;

 private:
  // Transmitted light as three planes of size x size, 0..255; and such planes blurred by a Gaussian of `sigma` pixels.
  [[nodiscard]] std::vector<float> light() const;
  void blur(std::vector<float>& planes, float sigma) const;
  [[nodiscard]] static int floor_int(float x) { return static_cast<int>(std::floor(x)); }

  int size_;
  float scale_, pixel_;
  Staining staining_;
  NoiseTile noise_;
  std::vector<Density> density_;
};

}  // namespace gradlibra
