// SPDX-License-Identifier: MIT
// Decoding of good and hostile files, EXIF orientation, resizing, drawing.
#include "data/images/image.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <tuple>

#include "runtime/base/random.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

std::string big_endian(uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8), static_cast<char>(v)};
}
std::string little_endian(uint32_t v) {
  return {static_cast<char>(v), static_cast<char>(v >> 8), static_cast<char>(v >> 16), static_cast<char>(v >> 24)};
}

// CRC-32 of ISO 3309, bit by bit.
uint32_t crc32(const std::string& bytes) {
  uint32_t c = 0xffffffffu;
  for (const char byte : bytes) {
    c ^= static_cast<uint8_t>(byte);
    for (int k = 0; k < 8; ++k) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
  }
  return ~c;
}

std::string png_chunk(const std::string& type, const std::string& body) {
  return big_endian(static_cast<uint32_t>(body.size())) + type + body + big_endian(crc32(type + body));
}

std::string png_header(uint32_t width, uint32_t height, int depth, int color) {
  return std::string("\x89PNG\r\n\x1a\n", 8) +
         png_chunk("IHDR", big_endian(width) + big_endian(height) +
                               std::string{static_cast<char>(depth), static_cast<char>(color), 0, 0, 0});
}

// Uncompressed: one stored deflate block.
std::string png(uint32_t width, uint32_t height, int depth, int color, const std::string& rows) {
  const auto n = static_cast<unsigned>(rows.size());
  std::string zlib = "\x78\x01\x01";
  zlib += {static_cast<char>(n), static_cast<char>(n >> 8), static_cast<char>(~n), static_cast<char>(~n >> 8)};
  return png_header(width, height, depth, color) + png_chunk("IDAT", zlib + rows + "adlr") + png_chunk("IEND", "");
}

// 24 bits per pixel, bottom row first, B G R.
std::string bmp(uint32_t width, uint32_t height, const std::string& rows) {
  return "BM" + little_endian(static_cast<uint32_t>(54 + rows.size())) + little_endian(0) + little_endian(54) +
         little_endian(40) + little_endian(width) + little_endian(height) + std::string{1, 0, 24, 0} +
         little_endian(0) + little_endian(static_cast<uint32_t>(rows.size())) + little_endian(2835) +
         little_endian(2835) + little_endian(0) + little_endian(0) + rows;
}

TEST(Image, PngKeepsEveryByte) {
  const TemporaryFolder folder;
  const Image image = gradient_image(37, 21);
  write_image(folder / "deep/er/a.png", image);
  const Image back = read_image(folder / "deep/er/a.png");
  EXPECT_EQ(back.width, 37);
  EXPECT_EQ(back.height, 21);
  EXPECT_EQ(back.pixels, image.pixels);
  const ImageInfo info = read_image_info(folder / "deep/er/a.png");
  EXPECT_EQ(info.width, 37);
  EXPECT_EQ(info.height, 21);
  EXPECT_EQ(info.exif_orientation, 1);
  EXPECT_EQ(info.format, ImageFormat::png);
  // Nothing is left of the temporary file.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "deep/er"), {}), 1);
}

TEST(Image, JpegIsCloseAndToldByContent) {
  const TemporaryFolder folder;
  Image image = gradient_image(64, 48);
  for (size_t i = 2; i < image.pixels.size(); i += 3) image.pixels[i] = 100;  // no sharp edges
  write_image(folder / "a.jpg", image);
  std::filesystem::rename(folder / "a.jpg", folder / "a.png");
  EXPECT_EQ(read_image_info(folder / "a.png").format, ImageFormat::jpeg);
  const Image back = read_image(folder / "a.png");
  ASSERT_EQ(back.pixels.size(), image.pixels.size());
  for (size_t i = 0; i < image.pixels.size(); ++i) ASSERT_LE(std::abs(back.pixels[i] - image.pixels[i]), 12) << i;
}

TEST(Image, OnePixel) {
  const TemporaryFolder folder;
  for (const char* name : {"a.png", "a.jpg"}) {
    write_image(folder / name, plain_image(1, 1));
    EXPECT_EQ(read_image(folder / name).pixels.size(), 3u);
  }
}

TEST(Image, BmpAndSixteenBitPngAndGrey) {
  const TemporaryFolder folder;
  // 1 x 2, rows padded to 4 bytes: bottom (B,G,R) = (1,2,3), top (4,5,6).
  put(folder / "a.bmp", bmp(1, 2, std::string{1, 2, 3, 0, 4, 5, 6, 0}));
  EXPECT_EQ(read_image(folder / "a.bmp").pixels, (std::vector<uint8_t>{6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(read_image_info(folder / "a.bmp").format, ImageFormat::bmp);
  // 2 x 1, 16-bit grey: the high bytes remain.
  put(folder / "b.png", png(2, 1, 16, 0, std::string{0, 0x12, 0x34, 0x56, 0x78}));
  EXPECT_EQ(read_image(folder / "b.png").pixels, (std::vector<uint8_t>{0x12, 0x12, 0x12, 0x56, 0x56, 0x56}));
  // RGBA: transparency is left out.
  put(folder / "c.png", png(1, 1, 8, 6, std::string{0, 10, 20, 30, 0}));
  EXPECT_EQ(read_image(folder / "c.png").pixels, (std::vector<uint8_t>{10, 20, 30}));
}

TEST(Image, ErrorsNameFileAndReason) {
  const TemporaryFolder folder;
  const auto reason = [&](const std::string& name) {
    const std::string decode = message_of([&] { static_cast<void>(read_image(folder / name)); });
    EXPECT_HAS(decode, name);
    EXPECT_HAS(message_of([&] { static_cast<void>(read_image_info(folder / name)); }), name);
    return decode;
  };
  EXPECT_HAS(reason("none.jpg"), "no such file");
  put(folder / "empty.jpg", "");
  EXPECT_HAS(reason("empty.jpg"), "empty");
  put(folder / "text.jpg", "this is no picture");
  EXPECT_HAS(reason("text.jpg"), "not an image");
  put(folder / "gif.jpg", "GIF89a\1\0\1\0");
  EXPECT_HAS(reason("gif.jpg"), "not an image");
  std::filesystem::create_directory(folder / "folder.jpg");
  EXPECT_HAS(reason("folder.jpg"), "not a regular file");
  put(folder / "short.png", std::string("\x89PNG\r\n\x1a\n", 8));
  EXPECT_HAS(reason("short.png"), "header");
}

TEST(Image, SizesAreRefusedBeforeDecoding) {
  const TemporaryFolder folder;
  put(folder / "wide.png", png_header(40'000, 1, 8, 2) + png_chunk("IDAT", "x"));
  EXPECT_NE(message_of([&] { static_cast<void>(read_image(folder / "wide.png")); }), "");
  put(folder / "huge.png",
      png_header(17'000, 17'000, 8, 2) + png_chunk("IDAT", "x"));  // above 2^28 pixels, each side allowed
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image(folder / "huge.png")); }), "over the limits");
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image_info(folder / "huge.png")); }), "17000 x 17000");
  put(folder / "none.png", png_header(0, 5, 8, 2) + png_chunk("IDAT", "x"));
  EXPECT_NE(message_of([&] { static_cast<void>(read_image_info(folder / "none.png")); }), "");
}

// stb_image alone accepts most of these and returns grey in place of what is missing.
TEST(Image, EveryTruncationIsFound) {
  const TemporaryFolder folder;
  write_image(folder / "whole.jpg", gradient_image(40, 40));
  write_image(folder / "whole.png", gradient_image(40, 40));
  put(folder / "whole.bmp", bmp(8, 8, std::string(8 * 24, '\x55')));
  for (const char* extension : {".jpg", ".png", ".bmp"}) {
    const std::string bytes = get(folder / ("whole" + std::string(extension)));
    ASSERT_NO_THROW(static_cast<void>(read_image(folder / ("whole" + std::string(extension)))));
    // A PNG is complete with its last IDAT chunk: the 12 bytes of IEND hold nothing, but they too must be there.
    for (size_t length = 0; length + 1 < bytes.size(); length += length + 200 < bytes.size() ? 37 : 1) {
      if (extension == std::string(".png") && length + 4 >= bytes.size()) break;  // a checksum that is not verified
      put(folder / "cut", bytes.substr(0, length));
      EXPECT_THROW(static_cast<void>(read_image(folder / "cut")), std::runtime_error)
          << extension << " cut to " << length << " of " << bytes.size();
    }
  }
  const std::string jpeg = get(folder / "whole.jpg");
  put(folder / "cut.jpg", jpeg.substr(0, jpeg.size() - 20));
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image(folder / "cut.jpg")); }), "truncated");
  EXPECT_EQ(read_image_info(folder / "cut.jpg").width, 40) << "the header is all there";
  put(folder / "longer.jpg", jpeg + "more bytes behind the end");
  EXPECT_NO_THROW(static_cast<void>(read_image(folder / "longer.jpg")));
}

TEST(Image, EndMarkerOfAPreviewDoesNotCount) {
  const TemporaryFolder folder;
  write_image(folder / "a.jpg", gradient_image(40, 40));
  const std::string jpeg = get(folder / "a.jpg");
  const std::string preview = std::string("\xff\xec\x00\x08", 4) + "\xff\xd8\xff\xd9zz";
  put(folder / "b.jpg", jpeg.substr(0, 2) + preview + jpeg.substr(2));
  EXPECT_NO_THROW(static_cast<void>(read_image(folder / "b.jpg")));
  put(folder / "c.jpg", jpeg.substr(0, 2) + preview + jpeg.substr(2, jpeg.size() / 2));
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image(folder / "c.jpg")); }), "truncated");
}

// EXIF 2.3, tag 0x0112: which sides of the upright scene row 0 and column 0 of the stored pixels are. So the stored
// pixel (0, 0) belongs at the corner (row 0's side, column 0's side) of the upright picture.
TEST(Image, ExifOrientationTurnsUpright) {
  const TemporaryFolder folder;
  Image image = plain_image(48, 32, {200, 200, 200});
  for (int y = 0; y < 8; ++y) {
    for (int x = 0; x < 16; ++x)
      std::fill_n(image.at(x, y), 3, uint8_t{10});  // 16 wide, 8 high, at the stored top left
  }
  write_image(folder / "a.jpg", image);
  struct Case {
    bool at_right, at_bottom, transposed;
  };
  const Case cases[9] = {{},
                         {false, false, false},  // 1: top, left
                         {true, false, false},   // 2: top, right
                         {true, true, false},    // 3: bottom, right
                         {false, true, false},   // 4: bottom, left
                         {false, false, true},   // 5: left, top
                         {true, false, true},    // 6: right, top
                         {true, true, true},     // 7: right, bottom
                         {false, true, true}};   // 8: left, bottom
  for (int orientation = 1; orientation <= 8; ++orientation) {
    for (const bool motorola : {false, true}) {
      put(folder / "b.jpg", with_exif(get(folder / "a.jpg"), orientation, motorola));
      const ImageInfo info = read_image_info(folder / "b.jpg");
      EXPECT_EQ(info.exif_orientation, orientation);
      EXPECT_EQ(info.width, 48);
      EXPECT_EQ(read_image(folder / "b.jpg").width, 48);
      const Image upright = read_image(folder / "b.jpg", true);
      const Case& c = cases[orientation];
      ASSERT_EQ(upright.width, c.transposed ? 32 : 48);
      ASSERT_EQ(upright.height, c.transposed ? 48 : 32);
      const int mark_width = c.transposed ? 8 : 16, mark_height = c.transposed ? 16 : 8;
      const int left = c.at_right ? upright.width - mark_width : 0,
                top = c.at_bottom ? upright.height - mark_height : 0;
      for (int y = 0; y < upright.height; ++y) {
        for (int x = 0; x < upright.width; ++x) {
          const bool inside = x >= left && x < left + mark_width && y >= top && y < top + mark_height;
          ASSERT_EQ(*upright.at(x, y) < 105, inside) << orientation << " at " << x << "," << y;
        }
      }
    }
  }
}

TEST(Image, BrokenExifCountsAsNone) {
  const TemporaryFolder folder;
  write_image(folder / "a.jpg", plain_image(16, 16));
  const std::string good = with_exif(get(folder / "a.jpg"), 6, false);
  const size_t tiff = 2 + 4 + 6;
  const auto orientation_with = [&](size_t at, const std::string& bytes) {
    std::string broken = good;
    broken.replace(tiff + at, bytes.size(), bytes);
    put(folder / "b.jpg", broken);
    return read_image_info(folder / "b.jpg").exif_orientation;
  };
  EXPECT_EQ(orientation_with(0, "II"), 6);
  EXPECT_EQ(orientation_with(0, "XX"), 1);                          // no byte order
  EXPECT_EQ(orientation_with(4, "\xff\xff\xff\xff"), 1);            // directory far outside
  EXPECT_EQ(orientation_with(4, std::string("\x1e\0\0\0", 4)), 1);  // directory at the very end
  EXPECT_EQ(orientation_with(8, "\xff\xff"), 6);  // more entries than there are: those that exist are read
  EXPECT_EQ(orientation_with(10 + 12 + 8, std::string("\x09\0", 2)), 1);  // value out of range
  EXPECT_EQ(orientation_with(10 + 12 + 2, std::string("\x02\0", 2)), 1);  // wrong type
}

// A table of 16 x 255 codes would be written past a decoder's 256: refused before stb_image (2.27 does not check)
// sees it, in the header as well.
TEST(Image, HuffmanTableThatOverflows) {
  const TemporaryFolder folder;
  write_image(folder / "a.jpg", plain_image(16, 16));
  const std::string jpeg = get(folder / "a.jpg");
  const std::string body = std::string(1, '\0') + std::string(16, '\xff') + std::string(16 * 255, '\1');
  const auto length = static_cast<unsigned>(body.size() + 2);
  const std::string table =
      std::string("\xff\xc4") + static_cast<char>(length >> 8) + static_cast<char>(length & 255) + body;
  put(folder / "b.jpg", jpeg.substr(0, 2) + table + jpeg.substr(2));
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image(folder / "b.jpg")); }), "Huffman");
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image_info(folder / "b.jpg")); }), "corrupt");
  put(folder / "c.jpg", jpeg.substr(0, 2) + table.substr(0, 30));
  EXPECT_HAS(message_of([&] { static_cast<void>(read_image(folder / "c.jpg")); }), "truncated");
}

// Whatever the bytes are: an image or std::runtime_error, nothing else. (The sanitizers watch.)
TEST(Image, MutatedFilesDoNoHarm) {
  const TemporaryFolder folder;
  write_image(folder / "a.jpg", gradient_image(24, 20));
  write_image(folder / "a.png", gradient_image(24, 20));
  put(folder / "a.bmp", bmp(8, 8, std::string(8 * 24, '\x55')));
  RandomStream random(99);
  for (const std::string name : {"a.jpg", "a.png", "a.bmp"}) {
    const std::string bytes = name == "a.jpg" ? with_exif(get(folder / name), 3, true) : get(folder / name);
    for (int round = 0; round < 150; ++round) {
      std::string broken = bytes;
      const auto changes = 1 + random.uniform_int(6);
      for (int64_t c = 0; c < changes; ++c) {
        const int64_t reach = random.uniform_int(2) ? std::min<int64_t>(80, static_cast<int64_t>(broken.size()))
                                                    : static_cast<int64_t>(broken.size());
        broken[random.uniform_int(reach)] = static_cast<char>(random.bits());
      }
      put(folder / "m", broken);
      try {
        const Image image = read_image(folder / "m", true);
        EXPECT_EQ(image.pixels.size(), static_cast<size_t>(image.width) * image.height * 3);
      } catch (const std::runtime_error&) {
      }
    }
  }
}

TEST(Image, WritingRefusesNonsense) {
  const TemporaryFolder folder;
  EXPECT_HAS(message_of([&] { write_image(folder / "a.tif", plain_image(2, 2)); }), "must end in");
  EXPECT_HAS(message_of([&] { write_image(folder / "a.png", Image{2, 2, std::vector<uint8_t>(5)}); }), "5 bytes");
  EXPECT_HAS(message_of([&] { write_image(folder / "a.png", Image{}); }), "cannot write");
  put(folder / "file", "x");
  EXPECT_NE(message_of([&] { write_image(folder / "file/a.png", plain_image(2, 2)); }), "");
}

TEST(Resize, HandExamples) {
  const Image image{4, 2, {0,  0, 0, 10, 0, 0, 20, 0, 0, 30, 0, 0,  //
                           40, 0, 0, 50, 0, 0, 60, 0, 0, 70, 0, 0}};
  // Halving averages blocks of four: (0 + 10 + 40 + 50) / 4 = 25, (20 + 30 + 60 + 70) / 4 = 45.
  EXPECT_EQ(resize(image, 2, 1).pixels, (std::vector<uint8_t>{25, 0, 0, 45, 0, 0}));
  // 4 to 3: widths of 4/3: (0 + 10/3) / (4/3) = 2.5, (2/3 10 + 2/3 20) / (4/3) = 15, 27.5.
  EXPECT_EQ(resize(image, 3, 2).pixels[0], 3);  // rounded half up
  EXPECT_EQ(resize(image, 3, 2).pixels[3], 15);
  // Doubling: centres at -0.25 (border), 0.25, 0.75, 1.25, ...
  const Image twice = resize(image, 8, 2);
  const int expected[8] = {0, 3, 8, 13, 18, 23, 28, 30};
  for (int x = 0; x < 8; ++x) EXPECT_EQ(*twice.at(x, 0), expected[x]) << x;
  EXPECT_EQ(resize(image, 4, 2).pixels, image.pixels);
  EXPECT_THROW(static_cast<void>(resize(image, 0, 2)), std::invalid_argument);
}

TEST(Resize, ConstantStaysConstantAtAnySize) {
  const Image image = plain_image(13, 7, {255, 1, 128});
  for (const auto& [w, h] : {std::pair{1, 1}, {12, 8}, {5, 3}, {14, 6}, {40, 1}, {1, 33}}) {
    const Image out = resize(image, w, h);
    ASSERT_EQ(out.pixels.size(), static_cast<size_t>(w) * h * 3);
    for (int i = 0; i < w * h; ++i) {
      ASSERT_EQ(out.pixels[3 * i], 255);
      ASSERT_EQ(out.pixels[3 * i + 1], 1);
      ASSERT_EQ(out.pixels[3 * i + 2], 128);
    }
  }
}

TEST(Resize, ShrinkingKeepsTheMean) {
  const Image image = gradient_image(101, 67);
  double before = 0, after = 0;
  for (const uint8_t v : image.pixels) before += v;
  const Image small = resize(image, 30, 23);
  for (const uint8_t v : small.pixels) after += v;
  EXPECT_LT(
      std::abs(before / static_cast<double>(image.pixels.size()) - after / static_cast<double>(small.pixels.size())),
      0.1);
}

TEST(Drawing, BoxOutlineIsExactAndClipped) {
  Image image = plain_image(10, 8, {0, 0, 0});
  draw_box(image, 2, 1, 7, 6, {255, 0, 0}, 1);
  for (int y = 0; y < 8; ++y) {
    for (int x = 0; x < 10; ++x) {
      const bool in = x >= 2 && x < 7 && y >= 1 && y < 6;
      const bool inner = x >= 3 && x < 6 && y >= 2 && y < 5;
      EXPECT_EQ(*image.at(x, y) == 255, in && !inner) << x << "," << y;
    }
  }
  Image all = plain_image(10, 8, {0, 0, 0});
  draw_box(all, -1e30f, -5, 1e30f, 3, {255, 255, 255}, 3);
  for (int x = 0; x < 10; ++x) {
    EXPECT_EQ(*all.at(x, 2), 255);
    EXPECT_EQ(*all.at(x, 3), 0);
  }
  const Image before = all;
  draw_box(all, NAN, 0, 5, 5, {1, 2, 3});
  draw_box(all, 0, 0, 5, 5, {1, 2, 3}, 0);
  draw_box(all, 50, 50, 60, 60, {1, 2, 3});
  EXPECT_EQ(all.pixels, before.pixels);
  draw_box(all, 3, 3, 3, 3, {9, 9, 9});  // an empty box shows as a point
  EXPECT_EQ(*all.at(3, 3), 9);
}

TEST(Drawing, TextSitsOnItsLowerLeftCorner) {
  Image image = plain_image(30, 20, {100, 100, 100});
  draw_text(image, 4, 15, "L", {255, 255, 255});
  // L: a stem of seven at column 0, a foot of five in the last row; the rim is black.
  for (int row = 0; row < 7; ++row) EXPECT_EQ(*image.at(4, 8 + row), 255) << row;
  for (int column = 0; column < 5; ++column) EXPECT_EQ(*image.at(4 + column, 14), 255) << column;
  EXPECT_EQ(*image.at(6, 10), 100);
  EXPECT_EQ(*image.at(3, 10), 0);
  EXPECT_EQ(*image.at(5, 10), 0);
  EXPECT_EQ(*image.at(4, 16), 100);
  // Scaled, off the edges and with characters that the font lacks.
  draw_text(image, -7, 3, "W\xc3\xa9~\t", {0, 0, 0}, 3);
  draw_text(image, 2'000'000'000, 2'000'000'000, "far", {0, 0, 0}, 1000);
  draw_text(image, 0, 0, "", {0, 0, 0});
}

TEST(Drawing, AllPrintableCharactersDiffer) {
  std::set<std::vector<uint8_t>> seen;
  for (char c = ' '; c <= '~'; ++c) {
    Image image = plain_image(8, 9, {0, 0, 0});
    draw_text(image, 1, 8, std::string(1, c), {255, 255, 255});
    EXPECT_TRUE(seen.insert(image.pixels).second) << c;
  }
}

TEST(Drawing, ClassColoursDiffer) {
  std::set<std::tuple<int, int, int>> seen;
  for (int label = 0; label < 100; ++label) {
    const Color c = class_color(label);
    EXPECT_TRUE(seen.insert({c.r, c.g, c.b}).second) << label;
  }
  // The first ten, which is what a picture shows, are far apart.
  for (int a = 0; a < 10; ++a) {
    for (int b = 0; b < a; ++b) {
      const Color p = class_color(a), q = class_color(b);
      EXPECT_GT(std::abs(p.r - q.r) + std::abs(p.g - q.g) + std::abs(p.b - q.b), 60) << a << " " << b;
    }
  }
}

}  // namespace
}  // namespace gradlibra
