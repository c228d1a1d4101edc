// SPDX-License-Identifier: MIT
// evaluate: a trained detector on a split of its data set; per-class AP, group means, COCO AP.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/metrics/bootstrap.h"
#include "engine/checkpoint.h"
#include "engine/coco_results.h"
#include "engine/evaluation.h"
#include "engine/program.h"
#include "engine/progress.h"
#include "engine/read_split.h"
#include "runtime/base/files.h"

using namespace gradlibra;

namespace {

nlohmann::ordered_json json_of(const std::optional<Spread>& spread) {
  if (!spread) return {};
  return {{"deviation", spread->deviation}, {"low", spread->low}, {"high", spread->high}};
}

nlohmann::ordered_json json_of(const BootstrapResult& result, const std::vector<std::string>& classes) {
  nlohmann::ordered_json json{{"samples", result.samples}, {"mAP", json_of(result.map)}};
  for (const auto& [group, spread] : result.group_ap) json["groups"][group] = json_of(spread);
  for (size_t c = 0; c < classes.size(); ++c) json["classes"][classes[c]] = json_of(result.classes[c]);
  return json;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Evaluates a trained detector: AP per class at IoU 0.5, means per group, COCO AP. Configuration and classes come "
      "from the "
      "checkpoint.",
      "evaluate"};
  CommonOptions common;
  std::string checkpoint, given, split_name = "test", output;
  CLI::Option* from_checkpoint = app.add_option("--checkpoint", checkpoint,
                                                "checkpoint file, or a training's --work-dir (its newest); or "
                                                "converted weights, with --config; not given: "
                                                "--detections")
                                     ->type_name("PATH");
  app.add_option("--detections", given,
                 "instead of a detector: detections.json of an earlier run, or of another program, for the data set of "
                 "--config")
      ->type_name("FILE")
      ->excludes(from_checkpoint);
  app.add_option("--config", common.config, "experiment file (YAML) instead of the configuration in the checkpoint")
      ->type_name("FILE");
  app.add_option("--split", split_name, "train, val or test")
      ->check(CLI::IsMember({"train", "val", "test"}))
      ->capture_default_str();
  app.add_option("--output", output,
                 "folder for metrics.json, metrics.txt and detections.json; not given: none are written")
      ->type_name("DIR");
  VocOptions voc_options;
  CocoOptions coco_options;
  app.add_flag("--float-thresholds", voc_options.float_thresholds,
               "11-point AP at multiples of 0.1 in floating point, as some other evaluators have it");
  app.add_flag("--annotated-area", coco_options.annotated_area,
               "COCO: an object of `area: 0` is small whatever its box, as in pycocotools");
  int bootstrap = 0;
  app.add_option("--bootstrap", bootstrap,
                 "also evaluate so many resampled splits, such as 1000: how far mAP depends on which images are in it")
      ->check(CLI::Range(2, 1000000))
      ->type_name("N");
  int pictures = 0;
  app.add_option("--pictures", pictures,
                 "also draw the detections on the first so many images into --output/pictures; known truth is dashed")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("N")
      ->needs("--output");
  app.add_option("overrides", common.overrides,
                 "values of the stored configuration to change, such as data.root=/other/place")
      ->type_name("key.path=value");
  add_device_options(app, common);
  app.footer(
      "Example (after that of `train --help`):\n  evaluate --checkpoint out/mine --split test --output out/mine/test "
      "--pictures 20");
  return run_program(app, argc, argv, [&] {
    try_output_folder(output);
    if (checkpoint.empty() && given.empty())
      throw std::invalid_argument("--checkpoint is required, or --detections with --config");
    const Split split = split_name == "train" ? Split::train : split_name == "val" ? Split::val : Split::test;
    ExperimentConfig config;
    Dataset dataset;
    Detections detections;
    const auto read_split = [&] {
      dataset = read_evaluation_split(config, split, [](const std::string& line) { fmt::print("{}\n", line); });
    };
    if (given.empty()) {
      const std::unique_ptr<Context> context = open_device(common);
      LoadedDetector loaded = open_detector(*context, app, open_checkpoint(checkpoint), common);
      config = loaded.config;
      // The classes are the detector's, whatever the data set's own list says.
      config.data.classes = loaded.classes;
      if (config.data.groups.empty()) config.data.groups = loaded.groups;
      read_split();
      fmt::print("{} on {} images of the {} split\n", describe(loaded), dataset.images.size(), split_name);
      Progress progress("images", static_cast<int64_t>(dataset.images.size()));
      detections =
          detect_dataset(*loaded.detector, dataset, config, [&](int64_t done, int64_t) { progress.show(done); });
    } else {
      config = read_experiment(common);
      config.loader.resize = "fit";  // no network here that an image could be too large for
      read_split();
      detections = read_coco_results(given, dataset);
      fmt::print("{} on {} images of the {} split\n", given, dataset.images.size(), split_name);
    }
    const VocResult voc = voc_metrics(dataset, detections, voc_options);
    const CocoResult coco = coco_metrics(dataset, detections, coco_options);
    std::string table = metrics_table(dataset, voc, coco) + limit_notes(dataset, detections, config.model.test);
    BootstrapResult resampled;
    if (bootstrap > 0) {
      resampled = bootstrap_metrics(dataset, detections, voc_options, bootstrap);
      if (resampled.map)
        table += fmt::format(
            "mAP@0.5 over {} samples of these images: standard deviation {:.3f}, 95 % between {:.3f} and {:.3f}\n",
            bootstrap, resampled.map->deviation, resampled.map->low, resampled.map->high);
    }
    fmt::print("{}", table);
    if (!output.empty()) {
      const std::filesystem::path folder = output;
      auto json = nlohmann::ordered_json::parse(metrics_json(dataset, voc, coco));
      json["images_at_max_per_image"] = images_at_cap(detections, config.model.test);
      if (bootstrap > 0) json["bootstrap"] = json_of(resampled, dataset.classes);
      write_file(folder / "metrics.json", json.dump(2) + "\n");
      write_file(folder / "metrics.txt", table);
      write_file(folder / "detections.json", coco_results_json(dataset, detections));
      for (size_t i = 0; i < dataset.images.size() && i < static_cast<size_t>(pictures); ++i) {
        const std::filesystem::path picture = folder / "pictures" / (dataset.images[i].id + ".png");
        std::filesystem::create_directories(picture.parent_path());
        draw_detections(dataset.images[i], detections[i], dataset.classes, 0.3, config.data.exif == "apply", picture);
      }
    }
    return kSuccess;
  });
}
