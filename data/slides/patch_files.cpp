// SPDX-License-Identifier: MIT
#include "data/slides/patch_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/slides/patch_manifest.h"
#include "runtime/base/files.h"

namespace gradlibra {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 3> kNames{"train", "val", "test"};
constexpr const char* kClassFile = "classes.yaml";
constexpr std::array<Split, 3> kSplits{Split::train, Split::val, Split::test};

const char* to_string(Edge edge) { return edge == Edge::move ? "move" : "pad"; }

// Every slide of a split with its plan, which is made anew each time: those of all slides would not fit into memory.
void for_each_slide(const PatchSet& set, size_t split,
                    const std::function<void(const AnnotatedSlide&, const SlidePlan&)>& visit) {
  for (size_t i = 0; i < set.slides.slides.size(); ++i) {
    if (set.division.split_of[i] != static_cast<int>(split)) continue;
    const AnnotatedSlide& slide = set.slides.slides[i];
    visit(slide, plan_slide(slide, kSplits[split], set.slides.classes.size(), set.options));
  }
}

std::string xml_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c;
  }
  return out;
}

double thousandths(double value) { return std::round(value * 1000) / 1000; }

Json coco_box(const Box& box) {
  const double x1 = thousandths(box.x1), y1 = thousandths(box.y1);
  return {x1, y1, thousandths(thousandths(box.x2) - x1), thousandths(thousandths(box.y2) - y1)};
}

// A list of JSON entries, one a line, that is never whole in memory.
class EntryList {
 public:
  explicit EntryList(const ByteSink& sink) : sink_(sink) {}
  void add(const Json& entry) {
    text_ += (first_ ? "\n" : ",\n") + entry.dump();
    first_ = false;
    constexpr size_t kChunk = 1 << 20;
    if (text_.size() >= kChunk) flush();
  }
  void flush() {
    sink_(std::as_bytes(std::span(text_)));
    text_.clear();
  }

 private:
  const ByteSink& sink_;
  std::string text_;
  bool first_ = true;
};

void put_text(const ByteSink& sink, const std::string& text) { sink(std::as_bytes(std::span(text))); }

// The next free ids of images and annotations.
struct CocoIds {
  int64_t image = 1, annotation = 1;
};

// Ids of the source's categories where it has them.
std::vector<int64_t> category_ids(const SlideSet& set) {
  std::vector<int64_t> ids;
  for (size_t c = 0; c < set.classes.size(); ++c) {
    const auto known = set.category_ids.find(set.classes[c]);
    if (known == set.category_ids.end()) break;
    ids.push_back(known->second);
  }
  if (ids.size() == set.classes.size()) return ids;
  ids.clear();
  for (size_t c = 0; c < set.classes.size(); ++c) ids.push_back(static_cast<int64_t>(c) + 1);
  return ids;
}

// The one of a split, under the folder of the set.
fs::path split_list(const PatchSet& set, size_t split) {
  return set.options.format == "coco" ? fs::path("annotations") / fmt::format("{}.json", kNames[split])
                                      : fs::path("ImageSets") / "Main" / fmt::format("{}.txt", kNames[split]);
}

void write_coco(const PatchSet& set, size_t split, const fs::path& file, CocoIds& ids) {
  const std::vector<int64_t> categories = category_ids(set.slides);
  const int size = set.options.size;
  write_file(file, [&](const ByteSink& sink) {
    put_text(sink, "{\"images\": [");
    EntryList images(sink);
    int64_t image_id = ids.image;
    for_each_slide(set, split, [&](const AnnotatedSlide& slide, const SlidePlan& plan) {
      for (const Patch& patch : plan.patches)
        images.add({{"id", image_id++},
                    {"file_name", picture_name(slide, patch, set.options)},
                    {"width", size},
                    {"height", size},
                    {"slide", slide.name},
                    {"x", patch.x},
                    {"y", patch.y}});
    });
    images.flush();
    put_text(sink, "\n],\n\"annotations\": [");
    EntryList annotations(sink);
    image_id = ids.image;
    for_each_slide(set, split, [&](const AnnotatedSlide&, const SlidePlan& plan) {
      for (const Patch& patch : plan.patches) {
        for (const Object& object : patch.objects)
          annotations.add({{"id", ids.annotation++},
                           {"image_id", image_id},
                           {"category_id", categories[static_cast<size_t>(object.label)]},
                           {"bbox", coco_box(object.box)},
                           {"area", thousandths(object.area)},
                           {"iscrowd", object.crowd || object.difficult ? 1 : 0}});
        ++image_id;
      }
    });
    annotations.flush();
    ids.image = image_id;
    Json list = Json::array();
    for (size_t c = 0; c < categories.size(); ++c)
      list.push_back({{"id", categories[c]}, {"name", set.slides.classes[c]}});
    put_text(sink, "\n],\n\"categories\": " + list.dump() + "}\n");
  });
}

void write_voc_list(const PatchSet& set, size_t split, const fs::path& file) {
  write_file(file, [&](const ByteSink& sink) {
    for_each_slide(set, split, [&](const AnnotatedSlide& slide, const SlidePlan& plan) {
      std::string lines;
      for (const Patch& patch : plan.patches) lines += patch_name(slide.name, patch.x, patch.y) + "\n";
      put_text(sink, lines);
    });
  });
}

Json boxes_json(const SlideSet& set, const std::vector<BoxCounts>& counts) {
  Json json = Json::object();
  for (size_t c = 0; c < set.classes.size(); ++c)
    json[set.classes[c]] = {{"whole", counts[c].whole}, {"cut", counts[c].cut}, {"ignored", counts[c].ignored}};
  return json;
}

Json options_json(const PatchOptions& o) {
  return {
      {"size", o.size},
      {"overlap", {{"train", o.overlap}, {"val", o.overlap}, {"test", 0}}},
      {"edge", {{"train", to_string(o.edge)}, {"val", to_string(o.edge)}, {"test", to_string(o.test_edge)}}},
      {"fill", o.fill},
      {"cut_by", o.cut.by == CutRule::By::area ? "area" : "centre"},
      {"keep", o.cut.share},
      {"rest", o.cut.rest == CutRule::Rest::ignore ? "ignore" : "drop"},
      {"rule", o.cut.text()},
      {"background", {{"train", o.background}, {"val", o.val_background}, {"test", 1}}},
      {"shares", o.splits.empty() ? Json{{"train", thousandths(1 - o.val - o.test)}, {"val", o.val}, {"test", o.test}}
                                  : Json("as listed (--splits)")},
      {"group_by", o.group_by},
      {"seed", o.seed},
      {"format", o.format},
      {"image", o.image}};
}

std::vector<std::string> warnings_of(const PatchSet& set, const PatchSummary& summary) {
  std::vector<std::string> warnings = set.division.warnings;
  const auto targets = [&](size_t split, size_t c) {
    const BoxCounts& counts = summary.splits[split].class_boxes[c];
    return counts.whole + counts.cut;
  };
  for (size_t c = 0; c < set.slides.classes.size(); ++c) {
    const std::string& name = set.slides.classes[c];
    if (targets(0, c) + targets(1, c) + targets(2, c) == 0) {
      warnings.push_back(fmt::format("class '{}' is in no split", name));
      continue;
    }
    for (size_t s = 0; s < 3; ++s)
      if (summary.splits[s].slides > 0 && targets(s, c) == 0)
        warnings.push_back(fmt::format("{} has no '{}'", kNames[s], name));
  }
  for (size_t s = 0; s < 3; ++s) {
    if (const int64_t lost = summary.splits[s].in_no_patch; lost > 0)
      warnings.push_back(
          fmt::format("no patch of {} has {} of its boxes, but for ignored or dropped remains", kNames[s], lost));
  }
  if (const size_t count = set.slides.unannotated.size(); count > 0)
    warnings.push_back(fmt::format("{} slide{} without annotations (--unannotated)", count, count == 1 ? "" : "s"));
  if (!set.slides.left_out.empty())
    warnings.push_back("files of the slides' folder that are no slides: " + set.slides.left_out);
  return warnings;
}

std::string table_of(const PatchSet& set, const PatchSummary& summary) {
  size_t width = 20;
  for (const std::string& name : set.slides.classes) width = std::max(width, name.size());
  std::string text =
      fmt::format("{:<{}} {:>9} {:>9} {:>9}\n", "boxes in patches", width, kNames[0], kNames[1], kNames[2]);
  const auto row = [&](const std::string& name, const std::function<int64_t(const SplitCounts&)>& count) {
    text += fmt::format("{:<{}} {:>9} {:>9} {:>9}\n", name, width, count(summary.splits[0]), count(summary.splits[1]),
                        count(summary.splits[2]));
  };
  for (size_t c = 0; c < set.slides.classes.size(); ++c)
    row(set.slides.classes[c], [c](const SplitCounts& s) { return s.class_boxes[c].whole + s.class_boxes[c].cut; });
  const auto sum = [](int64_t BoxCounts::*member) {
    return [member](const SplitCounts& s) {
      int64_t total = 0;
      for (const BoxCounts& counts : s.class_boxes) total += counts.*member;
      return total;
    };
  };
  row("cut at a border", sum(&BoxCounts::cut));
  row("remains ignored", sum(&BoxCounts::ignored));
  row("remains dropped", [](const SplitCounts& s) { return s.dropped; });
  row("slides", [](const SplitCounts& s) { return s.slides; });
  row("patches", [](const SplitCounts& s) { return s.patches; });
  row("background", [](const SplitCounts& s) { return s.background; });
  row("background left out", [](const SplitCounts& s) { return s.background_left_out; });
  for (const std::string& warning : summary.warnings) text += "warning: " + warning + "\n";
  return text;
}

}  // namespace

fs::path picture_folder(const PatchOptions& options) { return options.format == "voc" ? "JPEGImages" : "images"; }

std::string picture_name(const AnnotatedSlide& slide, const Patch& patch, const PatchOptions& options) {
  return patch_name(slide.name, patch.x, patch.y) + "." + options.image;
}

// Read again (data/datasets/voc.cpp, where all four numbers count from 1), a box is the one that was cut: xmax and ymax
// are one more than the last pixel inside. At the right and lower border, beyond which no number may be, it is a pixel
// less.
std::string voc_annotation(const PatchSet& set, const AnnotatedSlide& slide, const Patch& patch) {
  const int size = set.options.size;
  std::string text = fmt::format(
      "<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{}</filename>\n"
      "  <size><width>{}</width><height>{}</height><depth>3</depth></size>\n  <segmented>0</segmented>\n",
      xml_text(picture_name(slide, patch, set.options)), size, size);
  for (const Object& object : patch.objects) {
    const auto x1 = static_cast<int>(std::floor(object.box.x1)), y1 = static_cast<int>(std::floor(object.box.y1));
    const auto x2 = static_cast<int>(std::ceil(object.box.x2)), y2 = static_cast<int>(std::ceil(object.box.y2));
    const int xmax = std::min(x2 + 1, size), ymax = std::min(y2 + 1, size);
    text += fmt::format(
        "  <object>\n    <name>{}</name>\n    <pose>Unspecified</pose>\n    <truncated>{}</truncated>\n    "
        "<difficult>{}</difficult>\n"
        "    <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>\n  </object>\n",
        xml_text(set.slides.classes[static_cast<size_t>(object.label)]),
        x1 == 0 || y1 == 0 || x2 == size || y2 == size ? 1 : 0, object.difficult || object.crowd ? 1 : 0,
        std::min(x1 + 1, xmax - 1), std::min(y1 + 1, ymax - 1), xmax, ymax);
  }
  return text + "</annotation>\n";
}

void write_annotations(const PatchSet& set, const fs::path& folder) {
  CocoIds ids;
  for (size_t s = 0; s < 3; ++s) {
    if (set.division.images[s] == 0) continue;
    if (set.options.format == "coco")
      write_coco(set, s, folder / split_list(set, s), ids);
    else
      write_voc_list(set, s, folder / split_list(set, s));
  }
  if (set.options.format == "coco") return;
  std::string classes = "classes:\n";
  for (const std::string& name : set.slides.classes) classes += "  - " + Json(name).dump() + "\n";
  write_file(folder / kClassFile, classes);
}

std::vector<fs::path> annotation_files(const PatchSet& set) {
  std::vector<fs::path> files;
  for (size_t s = 0; s < 3; ++s)
    if (set.division.images[s] > 0) files.push_back(split_list(set, s));
  if (set.options.format == "voc") files.emplace_back(kClassFile);
  return files;
}

PatchSummary summarize(const PatchSet& set) {
  PatchSummary summary;
  Json slides = Json::array();
  std::array<Json, 3> names{Json::array(), Json::array(), Json::array()};
  for (size_t s = 0; s < 3; ++s) {
    SplitCounts& counts = summary.splits[s];
    counts.groups = set.division.groups[s];
    counts.class_boxes.resize(set.slides.classes.size());
  }
  for (size_t i = 0; i < set.slides.slides.size(); ++i) {
    const AnnotatedSlide& slide = set.slides.slides[i];
    const auto split = static_cast<size_t>(set.division.split_of[i]);
    const SlidePlan plan = plan_slide(slide, kSplits[split], set.slides.classes.size(), set.options);
    SplitCounts& counts = summary.splits[split];
    ++counts.slides;
    counts.patches += static_cast<int64_t>(plan.patches.size());
    counts.background += plan.background;
    counts.background_left_out += plan.background_left_out;
    counts.dropped += plan.dropped;
    counts.in_no_patch += plan.in_no_patch;
    for (size_t c = 0; c < plan.class_boxes.size(); ++c) {
      counts.class_boxes[c].whole += plan.class_boxes[c].whole;
      counts.class_boxes[c].cut += plan.class_boxes[c].cut;
      counts.class_boxes[c].ignored += plan.class_boxes[c].ignored;
    }
    names[split].push_back(slide.name);
    slides.push_back({{"name", slide.name},
                      {"file", slide.path.filename().string()},
                      {"file_bytes", fs::file_size(slide.path)},
                      {"file_xxh64", hash_slide(slide.path)},
                      {"annotations_xxh64", hash_annotations(slide)},
                      {"width", slide.width},
                      {"height", slide.height},
                      {"group", set.division.group_of[i]},
                      {"split", kNames[split]},
                      {"boxes", slide.objects.size()},
                      {"patches", plan.patches.size()},
                      {"background", plan.background},
                      {"background_left_out", plan.background_left_out},
                      {"remains_dropped", plan.dropped},
                      {"boxes_in_no_patch", plan.in_no_patch}});
  }
  summary.warnings = warnings_of(set, summary);
  Json splits = Json::object();
  for (size_t s = 0; s < 3; ++s) {
    const SplitCounts& counts = summary.splits[s];
    splits[kNames[s]] = {{"slides", names[s]},
                         {"groups", counts.groups},
                         {"patches", counts.patches},
                         {"background", counts.background},
                         {"background_left_out", counts.background_left_out},
                         {"remains_dropped", counts.dropped},
                         {"boxes_in_no_patch", counts.in_no_patch},
                         {"boxes", boxes_json(set.slides, counts.class_boxes)}};
  }
  const Json manifest{{"version", 1},
                      {"options", options_json(set.options)},
                      {"classes", set.slides.classes},
                      {"category_ids", category_ids(set.slides)},
                      {"splits", splits},
                      {"slides", slides},
                      {"findings", set.findings},
                      {"warnings", summary.warnings}};
  summary.manifest = manifest.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  summary.table = table_of(set, summary);
  return summary;
}

}  // namespace gradlibra
