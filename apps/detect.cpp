// SPDX-License-Identifier: MIT
// detect: a trained detector on an image or a folder of images; pictures with boxes, and detections.json.
#include <fmt/format.h>

#include <system_error>

#include "data/datasets/image_folder.h"
#include "engine/checkpoint.h"
#include "engine/detection.h"
#include "engine/picture_files.h"
#include "engine/program.h"
#include "engine/progress.h"
#include "engine/signals.h"
#include "engine/work_dir.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"

using namespace gradlibra;

namespace {

// Drawings go over what is there by their names: not where somebody else's pictures are among those to look at.
void refuse_pictures_of_others(const std::filesystem::path& input, const std::filesystem::path& output) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(input) || !fs::is_directory(output) || fs::exists(output / "detections.json")) return;
  const fs::path all = fs::canonical(input);
  fs::path up = fs::canonical(output);
  while (up != all && up.has_relative_path()) up = up.parent_path();
  if (up != all) return;
  try {
    (void)list_images(output, /*recursive=*/true);
  } catch (const std::runtime_error&) {
    return;  // holds none
  }
  throw std::invalid_argument("--output " + output.string() +
                              " lies inside --input and holds pictures that are not of an earlier detect (there is no "
                              "detections.json): name another folder");
}

void refuse_input_as_output(const std::filesystem::path& input, const std::filesystem::path& output) {
  const std::filesystem::path images =
      std::filesystem::is_directory(input) ? input : std::filesystem::absolute(input).parent_path();
  if (std::filesystem::exists(output) && std::filesystem::exists(images) && std::filesystem::equivalent(output, images))
    throw std::invalid_argument(
        "--output is the folder of the images, which could overwrite them; name another folder");
  refuse_pictures_of_others(input, output);
}

// Drawings of an earlier run may go, somebody's pictures of the same names may not.
void refuse_other_drawings(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& drawings) {
  std::error_code none;  // a name that is too long is told of by whoever writes it
  if (std::filesystem::exists(folder / "detections.json", none)) return;
  for (const std::filesystem::path& file : drawings)
    if (std::filesystem::exists(file, none))
      throw std::invalid_argument("--output: " + file.string() +
                                  " is there, not by an earlier detect (there is no detections.json), and would be "
                                  "written over: name another folder");
}

// write_file() puts as much behind the name while it writes.
bool is_too_long(const std::filesystem::path& file) {
  std::error_code error;
  (void)std::filesystem::symlink_status(file.string() + ".tmp.1234567.0123456789abcdef", error);
  return error == std::errc::filename_too_long;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Finds objects in an image or in every image of a folder: writes each picture with its boxes, and "
      "detections.json in COCO's result form.",
      "detect"};
  CommonOptions common;
  std::string checkpoint, input, output;
  double min_score = 0.3;
  int limit = 0;
  bool recursive = false, all_boxes = false;
  app.add_option("--checkpoint", checkpoint,
                 "checkpoint file, or a training's --work-dir (its newest); or converted weights, with --config")
      ->required()
      ->type_name("PATH");
  app.add_option("--config", common.config, "experiment file (YAML) instead of the configuration in the checkpoint")
      ->type_name("FILE");
  app.add_option("--input", input, "image or folder of images")->required()->type_name("PATH");
  app.add_option("--output", output, "folder for pictures and detections.json")->required()->type_name("DIR");
  app.add_option("--min-score", min_score, "boxes below are not drawn (detections.json has all)")
      ->check(from_zero_to_one())
      ->type_name("SCORE")
      ->capture_default_str();
  app.add_option("--limit", limit, "only the first so many images; 0: all")
      ->check(at_least_zero())
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--recursive", recursive, "also the images of folders in the folder");
  app.add_flag("--all-boxes", all_boxes,
               "draw every detection; without it one box per object, its other classes listed beside the best");
  app.add_option("overrides", common.overrides, "values of the stored configuration to change")
      ->type_name("key.path=value");
  add_device_options(app, common);
  app.footer(
      "Pictures and detections.json grow image by image; Ctrl-C or another signal keeps what is done (exit code 128 + "
      "the signal's number, 130 by Ctrl-C). One process at a time writes to a folder.\n"
      "Exit code 1 if an image could not be read, drawn, or taken by the network at its size; the others are done all "
      "the same.\n"
      "Example (after that of `train --help`):\n  detect --checkpoint out/mine --input out/smears/JPEGImages --output "
      "out/found");
  return run_program(app, argc, argv, [&] {
    const std::filesystem::path folder = output;
    refuse_input_as_output(input, folder);
    ImageFolder list = list_images(input, recursive, folder);
    if (const std::string left_out = list.left_out(); !left_out.empty())
      fmt::print(stderr, "detect: {}: {}\n", input, left_out);
    if (limit > 0 && list.images.size() > static_cast<size_t>(limit)) list.images.resize(static_cast<size_t>(limit));
    const WorkDir owned(folder, "--output");
    if (!owned.warning().empty()) fmt::print(stderr, "detect: warning: {}\n", owned.warning());
    const std::unique_ptr<Context> context = open_device(common);
    const LoadedDetector loaded = open_detector(*context, app, open_checkpoint(checkpoint), common);
    fmt::print("{}\n", describe(loaded));
    const bool apply_exif = loaded.config.data.exif == "apply";
    int64_t bad = 0, done = 0, found = 0;
    const auto skip = [&](const std::string& message) {
      fmt::print(stderr, "detect: skipped: {}\n", printable(message));
      ++bad;
    };
    for (const std::string& broken : list.broken) skip(broken);
    const Dataset dataset = as_dataset(list, loaded.classes, apply_exif, skip);
    if (dataset.images.empty()) throw std::runtime_error(input + ": none of the images could be read");
    const std::atomic<int>& signal = catch_signals();
    const std::vector<std::filesystem::path> pictures = picture_files(folder, dataset.images);
    refuse_other_drawings(folder, pictures);
    CocoResultsFile results(folder / "detections.json", dataset);
    Progress progress("images", static_cast<int64_t>(dataset.images.size()));
    const auto sink = [&](size_t image, const std::vector<Detection>& detections) {
      const ImageRecord& record = dataset.images[image];
      results.add(image, detections);
      try {
        draw_detections(record, detections, dataset.classes, min_score, apply_exif, pictures[image],
                        all_boxes ? Boxes::all : Boxes::one_per_object);
      } catch (const ReadError& error) {  // gone since the detector has seen it
        skip(error.what());
      } catch (const WriteError& error) {
        // One name that the file system does not take costs no other image; a full disk costs all of them.
        if (!is_too_long(pictures[image])) throw;
        skip(fmt::format("the drawing of {}: {}; its detections are in detections.json", record.path.string(),
                         error.what()));
      }
      found += static_cast<int64_t>(group_by_object(detections, min_score).size());
      progress.show(++done);
    };
    const bool finished = detect_readable(*loaded.detector, dataset, loaded.config, signal, sink, skip);
    if (finished && done == 0) throw std::runtime_error(input + ": none of the images could be read");
    fmt::print("{} images, {} objects with score >= {:.2f}; pictures and detections.json in {}\n", done, found,
               min_score, output);
    if (!finished) {
      fmt::print("stopped after {} of {} images\n", done, dataset.images.size());
      return stopped_by(signal.load());
    }
    return static_cast<int>(bad > 0 ? kFailure : kSuccess);
  });
}
