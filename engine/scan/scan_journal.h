// SPDX-License-Identifier: MIT
// What a scan has found so far, on disk: a head with its fingerprint, then a line for each batch of tiles. It stays
// when the scan is finished, so that its results can be written again without looking at a tile.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/metrics/metrics.h"

namespace gradlibra {

// How far a scan has come.
struct ScanProgress {
  int64_t tiles = 0, done = 0;   // done: dealt with, the first ones
  int64_t empty = 0, full = 0;   // of those: passed over; with as many detections as model.test.max_per_image keeps
  std::vector<Detection> found;  // pixels of the slide, tile by tile
};

// Tiles from `progress.done` on.
struct ScanEntry {
  int64_t next = 0;  // the first behind them
  int64_t empty = 0, full = 0;
  std::vector<Detection> found;
};

// What a detection may be: of one of so many classes, with its box on the slide.
struct ScanBounds {
  int classes = 0, width = 0, height = 0;
};

class ScanJournal {
 public:
  // Takes over into `progress` what `file` holds under the same fingerprint `of`. Each line has its XXH64: one that is
  // damaged, out of `bounds`, or leaves a gap is as if it was not there; `say` is told where tiles are lost by it. What
  // is no journal of this fingerprint is kept under another name (rename_to_kept.h). ReadError, WriteError if the file
  // cannot be read or written. `say` gets a line, too, when it cannot be written later, or was deleted, and when that
  // is over.
  ScanJournal(std::filesystem::path file, nlohmann::ordered_json of, const ScanBounds& bounds, ScanProgress& progress,
              std::function<void(const std::string&)> say);
  ~ScanJournal();
  ScanJournal(const ScanJournal&) = delete;
  ScanJournal& operator=(const ScanJournal&) = delete;

  // Adds to `progress` and to the file. What a full disk does not take waits in memory. On the disk, power cut or not,
  // after a few seconds.
  void add(const ScanEntry& entry, ScanProgress& progress);
  // The last try. Tiles that are not in the file: 0 if all is well.
  [[nodiscard]] int64_t close(const ScanProgress& progress);

 private:
  void read(const ScanBounds& bounds, ScanProgress& progress);
  void begin(const std::string& text);  // a new file
  bool open();
  [[nodiscard]] bool is_there() const;
  bool flush();
  bool write_anew(const ScanProgress& progress);
  bool sync(const ScanProgress& progress);

  std::filesystem::path file_;
  nlohmann::ordered_json of_;
  std::function<void(const std::string&)> say_;
  int descriptor_ = -1;
  std::string waiting_;
  int64_t waiting_tiles_ = 0;
  bool failing_ = false;
  int error_ = 0;  // why a write has failed
  std::chrono::steady_clock::time_point synced_;
};

}  // namespace gradlibra
