// SPDX-License-Identifier: MIT
// scan as a user runs it: a folder of slides, one of them damaged; what is done stays done.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/apps/run_programs.h"
#include "tests/apps/start_weights.h"
#include "tests/data/slides/slide_files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class ScanProgram : public ProgramTest {
 protected:
  ScanProgram() {
    put_start_weights(folder_, 0.001);
    fs::create_directories(folder_ / "slides");
  }
  [[nodiscard]] std::vector<std::string> scan(std::vector<std::string> more = {}) const {
    std::vector<std::string> argv{"scan",        "--checkpoint",    path("weights.safetensors"),
                                  "--config",    path("tiny.yaml"), "--threads",
                                  "1",           "--device",        "cpu",
                                  "--slides",    path("slides"),    "--output",
                                  path("found"), "--min-score",     "0"};
    argv.insert(argv.end(), more.begin(), more.end());
    return argv;
  }
  // Bytes of the journals in a folder.
  [[nodiscard]] uintmax_t parts(const std::string& folder) const {
    std::error_code error;
    uintmax_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(folder_ / folder, error))
      if (entry.path().extension() == ".found") bytes += entry.file_size(error);
    return bytes;
  }
};

// A name in another encoding costs neither itself nor those behind it.
TEST_F(ScanProgram, NamesThatAreNoText) {
  for (const char* name : {"Pr\xe4parat.png", "z 1.png"}) write_image(folder_ / "slides" / name, smear(90, 80, {}));
  const Ran ran = run(scan());
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(fs::exists(folder_ / "found/z_1.csv"));
  EXPECT_HAS(run(scan()).out, "finished before\nz_1: finished before");
}

TEST_F(ScanProgram, ASlideBehindALinkIsNotWrittenOver) {
  write_image(folder_ / "elsewhere.png", smear(90, 80, {}));
  fs::create_symlink(folder_ / "elsewhere.png", folder_ / "slides/elsewhere.png");
  const std::string before = get(folder_ / "elsewhere.png");
  std::vector<std::string> argv = scan();
  *std::find(argv.begin(), argv.end(), path("found")) = folder_.path().string();
  const Ran ran = run(argv);
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.out, "which results would go over");
  EXPECT_EQ(get(folder_ / "elsewhere.png"), before);
}

TEST_F(ScanProgram, ScansAFolderAndGoesOn) {
  const std::vector<Cell> cells{{"disc", 20, 12, 44, 36}, {"square", 80, 60, 110, 98}};
  write_image(folder_ / "slides/a.png", smear(200, 150, cells));
  put(folder_ / "slides/b.tif", tiff_bytes(smear(170, 130, cells), {.tile_width = 64, .tile_height = 32}));
  const std::string whole = get(folder_ / "slides/a.png");
  put(folder_ / "slides/a.png", whole.substr(0, whole.size() / 3));
  put(folder_ / "slides/notes.txt", "no slide");
  Ran ran = run(scan());
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.out, "a: FAILED: ");
  EXPECT_HAS(ran.out, "b: 170 x 130, ");
  EXPECT_HAS(ran.err, "passed over: 1 .txt");
  EXPECT_HAS(ran.err, "1 of 2 slides failed");
  put(folder_ / "slides/a.png", whole);
  ran = run(scan());
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "b: finished before");
  for (const char* file : {"a.csv", "a.geojson", "a.png", "a.json", "b.csv"})
    EXPECT_TRUE(fs::exists(folder_ / "found" / file)) << file;
  const Json summary = Json::parse(get(folder_ / "found/a.json"));
  int64_t objects = 0;
  for (const Json& count : summary["objects"]) objects += count.get<int64_t>();
  const Json geo = Json::parse(get(folder_ / "found/a.geojson"));
  EXPECT_EQ(static_cast<size_t>(objects), geo["features"].size());
  EXPECT_GT(objects, 0);
  // What was found is what make-patches reads.
  fs::rename(folder_ / "slides/notes.txt", folder_ / "notes.txt");
  const Ran patches =
      run({"make-patches", "--slides", path("slides/a.png"), "--annotations", path("found/a.csv"), "--output",
           path("patches"), "--size", "64", "--overlap", "16", "--val", "0", "--test", "0", "data.bad_box=drop"});
  ASSERT_EQ(patches.code, 0) << patches.err;
  EXPECT_GT(Json::parse(get(folder_ / "patches/annotations/train.json"))["annotations"].size(), 0u);
  // What was taken away is written again, without a look at a tile.
  fs::rename(folder_ / "found/a.geojson", folder_ / "mine.geojson");
  ran = run(scan());
  EXPECT_HAS(ran.out, "a.geojson is gone: written again");
  EXPECT_HAS(ran.out, "12 done before");
  EXPECT_EQ(get(folder_ / "found/a.geojson"), get(folder_ / "mine.geojson"));
  const std::string table = get(folder_ / "found/a.csv");
  // Another option: what changed is said, and a table that was put right is kept.
  put(folder_ / "found/a.csv", "image,class,xmin,ymin,xmax,ymax,score\na.png,disc,20,12,44,36,1\n");
  ran = run(scan({"--overlap", "8"}));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "a: anew: changed --overlap");
  EXPECT_HAS(ran.out, "a.csv.kept_1");
  // And back: nothing is looked at again.
  ran = run(scan());
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, "12 done before");
  EXPECT_EQ(get(folder_ / "found/a.csv"), table);
}

// Results may lie in a folder beside the slide, of its name.
TEST_F(ScanProgram, AFolderOfTheSlidesName) {
  write_image(folder_ / "slides/a.png", smear(100, 90, {}));
  std::vector<std::string> argv = scan();
  *std::find(argv.begin(), argv.end(), path("found")) = path("slides/a");
  EXPECT_EQ(run(argv).code, 0);
  EXPECT_HAS(run(argv).out, "a: finished before");
}

TEST_F(ScanProgram, StoppedByASignalItGoesOnWithTheSameResult) {
  write_image(folder_ / "slides/a.png", smear(1500, 1200, {{"disc", 20, 12, 44, 36}}));
  Process process(folder_, scan());
  for (int i = 0; i < 12000 && parts("found") < 3000; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  process.send(SIGTERM);
  Ran ran = process.wait();
  EXPECT_EQ(ran.code, 128 + SIGTERM) << ran.out << ran.err;
  EXPECT_HAS(ran.out, "a: stopped after ");
  ran = run(scan());
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_HAS(ran.out, " done before");
  const std::string table = get(folder_ / "found/a.csv");
  ran = run(scan({"--output", path("again")}));
  EXPECT_NE(ran.code, 0) << "an option that is there twice";
  std::vector<std::string> argv = scan();
  *std::find(argv.begin(), argv.end(), path("found")) = path("again");
  EXPECT_EQ(run(argv).code, 0);
  EXPECT_EQ(get(folder_ / "again/a.csv"), table);
}

TEST_F(ScanProgram, WrongUse) {
  write_image(folder_ / "slides/a.png", smear(100, 90, {}));
  const auto refused = [&](std::vector<std::string> more) { return run(scan(std::move(more))); };
  Ran ran = refused({"--size", "128"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "larger than the network's input 64 x 64");
  ran = refused({"loader.resize=fit"});
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "--size is needed");
  ran = refused({"--overlap", "64"});
  EXPECT_EQ(ran.code, 2);
  std::vector<std::string> argv = scan();
  *std::find(argv.begin(), argv.end(), path("found")) = path("slides");
  ran = run(argv);
  EXPECT_EQ(ran.code, 2);
  EXPECT_HAS(ran.err, "the folder of the slides");
  fs::remove(folder_ / "slides/a.png");
  ran = run(scan());
  EXPECT_EQ(ran.code, 1);
  EXPECT_HAS(ran.err, "holds no slide");
}

}  // namespace
}  // namespace gradlibra
