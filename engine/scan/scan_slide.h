// SPDX-License-Identifier: MIT
// A trained detector over a whole slide: tile after tile, with a journal from which a scan that was stopped goes on.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/checkpoint.h"
#include "engine/scan/scan_journal.h"
#include "engine/scan/tile_batches.h"

namespace gradlibra {

struct ScanOptions {
  int tile_width = 0, tile_height = 0;  // pixels of the slide
  int overlap = 0;
  double min_score = 0.3;  // detections below are not kept
  int empty_range = 0;     // TileBatches
  int64_t memory_bytes = 2LL << 30;
};
// std::invalid_argument names the option of `scan` and its range; or says that a tile of this size does not fit into
// the network's input.
void check_options(const ScanOptions& options, const LoaderConfig& loader);

// SlideError.
[[nodiscard]] std::unique_ptr<Slide> open_for_scan(const std::filesystem::path& slide, const ScanOptions& options);

// What the detections of a slide depend on, but for the device and the libraries that read images, whose rounding is
// their own.
[[nodiscard]] nlohmann::ordered_json scan_fingerprint(const std::filesystem::path& slide, const LoadedDetector& loaded,
                                                      const ScanOptions& options);
// Of two fingerprints: the names of what differs, separated by commas.
[[nodiscard]] std::string difference(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b);

struct SlideScan : ScanProgress {  // `found`: the surest first, each object once
  int width = 0, height = 0;       // of the slide
  int64_t continued = 0;           // tiles done by an earlier run
  int64_t not_kept = 0;            // tiles done that are not in the journal: the disk would not take them
  [[nodiscard]] bool finished() const { return done == tiles; }  // else: a signal
};

// Goes on from what `journal` holds and grows it (ScanJournal). Ends early once `signal` is not 0. SlideError if the
// slide cannot be opened or read: what was done stays in the journal. WriteError if there can be none.
[[nodiscard]] SlideScan scan_slide(LoadedDetector& loaded, const std::filesystem::path& slide,
                                   const ScanOptions& options, const nlohmann::ordered_json& of,
                                   const std::filesystem::path& journal, const std::atomic<int>& signal,
                                   const std::function<void(const std::string&)>& say,
                                   const std::function<void(int64_t done, int64_t tiles)>& progress = {});

}  // namespace gradlibra
