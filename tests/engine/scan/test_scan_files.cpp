// SPDX-License-Identifier: MIT
// What a scan leaves: tables that others read, a picture, and a summary that vouches for them and for nothing else.
#include "engine/scan/scan_files.h"

#include <gtest/gtest.h>

#include <span>

#include "runtime/base/xxh64.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

const std::vector<std::string> kClasses{"LSIL", "x", "a \"b\", c"};
const std::vector<Detection> kFound{{{10, 20, 30.256F, 44}, 2, 0.91}, {{60, 70, 90, 98.57F}, 0, 0.5}};

TEST(ScanFiles, TablesForOthers) {
  EXPECT_EQ(scan_csv("s,1.png", kFound, kClasses),
            "image,class,xmin,ymin,xmax,ymax,score\n"
            "\"s,1.png\",\"a \"\"b\"\", c\",10.00,20.00,30.26,44.00,0.9100\n"
            "\"s,1.png\",LSIL,60.00,70.00,90.00,98.57,0.5000\n");
  EXPECT_EQ(scan_csv("s.svs", {}, kClasses), "image,class,xmin,ymin,xmax,ymax,score\ns.svs,,,,,,\n");
  const std::string text = scan_geojson(kFound, kClasses);
  EXPECT_HAS(text, "[90.0,98.57]");  // no digits of noise
  const Json geo = Json::parse(text);
  ASSERT_EQ(geo["features"].size(), 2u);
  const Json& feature = geo["features"][0];
  EXPECT_EQ(feature["geometry"]["coordinates"].dump(),
            "[[[10.0,20.0],[30.26,20.0],[30.26,44.0],[10.0,44.0],[10.0,20.0]]]");
  EXPECT_EQ(feature["properties"]["classification"]["name"], "a \"b\", c");
  EXPECT_EQ(feature["properties"]["measurements"]["score"], 0.91);
  EXPECT_EQ(Json::parse(scan_geojson({}, kClasses))["features"].size(), 0u);
}

TEST(ScanFiles, CellsAreShownByClass) {
  const TemporaryFolder folder;
  Image image = plain_image(150, 118);
  for (int y = 70; y < 98; ++y)
    for (int x = 60; x < 90; ++x) image.at(x, y)[1] = 251;
  write_image(folder / "s.png", image);
  const auto slide = open_slide(folder / "s.png", 1 << 30);
  const Image cells = draw_cells(*slide, 512, kFound, kClasses);
  EXPECT_EQ(cells.height, 2 * 132 + 4);
  EXPECT_EQ(cells.width, 132 + 132);
  // The first row is of class 0, whose cell is in the middle of its place.
  EXPECT_EQ(cells.at(132 + 64, 4 + 64)[1], 251);
  EXPECT_NE(cells.at(132 + 64, 136 + 64)[1], 251);
  EXPECT_GT(draw_cells(*slide, 512, {}, kClasses).width, 100);
}

class WrittenScan : public ::testing::Test {
 protected:
  [[nodiscard]] ScanFiles files(const Json& of) const { return scan_files(folder_.path(), "slide", of); }
  // What was told while it was written.
  std::string write(const Json& of, const std::vector<Detection>& found = kFound) {
    SlideScan scan;
    scan.width = 150, scan.height = 118, scan.tiles = scan.done = 6, scan.empty = 1;
    scan.found = found;
    std::string said;
    write_scan(files(of), of, {{"checkpoint", "some"}}, scan, plain_image(9, static_cast<int>(found.size()) + 5),
               "slide.png", kClasses, [&](const std::string& line) { said += line + "\n"; });
    return said;
  }
  TemporaryFolder folder_;
  const Json first_{{"weights", "1"}, {"--overlap", 16}}, second_{{"weights", "2"}, {"--overlap", 16}};
};

TEST_F(WrittenScan, IsFinishedForItsOwnFingerprintAlone) {
  EXPECT_FALSE(former_scan(files(first_), first_).finished);
  EXPECT_EQ(write(first_), "");
  EXPECT_TRUE(former_scan(files(first_), first_).finished);
  const FormerScan other = former_scan(files(second_), second_);
  EXPECT_FALSE(other.finished);
  EXPECT_EQ(other.changed, "weights");
  put(files(second_).journal, "there is something to go on from");
  EXPECT_EQ(former_scan(files(second_), second_).changed, "");
  const Json summary = Json::parse(get(files(first_).summary));
  EXPECT_EQ(summary["objects"].dump(), R"({"LSIL":1,"x":0,"a \"b\", c":1})");
  EXPECT_EQ(summary["tiles"], 6);
  EXPECT_EQ(summary["checkpoint"], "some");
  for (const fs::path& file : {files(first_).table, files(first_).geojson, files(first_).cells}) {
    fs::remove(file);
    const FormerScan lacking = former_scan(files(first_), first_);
    EXPECT_FALSE(lacking.finished);
    EXPECT_EQ(lacking.gone, std::vector<fs::path>{file});
    EXPECT_EQ(write(first_), "");
  }
}

// At any stop between its files, what lies there is neither taken for finished nor for somebody's work.
TEST_F(WrittenScan, AnEndBetweenItsFilesIsNoFinish) {
  const std::vector<Detection> others{kFound[0]};
  for (const char* name : {".csv", ".geojson", ".json"}) {
    static_cast<void>(write(first_));
    const fs::path file = folder_ / (std::string("slide") + name);
    // A folder of this name beside it stands for a disk that takes no more: nothing can be renamed over it.
    const std::string before = get(file);
    fs::remove(file);
    fs::create_directories(file / "in the way");
    std::string said;
    try {
      said = write(second_, others);
    } catch (const std::runtime_error&) {
      said = "failed";
    }
    if (said == "failed") {
      fs::remove_all(file);
      put(file, before);
      EXPECT_FALSE(former_scan(files(second_), second_).finished) << name;
    } else {
      EXPECT_HAS(said, "slide" + std::string(name) + ": is not as a scan has written it");
    }
    EXPECT_EQ(write(second_, others).find("slide.csv: is not"), std::string::npos);
    EXPECT_TRUE(former_scan(files(second_), second_).finished);
  }
}

TEST_F(WrittenScan, AStopIsToldFromAnEdit) {
  const std::vector<Detection> others{kFound[0]};
  static_cast<void>(write(first_));
  const std::string table = get(files(first_).table), geojson = get(files(first_).geojson);
  static_cast<void>(write(second_, others));
  // As after a kill behind the table: the draft of the summary, a new table, and the rest of before.
  Json draft = Json::parse(get(files(second_).summary));
  Json of_first = Json::object();
  for (const auto& [ending, text] : {std::pair(".csv", table), std::pair(".geojson", geojson)})
    of_first[ending] = xxh64_hex(std::as_bytes(std::span(text)));
  draft["complete"] = false;
  draft["former"] = of_first;
  put(files(second_).summary, draft.dump());
  put(files(second_).geojson, geojson);
  EXPECT_FALSE(former_scan(files(second_), second_).finished);
  EXPECT_FALSE(former_scan(files(first_), first_).finished);
  EXPECT_EQ(write(second_, others), "") << "none of it is anybody's work";
  EXPECT_TRUE(former_scan(files(second_), second_).finished);
}

TEST_F(WrittenScan, WhatWasPutRightIsKept) {
  static_cast<void>(write(first_));
  EXPECT_EQ(write(second_), "") << "as it was written: nobody's work";
  const std::string table = get(files(second_).table) + "slide.png,LSIL,1,2,30,40,1\n", geojson = "{\"mine\": 1}";
  put(files(second_).table, table);
  put(files(second_).geojson, geojson);
  const FormerScan former = former_scan(files(second_), second_);
  EXPECT_TRUE(former.finished);
  EXPECT_EQ(former.edited.size(), 2u);
  const std::string said = write(first_);
  EXPECT_HAS(said, "slide.csv.kept_1");
  EXPECT_HAS(said, "slide.geojson.kept_1");
  EXPECT_EQ(get(folder_ / "slide.csv.kept_1"), table);
  EXPECT_EQ(get(folder_ / "slide.geojson.kept_1"), geojson);
  put(files(first_).table, table);
  EXPECT_HAS(write(second_), "slide.csv.kept_2");
}

// Pictures and tables of the user's own, under the same names.
TEST_F(WrittenScan, FilesOfOthersAreKept) {
  for (const char* name : {"slide.csv", "slide.png", "slide.json"}) put(folder_ / name, std::string("mine: ") + name);
  static_cast<void>(write(first_));
  for (const char* name : {"slide.csv", "slide.png", "slide.json"})
    EXPECT_EQ(get(folder_ / (std::string(name) + ".kept_1")), std::string("mine: ") + name);
  for (const char* damaged : {"{\"of\": 1}", "[]", "{\"of\": {}, \"files\": 3, \"complete\": true}"}) {
    put(files(first_).summary, damaged);
    EXPECT_FALSE(former_scan(files(first_), first_).finished);
    EXPECT_HAS(write(first_), "slide.json: is not as a scan has written it");
  }
}

TEST_F(WrittenScan, OtherOptionsHaveAJournalOfTheirOwn) {
  EXPECT_NE(files(first_).journal, files(second_).journal);
  put(files(first_).journal, Json{{"of", first_}}.dump() + "\n");
  fs::create_directories(folder_ / "slide.12345678.found");  // none of ours
  EXPECT_EQ(former_scan(files(first_), first_).changed, "");
  EXPECT_EQ(former_scan(files(second_), second_).changed, "weights");
  EXPECT_THROW(static_cast<void>(scan_files(folder_.path(), std::string(200, 'x'), first_)), SlideError);
  put(folder_ / "slide.csv.tmp.12.0123456789abcdef", "half");
  remove_halves(files(first_));
  EXPECT_FALSE(fs::exists(folder_ / "slide.csv.tmp.12.0123456789abcdef"));
  EXPECT_TRUE(fs::exists(files(first_).journal));
}

}  // namespace
}  // namespace gradlibra
