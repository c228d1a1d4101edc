// SPDX-License-Identifier: MIT
// Nothing is lost in silence: what a reading keeps, mends and leaves out is counted; training on nothing is refused; an
// evaluation keeps its truths, as the published evaluators have them.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "data/metrics/metrics.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;
using Action = Finding::Action;
using Counts = DatasetSummary::Counts;

// A COCO split of two pictures of 40 x 30 with these annotations ("image_id, bbox" as JSON text).
DatasetConfig coco_of(const TemporaryFolder& folder, const std::vector<std::pair<std::string, std::string>>& boxes) {
  for (const char* name : {"a.png", "b.png"}) write_image(folder / "images" / name, plain_image(40, 30));
  std::string annotations;
  int id = 0;
  for (const auto& [image, box] : boxes) {
    annotations += std::string(annotations.empty() ? "" : ", ") + R"({"id": )" + std::to_string(++id) +
                   R"(, "category_id": 1, "iscrowd": 0, "image_id": )" + image + R"(, "bbox": )" + box + "}";
  }
  DatasetConfig config = coco_config(folder, R"({"categories": [{"id": 1, "name": "x"}], "images": [
    {"id": 1, "file_name": "a.png", "width": 40, "height": 30}, {"id": 2, "file_name": "b.png", "width": 40, "height": 30}],
    "annotations": [)" + annotations + "]}");
  config.val = config.train;
  return config;
}

std::string why_not_trainable(const DatasetConfig& config) {
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  return training_problem(config, dataset, findings);
}

TEST(KeptAndDropped, EveryReasonIsCounted) {
  const TemporaryFolder folder;
  put_voc(folder, "a",
          {{"cell", "5", "5", "9", "9"},
           {"cell", "9", "5", "5", "9"},      // swapped
           {"cell", "30", "20", "50", "29"},  // leaves the picture
           {"cell", "5", "5", "5", "9"},      // empty
           {"cell", "12,5", "5", "20", "9"},  // not a number
           {"cell", "50", "5", "60", "9"},    // outside
           {"blob", "5", "5", "9", "9"},      // unknown
           {"nucleus", "5", "5", "9", "9", 1}});
  put_voc(folder, "gone", {{"cell", "5", "5", "9", "9"}, {"cell", "6", "5", "9", "9"}});
  std::filesystem::remove(folder / "JPEGImages/gone.png");
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(voc_config(folder), Split::train, findings);
  const DatasetSummary& summary = dataset.summary;
  EXPECT_EQ(summary.images, 1);
  EXPECT_EQ(summary.boxes, 4);
  EXPECT_EQ(summary.difficult, 1);
  EXPECT_EQ(summary.targets(), 3);
  EXPECT_EQ(summary.class_boxes, (std::vector<int64_t>{3, 0}));
  EXPECT_EQ(summary.images_dropped, (Counts{{"missing_image", 1}}));
  EXPECT_EQ(
      summary.boxes_dropped,
      (Counts{
          {"empty_box", 1}, {"in_dropped_images", 2}, {"not_finite", 1}, {"outside_box", 1}, {"unknown_class", 1}}));
  EXPECT_EQ(summary.boxes_mended, (Counts{{"outside_box", 1}, {"swapped_box", 1}}));
  EXPECT_HAS(summary.text(), "1 of 2 images (dropped: 1 missing_image), 4 of 10 boxes (dropped: 2 in_dropped_images, ");
  EXPECT_HAS(summary.text(), "difficult: 1");
  const auto json = nlohmann::json::parse(summary.json());
  EXPECT_EQ(json["boxes"]["dropped"]["not_finite"], 1);
  EXPECT_EQ(json["images"]["kept"], 1);
  const std::string metrics = metrics_json(dataset, voc_metrics(dataset, {{}}), coco_metrics(dataset, {{}}));
  EXPECT_EQ(nlohmann::json::parse(metrics)["data"], json);
}

TEST(KeptAndDropped, NothingToTrainOnIsAnError) {
  const TemporaryFolder strings, nans, words, ids;
  EXPECT_HAS(
      why_not_trainable(coco_of(strings, {{"1", R"(["4", "5", "10", "12"])"}, {"2", R"(["4", "5", "1", "1"])"}})),
      "no box to train on: 2 of 2 images, 0 of 2 boxes (dropped: 2 not_finite)");
  EXPECT_HAS(why_not_trainable(coco_of(nans, {{"1", "[NaN, 5, -Infinity, 12]"}})), "'x' [NaN,5,-Infinity,12] has");
  EXPECT_HAS(why_not_trainable(coco_of(words, {{"1", "[4, 5, null, 12]"}})), "annotations[0].bbox");
  EXPECT_HAS(why_not_trainable(coco_of(ids, {{"17", "[4, 5, 10, 12]"}})), "17 is not the id");

  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5,5", "5", "9", "9"}});
  EXPECT_HAS(why_not_trainable(voc_config(folder)), "a decimal comma?");
  put_voc(folder, "b", {{"cell", "5", "5", "9", "9"}});
  DatasetConfig config = voc_config(folder);
  EXPECT_EQ(why_not_trainable(config), "");  // said aloud, no more
  config.missing_class = "error";
  EXPECT_HAS(why_not_trainable(config), "no usable box of [nucleus]");
  EXPECT_HAS(why_not_trainable(config), "data.missing_class");
  config.missing_class = "allow";
  EXPECT_EQ(why_not_trainable(config), "");
  // The categories of a file are not what a person has named.
  config.missing_class = "error";
  config.classes = {"cell"};
  EXPECT_EQ(why_not_trainable(config), "");
  // Difficult objects train nothing.
  const TemporaryFolder difficult;
  put_voc(difficult, "a", {{"cell", "5", "5", "9", "9", 1}});
  EXPECT_HAS(why_not_trainable(voc_config(difficult, {"cell"})), "difficult: 1");

  // The same where images without boxes are left out: no box is counted twice, and the cause is still told.
  const TemporaryFolder broken;
  put_voc(broken, "a", {{"cell", "5,5", "5", "9", "9"}, {"cell", "5", "5", "9", "9", 1}});
  put_voc(broken, "b", {});
  config = voc_config(broken, {"cell"});
  config.filter_empty = true;
  EXPECT_HAS(why_not_trainable(config),
             "no box to train on: 0 of 2 images (dropped: 2 no_objects), 0 of 2 boxes (dropped: 1 in_dropped_images, 1 "
             "not_finite)");
  EXPECT_HAS(why_not_trainable(config), "a decimal comma?");
  config = voc_config(difficult, {"cell"});
  config.filter_empty = true;
  EXPECT_HAS(why_not_trainable(config), "no boxes to train on but 1 difficult or crowd (data.filter_empty)");
}

TEST(KeptAndDropped, IdsOfSeveralTypesAreOne) {
  const TemporaryFolder folder;
  const DatasetConfig config =
      coco_of(folder, {{R"("1")", "[4, 5, 10, 12]"}, {"2.0", "[4, 5, 10, 12]"}, {"2", "[1, 5, 10, 12]"}});
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config, Split::train, findings);
  EXPECT_EQ(dataset.summary.boxes, 3) << spelled(findings);
  EXPECT_FALSE(dataset.text_ids);
  ASSERT_EQ(of_kind(findings, Kind::id_type).size(), 1u);
  EXPECT_HAS(of_kind(findings, Kind::id_type)[0].message, "3 whole numbers, 1 numbers with a point, 1 text");

  const TemporaryFolder text;
  write_image(text / "images/a.png", plain_image(40, 30));
  const DatasetConfig named = coco_config(text, R"({"categories": [{"id": "1", "name": "x"}],
    "images": [{"id": "slide_a", "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [{"id": "q", "image_id": "slide_a", "category_id": 1.0, "bbox": [4, 5, 10, 12], "area": 1}]})");
  findings.clear();
  const Dataset slides = read_dataset(named, Split::train, findings);
  EXPECT_TRUE(findings.empty()) << spelled(findings);
  ASSERT_EQ(slides.images.size(), 1u);
  EXPECT_EQ(slides.images[0].id, "slide_a");
  EXPECT_EQ(slides.images[0].objects.size(), 1u);
  EXPECT_TRUE(slides.text_ids);
}

TEST(KeptAndDropped, NormalisedBoxesAreFoundAndRefused) {
  const TemporaryFolder folder;
  const DatasetConfig config = coco_of(folder, {{"1", "[0.1, 0.2, 0.3, 0.4]"}, {"2", "[0.5, 0.5, 0.25, 0.5]"}});
  std::vector<Finding> findings;
  const std::string message = message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
  EXPECT_HAS(message, "all 2 boxes lie within 0..1: normalised?");
  EXPECT_FALSE(message_of([&] { static_cast<void>(read_dataset(config, Split::val, findings)); }).empty());
  const DatasetReport report = inspect_dataset(config);
  EXPECT_FALSE(of_kind(report.findings, Kind::normalised_boxes).empty());
  EXPECT_EQ(of_kind(report.findings, Kind::tiny_box).size(), 2u) << spelled(report.findings);

  // One such box among others is told, and stays.
  const TemporaryFolder mixed;
  findings.clear();
  const Dataset dataset =
      read_dataset(coco_of(mixed, {{"1", "[0.1, 0.2, 0.3, 0.4]"}, {"2", "[5, 5, 9, 0.5]"}}), Split::train, findings);
  EXPECT_EQ(dataset.summary.boxes, 2);
  ASSERT_EQ(of_kind(findings, Kind::tiny_box).size(), 2u);
  EXPECT_HAS(of_kind(findings, Kind::tiny_box)[0].message, "normalised?");
  EXPECT_EQ(of_kind(findings, Kind::tiny_box)[1].message.find("normalised"), std::string::npos);

  const TemporaryFolder voc;
  put_voc(voc, "a", {{"cell", "0.1", "0.2", "0.5", "0.75"}});
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(voc_config(voc), Split::train, findings)); }),
             "normalised?");
}

TEST(KeptAndDropped, CornersInACocoFileAreSuspected) {
  const TemporaryFolder folder, fine;
  const auto suspected = [](const DatasetConfig& config) {
    std::vector<Finding> findings;
    static_cast<void>(read_dataset(config, Split::train, findings));
    return spelled(of_kind(findings, Kind::outside_box)).find("x1, y1, x2, y2") != std::string::npos;
  };
  EXPECT_TRUE(suspected(coco_of(
      folder,
      {{"1", "[10, 10, 38, 28]"}, {"1", "[20, 5, 39, 29]"}, {"2", "[30, 20, 40, 30]"}, {"2", "[1, 1, 9, 9]"}})));
  EXPECT_FALSE(suspected(coco_of(
      fine, {{"1", "[10, 10, 8, 8]"}, {"1", "[20, 5, 9, 9]"}, {"2", "[30, 20, 40, 30]"}, {"2", "[1, 1, 9, 9]"}})));
}

// pycocotools 2.0.11 on the same annotations and detections: a truth that no detection can overlap is missed, and one
// that leaves the picture is not clipped.
TEST(KeptAndDropped, DegenerateTruthsCountAsPublishedEvaluatorsHaveThem) {
  const std::vector<std::pair<std::string, std::string>> good{{"1", "[4, 5, 10, 12]"}, {"2", "[3, 3, 9, 8]"}};
  const Detections detections{{{{4, 5, 14, 17}, 0, 0.9}}, {{{3, 4, 12, 12}, 0, 0.8}, {{30, 20, 40, 30}, 0, 0.7}}};
  const auto coco = [&](const std::vector<std::pair<std::string, std::string>>& more, const std::string& bad_truth) {
    const TemporaryFolder folder;
    std::vector<std::pair<std::string, std::string>> all = good;
    all.insert(all.end(), more.begin(), more.end());
    DatasetConfig config = coco_of(folder, all);
    config.bad_truth = bad_truth;
    std::vector<Finding> findings;
    const Dataset dataset = read_dataset(config, Split::val, findings);
    return coco_metrics(dataset, detections);
  };
  EXPECT_NEAR(coco({}, "error").ap, 0.801980198020, 1e-12);
  for (const char* box : {"[20, 10, 0, 6]", "[50, 10, 6, 6]", "[30, 20, 30, 25]"}) {
    const CocoResult result = coco({{"2", box}}, "error");
    EXPECT_NEAR(result.ap, 0.532673267327, 1e-12) << box;
    EXPECT_NEAR(result.ap50, 0.663366336634, 1e-12) << box;
    EXPECT_NEAR(result.ar_100, 0.533333333333, 1e-12) << box;
  }
  // What cannot be read stops an evaluation, unless the configuration says that it is missed, or left out.
  EXPECT_HAS(message_of([&] { static_cast<void>(coco({{"2", "[null, 10, 5, 5]"}}, "error")); }), "data.bad_truth");
  EXPECT_HAS(message_of([&] { static_cast<void>(coco({{"2", "[1, 10, 5]"}}, "error")); }), "data.bad_truth");
  EXPECT_HAS(message_of([&] { static_cast<void>(coco({{"77", "[1, 10, 5, 5]"}}, "error")); }), "data.bad_truth");
  EXPECT_NEAR(coco({{"2", "[null, 10, 5, 5]"}}, "miss").ap, 0.532673267327, 1e-12);
  EXPECT_NEAR(coco({{"2", "[1, 10, 5]"}}, "miss").ap, 0.532673267327, 1e-12);
  EXPECT_NEAR(coco({{"2", "[null, 10, 5, 5]"}, {"1", "[20, 10, 0, 6]"}}, "drop").ap, 0.801980198020, 1e-12);
}

TEST(KeptAndDropped, AnEvaluationOfTheTrainingSplitIsAnEvaluation) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "9", "9"}, {"cell", "x", "5", "9", "9"}, {"cell", "5", "5", "5", "9"}});
  DatasetConfig config = voc_config(folder, {"cell"});
  std::vector<Finding> findings;
  EXPECT_EQ(read_dataset(config, Split::train, findings).summary.boxes, 1);
  const ReadOptions evaluation{.evaluation = true, .progress = {}};
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings, evaluation)); }),
             "never drops truths in silence");
  config.bad_truth = "miss";
  findings.clear();
  const Dataset dataset = read_dataset(config, Split::train, findings, evaluation);
  EXPECT_EQ(dataset.summary.boxes, 3);
  EXPECT_EQ(dataset.summary.boxes_missed, (Counts{{"empty_box", 1}, {"not_finite", 1}}));
  EXPECT_HAS(dataset.summary.text(), "counted as missed: ");
  EXPECT_EQ(voc_metrics(dataset, {{{{4, 4, 8, 8}, 0, 0.5}}}).classes[0].ground_truths, 3);
  for (const VocConvention convention : {VocConvention::mmdet, VocConvention::devkit, VocConvention::mmdet_legacy}) {
    const VocResult result =
        voc_metrics(dataset, {{{{4, 4, 8, 8}, 0, 0.5}, {{0, 0, 0, 0}, 0, 0.4}}}, {.convention = convention});
    EXPECT_NEAR(*result.classes[0].recall, 1.0 / 3, 1e-12) << "an unmatchable truth was matched";
  }
  config.bad_box = "error";
  EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings, evaluation)); }),
             "data.bad_box is 'error'");
}

TEST(KeptAndDropped, TheRemedyFitsTheFault) {
  const TemporaryFolder folder;
  for (const char* id : {"a", "b", "c"}) put_voc(folder, id, {{"cell", "5", "5", "9", "9"}});
  DatasetConfig config = voc_config(folder, {"cell"});
  config.bad_image = config.unknown_class = "error";
  const auto message = [&] {
    std::vector<Finding> findings;
    return message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); });
  };
  // One of three: it can be dropped. All: there would be nothing left.
  std::filesystem::rename(folder / "JPEGImages/b.png", folder / "JPEGImages/B.PNG");
  EXPECT_HAS(message(), "there is 'B.PNG', with another extension or other capitals");
  EXPECT_HAS(message(), "set it to 'drop' to go on without it");
  std::filesystem::rename(folder / "JPEGImages", folder / "pictures");
  EXPECT_HAS(message(), "and 2 more like it, of 3 images");
  EXPECT_HAS(message(), "without all 3 images nothing would be left");
  EXPECT_HAS(message(), "there is no such folder; one of that name lies in");
  std::filesystem::create_directories(folder / "JPEGImages");
  EXPECT_HAS(message(), "set data.image_dir to 'pictures'?");
  config.image_dir = "pictures";
  config.classes = {"Cells"};
  EXPECT_HAS(message(), "did you mean 'Cells'?");
}

TEST(KeptAndDropped, LimitsOfTheLoaderAreCheckedHere) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"cell", "5", "5", "9", "9"}, {"cell", "15", "5", "19", "9"}});
  DatasetConfig config = voc_config(folder, {"cell"});
  config.val = "train";
  const auto message = [&](const InputLimits& limits, Split split) {
    std::vector<Finding> findings;
    return message_of(
        [&] { static_cast<void>(read_dataset(config, split, findings, {.limits = limits, .progress = {}})); });
  };
  for (const Split split : {Split::train, Split::val}) {
    EXPECT_EQ(message({40, 30, 2}, split), "");
    EXPECT_HAS(message({39, 64, 0}, split), "larger than the network input 39 x 64");
    EXPECT_HAS(message({0, 0, 1}, split), "more than loader.max_boxes = 1");
  }
  const DatasetReport report = inspect_dataset(config, {.limits = {32, 32, 1}});
  EXPECT_EQ(of_kind(report.findings, Kind::too_large_image).size(), 1u) << spelled(report.findings);
  EXPECT_EQ(of_kind(report.findings, Kind::too_many_boxes).size(), 1u);
}

TEST(KeptAndDropped, FindingsAreGroupedAndLimited) {
  const TemporaryFolder folder;
  std::vector<VocObject> objects(25, VocObject{"cell", "5", "5", "5", "9"});
  objects.push_back({"cell", "5", "5", "9", "9"});
  put_voc(folder, "a", objects);
  const DatasetConfig config = voc_config(folder, {"cell"});
  const std::string text = inspect_dataset(config).text;
  EXPECT_HAS(text, "and 15 more [empty_box, object_dropped]");
  EXPECT_EQ(inspect_dataset(config, {.shown = 0}).text.find(" more ["), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(inspect_dataset(config).json)["findings"].size(), 25u);
  EXPECT_HAS(text, "train: 1 of 1 images, 1 of 26 boxes (dropped: 25 empty_box)");
}

TEST(KeptAndDropped, ClassNamesAreText) {
  const TemporaryFolder folder;
  put_voc(folder, "a", {{"Zelle \xe9", "5", "5", "9", "9"}, {"cell", "5", "5", "9", "9"}});
  std::vector<Finding> findings;
  DatasetConfig config = voc_config(folder, {"cell"});
  static_cast<void>(read_dataset(config, Split::train, findings));
  ASSERT_EQ(of_kind(findings, Kind::not_utf8).size(), 1u) << spelled(findings);
  EXPECT_HAS(of_kind(findings, Kind::not_utf8)[0].message, "Zelle \\xe9");
  for (const auto& [name, why] : std::vector<std::pair<std::string, std::string>>{{"Zelle \xe9", "not UTF-8"},
                                                                                  {"", "empty"},
                                                                                  {"  ", "empty"},
                                                                                  {"a\tb", "control character"},
                                                                                  {"cell ", "twice"}}) {
    config.classes = {"cell", name};
    EXPECT_HAS(message_of([&] { static_cast<void>(read_dataset(config, Split::train, findings)); }), why);
  }
  // Blanks around a name are no other class.
  config.classes = {" cell"};
  EXPECT_EQ(read_dataset(config, Split::train, findings).summary.boxes, 1);
  // A name that states its encoding is converted.
  const TemporaryFolder stated;
  put_voc(stated, "a", {{"Zelle \xe9", "5", "5", "9", "9"}});
  put(stated / "Annotations/a.xml",
      "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n" + get(stated / "Annotations/a.xml"));
  EXPECT_EQ(read_dataset(voc_config(stated, {"Zelle \xc3\xa9"}), Split::train, findings).summary.boxes, 1);
}

}  // namespace
}  // namespace gradlibra
