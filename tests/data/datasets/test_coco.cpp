// SPDX-License-Identifier: MIT
// COCO files: ids of every kind, fields that are missing, and names that lead nowhere.
#include <gtest/gtest.h>

#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;
using Action = Finding::Action;

void put_images(const TemporaryFolder& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) write_image(folder / ("images/" + name), plain_image(40, 30));
}

// Everything that may be left out is left out: info, licenses, supercategory, area, iscrowd.
TEST(Coco, MinimalFile) {
  const TemporaryFolder folder;
  put_images(folder, {"a.png"});
  const DatasetConfig config = coco_config(folder, R"({
    "categories": [{"id": 1, "name": "cell", "supercategory": null}],
    "images": [{"id": 5, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 1, "bbox": [1.5, 2.25, 10.5, 4]}]})");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  EXPECT_EQ(dataset.classes, (std::vector<std::string>{"cell"}));
  ASSERT_EQ(dataset.images.size(), 1u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].id, "5");
  ASSERT_EQ(dataset.images[0].objects.size(), 1u);
  EXPECT_EQ(dataset.images[0].objects[0].box, (Box{1.5f, 2.25f, 12, 6.25f}));
  EXPECT_EQ(dataset.images[0].objects[0].area, 42);
  ASSERT_EQ(findings.size(), 1u) << spelled(findings);
  EXPECT_HAS(findings[0].message, "1 annotations have no area");
  EXPECT_EQ(findings[0].action, Action::fixed);
}

// Labels follow the order of category ids, whichever they are and wherever they stand; images come in id order.
TEST(Coco, IdsMayStartAnywhereAndHaveGaps) {
  for (const std::vector<int>& ids : {std::vector<int>{0, 1, 2}, {1, 2, 3}, {3, 7, 900}, {-4, 0, 2'000'000'000}}) {
    const TemporaryFolder folder;
    put_images(folder, {"a.png", "b.png"});
    const auto category = [&](int i, const char* name) {
      return R"({"id": )" + std::to_string(ids[i]) + R"(, "name": ")" + name + "\"}";
    };
    const auto annotation = [&](int id, int image, int i) {
      return R"({"id": )" + std::to_string(id) + R"(, "image_id": )" + std::to_string(image) + R"(, "category_id": )" +
             std::to_string(ids[i]) + R"(, "bbox": [)" + std::to_string(i) + R"(, 1, 5, 5], "area": 25, "iscrowd": 0})";
    };
    const DatasetConfig config =
        coco_config(folder, R"({"annotations": [)" + annotation(0, 17, 2) + "," + annotation(1, 0, 1) + "," +
                                annotation(2, 17, 0) + R"(], "images": [
          {"file_name": "b.png", "height": 30, "width": 40, "id": 17}, {"file_name": "a.png", "height": 30, "width": 40, "id": 0}],
          "categories": [)" + category(2, "third") +
                                "," + category(0, "first") + "," + category(1, "second") + "]}");
    std::vector<Finding> findings;
    const Dataset dataset = read_dataset(config, Split::train, findings);
    EXPECT_TRUE(findings.empty()) << spelled(findings);
    EXPECT_EQ(dataset.classes, (std::vector<std::string>{"first", "second", "third"}));
    ASSERT_EQ(dataset.images.size(), 2u);
    EXPECT_EQ(dataset.images[0].id, "0");
    EXPECT_EQ(dataset.images[0].path.filename(), "a.png");
    ASSERT_EQ(dataset.images[1].objects.size(), 2u);
    EXPECT_EQ(dataset.images[1].objects[0].label, 2);
    EXPECT_EQ(dataset.images[1].objects[0].box.x1, 2);
    EXPECT_EQ(dataset.images[1].objects[1].label, 0);
    EXPECT_EQ(dataset.images[0].objects[0].label, 1);
  }
}

TEST(Coco, ConfiguredClassesDecideTheLabels) {
  const TemporaryFolder folder;
  put_images(folder, {"a.png"});
  DatasetConfig config = coco_config(folder, R"({
    "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25},
                    {"id": 2, "image_id": 1, "category_id": 2, "bbox": [2, 1, 5, 5], "area": 25}]})");
  config.classes = {"y", "never seen"};
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  ASSERT_EQ(dataset.images[0].objects.size(), 1u);
  EXPECT_EQ(dataset.images[0].objects[0].label, 0);
  EXPECT_EQ(dataset.images[0].objects[0].box.x1, 2);
  const auto unknown = of_kind(findings, Kind::unknown_class);
  ASSERT_EQ(unknown.size(), 2u) << spelled(findings);
  EXPECT_HAS(unknown[0].message, "'never seen'");
  EXPECT_EQ(unknown[0].action, Action::none);
  EXPECT_EQ(unknown[1].where, "annotations[0].bbox");
  EXPECT_EQ(unknown[1].action, Action::object_dropped);
  config.unknown_class = "error";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }),
             "data.unknown_class");
}

// A validation file that lacks a category would shift every label if it were asked for the class list.
TEST(Coco, OtherSplitsTakeTheClassesOfTheTrainingFile) {
  const TemporaryFolder folder;
  put_images(folder, {"a.png"});
  DatasetConfig config = coco_config(
      folder, R"({"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]})");
  put(folder / "annotations/val.json", R"({"images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "categories": [{"id": 2, "name": "y"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 5, 5], "area": 25}]})");
  config.val = "val";
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::val, findings);
  EXPECT_EQ(dataset.classes, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(dataset.images[0].objects[0].label, 1);
}

TEST(Coco, FileNamesWithoutExtension) {
  const TemporaryFolder folder;
  write_image(folder / "images/C_1_-2.jpg", plain_image(40, 30));
  write_image(folder / "images/sub/b.png", plain_image(40, 30));
  const DatasetConfig config = coco_config(folder, R"({"categories": [{"id": 1, "name": "x"}], "annotations": [],
    "images": [{"id": 1, "file_name": "C_1_-2", "width": 40, "height": 30}, {"id": 2, "file_name": "sub/b.png", "width": 40, "height": 30},
               {"id": 3, "file_name": "gone.png", "width": 40, "height": 30}]})");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  ASSERT_EQ(dataset.images.size(), 2u) << spelled(findings);
  EXPECT_EQ(dataset.images[0].path.filename(), "C_1_-2.jpg");
  const auto guessed = of_kind(findings, Kind::guessed_file_name);
  ASSERT_EQ(guessed.size(), 1u);
  EXPECT_EQ(guessed[0].where, "images[0].file_name");
  const auto missing = of_kind(findings, Kind::missing_image);
  ASSERT_EQ(missing.size(), 1u);
  EXPECT_HAS(missing[0].where, "images[2].file_name ('gone.png')");
  EXPECT_EQ(of_kind(findings, Kind::no_objects).size(), 2u);
}

TEST(Coco, EachDefectHasItsFindingAndPath) {
  const TemporaryFolder folder;
  put_images(folder, {"a.png", "b.png"});
  const DatasetConfig config = coco_config(folder, R"({
    "categories": [{"id": 1, "name": "x"}, {"id": 1, "name": "again"}, {"id": "two", "name": "y"}, {"id": 3, "name": "x"}],
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30},
               {"id": 1, "file_name": "b.png", "width": 40, "height": 30},
               {"id": 2, "file_name": "a.png", "width": 40, "height": 30},
               {"id": 3.5, "file_name": "b.png"},
               {"id": 4, "file_name": null},
               {"id": 5, "file_name": "b.png"},
               {"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [
      {"id": 0, "image_id": 1, "category_id": 1, "bbox": [10, 10, -5, 5], "area": 1},
      {"id": 0, "image_id": 1, "category_id": 1, "bbox": [10, 10, 0, 5], "area": 1},
      {"id": 2, "image_id": 1, "category_id": 1, "bbox": [38, 10, 5, 5], "area": 1},
      {"id": 3, "image_id": 1, "category_id": 1, "bbox": [NaN, 10, 5, 5], "area": 1},
      {"id": 4, "image_id": 1, "category_id": 1, "bbox": [1, 10, Infinity, -Infinity], "area": 1},
      {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 10, 5], "area": 1},
      {"id": 6, "image_id": 1, "category_id": 1, "area": 1},
      {"id": 7, "image_id": 77, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 1},
      {"id": 8, "image_id": 1, "category_id": 88, "bbox": [1, 1, 5, 5], "area": 1},
      {"id": 9, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5], "area": 1, "iscrowd": 1, "segmentation": {"counts": [1, [2]]}},
      {"id": 10, "image_id": 1, "category_id": 1, "bbox": ["1", 1, 5, 5], "area": 1},
      {"id": 11, "image_id": 1, "category_id": 1, "bbox": [1e308, 1, 1e308, 5], "area": 1},
      17]})");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  EXPECT_EQ(dataset.classes, (std::vector<std::string>{"x"}));
  ASSERT_EQ(dataset.images.size(), 3u) << spelled(findings);
  const auto& objects = dataset.images[0].objects;
  ASSERT_EQ(objects.size(), 3u) << spelled(findings);
  EXPECT_EQ(objects[0].box, (Box{5, 10, 10, 15}));
  EXPECT_EQ(objects[1].box, (Box{38, 10, 40, 15}));
  EXPECT_TRUE(objects[2].crowd);
  EXPECT_EQ(objects[2].label, 0) << "two ids of one name are one class";
  const std::vector<std::pair<Kind, std::string>> expected{
      {Kind::duplicate_id, "categories[1]"},
      {Kind::bad_annotation, "categories[2]"},
      {Kind::duplicate_id, "categories[3]"},
      {Kind::duplicate_id, "images[1].id"},
      {Kind::duplicate_id, "images[2].file_name"},
      {Kind::bad_annotation, "images[3]"},
      {Kind::bad_annotation, "images[4]"},
      {Kind::duplicate_id, "images[5].file_name"},
      {Kind::bad_annotation, "images[5]"},
      {Kind::duplicate_id, "images[6].id"},
      {Kind::duplicate_id, "annotations[1].id"},
      {Kind::bad_annotation, "annotations[5].bbox"},
      {Kind::bad_annotation, "annotations[6].bbox"},
      {Kind::bad_annotation, "annotations[7].image_id"},
      {Kind::unknown_class, "annotations[8].category_id"},
      {Kind::bad_annotation, "annotations[12].image_id"},
      {Kind::swapped_box, "annotations[0].bbox"},
      {Kind::empty_box, "annotations[1].bbox"},
      {Kind::outside_box, "annotations[2].bbox"},
      {Kind::not_finite, "annotations[3].bbox"},
      {Kind::not_finite, "annotations[4].bbox"},
      {Kind::not_finite, "annotations[10].bbox"},
      {Kind::not_finite, "annotations[11].bbox"},
      {Kind::no_objects, "images[2]"},
      {Kind::no_objects, "images[5]"},
  };
  ASSERT_EQ(findings.size(), expected.size()) << spelled(findings);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(findings[i].kind, expected[i].first) << i << "\n" << spelled(findings);
    EXPECT_EQ(findings[i].where, expected[i].second) << i;
    EXPECT_HAS(findings[i].file, "instances_train.json");
  }
}

// A parser keeps the last of two in silence: with a list that is there twice, all truths of the first would be gone.
TEST(Coco, KeysThatAreThereTwice) {
  const TemporaryFolder folder;
  put_images(folder, {"a.png", "b.png"});
  const std::string head = R"({"info": {"a": 1, "a": 2}, "categories": [{"id": 1, "name": "x"}], )";
  const std::string images = R"("images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}])";
  const std::string boxes =
      R"("annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}])";
  const auto message = [&](const std::string& json, Split split = Split::train) {
    DatasetConfig config = coco_config(folder, json);
    config.val = config.train;
    std::vector<Finding> findings;
    return message_of([&] { static_cast<void>(read_dataset(config, split, findings)); });
  };
  EXPECT_EQ(message(head + images + ", " + boxes + "}"), "");
  EXPECT_HAS(message(head + boxes + ", " + images + ", " + boxes + "}"),
             "instances_train.json: has the key 'annotations' twice");
  EXPECT_HAS(message(head + images + ", " + images + ", " + boxes + "}"), "'images' twice");
  EXPECT_HAS(message(R"({"categories": [], )" + head.substr(1) + images + ", " + boxes + "}"), "'categories' twice");
  EXPECT_HAS(message(R"({"categories": [{"id": 1, "name": "y", "name": "x"}], )" + images + ", " + boxes + "}"),
             "categories[0] has the key 'name' twice");

  // In an entry: it is left out of training, and stops an evaluation.
  const std::string odd = head + R"("images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30},
      {"id": 2, "file_name": "b.png", "file_name": "a.png", "width": 40, "height": 30}], "annotations": [
      {"id": 1, "id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}, 17,
      {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "bbox": [2, 1, 5, 5], "area": 25,
       "segmentation": {"size": 1, "size": 2}}]})";
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(coco_config(folder, odd), Split::train, findings);
  EXPECT_EQ(dataset.summary.images, 1);
  EXPECT_EQ(dataset.summary.boxes, 1);
  EXPECT_HAS(spelled(of_kind(findings, Kind::bad_annotation)), "| images[1] | has a key twice: 'file_name';");
  EXPECT_HAS(spelled(of_kind(findings, Kind::bad_annotation)), "| annotations[2].bbox | has a key twice: 'bbox';");
  const std::string lost = head + images + R"(, "annotations": [
      {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "bbox": [2, 1, 5, 5], "area": 25}]})";
  EXPECT_EQ(message(lost), "");
  EXPECT_HAS(message(lost, Split::val), "annotations[0].bbox: has a key twice: 'bbox'");
}

// What pycocotools and MMDetection make of "ignore".
TEST(Coco, IgnoredOnesAreNoTargetsAndStillTruths) {
  const TemporaryFolder folder;
  put_images(folder, {"a.png"});
  DatasetConfig config = coco_config(folder, R"({"categories": [{"id": 1, "name": "x"}],
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}], "annotations": [
    {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "ignore": 0},
    {"id": 2, "image_id": 1, "category_id": 1, "bbox": [9, 1, 5, 5], "area": 25, "iscrowd": 0, "ignore": 1},
    {"id": 3, "image_id": 1, "category_id": 1, "bbox": [19, 1, 5, 5], "area": 25, "ignore": true},
    {"id": 4, "image_id": 1, "category_id": 1, "bbox": [19, 9, 5, 5], "area": 25, "ignore": "perhaps"}]})");
  config.val = config.train;
  std::vector<Finding> findings;
  const Dataset training = read_dataset(config, Split::train, findings);
  EXPECT_EQ(training.summary.targets(), 2) << spelled(findings);
  EXPECT_EQ(training.summary.difficult, 2);
  EXPECT_EQ(of_kind(findings, Kind::bad_annotation).size(), 1u);
  ASSERT_EQ(of_kind(findings, Kind::ignore_flag).size(), 1u) << spelled(findings);
  EXPECT_EQ(of_kind(findings, Kind::ignore_flag)[0].where, "annotations[1].ignore");
  EXPECT_HAS(of_kind(findings, Kind::ignore_flag)[0].message, "2 annotations have");
  findings.clear();
  const Dataset evaluation = read_dataset(config, Split::val, findings);
  EXPECT_EQ(evaluation.summary.targets(), 4);
  EXPECT_EQ(evaluation.summary.difficult, 0);
  EXPECT_EQ(of_kind(findings, Kind::ignore_flag).size(), 1u) << spelled(findings);
}

TEST(Coco, SizesInEverySpellingAreHeldAgainstThePicture) {
  for (const char* width : {"39", "39.0", "\"39\""}) {
    const TemporaryFolder folder;
    put_images(folder, {"a.png"});
    const DatasetConfig config = coco_config(folder, R"({"categories": [{"id": 1, "name": "x"}], "annotations": [],
      "images": [{"id": 1, "file_name": "a.png", "width": )" +
                                                         std::string(width) + R"(, "height": 30.0}]})");
    std::vector<Finding> findings;
    EXPECT_TRUE(read_dataset(config, Split::train, findings).images.empty());
    ASSERT_EQ(findings.size(), 1u) << spelled(findings);
    EXPECT_EQ(findings[0].kind, Kind::size_mismatch);
  }
}

TEST(Coco, SizeThatRoundsBeyondTheBorderIsNoFinding) {
  const TemporaryFolder folder;
  put_images(folder, {"a.png"});
  const DatasetConfig config = coco_config(folder, R"({"categories": [{"id": 1, "name": "x"}],
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [19.9, 0, 20.1000000000001, 30], "area": 603}]})");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  EXPECT_TRUE(findings.empty()) << spelled(findings);
  EXPECT_LE(dataset.images[0].objects[0].box.x2, 40);
  EXPECT_EQ(dataset.images[0].objects[0].area, 603);
}

TEST(Coco, FilesThatAreNoCocoNameTheReason) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& json) {
    const DatasetConfig config = coco_config(folder, json);
    std::vector<Finding> findings;
    const std::string text = message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
    EXPECT_HAS(text, "instances_train.json");
    return text;
  };
  EXPECT_HAS(message(""), "not JSON");
  EXPECT_HAS(message("{\n\"images\": [,]}"), "line 2");
  EXPECT_HAS(message("{\"images\": [{\"id\": 1}"), "ends too early (cut off?)");
  for (const char* text : {"{\"images\": [], }", "{\"images\": [1, \n]}", "{\"images\": [],}\n"}) {
    EXPECT_HAS(message(text), "a comma too many before it");
    EXPECT_EQ(message(text).find("cut off"), std::string::npos);
  }
  EXPECT_HAS(message("[]"), "no JSON object");
  EXPECT_HAS(message("{}"), "no array 'categories'");
  EXPECT_HAS(message(R"({"categories": 5})"), "no array 'categories'");
  EXPECT_HAS(message(R"({"categories": []})"), "no array 'images'");
  EXPECT_HAS(message(R"({"categories": [], "images": [], "annotations": []})"), "no categories");
  EXPECT_HAS(message(R"({"categories": [{"id": 1e999}]})"), "not JSON");
  EXPECT_HAS(message(std::string(300'000, '[')), "nested");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_HAS(message(objects), "nested");
  EXPECT_HAS(
      message("{\"images\": [{\"file_name\": \"NaN Infinity \\\" NaN\"}], \"categories\": [], \"annotations\": 1}"),
      "no array 'annotations'");
}

TEST(Coco, MissingSplitNamesWhatThereIs) {
  const TemporaryFolder folder;
  DatasetConfig config = coco_config(folder, "{}");
  config.train = "nothing";
  std::vector<Finding> findings;
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }),
             "[instances_train.json]");
}

}  // namespace
}  // namespace gradlibra
