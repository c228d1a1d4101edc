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

class ScanJournal {
 public:
  // Takes over into `progress` what `file` holds under the same fingerprint `of`: lines that are damaged, of a wrong
  // class or leave a gap are as if they were not there; what is no journal of this fingerprint is kept under another
  // name. ReadError, WriteError if the file cannot be read or written. `say` gets a line
  // when it cannot be written later, or was deleted, and when that is over.
  ScanJournal(std::filesystem::path file, nlohmann::ordered_json of, int classes, ScanProgress& progress,
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
  void read(int classes, ScanProgress& progress);
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
