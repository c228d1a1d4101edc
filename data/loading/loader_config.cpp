// SPDX-License-Identifier: MIT
#include "data/loading/loader_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace gradlibra {

void LoaderConfig::describe(ConfigVisitor& v) {
  v.field("batch_size", batch_size, "images per step and rank", between(1, 65536));
  v.field("height", height, "height of the network input in pixels", multiple_of(32, 65536));
  v.field("width", width, "width of the network input in pixels", multiple_of(32, 65536));
  v.choice("resize", resize, {"none", "fit", "stretch"},
           "none: images keep their size, smaller ones are padded; fit: resized to fit, ratio kept; stretch: resized "
           "to height x width");
  v.field("max_boxes", max_boxes, "room for boxes per image (an image with more is an error)", between(1, 1e6));
  v.field("flip_horizontal", flip_horizontal, "training: mirror left-right with probability 1/2");
  v.field("flip_vertical", flip_vertical, "training: mirror top-bottom with probability 1/2");
  v.section("augment", augment, "random sizes and colours, for training alone; all off");
  v.section("sampling", sampling, "which images an epoch shows how often");
  v.field("turns", turns, "training: turn by 0, 90, 180 or 270 degrees (0 or 180 where height and width differ)");
  v.field("workers", workers, "decoding threads", between(1, 1024));
  v.field("retry_seconds", retry_seconds,
          "an image that cannot be read, as from a network drive that is away, is tried again for so long",
          between(0, 1e6));
  v.field("cache_mb", cache_mb, "MB of decoded images kept in memory", between(0, 1e9));
}

void LoaderConfig::check() const {
  const auto need = [](bool ok, const std::string& message) {
    if (!ok) throw std::invalid_argument(message);
  };
  need(batch_size >= 1, fmt::format("loader.batch_size is {}, must be at least 1", batch_size));
  need(height >= 32 && height % 32 == 0, fmt::format("loader.height is {}, must be a positive multiple of 32", height));
  need(width >= 32 && width % 32 == 0, fmt::format("loader.width is {}, must be a positive multiple of 32", width));
  need(max_boxes >= 1, fmt::format("loader.max_boxes is {}, must be at least 1", max_boxes));
  need(workers >= 1, fmt::format("loader.workers is {}, must be at least 1", workers));
  need(cache_mb >= 0, fmt::format("loader.cache_mb is {}, must not be negative", cache_mb));
  need(resize == "none" || resize == "fit" || resize == "stretch",
       fmt::format("loader.resize is '{}', must be none, fit or stretch", resize));
}

InputSize input_size(const LoaderConfig& config, int width, int height) {
  if (config.resize == "none") return {width, height};
  if (config.resize == "stretch") return {config.width, config.height};
  const double scale = std::min(static_cast<double>(config.width) / width, static_cast<double>(config.height) / height);
  return {std::clamp(static_cast<int>(std::lround(width * scale)), 1, config.width),
          std::clamp(static_cast<int>(std::lround(height * scale)), 1, config.height)};
}

InputLimits input_limits(const LoaderConfig& config) {
  const bool fixed = config.resize == "none";
  return {fixed ? config.width : 0, fixed ? config.height : 0, config.max_boxes};
}

}  // namespace gradlibra
