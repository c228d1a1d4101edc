// SPDX-License-Identifier: MIT
#include "engine/scan/scan_slide.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <span>
#include <stdexcept>

#include "engine/evaluation.h"
#include "engine/scan/join_tiles.h"
#include "engine/work_dir.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"
#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kMaxJournalBytes = 8LL << 30;

std::string hash_of_text(const std::string& text) { return xxh64_hex(std::as_bytes(std::span(text))); }

// What a line of the journal says: the tiles from one to another are done.
Json entry_of(int64_t from, const TileBatch& batch, int64_t full, const std::vector<Detection>& found) {
  Json list = Json::array();
  for (const Detection& d : found) list.push_back({d.label, d.score, d.box.x1, d.box.y1, d.box.x2, d.box.y2});
  return {{"from", from}, {"next", batch.next}, {"empty", batch.empty}, {"full", full}, {"found", std::move(list)}};
}

// Throws for a line that is none of ours, or does not follow the one before.
void take_entry(const Json& entry, int classes, SlideScan& scan) {
  const auto next = entry.at("next").get<int64_t>();
  if (entry.at("from").get<int64_t>() != scan.done || next <= scan.done || next > scan.tiles)
    throw std::out_of_range("tiles");
  std::vector<Detection> found;
  for (const Json& d : entry.at("found")) {
    found.push_back({{d.at(2).get<float>(), d.at(3).get<float>(), d.at(4).get<float>(), d.at(5).get<float>()},
                     d.at(0).get<int>(),
                     d.at(1).get<double>()});
    if (found.back().label < 0 || found.back().label >= classes) throw std::out_of_range("label");
  }
  scan.empty += entry.at("empty").get<int64_t>();
  scan.full += entry.at("full").get<int64_t>();
  scan.done = next;
  scan.found.insert(scan.found.end(), found.begin(), found.end());
}

// Takes over what an earlier run has done, and leaves a journal that holds this and nothing else.
void continue_from(const fs::path& journal, const Json& of, int classes, SlideScan& scan) {
  std::string kept = Json{{"of", of}}.dump() + "\n";
  if (fs::exists(journal)) {
    const std::string text = read_file(journal, kMaxJournalBytes);
    size_t begin = 0;
    bool ours = false;
    for (size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      try {
        const Json line =
            Json::parse(text.begin() + static_cast<int64_t>(begin), text.begin() + static_cast<int64_t>(end));
        if (ours) {
          take_entry(line, classes, scan);
          kept += text.substr(begin, end + 1 - begin);
        } else {
          if (line.at("of") != of) break;
          ours = true;
        }
      } catch (const std::exception&) {  // damaged: from here on it is done again
        break;
      }
    }
  }
  scan.continued = scan.done;
  write_file(journal, kept);
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
  const auto time_of = [](const fs::path& path) {
    struct stat info {};
    static_cast<void>(::stat(path.c_str(), &info));
    return fmt::format("{}.{:09}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
  };
  std::error_code error;
  std::string classes;
  for (const std::string& name : loaded.classes) classes += name + "\n";
  const LoaderConfig& input = loaded.config.loader;
  // Of an .mrxs slide the pixels lie in a folder beside it.
  const fs::path folder = fs::path(slide).replace_extension();
  return {{"file", escaped(slide.filename().string())},
          {"file size", fs::file_size(slide, error)},
          {"file time", time_of(slide) + (fs::is_directory(folder, error) ? ", " + time_of(folder) : "")},
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
          {"--empty", options.empty_range}};
}

SlideScan scan_slide(LoadedDetector& loaded, const fs::path& slide, const ScanOptions& options, const Json& of,
                     const fs::path& journal, const std::atomic<int>& signal,
                     const std::function<void(const std::string&)>& say,
                     const std::function<void(int64_t, int64_t)>& progress) {
  const std::unique_ptr<Slide> source = open_for_scan(slide, options);
  const std::vector<Tile> tiles = tiles_of(*source, slide, options);
  SlideScan scan{.width = source->width(), .height = source->height(), .tiles = static_cast<int64_t>(tiles.size())};
  const auto width = static_cast<float>(scan.width), height = static_cast<float>(scan.height);
  const int most = loaded.config.model.test.max_per_image;
  continue_from(journal, of, static_cast<int>(loaded.classes.size()), scan);
  RunLog log(journal);
  TileBatches batches(*source, tiles, loaded.config.loader,
                      {options.tile_width, options.tile_height, options.empty_range}, static_cast<size_t>(scan.done));
  TileBatch batch;
  DeviceBatch device;
  while (signal.load() == 0 && batches.next(batch)) {
    std::vector<Detection> found;
    int64_t full = 0;
    if (!batch.tiles.empty()) {
      const Detections in_tiles = detect_batch(*loaded.detector, batch.batch, device);
      for (size_t n = 0; n < batch.tiles.size(); ++n) {
        const Tile& tile = tiles[batch.tiles[n]];
        const auto x = static_cast<float>(tile.x), y = static_cast<float>(tile.y);
        full += most > 0 && in_tiles[n].size() >= static_cast<size_t>(most);
        for (Detection d : in_tiles[n]) {
          d.box = {d.box.x1 + x, d.box.y1 + y, d.box.x2 + x, d.box.y2 + y};
          if (d.score < options.min_score || !tile.owns(d.box)) continue;
          d.box.x2 = std::min(d.box.x2, width);
          d.box.y2 = std::min(d.box.y2, height);
          found.push_back(d);
        }
      }
    }
    const Json entry = entry_of(scan.done, batch, full, found);
    take_entry(entry, static_cast<int>(loaded.classes.size()), scan);
    if (const std::string trouble = log.add(entry.dump()); !trouble.empty()) say(trouble);
    if (progress) progress(scan.done, scan.tiles);
  }
  scan.found = join_tiles(std::move(scan.found), loaded.config.model.test.nms_iou);
  return scan;
}

}  // namespace gradlibra
