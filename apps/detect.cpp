// SPDX-License-Identifier: MIT
// detect: a trained detector on an image or a folder of images; pictures with boxes, and detections.json.
#include <fmt/format.h>

#include <algorithm>

#include "data/datasets/image_folder.h"
#include "data/images/image.h"
#include "engine/checkpoint.h"
#include "engine/evaluation.h"
#include "engine/program.h"
#include "runtime/base/files.h"

using namespace gradlibra;

namespace {

// The pictures as a data set without annotations. Images that cannot be read are named; the others go on.
Dataset as_dataset(const std::vector<FolderImage>& images, const std::vector<std::string>& classes, bool apply_exif,
                   int64_t& bad) {
  Dataset dataset;
  dataset.classes = classes;
  for (const auto& [id, file] : images) {
    try {
      const Image image = read_image(file, apply_exif);
      dataset.images.push_back({id, file, image.width, image.height, {}});
    } catch (const std::exception& e) {
      fmt::print(stderr, "detect: skipped: {}\n", e.what());
      ++bad;
    }
  }
  return dataset;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Finds objects in an image or in every image of a folder: writes each picture with its boxes, and "
      "detections.json in COCO's "
      "result form.",
      "detect"};
  CommonOptions common;
  std::string checkpoint, input, output;
  double min_score = 0.3;
  int limit = 0;
  bool recursive = false;
  app.add_option("--checkpoint", checkpoint,
                 "checkpoint file, or a training's --work-dir (its newest); or converted weights, with --config")
      ->required()
      ->type_name("PATH");
  app.add_option("--config", common.config, "experiment file (YAML) instead of the configuration in the checkpoint")
      ->type_name("FILE");
  app.add_option("--input", input, "image or folder of images")->required()->type_name("PATH");
  app.add_flag("--recursive", recursive, "also the images in all folders below --input");
  app.add_option("--output", output, "folder for pictures and detections.json")->required()->type_name("DIR");
  app.add_option("--min-score", min_score, "boxes below are not drawn (detections.json has all)")
      ->capture_default_str();
  app.add_option("--limit", limit, "only the first so many images; 0: all")->capture_default_str();
  app.add_option("overrides", common.overrides, "values of the stored configuration to change")
      ->type_name("key.path=value");
  add_device_options(app, common);
  app.footer(
      "Exit code 1 if an image could not be read; the others are done all the same.\n"
      "Example:\n  detect --checkpoint out/mine --input some/folder --output out/found");
  return run_program(app, argc, argv, [&] {
    const std::filesystem::path folder = output;
    if (std::filesystem::exists(folder) && std::filesystem::exists(input) &&
        std::filesystem::equivalent(folder, std::filesystem::is_directory(input)
                                                ? std::filesystem::path(input)
                                                : std::filesystem::absolute(input).parent_path()))
      throw std::invalid_argument(
          "--output is the folder of the images, which could overwrite them; name another folder");
    const std::unique_ptr<Context> context = open_device(common);
    const LoadedDetector loaded = open_detector(*context, app, open_checkpoint(checkpoint), common);
    fmt::print("{}\n", describe(loaded));
    const bool apply_exif = loaded.config.data.exif == "apply";
    int64_t bad = 0;
    ImageFolder found_images = list_images(input, recursive);
    std::vector<FolderImage>& files = found_images.images;
    if (const std::string left_out = found_images.left_out(); !left_out.empty())
      fmt::print(stderr, "detect: {}: {}\n", input, left_out);
    if (limit > 0 && files.size() > static_cast<size_t>(limit)) files.resize(static_cast<size_t>(limit));
    const Dataset dataset = as_dataset(files, loaded.classes, apply_exif, bad);
    if (dataset.images.empty()) throw std::runtime_error(input + ": none of the images could be read");
    const Detections detections = detect_dataset(*loaded.detector, dataset, loaded.config);
    std::filesystem::create_directories(folder);
    int64_t found = 0;
    for (size_t i = 0; i < dataset.images.size(); ++i) {
      draw_detections(dataset.images[i], detections[i], dataset.classes, min_score, apply_exif,
                      folder / (dataset.images[i].id + ".png"));
      found += std::count_if(detections[i].begin(), detections[i].end(),
                             [&](const Detection& d) { return d.score >= min_score; });
    }
    write_file(folder / "detections.json", coco_results_json(dataset, detections));
    fmt::print("{} images, {} objects with score >= {:.2f}; pictures and detections.json in {}\n",
               dataset.images.size(), found, min_score, output);
    return bad > 0 ? kFailure : kSuccess;
  });
}
