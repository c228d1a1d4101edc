// SPDX-License-Identifier: MIT
#include "engine/scan/scan_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>

#include "runtime/base/files.h"
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
  for (const Shown& s : shown)
    sides.push_back(std::max(s.found->box.x2 - s.found->box.x1, s.found->box.y2 - s.found->box.y1));
  const auto middle = sides.begin() + static_cast<int64_t>(sides.size() / 2);
  std::nth_element(sides.begin(), middle, sides.end());
  return std::clamp(static_cast<int>(std::lround(2 * *middle)), std::min(32, most), most);
}

std::string hash_of(const std::string& text) { return xxh64_hex(std::as_bytes(std::span(text))); }

// An empty object where there is none, or it is damaged.
Json read_summary(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return Json::object();
  Json summary = Json::parse(read_file(file, int64_t{64} << 20), nullptr, /*allow_exceptions=*/false);
  return summary.is_object() ? summary : Json::object();
}

// Moves a table aside that is not as it was written; where to. Nothing to do: empty.
fs::path keep_edited(const ScanFiles& files) {
  std::error_code error;
  if (!fs::exists(files.table, error)) return {};
  const Json summary = read_summary(files.summary);
  if (summary.value("table", "") == hash_of(read_file(files.table, int64_t{8} << 30))) return {};
  for (int i = 1;; ++i) {
    const fs::path aside = files.table.parent_path() / fmt::format("{}.kept_{}.csv", files.table.stem().string(), i);
    if (fs::exists(aside, error)) continue;
    fs::rename(files.table, aside);
    return aside;
  }
}

// The journals of a slide, each with its fingerprint.
std::vector<std::pair<fs::path, Json>> journals_of(const ScanFiles& files) {
  const std::string name = files.table.stem().string() + ".";
  constexpr size_t kEnding = 13;  // "1a2b3c4d.part"
  std::vector<std::pair<fs::path, Json>> journals;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(files.journal.parent_path(), error)) {
    const std::string file = entry.path().filename().string();
    if (!file.starts_with(name) || entry.path().extension() != ".part" || file.size() != name.size() + kEnding)
      continue;
    const std::string head = read_file(entry.path(), INT64_MAX, 1 << 16);
    const Json line = Json::parse(head.substr(0, head.find('\n')), nullptr, /*allow_exceptions=*/false);
    if (line.is_object() && line.contains("of")) journals.emplace_back(entry.path(), line["of"]);
  }
  return journals;
}

}  // namespace

ScanFiles scan_files(const fs::path& output, const std::string& slide, const Json& of) {
  constexpr size_t kLongest = 180;  // bytes; file systems have 255, of which endings and temporary names take some
  if (slide.size() > kLongest)
    throw SlideError(fmt::format("{}: a name of {} bytes leaves no room for the names of its results: at most {}",
                                 slide, slide.size(), kLongest));
  return {output / (slide + ".csv"), output / (slide + ".geojson"), output / (slide + ".png"),
          output / (slide + ".json"), output / fmt::format("{}.{}.part", slide, hash_of(of.dump()).substr(0, 8))};
}

FormerScan former_scan(const ScanFiles& files, const Json& of) {
  std::error_code error;
  FormerScan former;
  if (const Json summary = read_summary(files.summary); summary.contains("of")) {
    former.finished = summary["of"] == of;
    for (const fs::path& file : {files.table, files.geojson, files.cells}) {
      const auto bytes = fs::file_size(file, error);
      former.finished = former.finished && !error && bytes > 0;
    }
    if (!former.finished) former.changed = difference(summary["of"], of);
    return former;
  }
  if (fs::exists(files.journal, error)) return former;
  for (const auto& [journal, its] : journals_of(files)) former.changed = difference(its, of);
  return former;
}

fs::path write_scan(const ScanFiles& files, const Json& of, const SlideScan& scan, const Image& cells,
                    const std::string& image, const std::vector<std::string>& classes) {
  const fs::path kept = keep_edited(files);
  // Until all are written nothing says that they belong together.
  fs::remove(files.summary);
  write_image(files.cells, cells, /*durable=*/true);
  const WriteOptions durable{.durable = true, .temporary = {}};
  const std::string table = scan_csv(image, scan.found, classes);
  write_file(files.table, table, durable);
  write_file(files.geojson, scan_geojson(scan.found, classes), durable);
  Json objects = Json::object();
  const std::vector<int64_t> counts = count_classes(scan.found, classes.size());
  for (size_t c = 0; c < classes.size(); ++c) objects[classes[c]] = counts[c];
  const Json summary = {
      {"width", scan.width},           {"height", scan.height}, {"tiles", scan.tiles},     {"empty", scan.empty},
      {"at_max_per_image", scan.full}, {"objects", objects},    {"table", hash_of(table)}, {"of", of}};
  write_file(files.summary, text_of(summary, 1) + "\n", durable);
  fs::remove(files.journal);
  // Of another state of the slide or the detector: nothing can go on from these.
  for (const auto& [journal, its] : journals_of(files))
    for (const char* key : {"file size", "file time", "weights"})
      if (its.is_object() && its.value(key, Json()) != of.value(key, Json())) fs::remove(journal);
  return kept;
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
