// SPDX-License-Identifier: MIT
// Every reader of slides against the picture that it should give, and against files that are no whole slides.
#include "data/slides/slide.h"

#include <gtest/gtest.h>

#include "data/slides/slide_readers.h"
#include "runtime/base/random.h"
#include "tests/data/slides/slide_files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMemory = 256LL << 20;

bool has(const std::string& library) { return slide_libraries().find(library) != std::string::npos; }

Image region_of(const Image& image, int x, int y, int width, int height) {
  Image out = plain_image(width, height);
  for (int j = 0; j < height; ++j) std::copy_n(image.at(x, y + j), static_cast<size_t>(width) * 3, out.at(0, j));
  return out;
}

Image read(Slide& slide, int x, int y, int width, int height) {
  Image out = plain_image(width, height, {1, 2, 3});
  slide.read(x, y, out);
  return out;
}

// Regions in order of y, of several sizes; then anywhere, above what was read.
void expect_regions(Slide& slide, const Image& want, int tolerance = 0) {
  ASSERT_EQ(slide.width(), want.width);
  ASSERT_EQ(slide.height(), want.height);
  RandomStream random(9);
  int y = 0;
  for (int k = 0; k < 40; ++k) {
    const int width = static_cast<int>(1 + random.uniform_int(want.width));
    const int x = static_cast<int>(random.uniform_int(want.width - width + 1));
    const int height = static_cast<int>(1 + random.uniform_int(std::min(60, want.height)));
    if (k < 30) {
      y = std::min(y + static_cast<int>(random.uniform_int(12)), want.height - height);
    } else {
      y = static_cast<int>(random.uniform_int(want.height - height + 1));
    }
    const Image got = read(slide, x, y, width, height), expected = region_of(want, x, y, width, height);
    int worst = 0;
    for (size_t i = 0; i < got.pixels.size(); ++i)
      worst = std::max(worst, std::abs(got.pixels[i] - expected.pixels[i]));
    ASSERT_LE(worst, tolerance) << "region " << k << " at " << x << ", " << y;
  }
  EXPECT_EQ(read(slide, 0, 0, want.width, want.height).pixels.size(), want.pixels.size());
}

class SlideTest : public ::testing::Test {
 protected:
  std::string refusal(const fs::path& file, int64_t memory = kMemory) {
    return message_of<std::runtime_error>([&] {
      const auto slide = open_slide(file, memory);
      Image all = plain_image(slide->width(), slide->height());
      slide->read(0, 0, all);
    });
  }
  TemporaryFolder folder_;
  Image image_ = gradient_image(301, 217);
};

TEST_F(SlideTest, PngAndBmpGiveTheirPixels) {
  write_image(folder_ / "a.png", image_);
  expect_regions(*open_slide(folder_ / "a.png", kMemory), image_);
  // Any extension: the content counts.
  fs::copy(folder_ / "a.png", folder_ / "b.tif");
  expect_regions(*open_slide(folder_ / "b.tif", kMemory), image_);
}

// Two decoders of JPEG round differently, and smooth chroma differently.
TEST_F(SlideTest, JpegGivesItsPixels) {
  write_image(folder_ / "a.jpg", image_);
  const Image whole = read_image(folder_ / "a.jpg");
  expect_regions(*open_slide(folder_ / "a.jpg", kMemory), whole, 12);
  const auto slide = open_slide(folder_ / "a.jpg", kMemory);
  const Image got = read(*slide, 0, 0, 301, 217);
  double sum = 0;
  for (size_t i = 0; i < got.pixels.size(); ++i) sum += std::abs(got.pixels[i] - whole.pixels[i]);
  EXPECT_LT(sum / static_cast<double>(got.pixels.size()), 1);
}

TEST_F(SlideTest, TiffGivesItsPixelsInEveryLayout) {
  if (!has("libtiff")) GTEST_SKIP() << "built without libtiff";
  const TiffLayout layouts[] = {{.tile_width = 64, .tile_height = 32},
                                {.tile_width = 16, .tile_height = 16, .big = true},
                                {.tile_width = 512, .tile_height = 512},
                                {.strip_rows = 1},
                                {.strip_rows = 10},
                                {.strip_rows = 0},
                                {.strip_rows = 7, .big = true},
                                {.tile_width = 48, .tile_height = 16, .wide = true},
                                {.strip_rows = 5, .wide = true}};
  for (const TiffLayout& layout : layouts) {
    put(folder_ / "a.tif", tiff_bytes(image_, layout));
    expect_regions(*open_slide(folder_ / "a.tif", kMemory), image_);
  }
}

// A strip of more pixels than are made at a time is read row by row.
// Transparency is ignored on every way that a TIFF is read.
TEST_F(SlideTest, AlphaOfATiffIsIgnored) {
  if (!has("libtiff")) GTEST_SKIP() << "built without libtiff";
  for (const TiffLayout& layout :
       {TiffLayout{.alpha = 64}, TiffLayout{.strip_rows = 8, .alpha = 0}, TiffLayout{.wide = true, .alpha = 64},
        TiffLayout{.tile_width = 64, .tile_height = 64, .alpha = 64},
        TiffLayout{.tile_width = 64, .tile_height = 64, .wide = true, .alpha = 64}}) {
    put(folder_ / "a.tif", tiff_bytes(image_, layout));
    expect_regions(*open_slide(folder_ / "a.tif", kMemory), image_);
  }
}

TEST_F(SlideTest, OneLargeStripIsReadRowByRow) {
  if (!has("libtiff")) GTEST_SKIP() << "built without libtiff";
  const Image wide = gradient_image(9000, 2000);
  std::string bytes = tiff_bytes(wide, {});
  put(folder_ / "a.tif", bytes);
  const auto slide = open_slide(folder_ / "a.tif", kMemory);
  EXPECT_LT(slide->memory(64), 8LL << 20);
  for (const int y : {0, 5, 1200, 1999})
    EXPECT_EQ(read(*slide, 4000, y, 800, 1).pixels, region_of(wide, 4000, y, 800, 1).pixels);
}

TEST_F(SlideTest, MemoryIsBoundedByRowsNotByTheSlide) {
  write_image(folder_ / "a.png", image_);
  write_image(folder_ / "a.jpg", image_);
  put(folder_ / "a.tif", tiff_bytes(image_, {.tile_width = 64, .tile_height = 64}));
  for (const auto& [library, name] : {std::pair("libpng", "a.png"), {"libjpeg", "a.jpg"}, {"libtiff", "a.tif"}}) {
    if (!has(library)) continue;
    const auto slide = open_slide(folder_ / name, kMemory);
    EXPECT_LT(slide->memory(16), 300 * 1024) << name;
    EXPECT_LT(slide->memory(16), slide->memory(128)) << name;
  }
}

TEST_F(SlideTest, TruncatedFilesAreNamedWithTheirPlace) {
  write_image(folder_ / "a.png", image_);
  write_image(folder_ / "a.jpg", image_);
  put(folder_ / "tiles.tif", tiff_bytes(image_, {.tile_width = 64, .tile_height = 64}));
  put(folder_ / "strips.tif", tiff_bytes(image_, {.strip_rows = 8}));
  for (const char* name : {"a.png", "a.jpg", "tiles.tif", "strips.tif"}) {
    if (std::string(name).ends_with(".tif") && !has("libtiff")) continue;
    const std::string whole = get(folder_ / name);
    ASSERT_EQ(refusal(folder_ / name), "") << name;
    for (const double part : {0.0, 0.02, 0.3, 0.9, 0.995}) {
      put(folder_ / name, whole.substr(0, static_cast<size_t>(part * static_cast<double>(whole.size()))));
      EXPECT_HAS(refusal(folder_ / name), name) << part;
    }
    // A byte in the middle: found where the format has check sums.
    std::string changed = whole;
    changed[whole.size() / 2] = static_cast<char>(changed[whole.size() / 2] ^ 0x5a);
    put(folder_ / name, changed);
    if (std::string(name) == "a.png") {
      EXPECT_HAS(refusal(folder_ / name), "a.png");
    }
  }
  // The directory of a TIFF in place, its last tiles gone: the tile is named.
  if (has("libtiff")) {
    std::string bytes = tiff_bytes(image_, {.tile_width = 64, .tile_height = 64});
    const size_t second = 8 + 64 * 64 * 3;  // of the tiles that begin behind the header
    const std::string offset{static_cast<char>(second & 255), static_cast<char>(second >> 8), '\0', '\0'};
    const size_t entry = bytes.rfind(offset);
    ASSERT_NE(entry, std::string::npos);
    bytes.replace(entry, 4, std::string("\x00\x00\x00\x7f", 4));
    put(folder_ / "far.tif", bytes);
    EXPECT_HAS(refusal(folder_ / "far.tif"), "far.tif: cannot be decoded in the tile at 64, 0");
  }
}

TEST_F(SlideTest, WhatIsNoSlideIsSaid) {
  put(folder_ / "text.png", "not a picture at all");
  EXPECT_HAS(refusal(folder_ / "text.png"), "is not an image");
  put(folder_ / "empty.svs", "");
  EXPECT_HAS(refusal(folder_ / "empty.svs"), "empty");
  put(folder_ / "some.ndpi", "nothing that any scanner wrote");
  const std::string said = refusal(folder_ / "some.ndpi");
  EXPECT_HAS(said, "some.ndpi");
  if (!has("OpenSlide")) {
    EXPECT_HAS(said, "without OpenSlide");
  }
  EXPECT_HAS(refusal(folder_ / "none.tif"), "none.tif: no such file");
  EXPECT_TRUE(is_slide_name("a.SVS"));
  EXPECT_TRUE(is_slide_name("a.TIFF"));
  EXPECT_FALSE(is_slide_name("a.txt"));
}

TEST_F(SlideTest, MoreMemoryThanAllowedIsRefusedBeforeDecoding) {
  // Decoded whole, for no library reads it by rows.
  std::string bmp = "BM" + std::string(52, '\0');
  const auto at = [&](size_t where, uint32_t value) {
    for (int i = 0; i < 4; ++i) bmp[where + static_cast<size_t>(i)] = static_cast<char>(value >> 8 * i);
  };
  constexpr int kSide = 400;
  at(10, 54);
  at(14, 40);
  at(18, kSide);
  at(22, kSide);
  at(26, 1 | 24 << 16);
  bmp += std::string(kSide * kSide * 3, '\x40');
  put(folder_ / "a.bmp", bmp);
  EXPECT_EQ(refusal(folder_ / "a.bmp"), "");
  EXPECT_HAS(refusal(folder_ / "a.bmp", 1 << 20), "MiB to decode, more than the limit of 1 MiB");
}

// The two published slides (see the README of their folder): by OpenSlide, and the one that libtiff can decode by both.
TEST_F(SlideTest, SlidesOfScanners) {
  const char* given = std::getenv("GRADLIBRA_TEST_DATA");
  const fs::path checkout = fs::path(GRADLIBRA_TEST_VECTORS).parent_path().parent_path();
  const fs::path data = (given ? fs::path(given) : checkout.parent_path() / "shared" / "data") / "wsi";
  if (!fs::exists(data))
    GTEST_SKIP() << "no slides at " << data << ": set GRADLIBRA_TEST_DATA to the folder that holds wsi";
  if (!has("OpenSlide")) GTEST_SKIP() << "built without OpenSlide";
  const auto small = open_slide(data / "CMU-1-Small-Region.svs", kMemory);
  EXPECT_EQ(small->width(), 2220);
  EXPECT_EQ(small->height(), 2967);
  EXPECT_EQ(openslide_vendor(data / "CMU-1-Small-Region.svs"), "aperio");
  if (has("libtiff")) {
    const auto plain = open_tiff_slide(data / "CMU-1-Small-Region.svs", kMemory);
    ASSERT_EQ(plain->width(), 2220);
    for (const auto& [x, y] : {std::pair(0, 0), {230, 470}, {2220 - 300, 2967 - 200}})
      EXPECT_EQ(read(*plain, x, y, 300, 200).pixels, read(*small, x, y, 300, 200).pixels) << x << ", " << y;
  }
  const auto other = open_slide(data / "TCGA-CR-7395-01A-01-TS1.svs", kMemory);
  EXPECT_EQ(other->width(), 4443);
  EXPECT_EQ(other->height(), 3567);
  const Image corner = read(*other, 4443 - 64, 3567 - 64, 64, 64);
  EXPECT_GT(*std::max_element(corner.pixels.begin(), corner.pixels.end()), 100);
  // A copy that is cut off is not given out as white.
  const std::string whole = get(data / "CMU-1-Small-Region.svs");
  put(folder_ / "cut.svs", whole.substr(0, whole.size() / 2));
  EXPECT_HAS(refusal(folder_ / "cut.svs"), "cut.svs");
}

}  // namespace
}  // namespace gradlibra
