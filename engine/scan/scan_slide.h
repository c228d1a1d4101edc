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
#include <vector>

#include "data/metrics/metrics.h"
#include "engine/checkpoint.h"
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

// All that the detections of a slide depend on, but for the device, whose rounding is its own.
[[nodiscard]] nlohmann::ordered_json scan_fingerprint(const std::filesystem::path& slide, const LoadedDetector& loaded,
                                                      const ScanOptions& options);
// Of two fingerprints: the names of what differs, separated by commas.
[[nodiscard]] std::string difference(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b);

struct SlideScan {
  int width = 0, height = 0;         // of the slide
  int64_t tiles = 0, done = 0;       // done: dealt with, in this run or before; fewer than `tiles` after a signal
  int64_t empty = 0, continued = 0;  // of those dealt with: passed over; and done by an earlier run
  int64_t full = 0;                  // of those dealt with: as many detections as model.test.max_per_image keeps
  std::vector<Detection> found;      // pixels of the slide; the surest first, each object once
  [[nodiscard]] bool finished() const { return done == tiles; }
};

// Grows the file `journal` batch by batch, and first takes over what it holds if that is of the same fingerprint `of`,
// as far as it is whole. Ends early once `signal` is not 0. SlideError if the slide cannot be opened or read: what was
// done stays in the journal. `say` gets a line when the journal cannot be written or can be again; what it misses would
// be done again.
[[nodiscard]] SlideScan scan_slide(LoadedDetector& loaded, const std::filesystem::path& slide,
                                   const ScanOptions& options, const nlohmann::ordered_json& of,
                                   const std::filesystem::path& journal, const std::atomic<int>& signal,
                                   const std::function<void(const std::string&)>& say,
                                   const std::function<void(int64_t done, int64_t tiles)>& progress = {});

}  // namespace gradlibra
