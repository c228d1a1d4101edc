// SPDX-License-Identifier: MIT
// Drawings stay below their folder and apart, whatever the images are called.
#include "engine/picture_files.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

std::vector<ImageRecord> called(const std::vector<std::string>& ids, const fs::path& folder = "/somewhere/else") {
  std::vector<ImageRecord> images;
  for (const std::string& id : ids) {
    images.emplace_back();
    images.back().id = id;
    images.back().path = folder / "picture.png";
  }
  return images;
}

// Below the folder "out".
std::vector<std::string> files_of(const std::vector<std::string>& ids) {
  std::vector<std::string> files;
  for (const fs::path& file : picture_files("out", called(ids))) files.push_back(file.string());
  return files;
}

TEST(PictureFiles, AreCalledAsTheImages) {
  EXPECT_EQ(files_of({"a", "sub/b.jpg", "sub/b"}),
            (std::vector<std::string>{"out/a.png", "out/sub/b.jpg.png", "out/sub/b.png"}));
  EXPECT_EQ(picture_files("out", called({"a", "b", "c"}), 2).size(), 2u);
  EXPECT_TRUE(picture_files("out", {}).empty());
}

TEST(PictureFiles, StayBelowTheirFolder) {
  EXPECT_EQ(files_of({"/data/y/a.jpg", "../Annotations/b", "c/../../../d", "./e", "..", "/", ""}),
            (std::vector<std::string>{"out/data/y/a.jpg.png", "out/up/Annotations/b.png", "out/c/up/up/up/d.png",
                                      "out/e.png", "out/up.png", "out/image.png", "out/image (2).png"}));
  EXPECT_EQ(files_of({std::string("a\0b", 3), "\xfc"}), (std::vector<std::string>{"out/a\\x00b.png", "out/\\xfc.png"}));
}

// The plain name has its own, wherever it stands; a file cannot have the name of a folder.
TEST(PictureFiles, AreApart) {
  EXPECT_EQ(files_of({"/x/a", "./x/a", "x/a"}),
            (std::vector<std::string>{"out/x/a (2).png", "out/x/a (3).png", "out/x/a.png"}));
  EXPECT_EQ(files_of({"a", "a.png/b"}), (std::vector<std::string>{"out/a (2).png", "out/a.png/b.png"}));
}

TEST(PictureFiles, AreNotAmongTheImages) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "data");
  fs::create_directory_symlink(folder / "data", folder / "link");
  for (const char* output : {"data", "link", "data/../link"})
    EXPECT_HAS(message_of([&] { (void)picture_files(folder / output, called({"b"}, folder / "data")); }),
               "name another --output");
  EXPECT_EQ(picture_files(folder / "data/drawn", called({"b"}, folder / "data")).size(), 1u);
}

}  // namespace
}  // namespace gradlibra
