// SPDX-License-Identifier: MIT
// `evaluate` and `detect` as they are asked: flags of the metrics, what is drawn, and a data set with class numbers of
// its own.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/apps/run_programs.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Evaluate : public ProgramTest {
 protected:
  // A COCO set; `ids` are those of kTinyClasses.
  static void put_coco(const fs::path& root, const std::vector<int>& ids) {
    fs::create_directories(root / "images");
    for (const auto& [split, first, count] : {std::tuple{"train", 0, 6}, std::tuple{"test", 6, 6}}) {
      Json json{{"images", Json::array()}, {"annotations", Json::array()}, {"categories", Json::array()}};
      for (size_t c = 0; c < ids.size(); ++c) json["categories"].push_back({{"id", ids[c]}, {"name", kTinyClasses[c]}});
      for (int i = first; i < first + count; ++i) {
        const TinyImage tiny = tiny_image(i);
        const VocObject& o = tiny.objects[0];
        const int x = std::stoi(o.x1) - 1, y = std::stoi(o.y1) - 1;
        const int width = std::stoi(o.x2) - 1 - x, height = std::stoi(o.y2) - 1 - y;
        write_image(root / "images" / (tiny.id + ".png"), drawn(tiny));
        json["images"].push_back({{"id", i + 1}, {"file_name", tiny.id + ".png"}, {"width", 64}, {"height", 64}});
        json["annotations"].push_back({{"id", i + 1},
                                       {"image_id", i + 1},
                                       {"category_id", ids[static_cast<size_t>(i) % 3]},
                                       {"bbox", {x, y, width, height}},
                                       {"area", width * height},
                                       {"iscrowd", 0}});
      }
      put(root / "annotations" / fmt::format("instances_{}.json", split), json.dump());
    }
  }
  [[nodiscard]] Json metrics(const std::string& folder) const {
    return Json::parse(get(folder_ / folder / "metrics.json"));
  }
  static std::map<std::string, Json> by_name(const Json& metrics) {
    std::map<std::string, Json> classes;
    for (const Json& one : metrics.at("classes")) classes[one.at("name").get<std::string>()] = one;
    return classes;
  }
};

// The file's numbers say in which order its classes stand (data/datasets/coco.cpp). A detector has them in its own.
TEST_F(Evaluate, ClassesAreTheDetectorsWhateverTheirNumbersAre) {
  put_coco(folder_ / "data", {1, 2, 3});
  put_coco(folder_ / "renumbered", {30, 10, 20});
  const std::string config = write_config(folder_ / "data"), work = path("work");
  Ran ran = run({"train", "--config", config, "--work-dir", work, "--threads", "1", "--device", "cpu",
                 "data.format=coco", "data.classes=[]", "data.test=test", "schedule.epochs=2"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  for (const char* set : {"data", "renumbered"}) {
    ran = run({"evaluate", "--checkpoint", work, "--threads", "1", "--output", path(std::string("of_") + set),
               "data.root=" + path(set), "model.test.score_threshold=0"});
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  const Json own = metrics("of_data"), other = metrics("of_renumbered");
  EXPECT_EQ(other.at("mAP"), own.at("mAP"));
  EXPECT_EQ(by_name(other), by_name(own));
  std::set<int64_t> counts;
  for (const auto& [name, one] : by_name(own)) {
    EXPECT_EQ(one.at("ground_truths"), 2) << name;
    counts.insert(one.at("detections").get<int64_t>());
  }
  EXPECT_GT(counts.size(), 1u) << "classes that are alike could be exchanged unseen";
  // The numbers in the detections are the file's.
  for (const Json& entry : Json::parse(get(folder_ / "of_renumbered/detections.json")))
    ASSERT_EQ(entry.at("category_id"), entry.at("category") == "disc"     ? 30
                                       : entry.at("category") == "square" ? 10
                                                                          : 20);

  // detect: every box, or one per object.
  for (const char* flag : {"", "--all-boxes"}) {
    std::vector<std::string> argv{"detect",
                                  "--checkpoint",
                                  work,
                                  "--input",
                                  path("data/images/tiny_007.png"),
                                  "--output",
                                  path(std::string("drawn") + flag),
                                  "--threads",
                                  "1",
                                  "--min-score",
                                  "0",
                                  "model.test.score_threshold=0"};
    if (*flag != 0) argv.emplace_back(flag);
    ran = run(argv);
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  EXPECT_EQ(get(path("drawn/detections.json")), get(path("drawn--all-boxes/detections.json")));
  EXPECT_NE(get(path("drawn/tiny_007.png")), get(path("drawn--all-boxes/tiny_007.png")));
}

// Ten discs, of which the detections find the first three, miss two, and find three more: the worked case of
// voc/eleven_point_float_trap. And one large square whose file says `area: 0`, found.
TEST_F(Evaluate, FlagsReachTheMetrics) {
  Json truth{{"images", Json::array()}, {"annotations", Json::array()}}, found = Json::array();
  truth["categories"] = {{{"id", 1}, {"name", "disc"}}, {{"id", 2}, {"name", "square"}}};
  fs::create_directories(folder_ / "data/images");
  for (int i = 0; i < 11; ++i) {
    const bool square = i == 10, right = square || i < 3 || (i >= 5 && i < 8);
    const std::string name = fmt::format("{}.png", i);
    write_image(folder_ / "data/images" / name, plain_image(128, 128));
    truth["images"].push_back({{"id", i}, {"file_name", name}, {"width", 128}, {"height", 128}});
    const Json box = square ? Json{0, 0, 100, 100} : Json{0, 0, 20, 20};
    truth["annotations"].push_back({{"id", i},
                                    {"image_id", i},
                                    {"category_id", square ? 2 : 1},
                                    {"bbox", box},
                                    {"area", square ? 0 : 400},
                                    {"iscrowd", 0}});
    if (i == 9) continue;
    found.push_back({{"image_id", i},
                     {"category_id", square ? 2 : 1},
                     {"bbox", right ? box : Json{50, 50, 20, 20}},
                     {"score", 0.99 - 0.01 * i}});
  }
  put(folder_ / "data/annotations/instances_test.json", truth.dump());
  put(folder_ / "found.json", found.dump());
  const std::string config = write_config(folder_ / "data");
  const auto evaluated = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> argv{"evaluate",
                                  "--detections",
                                  path("found.json"),
                                  "--config",
                                  config,
                                  "--output",
                                  path("out"),
                                  "data.format=coco",
                                  "data.classes=[disc, square]",
                                  "data.test=test"};
    argv.insert(argv.end(), flags.begin(), flags.end());
    const Ran ran = run(argv);
    EXPECT_EQ(ran.code, 0) << ran.err;
    return metrics("out");
  };
  const auto eleven_points = [](const Json& json) { return by_name(json).at("disc").at("AP_11_point").get<double>(); };
  const Json plain = evaluated({});
  EXPECT_NEAR(eleven_points(plain), 0.568182, 1e-6);
  EXPECT_DOUBLE_EQ(plain["coco"]["AP_large"].get<double>(), 1);
  const Json floats = evaluated({"--float-thresholds"});
  EXPECT_NEAR(eleven_points(floats), 0.477273, 1e-6);
  EXPECT_EQ(floats["coco"], plain["coco"]);
  const Json annotated = evaluated({"--annotated-area"});
  EXPECT_TRUE(annotated["coco"]["AP_large"].is_null()) << annotated["coco"].dump();
  EXPECT_GT(annotated["coco"]["AP_small"].get<double>(), plain["coco"]["AP_small"].get<double>());
  EXPECT_EQ(annotated["coco"]["AP"], plain["coco"]["AP"]);
  EXPECT_EQ(annotated["classes"], plain["classes"]);
}

// Here a disc that nothing was found of: the only thing to draw is its truth.
TEST_F(Evaluate, PicturesShowTheTruth) {
  put_tiny_set(folder_ / "data", 2, "test", 0);
  put(folder_ / "found.json", "[]");
  const Ran ran = run({"evaluate", "--detections", path("found.json"), "--config", write_config(folder_ / "data"),
                       "--output", path("out"), "--pictures", "1", "data.test=test"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Image after = read_image(folder_ / "out/pictures/tiny_000.png");
  const Color color = class_color(0);
  int painted = 0;
  for (int x = 3; x < 19; ++x) {  // the lower side of the box
    const uint8_t* pixel = after.at(x, 22);
    painted += pixel[0] == color.r && pixel[1] == color.g && pixel[2] == color.b;
  }
  EXPECT_GT(painted, 3);
  EXPECT_LT(painted, 16) << "not dashed";
  EXPECT_FALSE(fs::exists(folder_ / "out/pictures/tiny_001.png"));
}

}  // namespace
}  // namespace gradlibra
