// SPDX-License-Identifier: MIT
#include "runtime/base/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <future>
#include <string>

#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

TEST(WriteFile, ReplacesAFileAndFollowsALink) {
  const TemporaryFolder folder;
  const fs::path file = folder / "deep/a.txt", link = folder / "link.txt";
  write_file(file, std::string("one"));
  fs::create_symlink("deep/a.txt", link);
  write_file(link, std::string("two"));
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(read_file(file, 100), "two");
  fs::create_symlink("nowhere", folder / "dangling");
  write_file(folder / "dangling", std::string("three"));
  EXPECT_EQ(read_file(folder / "dangling", 100), "three");
}

TEST(MoveAside, TakesTheFirstNameThatIsFree) {
  const TemporaryFolder folder;
  put(folder / "config.1.yaml", "first");
  fs::create_symlink("nowhere", folder / "config.2.yaml");
  put(folder / "config.yaml", "second");
  EXPECT_EQ(move_aside(folder / "config.yaml"), folder / "config.3.yaml");
  EXPECT_EQ(get(folder / "config.3.yaml"), "second");
  EXPECT_EQ(get(folder / "config.1.yaml"), "first");
  EXPECT_FALSE(fs::exists(folder / "config.yaml"));
}

TEST(WriteFile, WritesIntoPipesAndDevices) {
  const TemporaryFolder folder;
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  auto read = std::async(std::launch::async, [&] {
    std::ifstream in(pipe);
    return std::string(std::istreambuf_iterator<char>(in), {});
  });
  const std::string much(200000, 'x');
  write_file(pipe, much);
  EXPECT_EQ(read.get(), much);
  EXPECT_TRUE(fs::is_fifo(pipe));
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  fs::create_symlink("/dev/full", folder / "full");
  EXPECT_HAS(message_of([&] { write_file(folder / "full", much); }), "No space left on device");
  EXPECT_TRUE(fs::is_symlink(folder / "full"));
}

}  // namespace
}  // namespace gradlibra
