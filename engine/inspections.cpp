// SPDX-License-Identifier: MIT
#include "engine/inspections.h"

#include <fmt/format.h>

#include <cstdio>

#include "data/images/image.h"
#include "engine/batches.h"
#include "engine/builder.h"
#include "engine/checkpoint.h"
#include "engine/costs.h"
#include "engine/picture_files.h"
#include "engine/scaling.h"
#include "engine/step_dump.h"
#include "engine/training_figures.h"
#include "runtime/base/files.h"
#include "runtime/base/utf8.h"
#include "runtime/training/weights.h"

namespace gradlibra {

namespace {

// Ground truth drawn onto the first images of a split.
void draw_truth(const ExperimentConfig& config, const std::filesystem::path& folder, int count) {
  std::vector<Finding> findings;
  DatasetConfig lenient = config.data;
  lenient.unknown_class = lenient.bad_box = lenient.bad_image = "drop";
  lenient.missing_class = "allow";
  const Dataset dataset =
      read_dataset(lenient, Split::train, findings, /*decode=*/true);  // leaves out what cannot be drawn
  std::filesystem::create_directories(folder);
  const auto pictures = picture_files(folder, dataset.images, static_cast<size_t>(count));
  for (size_t i = 0; i < pictures.size(); ++i) {
    const ImageRecord& record = dataset.images[i];
    Image image = read_image(record.path, lenient.exif == "apply");
    std::vector<LabelledBox> boxes;
    for (const Object& object : record.objects)
      boxes.push_back({object.box.x1, object.box.y1, object.box.x2, object.box.y2, object.label,
                       dataset.classes[static_cast<size_t>(object.label)], LineStyle::dashed});
    draw_labelled_boxes(image, boxes);
    write_image(pictures[i], image);
  }
}

}  // namespace

int inspect_config(const CommonOptions& common) {
  fmt::print("{}", to_yaml(read_experiment(common), true));
  return kSuccess;
}

int inspect_data(const CommonOptions& common, const std::string& output, int pictures, int shown) {
  try_output_folder(output);
  const ExperimentConfig config = read_experiment(common);
  const DatasetReport report = inspect_dataset(config.data, {.limits = input_limits(config.loader), .shown = shown});
  const std::string text = printable(report.text);
  std::fputs(text.c_str(), stdout);  // no exception where that cannot be: the files are worth having
  if (!output.empty()) {
    write_file(std::filesystem::path(output) / "data.txt", text);
    write_file(std::filesystem::path(output) / "data.json", report.json);
    try {
      if (pictures > 0) draw_truth(config, std::filesystem::path(output) / "pictures", pictures);
    } catch (const std::exception& e) {  // the report stands
      fmt::print(stderr, "inspect: no pictures: {}\n", e.what());
    }
  }
  // What is only worth knowing is no defect.
  for (const Finding& finding : report.findings)
    // An image without boxes is no defect, whether or not training shows it.
    if (finding.action != Finding::Action::none && finding.kind != Finding::Kind::no_objects) return kFindings;
  return kSuccess;
}

int inspect_split(const CommonOptions& common, const DivideOptions& options, const std::string& output) {
  const ExperimentConfig config = read_experiment(common);
  // Images that training would leave out are divided, too: an evaluation takes them.
  DatasetConfig all = config.data;
  all.filter_empty = false;
  all.min_size = 0;
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(all, Split::train, findings);
  fmt::print("data: {}\n", dataset.summary.text());
  const Division division = divide(dataset, options);
  fmt::print("{}", division_text(dataset, division));
  for (const std::filesystem::path& file : write_division(config.data, dataset, division, output))
    fmt::print("{}\n", file.string());
  return kSuccess;
}

int inspect_scaling(const CommonOptions& common, const ScalingChoices& choices) {
  Context context(1);
  const ExperimentConfig config = read_experiment(common);
  const auto detector = build_detector(context, config, unknown_classes(class_count(config)));
  const StepModel step = step_model(detector->costs(config.loader.height, config.loader.width), choices.step_ms * 1e-3);
  const Interconnect links{.ranks_per_host = choices.ranks_per_host,
                           .host_bytes_per_s = choices.host_gb_per_s * 1e9,
                           .network_bytes_per_s = choices.network_gb_per_s * 1e9};
  const ScalingOptions options{.bucket_bytes = choices.bucket_mib * 1048576,
                               .jitter = choices.jitter_percent / 100,
                               .replay = parse_buckets(choices.replay)};
  fmt::print("{}", scaling_table(step, choices.ranks, links, options));
  return kSuccess;
}

int inspect_model(const CLI::App& app, const CommonOptions& common, const std::string& weights, bool json) {
  Context context(1);
  const auto print = [&](const Detector& detector, const ExperimentConfig& config) {
    const auto costs = json ? costs_json : costs_table;
    fmt::print("{}", costs(detector, config.loader.height, config.loader.width));
    return kSuccess;
  };
  if (weights.empty()) {
    const ExperimentConfig config = read_experiment(common);
    return print(*build_detector(context, config, unknown_classes(class_count(config))), config);
  }
  OpenedCheckpoint opened = open_checkpoint(weights);
  if (!is_checkpoint(opened.file) && scope_of(opened.file) == WeightScope::backbone) {
    ExperimentConfig config = read_experiment(common);
    config.train.pretrained = weights;
    const auto detector = build_detector(context, config, unknown_classes(class_count(config)));
    const std::string fitted = load_pretrained(*detector, config.train);
    if (!json) fmt::print("{}\n", fitted);
    return print(*detector, config);
  }
  const LoadedDetector loaded = open_detector(context, app, std::move(opened), common);
  if (!json) fmt::print("{}\nclasses: {}\n{}\n", describe(loaded), fmt::join(loaded.classes, ", "), loaded.weights);
  return print(*loaded.detector, loaded.config);
}

int inspect_training_step(const CommonOptions& common, const StepChoices& choices) {
  for (const std::string& read : {common.config, choices.weights, choices.checkpoint, choices.batch}) {
    std::error_code none;  // one that is not there is told of by whoever reads it
    if (!read.empty() && std::filesystem::equivalent(read, choices.output, none))
      throw std::invalid_argument("--output " + choices.output + ": is read, and would be written over: name another");
  }
  const ExperimentConfig config = read_experiment(common);
  const std::unique_ptr<Context> context = open_device(common);
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config.data, Split::train, findings);
  TrainConfig train = config.train;
  if (!choices.weights.empty()) train.pretrained = choices.weights;
  const Training training = build_training(*context, config, class_info(dataset), [&](Detector& detector) {
    if (!choices.checkpoint.empty()) {
      const OpenedCheckpoint opened = open_checkpoint(choices.checkpoint);
      const TrainState at = restore_checkpoint(opened.file, opened.name, detector, dataset);
      fmt::print("{}: after {} steps\n", opened.name, at.step);
    } else if (!train.pretrained.empty()) {
      fmt::print("{}\n", load_pretrained(detector, train));
    }
  });
  const Batch batch = choices.batch.empty() ? batch_of(dataset, config, choices.ids)
                                            : read_batch(choices.batch, training.detector->classes().count());
  const SafetensorsFile step = dump_step(*training.detector, batch);
  for (const auto& [name, tensor] : step.tensors)
    if (name.starts_with("loss.")) fmt::print("{:<24} {:.9g}\n", name, tensor.values<double>()[0]);
  if (const auto bad = step.metadata.find("first_non_finite"); bad != step.metadata.end())
    fmt::print("the first that is not finite: {}\n", bad->second);
  write_safetensors(choices.output, step);
  fmt::print("{} tensors in {}\n", step.tensors.size(), choices.output);
  return kSuccess;
}

int inspect_training(const std::string& work_dir, const std::string& output) {
  const std::filesystem::path folder =
      output.empty() ? std::filesystem::path(work_dir) / "figures" : std::filesystem::path(output);
  const TrainingFigures figures = training_figures(work_dir);
  for (const auto& [name, content] : figures.files) write_file(folder / name, content);
  fmt::print("{}{} figures in {}\n", figures.text, figures.files.size(), folder.string());
  return kSuccess;
}

void ScalingChoices::add_to(CLI::App& command) {
  command.add_option("--step-ms", step_ms, "milliseconds of a step on one rank, from `benchmark step`")
      ->required()
      ->check(above_zero())
      ->type_name("MS");
  command.add_option("--ranks", ranks, "numbers of ranks, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false)  // what follows are overrides
      ->capture_default_str()
      ->check(above_zero())
      ->type_name("N,..");
  const auto option = [&](const char* name, auto& value, const char* text, const char* type) {
    command.add_option(name, value, text)->capture_default_str()->check(above_zero())->type_name(type);
  };
  option("--ranks-per-host", ranks_per_host, "GPUs of a host", "N");
  option("--host-gb-per-s", host_gb_per_s, "bus bandwidth of an all-reduce inside a host (NVLink)", "GB/S");
  option("--network-gb-per-s", network_gb_per_s, "the same between hosts, for each rank (400 Gb/s a GPU)", "GB/S");
  option("--bucket-mib", bucket_mib, "gradients that are summed at a time", "MIB");
  command
      .add_option(
          "--replay", replay,
          "buckets as a step was seen to begin their sums, MiB each, as `benchmark comm` prints them; not given: "
          "those of the model")
      ->type_name("MB@PERCENT,..");
  option("--jitter-percent", jitter_percent, "standard deviation of a rank's step time", "PERCENT");
}

}  // namespace gradlibra
