// SPDX-License-Identifier: MIT
// What a scan leaves: tables that others read, a picture, and a summary that vouches for them and for nothing else.
#include "engine/scan/scan_files.h"

#include <gtest/gtest.h>

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
  fs::path write(const Json& of) {
    const SlideScan scan{.width = 150, .height = 118, .tiles = 6, .done = 6, .empty = 1, .found = kFound};
    return write_scan(files(of), of, scan, plain_image(9, 9), "slide.png", kClasses);
  }
  TemporaryFolder folder_;
  const Json first_{{"weights", "1"}, {"--overlap", 16}}, second_{{"weights", "2"}, {"--overlap", 16}};
};

TEST_F(WrittenScan, IsFinishedForItsOwnFingerprintAlone) {
  EXPECT_FALSE(former_scan(files(first_), first_).finished);
  put(files(first_).journal, "a journal");
  EXPECT_EQ(write(first_), "");
  EXPECT_FALSE(fs::exists(files(first_).journal));
  EXPECT_TRUE(former_scan(files(first_), first_).finished);
  const FormerScan other = former_scan(files(second_), second_);
  EXPECT_FALSE(other.finished);
  EXPECT_EQ(other.changed, "weights");
  const Json summary = Json::parse(get(files(first_).summary));
  EXPECT_EQ(summary["objects"].dump(), R"({"LSIL":1,"x":0,"a \"b\", c":1})");
  EXPECT_EQ(summary["tiles"], 6);
  // A file that is gone or empty: all is made again.
  for (const fs::path& file : {files(first_).table, files(first_).cells}) {
    put(file, "");
    EXPECT_FALSE(former_scan(files(first_), first_).finished) << file;
    static_cast<void>(write(first_));
    fs::remove(file);
    EXPECT_FALSE(former_scan(files(first_), first_).finished) << file;
    static_cast<void>(write(first_));
  }
}

// Files of which only some have been written are vouched for by no summary of before.
TEST_F(WrittenScan, AnEndBetweenItsFilesIsNoFinish) {
  static_cast<void>(write(first_));
  fs::remove(files(second_).geojson);
  fs::create_directories(files(second_).geojson / "in the way");
  EXPECT_THROW(static_cast<void>(write(second_)), std::runtime_error);
  fs::remove_all(files(second_).geojson);
  put(files(second_).geojson, "of the first");
  EXPECT_FALSE(former_scan(files(first_), first_).finished);
  EXPECT_FALSE(former_scan(files(second_), second_).finished);
}

TEST_F(WrittenScan, ATableThatWasPutRightIsKept) {
  static_cast<void>(write(first_));
  EXPECT_EQ(write(second_), "") << "as it was written: nobody's work";
  const std::string edited = get(files(second_).table) + "slide.png,LSIL,1,2,30,40,1\n";
  put(files(second_).table, edited);
  EXPECT_TRUE(former_scan(files(second_), second_).finished);
  const fs::path kept = write(first_);
  EXPECT_EQ(kept.filename(), "slide.kept_1.csv");
  EXPECT_EQ(get(kept), edited);
  put(files(first_).table, edited);
  EXPECT_EQ(write(second_).filename(), "slide.kept_2.csv");
}

TEST_F(WrittenScan, OtherOptionsHaveAJournalOfTheirOwn) {
  EXPECT_NE(files(first_).journal, files(second_).journal);
  put(files(first_).journal, Json{{"of", first_}}.dump() + "\n");
  EXPECT_EQ(former_scan(files(first_), first_).changed, "");
  EXPECT_EQ(former_scan(files(second_), second_).changed, "weights");
  // One that is finished leaves those that can go on: not of other weights, but of another overlap.
  Json third = second_;
  third["--overlap"] = 8;
  put(files(third).journal, Json{{"of", third}}.dump() + "\n");
  static_cast<void>(write(second_));
  EXPECT_FALSE(fs::exists(files(first_).journal));
  EXPECT_TRUE(fs::exists(files(third).journal));
  EXPECT_THROW(static_cast<void>(scan_files(folder_.path(), std::string(200, 'x'), first_)), SlideError);
}

}  // namespace
}  // namespace gradlibra
