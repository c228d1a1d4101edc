// SPDX-License-Identifier: MIT
// Sections on how a run was trained, with what, and on which pictures it does best and worst.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/coco_results.h"
#include "engine/plots/svg_plot.h"
#include "engine/progress.h"
#include "engine/read_split.h"
#include "engine/report/gallery.h"
#include "engine/report/run_sections.h"
#include "runtime/base/files.h"

namespace gradlibra {
namespace fs = std::filesystem;
namespace {

std::string no_log(const RunFiles& run) {
  return html::missing(
      "There is no log (log.jsonl) here: the folder is none of a training, or has lost it. A training "
      "writes it:",
      fmt::format("train --config mine.yaml --work-dir {}", run.folder.string()));
}

double number_of(const nlohmann::ordered_json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : 0;
}

// How long it took, from the steps' own records.
std::string pace(const RunFiles& run) {
  const TrainingLog::Lines& steps = run.log->steps;
  std::vector<double> seconds;
  double all = 0, waited = 0, memory = 0;
  for (const auto& [step, line] : steps) {
    seconds.push_back(number_of(line, "step_seconds"));
    all += seconds.back();
    waited += number_of(line, "data_wait");
    memory = std::max(memory, number_of(line, "memory_mb"));
  }
  const int64_t last = steps.rbegin()->first;
  std::string text = fmt::format("{} steps", last);
  if (run.config) text += fmt::format(" of {} images", run.config->loader.batch_size);
  if (all > 0) {
    const auto middle = seconds.begin() + static_cast<int64_t>(seconds.size() / 2);
    std::nth_element(seconds.begin(), middle, seconds.end());
    text += fmt::format("; {} in all, {:.3f} s for the median step. Waits for data took {:.1f} per cent of the time",
                        duration_text(all), *middle, 100 * waited / all);
    if (memory > 0) text += fmt::format(", memory {:.0f} MB", memory);
  }
  text += ".";
  if (!run.finished && run.config_file.filename() == "config.yaml")
    text += " The training has not got to its end (there is no file <code>finished</code>).";
  if (run.log->unreadable > 0)
    text += fmt::format(" {} of the log's lines could not be read, the first of them line {}.", run.log->unreadable,
                        run.log->first_unreadable);
  return html::paragraph(text, "note");
}

std::string curve_figure(const Axes& axes, const std::vector<Series>& series, const std::string& caption) {
  return html::figure(svg_curves(axes, series), "<b>" + html::text(axes.title) + "</b>" + caption);
}

std::string from_to(const std::vector<Series>& series) {
  std::string text;
  for (const Series& s : series)
    if (!s.y.empty()) text += fmt::format("{}: from {:.4g} to {:.4g}. ", s.name, s.y.front(), s.y.back());
  return text;
}

// Curves of classes in the colours of their groups.
std::vector<Series> by_class(const RunFiles& run, const TrainingLog::Lines& objects) {
  std::vector<Series> series = series_of(objects, [](const std::string&) { return true; });
  bool grouped = false;
  for (Series& s : series) {
    const std::string group = run.group_of(s.name);
    s.color = group_color(group);
    thin(s);
    grouped = grouped || !group.empty();
  }
  if (!grouped)
    for (Series& s : series) s.color = -1;
  return series;
}

std::vector<Bar> bars_of(const RunFiles& run, const ClassRecord& record) {
  std::vector<Bar> bars;
  for (const auto& [name, value] : record.values)
    bars.push_back({name, std::isfinite(value) ? std::optional(value) : std::nullopt, group_color(run.group_of(name))});
  return bars;
}

std::string told(const ClassRecord& record) {
  std::string text;
  for (const auto& [name, value] : record.values) text += fmt::format("{} {:.3g}, ", name, value);
  return text.empty() ? "" : text.substr(0, text.size() - 2) + ".";
}

// The values that are not the defaults, as a table.
std::string changed_values(const ExperimentConfig& config) {
  const ConfigValues now = values_of(config), usual = values_of(ExperimentConfig{});
  html::Table table{.caption = "What differs from the defaults",
                    .label = "Values of the configuration that differ from the defaults",
                    .head = {"key", "value", "default"},
                    .texts = 3,
                    .classes = "wrap"};
  table.bodies.emplace_back();
  for (const auto& [key, value] : now) {
    const auto before =
        std::find_if(usual.begin(), usual.end(), [&, k = key](const auto& one) { return one.first == k; });
    const std::string was = before == usual.end() ? "" : before->second;
    if (was == value) continue;
    table.bodies.front().push_back({.cells = {html::code(key), html::code(value), was.empty() ? "" : html::code(was)}});
  }
  return table.bodies.front().empty() ? html::paragraph("Everything is as by default.") : html::table(table);
}

struct GalleryData {
  Dataset dataset;
  Detections detections;
  std::string missing;  // not empty: what is not there, as markup
};

GalleryData read_gallery(const RunFiles& run, const std::string& split_name) {
  GalleryData data;
  const fs::path found = run.evaluation / "detections.json";
  if (!run.config) {
    data.missing = html::missing("The folder has no config.yaml, which tells where the pictures are.", "");
  } else if (!fs::exists(found)) {
    data.missing = html::missing("The evaluation has no detections.json. This writes one:", evaluate_command(run));
  } else if (!fs::exists(run.config->data.root)) {
    data.missing =
        html::missing("The pictures are not at " + html::code(run.config->data.root) + " any more. If they have moved:",
                      fmt::format("report {} data.root=PATH", run.folder.string()));
  }
  if (!data.missing.empty()) return data;
  ExperimentConfig config = *run.config;
  config.data.classes = run.classes();
  config.data.check_images = "header";  // the few that are shown are decoded then
  const Split split = split_named(split_name);
  try {
    data.dataset = read_evaluation_split(config, split, [](const std::string&) {});
  } catch (const std::exception& error) {  // one picture that is gone takes nothing from the rest of the page
    data.missing =
        html::missing(html::text(fmt::format("The {} split cannot be read: {}", split_name, error.what()), true), "");
    return data;
  }
  try {
    data.detections = read_coco_results(found, data.dataset);
  } catch (const std::exception& error) {
    throw std::runtime_error(
        fmt::format("{} (the pictures are those of the {} split of {}; --split names another, "
                    "--pictures 0 leaves them out)",
                    error.what(), split_name, config.data.root));
  }
  return data;
}

}  // namespace

html::Section pictures_section(const RunFiles& run, const std::string& split, int count) {
  html::Section section{.id = "pictures", .title = "Pictures"};
  if (!run.metrics) {
    section.html = html::missing("Which pictures went well only an evaluation tells:", evaluate_command(run));
    return section;
  }
  if (count == 0) {
    section.html = html::missing("Left out (--pictures 0).", "");
    return section;
  }
  std::string name = split.empty() ? run.metrics->split : split;
  if (name.empty()) name = "test";
  const GalleryData data = read_gallery(run, name);
  if (!data.missing.empty()) {
    section.html = data.missing;
    return section;
  }
  const ConfusionOptions options = run.metrics->confusion ? run.metrics->confusion->options : ConfusionOptions{};
  const Choice choice = choose_pictures(data.dataset, data.detections, options, static_cast<size_t>(count));
  section.html =
      html::paragraph(fmt::format("Chosen by the share of right ones among all that was found or missed, at a score of "
                                  "{:.2g} or more. Numbers go from the surest down; the list below a picture says what "
                                  "each is.",
                                  options.min_score),
                      "note") +
      picture_legend();
  int number = 0;
  const auto add = [&](const char* title, const std::vector<size_t>& images, const char* none) {
    section.html += fmt::format("<h3>{}</h3>\n", title);
    if (images.empty()) section.html += html::paragraph(none, "note");
    std::vector<std::string> figures;
    figures.reserve(images.size());
    for (const size_t image : images) {
      try {
        figures.push_back(picture_figure(data.dataset, image, data.detections[image], options,
                                         run.config->data.exif == "apply", fmt::format("picture{}", ++number)));
      } catch (const std::runtime_error& damaged) {
        section.html += html::missing(html::text(damaged.what(), true), "");
      }
    }
    if (!figures.empty()) section.html += html::figures(figures, "pictures");
  };
  add("The best", choice.best, "On no picture was anything right.");
  add("The worst", choice.worst, "No other picture has an error.");
  return section;
}

html::Section training_section(const RunFiles& run) {
  html::Section section{.id = "training", .title = "Training"};
  if (!run.log) {
    section.html = no_log(run);
    return section;
  }
  section.html = pace(run);
  std::vector<Series> losses =
      series_of(run.log->steps, [](const std::string& name) { return name.starts_with("loss"); });
  for (Series& s : losses) smooth(s);
  std::vector<std::string> figures{curve_figure(
      {.title = "Losses", .x_label = "step", .log_y = true, .description = from_to(losses), .id = "losses"}, losses,
      " and their sum, means of a fiftieth of the steps; the axis is logarithmic.")};
  const auto one = [&](const char* key) {
    return series_of(run.log->steps, [key](const std::string& name) { return name == key; });
  };
  std::vector<Series> rate = one("lr"), norm = one("grad_norm");
  if (!rate.empty()) {
    thin(rate[0]);
    figures.push_back(curve_figure({.title = "Learning rate",
                                    .x_label = "step",
                                    .y_range = Interval{0, *std::max_element(rate[0].y.begin(), rate[0].y.end())},
                                    .description = from_to(rate),
                                    .id = "rate"},
                                   rate, "."));
  }
  std::vector<Series> validation =
      series_of(run.log->validations, [](const std::string& name) { return name == "val_map50"; });
  if (!validation.empty()) {
    for (double& value : validation[0].y) value *= 100;
    validation[0].markers = true;
    figures.push_back(
        curve_figure({.title = "Validation", .x_label = "step", .description = from_to(validation), .id = "validation"},
                     validation, ": mAP in per cent on the validation split."));
  }
  if (!norm.empty()) {
    smooth(norm[0]);
    figures.push_back(curve_figure(
        {.title = "Norm of the gradient", .x_label = "step", .log_y = true, .description = from_to(norm), .id = "norm"},
        norm, " over all weights, before it is clipped."));
  }
  section.html += html::figures(figures);
  if (validation.empty() && !run.log->validations.empty())
    section.html += html::paragraph("The validation split has no truth: its mAP is no number.", "note");
  else if (validation.empty())
    section.html += html::paragraph(
        "There are no validations: the data have no validation split (<code>data.val</code>), or "
        "<code>train.evaluate_every</code> is 0.",
        "note");
  return section;
}

// How much of what pulled a class up, and of what pushed it down, came from samples on the wrong side. Nothing where an
// older training has not recorded it.
std::string hard_figures(const RunFiles& run) {
  const ClassRecord up = last_record(*run.log, "gradient_hard_positive"),
                    down = last_record(*run.log, "gradient_hard_negative");
  if (up.values.empty() || down.values.empty()) return "";
  const auto bars = [&](const ClassRecord& record, const char* title, const char* id, const char* of) {
    return html::figure(
        svg_bars({.title = title, .x_label = "share", .x_range = Interval{0, 1}, .description = told(record), .id = id},
                 bars_of(run, record)),
        fmt::format("<b>{}</b>: the part of the gradient of {} whose probability is on the wrong side "
                    "of 1/2.",
                    title, of));
  };
  return html::figures(
      {bars(up, "Pulled up by hard positives", "hard_up", "the class's own samples that comes from those"),
       bars(down, "Pushed down by hard negatives", "hard_down", "all other samples that comes from those")});
}

html::Section gradient_section(const RunFiles& run) {
  html::Section section{.id = "gradients", .title = "Gradients and weights"};
  if (!run.log) {
    section.html = no_log(run);
    return section;
  }
  const ClassRecord ratio = last_record(*run.log, "gradient_ratio"), norm = last_record(*run.log, "weight_norm");
  if (ratio.values.empty()) {
    section.html = html::missing("Nothing was recorded of the classes. A training records it with",
                                 "train .. train.class_gradients=true");
    return section;
  }
  section.html = html::paragraph(
      "How much a class was pulled up against how much it was pushed down since the training began, by the gradient of "
      "the loss that is trained, and how long the classifier's weights of each class have become: Figure 3 of the "
      "Grad-Libra paper.",
      "note");
  section.html += html::figures(
      {html::figure(svg_bars({.title = "Cumulative ratio of positive to negative gradients",
                              .x_label = "ratio",
                              .log_y = true,
                              .description = told(ratio),
                              .id = "ratio"},
                             bars_of(run, ratio)),
                    fmt::format("<b>Cumulative ratio of positive to negative gradients</b> after step {}, on a "
                                "logarithmic axis.",
                                ratio.step)),
       html::figure(svg_bars({.title = "Norm of the classifier's weights",
                              .x_label = "norm / largest",
                              .x_range = Interval{0, 1},
                              .description = told(norm),
                              .id = "weights"},
                             bars_of(run, norm)),
                    "<b>Norm of the classifier's weights</b>, divided by the largest.")});
  section.html += hard_figures(run);
  section.html += html::figures({curve_figure({.title = "The ratio over the training",
                                               .x_label = "step",
                                               .log_y = true,
                                               .width = 640,
                                               .height = 330,
                                               .description = "The last values are those of the figure above.",
                                               .id = "ratios"},
                                              by_class(run, objects_of(run.log->steps, "gradient_ratio")), ".")},
                                "wide");
  return section;
}

html::Section configuration_section(const RunFiles& run) {
  html::Section section{.id = "configuration", .title = "Configuration"};
  html::Table versions{.caption = "Versions", .label = "Versions", .head = {"what", "version"}, .texts = 2};
  versions.bodies.emplace_back();
  if (run.metrics && !run.metrics->version.empty())
    versions.bodies.front().push_back({.cells = {"evaluate", html::text(run.metrics->version)}});
  versions.bodies.front().push_back({.cells = {"report", GRADLIBRA_VERSION}});
  if (!run.config) {
    section.html =
        html::missing("There is no configuration (config.yaml) here. A training writes it into its folder.", "") +
        html::table(versions);
    return section;
  }
  section.html =
      changed_values(*run.config) + html::table(versions) +
      html::details("The whole configuration (" + run.config_file.filename().string() + ")",
                    "<pre class=\"config\" tabindex=\"0\">" + html::text(to_yaml(*run.config), true) + "</pre>\n");
  return section;
}

}  // namespace gradlibra
