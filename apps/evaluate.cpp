// SPDX-License-Identifier: MIT
// evaluate: a trained detector on a split of its data set; per-class AP, group means, COCO AP.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/metrics/bootstrap.h"
#include "engine/checkpoint.h"
#include "engine/coco_results.h"
#include "engine/detect_on_ranks.h"
#include "engine/evaluation.h"
#include "engine/program.h"
#include "engine/progress.h"
#include "engine/rank_check.h"
#include "engine/ranks.h"
#include "engine/read_split.h"
#include "runtime/base/files.h"

using namespace gradlibra;

namespace {

struct Evaluated {
  ExperimentConfig config;
  Dataset dataset;
  Detections detections;
};

void write_results(const std::filesystem::path& folder, const std::string& metrics, const std::string& table,
                   int pictures, const Evaluated& evaluated) {
  const auto& [config, dataset, detections] = evaluated;
  write_file(folder / "metrics.json", metrics);
  write_file(folder / "metrics.txt", table);
  write_file(folder / "detections.json", coco_results_json(dataset, detections));
  for (size_t i = 0; i < dataset.images.size() && i < static_cast<size_t>(pictures); ++i) {
    const std::filesystem::path picture = folder / "pictures" / (dataset.images[i].id + ".png");
    std::filesystem::create_directories(picture.parent_path());
    draw_detections(dataset.images[i], detections[i], dataset.classes, 0.3, config.data.exif == "apply", picture);
  }
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
  const std::map<std::string, VocConvention> conventions{{"mmdet", VocConvention::mmdet},
                                                         {"devkit", VocConvention::devkit},
                                                         {"strict", VocConvention::strict},
                                                         {"mmdet_legacy", VocConvention::mmdet_legacy}};
  std::string convention = "mmdet";
  app.add_option("--voc-convention", convention,
                 "of AP at IoU 0.5: mmdet counts an overlap of 0.5 as a match, devkit only a larger one and boxes a "
                 "pixel wider and higher; strict and mmdet_legacy have one of the two each")
      ->check(CLI::IsMember(conventions))
      ->capture_default_str();
  app.add_flag("--annotated-area", coco_options.annotated_area,
               "COCO: an object of `area: 0` is small whatever its box, as in pycocotools");
  int bootstrap = 0;
  app.add_option("--bootstrap", bootstrap,
                 "also evaluate so many resampled splits, such as 1000: how far mAP depends on which images are in it; "
                 "not given: "
                 "none")
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
  LaunchFlags launch_flags;
  add_rank_options(app, launch_flags);
  add_device_options(app, common);
  app.footer(
      "Example (after that of `train --help`):\n  evaluate --checkpoint out/mine --split test --output out/mine/test "
      "--pictures 20");
  return run_program(app, argc, argv, [&] {
    const Launch launch = find_launch(launch_flags);
    const bool leads = launch.rank == 0;
    if (leads) try_output_folder(output);
    if (checkpoint.empty() && given.empty())
      throw std::invalid_argument("--checkpoint is required, or --detections with --config");
    voc_options.convention = conventions.at(convention);
    const Split split = split_name == "train" ? Split::train : split_name == "val" ? Split::val : Split::test;
    const auto say = [&](const std::string& line) {
      if (leads) fmt::print("{}\n", line);
    };
    std::string detector = std::filesystem::path(given).filename().string();
    Evaluated evaluated;
    auto& [config, dataset, detections] = evaluated;
    const auto write = [&] {
      const VocResult voc = voc_metrics(dataset, detections, voc_options);
      const CocoResult coco = coco_metrics(dataset, detections, coco_options);
      std::string table = metrics_table(dataset, voc, coco) + limit_notes(dataset, detections, config.model.test);
      std::optional<BootstrapResult> resampled;
      if (bootstrap > 0) {
        resampled = bootstrap_metrics(dataset, detections, voc_options, bootstrap);
        table += bootstrap_text(*resampled);
      }
      fmt::print("{}", table);
      if (output.empty()) return;
      auto json = nlohmann::ordered_json::parse(metrics_json(dataset, voc, coco));
      json["evaluation"] = {{"split", split_name},
                            {"images", dataset.images.size()},
                            {"detector", detector},
                            {"version", GRADLIBRA_VERSION}};
      if (convention != "mmdet") json["evaluation"]["voc_convention"] = convention;
      json["images_at_max_per_image"] = images_at_cap(detections, config.model.test);
      if (resampled) json["bootstrap"] = nlohmann::ordered_json::parse(bootstrap_json(*resampled, dataset.classes));
      write_results(output, json.dump(2) + "\n", table, pictures, evaluated);
    };
    if (!given.empty()) {
      config = read_experiment(common);
      config.loader.resize = "fit";  // no network here that an image could be too large for
      dataset = read_evaluation_split(config, split, say);
      detections = read_coco_results(given, dataset);
      say(fmt::format("{} on {} images of the {} split", given, dataset.images.size(), split_name));
      if (leads) write();
      return static_cast<int>(kSuccess);
    }
    const std::unique_ptr<Context> context = open_device(common, /*quiet=*/!leads, launch.local_rank);
    LoadedDetector loaded = open_detector(*context, app, open_checkpoint(checkpoint), common);
    config = loaded.config;
    detector = std::filesystem::path(loaded.name).filename().string();
    if (loaded.step > 0) detector += fmt::format(" (step {})", loaded.step);
    Ranks ranks(app, launch, config.distributed);
    return ranks.run([&]() -> int {
      if (const std::string who = ranks.connect(*context); !who.empty()) say(who);
      // The classes are the detector's, whatever the data set's own list says.
      config.data.classes = loaded.classes;
      if (config.data.groups.empty()) config.data.groups = loaded.groups;
      dataset = read_evaluation_split(config, split, say);
      require_same_marks(ranks.communicator(),
                         {{"evaluation data", mark_of(dataset).hash}, {"weights", hash_of_weights(*loaded.detector)}},
                         "at the start");
      const auto images = static_cast<int64_t>(dataset.images.size());
      say(fmt::format("{} on {} images of the {} split", describe(loaded), images, split_name));
      Progress progress("images", images);
      detections =
          detect_on_ranks(*loaded.detector, dataset, config, ranks.communicator(), [&](int64_t done, int64_t part) {
            if (leads) progress.show(done == part ? images : done * images / part);
          });
      if (leads) write();
      return kSuccess;
    });
  });
}
