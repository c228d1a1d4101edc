// SPDX-License-Identifier: MIT
#include "engine/evaluation_report.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/metrics/bootstrap.h"
#include "engine/evaluation.h"
#include "engine/picture_files.h"
#include "runtime/base/files.h"
#include "runtime/base/json_text.h"
#include "runtime/base/utf8.h"

namespace gradlibra {

namespace {

void draw_first(const EvaluationReport& report, bool apply_exif, const Dataset& dataset, const Detections& detections) {
  constexpr double kMinScore = 0.3;
  const auto pictures = picture_files(report.output / "pictures", dataset.images, static_cast<size_t>(report.pictures));
  for (size_t i = 0; i < pictures.size(); ++i)
    draw_detections(dataset.images[i], detections[i], dataset.classes, kMinScore, apply_exif, pictures[i]);
}

}  // namespace

const std::map<std::string, VocConvention>& voc_conventions() {
  static const std::map<std::string, VocConvention> conventions{{"mmdet", VocConvention::mmdet},
                                                                {"devkit", VocConvention::devkit},
                                                                {"strict", VocConvention::strict},
                                                                {"mmdet_legacy", VocConvention::mmdet_legacy}};
  return conventions;
}

void report_evaluation(const EvaluationReport& report, const ExperimentConfig& config, const Dataset& dataset,
                       const Detections& detections) {
  const VocResult voc = voc_metrics(dataset, detections, report.voc);
  const CocoResult coco = coco_metrics(dataset, detections, report.coco);
  std::string table = metrics_table(dataset, voc, coco) + limit_notes(dataset, detections, config.model.test);
  std::optional<BootstrapResult> resampled;
  if (report.bootstrap > 0) {
    resampled = bootstrap_metrics(dataset, detections, report.voc, report.bootstrap);
    table += bootstrap_text(*resampled);
  }
  std::fputs(table.c_str(), stdout);  // no exception where that cannot be: the files are worth having all the same
  if (report.output.empty()) return;

  auto json = parse_json<nlohmann::ordered_json>(metrics_json(dataset, voc, coco));
  json["evaluation"] = {{"split", to_string(report.split)},
                        {"images", dataset.images.size()},
                        {"detector", escaped(report.detector)},
                        {"version", GRADLIBRA_VERSION}};
  for (const auto& [name, convention] : voc_conventions())
    if (convention == report.voc.convention && convention != VocConvention::mmdet)
      json["evaluation"]["voc_convention"] = name;
  json["images_at_max_per_image"] = images_at_cap(detections, config.model.test);
  if (resampled) json["bootstrap"] = parse_json<nlohmann::ordered_json>(bootstrap_json(*resampled, dataset.classes));
  // Names of files and classes may be of any bytes: what was computed is written all the same.
  const std::string metrics = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  write_file(report.output / "metrics.json", metrics + "\n");
  write_file(report.output / "metrics.txt", table);
  write_file(report.output / "detections.json", coco_results_json(dataset, detections));
  draw_first(report, config.data.exif == "apply", dataset, detections);
}

}  // namespace gradlibra
