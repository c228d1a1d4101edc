// SPDX-License-Identifier: MIT
// scan: a trained detector over whole slides; tables of what it found, and a picture of the surest cells.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "data/slides/slide_set.h"
#include "engine/program.h"
#include "engine/progress.h"
#include "engine/scan/scan_files.h"
#include "engine/signals.h"
#include "engine/version.h"
#include "engine/work_dir.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"

using namespace gradlibra;

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct Options {
  CommonOptions common;
  std::string checkpoint, slides, output;
  int size = 0, overlap = -1, memory_mib = 2048;
  ScanOptions scan;
};

void add_options(CLI::App& app, Options& o) {
  app.add_option("--checkpoint", o.checkpoint,
                 "checkpoint file, or a training's --work-dir (its newest); or converted weights, with --config")
      ->required()
      ->type_name("PATH");
  app.add_option("--config", o.common.config, "experiment file (YAML) instead of the configuration in the checkpoint")
      ->type_name("FILE");
  app.add_option("--slides", o.slides, "a slide, or a folder of slides")->required()->type_name("PATH");
  app.add_option("--output", o.output, "folder for SLIDE.csv, SLIDE.geojson, SLIDE.png and SLIDE.json")
      ->required()
      ->type_name("DIR");
  app.add_option("--size", o.size,
                 "side of a tile in pixels of the slide, as the patches were that the detector was trained on; not "
                 "given: the network's input")
      ->check(CLI::Range(16, kMaxImageSide))
      ->type_name("N");
  app.add_option("--overlap", o.overlap,
                 "pixels that neighbours share; cells of up to three quarters of it are seen whole; not given: a "
                 "quarter of --size")
      ->check(at_least_zero())
      ->type_name("N");
  app.add_option("--min-score", o.scan.min_score,
                 "detections below are not kept; the detector itself gives none below model.test.score_threshold")
      ->check(from_zero_to_one())
      ->capture_default_str()
      ->type_name("SCORE");
  app.add_option("--empty", o.scan.empty_range,
                 "tiles whose grey values lie within so many of each other, in each colour, are passed over; 0: those "
                 "of one colour, as beyond a scan's borders")
      ->check(CLI::Range(0, 255))
      ->capture_default_str()
      ->type_name("RANGE");
  app.add_option("--memory", o.memory_mib, "MiB that a slide may take while it is read")
      ->check(CLI::Range(16, 1 << 24))
      ->capture_default_str()
      ->type_name("MIB");
  app.add_option("overrides", o.common.overrides, "values of the stored configuration to change")
      ->type_name("key.path=value");
  add_device_options(app, o.common);
}

// Tiles are what the detector was trained on.
void set_tiles(Options& o, const LoaderConfig& loader) {
  if (o.size == 0 && loader.resize != "none")
    throw std::invalid_argument(fmt::format(
        "--size is needed: the detector's pictures were resized to its input (loader.resize={}), which does "
        "not say how many pixels of a slide they were",
        loader.resize));
  o.scan.tile_width = o.size > 0 ? o.size : loader.width;
  o.scan.tile_height = o.size > 0 ? o.size : loader.height;
  o.scan.overlap = o.overlap >= 0 ? o.overlap : std::min(o.scan.tile_width, o.scan.tile_height) / 4;
  o.scan.memory_bytes = static_cast<int64_t>(o.memory_mib) << 20;
  check_options(o.scan, loader);
}

// Pictures of cells could go over slides.
void refuse_input_as_output(const fs::path& slides, const fs::path& output) {
  std::error_code error;
  const fs::path folder = fs::is_directory(slides, error) ? slides : fs::absolute(slides).parent_path();
  if (fs::exists(output, error) && fs::equivalent(folder, output, error))
    throw std::invalid_argument(
        "--output is the folder of the slides, which could overwrite them; name another folder");
}

// A terminal that is gone or a log on a full disk ends no scan; run_program() tells of it at the end.
void say(const std::string& line) {
  std::fputs((printable(line) + "\n").c_str(), stdout);
  std::fflush(stdout);
}
void warn(const std::string& line) { std::fputs(("scan: " + printable(line) + "\n").c_str(), stderr); }

std::string objects_text(const std::vector<Detection>& found, const std::vector<std::string>& classes) {
  const std::vector<int64_t> counts = count_classes(found, classes.size());
  std::string text;
  for (size_t c = 0; c < classes.size(); ++c)
    if (counts[c] > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", classes[c], counts[c]);
  return text.empty() ? "nothing found" : text;
}

// SlideError if results could go over the slide itself, by a link.
void refuse_slide_as_output(const ScanFiles& files, const fs::path& slide) {
  std::error_code error;
  for (const fs::path& file : {files.table, files.geojson, files.cells, files.summary})
    if (fs::exists(file, error) && fs::equivalent(file, slide, error))
      throw SlideError(
          fmt::format("{}: is {}, which results would go over: name another --output", slide.string(), file.string()));
  // The folder of an .mrxs slide's pixels, by whose state the slide is known.
  if (slide.extension() == ".mrxs" &&
      fs::equivalent(fs::path(slide).replace_extension(), files.table.parent_path(), error))
    throw SlideError(slide.string() + ": its pixels lie in the folder of --output: name another one");
}

// False: a signal has stopped it.
bool scan_one(LoadedDetector& loaded, const Options& o, const std::string& name, const fs::path& slide,
              const std::atomic<int>& signal) {
  const Json of = scan_fingerprint(slide, loaded, o.scan);
  const ScanFiles files = scan_files(o.output, name, of);
  refuse_slide_as_output(files, slide);
  remove_halves(files);
  const FormerScan former = former_scan(files, of);
  if (former.finished) {
    say(fmt::format("{}: finished before", name));
    for (const fs::path& file : former.edited)
      say(fmt::format("{}: {} has been changed since, and is left as it is", name, file.filename().string()));
    return true;
  }
  for (const fs::path& file : former.gone) say(fmt::format("{}: {} is gone: written again", name, file.string()));
  if (!former.changed.empty()) say(fmt::format("{}: anew: changed {}", name, former.changed));
  const auto begin = std::chrono::steady_clock::now();
  std::unique_ptr<Progress> shown;
  const SlideScan scan =
      scan_slide(loaded, slide, o.scan, of, files.journal, signal, warn, [&](int64_t done, int64_t tiles) {
        if (!shown) shown = std::make_unique<Progress>(fmt::format("tiles of {}", name), tiles);
        shown->show(done);
      });
  shown.reset();
  const std::string missing =
      scan.not_kept > 0 ? fmt::format(" ({} tiles of it are not: the disk took no more)", scan.not_kept) : "";
  if (!scan.finished()) {
    say(fmt::format("{}: stopped after {} of {} tiles; the same command goes on from tile {}{}", name, scan.done,
                    scan.tiles, scan.done - scan.not_kept,
                    scan.not_kept > 0 ? ", for the disk took no more: make room" : ""));
    return false;
  }
  const std::unique_ptr<Slide> source = open_for_scan(slide, o.scan);
  const Image cells = draw_cells(*source, o.scan.tile_height, scan.found, loaded.classes);
  const Json by = {{"checkpoint", loaded.name}, {"version", version_text()}};
  try {
    write_scan(files, of, by, scan, cells, is_slide_name(slide) ? name + slide.extension().string() : name,
               loaded.classes, say);
  } catch (const WriteError& error) {
    throw WriteError(fmt::format("{}. What was found is in {}{}; the same command writes it", error.what(),
                                 files.journal.string(), missing));
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  say(fmt::format("{}: {} x {}, {} tiles ({} empty{}) in {}: {}", name, scan.width, scan.height, scan.tiles, scan.empty,
                  scan.continued > 0 ? fmt::format(", {} done before", scan.continued) : "",
                  duration_text(seconds.count()), objects_text(scan.found, loaded.classes)));
  if (scan.not_kept > 0)
    warn(files.journal.string() + ": could not be written in full: a result that is taken away costs what it lacks");
  if (scan.full > 0) {
    const int most = loaded.config.model.test.max_per_image;
    say(
        fmt::format("{}: {} tiles reached model.test.max_per_image = {}: some of their cells may be left out; -1 keeps "
                    "all",
                    name, scan.full, most));
  }
  return true;
}

int run(const CLI::App& app, Options& o) {
  refuse_input_as_output(o.slides, o.output);
  std::string left_out;
  const std::map<std::string, fs::path> slides = list_slides(o.slides, left_out);
  if (!left_out.empty()) fmt::print(stderr, "scan: {}: passed over: {}\n", o.slides, left_out);
  const WorkDir owned(o.output, "--output");
  if (!owned.warning().empty()) fmt::print(stderr, "scan: warning: {}\n", owned.warning());
  const std::unique_ptr<Context> context = open_device(o.common);
  LoadedDetector loaded = open_detector(*context, app, open_checkpoint(o.checkpoint), o.common);
  set_tiles(o, loaded.config.loader);
  say(fmt::format("{}\ntiles of {} x {} pixels, {} shared", describe(loaded), o.scan.tile_width, o.scan.tile_height,
                  o.scan.overlap));
  if (const double least = loaded.config.model.test.score_threshold; o.scan.min_score < least)
    fmt::print(stderr,
               "scan: note: --min-score is {}, and the detector gives nothing below model.test.score_threshold = {}\n",
               o.scan.min_score, least);
  const std::atomic<int>& signal = catch_signals();
  int64_t bad = 0;
  const auto failed = [&](const std::string& name, const std::runtime_error& error) {
    say(fmt::format("{}: FAILED: {}", name, error.what()));
    ++bad;
  };
  for (const auto& [name, slide] : slides) {
    try {
      if (!scan_one(loaded, o, name, slide, signal)) return stopped_by(signal.load());
    } catch (const SlideError& error) {
      failed(name, error);
    } catch (const ReadError& error) {
      failed(name, error);
    } catch (const WriteError& error) {
      // A full disk takes the next one's journal no more, so that nothing is computed in vain.
      failed(name, error);
    }
  }
  if (bad > 0) fmt::print(stderr, "scan: {} of {} slides failed; the others are finished\n", bad, slides.size());
  return bad > 0 ? kFailure : kSuccess;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Looks at whole slides, which may be far too large to decode, tile by tile: SLIDE.csv is a table of what was "
      "found "
      "(columns that make-patches reads), SLIDE.geojson is for QuPath, SLIDE.png shows the surest cells of each class, "
      "SLIDE.json counts. A cell on the border of tiles is found once.\n"
      "Reads " +
          (slide_libraries().empty() ? "pictures that can be decoded whole" : "slides by " + slide_libraries()) +
          ", by what was there when it was built.",
      "scan"};
  Options options;
  add_options(app, options);
  app.footer(
      "A scan that was stopped, by Ctrl-C, another signal (exit code 128 + its number) or a power cut, goes on with "
      "the "
      "same command. One process at a time writes to a folder.\n"
      "Exit code 1 if a slide could not be read; the others are done all the same.\n"
      "Example (after that of `train --help`; small slides):\n"
      "  scan --checkpoint out/mine --slides out/smears/JPEGImages --output out/scanned");
  return run_program(app, argc, argv, [&] { return run(app, options); });
}
