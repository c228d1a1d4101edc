// SPDX-License-Identifier: MIT
#include "runtime/training/checkpoint_checksums.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <span>

#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace {

constexpr std::string_view kRestKey = "checkpoint.xxh64", kTensorKey = "checkpoint.xxh64.";
constexpr std::string_view kFormerRestKey = "checkpoint.checksum", kFormerTensorKey = "checkpoint.checksum.";

std::string rest_checksum(const std::map<std::string, FileTensor>& tensors,
                          const std::map<std::string, std::string>& metadata) {
  std::string text;
  const auto add = [&](std::string_view part) { (text += part) += '\0'; };
  for (const auto& [key, value] : metadata) {
    if (key == kRestKey) continue;
    add(key);
    add(value);
  }
  for (const auto& [name, tensor] : tensors) {
    add(name);
    add(to_string(tensor.dtype));
    std::string shape;
    for (const int64_t extent : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    add(shape);
  }
  return xxh64_hex(std::as_bytes(std::span(text)));
}

// The hash of earlier versions: four interleaved lanes of multiply-and-rotate.
class FormerChecksum {
 public:
  void add(std::span<const std::byte> bytes) {
    add_word(bytes.size());  // lengths are part of it: pieces cannot move into one another
    size_t i = 0;
    for (; i + 32 <= bytes.size(); i += 32) {
      for (size_t lane = 0; lane < 4; ++lane) step(lane_[lane], load(bytes.data() + i + 8 * lane, 8));
    }
    for (; i < bytes.size(); i += 8) add_word(load(bytes.data() + i, std::min<size_t>(8, bytes.size() - i)));
  }
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  void add_word(uint64_t word) { step(lane_[0], word); }

  [[nodiscard]] std::string hex() const {
    uint64_t result = 0;
    for (const uint64_t lane : lane_) step(result, lane);
    char text[17];
    std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(result ^ (result >> 32)));
    return text;
  }

 private:
  static uint64_t load(const std::byte* from, size_t count) {
    uint64_t word = 0;
    std::memcpy(&word, from, count);
    return word;
  }
  static void step(uint64_t& lane, uint64_t word) {
    lane = std::rotl(lane ^ word, 29) * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u;
  }

  uint64_t lane_[4] = {1, 2, 3, 4};
};

std::string former_checksum(const std::string& name, const FileTensor& tensor) {
  FormerChecksum sum;
  sum.add(name);
  sum.add(to_string(tensor.dtype));
  for (const int64_t extent : tensor.shape) sum.add_word(static_cast<uint64_t>(extent));
  sum.add(tensor.bytes);
  return sum.hex();
}

std::string former_rest_checksum(const std::map<std::string, std::string>& metadata) {
  FormerChecksum sum;
  for (const auto& [key, value] : metadata) {
    if (key == kFormerRestKey) continue;
    sum.add(key);
    sum.add(value);
  }
  return sum.hex();
}

}  // namespace

void add_checksums(const std::map<std::string, FileTensor>& tensors, std::map<std::string, std::string>& metadata) {
  for (const auto& [name, tensor] : tensors) metadata[std::string(kTensorKey) + name] = xxh64_hex(tensor.bytes);
  metadata[std::string(kRestKey)] = rest_checksum(tensors, metadata);
}

// Any key will do: a flipped bit changes one of them at most.
bool has_checksums(const SafetensorsFile& file) {
  const auto first = file.metadata.lower_bound(std::string(kCheckpointKeys));
  return first != file.metadata.end() && first->first.starts_with(kCheckpointKeys);
}

std::string checksum_problem(const SafetensorsFile& file) {
  const auto& metadata = file.metadata;
  const bool former = !metadata.contains(std::string(kRestKey)) && metadata.contains(std::string(kFormerRestKey));
  const std::string rest_key(former ? kFormerRestKey : kRestKey), tensor_key(former ? kFormerTensorKey : kTensorKey);
  const auto rest = metadata.find(rest_key);
  if (rest == metadata.end())
    return "no '" + rest_key + "' in its metadata; it is not a checkpoint of this program, or damaged";
  if (rest->second != (former ? former_rest_checksum(metadata) : rest_checksum(file.tensors, metadata)))
    return "damaged: the metadata's checksum does not fit";
  const auto sums = std::count_if(metadata.begin(), metadata.end(),
                                  [&](const auto& item) { return item.first.starts_with(tensor_key); });
  if (static_cast<size_t>(sums) != file.tensors.size())
    return "damaged: " + std::to_string(file.tensors.size()) + " tensors, but " + std::to_string(sums) + " checksums";
  for (const auto& [name, tensor] : file.tensors) {
    const auto sum = metadata.find(tensor_key + name);
    if (sum == metadata.end() || sum->second != (former ? former_checksum(name, tensor) : xxh64_hex(tensor.bytes)))
      return "damaged: the checksum of tensor '" + name + "' does not fit";
  }
  return "";
}

}  // namespace gradlibra
