// SPDX-License-Identifier: MIT
// What is found between annotations and images, what is done about it, and the report; also on published data sets
// where they are at hand.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;
using Action = Finding::Action;

// A VOC set whose image `id` is the given bytes, 40 x 30 as annotated.
void put_voc_bytes(const TemporaryFolder& folder, const std::string& id, const std::string& extension,
                   const std::string& bytes) {
  put_voc(folder, id, {{"cell", "5", "5", "8", "9"}});
  std::filesystem::remove(folder / ("JPEGImages/" + id + ".png"));
  put(folder / ("JPEGImages/" + id + extension), bytes);
}

std::string jpeg_bytes(int width, int height) {
  const TemporaryFolder folder;
  write_image(folder / "a.jpg", gradient_image(width, height));
  return get(folder / "a.jpg");
}

TEST(Dataset, EveryKindAndActionHasItsName) {
  std::set<std::string> names;
  for (int k = 0; k <= static_cast<int>(Kind::too_many_boxes); ++k) names.insert(to_string(static_cast<Kind>(k)));
  EXPECT_EQ(names.size(), static_cast<size_t>(Kind::too_many_boxes) + 1);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_STREQ(to_string(Action::object_dropped), "object_dropped");
}

// What train and evaluate stop at is found before.
TEST(Dataset, InspectionFindsThatASplitIsEmpty) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "8", "9"}});
  put(folder / "ImageSets/Main/val.txt", "\n");
  DatasetConfig config = voc_config(folder, {"cell"});
  const auto fatal = [&] {
    std::vector<Finding> findings = inspect_dataset(config).findings;
    std::erase_if(findings, [](const Finding& finding) { return finding.action != Action::fatal; });
    return spelled(findings);
  };
  EXPECT_EQ(fatal(), "");
  config.val = "val";
  EXPECT_HAS(fatal(), "val.txt |  | the val split has no images");
}

TEST(Dataset, BadImagesAreFoundAndDropped) {
  const TemporaryFolder folder;
  const std::string jpeg = jpeg_bytes(40, 30);
  put_voc_bytes(folder, "good", ".jpg", jpeg);
  put_voc_bytes(folder, "truncated", ".jpg", jpeg.substr(0, jpeg.size() - 100));
  put_voc_bytes(folder, "text", ".jpg", "hello");
  put_voc_bytes(folder, "empty", ".jpg", "");
  put_voc_bytes(folder, "other_size", ".jpg", jpeg_bytes(30, 40));
  put_voc_bytes(folder, "really_jpeg", ".png", jpeg);
  DatasetConfig config = voc_config(folder, {"cell"});

  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 3u)
      << "without decoding, the truncated image passes";
  findings.clear();
  const Dataset dataset = read_dataset(config, Split::train, findings, /*decode=*/true);
  ASSERT_EQ(dataset.images.size(), 2u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].id, "good");
  EXPECT_EQ(dataset.images[1].id, "really_jpeg");
  const auto unreadable = of_kind(findings, Kind::unreadable_image);
  ASSERT_EQ(unreadable.size(), 3u) << spelled(findings);
  EXPECT_HAS(unreadable[0].file, "truncated.jpg");
  EXPECT_HAS(unreadable[0].message, "truncated");
  EXPECT_EQ(unreadable[0].action, Action::image_dropped);
  EXPECT_HAS(unreadable[1].message, "not an image");
  EXPECT_HAS(unreadable[2].message, "empty");
  const auto size = of_kind(findings, Kind::size_mismatch);
  ASSERT_EQ(size.size(), 1u);
  EXPECT_HAS(size[0].message, "40 x 30");
  EXPECT_HAS(size[0].message, "30 x 40");
  EXPECT_EQ(of_kind(findings, Kind::wrong_extension).size(), 1u);

  config.bad_image = "error";
  const std::string message =
      message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings, true)); });
  EXPECT_HAS(message, "truncated.jpg");
  EXPECT_HAS(message, "data.bad_image");
}

TEST(Dataset, ExifRotation) {
  const TemporaryFolder folder;
  // The pixels are stored 30 wide and 40 high, and meant to be seen 40 x 30, as annotated.
  put_voc_bytes(folder, "a", ".jpg", with_exif(jpeg_bytes(30, 40), 6, true));
  DatasetConfig config = voc_config(folder, {"cell"});
  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 0u);
  ASSERT_EQ(findings.size(), 2u) << spelled(findings);
  EXPECT_EQ(findings[0].kind, Kind::exif_rotation);
  EXPECT_EQ(findings[0].action, Action::none);
  EXPECT_EQ(findings[1].kind, Kind::size_mismatch);
  EXPECT_HAS(findings[1].message, "set data.exif to 'apply'");

  config.exif = "apply";
  findings.clear();
  const Dataset dataset = read_dataset(config, Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 1u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].width, 40);
  EXPECT_EQ(dataset.images[0].height, 30);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].action, Action::fixed);

  // Orientation 3 leaves the size: it is found all the same.
  const TemporaryFolder half_turn;
  put_voc_bytes(half_turn, "a", ".jpg", with_exif(jpeg_bytes(40, 30), 3, false));
  findings.clear();
  EXPECT_EQ(read_dataset(voc_config(half_turn, {"cell"}), Split::train, findings).images.size(), 1u);
  EXPECT_EQ(of_kind(findings, Kind::exif_rotation).size(), 1u);
}

TEST(Dataset, EmptyImagesAreLeftOutOfTrainingUnlessTheyAreWanted) {
  const TemporaryFolder folder;
  put_voc(folder, "full", {{"cell", "5", "5", "8", "9"}});
  put_voc(folder, "empty", {});
  DatasetConfig config = voc_config(folder, {"cell"});
  config.val = "train";
  std::vector<Finding> findings;
  config.filter_empty = true;
  EXPECT_TRUE(DatasetConfig().filter_empty);
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 1u);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].kind, Kind::no_objects);
  EXPECT_EQ(findings[0].action, Action::image_dropped);
  EXPECT_HAS(findings[0].message, "data.filter_empty");
  config.filter_empty = false;
  findings.clear();
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 2u);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].action, Action::none);
  EXPECT_EQ(read_dataset(config, Split::val, findings).images.size(), 2u) << "an evaluation keeps them";
}

TEST(Dataset, SmallImagesAreLeftOutOfTrainingUnlessTheyAreWanted) {
  const TemporaryFolder folder;
  put_voc_picture(folder, "wide", plain_image(40, 31), {{"cell", "5", "5", "8", "9"}});
  put_voc_picture(folder, "high", plain_image(31, 40), {{"cell", "5", "5", "8", "9"}, {"cell", "6", "6", "9", "9"}});
  put_voc_picture(folder, "fits", plain_image(32, 32), {{"cell", "5", "5", "8", "9"}});
  DatasetConfig config = voc_config(folder, {"cell"});
  config.val = "train";
  config.min_size = DatasetConfig().min_size;
  std::vector<Finding> findings;
  const Dataset kept = read_dataset(config, Split::train, findings);
  ASSERT_EQ(kept.images.size(), 1u);
  EXPECT_EQ(kept.images[0].id, "fits");
  const std::vector<Finding> small = of_kind(findings, Kind::small_image);
  ASSERT_EQ(small.size(), 2u) << spelled(findings);
  EXPECT_EQ(small[0].action, Action::image_dropped);
  EXPECT_HAS(small[0].message + small[1].message, "is 40 x 31 pixels");
  EXPECT_HAS(small[0].message, "data.min_size");
  EXPECT_HAS(kept.summary.text(),
             "1 of 3 images (dropped: 2 small_image), 1 of 4 boxes (dropped: 3 in_dropped_images)");

  EXPECT_EQ(read_dataset(config, Split::val, findings).images.size(), 3u) << "an evaluation keeps them";
  config.min_size = 0;
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 3u);
}

TEST(Dataset, ClassListAndGroupsAreChecked) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "8", "9"}});
  std::vector<Finding> findings;
  DatasetConfig config = voc_config(folder, {"cell", "cell"});
  const auto message = [&] {
    return message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
  };
  EXPECT_HAS(message(), "twice");
  config.classes = {"cell", "b"};
  config.groups = {{"rare", {"c"}}};
  EXPECT_HAS(message(), "data.groups.rare");
  config.groups = {{"rare", {"b"}}, {"common", {"b"}}};
  EXPECT_HAS(message(), "both");
  config.groups = {{"rare", {"b"}}, {"common", {"cell"}}};
  EXPECT_EQ(read_dataset(config, Split::train, findings).groups, config.groups);
  config.format = "tfrecord";
  EXPECT_HAS(message(), "voc, coco or yolo");
}

TEST(Inspect, ReportsAcrossSplitsAndNeverThrows) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "8", "9"}, {"blob", "5", "5", "8", "9"}});
  put_voc(folder, "b", {{"nucleus", "5", "5", "5", "9"}});
  put_voc_bytes(folder, "c", ".jpg", "no image");
  write_image(folder / "JPEGImages/unlisted.png", plain_image(40, 30));
  put(folder / "ImageSets/Main/val.txt", "b\nc\n");
  DatasetConfig config = voc_config(folder);
  config.val = "val";
  config.test = "absent";
  config.unknown_class = config.bad_box = config.bad_image = "error";
  config.groups = {{"rare", {"nucleus"}}};
  const DatasetReport report = inspect_dataset(config);
  EXPECT_EQ(of_kind(report.findings, Kind::unknown_class).size(), 1u) << spelled(report.findings);  // blob
  EXPECT_EQ(of_kind(report.findings, Kind::empty_box).size(), 2u);
  const auto unreadable = of_kind(report.findings, Kind::unreadable_image);
  ASSERT_EQ(unreadable.size(), 2u);
  EXPECT_EQ(unreadable[0].action, Action::fatal) << "data.bad_image is error";
  EXPECT_EQ(unreadable[1].action, Action::fatal) << "an evaluation would stop here";
  const auto twice = of_kind(report.findings, Kind::duplicate_id);
  ASSERT_EQ(twice.size(), 1u) << spelled(report.findings);
  EXPECT_HAS(twice[0].message, "both train and val");
  const auto unused = of_kind(report.findings, Kind::unused_image);
  ASSERT_EQ(unused.size(), 1u);
  EXPECT_HAS(unused[0].file, "unlisted.png");
  EXPECT_HAS(spelled(of_kind(report.findings, Kind::bad_annotation)), "absent.txt");

  EXPECT_HAS(report.text, "empty_box");
  EXPECT_HAS(report.text, "a.xml: line 17 (object 1)");
  const auto json = nlohmann::json::parse(report.json);
  EXPECT_EQ(json["splits"]["train"]["images"], 2);
  EXPECT_EQ(json["splits"]["train"]["classes"]["cell"]["boxes"], 1);
  EXPECT_EQ(json["finding_counts"]["empty_box"]["fatal"], 2);
  EXPECT_EQ(json["splits"]["train"]["summary"]["images"]["kept"], 2);
  EXPECT_EQ(json["findings"].size(), report.findings.size());

  // Without a class list the files are asked; with nothing at all there is still a report.
  config.classes.clear();
  config.groups.clear();
  const DatasetReport unlisted = inspect_dataset(config);
  EXPECT_HAS(spelled(unlisted.findings), "[blob, cell, nucleus]");
  DatasetConfig nothing;
  EXPECT_EQ(inspect_dataset(nothing).findings.size(), 3u) << spelled(inspect_dataset(nothing).findings);
  nothing.root = folder.string();
  nothing.format = "coco";
  EXPECT_EQ(inspect_dataset(nothing).findings.size(), 3u);
}

TEST(Inspect, OneFileForSeveralSplitsIsOneFinding) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "8", "9"}});
  DatasetConfig config = voc_config(folder, {"cell"});
  config.test = "train";
  const DatasetReport report = inspect_dataset(config);
  ASSERT_EQ(report.findings.size(), 1u) << spelled(report.findings);
  EXPECT_EQ(report.findings[0].kind, Kind::duplicate_id);
  EXPECT_HAS(report.findings[0].message, "both the train and the test split");
}

TEST(Inspect, ClassThatNearlyEveryImageHolds) {
  const TemporaryFolder folder;
  for (int i = 0; i < 20; ++i) {
    const std::string id = "image" + std::to_string(i);
    if (i == 7)
      put_voc(folder, id, {{"nucleus", "5", "5", "8", "9"}});
    else if (i < 10)
      put_voc(folder, id, {{"cell", "5", "5", "8", "9"}, {"nucleus", "5", "5", "8", "9"}});
    else
      put_voc(folder, id, {{"cell", "5", "5", "8", "9"}});
  }
  const DatasetReport report = inspect_dataset(voc_config(folder));
  ASSERT_EQ(report.findings.size(), 1u) << spelled(report.findings);
  EXPECT_EQ(report.findings[0].kind, Kind::class_missing_from_image);
  EXPECT_HAS(report.findings[0].file, "image7.png");
  EXPECT_HAS(report.findings[0].message, "19 of 20");
}

// Published data sets, which are not part of this repository: under GRADLIBRA_TEST_DATA, else in shared/data beside
// the checkout.
std::filesystem::path real_data(const std::string& name) {
  const char* given = std::getenv("GRADLIBRA_TEST_DATA");
  const std::filesystem::path checkout = std::filesystem::path(GRADLIBRA_TEST_VECTORS).parent_path().parent_path();
  return (given ? std::filesystem::path(given) : checkout.parent_path() / "shared" / "data") / name;
}

#define NEED_REAL_DATA(name)                                                                                         \
  if (!std::filesystem::exists(real_data(name))) {                                                                   \
    GTEST_SKIP() << "no data set at " << real_data(name) << ": set GRADLIBRA_TEST_DATA to the folder that holds it"; \
  }

std::map<std::string, int64_t> boxes_of(const DatasetReport& report, const char* split) {
  std::map<std::string, int64_t> boxes;
  const auto json = nlohmann::json::parse(report.json);
  for (const auto& [name, counts] : json["splits"][split]["classes"].items()) boxes[name] = counts["boxes"];
  return boxes;
}

TEST(RealData, Bccd) {
  NEED_REAL_DATA("bccd");
  DatasetConfig config;
  config.root = real_data("bccd").string();
  config.classes = {"RBC", "WBC", "Platelets"};
  const DatasetReport report = inspect_dataset(config);
  using Boxes = std::map<std::string, int64_t>;
  EXPECT_EQ(boxes_of(report, "train"),
            (Boxes{{"RBC", 2381}, {"WBC", 214}, {"Platelets", 209}}));  // one empty box less than published
  // Here the empty box stays: it is a truth of an evaluation.
  EXPECT_EQ(boxes_of(report, "val"), (Boxes{{"RBC", 968}, {"WBC", 87}, {"Platelets", 83}}));
  EXPECT_EQ(boxes_of(report, "test"), (Boxes{{"RBC", 805}, {"WBC", 71}, {"Platelets", 69}}));
  const auto empty = of_kind(report.findings, Kind::empty_box);
  ASSERT_EQ(empty.size(), 2u);
  const std::string text = spelled(empty);
  EXPECT_HAS(text, "BloodImage_00338.xml | line 163 (object 12)");
  EXPECT_HAS(text, "(504, 337, 504, 337)");
  EXPECT_HAS(text, "BloodImage_00343.xml | line 55 (object 3)");
  // The images whose red cells are not labelled.
  std::set<std::string> without_red;
  for (const Finding& finding : of_kind(report.findings, Kind::class_missing_from_image)) {
    if (finding.message.find("'RBC'") != std::string::npos)
      without_red.insert(std::filesystem::path(finding.file).stem().string().substr(11));
  }
  EXPECT_EQ(without_red, (std::set<std::string>{"00134", "00147", "00150", "00152", "00224", "00249", "00250", "00258",
                                                "00267", "00268", "00303", "00322", "00327", "00330", "00350"}));
  EXPECT_EQ(report.findings.size(), 2u + of_kind(report.findings, Kind::class_missing_from_image).size())
      << spelled(report.findings);
  EXPECT_EQ(nlohmann::json::parse(report.json)["boxes"]["at_right_or_bottom"], 545);
  // It trains under the policy that its configuration states.
  config.bad_box = "drop";
  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(config, Split::train, findings).images.size(), 205u);
}

TEST(RealData, Ccagt) {
  NEED_REAL_DATA("ccagt");
  DatasetConfig config;
  config.format = "coco";
  config.root = real_data("ccagt").string();
  config.train = "annotations/CCAgT_COCO_OD.json";
  config.val = config.test = "";
  const DatasetReport report = inspect_dataset(config);
  EXPECT_EQ(of_kind(report.findings, Kind::guessed_file_name).size(), 7u);
  EXPECT_EQ(report.findings.size(), 7u) << spelled(report.findings);
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings, true);
  ASSERT_EQ(dataset.images.size(), 7u);
  EXPECT_EQ(dataset.classes[0], "Nucleus");
  EXPECT_EQ(dataset.classes[6], "Leukocyte_Nucleus");
  for (int i = 0; i < 7; ++i) EXPECT_EQ(dataset.images[i].id, std::to_string(i + 1));
  EXPECT_EQ(dataset.images[0].objects[0].box, (Box{1197.41f, 455.91f, 1247.26f, 519.02f}));
  EXPECT_EQ(boxes_of(report, "train")["Cluster"], 97);
}

TEST(RealData, Chula) {
  NEED_REAL_DATA("chula_rbc12");
  DatasetConfig config;
  config.format = "coco";
  config.root = real_data("chula_rbc12").string();
  config.test = "";
  const DatasetReport report = inspect_dataset(config);
  EXPECT_EQ(of_kind(report.findings, Kind::wrong_extension).size(), 10u);  // PNG files called .jpg
  EXPECT_EQ(report.findings.size(), 10u) << spelled(report.findings);
  EXPECT_EQ(boxes_of(report, "train")["Normal cell"], 814);
  EXPECT_EQ(boxes_of(report, "val")["Elliptocyte"], 88);
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::val, findings);
  EXPECT_EQ(dataset.images.size(), 36u);
  EXPECT_EQ(dataset.classes.size(), 13u);
  EXPECT_EQ(dataset.classes[0], "Normal cell");  // category id 0
  EXPECT_EQ(dataset.images[0].id, "9");
}

}  // namespace
}  // namespace gradlibra
