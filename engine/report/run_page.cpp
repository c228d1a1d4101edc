// SPDX-License-Identifier: MIT
#include "engine/report/run_page.h"

#include <fmt/format.h>

#include "engine/report/run_sections.h"

namespace gradlibra {
namespace {

// The folder's own name, also of "." and of "out/mine/".
std::string name_of(const std::filesystem::path& folder) {
  const std::filesystem::path whole = std::filesystem::weakly_canonical(folder);
  const std::string name = whole.filename().string();
  // A run of an experiment is called seed_1: with its method before it.
  return name.starts_with("seed_") ? (whole.parent_path().filename() / name).string() : name;
}

std::string lead(const RunFiles& run) {
  if (!run.config) return "";
  const ModelConfig& model = run.config->model;
  std::string text = fmt::format("{} with {}, ResNet-{}", method_name(model.detector), method_name(model.loss.type),
                                 model.backbone.depth);
  text += fmt::format("; images of {} x {}, {} classes", run.config->loader.width, run.config->loader.height,
                      run.classes().size());
  if (run.log) text += fmt::format("; {} epochs, seed {}", run.config->schedule.epochs, run.config->train.seed);
  return html::paragraph(html::text(text));
}

}  // namespace

std::string run_page(const RunPageOptions& options) {
  const RunFiles run = read_run(options.folder, options.evaluation, options.overrides);
  html::Page page{.kind = "A training", .title = name_of(options.folder), .lead = lead(run)};
  page.sections = {result_section(run),
                   precision_recall_section(run),
                   confusion_section(run),
                   calibration_section(run),
                   pictures_section(run, options.split, options.pictures),
                   training_section(run),
                   gradient_section(run),
                   configuration_section(run)};
  page.foot = html::paragraph("Written by <code>report</code> of gradlibra " GRADLIBRA_VERSION
                              ". This file needs nothing beside it.");
  return html::page(page);
}

}  // namespace gradlibra
