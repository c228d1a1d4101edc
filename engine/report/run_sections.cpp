// SPDX-License-Identifier: MIT
#include "engine/report/run_sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/plots/svg.h"
#include "engine/plots/svg_plot.h"

namespace gradlibra {
namespace {

using html::per_cent;

// Groups in the order in which their first classes come, then what is in none.
std::vector<std::string> groups_of(const MetricsFile& metrics) {
  std::vector<std::string> order;
  for (const MetricsFile::Class& one : metrics.classes)
    if (!one.group.empty() && std::find(order.begin(), order.end(), one.group) == order.end())
      order.push_back(one.group);
  order.emplace_back();
  return order;
}

std::optional<double> named(const std::vector<MetricsFile::Named>& values, const std::string& name) {
  const auto found = std::find_if(values.begin(), values.end(), [&](const auto& one) { return one.first == name; });
  return found == values.end() ? std::nullopt : found->second;
}

// The value as a bar and as a number.
std::string bar(const std::optional<double>& share, int color) {
  return fmt::format(
      "<svg class=\"bar plot\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
      "<rect class=\"track\" width=\"100\" height=\"10\"/><rect class=\"f{}\" width=\"{:.1f}\" height=\"10\"/></svg>"
      "<span class=\"value\">{}</span>",
      color, 100 * std::clamp(share.value_or(0), 0.0, 1.0), per_cent(share));
}

html::Table::Row class_row(const MetricsFile::Class& one) {
  const ClassResult& r = one.result;
  return {.cells = {marked(r.name, one.group), bar(r.ap, group_color(one.group)), per_cent(r.ap_11_point),
                    per_cent(r.recall), std::to_string(r.ground_truths), std::to_string(r.detections)}};
}

std::string class_table(const MetricsFile& metrics) {
  html::Table table{.caption = "Per class, in per cent, at an overlap (IoU) of 0.5",
                    .label = "Average precision of each class",
                    .head = {"class", "AP", "11-point AP", "recall", "truths", "detections"}};
  int64_t truths = 0, detections = 0;
  for (const std::string& group : groups_of(metrics)) {
    std::vector<html::Table::Row>& body = table.bodies.emplace_back();
    for (const MetricsFile::Class& one : metrics.classes) {
      if (one.group != group) continue;
      body.push_back(class_row(one));
      truths += one.result.ground_truths;
      detections += one.result.detections;
    }
    if (body.empty() || group.empty()) continue;
    body.push_back(
        {.cells = {"mean, " + html::text(group), per_cent(named(metrics.groups, "AP_" + short_group_name(group))), "",
                   per_cent(named(metrics.groups, "mR_" + short_group_name(group))), "", ""},
         .classes = "mean"});
  }
  table.bodies.push_back({{.cells = {"mean, all classes", per_cent(metrics.map), per_cent(metrics.map_11_point),
                                     per_cent(metrics.mean_recall), std::to_string(truths), std::to_string(detections)},
                           .classes = "mean"}});
  return html::table(table);
}

std::string coco_table(const MetricsFile& metrics) {
  html::Table table{.caption = "COCO, in per cent: overlaps 0.50 to 0.95, 100 detections of an image and class",
                    .label = "Average precision and recall as COCO counts them"};
  html::Table::Row row{.cells = {"all"}};
  table.head = {""};
  for (const auto& [name, value] : metrics.coco) {
    std::string shown = name;
    std::replace(shown.begin(), shown.end(), '_', ' ');
    table.head.push_back(html::text(shown));
    row.cells.push_back(per_cent(value));
  }
  row.cells.front() = "per cent";
  table.bodies = {{row}};
  return html::table(table);
}

std::string key_numbers(const MetricsFile& metrics) {
  std::vector<std::pair<std::string, std::optional<double>>> numbers{{"mAP", metrics.map}};
  for (const auto& [name, value] : metrics.groups)
    if (name.starts_with("AP_")) numbers.emplace_back(name, value);
  numbers.emplace_back("mean recall", metrics.mean_recall);
  numbers.emplace_back("COCO AP", named(metrics.coco, "AP"));
  std::string html = "<dl class=\"key\">\n";
  for (const auto& [name, value] : numbers) {
    std::string shown = html::text(name);
    if (name.starts_with("AP_")) shown = "AP<sub>" + html::text(name.substr(3)) + "</sub>";
    html += "<div><dt>" + shown + "</dt><dd>" + per_cent(value) + "</dd></div>\n";
  }
  return html + "</dl>\n";
}

std::string no_metrics(const RunFiles& run) {
  return html::missing("There is no evaluation (metrics.json) of this training yet. This writes one:",
                       evaluate_command(run));
}

std::string older_metrics(const RunFiles& run, const char* what) {
  return html::missing(fmt::format("The evaluation is of an older version, which did not write {}. This writes it "
                                   "anew from the detections:",
                                   what),
                       fmt::format("evaluate --detections {0}/detections.json --config {1} --output {0}",
                                   run.evaluation.string(), run.config_file.string()));
}

// Where along the curve the detections of `score` or more end.
int point_of_score(const PrecisionRecall& curve, double score) {
  int last = -1;
  for (size_t k = 0; k < curve.score.size(); ++k)
    if (curve.score[k] >= score) last = static_cast<int>(k);
  return last;
}

std::string small_curve(const MetricsFile::Class& one, double score, const std::string& id) {
  const PrecisionRecall& curve = one.result.curve;
  Series series{.color = group_color(one.group), .mark = point_of_score(curve, score)};
  for (size_t k = 0; k < curve.precision.size(); ++k) {
    series.x.push_back(static_cast<double>(k) / (PrecisionRecall::kPoints - 1));
    series.y.push_back(curve.precision[k]);
  }
  std::string at = "no detection has a score of that much";
  if (series.mark >= 0)
    at =
        fmt::format("at score {:.2g} recall {:.0f} and precision {:.0f} per cent", score,
                    100 * series.x[static_cast<size_t>(series.mark)], 100 * series.y[static_cast<size_t>(series.mark)]);
  const std::string svg = svg_curves({.title = "Precision by recall of " + one.result.name,
                                      .x_range = Interval{0, 1},
                                      .y_range = Interval{0, 1},
                                      .width = 190,
                                      .height = 150,
                                      .description = fmt::format("AP {} per cent; {}.", per_cent(one.result.ap), at),
                                      .id = id},
                                     {series});
  return html::figure(svg, "<b>" + marked(one.result.name, one.group) + "</b> AP " + per_cent(one.result.ap));
}

}  // namespace

int group_color(const std::string& group) {
  if (group == "frequent") return 0;
  if (group == "common") return 2;
  if (group == "rare") return 1;
  return 6;
}

std::string marked(const std::string& name, const std::string& group) {
  return fmt::format("<span class=\"dot d{}\" aria-hidden=\"true\"></span>{}", group_color(group), html::text(name));
}

std::string method_name(const std::string& key) {
  static const std::map<std::string, std::string> names{{"reppoints", "RepPoints"},
                                                        {"fcos", "FCOS"},
                                                        {"atss", "ATSS"},
                                                        {"yolof", "YOLOF"},
                                                        {"cross_entropy", "cross-entropy"},
                                                        {"focal", "focal loss"},
                                                        {"grad_libra", "Grad-Libra"},
                                                        {"class_balanced", "class-balanced loss"},
                                                        {"eqlv2", "EQLv2"},
                                                        {"bags", "BAGS"},
                                                        {"seesaw", "Seesaw"}};
  const auto found = names.find(key);
  return found == names.end() ? key : found->second;
}

std::string evaluate_command(const RunFiles& run) {
  const std::string folder = run.folder.string();
  return fmt::format("evaluate --checkpoint {0} --output {0}/test", folder);
}

html::Section result_section(const RunFiles& run) {
  html::Section section{.id = "result", .title = "Result"};
  if (!run.metrics) {
    section.html = no_metrics(run);
    return section;
  }
  const MetricsFile& metrics = *run.metrics;
  section.html = key_numbers(metrics);
  if (!metrics.split.empty())
    section.html +=
        html::paragraph(fmt::format("In per cent, on {} pictures of the {} split, by {}.", metrics.images.value_or(0),
                                    html::text(metrics.split), html::text(metrics.detector)),
                        "note");
  if (metrics.images_at_cap.value_or(0) > 0)
    section.html += html::paragraph(
        fmt::format("{} pictures have as many detections as <code>model.test.max_per_image</code> keeps: recall and AP "
                    "may be limited by it.",
                    *metrics.images_at_cap),
        "note");
  section.html += class_table(metrics) + coco_table(metrics);
  return section;
}

html::Section precision_recall_section(const RunFiles& run) {
  html::Section section{.id = "precision", .title = "Precision by recall"};
  if (!run.metrics) {
    section.html = no_metrics(run);
    return section;
  }
  const bool any = std::any_of(run.metrics->classes.begin(), run.metrics->classes.end(),
                               [](const auto& one) { return !one.result.curve.precision.empty(); });
  const bool truth = std::any_of(run.metrics->classes.begin(), run.metrics->classes.end(),
                                 [](const auto& one) { return one.result.ground_truths > 0; });
  if (!any) {
    section.html =
        truth ? older_metrics(run, "curves") : html::paragraph("The split has no truth: there are no curves.");
    return section;
  }
  const double score = ConfusionOptions{}.min_score;
  section.html = html::paragraph(
      fmt::format("Across: recall. Up: the best precision at that recall or a higher one. The ring is where only "
                  "detections with a score of {:.1f} or more are let through.",
                  score),
      "note");
  std::vector<std::string> figures;
  std::string without;
  for (const MetricsFile::Class& one : run.metrics->classes)
    if (one.result.curve.precision.empty())
      without += (without.empty() ? "" : ", ") + html::text(one.result.name);
    else
      figures.push_back(small_curve(one, score, fmt::format("pr{}", figures.size() + 1)));
  section.html += html::figures(figures, "small-figures");
  if (!without.empty())
    section.html += html::paragraph("Without truth, and so without a curve: " + without + ".", "note");
  return section;
}

html::Section confusion_section(const RunFiles& run) {
  html::Section section{.id = "confusion", .title = "Confusion"};
  if (!run.metrics || !run.metrics->confusion) {
    section.html = run.metrics ? older_metrics(run, "a confusion matrix") : no_metrics(run);
    return section;
  }
  const ConfusionMatrix& matrix = *run.metrics->confusion;
  const std::vector<std::string>& names = run.metrics->confusion_names;
  const size_t background = names.size() - 1;
  section.html = html::paragraph(
      fmt::format("Which class is taken for which: truths against detections with a score of {:.2g} or more, paired by "
                  "overlap (at least {:.2g}) whatever their classes. A cell is shaded by its share of its row.",
                  matrix.options.min_score, matrix.options.iou_threshold),
      "note");
  html::Table table{.label = "Confusion matrix", .head = {"truth \u2193 found as \u2192"}, .classes = "matrix"};
  for (size_t c = 0; c < background; ++c) table.head.push_back(html::text(names[c]));
  table.head.emplace_back("missed");
  std::vector<html::Table::Row> rows;
  for (size_t t = 0; t <= background; ++t) {
    html::Table::Row row{.cells = {t < background ? marked(names[t], run.group_of(names[t])) : "nothing there"}};
    int64_t all = 0;
    for (const int64_t count : matrix.counts[t]) all += count;
    for (size_t d = 0; d <= background; ++d) {
      const int64_t count = matrix.counts[t][d];
      if (t == background && d == background) {
        row.cells.emplace_back("");
        continue;
      }
      const int64_t shade = all > 0 ? std::lround(7.0 * static_cast<double>(count) / static_cast<double>(all)) : 0;
      // A table's cells are as they come: the shade is a span that fills it.
      std::string classes = count == 0 ? "zero" : fmt::format("cell h{}", shade);
      if (t == d && count > 0) classes += " diagonal";
      row.cells.push_back(fmt::format("<span class=\"{}\">{}</span>", classes, count));
    }
    rows.push_back(row);
  }
  table.bodies = {std::vector(rows.begin(), rows.end() - 1), {rows.back()}};
  section.html += html::table(table);
  return section;
}

html::Section calibration_section(const RunFiles& run) {
  html::Section section{.id = "calibration", .title = "Calibration"};
  if (!run.metrics || run.metrics->calibration.empty()) {
    section.html = run.metrics ? older_metrics(run, "a calibration") : no_metrics(run);
    return section;
  }
  constexpr int64_t kFewest = 10;  // detections of a bin whose share says something
  std::vector<Series> series{{.name = "", .x = {0, 1}, .y = {0, 1}, .reference = true}};
  html::Table table{.caption = "Expected calibration error: the mean distance of score and precision over detections",
                    .label = "Calibration error",
                    .head = {"classes", "detections", "error"}};
  table.bodies.emplace_back();
  std::string told;
  for (const auto& [name, calibration] : run.metrics->calibration) {
    Series curve{.name = name, .color = name == "all" ? 6 : group_color(name), .markers = name != "all"};
    int64_t detections = 0;
    for (const CalibrationBin& bin : calibration.bins) {
      detections += bin.detections;
      if (bin.detections < kFewest) continue;
      curve.x.push_back(bin.mean_score);
      curve.y.push_back(bin.precision);
    }
    series.push_back(curve);
    table.bodies.front().push_back({.cells = {name == "all" ? "all" : marked(name, name), std::to_string(detections),
                                              fmt::format("{:.3f}", calibration.error)}});
    told += fmt::format(" {}: calibration error {:.3f}.", name, calibration.error);
  }
  const std::string svg = svg_curves({.title = "Share of right detections by score",
                                      .x_label = "mean score of a bin",
                                      .y_label = "precision",
                                      .x_range = Interval{0, 1},
                                      .y_range = Interval{0, 1},
                                      .height = 330,
                                      .description = "Ten bins of score." + told,
                                      .id = "calibration-plot"},
                                     series);
  section.html = html::figures(
      {html::figure(svg,
                    "<b>Share of detections that are right, by their score</b>, in ten bins of score, those with ten "
                    "detections or more. On the broken line a score is a probability; below it scores promise too "
                    "much."),
       "<div>" + html::table(table) + "</div>\n"});
  return section;
}

}  // namespace gradlibra
