// SPDX-License-Identifier: MIT
// Augmentation that changes pixels: size and section of the picture, a shift, colours, stain. Off unless asked for.
// Every choice is a pure function of (seed, epoch, position).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/images/image.h"
#include "runtime/base/config.h"

namespace gradlibra {

struct AugmentConfig {
  double scale_min = 1, scale_max = 1;  // of the picture as it enters the network
  double min_visible = 0.3;             // of an object's area inside the section, or it is no target
  int shift = 0;                        // pixels
  double brightness = 0, contrast = 0, saturation = 0, hue = 0;
  double stain = 0;
  void describe(ConfigVisitor& v);

  [[nodiscard]] bool geometric() const { return scale_min != 1 || scale_max != 1; }
  [[nodiscard]] bool colours() const {
    return brightness != 0 || contrast != 0 || saturation != 0 || hue != 0 || stain != 0;
  }
  // std::invalid_argument names the key that is out of range.
  void check() const;
};

// A picture of width x height scaled by `scale`, and the section of it that is kept: of `width` x `height` from (x, y).
struct Crop {
  double scale_x = 1, scale_y = 1;
  int full_width = 0, full_height = 0;  // scaled
  int x = 0, y = 0, width = 0, height = 0;
};
// Scale log-uniform in [scale_min, scale_max]; of what is larger than the input, a section anywhere with equal
// probability.
[[nodiscard]] Crop random_crop(const AugmentConfig& config, uint64_t seed, int64_t epoch, int64_t position, int width,
                               int height, int input_width, int input_height);
[[nodiscard]] Image cut(const Image& image, const Crop& crop);
// The box in the section, clipped to it. False: less than `min_visible` of its area is left.
[[nodiscard]] bool move_box(Box& box, const Crop& crop, double min_visible);

// What an image trains on: a box in its pixels, and its class.
struct Target {
  Box box;
  int label = 0;
};

// Content moved right and down by so many pixels of the network's input. What leaves the picture is lost, what is
// uncovered is black (YOLOF, arXiv:2103.09460, section 4.1).
struct Shift {
  int x = 0, y = 0;
  [[nodiscard]] bool none() const { return x == 0 && y == 0; }
};
// With probability 1/2 each axis by an integer from -config.shift to config.shift, all equally likely; else by nothing.
[[nodiscard]] Shift random_shift(const AugmentConfig& config, uint64_t seed, int64_t epoch, int64_t position);
[[nodiscard]] Image shifted(const Image& image, const Shift& shift);
// Targets after the shift, clipped to a picture of width x height; of what is left, those wider and higher than one
// pixel. Empty: none is, and the picture should stay as it is.
[[nodiscard]] std::vector<Target> shifted(const std::vector<Target>& targets, const Shift& shift, int width,
                                          int height);

// A change of colours: first of the optical densities (stain), then of RGB; both are affine, o' = matrix o + offset.
struct ColourChange {
  bool stains = false;
  std::array<float, 9> density{};
  std::array<float, 3> density_offset{};
  std::array<float, 9> matrix{};
  std::array<float, 3> offset{};  // in 0..255
};
// Brightness b adds up to 255 b, contrast and saturation multiply by 1 - a .. 1 + a, hue turns by up to that part of a
// full turn about the grey axis. Stain jitter after Tellez et al. (IEEE TMI 37, 2018): densities of haematoxylin, eosin
// and DAB (Ruifrok and Johnston, 2001) times 1 - s .. 1 + s plus -s .. s of a mean density of 0.2.
[[nodiscard]] ColourChange random_colours(const AugmentConfig& config, uint64_t seed, int64_t epoch, int64_t position);
void apply(const ColourChange& change, Image& image);

}  // namespace gradlibra
