// SPDX-License-Identifier: MIT
// evaluate: a trained detector on a split of its data set; per-class AP, group means, COCO AP.
#include <fmt/format.h>

#include "engine/checkpoint.h"
#include "engine/evaluation.h"
#include "engine/program.h"
#include "engine/progress.h"
#include "runtime/base/files.h"

using namespace gradlibra;

int main(int argc, char** argv) {
  CLI::App app{
      "Evaluates a trained detector: AP per class at IoU 0.5, means per group, COCO AP. Configuration and classes come "
      "from the "
      "checkpoint.",
      "evaluate"};
  CommonOptions common;
  std::string checkpoint, split_name = "test", output;
  app.add_option("--checkpoint", checkpoint, "checkpoint file, or a training's --work-dir (its newest)")
      ->required()
      ->type_name("PATH");
  app.add_option("--split", split_name, "train, val or test")
      ->check(CLI::IsMember({"train", "val", "test"}))
      ->capture_default_str();
  app.add_option("--output", output,
                 "folder for metrics.json, metrics.txt and detections.json; not given: none are written")
      ->type_name("DIR");
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
    const std::unique_ptr<Context> context = open_device(common);
    std::string used;
    const SafetensorsFile file = open_checkpoint(checkpoint, used);
    LoadedDetector loaded = load_detector(*context, file, used, common.overrides);
    // The classes are the detector's, whatever the data set's own list says.
    loaded.config.data.classes = loaded.classes;
    if (loaded.config.data.groups.empty()) loaded.config.data.groups = loaded.groups;
    const Split split = split_name == "train" ? Split::train : split_name == "val" ? Split::val : Split::test;
    std::vector<Finding> findings;
    const Dataset dataset = read_dataset(loaded.config.data, split, findings);
    fmt::print("{} (step {}) on {} images of the {} split\n", used, loaded.step, dataset.images.size(), split_name);
    Detections detections;
    {
      Progress progress("images", static_cast<int64_t>(dataset.images.size()));
      detections =
          detect_dataset(*loaded.detector, dataset, loaded.config, [&](int64_t done, int64_t) { progress.show(done); });
    }
    const VocResult voc = voc_metrics(dataset, detections);
    const CocoResult coco = coco_metrics(dataset, detections);
    const std::string table = metrics_table(dataset, voc, coco);
    fmt::print("{}", table);
    if (!output.empty()) {
      const std::filesystem::path folder = output;
      write_file(folder / "metrics.json", metrics_json(dataset, voc, coco));
      write_file(folder / "metrics.txt", table);
      write_file(folder / "detections.json", coco_results_json(dataset, detections));
      for (size_t i = 0; i < dataset.images.size() && i < static_cast<size_t>(pictures); ++i) {
        const std::filesystem::path picture = folder / "pictures" / (dataset.images[i].id + ".png");
        std::filesystem::create_directories(picture.parent_path());
        draw_detections(dataset.images[i], detections[i], dataset.classes, 0.3, loaded.config.data.exif == "apply",
                        picture);
      }
    }
    return kSuccess;
  });
}
