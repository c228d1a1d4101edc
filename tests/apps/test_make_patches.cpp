// SPDX-License-Identifier: MIT
// make-patches as a user runs it: slides in, a data set out that is inspected and trained on.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/apps/run_programs.h"
#include "tests/data/slides/slide_files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class PatchProgram : public ProgramTest {
 protected:
  // Five slides of 200 x 170, each with the three classes of the tiny detector.
  void put_slides() {
    std::string table = kCsvHead;
    for (int i = 0; i < 5; ++i) {
      const int d = 7 * i;
      const std::vector<Cell> cells{{"disc", 10 + d, 12, 34 + d, 36},
                                    {"square", 60 + d, 70 + d, 90 + d, 98 + d},
                                    {"bar", 120, 100 + d, 156, 118 + d},
                                    {"disc", 150, 20, 170, 44}};
      const std::string name = "slide" + std::to_string(i) + (i == 0 ? ".jpg" : ".png");
      fs::create_directories(folder_ / "slides");
      write_image(folder_ / ("slides/" + name), smear(200, 170, cells));
      table += csv_lines(name, cells);
    }
    put(folder_ / "cells.csv", table);
  }
  Ran make(std::vector<std::string> more) {
    std::vector<std::string> argv{"make-patches", "--slides", path("slides"), "--annotations", path("cells.csv")};
    argv.insert(argv.end(), more.begin(), more.end());
    return run(argv);
  }
};

TEST_F(PatchProgram, PatchesAreInspectedAndTrainedOn) {
  put_slides();
  for (const std::string format : {"coco", "voc"}) {
    const std::string out = path("patches_" + format);
    const Ran made = make({"--output", out, "--size", "64", "--overlap", "8", "--format", format});
    ASSERT_EQ(made.code, 0) << made.err;
    EXPECT_HAS(made.out, "boxes in patches");
    EXPECT_HAS(made.out, "data.format=" + format + " data.root=" + out);
    const Json manifest = Json::parse(get(out + "/patches.json"));
    const Json& splits = manifest["splits"];
    const std::string config = write_config(out);
    const std::vector<std::string> data{"data.format=" + format, "data.root=" + out, "data.val=val", "data.test=test",
                                        "data.classes=[bar, disc, square]"};
    std::vector<std::string> argv{"inspect", "data", "--config", config, "--output", path("report_" + format)};
    argv.insert(argv.end(), data.begin(), data.end());
    const Ran inspected = run(argv);
    const Json report = Json::parse(get(folder_ / ("report_" + format + "/data.json")));
    EXPECT_EQ(report["splits"]["train"]["images"], splits["train"]["patches"]) << inspected.out;
    EXPECT_EQ(report["splits"]["test"]["images"], splits["test"]["patches"]);
    for (const char* name : {"disc", "square", "bar"}) {
      const Json& boxes = splits["test"]["boxes"][name];
      EXPECT_EQ(report["splits"]["test"]["classes"][name]["boxes"],
                boxes["whole"].get<int64_t>() + boxes["cut"].get<int64_t>() + boxes["ignored"].get<int64_t>())
          << name;
    }
    EXPECT_EQ(inspected.out.find("[outside_box"), std::string::npos) << inspected.out;
    EXPECT_EQ(inspected.out.find(", fatal]"), std::string::npos) << inspected.out;
    argv = {
        "train", "--config", config, "--work-dir", path("work_" + format), "schedule.epochs=1", "loader.batch_size=8"};
    argv.insert(argv.end(), data.begin(), data.end());
    argv.emplace_back("data.val=");
    const Ran trained = run(argv);
    EXPECT_EQ(trained.code, 0) << trained.err << trained.out;
    EXPECT_HAS(get(folder_ / ("work_" + format + "/log.jsonl")), "\"step\":1");
  }
}

TEST_F(PatchProgram, AFailureCostsNothingThatWasMade) {
  put_slides();
  const std::string whole = get(folder_ / "slides/slide2.png");
  put(folder_ / "slides/slide2.png", whole.substr(0, whole.size() - 300));
  const Ran failed = make({"--output", path("out"), "--size", "64", "--overlap", "16"});
  EXPECT_EQ(failed.code, 1);
  EXPECT_HAS(failed.err, "slide2.png: cannot be decoded from row");
  EXPECT_HAS(failed.err, "out.part");
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  put(folder_ / "slides/slide2.png", whole);
  const Ran made = make({"--output", path("out"), "--size", "64", "--overlap", "16"});
  EXPECT_EQ(made.code, 0) << made.err;
  EXPECT_HAS(made.out, "finished before");
  const Ran again = make({"--output", path("out"), "--size", "64", "--overlap", "16"});
  EXPECT_EQ(again.code, 0);
  EXPECT_HAS(again.out, "all of this was there already");
}

// Other boxes or pixels under the same names and sizes: nothing is taken for theirs, and nothing is overwritten.
TEST_F(PatchProgram, AFinishedSetOfOtherContentIsRefused) {
  put_slides();
  const std::vector<std::string> again{"--output", path("out"), "--size", "64", "--overlap", "0"};
  ASSERT_EQ(make(again).code, 0);
  const std::string manifest = get(folder_ / "out/patches.json"), table = get(folder_ / "cells.csv");
  const auto with = [&](std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  put(folder_ / "cells.csv", with(table, "slide0.jpg,disc,10,12,34,36", "slide0.jpg,disc,13,12,37,36"));
  const Ran moved = make(again);
  EXPECT_EQ(moved.code, 1) << moved.out;
  EXPECT_HAS(moved.err, "(slide slide0: annotations); choose another folder");
  put(folder_ / "cells.csv", table);
  write_image(folder_ / "slides/slide3.png", plain_image(200, 170));
  const Ran replaced = make(again);
  EXPECT_EQ(replaced.code, 1) << replaced.out;
  EXPECT_HAS(replaced.err, "(slide slide3: file); choose another folder");
  EXPECT_EQ(get(folder_ / "out/patches.json"), manifest);
}

// The real cells: seven pictures of 1600 x 1200 as small slides.
TEST_F(PatchProgram, RealCells) {
  const char* given = std::getenv("GRADLIBRA_TEST_DATA");
  const fs::path data = fs::path(given != nullptr ? given : GRADLIBRA_TEST_DATA) / "ccagt";
  if (!fs::exists(data)) GTEST_SKIP() << "no real data in " << data << "; GRADLIBRA_TEST_DATA may name its folder";
  const Ran made = run({"make-patches", "--slides", (data / "images").string(), "--annotations",
                        (data / "annotations/CCAgT_COCO_OD.json").string(), "--output", path("out"), "--image", "jpg"});
  ASSERT_EQ(made.code, 0) << made.err;
  const Json manifest = Json::parse(get(folder_ / "out/patches.json"));
  int64_t boxes = 0;
  for (const Json& slide : manifest["slides"]) boxes += slide["boxes"].get<int64_t>();
  EXPECT_EQ(boxes, 231);
  EXPECT_EQ(manifest["slides"].size(), 7u);
  for (const char* split : {"train", "val"}) EXPECT_EQ(manifest["splits"][split]["boxes_in_no_patch"], 0) << split;
}

TEST_F(PatchProgram, WrongUse) {
  put_slides();
  const Ran overlap = make({"--output", path("out"), "--size", "64", "--overlap", "64"});
  EXPECT_EQ(overlap.code, 2);
  EXPECT_HAS(overlap.err, "--overlap is 64, expected 0 or more and less than --size (64)");
  EXPECT_EQ(make({"--output", path("out"), "--group-by", "("}).code, 2);
  EXPECT_EQ(make({}).code, 2);
  EXPECT_EQ(make({"--output", path("out"), "--keep", "0"}).code, 2);
  EXPECT_EQ(make({"--output", path("out"), "--keep", "nan"}).code, 2);
  EXPECT_FALSE(fs::exists(folder_ / "out.part"));
}

}  // namespace
}  // namespace gradlibra
