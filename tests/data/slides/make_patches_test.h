// SPDX-License-Identifier: MIT
// Slides with cells at known places, and the patches made of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "data/slides/make_patches.h"
#include "runtime/base/random.h"
#include "tests/data/slides/slide_files.h"

namespace gradlibra {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// Cells anywhere on a slide, at its borders too, none on another.
inline std::vector<Cell> random_cells(RandomStream& random, int width, int height, int wanted) {
  std::vector<Cell> cells;
  for (int tries = 0; tries < 50 * wanted && static_cast<int>(cells.size()) < wanted; ++tries) {
    const int w = static_cast<int>(6 + random.uniform_int(20)), h = static_cast<int>(6 + random.uniform_int(20));
    const int x = static_cast<int>(random.uniform_int(width - w + 1));
    const int y = static_cast<int>(random.uniform_int(height - h + 1));
    const bool free = std::none_of(cells.begin(), cells.end(), [&](const Cell& c) {
      return x < c.x2 + 1 && x + w + 1 > c.x1 && y < c.y2 + 1 && y + h + 1 > c.y1;
    });
    if (free) cells.push_back({random.uniform_int(3) == 0 ? "disc" : "square", x, y, x + w, y + h});
  }
  return cells;
}

class MakePatchesTest : public ::testing::Test {
 protected:
  // Slides p0_a, p0_b, p1_a, .. of several formats and sizes, and the table of their cells.
  void put_slides(int count) {
    RandomStream random(3);
    std::string table = kCsvHead;
    const bool tiff = can_decode(ImageFormat::tiff);
    for (int i = 0; i < count; ++i) {
      const int width = 150 + 40 * (i % 4), height = 130 + 30 * (i % 3);
      const std::string name = fmt("p", i / 2) + (i % 2 == 0 ? "_a" : "_b") + (tiff && i % 2 == 0 ? ".tif" : ".png");
      std::vector<Cell> cells = random_cells(random, width, height, 14);
      const Image image = smear(width, height, cells);
      fs::create_directories(folder_ / "slides");
      if (name.ends_with(".tif"))
        put(folder_ / ("slides/" + name), tiff_bytes(image, {.tile_width = 48, .tile_height = 32}));
      else
        write_image(folder_ / ("slides/" + name), image);
      table += csv_lines(name, cells);
      const std::string stem = fs::path(name).stem().string();
      cells_[stem] = std::move(cells);
      images_[stem] = image;
    }
    put(folder_ / "cells.csv", table);
    options_.size = 64;
    options_.overlap = 26;  // as large as a cell may be: each is whole in some patch
    options_.val = 0.2;
    options_.jobs = 3;
  }
  static std::string fmt(const char* text, int number) { return text + std::to_string(number); }

  MadePatches make(const std::string& output) {
    SlideInput input;
    input.slides = folder_ / "slides";
    input.annotations = folder_ / "cells.csv";
    std::vector<Finding> findings;
    slides_ = read_slides({}, input, options_.size, findings);
    division_ = divide_slides(slides_, options_);
    said_.clear();
    return make_patches({slides_, division_, options_, {}}, folder_ / output,
                        [&](const std::string& line) { said_ += line + "\n"; });
  }
  std::string refusal(const std::string& output) {
    return message_of<std::runtime_error>([&] { static_cast<void>(make(output)); });
  }
  // Every file below a folder with its bytes.
  std::map<std::string, std::string> tree(const std::string& name) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / name))
      if (entry.is_regular_file()) files[entry.path().lexically_relative(folder_ / name).string()] = get(entry.path());
    return files;
  }
  Json coco(const std::string& output, const std::string& split) {
    return Json::parse(get(folder_ / (output + "/annotations/" + split + ".json")));
  }

  TemporaryFolder folder_;
  std::map<std::string, std::vector<Cell>> cells_;
  std::map<std::string, Image> images_;
  PatchOptions options_;
  SlideSet slides_;
  Division division_;
  std::string said_;
};

}  // namespace gradlibra
