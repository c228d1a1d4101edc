// SPDX-License-Identifier: MIT
// Small data sets on disk for the tests: pictures, VOC and COCO files, and questions about findings.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/images/image.h"
#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {

inline Image plain_image(int width, int height, Color color = {90, 120, 150}) {
  Image image{width, height, std::vector<uint8_t>(static_cast<size_t>(width) * height * 3)};
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    image.pixels[i] = color.r;
    image.pixels[i + 1] = color.g;
    image.pixels[i + 2] = color.b;
  }
  return image;
}

// Smooth, different everywhere, and no symmetry.
inline Image gradient_image(int width, int height) {
  Image image = plain_image(width, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      uint8_t* pixel = image.at(x, y);
      pixel[0] = static_cast<uint8_t>(255 * x / width);
      pixel[1] = static_cast<uint8_t>(255 * y / height);
      pixel[2] = static_cast<uint8_t>((3 * x + 5 * y) % 256);
    }
  }
  return image;
}

// A JPEG with an EXIF segment that states `orientation`, put behind the start-of-image marker.
inline std::string with_exif(const std::string& jpeg, int orientation, bool big_endian) {
  const auto integer = [&](unsigned value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * (big_endian ? bytes - 1 - i : i));
    return out;
  };
  std::string tiff = big_endian ? "MM" : "II";
  tiff += integer(42, 2) + integer(8, 4) + integer(2, 2);
  tiff +=
      integer(0x0100, 2) + integer(4, 2) + integer(1, 4) + integer(77, 4);  // an entry before the one that is wanted
  tiff += integer(0x0112, 2) + integer(3, 2) + integer(1, 4) + integer(static_cast<unsigned>(orientation), 2) +
          integer(0, 2);
  tiff += integer(0, 4);
  const std::string body = std::string("Exif\0\0", 6) + tiff;
  const auto length = static_cast<unsigned>(body.size() + 2);
  std::string segment = "\xff\xe1";
  segment += static_cast<char>(length >> 8);
  segment += static_cast<char>(length & 255);
  return jpeg.substr(0, 2) + segment + body + jpeg.substr(2);
}

struct VocObject {
  std::string name;
  std::string x1, y1, x2, y2;
  int difficult = 0;
};

// One line per element, so that line numbers are easy to state: the objects' <bndbox> are on lines 9, 17, 25, ...
inline std::string voc_xml(const std::string& file_name, int width, int height, const std::vector<VocObject>& objects) {
  std::ostringstream out;
  out << "<annotation>\n<filename>" << file_name << "</filename>\n<size>\n<width>" << width << "</width>\n<height>"
      << height << "</height></size>\n";
  for (const VocObject& o : objects) {
    out << "<object>\n<name>" << o.name << "</name>\n<difficult>" << o.difficult << "</difficult>\n<bndbox>\n<xmin>"
        << o.x1 << "</xmin><ymin>" << o.y1 << "</ymin>\n<xmax>" << o.x2 << "</xmax><ymax>" << o.y2
        << "</ymax>\n</bndbox>\n</object>\n";
  }
  out << "</annotation>\n";
  return out.str();
}

// A VOC data set of one split under `folder`: images of 40 x 30, listed as train.
inline void put_voc_picture(const TemporaryFolder& folder, const std::string& id, const Image& picture,
                            const std::vector<VocObject>& objects) {
  write_image(folder / ("JPEGImages/" + id + ".png"), picture);
  put(folder / ("Annotations/" + id + ".xml"), voc_xml(id + ".png", picture.width, picture.height, objects));
  const auto list = folder / "ImageSets/Main/train.txt";
  std::filesystem::create_directories(list.parent_path());
  std::ofstream(list, std::ios::app) << id << "\n";
}

inline void put_voc(const TemporaryFolder& folder, const std::string& id, const std::vector<VocObject>& objects) {
  put_voc_picture(folder, id, plain_image(40, 30), objects);
}

inline DatasetConfig voc_config(const TemporaryFolder& folder, std::vector<std::string> classes = {"cell", "nucleus"}) {
  DatasetConfig config;
  config.root = folder.string();
  config.classes = std::move(classes);
  config.val = config.test = "";
  config.unknown_class = config.bad_box = config.bad_image = "drop";
  config.filter_empty = false;  // what becomes of such images, and of small ones, is part of many tests
  config.min_size = 0;
  return config;
}

inline DatasetConfig coco_config(const TemporaryFolder& folder, const std::string& json) {
  put(folder / "annotations/instances_train.json", json);
  DatasetConfig config;
  config.format = "coco";
  config.root = folder.string();
  config.val = config.test = "";
  config.unknown_class = config.bad_box = config.bad_image = "drop";
  config.filter_empty = false;  // what becomes of such images, and of small ones, is part of many tests
  config.min_size = 0;
  return config;
}

inline std::vector<Finding> of_kind(const std::vector<Finding>& findings, Finding::Kind kind) {
  std::vector<Finding> out;
  for (const Finding& finding : findings) {
    if (finding.kind == kind) out.push_back(finding);
  }
  return out;
}

inline std::string spelled(const std::vector<Finding>& findings) {
  std::string out;
  for (const Finding& f : findings) {
    out += std::string(to_string(f.kind)) + "/" + to_string(f.action) + " " + f.file + " | " + f.where + " | " +
           f.message + "\n";
  }
  return out;
}

}  // namespace gradlibra
