// SPDX-License-Identifier: MIT
// Detections over a data set: in pixels of the original images, in COCO's result form, and measured through class ids
// of any kind.
#include "engine/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/batches.h"
#include "engine/coco_results.h"
#include "engine/evaluation_report.h"
#include "tests/engine/tiny_experiment.h"

namespace gradlibra {
namespace {

using Json = nlohmann::json;

// Every pixel times_x times as wide and times_y times as high: area averaging back gives the same bytes.
Image enlarged(const Image& image, int times_x, int times_y) {
  Image out = plain_image(image.width * times_x, image.height * times_y);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) std::copy_n(image.at(x / times_x, y / times_y), 3, out.at(x, y));
  return out;
}

Dataset one_image(const std::filesystem::path& file, const Image& image) {
  write_image(file, image);
  Dataset dataset;
  dataset.classes = kTinyClasses;
  dataset.images.push_back({file.stem().string(), file, image.width, image.height, {}});
  return dataset;
}

class EvaluationTest : public ::testing::Test {
 protected:
  EvaluationTest() : config_(tiny_config("")) {
    config_.model.test.score_threshold = 0;  // an untrained detector is sure of nothing
    config_.model.test.max_per_image = 30;
    detector_ = std::make_unique<Detector>(context_, config_.model, 3);
    detector_->parameters().initialize(5);
  }
  [[nodiscard]] std::vector<Detection> detect(const Image& image, const std::string& name, const std::string& resize,
                                              int width, int height) {
    ExperimentConfig config = config_;
    config.loader.resize = resize;
    config.loader.width = width;
    config.loader.height = height;
    return detect_dataset(*detector_, one_image(folder_ / (name + ".png"), image), config).at(0);
  }

  TemporaryFolder folder_;
  Context context_{1};
  ExperimentConfig config_;
  std::unique_ptr<Detector> detector_;
};

TEST(ClassInfos, CountTheBoxesOfTheTrainingSplit) {
  TemporaryFolder folder;
  put_tiny_set(folder / "data", 5);
  std::vector<Finding> findings;
  Dataset dataset = read_dataset(tiny_config(folder / "data").data, Split::train, findings);
  Object beside = dataset.images[0].objects[0];
  beside.difficult = true;  // no training target
  dataset.images[0].objects.push_back(beside);
  const ClassInfo classes = class_info(dataset);
  EXPECT_EQ(classes.names, kTinyClasses);
  EXPECT_EQ(classes.instances, (std::vector<int64_t>{2, 2, 1}));  // image i shows class i % 3
  EXPECT_TRUE(unknown_classes(3).instances.empty());
}

// `b` shows what `a` shows, times_x and times_y times as large.
void expect_scaled(const std::vector<Detection>& a, const std::vector<Detection>& b, float times_x, float times_y) {
  ASSERT_GE(a.size(), 5u);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].label, b[i].label);
    EXPECT_EQ(a[i].score, b[i].score);
    EXPECT_FLOAT_EQ(a[i].box.x1 * times_x, b[i].box.x1);
    EXPECT_FLOAT_EQ(a[i].box.y1 * times_y, b[i].box.y1);
    EXPECT_FLOAT_EQ(a[i].box.x2 * times_x, b[i].box.x2);
    EXPECT_FLOAT_EQ(a[i].box.y2 * times_y, b[i].box.y2);
  }
}

TEST_F(EvaluationTest, BoxesComeBackInOriginalPixels) {
  const Image image = drawn(tiny_image(3));
  const auto plain = detect(image, "plain", "none", 64, 64);
  for (const Detection& d : plain) {
    EXPECT_TRUE(0 <= d.box.x1 && d.box.x1 < d.box.x2 && d.box.x2 <= 64 && 0 <= d.box.y1 && d.box.y1 < d.box.y2 &&
                d.box.y2 <= 64);
    EXPECT_TRUE(0 < d.score && d.score < 1);
  }
  expect_scaled(plain, detect(enlarged(image, 2, 2), "double", "fit", 64, 64), 2, 2);
  expect_scaled(plain, detect(enlarged(image, 3, 1), "wide", "stretch", 64, 64), 3, 1);
  expect_scaled(plain, detect(enlarged(image, 2, 4), "tall", "stretch", 64, 64), 2, 4);
}

TEST_F(EvaluationTest, PaddingHoldsNoDetections) {
  Image image = plain_image(64, 40);
  const Image full = drawn(tiny_image(3));
  std::copy_n(full.pixels.begin(), image.pixels.size(), image.pixels.begin());
  const auto padded = detect(image, "low", "none", 64, 64);
  for (const Detection& d : padded) EXPECT_LE(d.box.y2, 40);
  expect_scaled(padded, detect(enlarged(image, 2, 2), "low_double", "fit", 64, 64), 2, 2);
}

TEST_F(EvaluationTest, EveryImageOnceInOrder) {
  Dataset dataset;
  dataset.classes = kTinyClasses;
  std::vector<std::vector<Detection>> singly;
  for (int i = 0; i < 5; ++i) {
    const TinyImage tiny = tiny_image(i);
    const auto one = one_image(folder_ / (tiny.id + ".png"), drawn(tiny));
    dataset.images.push_back(one.images[0]);
    singly.push_back(detect_dataset(*detector_, one, config_).at(0));
  }
  std::vector<std::pair<int64_t, int64_t>> calls;
  const Detections together = detect_dataset(*detector_, dataset, config_,
                                             [&](int64_t done, int64_t total) { calls.emplace_back(done, total); });
  EXPECT_EQ(calls, (std::vector<std::pair<int64_t, int64_t>>{{2, 5}, {4, 5}, {5, 5}}));
  ASSERT_EQ(together.size(), 5u);
  // The convolution library may sum in another order for another batch size.
  for (size_t i = 0; i < 5; ++i) {
    ASSERT_FALSE(together[i].empty());
    ASSERT_FALSE(singly[i].empty());
    EXPECT_NEAR(together[i][0].score, singly[i][0].score, 1e-5);
  }
  Dataset none;
  none.classes = kTinyClasses;
  EXPECT_TRUE(detect_dataset(*detector_, none, config_).empty());
}

TEST(CocoResults, AreWhatToolsExpect) {
  Dataset dataset;
  dataset.classes = {"a", "b"};
  dataset.images = {
      {"12", "x/12.png", 64, 64, {}}, {"slide_7", "x/slide_7.png", 64, 64, {}}, {"-3", "x/-3.png", 64, 64, {}}};
  const Detections detections{
      {{{1.5f, 2, 11.5f, 22}, 1, 0.25}, {{0, 0, 1, 1}, 0, 0.125}}, {{{3, 4, 5, 8}, 0, 0.5}}, {}};
  EXPECT_EQ(Json::parse(coco_results_json(dataset, detections)), Json::parse(R"([
    {"image_id": "12", "category_id": 1, "bbox": [1.5, 2.0, 10.0, 20.0], "score": 0.25, "category": "b"},
    {"image_id": "12", "category_id": 0, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.125, "category": "a"},
    {"image_id": "slide_7", "category_id": 0, "bbox": [3.0, 4.0, 2.0, 4.0], "score": 0.5, "category": "a"}])"));
  EXPECT_EQ(Json::parse(coco_results_json(dataset, Detections(3))), Json::array());
}

// The annotation file's own category ids, and stems that only look like numbers: with one such all are strings.
TEST(CocoResults, KeepTheFilesIds) {
  Dataset dataset;
  dataset.classes = {"a", "b"};
  dataset.category_ids = {{"a", 7}, {"b", 900}};
  dataset.images = {{"007", "x/007.png", 64, 64, {}}, {"0", "x/0.png", 64, 64, {}}};
  const Json results = Json::parse(coco_results_json(dataset, {{{{0, 0, 2, 2}, 1, 0.5}}, {{{0, 0, 2, 2}, 0, 0.5}}}));
  EXPECT_EQ(results[0]["image_id"], "007") << "all ids of a file are of one type";
  EXPECT_EQ(results[0]["category_id"], 900);
  EXPECT_EQ(results[1]["image_id"], "0");
  EXPECT_EQ(results[1]["category_id"], 7);
  dataset.images[0].id = "-17";
  const Detections same(2, {{{0, 0, 2, 2}, 1, 0.5}});
  EXPECT_EQ(Json::parse(coco_results_json(dataset, same))[0]["image_id"], -17);
  dataset.text_ids = true;  // the annotation file has them in quotes
  EXPECT_EQ(Json::parse(coco_results_json(dataset, same))[0]["image_id"], "-17");
  // Whatever bytes come, what was computed is written.
  dataset.classes[1] = "Zelle \xe9";
  EXPECT_EQ(Json::parse(coco_results_json(dataset, same)).size(), 2u);
}

// A checkpoint, as any file, may have a name that is not UTF-8; a class comes from where nobody has checked it.
TEST(EvaluationReports, AreWrittenWhateverTheNamesAre) {
  const TemporaryFolder folder;
  Dataset dataset;
  dataset.classes = {"a", "Zelle \xe9"};
  dataset.images.push_back({"12", "x/12.png", 64, 64, {{.box = {1, 1, 20, 20}, .label = 1}}});
  EvaluationReport report;
  report.detector = "k\xfc.safetensors (step 4)";
  report.bootstrap = 2;
  report.output = folder.path();
  report_evaluation(report, tiny_config(""), dataset, {{{{1, 1, 20, 20}, 1, 0.5}}});
  const Json metrics = Json::parse(get(folder / "metrics.json"));
  EXPECT_EQ(metrics.at("evaluation").at("detector"), "k\\xfc.safetensors (step 4)");
  EXPECT_EQ(metrics.at("mAP"), 1.0);
  EXPECT_EQ(Json::parse(get(folder / "detections.json")).size(), 1u);
}

// Detections that are the ground truth score 1, whatever the categories' ids and the order of the entries in the file.
TEST(PerfectDetections, ScoreOneForAnyCategoryIds) {
  const std::vector<std::array<int, 3>> id_lists{{0, 1, 2}, {1, 2, 3}, {7, 3, 900}};
  for (const auto& ids : id_lists) {
    TemporaryFolder folder;
    Json json{{"images", Json::array()}, {"annotations", Json::array()}, {"categories", Json::array()}};
    for (const int c : {2, 0, 1})
      json["categories"].push_back(
          {{"id", ids[static_cast<size_t>(c)]}, {"name", kTinyClasses[static_cast<size_t>(c)]}});
    for (int i = 0; i < 6; ++i) {
      const int id = 40 - 7 * i;
      const std::string name = std::to_string(i) + ".png";
      std::filesystem::create_directories(folder / "images");
      write_image(folder / ("images/" + name), plain_image(64, 64));
      json["images"].push_back({{"id", id}, {"file_name", name}, {"width", 64}, {"height", 64}});
      for (int k = 0; k <= i % 3; ++k)
        json["annotations"].push_back({{"id", 10 * i + k},
                                       {"image_id", id},
                                       {"category_id", ids[static_cast<size_t>(i + k) % 3]},
                                       {"bbox", {3.25 + 5 * k, 2.5 + i, 20.0 + k, 17.75}},
                                       {"iscrowd", 0},
                                       {"area", 300.0}});
    }
    DatasetConfig config = coco_config(folder, json.dump());
    for (const bool listed : {true, false}) {
      config.classes = listed ? kTinyClasses : std::vector<std::string>{};
      std::vector<Finding> findings;
      const Dataset dataset = read_dataset(config, Split::train, findings);
      ASSERT_EQ(dataset.images.size(), 6u);
      Detections detections(6);
      size_t boxes = 0;
      for (size_t i = 0; i < 6; ++i) {
        for (const Object& o : dataset.images[i].objects)
          detections[i].push_back({o.box, o.label, 0.9 - 0.01 * static_cast<double>(boxes++)});
      }
      EXPECT_EQ(boxes, 12u);
      const VocResult voc = voc_metrics(dataset, detections);
      EXPECT_EQ(voc.map.value_or(0), 1.0);
      for (const ClassResult& c : voc.classes) EXPECT_EQ(c.ap.value_or(0), 1.0) << c.name;
      EXPECT_NEAR(coco_metrics(dataset, detections).ap, 1.0, 1e-12);
      // The names meant are the names measured: image 40 holds one object of the first category given above for i = 0.
      EXPECT_EQ(dataset.classes[static_cast<size_t>(dataset.images[5].objects.at(0).label)], kTinyClasses[0]);
    }
  }
}

TEST(DrawDetections, FramesWhatIsSureEnough) {
  TemporaryFolder folder;
  const Dataset dataset = one_image(folder / "a.png", plain_image(80, 60));
  draw_detections(dataset.images[0], {{{10, 20, 60, 50}, 1, 0.9}, {{2, 2, 8, 8}, 0, 0.2}}, dataset.classes, 0.3, false,
                  folder / "b.png");
  const Image image = read_image(folder / "b.png");
  ASSERT_EQ(image.width, 80);
  ASSERT_EQ(image.height, 60);
  const Color color = class_color(1);
  for (const auto& [x, y] : {std::pair{59, 49}, {10, 49}, {35, 49}, {59, 35}}) {
    EXPECT_EQ(image.at(x, y)[0], color.r) << x << "," << y;
    EXPECT_EQ(image.at(x, y)[1], color.g) << x << "," << y;
    EXPECT_EQ(image.at(x, y)[2], color.b) << x << "," << y;
  }
  EXPECT_EQ(image.at(35, 35)[0], 90);  // inside
  EXPECT_EQ(image.at(2, 2)[0], 90);    // the unsure one
}

// Whether a pixel has the colour of a class.
bool has_color(const Image& image, int x, int y, int label) {
  const Color color = class_color(label);
  return image.at(x, y)[0] == color.r && image.at(x, y)[1] == color.g && image.at(x, y)[2] == color.b;
}

// Two classes at one object.
TEST(DrawDetections, AllBoxesOrTheSurest) {
  TemporaryFolder folder;
  const Dataset dataset = one_image(folder / "a.png", plain_image(200, 160));
  const std::vector<Detection> found{{{20, 40, 120, 120}, 0, 0.9}, {{30, 50, 130, 130}, 2, 0.6}};
  const auto drawn_with = [&](Boxes boxes) {
    draw_detections(dataset.images[0], found, dataset.classes, 0.3, false, folder / "b.png", boxes);
    return read_image(folder / "b.png");
  };
  const Image all = drawn_with(Boxes::all), one = drawn_with(Boxes::one_per_object);
  for (const Image* image : {&all, &one}) EXPECT_TRUE(has_color(*image, 119, 119, 0));
  EXPECT_TRUE(has_color(all, 129, 129, 2));
  EXPECT_TRUE(has_color(all, 30, 129, 2));
  EXPECT_EQ(one.at(129, 129)[0], 90);
  EXPECT_EQ(one.at(30, 129)[0], 90);
}

TEST(DrawDetections, TruthIsDashedInTheColourOfItsClass) {
  TemporaryFolder folder;
  Dataset dataset = one_image(folder / "a.png", plain_image(200, 160));
  dataset.images[0].objects = {{.box = {20, 40, 120, 120}, .label = 1}};
  draw_detections(dataset.images[0], {}, dataset.classes, 0.3, false, folder / "b.png");
  const Image image = read_image(folder / "b.png");
  int painted = 0, gaps = 0;
  for (int x = 20; x < 120; ++x) {
    painted += has_color(image, x, 119, 1);
    gaps += image.at(x, 119)[0] == 90;
  }
  EXPECT_EQ(painted + gaps, 100);
  EXPECT_GT(painted, 30);
  EXPECT_GT(gaps, 30);
}

// A hundred of a class in an image is what COCO AP counts; the classes are counted apart.
TEST(LimitNotes, NameImagesWithMoreThanCocoCounts) {
  Dataset dataset;
  dataset.classes = kTinyClasses;
  dataset.images.resize(3);
  Detections detections(3);
  const TestConfig test{.max_per_image = -1};
  for (int i = 0; i < 100; ++i) {
    dataset.images[0].objects.push_back({.box = {0, 0, 9, 9}, .label = 1});
    dataset.images[0].objects.push_back({.box = {0, 0, 9, 9}, .label = 2});
    detections[1].push_back({{0, 0, 9, 9}, 0, 0.5});
  }
  EXPECT_EQ(limit_notes(dataset, detections, test), "");
  dataset.images[0].objects.push_back({.box = {0, 0, 9, 9}, .label = 1});
  EXPECT_EQ(limit_notes(dataset, detections, test),
            " 1 of 3 images have more than the 100 detections or objects of a class that COCO AP counts\n");
  detections[1].push_back({{0, 0, 9, 9}, 2, 0.5});
  EXPECT_HAS(limit_notes(dataset, detections, test), " 1 of 3 images have more than the 100");
  detections[1].push_back({{0, 0, 9, 9}, 0, 0.5});
  EXPECT_HAS(limit_notes(dataset, detections, test), " 2 of 3 images have more than the 100");
}

// What was written comes back, ids as numbers or as text, classes by name or by id.
TEST(CocoResults, ReadBack) {
  TemporaryFolder folder;
  Dataset dataset;
  dataset.classes = {"a", "b"};
  dataset.category_ids = {{"a", 7}, {"b", 3}};
  for (const char* id : {"12", "5"}) dataset.images.push_back({id, "", 64, 64, {}});
  const Detections found{{{{1, 2, 4, 8}, 1, 0.5}}, {{{0, 0, 2, 2}, 0, 0.25}, {{1, 1, 3, 3}, 1, 0.125}}};
  put(folder / "d.json", coco_results_json(dataset, found));
  const auto same = [&](const Detections& got) {
    ASSERT_EQ(got.size(), found.size());
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(got[i].size(), found[i].size());
      for (size_t k = 0; k < found[i].size(); ++k) {
        EXPECT_EQ(got[i][k].box, found[i][k].box);
        EXPECT_EQ(got[i][k].label, found[i][k].label);
        EXPECT_EQ(got[i][k].score, found[i][k].score);
      }
    }
  };
  same(read_coco_results(folder / "d.json", dataset));
  put(folder / "d.json", R"([{"image_id": "12", "category_id": 3, "bbox": [1, 2, 3, 6], "score": 0.5},
                             {"image_id": 5, "category_id": 7, "bbox": [0, 0, 2, 2], "score": 0.25},
                             {"image_id": 5, "category": "b", "bbox": [1, 1, 2, 2], "score": 0.125}])");
  same(read_coco_results(folder / "d.json", dataset));
  const auto error = [&](const std::string& text) {
    put(folder / "d.json", text);
    return message_of([&] { (void)read_coco_results(folder / "d.json", dataset); });
  };
  EXPECT_HAS(error("{}"), "d.json: is no JSON list");
  EXPECT_HAS(error(R"([{"image_id": 6, "category_id": 3, "bbox": [1, 2, 3, 6], "score": 0.5}])"),
             "entry 0: image_id 6 is no image of the split");
  EXPECT_HAS(error(R"([{"image_id": 5, "category_id": 0, "bbox": [1, 2, 3, 6], "score": 0.5}])"),
             "entry 0: category_id 0 is no class");
  EXPECT_HAS(error(R"([{"image_id": 5, "category_id": 3, "bbox": [1, 2, 3], "score": 0.5}])"), "3 numbers, not 4");
  EXPECT_HAS(error(R"([{"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4]}])"), "entry 0: has no score");
  EXPECT_HAS(error("[7]"), "entry 0: is 7, not an object");
  // Sides, score and category_id of one entry.
  const auto entry = [&](const std::string& box, const std::string& score, const std::string& category) {
    return error(fmt::format(R"([{{"image_id": 5.0,
"category_id": {}, "bbox": [1, 2, {}], "score": {}}}])",
                             category, box, score));
  };
  EXPECT_EQ(entry("3, 4", "0.5", "3.0"), "");
  EXPECT_HAS(entry("3, 4", "0.5", "2.7"), "d.json: entry 0: category_id 2.7 is no whole number");
  EXPECT_HAS(entry("3, 4", "\"0.5\"", "3"), "entry 0: score is \"0.5\", not a number");
  EXPECT_HAS(entry("3, null", "0.5", "3"), "entry 0: bbox[3] is missing or null, not a number");
  EXPECT_HAS(entry("1e39, 4", "0.5", "3"), "d.json: entry 0: bbox[2] is 1e+39, which is too large");
  EXPECT_HAS(entry("3, 4", "1e999", "3"), "d.json: is no JSON list of detections");
  EXPECT_HAS(entry("3, 4", "NaN", "3"), "d.json: line 2, column 50: is no JSON list of detections: NaN, which is no");
  EXPECT_HAS(error("[{\"image_id\": 5,\n"),
             "d.json: line 2, column 1: is no JSON list of detections: it ends too early");
  EXPECT_HAS(error("[{\"image_id\": 5,}]"), "d.json: line 1, column 17: ");
  EXPECT_HAS(error(std::string(200000, '[')), "d.json: is no JSON list of detections: nests deeper than 64 levels");
  EXPECT_HAS(error(R"([{"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5, "info": {"a": 1}},
                       {"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5, "score": 0.75}])"),
             "d.json: entry 1: has the key 'score' twice");
  EXPECT_EQ(error(R"([{"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5, "info": {"bbox": 1}}])"),
            "");
  EXPECT_HAS(error(R"({"a": {"b": 1, "b": 2}})"), "d.json: is no JSON list of detections, but an object");
  for (const char* text : {"[7]", "[{\"a\": NaN}]", "[1e999]", "["})
    EXPECT_EQ(error(text).find("json.exception"), std::string::npos) << error(text);
}

// Categories of one name are one class, by each of their ids.
TEST(CocoResults, OfAnyOfTheFilesIds) {
  const TemporaryFolder folder;
  Dataset dataset;
  dataset.classes = {"a", "b"};
  dataset.category_ids = {{"a", 7}, {"b", 3}};
  dataset.category_names = {{3, "b"}, {7, "a"}, {9, "b"}, {11, "left out"}};
  dataset.images.push_back({"12", "", 64, 64, {}});
  put(folder / "d.json", R"([{"image_id": 12, "category_id": 9, "bbox": [1, 2, 3, 6], "score": 0.5}])");
  EXPECT_EQ(read_coco_results(folder / "d.json", dataset)[0].at(0).label, 1);
  put(folder / "d.json", R"([{"image_id": 12, "category_id": 11, "bbox": [1, 2, 3, 6], "score": 0.5}])");
  EXPECT_HAS(message_of([&] { (void)read_coco_results(folder / "d.json", dataset); }), "category_id 11 is no class");
}

// What pycocotools takes is taken, and told of.
TEST(CocoResults, OddScoresAndBoxesAreToldOf) {
  const TemporaryFolder folder;
  Dataset dataset;
  dataset.classes = {"a"};
  dataset.images.push_back({"5", "", 64, 64, {}});
  std::vector<std::string> told;
  const auto read = [&](const std::string& entries) {
    put(folder / "d.json", "[" + entries + "]");
    told.clear();
    return read_coco_results(folder / "d.json", dataset, [&](const std::string& line) { told.push_back(line); });
  };
  const auto entry = [](const std::string& box, const std::string& score) {
    return R"({"image_id": 5, "category_id": 0, "bbox": [)" + box + R"(], "score": )" + score + "}";
  };
  EXPECT_EQ(read(entry("1, 2, 0, 0", "0") + "," + entry("-1, -2, 3, 4", "1"))[0].size(), 2u);
  EXPECT_TRUE(told.empty());
  EXPECT_EQ(
      read(entry("1, 2, 3, 4", "0.5") + "," + entry("1, 2, -3, 4", "1.5") + "," + entry("1, 2, 3, -4", "-7"))[0].size(),
      3u);
  EXPECT_EQ(told, (std::vector<std::string>{
                      (folder / "d.json").string() + ": 2 scores are outside of 0 to 1 (the first: entry 1, 1.5)",
                      (folder / "d.json").string() +
                          ": 2 boxes are of negative width or height (the first: entry 1, [1,2,-3,4])"}));
}

TEST(CocoResults, CornersAreHintedAt) {
  Dataset dataset;
  dataset.images.push_back({"12", "", 64, 48, {}});
  const auto hint = [&](const std::vector<Box>& boxes) {
    Detections detections(1);
    for (const Box& box : boxes) detections[0].push_back({box, 0, 0.5});
    return corners_hint(dataset, detections);
  };
  EXPECT_EQ(hint({}), "");
  EXPECT_EQ(hint({{9, 27, 31, 47}}), "");
  // 9, 27, 31, 40 taken for x, y, width, height.
  EXPECT_HAS(hint({{9, 27, 40, 67}, {10, 20, 50, 60}, {1, 1, 5, 5}}),
             "2 of 3 boxes leave their pictures, and 3 fit if they are x1, y1, x2, y2");
  EXPECT_EQ(hint({{9, 27, 40, 67}, {1, 1, 5, 5}}), "") << "half is not most";
  EXPECT_EQ(hint({{50, 40, 70, 60}}), "") << "outside either way";
}

}  // namespace
}  // namespace gradlibra
