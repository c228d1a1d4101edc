// SPDX-License-Identifier: MIT
#include "engine/scan/scan_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <span>
#include <stdexcept>

#include "engine/scan/rename_to_kept.h"
#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/xxh64.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// A field of a table, in quotes where it needs them.
std::string field(const std::string& text) {
  if (text.find_first_of(",;\t\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

double rounded(double value, double parts) { return std::round(value * parts) / parts; }

// Names are checked to be UTF-8 when they are read; whatever comes otherwise must not lose what was computed.
std::string text_of(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

constexpr int kCell = 128, kGap = 4, kNames = 132;  // pixels of the picture of cells

// A place in the picture of cells.
struct Shown {
  const Detection* found;
  int row, column, x, y;  // x, y: of the region on the slide
};

// Side of the regions shown: twice the usual cell of them, that its surroundings can be seen.
int region_side(const std::vector<Shown>& shown, int most) {
  std::vector<float> sides;
  sides.reserve(shown.size());
  for (const Shown& s : shown)
    sides.push_back(std::max(s.found->box.x2 - s.found->box.x1, s.found->box.y2 - s.found->box.y1));
  const auto middle = sides.begin() + static_cast<int64_t>(sides.size() / 2);
  std::nth_element(sides.begin(), middle, sides.end());
  return std::clamp(static_cast<int>(std::lround(2 * *middle)), std::min(32, most), most);
}

std::string hash_of(const std::string& text) { return xxh64_hex(std::as_bytes(std::span(text))); }

constexpr int64_t kMostBytes = 16LL << 30;

std::string hash_of_file(const fs::path& file) { return hash_of(read_file(file, kMostBytes)); }

// An empty object where there is none, or it is not one of ours.
Json read_summary(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return Json::object();
  Json summary = parse_json_or_discard<Json>(read_file(file, kMostBytes));
  const bool ours = summary.is_object() && summary.contains("of") && summary["of"].is_object() &&
                    summary.contains("files") && summary["files"].is_object() && summary.contains("complete");
  return ours ? summary : Json::object();
}

// What lies in a folder, as far as it can be listed.
std::vector<fs::path> files_of(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (std::error_code other; at->is_regular_file(other)) files.push_back(at->path());
  return files;
}

// The fingerprints of a slide's journals, as far as they can be read: they serve a message.
std::vector<Json> journals_of(const ScanFiles& files) {
  const std::string name = files.table.stem().string() + ".";
  constexpr size_t kEnding = 14;  // "1a2b3c4d.found"
  std::vector<Json> fingerprints;
  for (const fs::path& path : files_of(files.journal.parent_path())) {
    const std::string file = path.filename().string();
    if (!file.starts_with(name) || !file.ends_with(".found") || file.size() != name.size() + kEnding) continue;
    try {
      const std::string head = read_file(path, kMostBytes, 1 << 16);
      const Json line = parse_json_or_discard<Json>(head.substr(0, head.find('\n')));
      if (line.is_object() && line.contains("of") && line["of"].is_object()) fingerprints.push_back(line["of"]);
    } catch (const ReadError&) {
      continue;
    }
  }
  return fingerprints;
}

void keep_aside(const fs::path& file, const std::function<void(const std::string&)>& say) {
  say(fmt::format("{}: is not as a scan has written it: it is kept as {}", file.string(),
                  rename_to_kept(file).filename().string()));
}

// The bytes of a PNG file, by way of one that remove_halves() knows.
std::string encoded(const Image& image, const fs::path& file) {
  const fs::path half = fmt::format("{}.tmp.{}.0.png", file.string(), ::getpid());
  write_image(half, image);
  std::string bytes = read_file(half, kMostBytes);
  fs::remove(half);
  return bytes;
}

}  // namespace

ScanFiles scan_files(const fs::path& output, const std::string& slide, const Json& of) {
  constexpr size_t kLongest = 180;  // bytes; file systems have 255, of which endings and temporary names take some
  if (slide.size() > kLongest)
    throw SlideError(fmt::format("{}: a name of {} bytes leaves no room for the names of its results: at most {}",
                                 slide, slide.size(), kLongest));
  return {output / (slide + ".csv"), output / (slide + ".geojson"), output / (slide + ".png"),
          output / (slide + ".json"), output / fmt::format("{}.{}.found", slide, hash_of(of.dump()).substr(0, 8))};
}

FormerScan former_scan(const ScanFiles& files, const Json& of) {
  std::error_code error;
  FormerScan former;
  const Json summary = read_summary(files.summary);
  if (!summary.empty() && summary["of"] == of) {
    if (summary["complete"] != true) return former;
    for (const fs::path& file : {files.table, files.geojson, files.cells}) {
      if (!fs::is_regular_file(file, error))
        former.gone.push_back(file);
      else if (summary["files"].value(file.extension().string(), Json()) != hash_of_file(file))
        former.edited.push_back(file);
    }
    former.finished = former.gone.empty();
    return former;
  }
  if (fs::exists(files.journal, error)) return former;
  std::vector<Json> others = journals_of(files);
  if (!summary.empty()) others.push_back(summary["of"]);
  if (!others.empty()) former.changed = difference(others.back(), of);
  return former;
}

void remove_halves(const ScanFiles& files) {
  const std::string name = files.table.stem().string();
  // As write_file() and encoded() call them, and no result of any slide.
  static const std::regex half(R"(\.(csv|geojson|png|json|[0-9a-f]{8}\.found)\.tmp\.[0-9]+\.[0-9a-f]+(\.png)?)");
  for (const fs::path& path : files_of(files.table.parent_path())) {
    const std::string file = path.filename().string();
    std::error_code error;
    if (file.starts_with(name) && std::regex_match(file.substr(name.size()), half)) fs::remove(path, error);
  }
}

void write_scan(const ScanFiles& files, const Json& of, const Json& by, const SlideScan& scan, const Image& cells,
                const std::string& image, const std::vector<std::string>& classes,
                const std::function<void(const std::string&)>& say, const FileCalls* calls) {
  const WriteOptions durable{.durable = true, .temporary = {}, .calls = calls};
  const std::vector<std::pair<fs::path, std::string>> results{{files.table, scan_csv(image, scan.found, classes)},
                                                              {files.geojson, scan_geojson(scan.found, classes)},
                                                              {files.cells, encoded(cells, files.cells)}};
  const Json former = read_summary(files.summary);
  std::error_code error;
  if (!former.empty() && former["of"] == of && former["complete"] == true) {
    // What has gone; what is there is as it was written, or as somebody wants it.
    for (const auto& [file, text] : results)
      if (!fs::exists(fs::symlink_status(file, error))) write_file(file, text, durable);
    return;
  }
  Json hashes = Json::object(), known = Json::object();  // by ending; known: of all that scans have written here
  for (const auto& [file, text] : results) {
    const std::string ending = file.extension().string();
    hashes[ending] = hash_of(text);
    known[ending] = {hashes[ending]};
    if (former.empty()) continue;
    known[ending].push_back(former["files"].value(ending, Json()));
    if (former.contains("former") && former["former"].is_object())
      for (const Json& hash : former["former"].value(ending, Json::array())) known[ending].push_back(hash);
  }
  for (const auto& [file, text] : results) {
    if (!fs::exists(fs::symlink_status(file, error))) continue;
    const Json& ours = known[file.extension().string()];
    if (!fs::is_regular_file(fs::symlink_status(file, error)) ||
        std::find(ours.begin(), ours.end(), Json(hash_of_file(file))) == ours.end())
      keep_aside(file, say);
  }
  if (fs::exists(fs::symlink_status(files.summary, error)) && former.empty()) keep_aside(files.summary, say);

  Json objects = Json::object();
  const std::vector<int64_t> counts = count_classes(scan.found, classes.size());
  for (size_t c = 0; c < classes.size(); ++c) objects[classes[c]] = counts[c];
  Json summary = {{"width", scan.width}, {"height", scan.height},         {"tiles", scan.tiles},
                  {"empty", scan.empty}, {"at_max_per_image", scan.full}, {"objects", objects}};
  summary.update(by);
  summary["of"] = of;
  summary["files"] = hashes;
  // While they are exchanged both what was there and what comes is known.
  summary["complete"] = false;
  summary["former"] = known;
  write_file(files.summary, text_of(summary, 1) + "\n", durable);
  for (const auto& [file, text] : results) write_file(file, text, durable);
  summary["complete"] = true;
  summary.erase("former");
  write_file(files.summary, text_of(summary, 1) + "\n", durable);
}

std::string scan_csv(const std::string& image, const std::vector<Detection>& found,
                     const std::vector<std::string>& classes) {
  std::string text = "image,class,xmin,ymin,xmax,ymax,score\n";
  if (found.empty()) text += field(image) + ",,,,,,\n";
  for (const Detection& d : found)
    text += fmt::format("{},{},{:.2f},{:.2f},{:.2f},{:.2f},{:.4f}\n", field(image),
                        field(classes[static_cast<size_t>(d.label)]), d.box.x1, d.box.y1, d.box.x2, d.box.y2, d.score);
  return text;
}

std::string scan_geojson(const std::vector<Detection>& found, const std::vector<std::string>& classes) {
  std::string text = R"({"type":"FeatureCollection","features":[)";
  for (size_t i = 0; i < found.size(); ++i) {
    const Detection& d = found[i];
    const auto at = [](float value) { return rounded(static_cast<double>(value), 100); };
    const double x1 = at(d.box.x1), y1 = at(d.box.y1), x2 = at(d.box.x2), y2 = at(d.box.y2);
    const Json corner = {x1, y1};
    const Color color = class_color(d.label);
    const Json ring = {corner, {x2, y1}, {x2, y2}, {x1, y2}, corner};
    const Json feature = {
        {"type", "Feature"},
        {"geometry", {{"type", "Polygon"}, {"coordinates", Json::array({ring})}}},
        {"properties",
         {{"objectType", "annotation"},
          {"classification", {{"name", classes[static_cast<size_t>(d.label)]}, {"color", {color.r, color.g, color.b}}}},
          {"measurements", {{"score", rounded(d.score, 10000)}}}}}};
    text += (i == 0 ? "\n" : ",\n") + text_of(feature, -1);
  }
  return text + "\n]}\n";
}

Image draw_cells(Slide& slide, int most_rows, const std::vector<Detection>& found,
                 const std::vector<std::string>& classes, int most) {
  const std::vector<int64_t> counts = count_classes(found, classes.size());
  std::vector<int> row_of(classes.size(), -1);
  int rows = 0;
  for (size_t c = 0; c < classes.size(); ++c)
    if (counts[c] > 0) row_of[c] = rows++;
  std::vector<Shown> shown;
  std::vector<int> columns(classes.size(), 0);
  int widest = 1;
  for (const Detection& d : found) {
    const auto c = static_cast<size_t>(d.label);
    if (columns[c] >= most) continue;
    shown.push_back({&d, row_of[c], columns[c]++, 0, 0});
    widest = std::max(widest, columns[c]);
  }
  Image picture{kNames + widest * (kCell + kGap), std::max(1, rows) * (kCell + kGap) + kGap, {}};
  picture.pixels.assign(static_cast<size_t>(picture.width) * picture.height * 3, 255);
  constexpr Color kInk{20, 20, 20};
  if (shown.empty()) {
    draw_text(picture, kGap, kCell / 2, "nothing found", kInk);
    return picture;
  }
  for (size_t c = 0; c < classes.size(); ++c) {
    if (row_of[c] < 0) continue;
    const int y = kGap + row_of[c] * (kCell + kGap) + kCell / 2;
    draw_text(picture, kGap, y, classes[c], kInk);
    draw_text(picture, kGap, y + 12, std::to_string(counts[c]), kInk);
  }
  const int side = region_side(shown, std::min({most_rows, slide.width(), slide.height()}));
  for (Shown& s : shown) {
    const Box& box = s.found->box;
    const auto corner = [side](float low, float high, int length) {
      return std::clamp(static_cast<int>(std::lround((low + high) / 2)) - side / 2, 0, length - side);
    };
    s.x = corner(box.x1, box.x2, slide.width());
    s.y = corner(box.y1, box.y2, slide.height());
  }
  std::stable_sort(shown.begin(), shown.end(), [](const Shown& a, const Shown& b) { return a.y < b.y; });
  for (const Shown& s : shown) {
    Image region{side, side, std::vector<uint8_t>(static_cast<size_t>(side) * side * 3)};
    try {
      slide.read(s.x, s.y, region);
    } catch (const std::runtime_error& error) {
      throw SlideError(error.what());
    }
    Image cell = resize(region, kCell, kCell);
    const float scale = static_cast<float>(kCell) / static_cast<float>(side);
    const Box& box = s.found->box;
    const auto x = static_cast<float>(s.x), y = static_cast<float>(s.y);
    draw_box(cell, (box.x1 - x) * scale, (box.y1 - y) * scale, (box.x2 - x) * scale, (box.y2 - y) * scale,
             class_color(s.found->label), 1);
    draw_text(cell, 3, kCell - 3, fmt::format("{:.2f}", s.found->score), class_color(s.found->label));
    const int left = kNames + s.column * (kCell + kGap), top = kGap + s.row * (kCell + kGap);
    for (int j = 0; j < kCell; ++j)
      std::copy_n(cell.at(0, j), static_cast<size_t>(kCell) * 3, picture.at(left, top + j));
  }
  return picture;
}

std::vector<int64_t> count_classes(const std::vector<Detection>& found, size_t classes) {
  std::vector<int64_t> counts(classes, 0);
  for (const Detection& d : found) ++counts.at(static_cast<size_t>(d.label));
  return counts;
}

}  // namespace gradlibra
