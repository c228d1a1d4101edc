// SPDX-License-Identifier: MIT
// inspect: looks at a configuration, a data set, a model, or one training step, without training.
#include "engine/inspections.h"

#include <fmt/format.h>

using namespace gradlibra;

int main(int argc, char** argv) {
  CLI::App app{"Looks at a configuration, a data set, a model, or one training step, without training.", "inspect"};
  app.require_subcommand(1);
  CommonOptions common;

  CLI::App* config = app.add_subcommand("config", "print the resolved configuration, every key explained");
  add_config_options(*config, common, false);

  std::string data_output;
  int pictures = 0;
  CLI::App* data = app.add_subcommand(
      "data",
      "find every defect of a data set's files; exit code 4 if something but images without boxes has to be "
      "mended or dropped, or is fatal");
  add_config_options(*data, common, false);
  data->add_option("--output", data_output, "folder for data.txt and data.json; not given: none are written")
      ->type_name("DIR");
  data->add_option("--pictures", pictures, "also draw the boxes of the first so many training images into --output")
      ->check(at_least_zero())
      ->capture_default_str()
      ->type_name("N");
  int shown = 10;
  data->add_option("--findings", shown, "how many findings of each kind to print; 0: all (data.json always has all)")
      ->type_name("N")
      ->check(at_least_zero())
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

  StepChoices choices;
  CLI::App* step = app.add_subcommand(
      "step", "one forward and backward pass; every intermediate, loss, target and gradient into a safetensors file");
  add_config_options(*step, common, true);
  CLI::Option* step_weights =
      step->add_option("--weights", choices.weights, "safetensors to run with; not given: train.pretrained")
          ->type_name("FILE");
  step->add_option("--checkpoint", choices.checkpoint,
                   "a training's checkpoint or --work-dir to run with, whose loss goes on with what it has accumulated "
                   "(its configuration is not taken from there); not given: --weights")
      ->excludes(step_weights)
      ->type_name("PATH");
  step->add_option("--ids", choices.ids, "ids of training images, separated by commas; not given: the first batch")
      ->delimiter(',')
      ->allow_extra_args(false)  // what follows are overrides
      ->type_name("IDS");
  step->add_option("--batch", choices.batch,
                   "a batch that training wrote (nonfinite_step_N.safetensors); not given: images of the data set")
      ->type_name("FILE");
  step->add_option("--output", choices.output, "file to write")->required()->type_name("FILE");
  add_device_options(*step, common);

  std::string work_dir, figures_output;
  CLI::App* training = app.add_subcommand(
      "training",
      "figures of a training from its log.jsonl, as SVG: losses, learning rate, validations, and of each class the "
      "cumulative ratio of positive to negative gradients and the norm of the classifier's weights");
  training->add_option("--work-dir", work_dir, "folder of the training")->required()->type_name("DIR");
  training->add_option("--output", figures_output, "folder for the figures; not given: figures in --work-dir")
      ->type_name("DIR");

  ScalingChoices scaling_choices;
  CLI::App* scaling = app.add_subcommand(
      "scaling",
      "a model on paper of data-parallel training: what summing the gradients over ranks adds to a measured step");
  add_config_options(*scaling, common, true);
  scaling_choices.add_to(*scaling);

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
  examples += example(scaling, "--config configs/quickstart.yaml --step-ms 5 --ranks 1,8,64");
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
    if (*scaling) return inspect_scaling(common, scaling_choices);
    if (*device) {
      fmt::print("{}\n", open_device(common)->device_name());
      return int{kSuccess};
    }
    return inspect_training_step(common, choices);
  });
}
