// SPDX-License-Identifier: MIT
// Resizing by separable weights: area averaging when an axis shrinks, linear interpolation when it grows.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "data/images/image.h"

namespace gradlibra {
namespace {

// Output i is the sum over k of weights[i * taps + k] * input[first[i] + k].
struct Axis {
  int taps = 0;
  std::vector<int> first;
  std::vector<float> weights;
};

Axis axis_weights(int in, int out) {
  Axis axis;
  const double ratio = static_cast<double>(in) / out;
  axis.taps = std::min(in, out < in ? static_cast<int>(std::ceil(ratio)) + 1 : 2);
  axis.first.resize(out);
  axis.weights.assign(static_cast<size_t>(out) * axis.taps, 0.f);
  for (int i = 0; i < out; ++i) {
    float* weights = &axis.weights[static_cast<size_t>(i) * axis.taps];
    if (out < in) {  // the share of input pixel k in the interval [i, i + 1) * ratio
      const double begin = i * ratio, end = (i + 1) * ratio;
      const int first = std::min(static_cast<int>(begin), in - axis.taps);
      axis.first[i] = first;
      for (int k = 0; k < axis.taps; ++k) {
        const double overlap = std::min(end, first + k + 1.0) - std::max(begin, static_cast<double>(first + k));
        weights[k] = static_cast<float>(std::max(0.0, overlap) / ratio);
      }
    } else {  // between the two nearest pixel centres; the border pixel beyond the last centre
      const double centre = std::clamp((i + 0.5) * ratio - 0.5, 0.0, in - 1.0);
      const int first = std::min(static_cast<int>(centre), in - axis.taps);
      axis.first[i] = first;
      for (int k = 0; k < axis.taps; ++k)
        weights[k] = static_cast<float>(std::max(0.0, 1 - std::abs(centre - (first + k))));
    }
  }
  return axis;
}

}  // namespace

Image resize(const Image& image, int width, int height) {
  if (width < 1 || height < 1 || image.width < 1 || image.height < 1) {
    throw std::invalid_argument(fmt::format("resize: {} x {} to {} x {}", image.width, image.height, width, height));
  }
  if (width == image.width && height == image.height) return image;
  const Axis horizontal = axis_weights(image.width, width), vertical = axis_weights(image.height, height);

  std::vector<float> rows(static_cast<size_t>(image.height) * width * 3);  // (image.height, width, 3)
  for (int y = 0; y < image.height; ++y) {
    float* out = &rows[static_cast<size_t>(y) * width * 3];
    for (int x = 0; x < width; ++x) {
      const uint8_t* in = image.at(horizontal.first[x], y);
      const float* weights = &horizontal.weights[static_cast<size_t>(x) * horizontal.taps];
      float r = 0, g = 0, b = 0;
      for (int k = 0; k < horizontal.taps; ++k) {
        r += weights[k] * in[3 * k];
        g += weights[k] * in[3 * k + 1];
        b += weights[k] * in[3 * k + 2];
      }
      out[3 * x] = r;
      out[3 * x + 1] = g;
      out[3 * x + 2] = b;
    }
  }

  Image result{width, height, std::vector<uint8_t>(static_cast<size_t>(width) * height * 3)};
  std::vector<float> sum(static_cast<size_t>(width) * 3);
  for (int y = 0; y < height; ++y) {
    std::fill(sum.begin(), sum.end(), 0.f);
    for (int k = 0; k < vertical.taps; ++k) {
      const float weight = vertical.weights[static_cast<size_t>(y) * vertical.taps + k];
      const float* in = &rows[static_cast<size_t>(vertical.first[y] + k) * width * 3];
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += weight * in[i];
    }
    uint8_t* out = result.at(0, y);
    for (size_t i = 0; i < sum.size(); ++i) out[i] = static_cast<uint8_t>(std::clamp(sum[i] + 0.5f, 0.f, 255.f));
  }
  return result;
}

}  // namespace gradlibra
