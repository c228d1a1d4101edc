// SPDX-License-Identifier: MIT
#include "data/slides/patch_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"
#include "data/datasets/lines.h"
#include "runtime/base/random.h"
#include "runtime/base/utf8.h"

namespace gradlibra {
namespace {

constexpr std::array<const char*, 3> kNames{"train", "val", "test"};

// Indices of the patches that overlap [from, to); `starts` ascend.
std::pair<size_t, size_t> touched(const std::vector<int>& starts, int size, double from, double to) {
  const auto first =
      std::partition_point(starts.begin(), starts.end(), [&](int s) { return static_cast<double>(s) + size <= from; });
  const auto last = std::partition_point(first, starts.end(), [&](int s) { return s < to; });
  return {static_cast<size_t>(first - starts.begin()), static_cast<size_t>(last - starts.begin())};
}

// `division` has the groups of the slides; its splits become those of the file.
Division as_listed(const SlideSet& set, Division division, const std::string& file) {
  const std::string text = read_text(file, kMaxListBytes);
  std::map<std::string, size_t> index;
  for (size_t i = 0; i < set.slides.size(); ++i) index.emplace(set.slides[i].name, i);
  std::vector<int> split_of(set.slides.size(), -1);
  for (const auto& [line, line_number] : lines_of(text)) {
    const auto fail = [&, number = line_number](const std::string& why) {
      throw std::runtime_error(fmt::format("{}: line {}: {}", file, number, why));
    };
    const size_t cut = line.find_last_of(" \t,;");
    const std::string split(cut == std::string_view::npos ? "" : line.substr(cut + 1));
    const auto known = std::find(kNames.begin(), kNames.end(), split);
    if (known == kNames.end())
      fail(fmt::format("'{}' is no slide with train, val or test behind it", escaped(line.substr(0, 100))));
    const std::string_view name = trim(line.substr(0, line.find_last_not_of(" \t,;", cut) + 1));
    const auto slide = index.find(slide_name(std::string(name)));
    if (slide == index.end()) fail(fmt::format("there is no slide '{}' to make patches from", escaped(name)));
    if (split_of[slide->second] >= 0) fail(fmt::format("slide '{}' is listed twice", escaped(name)));
    split_of[slide->second] = static_cast<int>(known - kNames.begin());
  }
  division.images = division.groups = {};
  division.class_boxes.assign(set.classes.size(), {});
  division.warnings.clear();
  std::map<std::string, std::pair<int, std::string>> split_of_group;
  for (size_t i = 0; i < set.slides.size(); ++i) {
    if (split_of[i] < 0)
      throw std::runtime_error(fmt::format("{}: does not list slide '{}'", file, set.slides[i].name));
    const auto [group, fresh] =
        split_of_group.emplace(division.group_of[i], std::pair(split_of[i], set.slides[i].name));
    if (!fresh && group->second.first != split_of[i])
      throw std::runtime_error(
          fmt::format("{}: slides '{}' and '{}' are of one group ('{}', --group-by) and in two "
                      "splits",
                      file, group->second.second, set.slides[i].name, group->first));
    const auto s = static_cast<size_t>(split_of[i]);
    division.groups[s] += fresh;
    ++division.images[s];
    for (const Object& object : set.slides[i].objects) ++division.class_boxes[static_cast<size_t>(object.label)][s];
  }
  division.split_of = std::move(split_of);
  return division;
}

}  // namespace

void check_options(const PatchOptions& o) {
  const auto require = [](bool ok, const std::string& message) {
    if (!ok) throw std::invalid_argument(message);
  };
  require(o.size >= 32 && o.size <= 8192, fmt::format("--size is {}, expected 32 to 8192 pixels", o.size));
  require(o.overlap >= 0 && o.overlap < o.size,
          fmt::format("--overlap is {}, expected 0 or more and less than --size ({})", o.overlap, o.size));
  require(o.cut.share > 0 && o.cut.share <= 1,
          fmt::format("--keep is {}, expected more than 0 and at most 1", o.cut.share));
  for (const auto& [name, share] : {std::pair("--background", o.background), {"--val-background", o.val_background}})
    require(share >= 0 && share <= 1, fmt::format("{} is {}, expected 0 to 1", name, share));
  require(o.val >= 0 && o.test >= 0 && o.val + o.test < 1,
          fmt::format("--val is {} and --test is {}: 0 or more, and below 1 together", o.val, o.test));
  require(o.fill >= 0 && o.fill <= 255, fmt::format("--fill is {}, expected 0 to 255", o.fill));
  require(o.format == "coco" || o.format == "voc", fmt::format("--format is '{}', expected coco or voc", o.format));
  require(o.image == "png" || o.image == "jpg", fmt::format("--image is '{}', expected png or jpg", o.image));
}

SlidePlan plan_slide(const AnnotatedSlide& slide, Split split, size_t classes, const PatchOptions& options) {
  const bool plain = split == Split::test;
  const int size = options.size, overlap = plain ? 0 : options.overlap;
  const Edge edge = plain ? options.test_edge : options.edge;
  if (const int64_t count = count_patches(slide.width, size, overlap) * count_patches(slide.height, size, overlap);
      count > kMostPatches)
    throw std::runtime_error(
        fmt::format("{}: {} x {} pixels are {} patches of {} x {}, more than {}: a larger --size{} is needed, or the "
                    "file is damaged and has to be taken away",
                    slide.path.string(), slide.width, slide.height, count, size, size, kMostPatches,
                    overlap > 0 ? " or a smaller --overlap" : ""));
  const std::vector<int> columns = patch_starts(slide.width, size, overlap, edge);
  const std::vector<int> rows = patch_starts(slide.height, size, overlap, edge);
  SlidePlan plan;
  plan.class_boxes.resize(classes);

  struct Part {
    size_t object;
    BoxFate fate;
    Object cut;
  };
  std::map<std::pair<size_t, size_t>, std::vector<Part>> held;  // by row and column
  for (size_t i = 0; i < slide.objects.size(); ++i) {
    const Object& object = slide.objects[i];
    const auto [left, right] = touched(columns, size, object.box.x1, object.box.x2);
    const auto [top, bottom] = touched(rows, size, object.box.y1, object.box.y2);
    for (size_t r = top; r < bottom; ++r) {
      for (size_t c = left; c < right; ++c) {
        const CutBox cut = cut_box(object.box, columns[c], rows[r], size, options.cut);
        plan.dropped += cut.fate == BoxFate::dropped;
        if (cut.fate == BoxFate::outside || cut.fate == BoxFate::dropped) continue;
        Part part{i, cut.fate, object};
        part.cut.box = cut.box;
        if (cut.fate != BoxFate::whole) part.cut.area *= cut.visible;
        if (cut.fate == BoxFate::ignored && !object.crowd) part.cut.difficult = true;
        held[{r, c}].push_back(part);
      }
    }
  }

  const double share = split == Split::train ? options.background : split == Split::val ? options.val_background : 1;
  const uint64_t name = hash_name(slide.name.data(), slide.name.size());
  std::vector<bool> found(slide.objects.size(), false);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < columns.size(); ++c) {
      Patch patch{columns[c], rows[r], {}};
      const auto parts = held.find({r, c});
      if (parts != held.end())
        for (const Part& part : parts->second) patch.objects.push_back(part.cut);
      if (std::none_of(patch.objects.begin(), patch.objects.end(), is_target)) {
        RandomStream random(
            static_cast<uint64_t>(options.seed),
            {hash_name("background", 10), name, static_cast<uint64_t>(patch.x), static_cast<uint64_t>(patch.y)});
        if (random.uniform() >= share) {
          ++plan.background_left_out;
          plan.dropped += static_cast<int64_t>(patch.objects.size());  // what is ignored goes with its patch
          continue;
        }
        ++plan.background;
      }
      if (parts != held.end()) {
        for (const Part& part : parts->second) {
          BoxCounts& counts = plan.class_boxes[static_cast<size_t>(part.cut.label)];
          counts.whole += part.fate == BoxFate::whole;
          counts.cut += part.fate == BoxFate::cut;
          counts.ignored += part.fate == BoxFate::ignored;
          if (part.fate != BoxFate::ignored) found[part.object] = true;
        }
      }
      plan.patches.push_back(std::move(patch));
    }
  }
  plan.in_no_patch = std::count(found.begin(), found.end(), false);
  return plan;
}

Division divide_slides(const SlideSet& set, const PatchOptions& options) {
  Dataset slides;
  slides.classes = set.classes;
  for (const AnnotatedSlide& slide : set.slides)
    slides.images.push_back({slide.name, slide.path, slide.width, slide.height, slide.objects});
  const DivideOptions shares{.val = options.val,
                             .test = options.test,
                             .group_by = options.group_by,
                             .seed = static_cast<uint64_t>(options.seed)};
  Division division = divide(slides, shares);
  if (!options.splits.empty()) return as_listed(set, std::move(division), options.splits);
  division.warnings.clear();  // what a split has to do without is counted in its patches
  const std::array<double, 3> share{1 - options.val - options.test, options.val, options.test};
  const std::set<std::string> groups(division.group_of.begin(), division.group_of.end());
  const auto wanted = static_cast<size_t>(std::count_if(share.begin(), share.end(), [](double s) { return s > 0; }));
  if (groups.size() < wanted) {
    throw std::runtime_error(fmt::format(
        "{} slide{} in {} group{} ({}) cannot be divided into train {:g}, val {:g} and test {:g}, for a slide is never "
        "in two splits: give more slides, or set --val or --test to 0",
        set.slides.size(), set.slides.size() == 1 ? "" : "s", groups.size(), groups.size() == 1 ? "" : "s",
        fmt::join(groups, ", "), share[0], share[1], share[2]));
  }
  for (size_t s = 0; s < 3; ++s) {
    if (share[s] <= 0 || division.groups[s] > 0) continue;
    const size_t from =
        static_cast<size_t>(std::max_element(division.groups.begin(), division.groups.end()) - division.groups.begin());
    std::map<std::string, int64_t> boxes;
    for (size_t i = 0; i < slides.images.size(); ++i)
      if (division.split_of[i] == static_cast<int>(from))
        boxes[division.group_of[i]] += static_cast<int64_t>(slides.images[i].objects.size());
    const std::string moved = std::min_element(boxes.begin(), boxes.end(), [](const auto& a, const auto& b) {
                                return a.second < b.second;
                              })->first;
    for (size_t i = 0; i < slides.images.size(); ++i) {
      if (division.group_of[i] != moved) continue;
      division.split_of[i] = static_cast<int>(s);
      --division.images[from];
      ++division.images[s];
      for (const Object& object : slides.images[i].objects) {
        --division.class_boxes[static_cast<size_t>(object.label)][from];
        ++division.class_boxes[static_cast<size_t>(object.label)][s];
      }
    }
    --division.groups[from];
    ++division.groups[s];
    division.warnings.push_back(fmt::format("{} got '{}' because its share alone gave it no slide", kNames[s], moved));
  }
  return division;
}

}  // namespace gradlibra
