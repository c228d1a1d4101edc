// SPDX-License-Identifier: MIT
#include "data/loading/augment_pixels.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numbers>
#include <stdexcept>
#include <utility>

#include "runtime/base/random.h"

namespace gradlibra {
namespace {

constexpr uint64_t kCropStream = hash_name("crop", 4), kColourStream = hash_name("colours", 7),
                   kShiftStream = hash_name("shift", 5);

using Matrix = std::array<double, 9>;

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c{};
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 3; ++j)
      for (size_t k = 0; k < 3; ++k) c[3 * i + j] += a[3 * i + k] * b[3 * k + j];
  return c;
}

Matrix inverse(const Matrix& m) {
  const auto minor = [&](size_t r, size_t c) {
    const size_t r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
    return m[3 * r1 + c1] * m[3 * r2 + c2] - m[3 * r1 + c2] * m[3 * r2 + c1];
  };
  const double determinant = m[0] * minor(0, 0) + m[1] * minor(0, 1) + m[2] * minor(0, 2);
  Matrix result{};
  for (size_t r = 0; r < 3; ++r)
    for (size_t c = 0; c < 3; ++c) result[3 * c + r] = minor(r, c) / determinant;
  return result;
}

constexpr Matrix kIdentity{1, 0, 0, 0, 1, 0, 0, 0, 1};
constexpr std::array<double, 3> kLuma{0.299, 0.587, 0.114};  // ITU-R BT.601

// grey + factor (colour - grey), grey being the luma of each pixel.
Matrix saturation_matrix(double factor) {
  Matrix m{};
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 3; ++j) m[3 * i + j] = (1 - factor) * kLuma[j] + (i == j ? factor : 0);
  return m;
}

// A turn about the grey axis (1, 1, 1): Rodrigues' formula.
Matrix hue_matrix(double turns) {
  const double angle = 2 * std::numbers::pi * turns, c = std::cos(angle), s = std::sin(angle) / std::sqrt(3.0);
  const double same = c + (1 - c) / 3, next = (1 - c) / 3 - s, last = (1 - c) / 3 + s;
  return {same, next, last, last, same, next, next, last, same};
}

}  // namespace

void AugmentConfig::describe(ConfigVisitor& v) {
  v.field("scale_min", scale_min, "training: the picture is scaled by a random factor of at least this, and cropped",
          between(0.1, 10));
  v.field("scale_max", scale_max, "the largest such factor; 1 and 1: no scaling", between(0.1, 10));
  v.field("min_visible", min_visible, "an object with a smaller share of its area inside the crop is no target",
          between(0, 1));
  v.field("shift", shift,
          "training: with probability 1/2 the picture moves by up to so many pixels each way, and what is uncovered is "
          "black; YOLOF was trained with 32",
          between(0, 4096));
  v.field("brightness", brightness, "training: random brightness, up to this share of full white (0 to 1)",
          between(0, 1));
  v.field("contrast", contrast, "training: random contrast, factor 1 - c to 1 + c (0 to 1)", between(0, 1));
  v.field("saturation", saturation, "training: random saturation, factor 1 - s to 1 + s (0 to 1)", between(0, 1));
  v.field("hue", hue, "training: random hue, up to this part of a full turn (0 to 0.5)", between(0, 0.5));
  v.field("stain", stain, "training: random strength of haematoxylin, eosin and DAB, factor 1 - s to 1 + s (0 to 0.5)",
          between(0, 0.5));
}

void AugmentConfig::check() const {
  const auto within = [](const char* key, double value, double low, double high) {
    if (!(value >= low && value <= high))
      throw std::invalid_argument(fmt::format("loader.augment.{} is {}, must be from {} to {}", key, value, low, high));
  };
  within("scale_min", scale_min, 0.1, 10);
  within("scale_max", scale_max, scale_min, 10);
  within("min_visible", min_visible, 0, 1);
  within("shift", shift, 0, 4096);
  within("brightness", brightness, 0, 1);
  within("contrast", contrast, 0, 1);
  within("saturation", saturation, 0, 1);
  within("hue", hue, 0, 0.5);
  within("stain", stain, 0, 0.5);
}

Crop random_crop(const AugmentConfig& config, uint64_t seed, int64_t epoch, int64_t position, int width, int height,
                 int input_width, int input_height) {
  RandomStream random(seed, {kCropStream, static_cast<uint64_t>(epoch), static_cast<uint64_t>(position)});
  const double scale = config.scale_min * std::pow(config.scale_max / config.scale_min, random.uniform());
  Crop crop;
  crop.full_width = std::max(1, static_cast<int>(std::lround(width * scale)));
  crop.full_height = std::max(1, static_cast<int>(std::lround(height * scale)));
  crop.scale_x = static_cast<double>(crop.full_width) / width;
  crop.scale_y = static_cast<double>(crop.full_height) / height;
  crop.width = std::min(crop.full_width, input_width);
  crop.height = std::min(crop.full_height, input_height);
  crop.x = static_cast<int>(random.uniform_int(crop.full_width - crop.width + 1));
  crop.y = static_cast<int>(random.uniform_int(crop.full_height - crop.height + 1));
  return crop;
}

Image cut(const Image& image, const Crop& crop) {
  const Image scaled = crop.full_width == image.width && crop.full_height == image.height
                           ? image
                           : resize(image, crop.full_width, crop.full_height);
  Image out{crop.width, crop.height, {}};
  out.pixels.resize(static_cast<size_t>(out.width) * out.height * 3);
  for (int y = 0; y < out.height; ++y)
    std::memcpy(out.at(0, y), scaled.at(crop.x, crop.y + y), static_cast<size_t>(out.width) * 3);
  return out;
}

bool move_box(Box& box, const Crop& crop, double min_visible) {
  const auto moved = [](float v, double scale, int by) { return static_cast<float>(v * scale - by); };
  const Box whole{moved(box.x1, crop.scale_x, crop.x), moved(box.y1, crop.scale_y, crop.y),
                  moved(box.x2, crop.scale_x, crop.x), moved(box.y2, crop.scale_y, crop.y)};
  const auto width = static_cast<float>(crop.width), height = static_cast<float>(crop.height);
  box = {std::clamp(whole.x1, 0.f, width), std::clamp(whole.y1, 0.f, height), std::clamp(whole.x2, 0.f, width),
         std::clamp(whole.y2, 0.f, height)};
  const double left = static_cast<double>(box.x2 - box.x1) * (box.y2 - box.y1);
  const double area = static_cast<double>(whole.x2 - whole.x1) * (whole.y2 - whole.y1);
  return left > 0 && left >= min_visible * area;
}

Shift random_shift(const AugmentConfig& config, uint64_t seed, int64_t epoch, int64_t position) {
  RandomStream random(seed, {kShiftStream, static_cast<uint64_t>(epoch), static_cast<uint64_t>(position)});
  if (random.uniform_int(2) == 0) return {};
  const auto side = [&] { return static_cast<int>(random.uniform_int(2 * int64_t{config.shift} + 1)) - config.shift; };
  Shift shift;
  shift.x = side();
  shift.y = side();
  return shift;
}

Image shifted(const Image& image, const Shift& shift) {
  Image out{image.width, image.height, std::vector<uint8_t>(image.pixels.size())};
  const int columns = image.width - std::abs(shift.x), left = std::max(shift.x, 0);
  if (columns <= 0) return out;
  for (int y = std::max(shift.y, 0); y < image.height + std::min(shift.y, 0); ++y)
    std::memcpy(out.at(left, y), image.at(left - shift.x, y - shift.y), static_cast<size_t>(columns) * 3);
  return out;
}

std::vector<Target> shifted(const std::vector<Target>& targets, const Shift& shift, int width, int height) {
  std::vector<Target> moved;
  for (const auto& [box, label] : targets) {
    const auto side = [](float v, int by, int end) {
      return std::clamp(v + static_cast<float>(by), 0.f, static_cast<float>(end));
    };
    const Box left{side(box.x1, shift.x, width), side(box.y1, shift.y, height), side(box.x2, shift.x, width),
                   side(box.y2, shift.y, height)};
    if (left.x2 - left.x1 > 1 && left.y2 - left.y1 > 1) moved.push_back({left, label});
  }
  return moved;
}

ColourChange random_colours(const AugmentConfig& config, uint64_t seed, int64_t epoch, int64_t position) {
  RandomStream random(seed, {kColourStream, static_cast<uint64_t>(epoch), static_cast<uint64_t>(position)});
  // All are drawn always, so that one option does not change what another draws.
  const auto around = [&](double amount) { return random.uniform(-1, 1) * amount; };
  const double brightness = around(config.brightness), contrast = 1 + around(config.contrast),
               saturation = 1 + around(config.saturation), hue = around(config.hue);
  ColourChange change;
  Matrix colour = product(hue_matrix(hue), saturation_matrix(saturation));
  constexpr double kMiddle = 127.5, kWhite = 255;
  for (size_t i = 0; i < 9; ++i) change.matrix[i] = static_cast<float>(contrast * colour[i]);
  for (float& offset : change.offset) offset = static_cast<float>((1 - contrast) * kMiddle + brightness * kWhite);
  if (config.stain == 0) return change;
  change.stains = true;
  // Rows: the optical density that one unit of each stain gives R, G, B.
  constexpr Matrix kStains{0.65, 0.70, 0.29, 0.07, 0.99, 0.11, 0.27, 0.57, 0.78};
  constexpr double kMeanDensity = 0.2;
  Matrix strength = kIdentity;
  std::array<double, 3> added{};
  for (size_t i = 0; i < 3; ++i) {
    strength[4 * i] = 1 + around(config.stain);
    added[i] = around(config.stain) * kMeanDensity;
  }
  // Densities are row vectors: d' = d S^-1 diag(strength) S + added S.
  const Matrix both = product(product(inverse(kStains), strength), kStains);
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 3; ++j) {
      change.density[3 * j + i] = static_cast<float>(both[3 * i + j]);
      change.density_offset[j] += static_cast<float>(added[i] * kStains[3 * i + j]);
    }
  }
  return change;
}

void apply(const ColourChange& change, Image& image) {
  // Densities -ln((v + 1) / 256) of all values, and back by a table fine enough for every one of 256 levels.
  constexpr float kMaxDensity = 8, kSteps = 2048;
  static const auto tables = [] {
    std::pair<std::array<float, 256>, std::array<float, static_cast<size_t>(kMaxDensity * kSteps) + 1>> t;
    for (int v = 0; v < 256; ++v) t.first[static_cast<size_t>(v)] = static_cast<float>(-std::log((v + 1) / 256.0));
    for (size_t i = 0; i < t.second.size(); ++i)
      t.second[i] = static_cast<float>(256 * std::exp(-static_cast<double>(i) / kSteps) - 1);
    return t;
  }();
  const auto transform = [](const std::array<float, 9>& m, const std::array<float, 3>& b, std::array<float, 3>& v) {
    v = {m[0] * v[0] + m[1] * v[1] + m[2] * v[2] + b[0], m[3] * v[0] + m[4] * v[1] + m[5] * v[2] + b[1],
         m[6] * v[0] + m[7] * v[1] + m[8] * v[2] + b[2]};
  };
  for (size_t p = 0; p + 2 < image.pixels.size(); p += 3) {
    uint8_t* pixel = image.pixels.data() + p;
    std::array<float, 3> v{static_cast<float>(pixel[0]), static_cast<float>(pixel[1]), static_cast<float>(pixel[2])};
    if (change.stains) {
      for (size_t i = 0; i < 3; ++i) v[i] = tables.first[pixel[i]];
      transform(change.density, change.density_offset, v);
      for (float& d : v) d = tables.second[static_cast<size_t>(std::clamp(d, 0.f, kMaxDensity) * kSteps + 0.5f)];
    }
    transform(change.matrix, change.offset, v);
    for (size_t i = 0; i < 3; ++i) pixel[i] = static_cast<uint8_t>(std::clamp(v[i], 0.f, 255.f) + 0.5f);
  }
}

}  // namespace gradlibra
