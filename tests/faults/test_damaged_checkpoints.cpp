// SPDX-License-Identifier: MIT
// What a power cut, a full disk or a bad one leaves of a checkpoint: torn at every block, with holes, with flipped
// bits. All of it is found, named, and the checkpoint before taken.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "engine/checkpoint.h"
#include "runtime/training/checkpoint_store.h"
#include "tests/files.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBlock = 4096;  // what file systems write at once

SafetensorsFile contents(uint32_t seed) {
  std::mt19937 random(seed);
  SafetensorsFile file;
  for (int layer = 0; layer < 12; ++layer) {
    std::vector<float> weights(2000);
    for (float& w : weights) w = std::normal_distribution<float>()(random);
    file.tensors["layer" + std::to_string(layer) + ".weight"] = make_file_tensor(weights, {20, 100});
  }
  file.tensors["train.state.counts"] = make_file_tensor(std::vector<double>(10, seed), {10});
  file.metadata = {{"config", "name: test\n"}, {"classes", R"(["a","b"])"}, {"epoch", "3"}};
  return file;
}

class DamagedCheckpoints : public ::testing::Test {
 protected:
  DamagedCheckpoints() {
    for (const int step : {1, 2})
      EXPECT_TRUE(CheckpointStore(folder_.path()).save(contents(static_cast<uint32_t>(step)), step).ok());
    good_ = get(newest_);
  }
  void expect_found(const std::string& bytes, const std::string& what) const {
    put(newest_, bytes);
    EXPECT_NE(message_of<std::runtime_error>([&] { (void)open_checkpoint(newest_); }), "") << what;
    const OpenedCheckpoint opened = open_checkpoint(folder_.path());
    EXPECT_EQ(fs::path(opened.name).filename(), "checkpoint_1.safetensors") << what;
    ASSERT_EQ(opened.problems.size(), 1u) << what;
    EXPECT_HAS(opened.problems[0], newest_.string());
  }
  TemporaryFolder folder_;
  const fs::path newest_ = folder_ / "checkpoint_2.safetensors";
  std::string good_;
};

TEST_F(DamagedCheckpoints, TheWholeOneIsTaken) {
  const OpenedCheckpoint opened = open_checkpoint(folder_.path());
  EXPECT_EQ(opened.name, newest_.string());
  EXPECT_EQ(opened.file, contents(2));
  EXPECT_TRUE(opened.problems.empty());
}

TEST_F(DamagedCheckpoints, TornAtEveryBlock) {
  ASSERT_GT(good_.size(), 20 * kBlock);
  for (size_t end = 0; end < good_.size(); end += kBlock)
    expect_found(good_.substr(0, end), "truncated to " + std::to_string(end));
  expect_found(good_.substr(0, good_.size() - 1), "the last byte is missing");
  expect_found(good_ + '\0', "a byte too many");
}

// The length is there and the blocks are not: zeros, or what another file left there.
TEST_F(DamagedCheckpoints, WithHolesAtEveryBlock) {
  std::mt19937 random(5);
  for (size_t block = 0; block < good_.size(); block += kBlock) {
    const size_t end = std::min(good_.size(), block + kBlock);
    std::string bad = good_;
    std::fill(bad.begin() + static_cast<ptrdiff_t>(block), bad.end(), '\0');
    expect_found(bad, "zeros from " + std::to_string(block));
    bad = good_;
    for (size_t i = block; i < end; ++i) bad[i] = static_cast<char>(random());
    expect_found(bad, "another file's block at " + std::to_string(block));
  }
}

TEST_F(DamagedCheckpoints, AThousandFlippedBits) {
  std::mt19937 random(7);
  uint64_t header = 0;
  std::memcpy(&header, good_.data(), sizeof(header));
  for (int i = 0; i < 1000; ++i) {
    // Every second one in the header, where a flip may also give another valid file.
    const size_t byte = random() % (i % 2 == 0 ? 8 + header : good_.size());
    std::string bad = good_;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << random() % 8));
    expect_found(bad, "a bit of byte " + std::to_string(byte));
  }
}

// Two files of one run: blocks of one step in the file of another.
TEST_F(DamagedCheckpoints, MixedFromTwoSteps) {
  const std::string other = get(folder_ / "checkpoint_1.safetensors");
  ASSERT_EQ(other.size(), good_.size());
  for (size_t block = 0; block + kBlock <= good_.size(); block += kBlock) {
    std::string bad = good_;
    bad.replace(block, kBlock, other, block, kBlock);
    if (bad != good_) expect_found(bad, "a block of the step before at " + std::to_string(block));
  }
}

}  // namespace
}  // namespace gradlibra
