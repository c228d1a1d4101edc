// SPDX-License-Identifier: MIT
// Dividing a data set: groups stay whole, rare classes reach every split, the same seed gives the same division.
#include "data/datasets/split_dataset.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/base/random.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

// Slides s00, s01, .. of five images each; class 1 on a tenth of them, class 2 on three images of different slides.
Dataset slides(int count) {
  Dataset dataset;
  dataset.classes = {"common", "some", "rare"};
  RandomStream random(7);
  for (int i = 0; i < count * 5; ++i) {
    ImageRecord image;
    image.id = "s" + std::to_string(100 + i / 5) + "_" + std::to_string(i % 5);
    const auto add = [&](int label) {
      Object object;
      object.label = label;
      image.objects.push_back(object);
    };
    for (int64_t n = random.uniform_int(4); n >= 0; --n) add(0);
    if (random.uniform_int(10) == 0) add(1);
    if (i == 3 || i == 33 || i == 73) add(2);
    dataset.images.push_back(image);
  }
  return dataset;
}

TEST(Divide, SharesAreMetAndRareClassesReachEverySplit) {
  const Dataset dataset = slides(40);
  const Division division = divide(dataset, {.val = 0.2, .test = 0.2, .seed = 3});
  EXPECT_NEAR(static_cast<double>(division.images[1]) / 200, 0.2, 0.05);
  EXPECT_NEAR(static_cast<double>(division.images[2]) / 200, 0.2, 0.05);
  EXPECT_EQ(division.class_boxes[2], (std::array<int64_t, 3>{1, 1, 1}));
  for (size_t c = 0; c < 2; ++c) {
    const double all =
        static_cast<double>(division.class_boxes[c][0] + division.class_boxes[c][1] + division.class_boxes[c][2]);
    EXPECT_NEAR(static_cast<double>(division.class_boxes[c][1]), 0.2 * all, 1.5 + 0.02 * all);
    EXPECT_NEAR(static_cast<double>(division.class_boxes[c][2]), 0.2 * all, 1.5 + 0.02 * all);
  }
  EXPECT_TRUE(division.warnings.empty());
  EXPECT_EQ(divide(dataset, {.val = 0.2, .test = 0.2, .seed = 3}).split_of, division.split_of);
  EXPECT_NE(divide(dataset, {.val = 0.2, .test = 0.2, .seed = 4}).split_of, division.split_of);
}

TEST(Divide, GroupsStayTogether) {
  const Dataset dataset = slides(40);
  const Division division = divide(dataset, {.val = 0.25, .test = 0, .group_by = "^([^_]+)_", .seed = 3});
  std::map<std::string, std::set<int>> splits;
  for (size_t i = 0; i < dataset.images.size(); ++i)
    splits[dataset.images[i].id.substr(0, 4)].insert(division.split_of[i]);
  EXPECT_EQ(splits.size(), 40u);
  for (const auto& [slide, in] : splits) EXPECT_EQ(in.size(), 1u) << slide;
  EXPECT_EQ(division.images[2], 0);
  EXPECT_NEAR(static_cast<double>(division.images[1]), 50, 10);
  EXPECT_EQ(division.groups[0] + division.groups[1], 40);
}

TEST(Divide, WhatCannotBeIsSaid) {
  const Dataset dataset = slides(4);
  EXPECT_THROW(static_cast<void>(divide(dataset, {.val = 0.5, .test = 0.5})), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(divide(dataset, {.val = -0.1})), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(divide(dataset, {.group_by = "("})), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(divide(dataset, {.group_by = "patient"})), std::invalid_argument);
  // One image has the rare class: two splits must do without.
  Dataset one = slides(2);
  const Division division = divide(one, {.val = 0.3, .test = 0.3});
  int without = 0;
  for (const std::string& warning : division.warnings) without += warning.find("'rare'") != std::string::npos;
  EXPECT_EQ(without, 2);
  EXPECT_HAS(division_text(one, division), "warning: ");
  EXPECT_EQ(divide(Dataset{}, {}).split_of.size(), 0u);
}

TEST(Divide, FilesThatTheReadersRead) {
  const TemporaryFolder folder;
  for (int i = 0; i < 10; ++i) put_voc(folder, "image" + std::to_string(i), {{"cell", "5", "5", "9", "9"}});
  std::filesystem::remove_all(folder / "ImageSets");
  DatasetConfig config = voc_config(folder, {"cell"});
  config.train = "*";
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  const Division division = divide(dataset, {.val = 0.2, .test = 0.3});
  EXPECT_EQ(write_division(config, dataset, division, folder.path()).size(), 3u);
  EXPECT_HAS(message_of([&] { static_cast<void>(write_division(config, dataset, division, folder.path())); }),
             "already");
  config.train = "train", config.val = "val", config.test = "test";
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 5u);
  EXPECT_EQ(read_dataset(config, Split::val, findings).images.size(), 2u);
  EXPECT_EQ(read_dataset(config, Split::test, findings).images.size(), 3u);
  EXPECT_TRUE(of_kind(inspect_dataset(config).findings, Finding::Kind::duplicate_id).empty());

  const TemporaryFolder coco;
  std::string images, annotations;
  for (int i = 1; i <= 6; ++i) {
    const std::string n = std::to_string(i);
    write_image(coco / ("images/" + n + ".png"), plain_image(40, 30));
    images += (i > 1 ? "," : "") + std::string(R"({"id": )") + n + R"(, "file_name": ")" + n +
              R"(.png", "width": 40, "height": 30, "slide": "x"})";
    annotations += (i > 1 ? "," : "") + std::string(R"({"id": )") + n + R"(, "image_id": )" + n +
                   R"(, "category_id": 4, "bbox": [1, 1, 5, 5], "area": 25})";
  }
  DatasetConfig from =
      coco_config(coco, R"({"info": {"year": 2020}, "categories": [{"id": 4, "name": "x"}], "images": [)" + images +
                            R"(], "annotations": [)" + annotations + "]}");
  const Dataset whole = read_dataset(from, Split::train, findings);
  const auto files = write_division(from, whole, divide(whole, {.val = 0.5, .test = 0}), coco / "out");
  ASSERT_EQ(files.size(), 2u);
  const auto part = nlohmann::json::parse(get(files[1]));
  EXPECT_EQ(part["images"].size(), 3u);
  EXPECT_EQ(part["annotations"].size(), 3u);
  EXPECT_EQ(part["info"]["year"], 2020);
  EXPECT_EQ(part["images"][0]["slide"], "x");
  // What the readers take and JSON does not.
  const std::string file = (coco / "annotations/instances_train.json").string();
  put(file, R"({"info": NaN, )" + get(file).substr(1));
  EXPECT_HAS(message_of([&] {
               static_cast<void>(write_division(from, whole, divide(whole, {.val = 0.5, .test = 0}), coco / "other"));
             }),
             file + ": is no JSON: at line 1");
}

}  // namespace
}  // namespace gradlibra
