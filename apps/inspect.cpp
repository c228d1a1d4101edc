// SPDX-License-Identifier: MIT
// inspect: looks at a configuration, a data set, a model, or one training step, without training.
#include <fmt/format.h>

#include "data/datasets/split_dataset.h"
#include "data/images/image.h"
#include "engine/batches.h"
#include "engine/builder.h"
#include "engine/checkpoint.h"
#include "engine/costs.h"
#include "engine/program.h"
#include "engine/step_dump.h"
#include "engine/training_figures.h"
#include "runtime/base/files.h"
#include "runtime/training/weights.h"

using namespace gradlibra;

namespace {

int inspect_config(const CommonOptions& common) {
  fmt::print("{}", to_yaml(read_experiment(common), true));
  return kSuccess;
}

// Ground truth drawn onto the first images of a split.
void draw_truth(const ExperimentConfig& config, const std::filesystem::path& folder, int count) {
  std::vector<Finding> findings;
  DatasetConfig lenient = config.data;
  lenient.unknown_class = lenient.bad_box = lenient.bad_image = "drop";
  lenient.missing_class = "allow";
  const Dataset dataset =
      read_dataset(lenient, Split::train, findings, /*decode=*/true);  // leaves out what cannot be drawn
  std::filesystem::create_directories(folder);
  for (size_t i = 0; i < dataset.images.size() && i < static_cast<size_t>(count); ++i) {
    const ImageRecord& record = dataset.images[i];
    Image image = read_image(record.path, lenient.exif == "apply");
    std::vector<LabelledBox> boxes;
    for (const Object& object : record.objects)
      boxes.push_back({object.box.x1, object.box.y1, object.box.x2, object.box.y2, object.label,
                       dataset.classes[static_cast<size_t>(object.label)], LineStyle::dashed});
    draw_labelled_boxes(image, boxes);
    write_image(folder / (record.id + ".png"), image);
  }
}

int inspect_data(const CommonOptions& common, const std::string& output, int pictures, int shown) {
  try_output_folder(output);
  const ExperimentConfig config = read_experiment(common);
  const DatasetReport report = inspect_dataset(config.data, {.limits = input_limits(config.loader), .shown = shown});
  fmt::print("{}", report.text);
  if (!output.empty()) {
    write_file(std::filesystem::path(output) / "data.txt", report.text);
    write_file(std::filesystem::path(output) / "data.json", report.json);
    try {
      if (pictures > 0) draw_truth(config, std::filesystem::path(output) / "pictures", pictures);
    } catch (const std::exception& e) {  // the report stands
      fmt::print(stderr, "inspect: no pictures: {}\n", e.what());
    }
  }
  // What is only worth knowing is no defect.
  for (const Finding& finding : report.findings)
    if (finding.action != Finding::Action::none) return kFindings;
  return kSuccess;
}

int inspect_split(const CommonOptions& common, const DivideOptions& options, const std::string& output) {
  const ExperimentConfig config = read_experiment(common);
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config.data, Split::train, findings);
  fmt::print("data: {}\n", dataset.summary.text());
  const Division division = divide(dataset, options);
  fmt::print("{}", division_text(dataset, division));
  for (const std::filesystem::path& file : write_division(config.data, dataset, division, output))
    fmt::print("{}\n", file.string());
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

int inspect_training_step(const CommonOptions& common, const std::string& weights, const std::vector<std::string>& ids,
                          const std::string& batch_path, const std::string& output) {
  const ExperimentConfig config = read_experiment(common);
  const std::unique_ptr<Context> context = open_device(common);
  std::vector<Finding> findings;
  const Dataset dataset = read_dataset(config.data, Split::train, findings);
  TrainConfig train = config.train;
  if (!weights.empty()) train.pretrained = weights;
  const Training training = build_training(*context, config, class_info(dataset), [&](Detector& detector) {
    if (!train.pretrained.empty()) fmt::print("{}\n", load_pretrained(detector, train));
  });
  const SafetensorsFile step =
      dump_step(*training.detector, batch_path.empty() ? batch_of(dataset, config, ids) : read_batch(batch_path));
  for (const auto& [name, tensor] : step.tensors)
    if (name.starts_with("loss.")) fmt::print("{:<24} {:.9g}\n", name, tensor.values<double>()[0]);
  write_safetensors(output, step);
  fmt::print("{} tensors in {}\n", step.tensors.size(), output);
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

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Looks at a configuration, a data set, a model, or one training step, without training.", "inspect"};
  app.require_subcommand(1);
  CommonOptions common;

  CLI::App* config = app.add_subcommand("config", "print the resolved configuration, every key explained");
  add_config_options(*config, common, false);

  std::string data_output;
  int pictures = 0;
  CLI::App* data = app.add_subcommand(
      "data", "find every defect of a data set's files; exit code 4 if something had to be mended or dropped");
  add_config_options(*data, common, false);
  data->add_option("--output", data_output, "folder for data.txt and data.json; not given: none are written")
      ->type_name("DIR");
  data->add_option("--pictures", pictures, "also draw the boxes of the first so many training images into --output")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("N");
  int shown = 10;
  data->add_option("--findings", shown, "how many findings of each kind to print; 0: all (data.json always has all)")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();

  DivideOptions division;
  std::string split_output;
  CLI::App* split = app.add_subcommand(
      "split",
      "divide the images of data.train into training, validation and test splits, rare classes shared out first; "
      "data.train=all takes all of a VOC set without lists");
  add_config_options(*split, common, false);
  split
      ->add_option("--output", split_output,
                   "folder for the lists or annotation files; data.root to use them as they are")
      ->required()
      ->type_name("DIR");
  split->add_option("--val", division.val, "share of the validation split")->capture_default_str();
  split->add_option("--test", division.test, "share of the test split")->capture_default_str();
  split
      ->add_option(
          "--group-by", division.group_by,
          "regular expression whose first group in an image's id names its slide or patient, whose images then "
          "stay together; not given: each image for itself")
      ->type_name("REGEX");
  split->add_option("--seed", division.seed, "another seed, another division")->capture_default_str();

  bool json = false;
  CLI::App* model = app.add_subcommand("model", "parameters and multiply-adds of every part");
  add_config_options(*model, common, false);
  model->add_flag("--json", json, "as JSON");
  std::string model_weights;
  model
      ->add_option(
          "--weights", model_weights,
          "a checkpoint, a training's --work-dir, or converted weights (with --config): does it fit? (not given: "
          "nothing is loaded)")
      ->type_name("PATH");

  std::string weights, batch_path, step_output;
  std::vector<std::string> ids;
  CLI::App* step = app.add_subcommand(
      "step", "one forward and backward pass; every intermediate, loss, target and gradient into a safetensors file");
  add_config_options(*step, common, true);
  step->add_option("--weights", weights, "safetensors to run with; not given: train.pretrained")->type_name("FILE");
  step->add_option("--ids", ids, "ids of training images, separated by commas; not given: the first batch")
      ->delimiter(',')
      ->allow_extra_args(false)  // what follows are overrides
      ->type_name("IDS");
  step->add_option("--batch", batch_path,
                   "a batch that training wrote (nonfinite_step_N.safetensors); not given: images of the data set")
      ->type_name("FILE");
  step->add_option("--output", step_output, "file to write")->required()->type_name("FILE");
  add_device_options(*step, common);

  std::string work_dir, figures_output;
  CLI::App* training = app.add_subcommand(
      "training",
      "figures of a training from its log.jsonl, as SVG: losses, learning rate, validations, and of each class the "
      "cumulative ratio of positive to negative gradients and the norm of the classifier's weights");
  training->add_option("--work-dir", work_dir, "folder of the training")->required()->type_name("DIR");
  training->add_option("--output", figures_output, "folder for the figures; not given: figures in --work-dir")
      ->type_name("DIR");

  CLI::App* device = app.add_subcommand("device", "the device that a program with these options would use");
  add_device_options(*device, common);

  const auto example = [](CLI::App* command, const std::string& arguments) {
    const std::string text = "inspect " + command->get_name() + (arguments.empty() ? "" : " " + arguments);
    command->footer("Example:\n  " + text);
    return "  " + text + "\n";
  };
  std::string examples;
  examples += example(config, "--config configs/quickstart.yaml schedule.epochs=2");
  examples += example(data, "--config configs/quickstart.yaml data.root=out/smears");
  examples += example(split, "--output out/divided --config configs/quickstart.yaml data.root=out/smears");
  examples += example(model, "--config configs/quickstart.yaml");
  examples += example(step, "--config configs/quickstart.yaml --output out/step.safetensors data.root=out/smears");
  examples += example(training, "--work-dir out/mine");
  examples += example(device, "");
  app.footer(
      "Examples (with the data of `synthesize --help` and the training of `train --help`; `inspect COMMAND --help` "
      "has the options):\n" +
      examples);
  return run_program(app, argc, argv, [&] {
    if (*config) return inspect_config(common);
    if (*data) return inspect_data(common, data_output, pictures, shown);
    if (*split) return inspect_split(common, division, split_output);
    if (*model) return inspect_model(app, common, model_weights, json);
    if (*training) return inspect_training(work_dir, figures_output);
    if (*device) {
      fmt::print("{}\n", open_device(common)->device_name());
      return int{kSuccess};
    }
    return inspect_training_step(common, weights, ids, batch_path, step_output);
  });
}
