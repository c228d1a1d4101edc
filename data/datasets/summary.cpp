// SPDX-License-Identifier: MIT
// What a reading kept and left out, counted; and whether that is enough to train on.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/datasets/annotations.h"
#include "data/datasets/did_you_mean.h"

namespace gradlibra {
namespace {

using Kind = Finding::Kind;
using Action = Finding::Action;
using Counts = DatasetSummary::Counts;

int64_t sum(const Counts& counts) {
  int64_t total = 0;
  for (const auto& [reason, count] : counts) total += count;
  return total;
}

// "2 not_finite, 1 empty_box", the most first.
std::string listed(const Counts& counts) {
  std::vector<std::pair<int64_t, std::string>> sorted;
  for (const auto& [reason, count] : counts) sorted.emplace_back(-count, reason);
  std::sort(sorted.begin(), sorted.end());
  std::string text;
  for (const auto& [count, reason] : sorted) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", -count, reason);
  return text;
}

// Whether a finding that mends speaks of a box.
bool of_box(const Finding& finding) {
  return finding.kind == Kind::swapped_box || finding.kind == Kind::outside_box || finding.kind == Kind::zero_based;
}

}  // namespace

int64_t DatasetSummary::targets() const {
  int64_t total = 0;
  for (const int64_t count : class_boxes) total += count;
  return total;
}

std::string DatasetSummary::text() const {
  const char* what = evaluation ? "truths" : "boxes";
  const int64_t images_out = sum(images_dropped), boxes_out = sum(boxes_dropped);
  std::string text = fmt::format("{} of {} images", images, images + images_out);
  if (images_out > 0) text += fmt::format(" (dropped: {})", listed(images_dropped));
  text += fmt::format(", {} of {} {}", boxes, boxes + boxes_out, what);
  std::string notes;
  const auto add = [&](const char* label, const std::string& value) {
    if (!value.empty()) notes += fmt::format("{}{}{}", notes.empty() ? "" : "; ", label, value);
  };
  add("dropped: ", listed(boxes_dropped));
  add("mended: ", listed(boxes_mended));
  add("counted as missed: ", listed(boxes_missed));
  if (difficult > 0) add("difficult: ", std::to_string(difficult));
  if (crowd > 0) add("crowd: ", std::to_string(crowd));
  return notes.empty() ? text : text + " (" + notes + ")";
}

std::string DatasetSummary::json() const {
  const nlohmann::ordered_json json{{"images", {{"kept", images}, {"dropped", images_dropped}}},
                                    {evaluation ? "truths" : "boxes",
                                     {{"kept", boxes},
                                      {"dropped", boxes_dropped},
                                      {"mended", boxes_mended},
                                      {"counted_as_missed", boxes_missed},
                                      {"difficult", difficult},
                                      {"crowd", crowd}}}};
  return json.dump();
}

DatasetSummary summarize(const Dataset& dataset, int64_t in_dropped_images, std::span<const Finding> findings,
                         bool evaluation) {
  DatasetSummary summary;
  summary.evaluation = evaluation;
  summary.images = static_cast<int64_t>(dataset.images.size());
  summary.class_boxes.assign(dataset.classes.size(), 0);
  for (const ImageRecord& image : dataset.images) {
    for (const Object& object : image.objects) {
      ++summary.boxes;
      summary.difficult += object.difficult;
      summary.crowd += object.crowd;
      if (is_target(object)) ++summary.class_boxes[static_cast<size_t>(object.label)];
    }
  }
  if (in_dropped_images > 0) summary.boxes_dropped["in_dropped_images"] = in_dropped_images;
  for (const Finding& finding : findings) {
    const std::string kind = to_string(finding.kind);
    if (finding.action == Action::image_dropped) ++summary.images_dropped[kind];
    if (finding.action == Action::object_dropped) ++summary.boxes_dropped[kind];
    if (finding.action == Action::counted) ++summary.boxes_missed[kind];
    if ((finding.action == Action::fixed || finding.action == Action::clipped) && of_box(finding))
      ++summary.boxes_mended[kind];
  }
  return summary;
}

std::vector<std::string> classes_without_boxes(const DatasetConfig& config, const Dataset& training) {
  std::vector<std::string> missing;
  if (config.classes.empty()) return missing;  // the file's own categories are not what a person has named
  for (size_t c = 0; c < training.summary.class_boxes.size(); ++c)
    if (training.summary.class_boxes[c] == 0) missing.push_back(training.classes[c]);
  return missing;
}

std::string training_problem(const DatasetConfig& config, const Dataset& dataset,
                             const std::vector<Finding>& findings) {
  const DatasetSummary& summary = dataset.summary;
  // The first reason for a box, or else for an image, that is not there.
  const auto first_dropped = [&](Action action) -> std::string {
    const auto first =
        std::find_if(findings.begin(), findings.end(), [&](const Finding& f) { return f.action == action; });
    return first == findings.end() ? "" : "\n  first: " + describe(*first);
  };
  std::string reason = first_dropped(Action::object_dropped);
  if (reason.empty()) reason = first_dropped(Action::image_dropped);
  if (dataset.images.empty() && reason.empty())
    return fmt::format("the training split has no images: {}", summary.text());
  if (summary.targets() == 0)
    return fmt::format("the training split has no box to train on: {}{}", summary.text(), reason);
  const std::vector<std::string> missing = classes_without_boxes(config, dataset);
  if (missing.empty() || config.missing_class == "allow") return "";
  return fmt::format(
      "the training split has no usable box of [{}], which data.classes names: {}{}\n  take {} out of data.classes, or "
      "set data.missing_class to 'allow'",
      fmt::join(missing, ", "), summary.text(), reason, missing.size() == 1 ? "it" : "them");
}

}  // namespace gradlibra
