// SPDX-License-Identifier: MIT
// Damaged inputs of every kind that is read: each either is read or refused with a message, and nothing crashes. A few
// hundred in every run; GRADLIBRA_MUTATIONS=20000 makes as many of each kind.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

#include "data/loading/loader.h"
#include "runtime/base/random.h"
#include "tests/data/data_files.h"
#include "tests/data/images/foreign_pictures.h"

namespace gradlibra {
namespace {

int64_t mutations() {
  const char* wanted = std::getenv("GRADLIBRA_MUTATIONS");
  return wanted ? std::atoll(wanted) : 60;
}

// One to four changes: bits, bytes, spans removed, doubled or moved, numbers that people and programs get wrong.
std::string mutated(const std::string& original, uint64_t seed) {
  RandomStream random(seed, {0x6d7574});
  std::string bytes = original;
  const auto place = [&] { return static_cast<size_t>(random.uniform_int(static_cast<int64_t>(bytes.size()) + 1)); };
  static const std::vector<std::string> kWords{
      "-1",       "0",    "1e308", "NaN",  "Infinity", "\"\"",  "null", "99999999999999999999",
      "12,5",     "<",    ">",     "&#0;", "]]>",      "{",     "}",    "[",
      "\xff\xfe", "\xe9", "\t",    "\r\n", "true",     "\"1\"", "../",  ": "};
  for (int64_t n = 1 + random.uniform_int(4); n > 0 && !bytes.empty(); --n) {
    const size_t at = std::min(place(), bytes.size() - 1);
    const size_t span = 1 + static_cast<size_t>(random.uniform_int(random.uniform_int(2) ? 4 : 64));
    switch (random.uniform_int(7)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.uniform_int(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(random.uniform_int(256));
        break;
      case 2:
        bytes.erase(at, span);
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, span));
        break;
      case 4:
        bytes.insert(at, kWords[static_cast<size_t>(random.uniform_int(static_cast<int64_t>(kWords.size())))]);
        break;
      case 5:
        bytes.replace(at, span, kWords[static_cast<size_t>(random.uniform_int(static_cast<int64_t>(kWords.size())))]);
        break;
      default:
        bytes.resize(at);
    }
  }
  return bytes;
}

// The check sums of a PNG made right, so that the damage reaches the decoder.
std::string with_right_sums(std::string png) {
  const auto u32 = [&](size_t at) {
    uint32_t v = 0;
    for (size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<uint8_t>(png[at + i]);
    return v;
  };
  for (size_t at = 8; at + 12 <= png.size();) {
    const size_t length = u32(at);
    if (length > png.size() - at - 12) break;
    uint32_t c = 0xffffffffu;
    for (size_t i = at + 4; i < at + 8 + length; ++i) {
      c ^= static_cast<uint8_t>(png[i]);
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    }
    for (size_t i = 0; i < 4; ++i) png[at + 8 + length + i] = static_cast<char>(~c >> (24 - 8 * i));
    at += 12 + length;
  }
  return png;
}

// Runs `read` on every mutation written to `file`; counts those that are refused, by an exception with a message.
int64_t refused(const std::filesystem::path& file, const std::string& original, const std::function<void()>& read) {
  int64_t count = 0;
  for (int64_t i = 0; i < mutations(); ++i) {
    const std::string bytes = mutated(original, static_cast<uint64_t>(i));
    put(file, i % 2 == 0 && original.starts_with("\x89PNG") ? with_right_sums(bytes) : bytes);
    try {
      read();
    } catch (const std::exception& error) {
      EXPECT_STRNE(error.what(), "");
      ++count;
    }
  }
  put(file, original);
  return count;
}

TEST(Mutations, Pictures) {
  const TemporaryFolder folder;
  write_image(folder / "a.png", gradient_image(23, 17));
  write_image(folder / "a.jpg", gradient_image(23, 17));
  std::string bmp = "BM" + std::string("\x36\x01\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x08\0\0\0\x08\0\0\0\x01\0\x20\0", 28) +
                    std::string(24, '\0') + std::string(256, 'x');
  for (const std::string& original :
       {get(folder / "a.png"), get(folder / "a.jpg"), with_exif(get(folder / "a.jpg"), 6, true), bmp,
        from_hex(kTurnedPng), from_hex(kDeepPng), from_hex(kAnimPng), from_hex(kCmykJpg), from_hex(kLzwTif),
        from_hex(kTurnedTif), from_hex(kDeepTif), from_hex(kTurnedWebp), from_hex(kAnimWebp)}) {
    const int64_t bad = refused(folder / "picture", original, [&] {
      const ImageInfo info = read_image_info(folder / "picture");
      const Image image = read_image(folder / "picture", true);
      EXPECT_EQ(static_cast<int64_t>(image.pixels.size()), static_cast<int64_t>(info.width) * info.height * 3);
    });
    EXPECT_GT(bad, 0);
  }
}

TEST(Mutations, VocAnnotationsAndLists) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "19", "19"}, {"nucleus", "21", "6", "33", "25", 1}});
  for (const bool lenient : {false, true}) {
    DatasetConfig config = voc_config(folder);
    config.val = "train";
    if (!lenient) config.bad_box = config.bad_image = config.unknown_class = "error";
    const auto read = [&] {
      std::vector<Finding> findings;
      static_cast<void>(inspect_dataset(config));
      static_cast<void>(read_dataset(config, lenient ? Split::train : Split::val, findings));
    };
    refused(folder / "Annotations/a.xml", get(folder / "Annotations/a.xml"), read);
    refused(folder / "ImageSets/Main/train.txt", get(folder / "ImageSets/Main/train.txt"), read);
  }
}

TEST(Mutations, CocoFiles) {
  const TemporaryFolder folder;
  write_image(folder / "images/a.png", plain_image(40, 30));
  const std::string json = R"({"categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
 "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}, {"id": 2, "file_name": "a", "width": 40, "height": 30}],
 "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5.5, 5], "area": 25, "iscrowd": 0},
  {"id": 2, "image_id": "1", "category_id": 2, "bbox": [NaN, 1, 5, 5], "area": 25, "iscrowd": true}]})";
  DatasetConfig config = coco_config(folder, json);
  config.val = config.train;
  config.bad_truth = "miss";
  const int64_t bad = refused(folder / "annotations/instances_train.json", json, [&] {
    std::vector<Finding> findings;
    static_cast<void>(inspect_dataset(config));
    const Dataset train = read_dataset(config, Split::train, findings);
    static_cast<void>(training_problem(config, train, findings));
    static_cast<void>(read_dataset(config, Split::val, findings));
  });
  EXPECT_GT(bad, 0);
}

TEST(Mutations, YoloLabelsAndNames) {
  const TemporaryFolder folder;
  write_image(folder / "images/train/a.png", plain_image(40, 30));
  const std::string labels = "0 0.5 0.5 0.25 0.2\n1 0.25 0.5 0.75 0.5 0.5 0.9\n",
                    names = "names:\n  0: cell\n  1: nucleus\n";
  put(folder / "labels/train/a.txt", labels);
  put(folder / "data.yaml", names);
  DatasetConfig config;
  config.format = "yolo";
  config.root = folder.string();
  config.min_size = 0;
  config.val = "train";
  config.test = "";
  const auto read = [&] {
    std::vector<Finding> findings;
    static_cast<void>(inspect_dataset(config));
    static_cast<void>(read_dataset(config, Split::val, findings));
  };
  EXPECT_GT(refused(folder / "labels/train/a.txt", labels, read), 0);
  EXPECT_GT(refused(folder / "data.yaml", names, read), 0);
}

TEST(Mutations, Configurations) {
  const TemporaryFolder folder;
  const std::string loader = to_yaml(LoaderConfig{}, true);
  EXPECT_GT(refused(folder / "a.yaml", to_yaml(DatasetConfig{}),
                    [&] {
                      DatasetConfig config;
                      ConfigSource((folder / "a.yaml").string(), {}).read_into(config);
                    }),
            0);
  EXPECT_GT(refused(folder / "b.yaml", loader,
                    [&] {
                      LoaderConfig config;
                      ConfigSource((folder / "b.yaml").string(), {}).read_into(config);
                    }),
            0);
}

}  // namespace
}  // namespace gradlibra
