// SPDX-License-Identifier: MIT
// evaluate: a trained detector on a split of its data set; per-class AP, group means, COCO AP.
#include <fmt/format.h>

#include "engine/checkpoint.h"
#include "engine/coco_results.h"
#include "engine/detect_on_ranks.h"
#include "engine/evaluation_report.h"
#include "engine/program.h"
#include "engine/progress.h"
#include "engine/rank_check.h"
#include "engine/ranks.h"
#include "engine/read_split.h"

using namespace gradlibra;

int main(int argc, char** argv) {
  CLI::App app{
      "Evaluates a trained detector: AP per class at IoU 0.5, means per group, COCO AP. Configuration and classes come "
      "from the checkpoint.",
      "evaluate"};
  CommonOptions common;
  EvaluationReport report;
  std::string checkpoint, given, split_name = "test";
  CLI::Option* from_checkpoint = app.add_option("--checkpoint", checkpoint,
                                                "checkpoint file, or a training's --work-dir (its newest); or "
                                                "converted weights, with --config; not given: --detections")
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
  app.add_option("--output", report.output,
                 "folder for metrics.json, metrics.txt and detections.json; not given: none are written")
      ->type_name("DIR");
  app.add_flag("--float-thresholds", report.voc.float_thresholds,
               "11-point AP at multiples of 0.1 in floating point, as some other evaluators have it");
  std::string convention = "mmdet";
  app.add_option("--voc-convention", convention,
                 "of AP at IoU 0.5: mmdet counts an overlap of 0.5 as a match, devkit only a larger one and boxes a "
                 "pixel wider and higher; strict and mmdet_legacy have one of the two each")
      ->check(CLI::IsMember(voc_conventions()))
      ->capture_default_str();
  app.add_flag("--annotated-area", report.coco.annotated_area,
               "COCO: an object of `area: 0` is small whatever its box, as in pycocotools");
  app.add_option("--bootstrap", report.bootstrap,
                 "also evaluate so many resampled splits, such as 1000: how far mAP depends on which images are in it; "
                 "not given: none")
      ->check(CLI::Range(2, 1000000))
      ->type_name("N");
  app.add_option("--pictures", report.pictures,
                 "also draw the detections on the first so many images into --output/pictures; known truth is dashed")
      ->check(at_least_zero())
      ->capture_default_str()
      ->type_name("N")
      ->needs("--output");
  app.add_option("overrides", common.overrides,
                 "values of the stored configuration to change, such as data.root=/other/place")
      ->type_name("key.path=value");
  LaunchFlags launch_flags;
  add_rank_options(app, launch_flags);
  add_device_options(app, common);
  app.footer(
      "Example (after that of `train --help`):\n  evaluate --checkpoint out/mine --split test --output out/mine/test "
      "--pictures 20");
  return run_program(app, argc, argv, [&] {
    const Launch launch = find_launch(launch_flags);
    const bool leads = launch.rank == 0;
    if (leads) try_output_folder(report.output);
    if (checkpoint.empty() && given.empty())
      throw std::invalid_argument("--checkpoint is required, or --detections with --config");
    report.voc.convention = voc_conventions().at(convention);
    report.split = split_named(split_name);
    const auto say = [&](const std::string& line) {
      if (leads) fmt::print("{}\n", line);
    };
    if (!given.empty()) {
      report.detector = std::filesystem::path(given).filename().string();
      ExperimentConfig config = read_experiment(common);
      config.loader.resize = "fit";  // no network here that an image could be too large for
      const Dataset dataset = read_evaluation_split(config, report.split, say);
      const Detections detections = read_coco_results(given, dataset, [&](const std::string& warning) {
        if (leads) fmt::print(stderr, "{}: warning: {}\n", app.get_name(), warning);
      });
      if (const std::string hint = corners_hint(dataset, detections); leads && !hint.empty())
        fmt::print(stderr, "{}: {}: {}\n", app.get_name(), given, hint);
      say(fmt::format("{} on {} images of the {} split", given, dataset.images.size(), split_name));
      if (leads) report_evaluation(report, config, dataset, detections);
      return static_cast<int>(kSuccess);
    }
    const std::unique_ptr<Context> context = open_device(common, /*quiet=*/!leads, launch.local_rank);
    LoadedDetector loaded = open_detector(*context, app, open_checkpoint(checkpoint), common);
    ExperimentConfig& config = loaded.config;
    report.detector = std::filesystem::path(loaded.name).filename().string();
    if (loaded.step > 0) report.detector += fmt::format(" (step {})", loaded.step);
    Ranks ranks(app, launch, config.distributed);
    return ranks.run([&]() -> int {
      if (const std::string who = ranks.connect(*context); !who.empty()) say(who);
      // The classes are the detector's, whatever the data set's own list says.
      config.data.classes = loaded.classes;
      if (config.data.groups.empty()) config.data.groups = loaded.groups;
      const Dataset dataset = read_evaluation_split(config, report.split, say);
      ExperimentConfig anywhere = config;  // the data may lie elsewhere on each host
      anywhere.data.root = "";
      require_same_marks(ranks.communicator(),
                         {{"configuration", to_yaml(anywhere)},
                          {"evaluation data", mark_of(dataset).hash},
                          {"weights", hash_of_weights(*loaded.detector)}},
                         "at the start");
      const auto images = static_cast<int64_t>(dataset.images.size());
      say(fmt::format("{} on {} images of the {} split", describe(loaded), images, split_name));
      Progress progress("images", images);
      const Detections detections =
          detect_on_ranks(*loaded.detector, dataset, config, ranks.communicator(), [&](int64_t done, int64_t part) {
            if (leads) progress.show(done == part ? images : done * images / part);
          });
      if (leads) report_evaluation(report, config, dataset, detections);
      return kSuccess;
    });
  });
}
