// SPDX-License-Identifier: MIT
// The images of a data set as a loader needs them: decoded, resized, kept as far as memory is given, and passed over
// where they cannot be read and may be left out.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/loading/batch.h"
#include "data/loading/loader_config.h"

namespace gradlibra {

using SharedPicture = std::shared_ptr<const Picture>;

// Pictures by index, up to a number of bytes. When it is full it stays as it is: with a new order every epoch,
// replacing would cost copies and save nothing.
class PictureCache {
 public:
  explicit PictureCache(int64_t bytes) : bytes_left_(bytes) {}
  [[nodiscard]] SharedPicture find(int64_t index) const;  // nullptr: not kept
  void offer(int64_t index, const SharedPicture& picture);

 private:
  mutable std::mutex mutex_;
  std::unordered_map<int64_t, SharedPicture> pictures_;
  int64_t bytes_left_;
};

// The image as the network takes it, by loader.resize. It fits: Pictures::check_fits().
[[nodiscard]] Picture as_input(const LoaderConfig& config, Image image);

// Safe to use from many threads.
class Pictures {
 public:
  // Both must outlive it.
  Pictures(const Dataset& dataset, const LoaderConfig& config, bool apply_exif)
      : dataset_(dataset), config_(config), apply_exif_(apply_exif), cache_(config.cache_mb << 20) {}

  // std::runtime_error names the file that cannot be read (ReadError), has changed its size, or does not fit.
  [[nodiscard]] SharedPicture at(int64_t index);

  // The picture at a position of the order; where it cannot be read, the next one, whose index comes out. Images that
  // turn out to be bad are added to `skipped`, each once in a run. std::runtime_error when too many are. A folder that
  // is away, as a network drive may be, makes no picture bad: that error goes to the caller, who may try again.
  [[nodiscard]] SharedPicture readable(const std::vector<int64_t>& order, int64_t position, int64_t& index,
                                       std::vector<std::string>& skipped);

  // std::runtime_error if an image of this size is larger than the network's input and must keep its size.
  void check_fits(const ImageRecord& record, int width, int height) const;

 private:
  [[nodiscard]] bool known_bad(int64_t index);
  // True: it was not known to be bad.
  bool note_bad(int64_t index, const char* why);

  const Dataset& dataset_;
  const LoaderConfig& config_;
  const bool apply_exif_;
  PictureCache cache_;
  std::mutex bad_mutex_;
  std::set<int64_t> bad_;  // images that could not be read
};

}  // namespace gradlibra
