// SPDX-License-Identifier: MIT
// What a file says beside its pixels: orientation, depth, frames, check sums; formats of optional libraries; and
// formats that are not read, by name.
#include <gtest/gtest.h>

#include "data/images/png_structure.h"
#include "tests/data/data_files.h"
#include "tests/data/images/foreign_pictures.h"
#include "tests/data/slides/slide_files.h"

namespace gradlibra {
namespace {

std::filesystem::path put_picture(const TemporaryFolder& folder, const std::string& name, const std::string& bytes) {
  put(folder / name, bytes);
  return folder / name;
}

void expect_pattern(const Image& image) {
  ASSERT_EQ(image.width, 5);
  ASSERT_EQ(image.height, 3);
  for (int y = 0; y < 3; ++y) {
    for (int x = 0; x < 5; ++x) {
      EXPECT_EQ(image.at(x, y)[0], 50 * x);
      EXPECT_EQ(image.at(x, y)[1], 100 * y);
      EXPECT_EQ(image.at(x, y)[2], 30 * (x + y));
    }
  }
}

// Orientation 6: the camera was turned so that the stored picture's left side is up; upright it is 3 x 5, and the pixel
// at (x, y) is the stored one at (y, 2 - x).
void expect_turned(const Image& image) {
  ASSERT_EQ(image.width, 3);
  ASSERT_EQ(image.height, 5);
  EXPECT_EQ(image.at(0, 1)[0], 50);
  EXPECT_EQ(image.at(0, 1)[1], 200);
  EXPECT_EQ(image.at(2, 4)[0], 200);
  EXPECT_EQ(image.at(2, 4)[1], 0);
}

TEST(Formats, OrientationOfAPng) {
  const TemporaryFolder folder;
  const auto file = put_picture(folder, "a.png", from_hex(kTurnedPng));
  EXPECT_EQ(read_image_info(file).exif_orientation, 6);
  expect_pattern(read_image(file));
  expect_turned(read_image(file, /*apply_exif=*/true));
  // The chunk may come behind the pixels, too.
  std::string bytes = from_hex(kTurnedPng);
  const size_t exif = bytes.find("eXIf") - 4, data = bytes.find("IDAT") - 4, end = bytes.find("IEND") - 4;
  ASSERT_LT(exif, data);
  bytes = bytes.substr(0, exif) + bytes.substr(data, end - data) + bytes.substr(exif, data - exif) + bytes.substr(end);
  EXPECT_EQ(read_image_info(put_picture(folder, "b.png", bytes)).exif_orientation, 6);
}

TEST(Formats, EveryByteOfAPngIsChecked) {
  const TemporaryFolder folder;
  const std::string good = from_hex(kDeepPng);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bytes = good;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x10);
    EXPECT_FALSE(message_of([&] { static_cast<void>(read_image(put_picture(folder, "a.png", bytes))); }).empty())
        << "byte " << i;
    EXPECT_FALSE(
        message_of([&] { static_cast<void>(read_image(put_picture(folder, "a.png", good.substr(0, i)))); }).empty())
        << "cut to " << i;
  }
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image(put_picture(folder, "a.png", good.substr(0, 80)))); }),
             "truncated");
  EXPECT_EQ(png_structure({}).problem.empty(), false);
}

TEST(Formats, DepthFramesAndColours) {
  const TemporaryFolder folder;
  const auto info = [&](const std::string& name, const char* hex) {
    return read_image_info(put_picture(folder, name, from_hex(hex)));
  };
  EXPECT_EQ(info("a.png", kDeepPng).bits, 16);
  const Image deep = read_image(folder / "a.png");
  EXPECT_EQ(deep.at(4, 2)[0], 48000 >> 8);
  EXPECT_EQ(deep.at(4, 2)[1], deep.at(4, 2)[2]);
  EXPECT_EQ(info("b.png", kAnimPng).frames, 2);
  expect_pattern(read_image(folder / "b.png"));
  EXPECT_TRUE(info("c.jpg", kCmykJpg).cmyk);
  EXPECT_EQ(read_image(folder / "c.jpg").width, 5);
}

TEST(Formats, Tiff) {
  const TemporaryFolder folder;
  const auto plain = put_picture(folder, "a.tif", from_hex(kPlainTif));
  if (!can_decode(ImageFormat::tiff)) {
    EXPECT_HAS(message_of([&] { static_cast<void>(read_image(plain)); }), "built without");
    GTEST_SKIP() << "built without libtiff";
  }
  EXPECT_EQ(read_image_info(plain).format, ImageFormat::tiff);
  expect_pattern(read_image(plain));
  expect_pattern(read_image(put_picture(folder, "b.tif", from_hex(kLzwTif))));
  const auto turned = put_picture(folder, "c.tiff", from_hex(kTurnedTif));
  EXPECT_EQ(read_image_info(turned).exif_orientation, 6);
  expect_pattern(read_image(turned));
  expect_turned(read_image(turned, true));
  const auto deep = put_picture(folder, "d.tif", from_hex(kDeepTif));
  EXPECT_EQ(read_image_info(deep).bits, 16);
  EXPECT_NEAR(read_image(deep).at(4, 2)[0], 48000 >> 8, 1);
  std::string deeper = from_hex(kDeepTif);
  deeper[34 + 8] = 32;  // BitsPerSample
  const auto floats = put_picture(folder, "d.tif", deeper);
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image_info(floats)); }),
             "has 32 bits a sample, which are not decoded");
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image(floats)); }), "save it with 8 or 16");
  // Uncompressed tiles, which libtiff reads in another way; cut short anywhere and with offsets beyond the end.
  const Image pattern = read_image(plain);
  std::string tiled = tiff_bytes(pattern, {.tile_width = 16, .tile_height = 16});
  expect_pattern(read_image(put_picture(folder, "t.tif", tiled)));
  const auto read_bytes_of = [&](const std::string& bytes) {
    return message_of([&] { static_cast<void>(read_image(put_picture(folder, "t.tif", bytes))); });
  };
  for (size_t at = 8; at < tiled.size(); at += 5) {
    // Behind the tile stands the directory, which ends with values that have defaults.
    const std::string problem = read_bytes_of(tiled.substr(0, at));
    EXPECT_TRUE(!problem.empty() || at >= tiled.size() - 16) << at;
    std::string damaged = tiled;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x7f);
    static_cast<void>(read_bytes_of(damaged));  // other pixels or an error
  }
  const std::string bytes = from_hex(kLzwTif);
  for (size_t cut = 0; cut < bytes.size(); cut += 7) {
    const std::string problem =
        message_of([&] { static_cast<void>(read_image(put_picture(folder, "e.tif", bytes.substr(0, cut)))); });
    EXPECT_FALSE(problem.empty()) << cut;
  }
}

// Transparency is ignored, as in a PNG, and CMYK is told.
TEST(Formats, AlphaAndInksOfATiff) {
  if (!can_decode(ImageFormat::tiff)) GTEST_SKIP() << "built without libtiff";
  const TemporaryFolder folder;
  const Image pattern = read_image(put_picture(folder, "a.tif", from_hex(kPlainTif)));
  for (const int alpha : {0, 64, 255}) {
    for (const TiffLayout& layout : {TiffLayout{.alpha = alpha}, TiffLayout{.wide = true, .alpha = alpha},
                                     TiffLayout{.tile_width = 16, .tile_height = 16, .alpha = alpha}}) {
      const auto file = put_picture(folder, "b.tif", tiff_bytes(pattern, layout));
      EXPECT_FALSE(read_image_info(file).cmyk);
      expect_pattern(read_image(file));
    }
  }
  const auto inks = put_picture(folder, "c.tif", tiff_bytes(pattern, {.cmyk = true}));
  EXPECT_TRUE(read_image_info(inks).cmyk);
  expect_pattern(read_image(inks));
}

TEST(Formats, Webp) {
  const TemporaryFolder folder;
  const auto plain = put_picture(folder, "a.webp", from_hex(kAWebp));
  if (!can_decode(ImageFormat::webp)) {
    EXPECT_HAS(message_of([&] { static_cast<void>(read_image(plain)); }), "built without");
    GTEST_SKIP() << "built without libwebp";
  }
  expect_pattern(read_image(plain));
  const auto turned = put_picture(folder, "b.webp", from_hex(kTurnedWebp));
  EXPECT_EQ(read_image_info(turned).exif_orientation, 6);
  expect_turned(read_image(turned, true));
  const auto film = put_picture(folder, "c.webp", from_hex(kAnimWebp));
  EXPECT_EQ(read_image_info(film).frames, 2);
  expect_pattern(read_image(film));
  const std::string bytes = from_hex(kAWebp);
  for (size_t cut = 0; cut < bytes.size(); cut += 5)
    EXPECT_FALSE(
        message_of([&] { static_cast<void>(read_image(put_picture(folder, "d.webp", bytes.substr(0, cut)))); }).empty())
        << cut;
}

TEST(Formats, OthersAreNamed) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& bytes) {
    return message_of([&] { static_cast<void>(read_image_info(put_picture(folder, "a.jpg", bytes))); });
  };
  EXPECT_HAS(message(from_hex(kAGif)), "a GIF");
  EXPECT_HAS(message("<!DOCTYPE html><html>"), "HTML");
  EXPECT_HAS(message("version https://git-lfs.github.com/spec/v1\n"), "Git LFS");
  EXPECT_HAS(message(std::string(500, '\0')), "500 zero bytes");
  EXPECT_HAS(message(std::string("\0\0\0\x18"
                                 "ftypheic",
                                 12)),
             "HEIF");
  EXPECT_HAS(message("BM" + std::string(12, '\0') + std::string("\x28\0\0\0\x05\0\0\0\x03\0\0\0\x01\0\x08\0\x01", 17) +
                     std::string(60, '\0')),
             "a.jpg");
}

}  // namespace
}  // namespace gradlibra
