// SPDX-License-Identifier: MIT
// YOLO label files: fractions of the picture, polygons, background, and the layouts that exports have.
#include <gtest/gtest.h>

#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;
using Action = Finding::Action;

DatasetConfig yolo_config(const TemporaryFolder& folder) {
  DatasetConfig config;
  config.format = "yolo";
  config.root = folder.string();
  config.classes = {"cell", "nucleus"};
  config.val = config.test = "";
  config.unknown_class = config.bad_box = config.bad_image = "drop";
  config.filter_empty = false;
  config.min_size = 0;
  return config;
}

TEST(Yolo, FractionsBecomePixels) {
  const TemporaryFolder folder;
  write_image(folder / "images/train/a.png", plain_image(40, 30));
  write_image(folder / "images/train/sub/b.png", plain_image(40, 20));
  put(folder / "labels/train/a.txt", "1 0.5 0.5 0.25 0.2\r\n\n0 0.1 0.1 0.05 0.1\n");
  put(folder / "labels/train/sub/b.txt", "0 0.25 0.5  0.75 0.5  0.5 1.0\n");  // a polygon: a triangle
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(yolo_config(folder), Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 2u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].id, "a");
  EXPECT_EQ(dataset.images[1].id, "sub/b");
  ASSERT_EQ(dataset.images[0].objects.size(), 2u);
  EXPECT_EQ(dataset.images[0].objects[0].box, (Box{15, 12, 25, 18}));
  EXPECT_EQ(dataset.images[0].objects[0].label, 1);
  EXPECT_EQ(dataset.images[0].objects[0].area, 60);
  EXPECT_EQ(dataset.images[1].objects[0].box, (Box{10, 10, 30, 20}));
  EXPECT_TRUE(findings.empty()) << spelled(findings);
}

TEST(Yolo, LayoutsAndClassLists) {
  const TemporaryFolder folder;
  write_image(folder / "train/images/a.png", plain_image(40, 30));
  put(folder / "train/labels/a.txt", "0 0.5 0.5 0.25 0.2\n");
  put(folder / "data.yaml", "train: ../train/images\nnc: 2\nnames: ['cell', 'nucleus']\n");
  DatasetConfig config = yolo_config(folder);
  config.classes.clear();
  std::vector<Finding> findings;
  Dataset dataset = read_dataset(config, Split::train, findings);
  EXPECT_EQ(dataset.classes, (std::vector<std::string>{"cell", "nucleus"}));
  EXPECT_EQ(dataset.summary.boxes, 1);
  put(folder / "data.yaml", "names:\n  0: cell\n  1: nucleus\n  2: other\n");
  EXPECT_EQ(read_dataset(config, Split::train, findings).classes.size(), 3u);
  put(folder / "data.yaml", "names: {0: cell, 2: other}\n");
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), "no class 1");
  std::filesystem::remove(folder / "data.yaml");
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), "data.yaml");
  put(folder / "classes.txt", "cell\nnucleus\n");
  EXPECT_EQ(read_dataset(config, Split::train, findings).classes.size(), 2u);
  // A list of pictures.
  put(folder / "some.txt", "./train/images/a.png\n./train/images/gone.png\n");
  config.train = "some";
  findings.clear();
  dataset = read_dataset(config, Split::train, findings);
  EXPECT_EQ(dataset.summary.boxes, 1);
  EXPECT_EQ(of_kind(findings, Kind::missing_image).size(), 1u) << spelled(findings);
}

TEST(Yolo, DefectsHaveTheirFindings) {
  const TemporaryFolder folder;
  for (const char* name : {"a.png", "background.png", "same.png", "same.jpg"})
    write_image(folder / "images/train" / name, plain_image(40, 30));
  put(folder / "labels/train/a.txt",
      "0 0.5 0.5 0.25 0.2\n"
      "7 0.5 0.5 0.25 0.2\n"      // no such class
      "0 0.5 0.5 0.25\n"          // too few
      "0 0.5 0.5 0.25 0.2 0.9\n"  // a score
      "0 0,5 0.5 0.25 0.2\n"      // a decimal comma
      "0 0.5 0.5 0 0.2\n"         // no width
      "0 1.5 0.5 0.25 0.2\n"      // outside
      "cell 0.5 0.5 0.25 0.2\n"   // a name for an index
      "1 0.1 0.1 nan 0.2 0.3 0.4\n");
  put(folder / "labels/train/same.txt", "0 0.5 0.5 0.25 0.2\n");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(yolo_config(folder), Split::train, findings);
  EXPECT_EQ(dataset.images.size(), 4u);
  EXPECT_EQ(dataset.images[2].id, "same.jpg");
  EXPECT_EQ(dataset.summary.boxes, 3) << spelled(findings);
  EXPECT_EQ(dataset.summary.boxes_dropped,
            (DatasetSummary::Counts{
                {"bad_annotation", 2}, {"empty_box", 1}, {"not_finite", 2}, {"outside_box", 1}, {"unknown_class", 2}}))
      << spelled(findings);
  EXPECT_EQ(of_kind(findings, Kind::missing_annotation).size(), 1u);  // background
  EXPECT_EQ(of_kind(findings, Kind::missing_annotation)[0].action, Action::none);
  const auto bad = of_kind(findings, Kind::bad_annotation);
  EXPECT_EQ(bad[0].where, "line 3");
  EXPECT_HAS(spelled(of_kind(findings, Kind::unknown_class)), "class 'index 7' is not in data.classes");
  EXPECT_HAS(bad[1].message, "a score");

  DatasetConfig evaluation = yolo_config(folder);
  evaluation.val = "train";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(evaluation, Split::val, findings)); }), "data.bad_truth");
}

TEST(Yolo, PixelsAndMissingLabelsAreRefused) {
  const TemporaryFolder folder;
  write_image(folder / "images/train/a.png", plain_image(40, 30));
  std::vector<Finding> findings;
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(yolo_config(folder), Split::train, findings)); }),
             "labels/train/a.txt");
  put(folder / "labels/train/a.txt", "0 15 12 9 5\n");
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(yolo_config(folder), Split::train, findings)); }),
             "pixels? YOLO wants fractions");
  DatasetConfig config = yolo_config(folder);
  config.train = "nowhere";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), "images/nowhere");
}

}  // namespace
}  // namespace gradlibra
