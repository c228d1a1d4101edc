// SPDX-License-Identifier: MIT
// The section `loader` of a configuration.
#pragma once

#include <cstdint>
#include <string>

#include "data/datasets/dataset.h"
#include "data/loading/augment_pixels.h"
#include "data/loading/sampling.h"
#include "runtime/base/config.h"

namespace gradlibra {

struct LoaderConfig {
  int batch_size = 8;
  int height = 512, width = 512;  // network input; both multiples of 32
  std::string resize = "none";    // none (smaller images are padded, larger ones an error) | fit (keep ratio) | stretch
  int max_boxes = 512;            // padded ground truth per image; an image with more is an error
  AugmentConfig augment;          // training only
  SamplingConfig sampling;        // training only
  bool flip_horizontal = true, flip_vertical = true, turns = true;  // training only; turns: 90 degrees
  int workers = 1;                                                  // decoding threads
  int retry_seconds = 60;                                           // for images that cannot be read
  int64_t cache_mb = 1024;                                          // decoded images kept in memory
  void describe(ConfigVisitor& v);
  void check() const;  // std::invalid_argument names the key that is out of range
};

// The size in a batch of an image of `width` x `height` pixels, by `resize`.
struct InputSize {
  int width = 0, height = 0;
};
[[nodiscard]] InputSize input_size(const LoaderConfig& config, int width, int height);

// What a loader of this configuration could not take of a data set, for read_dataset().
[[nodiscard]] InputLimits input_limits(const LoaderConfig& config);

}  // namespace gradlibra
