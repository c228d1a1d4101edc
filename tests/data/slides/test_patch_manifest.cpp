// SPDX-License-Identifier: MIT
// What the hashes of slides and annotations see, and what they pass over.
#include "data/slides/patch_manifest.h"

#include <gtest/gtest.h>

#include <functional>
#include <span>

#include "runtime/base/files.h"
#include "runtime/base/xxh64.h"
#include "tests/data/data_files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

class PatchManifestTest : public ::testing::Test {
 protected:
  std::string hash(const std::string& name, const std::string& bytes) {
    put(folder_ / name, bytes);
    return hash_slide(folder_ / name);
  }
  // Whether the file's hash is another one when the byte at `place` is.
  bool sees(std::string bytes, size_t place) {
    const std::string before = hash("slide.tif", bytes);
    bytes[place] = static_cast<char>(bytes[place] ^ 1);
    return hash("slide.tif", bytes) != before;
  }

  TemporaryFolder folder_;
};

TEST_F(PatchManifestTest, ASmallFileIsHashedWhole) {
  EXPECT_EQ(hash("slide.png", "abc"), "44bc2cf5ad770999");  // as any program's XXH64 of it
  EXPECT_EQ(hash("slide.png", ""), "ef46db3751d8e999");
  const std::string most(2 << 20, 'x');
  EXPECT_EQ(hash("slide.png", most), xxh64_hex(std::as_bytes(std::span(most))));
  for (const size_t place : {size_t{0}, most.size() / 31, most.size() - 1}) EXPECT_TRUE(sees(most, place)) << place;
}

TEST_F(PatchManifestTest, ALargeFileInPieces) {
  constexpr size_t kPiece = 128 << 10, kSize = 15 * (kPiece + 1000) + kPiece;  // 1000 bytes between neighbours
  const std::string bytes(kSize, 'x');
  for (size_t i = 0; i < 16; ++i) {
    const size_t begin = i * (kPiece + 1000);
    EXPECT_TRUE(sees(bytes, begin)) << i;
    EXPECT_TRUE(sees(bytes, begin + kPiece - 1)) << i;
    if (i < 15) {
      EXPECT_FALSE(sees(bytes, begin + kPiece)) << i;
    }
  }
  // Sizes that do not divide: the last byte counts.
  EXPECT_TRUE(sees(bytes + "1234567", kSize + 6));
}

TEST_F(PatchManifestTest, ASlideWithAFolderBesideIt) {
  put(folder_ / "slide/Data0000.dat", std::string(300 << 10, 'x'));
  const std::string first = hash("slide.mrxs", "thumbnail");
  put(folder_ / "slide/Data0000.dat", std::string(300 << 10, 'y'));
  EXPECT_NE(hash("slide.mrxs", "thumbnail"), first);
  put(folder_ / "slide/Data0000.dat", std::string(300 << 10, 'x'));
  EXPECT_EQ(hash("slide.mrxs", "thumbnail"), first);
  put(folder_ / "slide/Data0001.dat", "");
  EXPECT_NE(hash("slide.mrxs", "thumbnail"), first);
  EXPECT_EQ(hash("slide.tif", "abc"), "44bc2cf5ad770999");  // its folder is none of its
}

TEST_F(PatchManifestTest, AFileThatCannotBeReadIsNamed) {
  EXPECT_HAS(message_of<ReadError>([&] { static_cast<void>(hash_slide(folder_ / "gone.tif")); }),
             "gone.tif: cannot be read");
  fs::create_directories(folder_ / "folder.tif");
  EXPECT_HAS(message_of<ReadError>([&] { static_cast<void>(hash_slide(folder_ / "folder.tif")); }), "cannot be read");
}

TEST_F(PatchManifestTest, EveryValueOfABoxCounts) {
  const Object one{.box = {1, 2, 30, 40}, .label = 0, .difficult = false, .crowd = false, .area = 1102};
  const Object other{.box = {50, 60, 70, 80}, .label = 1, .difficult = false, .crowd = false, .area = 400};
  AnnotatedSlide slide{"s", "s.tif", 100, 100, {one, other}};
  const std::string first = hash_annotations(slide);
  slide.path = "elsewhere/s.tif";
  EXPECT_EQ(hash_annotations(slide), first);
  const std::vector<std::function<void(Object&)>> changes{
      [](Object& o) { o.box.x1 += 0.001F; }, [](Object& o) { o.box.y2 += 1; },  [](Object& o) { o.label = 1; },
      [](Object& o) { o.difficult = true; }, [](Object& o) { o.crowd = true; }, [](Object& o) { o.area = 1101.5; }};
  for (size_t i = 0; i < changes.size(); ++i) {
    slide.objects[0] = one;
    changes[i](slide.objects[0]);
    EXPECT_NE(hash_annotations(slide), first) << i;
  }
  slide.objects = {other, one};
  EXPECT_NE(hash_annotations(slide), first);
}

}  // namespace
}  // namespace gradlibra
