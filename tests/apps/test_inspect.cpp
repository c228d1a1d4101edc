// SPDX-License-Identifier: MIT
// `inspect` as a user runs it: configuration, model, one step, and the defects of planted and of published data.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>

#include "runtime/base/safetensors.h"
#include "tests/apps/run_programs.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Inspect = ProgramTest;

TEST_F(Inspect, ConfigIsReadBack) {
  const Ran first = run({"inspect", "config", "--config", write_config("somewhere"), "schedule.lr=0.125"});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_HAS(first.out, "0.125");
  put(folder_ / "resolved.yaml", first.out);
  const Ran second = run({"inspect", "config", "--config", path("resolved.yaml")});
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(second.out, first.out);
}

TEST_F(Inspect, ModelAndStep) {
  put_tiny_set(folder_ / "data", 3);
  const std::string config = write_config(folder_ / "data");
  Ran ran = run({"inspect", "model", "--config", config});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "total, one 64x64 image");
  ran = run({"inspect", "model", "--config", config, "--json"});
  EXPECT_EQ(Json::parse(ran.out).at("height"), 64);

  const std::string text = get(config);
  ran = run({"inspect", "step", "--config", config, "--output", config, "--threads", "1"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, config + ": is read, and would be written over");
  EXPECT_EQ(get(config), text);
  ran = run({"inspect", "step", "--config", config, "--output", path("step.safetensors"), "--threads", "1", "--ids",
             "tiny_002,tiny_000", "train.seed=4"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "loss.loss_cls");
  const SafetensorsFile step = read_safetensors(folder_ / "step.safetensors");
  EXPECT_EQ(step.metadata.at("images"), R"(["tiny_002","tiny_000"])");
  EXPECT_EQ(step.tensors.at("input").shape, (std::vector<int64_t>{2, 3, 64, 64}));
  ran = run({"inspect", "step", "--config", config, "--output", path("x"), "--threads", "1", "--ids", "tiny_077"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "tiny_077");
}

TEST_F(Inspect, DataFindsEveryPlantedDefect) {
  const fs::path root = folder_ / "data";
  put_tiny_set(root, 3);
  const auto tiny = [&](const std::string& id, const std::vector<VocObject>& objects) {
    put_tiny(root, {id, 64, 64, {}});
    put(root / "Annotations" / (id + ".xml"), voc_xml(id + ".png", 64, 64, objects));
  };
  tiny("boxes", {{"disc", "10", "10", "30", "30"},
                 {"disc", "40", "10", "20", "30"},     // line 17: swapped
                 {"disc", "20", "20", "20", "20"},     // line 25: empty
                 {"disc", "100", "10", "120", "30"},   // line 33: outside
                 {"disc", "50", "10", "70", "30"},     // line 41: partly outside
                 {"disc", "nan", "10", "30", "30"}});  // line 49
  tiny("stranger", {{"disc", "10", "10", "30", "30"}, {"ghost", "10", "10", "30", "30"}});
  tiny("gone", {{"disc", "10", "10", "30", "30"}});
  fs::remove(root / "JPEGImages/gone.png");
  tiny("size", {{"disc", "10", "10", "30", "30"}});
  write_image(root / "JPEGImages/size.png", plain_image(64, 48));
  tiny("tiny_001", {{"disc", "10", "10", "30", "30"}});  // listed a second time
  const auto jpeg = [&](const std::string& id, const std::function<std::string(const std::string&)>& change) {
    tiny(id, {{"disc", "10", "10", "30", "30"}});
    fs::remove(root / "JPEGImages" / (id + ".png"));
    const fs::path file = root / "JPEGImages" / (id + ".jpg");
    write_image(file, gradient_image(64, 64));
    put(file, change(get(file)));
    put(root / "Annotations" / (id + ".xml"), voc_xml(id + ".jpg", 64, 64, {{"disc", "10", "10", "30", "30"}}));
  };
  jpeg("cut", [](const std::string& bytes) { return bytes.substr(0, bytes.size() / 2); });
  jpeg("turned", [](const std::string& bytes) { return with_exif(bytes, 6, true); });
  write_image(root / "JPEGImages/unlisted.png", plain_image(64, 64));
  std::ofstream(root / "ImageSets/Main/train.txt", std::ios::app) << "unheard_of\n";

  const Ran ran =
      run({"inspect", "data", "--config", write_config(root), "--output", path("report"), "--pictures", "2"});
  EXPECT_EQ(ran.code, 4) << ran.err;
  EXPECT_EQ(get(folder_ / "report/data.txt"), ran.out);
  const Json report = Json::parse(get(folder_ / "report/data.json"));
  const auto expect = [&](const std::string& kind, const std::string& action, const std::string& file,
                          const std::string& where) {
    for (const Json& f : report.at("findings")) {
      if (f.at("kind") != kind || f.at("action") != action || !f.at("file").get<std::string>().ends_with(file))
        continue;
      if (f.at("where").get<std::string>().find(where) == std::string::npos) continue;
      EXPECT_HAS(ran.out, f.at("message").get<std::string>());
      return;
    }
    ADD_FAILURE() << "no finding " << kind << ", " << action << ", " << file << ", " << where << " in\n" << ran.out;
  };
  expect("swapped_box", "fixed", "boxes.xml", "line 17");
  expect("empty_box", "object_dropped", "boxes.xml", "line 25");
  expect("outside_box", "object_dropped", "boxes.xml", "line 33");
  expect("outside_box", "clipped", "boxes.xml", "line 41");
  expect("not_finite", "object_dropped", "boxes.xml", "line 49");
  expect("unknown_class", "fatal", "stranger.xml", "line 1");
  expect("missing_image", "fatal", "gone.xml", "");
  expect("size_mismatch", "fatal", "size.xml", "line 3");
  expect("duplicate_id", "image_dropped", "train.txt", "line 8");
  expect("unreadable_image", "fatal", "cut.jpg", "");
  expect("exif_rotation", "none", "turned.jpg", "");
  expect("unused_image", "none", "unlisted.png", "");
  EXPECT_EQ(report.at("finding_counts").at("unused_image").at("none"), 1);  // what was dropped has a reason of its own
  EXPECT_HAS(ran.out, "unheard_of");
  int pictures = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "report/pictures")) pictures += entry.is_regular_file();
  EXPECT_EQ(pictures, 2);

  // Training takes none of this in silence: the first thing that its policies do not cover is named.
  const Ran train = run({"train", "--config", write_config(root), "--work-dir", path("work")});
  EXPECT_EQ(train.code, 1);
  EXPECT_HAS(train.err, "data.bad_image is 'error'");
  // A clean set has no findings.
  const fs::path clean = folder_ / "clean";
  put_tiny_set(clean, 3);
  const Ran good = run({"inspect", "data", "--config", write_config(clean)});
  EXPECT_EQ(good.code, 0) << good.out;
  EXPECT_HAS(good.out, "Findings: none");
}

// Published data sets with defects of their own, where there is a copy of them.
class RealData : public ProgramTest {
 protected:
  static fs::path data() {
    const char* given = std::getenv("GRADLIBRA_TEST_DATA");
    return given != nullptr ? given : GRADLIBRA_TEST_DATA;
  }
  void SetUp() override {
    if (!fs::is_directory(data()))
      GTEST_SKIP() << "no real data in " << data() << "; GRADLIBRA_TEST_DATA may name its folder";
  }
  // The report of `inspect data` and its exit code.
  std::pair<Json, int> inspect(std::vector<std::string> values) {
    std::vector<std::string> argv{"inspect", "data", "--output", path("report"), "loader.resize=fit"};
    argv.insert(argv.end(), values.begin(), values.end());
    const Ran ran = run(argv);
    EXPECT_TRUE(ran.code == 0 || ran.code == 4) << ran.err;
    return {Json::parse(get(folder_ / "report/data.json")), ran.code};
  }
};

TEST_F(RealData, Bccd) {
  if (!fs::is_directory(data() / "bccd")) GTEST_SKIP() << "no bccd in " << data();
  const auto [report, code] =
      inspect({"data.root=" + (data() / "bccd").string(), "data.classes=[RBC, WBC, Platelets]"});
  EXPECT_EQ(code, 4);
  const Json& splits = report.at("splits");
  EXPECT_EQ(splits.at("train").at("images"), 205);
  EXPECT_EQ(splits.at("val").at("images"), 87);
  EXPECT_EQ(splits.at("test").at("images"), 72);
  int64_t boxes = 0, empty = 0, changed = 0;
  for (const char* split : {"train", "val", "test"})
    for (const auto& [name, count] : splits.at(split).at("classes").items()) boxes += count.at("boxes").get<int64_t>();
  for (const Json& f : report.at("findings")) {
    changed += f.at("action") != "none";
    if (f.at("kind") != "empty_box") continue;
    ++empty;
    const auto file = f.at("file").get<std::string>(), where = f.at("where").get<std::string>();
    EXPECT_TRUE((file.ends_with("BloodImage_00338.xml") && where.find("object 12") != std::string::npos) ||
                (file.ends_with("BloodImage_00343.xml") && where.find("object 3") != std::string::npos))
        << f.dump();
    EXPECT_HAS(where, "line ");
  }
  EXPECT_EQ(empty, 2);
  EXPECT_EQ(changed, 2);
  // One of the two is in the training split, and dropped; in an evaluation it counts as missed.
  EXPECT_EQ(boxes, 4888 - 1);
  // Fifteen images without a single red cell, which every other one shows.
  EXPECT_EQ(report.at("finding_counts").at("class_missing_from_image").at("none").get<int>() >= 15, true);
}

TEST_F(RealData, ChulaRbc12) {
  if (!fs::is_directory(data() / "chula_rbc12")) GTEST_SKIP() << "no chula_rbc12 in " << data();
  const auto [report, code] =
      inspect({"data.format=coco", "data.root=" + (data() / "chula_rbc12").string(), "data.test=\"\""});
  EXPECT_EQ(report.at("classes").size(), 13u);
  EXPECT_EQ(report.at("classes").at(0), "Normal cell");
  EXPECT_EQ(report.at("splits").at("train").at("images"), 84);
  EXPECT_EQ(report.at("splits").at("val").at("images"), 36);
  EXPECT_EQ(report.at("splits").at("train").at("classes").at("Normal cell").at("boxes"), 814);  // category id 0
  EXPECT_EQ(report.at("splits").at("val").at("classes").at("Elliptocyte").at("boxes"), 88);
  EXPECT_EQ(code, 0) << report.at("finding_counts").dump();
}

TEST_F(RealData, Ccagt) {
  if (!fs::is_directory(data() / "ccagt")) GTEST_SKIP() << "no ccagt in " << data();
  std::string file;
  for (const auto& entry : fs::recursive_directory_iterator(data() / "ccagt"))
    if (entry.path().extension() == ".json") file = fs::relative(entry.path(), data() / "ccagt").string();
  const auto [report, code] = inspect({"data.format=coco", "data.root=" + (data() / "ccagt").string(),
                                       "data.train=" + file, "data.val=\"\"", "data.test=\"\""});
  EXPECT_EQ(report.at("splits").at("train").at("images"), 7);
  EXPECT_EQ(report.at("classes").size(), 7u);
  int64_t boxes = 0;
  for (const auto& [name, count] : report.at("splits").at("train").at("classes").items())
    boxes += count.at("boxes").get<int64_t>();
  EXPECT_EQ(boxes, 231);
  EXPECT_EQ(report.at("finding_counts").at("guessed_file_name").begin().value(), 7);  // no extensions in the file
}

}  // namespace
}  // namespace gradlibra
