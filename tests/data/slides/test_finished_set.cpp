// SPDX-License-Identifier: MIT
// What make-patches does with a set that is finished: the same, or of other slides and boxes.
#include <gtest/gtest.h>

#include <chrono>

#include "tests/data/slides/make_patches_test.h"

namespace gradlibra {
namespace {

// A finished set is of the slides and boxes it was made of, and of no others that have their names and sizes.
class FinishedSetTest : public MakePatchesTest {
 protected:
  // Two cells in the first patch of each slide, that none of the others has a part of.
  void SetUp() override {
    put_slides(4);
    options_.overlap = 0;
    options_.val = 0;
    put_cells("disc,10,10,30,30", "square,35,36,50,56");
    make("out");
    first_ = tree("out");
    slide_ = folder_ / ("slides/" + std::string(can_decode(ImageFormat::tiff) ? "p1_a.tif" : "p1_a.png"));
  }
  // Those of the last slide; the others have the first ones.
  void put_cells(const std::string& one, const std::string& other) {
    std::string table = kCsvHead;
    for (const char* name : {"p0_a", "p0_b", "p1_a"})
      table += csv_lines(name, {{"disc", 10, 10, 30, 30}, {"square", 35, 36, 50, 56}});
    put(folder_ / "cells.csv", table + "p1_b," + one + "\np1_b," + other + "\n");
  }
  // With the bytes of an uncompressed TIFF it has the size of the file that was there, too.
  void replace_slide() {
    const Image& before = images_.at("p1_a");
    const Image after = plain_image(before.width, before.height);
    if (slide_.extension() == ".tif")
      put(slide_, tiff_bytes(after, {.tile_width = 48, .tile_height = 32}));
    else
      write_image(slide_, after);
  }
  // A manifest as it was before it had hashes.
  void forget_hashes() {
    auto manifest = nlohmann::ordered_json::parse(get(folder_ / "out/patches.json"));
    manifest.erase("category_ids");
    for (auto& slide : manifest["slides"])
      for (const char* key : {"file_bytes", "file_xxh64", "annotations_xxh64"}) slide.erase(key);
    put(folder_ / "out/patches.json", manifest.dump(2) + "\n");
  }

  std::map<std::string, std::string> first_;
  fs::path slide_;
};

TEST_F(FinishedSetTest, ABoxMovedWithinItsPatchIsSeen) {
  put_cells("disc,10,10,30,30", "square,38,36,53,56");
  const std::string said = refusal("out");
  EXPECT_HAS(said, "out: holds patches of other slides, annotations or options (slide p1_b: annotations)");
  EXPECT_HAS(said, "choose another folder");
  EXPECT_EQ(tree("out"), first_);
  put_cells("disc,10,10,30,30", "square,35,36,50,56");
  EXPECT_TRUE(make("out").were_there);
}

TEST_F(FinishedSetTest, ExchangedLabelsAreSeen) {
  put_cells("square,10,10,30,30", "disc,35,36,50,56");
  EXPECT_HAS(refusal("out"), "(slide p1_b: annotations)");
  EXPECT_EQ(tree("out"), first_);
}

TEST_F(FinishedSetTest, AnotherFileOfTheSameSizeAndTimeIsSeen) {
  const auto time = fs::last_write_time(slide_);
  replace_slide();
  fs::last_write_time(slide_, time);
  EXPECT_HAS(refusal("out"), "(slide p1_a: file)");
  EXPECT_EQ(tree("out"), first_);
}

TEST_F(FinishedSetTest, OtherOptionsAndSlidesAreNamed) {
  options_.fill = 0;
  options_.seed = 7;
  fs::remove(slide_);
  std::string table = kCsvHead;
  for (const char* name : {"p0_a", "p0_b", "p1_b"}) table += csv_lines(name, {{"disc", 10, 10, 30, 30}});
  put(folder_ / "cells.csv", table);
  const std::string said = refusal("out");
  EXPECT_HAS(said, "(options fill, seed; classes; slide p0_a: ");
  EXPECT_HAS(said, "; slide p1_a: no longer given");
  EXPECT_EQ(tree("out"), first_);
}

TEST_F(FinishedSetTest, ACopyWithOtherTimesIsTheSame) {
  fs::last_write_time(slide_, fs::last_write_time(slide_) - std::chrono::hours(50));
  fs::copy(folder_ / "out", folder_ / "copy", fs::copy_options::recursive);
  EXPECT_TRUE(make("out").were_there);
  EXPECT_TRUE(make("copy").were_there);
}

// Whether its boxes and pixels are those of today cannot be known.
TEST_F(FinishedSetTest, ASetWithoutHashesIsRefusedAndSaysWhy) {
  forget_hashes();
  const auto before = tree("out");
  EXPECT_HAS(refusal("out"),
             "was finished by an earlier version: its patches.json has no hashes of slides and annotations, and "
             "whether they are still the same cannot be told; choose another folder");
  options_.seed = 2;
  EXPECT_HAS(refusal("out"), "holds patches of other slides, annotations or options (options seed");
  EXPECT_EQ(tree("out"), before);
}

TEST_F(FinishedSetTest, ADamagedManifestIsRefused) {
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']'), whole = first_.at("patches.json");
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{\"slides\": 3}"), whole.substr(0, whole.size() / 2),
        std::string("{\"slides\": [{\"name\": 1}, 2], \"options\": []}"),
        "{\"slides\": [{\"name\": \"p1_a\", \"file\": " + deep + "}], \"options\": {}}"}) {
    put(folder_ / "out/patches.json", text);
    EXPECT_HAS(refusal("out"), "out: its patches.json is damaged: what the set was made of cannot be told; choose")
        << text.substr(0, 100);
  }
  auto edited = nlohmann::ordered_json::parse(whole);
  edited["splits"]["train"]["patches"] = 12345;
  put(folder_ / "out/patches.json", edited.dump(2) + "\n");
  EXPECT_HAS(refusal("out"), "out: its patches.json is another one than for these slides, annotations and options");
}

TEST_F(FinishedSetTest, AFileThatIsGoneIsNamed) {
  for (const char* format : {"coco", "voc"}) {
    options_.format = format;
    const std::string set = std::string("set_") + format;
    make(set);
    EXPECT_TRUE(make(set).were_there);
    for (const auto& [file, bytes] : tree(set)) {
      if (file == "patches.json") continue;
      fs::remove(folder_ / set / file);
      EXPECT_HAS(refusal(set), (folder_ / set / file).string() + ": is gone or empty, though the set was finished");
      put(folder_ / set / file, bytes);
    }
    EXPECT_TRUE(make(set).were_there);
  }
}

// The categories' ids are in the patches' annotations, too.
TEST_F(FinishedSetTest, OtherIdsOfCategoriesAreSeen) {
  SlideSet slides = slides_;
  slides.category_ids = {{"disc", 7}, {"square", 9}};
  const std::string said = message_of<std::runtime_error>([&] {
    static_cast<void>(make_patches({slides, division_, options_, {}}, folder_ / "out", [](const std::string&) {}));
  });
  EXPECT_HAS(said, "(category_ids)");
}

// As `cp -p` would replace it while a set is unfinished.
TEST_F(FinishedSetTest, AnotherFileOfTheSameSizeAndTimeIsSeenInAnUnfinishedSet) {
  const fs::path victim = folder_ / "slides/p1_b.png";
  const std::string bytes = get(victim);
  const auto time = fs::last_write_time(slide_);
  put(victim, bytes.substr(0, bytes.size() - 200));
  EXPECT_NE(refusal("part"), "");
  put(victim, bytes);
  replace_slide();
  fs::last_write_time(slide_, time);
  make("part");
  EXPECT_HAS(said_, "anew: changed file");
  make("straight");
  EXPECT_EQ(tree("part"), tree("straight"));
}

}  // namespace
}  // namespace gradlibra
