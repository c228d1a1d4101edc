// SPDX-License-Identifier: MIT
#include "engine/detect_on_ranks.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "engine/evaluation.h"
#include "engine/gather_results.h"

namespace gradlibra {

namespace {

// Detections as bytes, for ranks of one program on machines of one kind: image, count, and for each detection its
// sides, label and score.
class Packer {
 public:
  template <class T>
  void add(const T& value) {
    const size_t at = bytes.size();
    bytes.resize(at + sizeof value);
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }
  std::string bytes;
};

class Unpacker {
 public:
  explicit Unpacker(const std::string& bytes, size_t begin) : bytes_(bytes), at_(begin) {}
  [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }
  template <class T>
  [[nodiscard]] T take() {
    T value{};
    if (bytes_.size() - at_ < sizeof value) throw std::runtime_error("detections of another rank: cut short");
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

 private:
  const std::string& bytes_;
  size_t at_;
};

void pack(Packer& packer, size_t image, const std::vector<Detection>& found) {
  packer.add(static_cast<uint64_t>(image));
  packer.add(static_cast<uint64_t>(found.size()));
  for (const Detection& d : found) {
    for (const float side : {d.box.x1, d.box.y1, d.box.x2, d.box.y2}) packer.add(side);
    packer.add(static_cast<int32_t>(d.label));
    packer.add(d.score);
  }
}

void unpack(const std::string& bytes, size_t begin, Detections& detections) {
  Unpacker unpacker(bytes, begin);
  while (!unpacker.at_end()) {
    std::vector<Detection>& found = detections.at(unpacker.take<uint64_t>());
    found.resize(unpacker.take<uint64_t>());
    for (Detection& d : found) {
      for (float* side : {&d.box.x1, &d.box.y1, &d.box.x2, &d.box.y2}) *side = unpacker.take<float>();
      d.label = unpacker.take<int32_t>();
      d.score = unpacker.take<double>();
    }
  }
}

// Images of this rank's batches.
int64_t count_own(int64_t images, int64_t batch, const Communicator& ranks) {
  int64_t own = 0;
  for (int64_t first = ranks.rank() * batch; first < images; first += batch * ranks.world_size())
    own += std::min(batch, images - first);
  return own;
}

}  // namespace

Detections detect_on_ranks(Detector& detector, const Dataset& dataset, const ExperimentConfig& config,
                           Communicator& ranks, const std::function<void(int64_t, int64_t)>& progress) {
  if (ranks.world_size() == 1) return detect_dataset(detector, dataset, config, progress);
  const auto images = static_cast<int64_t>(dataset.images.size()), batch = int64_t{config.loader.batch_size};
  const int64_t total = count_own(images, batch, ranks);
  const std::vector<std::string> parts = gather_results(ranks, [&] {
    Packer packer;
    packer.add('d');
    int64_t done = 0;
    try {
      detect_each(
          detector, dataset, config,
          [&](size_t image, const std::vector<Detection>& found) {
            pack(packer, image, found);
            if (++done % batch != 0 && done != total) return;
            if (progress) progress(done, total);
          },
          ranks.rank(), ranks.world_size());
    } catch (const BrokenOff& broken) {
      return "s" + std::to_string(broken.signal);
    }
    return packer.bytes;
  });
  int signal = 0;
  for (const std::string& part : parts)
    if (part[0] == 's') signal = std::max(signal, std::stoi(part.substr(1)));
  if (signal != 0) throw BrokenOff{signal};
  Detections detections(dataset.images.size());
  for (const std::string& part : parts) unpack(part, 1, detections);
  return detections;
}

}  // namespace gradlibra
