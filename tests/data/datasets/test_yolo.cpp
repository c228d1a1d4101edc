// SPDX-License-Identifier: MIT
// YOLO label files: fractions of the picture, polygons, background, and the layouts that exports have.
#include <gtest/gtest.h>

#include <algorithm>

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

TEST(Yolo, ContradictionsOfTheDescriptionAreNamed) {
  const TemporaryFolder folder;
  write_image(folder / "images/train/a.png", plain_image(40, 30));
  put(folder / "labels/train/a.txt", "0 0.5 0.5 0.25 0.2\n");
  DatasetConfig config = yolo_config(folder);
  config.classes.clear();
  const auto message = [&](const std::string& yaml) {
    put(folder / "data.yaml", yaml);
    std::vector<Finding> findings;
    return message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
  };
  EXPECT_EQ(message("nc: 2\nnames: [cell, nucleus]\n"), "");
  EXPECT_HAS(message("nc: 3\nnames: [cell, nucleus]\n"),
             "data.yaml:1: `nc` is 3, but `names` has 2 classes: [cell, nucl");
  EXPECT_HAS(message("names: {0: cell, 1: nucleus, 1: other}\n"),
             "data.yaml:1: `names` has the index 1 twice: 'nucleus' and 'other'");
  EXPECT_HAS(message("names: [cell]\nnc: 1\nnames: [nucleus]\n"), "data.yaml:3: has the key `names` already in line 1");
  EXPECT_HAS(message("nc: 2\nnames: cell nucleus\n"), "data.yaml:2: `names` is one text, 'cell nucleus': write a list");
  EXPECT_HAS(message("nc: two\nnames: [cell]\n"), "data.yaml:1: not valid YAML");
  EXPECT_HAS(message("names: [cell, nucleus, cell]\n"), "data.yaml:1: class 2 is 'cell', as is class 0 in line 1");
  EXPECT_HAS(message("names:\n  0: cell\n  2: 'cell '\n  1: nucleus\n"),
             "data.yaml:3: class 2 is 'cell', as is class 0 in line 2");
  // The other file; an inspection stops, too.
  std::filesystem::remove(folder / "data.yaml");
  const auto of_list = [&](const std::string& text) {
    put(folder / "classes.txt", text);
    std::vector<Finding> findings;
    std::string said = message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
    const std::vector<Finding> inspected = inspect_dataset(config).findings;
    const bool fatal = std::any_of(inspected.begin(), inspected.end(), [&](const Finding& finding) {
      return finding.action == Action::fatal && finding.message == said;
    });
    EXPECT_EQ(fatal, !said.empty()) << spelled(inspected);
    return said;
  };
  EXPECT_EQ(of_list("cell\nnucleus\n\n \n"), "");
  EXPECT_HAS(of_list("cell\n\nnucleus\n"), "classes.txt:2: is blank, but each line is a class");
  EXPECT_HAS(of_list("\ncell\nnucleus\n"), "classes.txt:1: is blank");
  EXPECT_HAS(of_list("cell\nnucleus\ncell \n"), "classes.txt:3: class 2 is 'cell', as is class 0 in line 1: rename");
}

// Labels of poses: the box comes first, and the keypoints are passed over.
TEST(Yolo, KeypointsAreNoPolygons) {
  const TemporaryFolder folder;
  write_image(folder / "images/train/a.png", plain_image(40, 30));
  put(folder / "labels/train/a.txt", "0 0.5 0.5 0.25 0.2 0.1 0.1 0.9 0.9\n");
  const DatasetConfig config = yolo_config(folder);  // whether or not it names the classes
  std::vector<Finding> findings;
  const auto read = [&](const std::string& yaml) {
    put(folder / "data.yaml", yaml);
    findings.clear();
    return read_dataset(config, Split::train, findings);
  };
  EXPECT_EQ(read("nc: 2\n").images[0].objects[0].box, (Box{4, 3, 36, 27}));  // a polygon
  EXPECT_EQ(read("kpt_shape: [2, 2]\n").images[0].objects[0].box, (Box{15, 12, 25, 18}));
  EXPECT_TRUE(of_kind(findings, Kind::bad_annotation).empty()) << spelled(findings);
  EXPECT_TRUE(read("kpt_shape: [2, 3]\n").images[0].objects.empty());
  EXPECT_HAS(spelled(findings), "by kpt_shape of data.yaml, 6 may follow the box");
  EXPECT_HAS(message_of([&] { static_cast<void>(read("kpt_shape: 17\n")); }), "data.yaml:1: `kpt_shape` must be");
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

// The same set in many states of disrepair: as training data, and as an evaluation, which never goes on without a
// truth.
class YoloTruths : public ::testing::Test {
 protected:
  YoloTruths() {
    for (const char* name : {"a", "b"}) {
      write_image(folder_ / "images/train" / (std::string(name) + ".png"), plain_image(40, 30));
      put(folder_ / "labels/train" / (std::string(name) + ".txt"), "0 0.5 0.5 0.25 0.2\n1 0.5 0.5 0.25 0.3\n");
    }
    put(folder_ / "labels/train/classes.txt", "cell\nnucleus\n");  // as labelling programs leave behind
    config_.val = "train";
  }
  Dataset train() {
    findings_.clear();
    return read_dataset(config_, Split::train, findings_);
  }
  std::string refusal() {
    std::vector<Finding> findings;
    return message_of([&] { static_cast<void>(read_dataset(config_, Split::val, findings)); });
  }
  // The truths of b are left out of training and counted, and an evaluation stops.
  void expect_lost(const std::string& said, int64_t boxes_lost) {
    const Dataset dataset = train();
    EXPECT_EQ(dataset.summary.images, 1) << spelled(findings_);
    EXPECT_EQ(dataset.summary.boxes, 2);
    int64_t lost = 0;
    for (const auto& [reason, count] : dataset.summary.boxes_dropped) lost += count;
    EXPECT_EQ(lost, boxes_lost) << dataset.summary.text();
    EXPECT_FALSE(dataset.summary.images_dropped.empty());
    EXPECT_HAS(spelled(findings_), said);
    EXPECT_HAS(refusal(), said);
    EXPECT_HAS(refusal(), "an evaluation never drops images");
  }
  static void link(const std::filesystem::path& target, const std::filesystem::path& file) {
    std::filesystem::remove(file);
    std::filesystem::create_symlink(target, file);
  }
  static void rename(const std::filesystem::path& from, const std::filesystem::path& to) {
    std::filesystem::create_directories(to.parent_path());
    std::filesystem::rename(from, to);
  }

  TemporaryFolder folder_;
  DatasetConfig config_ = yolo_config(folder_);
  std::vector<Finding> findings_;
};

TEST_F(YoloTruths, SoundOnesHaveNoFinding) {
  EXPECT_EQ(train().summary.boxes, 4);
  EXPECT_TRUE(findings_.empty()) << spelled(findings_);
  EXPECT_EQ(refusal(), "");
}

TEST_F(YoloTruths, LabelsInCapitalsAreRead) {
  rename(folder_ / "labels/train/b.txt", folder_ / "labels/train/b.TXT");
  EXPECT_EQ(train().summary.boxes, 4);
  EXPECT_EQ(of_kind(findings_, Kind::guessed_file_name).size(), 1u) << spelled(findings_);
  EXPECT_EQ(refusal(), "");
}

TEST_F(YoloTruths, LinksToNothing) {
  link("/not/there", folder_ / "labels/train/b.txt");
  expect_lost("is a link that leads to nothing: whether", 0);
  put(folder_ / "elsewhere.txt", "0 0.5 0.5 0.25 0.2\n");
  link(folder_ / "elsewhere.txt", folder_ / "labels/train/b.txt");
  EXPECT_EQ(train().summary.boxes, 3);
  link("/not/there", folder_ / "images/train/b.png");
  expect_lost("is a link that leads to nothing: there is no such picture", 1);
}

TEST_F(YoloTruths, LabelsWithoutAPicture) {
  rename(folder_ / "images/train/b.png", folder_ / "images/train/b.gif");
  expect_lost("has 2 labels, but there is no picture 'b' in", 2);
  EXPECT_HAS(refusal(), "is it 'b.gif', a format that is not read?");
  EXPECT_EQ(of_kind(findings_, Kind::passed_over).size(), 1u) << spelled(findings_);
  rename(folder_ / "images/train/b.gif", folder_ / "images/train/B.png");
  EXPECT_HAS(refusal(), "is it 'B.png'?");
  std::filesystem::remove(folder_ / "images/train/B.png");
  expect_lost("if it is not wanted, take its label away", 2);
  EXPECT_EQ(train().summary.text(),
            "1 of 2 images (dropped: 1 missing_image), 2 of 4 boxes (dropped: 2 in_dropped_images)");
  link("/not/there", folder_ / "labels/train/b.txt");
  expect_lost("is a link that leads to nothing, but there is no picture 'b'", 0);
  // A list names the pictures that are wanted.
  put(folder_ / "some.txt", "images/train/a.png\n./images/train/a.png\n" + (folder_ / "images/train/a.png").string());
  config_.train = config_.val = "some";
  EXPECT_EQ(train().summary.boxes, 2);
  EXPECT_EQ(of_kind(findings_, Kind::duplicate_id).size(), 2u) << spelled(findings_);
  EXPECT_HAS(findings_[0].message, "'./images/train/a.png' is listed already, as 'images/train/a.png'");
  EXPECT_EQ(refusal(), "");
}

TEST_F(YoloTruths, LinkedAndHiddenFolders) {
  // Pictures through a link have their labels below that name.
  rename(folder_ / "images/train/b.png", folder_ / "more/b.png");
  std::filesystem::create_directory_symlink("../../more", folder_ / "images/train/more");
  EXPECT_EQ(train().summary.images_dropped, (DatasetSummary::Counts{{"missing_image", 1}})) << spelled(findings_);
  EXPECT_HAS(refusal(), "b.txt: has 2 labels, but there is no picture 'b' in");
  EXPECT_HAS(refusal(), "is it 'more/b.png'?");
  rename(folder_ / "labels/train/b.txt", folder_ / "labels/train/more/b.txt");
  const Dataset dataset = train();
  EXPECT_EQ(dataset.summary.boxes, 4) << spelled(findings_);
  EXPECT_EQ(dataset.images[1].id, "more/b");
  EXPECT_TRUE(findings_.empty()) << spelled(findings_);
  // Each folder counts once, and a link upwards is no way in.
  std::filesystem::create_directory_symlink("more", folder_ / "images/train/same");
  std::filesystem::create_directory_symlink("..", folder_ / "images/train/up");
  write_image(folder_ / "images/train/.ipynb_checkpoints/a-checkpoint.png", plain_image(40, 30));
  EXPECT_EQ(train().summary.boxes, 4);
  EXPECT_EQ(of_kind(findings_, Kind::passed_over).size(), 3u) << spelled(findings_);
  EXPECT_HAS(spelled(findings_), ".ipynb_checkpoints |  | is a hidden folder: what it holds is passed over (1 file of");
  EXPECT_HAS(spelled(findings_), "a folder that holds it");
  EXPECT_HAS(spelled(findings_), "whose files count once");
  EXPECT_EQ(refusal(), "");
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
