// SPDX-License-Identifier: MIT
// A data set and a detector small enough that a training step takes milliseconds.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "engine/experiment_config.h"
#include "tests/data/data_files.h"

namespace gradlibra {

inline const std::vector<std::string> kTinyClasses{"disc", "square", "bar"};

struct TinyImage {
  std::string id;
  int width = 64, height = 64;
  std::vector<VocObject> objects;
};

// One bright rectangle per image, its place, colour and class by index.
inline TinyImage tiny_image(int i) {
  const int x = 4 + 5 * i % 30, y = 6 + 7 * i % 28, w = 16 + i % 3 * 6, h = 18 + i % 2 * 8;
  const auto text = [](int v) { return std::to_string(v); };
  return {fmt::format("tiny_{:03}", i),
          64,
          64,
          {{kTinyClasses[static_cast<size_t>(i) % 3], text(x), text(y), text(x + w), text(y + h)}}};
}

inline Image drawn(const TinyImage& tiny) {
  Image image = gradient_image(tiny.width, tiny.height);
  for (const VocObject& o : tiny.objects) {
    const size_t c = o.name == kTinyClasses[0] ? 0 : o.name == kTinyClasses[1] ? 1 : 2;
    for (int y = std::stoi(o.y1) - 1; y < std::stoi(o.y2); ++y)
      for (int x = std::stoi(o.x1) - 1; x < std::stoi(o.x2); ++x) image.at(x, y)[c] = 255;
  }
  return image;
}

// Adds an image to a split of the VOC data set in `root`.
inline void put_tiny(const std::filesystem::path& root, const TinyImage& tiny, const std::string& split = "train") {
  for (const char* part : {"JPEGImages", "Annotations", "ImageSets/Main"})
    std::filesystem::create_directories(root / part);
  write_image(root / "JPEGImages" / (tiny.id + ".png"), drawn(tiny));
  put(root / "Annotations" / (tiny.id + ".xml"), voc_xml(tiny.id + ".png", tiny.width, tiny.height, tiny.objects));
  std::ofstream(root / "ImageSets/Main" / (split + ".txt"), std::ios::app) << tiny.id << "\n";
}

inline void put_tiny_set(const std::filesystem::path& root, int images, const std::string& split = "train",
                         int first = 0) {
  for (int i = first; i < first + images; ++i) put_tiny(root, tiny_image(i), split);
}

// Three epochs with a warm-up of 5 steps and two drops of the rate.
inline ExperimentConfig tiny_config(const std::filesystem::path& root) {
  ExperimentConfig config;
  config.data.root = root.string();
  config.data.classes = kTinyClasses;
  config.data.val = config.data.test = "";
  config.data.missing_class = "allow";  // two images have two of the three classes
  config.loader.batch_size = 2;
  config.loader.height = config.loader.width = 64;
  config.loader.max_boxes = 8;
  config.model.backbone = {.depth = 18, .base_channels = 8, .frozen_stages = -1, .norm_eval = false};
  config.model.neck.out_channels = 16;
  config.model.neck.norm = "group";
  config.model.neck.norm_groups = 4;
  config.model.neck.num_outs = 3;
  config.model.head.feat_channels = config.model.head.point_channels = 16;
  config.model.head.stacked_convs = 1;
  config.model.head.norm = "group";
  config.model.head.norm_groups = 4;
  config.model.fcos = {.feat_channels = 16, .stacked_convs = 1, .norm_groups = 4, .level_bounds = {24, 48}};
  config.model.atss = {.feat_channels = 16, .stacked_convs = 1, .norm_groups = 4, .anchor_scale = 3};
  config.model.yolof = {.encoder = {.channels = 16, .block_channels = 8, .dilations = {1, 2}},
                        .cls_convs = 1,
                        .reg_convs = 1,
                        .anchor_scales = {0.5, 1, 2}};
  config.schedule.epochs = 3;
  config.schedule.lr = 0.01;
  config.schedule.base_batch = 0;
  config.schedule.steps = {1, 2};
  config.schedule.warmup_iterations = 5;
  config.schedule.warmup_ratio = 0.1;
  config.optimizer.clip_norm = 35;
  return config;
}

}  // namespace gradlibra
