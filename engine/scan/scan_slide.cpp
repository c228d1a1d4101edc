// SPDX-License-Identifier: MIT
#include "engine/scan/scan_slide.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <span>
#include <stdexcept>

#include "data/datasets/did_you_mean.h"
#include "engine/evaluation.h"
#include "engine/scan/join_tiles.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"
#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string hash_of_text(const std::string& text) { return xxh64_hex(std::as_bytes(std::span(text))); }

std::string time_of(const fs::path& path) {
  struct stat info {};
  static_cast<void>(::stat(path.c_str(), &info));
  return fmt::format("{}.{:09}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

// Of an .mrxs slide the pixels lie in files of a folder beside it.
std::string times_beside(const fs::path& slide) {
  std::error_code error;
  if (lower_case(slide.extension().string()) != ".mrxs") return "";
  std::vector<std::string> files;
  for (fs::directory_iterator at(fs::path(slide).replace_extension(), error), end; !error && at != end;
       at.increment(error)) {
    std::error_code unknown;
    files.push_back(
        fmt::format("{} {} {};", at->path().filename().string(), at->file_size(unknown), time_of(at->path())));
  }
  std::sort(files.begin(), files.end());
  std::string text;
  for (const std::string& file : files) text += file;
  return ", beside it " + hash_of_text(text);
}

// Also of the running statistics, which a detection depends on.
std::string hash_of_values(Detector& detector) {
  uint64_t hash = 0;
  for (const Parameter& p : detector.parameters().all()) {
    const std::vector<float> values = detector.context().download<float>(p.node.value);
    hash = xxh64(std::as_bytes(std::span(values)), hash);
  }
  return fmt::format("{:016x}", hash);
}

std::vector<Tile> tiles_of(const Slide& slide, const fs::path& file, const ScanOptions& options) {
  try {
    return plan_tiles(slide.width(), slide.height(), options.tile_width, options.tile_height, options.overlap);
  } catch (const std::invalid_argument& error) {
    throw SlideError(file.string() + ": " + error.what());
  }
}

}  // namespace

void check_options(const ScanOptions& options, const LoaderConfig& loader) {
  const int smaller = std::min(options.tile_width, options.tile_height);
  if (smaller < 16 || std::max(options.tile_width, options.tile_height) > kMaxImageSide)
    throw std::invalid_argument(fmt::format("--size is {}, expected 16 to {}", options.tile_width, kMaxImageSide));
  if (options.overlap < 0 || options.overlap >= smaller)
    throw std::invalid_argument(fmt::format("--overlap is {}, expected 0 or more and less than the side of a tile ({})",
                                            options.overlap, smaller));
  if (loader.resize == "none" && (options.tile_width > loader.width || options.tile_height > loader.height))
    throw std::invalid_argument(
        fmt::format("--size: tiles of {} x {} pixels are larger than the network's input {} x {}, for which the "
                    "detector's configuration does not shrink pictures (loader.resize=none)",
                    options.tile_width, options.tile_height, loader.width, loader.height));
}

std::unique_ptr<Slide> open_for_scan(const fs::path& slide, const ScanOptions& options) {
  try {
    return open_slide(slide, options.memory_bytes, options.tile_height);
  } catch (const std::runtime_error& error) {
    throw SlideError(error.what());
  }
}

std::string difference(const Json& a, const Json& b) {
  std::string names;
  for (const auto& [key, value] : b.items())
    if (!a.is_object() || !a.contains(key) || a[key] != value) names += (names.empty() ? "" : ", ") + key;
  return names;
}

Json scan_fingerprint(const fs::path& slide, const LoadedDetector& loaded, const ScanOptions& options) {
  std::error_code error;
  std::string classes;
  for (const std::string& name : loaded.classes) classes += name + "\n";
  const LoaderConfig& input = loaded.config.loader;
  return {{"file", escaped(slide.filename().string())},
          {"file size", fs::file_size(slide, error)},
          {"file time", time_of(slide) + times_beside(slide)},
          {"weights", hash_of_values(*loaded.detector)},
          {"training step", loaded.step},
          {"classes", hash_of_text(classes)},
          {"model", hash_of_text(to_yaml(loaded.config.model))},
          {"network input", fmt::format("{} x {}, {}", input.width, input.height, input.resize)},
          {"loader.batch_size", input.batch_size},
          {"runtime", hash_of_text(to_yaml(loaded.config.runtime))},
          {"--size", fmt::format("{} x {}", options.tile_width, options.tile_height)},
          {"--overlap", options.overlap},
          {"--min-score", options.min_score},
          {"--empty", options.empty_range},
          {"method", 1}};  // another one where the same would be computed in another way
}

SlideScan scan_slide(LoadedDetector& loaded, const fs::path& slide, const ScanOptions& options, const Json& of,
                     const fs::path& journal, const std::atomic<int>& signal,
                     const std::function<void(const std::string&)>& say,
                     const std::function<void(int64_t, int64_t)>& progress) {
  const std::unique_ptr<Slide> source = open_for_scan(slide, options);
  const std::vector<Tile> tiles = tiles_of(*source, slide, options);
  SlideScan scan;
  scan.width = source->width();
  scan.height = source->height();
  scan.tiles = static_cast<int64_t>(tiles.size());
  const auto width = static_cast<float>(scan.width), height = static_cast<float>(scan.height);
  const int most = loaded.config.model.test.max_per_image;
  ScanJournal file(journal, of, {static_cast<int>(loaded.classes.size()), scan.width, scan.height}, scan, say);
  scan.continued = scan.done;
  TileBatches batches(*source, tiles, loaded.config.loader,
                      {options.tile_width, options.tile_height, options.empty_range}, static_cast<size_t>(scan.done));
  TileBatch batch;
  DeviceBatch device;
  try {
    while (signal.load() == 0 && batches.next(batch)) {
      ScanEntry entry{.next = static_cast<int64_t>(batch.next), .empty = batch.empty, .full = 0, .found = {}};
      if (!batch.tiles.empty()) {
        const Detections in_tiles = detect_batch(*loaded.detector, batch.batch, device);
        for (size_t n = 0; n < batch.tiles.size(); ++n) {
          const Tile& tile = tiles[batch.tiles[n]];
          const auto x = static_cast<float>(tile.x), y = static_cast<float>(tile.y);
          entry.full += most > 0 && in_tiles[n].size() >= static_cast<size_t>(most);
          for (Detection d : in_tiles[n]) {
            d.box = {d.box.x1 + x, d.box.y1 + y, d.box.x2 + x, d.box.y2 + y};
            if (d.score < options.min_score || !tile.owns(d.box)) continue;
            d.box.x2 = std::min(d.box.x2, width);
            d.box.y2 = std::min(d.box.y2, height);
            entry.found.push_back(d);
          }
        }
      }
      file.add(entry, scan);
      if (progress) progress(scan.done, scan.tiles);
    }
  } catch (...) {
    static_cast<void>(file.close(scan));
    throw;
  }
  scan.not_kept = file.close(scan);
  scan.found = join_tiles(std::move(scan.found), loaded.config.model.test.nms_iou);
  return scan;
}

}  // namespace gradlibra
