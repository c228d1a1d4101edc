// SPDX-License-Identifier: MIT
// What a checkpoint's checksums cover, and those of earlier versions.
#include "runtime/training/checkpoint_checksums.h"

#include <gtest/gtest.h>

#include <numeric>

#include "runtime/base/xxh64.h"
#include "tests/messages.h"

namespace gradlibra {
namespace {

SafetensorsFile contents() {
  SafetensorsFile file;
  std::vector<float> weights(37);
  std::iota(weights.begin(), weights.end(), 0.5F);
  file.tensors["backbone.conv1.weight"] = make_file_tensor(weights, {37, 1});
  file.tensors["count"] = make_file_scalar(int64_t{3});
  file.metadata["config"] = "name: test\n";
  return file;
}

std::string hash(std::string_view text) { return xxh64_hex(std::as_bytes(std::span(text))); }

TEST(CheckpointChecksums, AsAForeignReaderComputesThem) {
  SafetensorsFile file;
  file.tensors["b"] = {FileDType::u8, {1, 3}, {std::byte{'a'}, std::byte{'b'}, std::byte{'c'}}};
  file.tensors["a"] = {FileDType::u8, {}, {std::byte{'a'}}};
  file.metadata["config"] = "x";
  add_checksums(file.tensors, file.metadata);
  EXPECT_EQ(file.metadata.at("checkpoint.xxh64.a"), "d24ec4f1a98c6e5b");
  EXPECT_EQ(file.metadata.at("checkpoint.xxh64.b"), "44bc2cf5ad770999");
  using namespace std::string_view_literals;
  EXPECT_EQ(file.metadata.at("checkpoint.xxh64"), hash("checkpoint.xxh64.a\0d24ec4f1a98c6e5b\0"
                                                       "checkpoint.xxh64.b\00044bc2cf5ad770999\0"
                                                       "config\0x\0a\0U8\0\0b\0U8\0001,3\0"sv));
  EXPECT_EQ(file.metadata.size(), 4u);
  EXPECT_EQ(checksum_problem(file), "");
}

TEST(CheckpointChecksums, SayWhatIsDamaged) {
  SafetensorsFile good = contents();
  EXPECT_HAS(checksum_problem(good), "no 'checkpoint.xxh64' in its metadata");
  add_checksums(good.tensors, good.metadata);
  SafetensorsFile bad = good;
  bad.tensors.at("count").bytes[7] ^= std::byte{0x80};
  EXPECT_HAS(checksum_problem(bad), "tensor 'count'");
  for (const char* key : {"config", "checkpoint.xxh64", "checkpoint.xxh64.count"}) {
    bad = good;
    bad.metadata.at(key)[2] ^= 1;
    EXPECT_HAS(checksum_problem(bad), "the metadata's checksum");
  }
  bad = good;
  bad.tensors.at("backbone.conv1.weight").shape = {1, 37};
  EXPECT_HAS(checksum_problem(bad), "the metadata's checksum");
  bad = good;
  bad.metadata.erase("checkpoint.xxh64");
  EXPECT_HAS(checksum_problem(bad), "no 'checkpoint.xxh64'");
}

// As version 0.1 wrote them.
TEST(CheckpointChecksums, ThoseOfEarlierVersionsAreVerified) {
  SafetensorsFile file = contents();
  file.metadata["checkpoint.step"] = "9";
  file.metadata["checkpoint.checksum"] = "d7b5480088a9482d";
  file.metadata["checkpoint.checksum.backbone.conv1.weight"] = "483faae950a1ae87";
  file.metadata["checkpoint.checksum.count"] = "bb1413d96605389d";
  EXPECT_EQ(checksum_problem(file), "");
  SafetensorsFile bad = file;
  bad.tensors.at("backbone.conv1.weight").bytes[147] ^= std::byte{1};
  EXPECT_HAS(checksum_problem(bad), "tensor 'backbone.conv1.weight'");
  bad = file;
  bad.metadata.at("checkpoint.step") = "8";
  EXPECT_HAS(checksum_problem(bad), "the metadata's checksum");
  bad = file;
  bad.tensors.erase("count");
  EXPECT_HAS(checksum_problem(bad), "1 tensors, but 2 checksums");
}

}  // namespace
}  // namespace gradlibra
