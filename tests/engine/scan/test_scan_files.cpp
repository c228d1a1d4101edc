// SPDX-License-Identifier: MIT
// What a scan leaves: tables that others read, a picture, and a summary that vouches for them and for nothing else.
#include "engine/scan/scan_files.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>

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
  std::string write(const Json& of, const std::vector<Detection>& found = kFound, const FileCalls* calls = nullptr) {
    SlideScan scan;
    scan.width = 150, scan.height = 118, scan.tiles = scan.done = 6, scan.empty = 1;
    scan.found = found;
    std::string said;
    write_scan(
        files(of), of, {{"checkpoint", "some"}}, scan, plain_image(9, static_cast<int>(found.size()) + 5), "slide.png",
        kClasses, [&](const std::string& line) { said += line + "\n"; }, calls);
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

// A disk that takes no more at the n-th file: what lies there then is neither taken for finished nor for somebody's
// work, neither after a second stop, with yet other options.
TEST_F(WrittenScan, AStopBetweenItsFilesLosesNothing) {
  const std::vector<Detection> others{kFound[0]};
  const Json third{{"weights", "3"}, {"--overlap", 16}};
  int stops = 0;
  for (int n = 0; n < 8; ++n) {
    static_cast<void>(write(first_));
    const auto stopped = [&](const Json& of, const std::vector<Detection>& found) {
      int left = n;
      FileCalls calls;
      calls.rename = [&](const char* from, const char* to) {
        if (left-- > 0) return std::rename(from, to);
        errno = ENOSPC;
        return -1;
      };
      try {
        EXPECT_EQ(write(of, found, &calls), "");
      } catch (const WriteError&) {
        return true;
      }
      return false;
    };
    if (!stopped(second_, others)) continue;
    ++stops;
    EXPECT_FALSE(former_scan(files(second_), second_).finished) << n;
    EXPECT_EQ(former_scan(files(first_), first_).finished, n == 0) << n;
    if (n % 2 == 1) static_cast<void>(stopped(third, {}));
    EXPECT_EQ(write(second_, others), "") << n;
    EXPECT_TRUE(former_scan(files(second_), second_).finished) << n;
  }
  EXPECT_EQ(stops, 5) << "the draft of the summary, three files, the summary";
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
  // Where only another file is gone, what was put right stays where it is.
  fs::remove(files(first_).cells);
  EXPECT_EQ(write(first_), "");
  EXPECT_TRUE(fs::exists(files(first_).cells));
  EXPECT_EQ(get(files(first_).table), table);
  EXPECT_HAS(write(second_), "slide.csv.kept_2");
}

// Pictures and tables of the user's own, under the same names.
TEST_F(WrittenScan, FilesOfOthersAreKept) {
  for (const char* name : {"slide.csv", "slide.png", "slide.json"}) put(folder_ / name, std::string("mine: ") + name);
  static_cast<void>(write(first_));
  for (const char* name : {"slide.csv", "slide.png", "slide.json"})
    EXPECT_EQ(get(folder_ / (std::string(name) + ".kept_1")), std::string("mine: ") + name);
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  for (const std::string& damaged :
       {std::string("{\"of\": 1}"), std::string("[]"), std::string("{\"of\": {}, \"files\": 3, \"complete\": true}"),
        "{\"of\": {}, \"files\": {\".csv\": " + deep + "}, \"complete\": true}"}) {
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
  // Which scan this is of cannot be told.
  put(folder_ / "slide.0000beef.found",
      "{\"of\": {\"x\": " + std::string(30'000, '[') + std::string(30'000, ']') + "}}\n");
  EXPECT_EQ(former_scan(files(second_), second_).changed, "weights");
  EXPECT_THROW(static_cast<void>(scan_files(folder_.path(), std::string(200, 'x'), first_)), SlideError);
  const std::vector<std::string> halves{"slide.csv.tmp.12.0123456789abcdef", "slide.png.tmp.12.0.png",
                                        "slide.12345678.found.tmp.7.ab"};
  const std::vector<std::string> others{"slide.new.png", "slide.x.tmp.y.csv", "slide.csv.tmp.bak", "slide.csv.kept_1"};
  for (const std::string& half : halves) put(folder_ / half, "half");
  for (const std::string& other : others) put(folder_ / other, "of another slide, or a person");
  remove_halves(files(first_));
  for (const std::string& half : halves) EXPECT_FALSE(fs::exists(folder_ / half)) << half;
  for (const std::string& other : others) EXPECT_TRUE(fs::exists(folder_ / other)) << other;
  EXPECT_TRUE(fs::exists(files(first_).journal));
}

}  // namespace
}  // namespace gradlibra
