// SPDX-License-Identifier: MIT
// benchmark: how fast kernels, training steps and the loader are on this machine.
#include <fmt/format.h>

#include "benchmarks/data_loading.h"
#include "benchmarks/kernels.h"
#include "benchmarks/step_table.h"
#include "engine/program.h"

using namespace gradlibra;

namespace {

void print_line(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Measures how fast this machine is: single kernels, whole training steps, or the reading of images. Needs no "
      "data set for the first two.",
      "benchmark"};
  app.require_subcommand(1);
  CommonOptions common;
  bool json = false;
  const auto add_json = [&](CLI::App& command) {
    command.add_flag("--json", json, "also print all numbers as one JSON object on the last line");
  };

  KernelBenchmarkOptions kernel_options;
  CLI::App* kernels = app.add_subcommand(
      "kernels",
      "every kernel at the shapes that RepPoints on ResNet-50 gives it: time, and how much of the device's best rate "
      "that is. `copy` rows are judged by the bytes that must be moved at least, `matrix` rows by multiply-adds; both "
      "best rates are measured first. Small maps stay in a cache and may pass 100 % of `copy`.");
  add_device_options(*kernels, common);
  kernels->add_option("--batch", kernel_options.batches, "images per batch, several separated by commas")
      ->delimiter(',')
      ->type_name("N")
      ->capture_default_str();
  kernels->add_option("--size", kernel_options.size, "height and width of the images in pixels, a multiple of 32")
      ->type_name("PIXELS")
      ->capture_default_str();
  kernels
      ->add_option("--filter", kernel_options.filter,
                   "only kernels with this in their name, such as norm; not given: all")
      ->type_name("TEXT");
  kernels->add_option("--seconds", kernel_options.seconds, "about how long to measure each row")->capture_default_str();
  add_json(*kernels);

  StepBenchmarkOptions step_options;
  StepChoices choices;
  CLI::App* step = app.add_subcommand(
      "step",
      "whole training steps (forward, loss, backward, update) on random pixels and boxes that already lie on the "
      "device: images per second, memory, arithmetic. Of options that take several values, every combination");
  add_config_options(*step, common, true);
  add_device_options(*step, common);
  const auto several = [](CLI::Option* option, const char* type) {
    return option->delimiter(',')->allow_extra_args(false)->type_name(type);  // what follows are overrides
  };
  several(step->add_option("--precision", choices.precision, "instead of the configuration's runtime.precision"),
          "fp32|tf32|bf16,..")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16"}));
  several(step->add_option("--batch", choices.batch, "images per step"), "N,..")->capture_default_str();
  step->add_option("--height", step_options.height, "of the images, a multiple of 32")
      ->capture_default_str()
      ->type_name("H");
  step->add_option("--width", step_options.width, "of the images, a multiple of 32")
      ->capture_default_str()
      ->type_name("W");
  step->add_option("--steps", step_options.steps, "measured steps")->capture_default_str()->type_name("S");
  step->add_option("--warmup", step_options.warmup, "steps before them that do not count")
      ->capture_default_str()
      ->type_name("S");
  const auto on_or_off = CLI::IsMember({"on", "off"});
  several(step->add_option("--graph", choices.graph,
                           "GPU: replay the recorded step, or launch kernel by kernel; instead of runtime.cuda_graph"),
          "on|off,..")
      ->check(on_or_off);
  several(step->add_option("--parallel-levels", choices.parallel_levels,
                           "GPU: levels of the pyramid side by side, or in turn; instead of runtime.parallel_levels"),
          "on|off,..")
      ->check(on_or_off);
  bool real_data = false;
  step->add_flag(
      "--real-data", real_data,
      "the configuration's training images through its loader instead of random pixels; also prints which part "
      "of the time the step waited for them");
  add_json(*step);

  DataBenchmarkOptions data_options;
  CLI::App* data = app.add_subcommand(
      "data",
      "the loader alone: images per second with files to be decoded (cold) and from the cache of decoded images "
      "(warm), and which part of the time it waited for its decoding threads");
  add_config_options(*data, common, true);
  data->add_option("--batches", data_options.batches, "batches of the training split to go through, twice")
      ->capture_default_str()
      ->type_name("N");
  data->add_option("--workers", data_options.workers,
                   "numbers of decoding threads to try, separated by commas; not given: loader.workers")
      ->delimiter(',')
      ->allow_extra_args(false)  // what follows are overrides
      ->type_name("N,..");
  add_json(*data);

  const auto example = [](CLI::App* command, const std::string& arguments) {
    command->footer("Example:\n  benchmark " + command->get_name() + " " + arguments);
    return "  benchmark " + command->get_name() + " " + arguments + "\n";
  };
  std::string examples;
  examples += example(kernels, "--filter sgd_step --batch 1 --size 64 --seconds 0.1");
  examples += example(step, "--config configs/quickstart.yaml --batch 1 --height 64 --width 64 --steps 3");
  examples += example(data, "--config configs/quickstart.yaml --batches 4 --workers 1,2 data.root=out/smears");
  app.footer("Examples (the last with the data of `synthesize --help`; `benchmark COMMAND --help` has the options):\n" +
             examples);
  return run_program(app, argc, argv, [&] {
    nlohmann::ordered_json result;
    int code = kSuccess;
    if (*kernels) {
      const std::unique_ptr<Context> context = open_device(common);
      result = benchmark_kernels(*context, kernel_options, print_line);
    } else if (*step) {
      bool complete = true;
      result = benchmark_choices(common, choices, step_options, real_data, print_line, complete);
      if (!complete) code = kFailure;
    } else {
      result = benchmark_data(read_experiment(common), data_options);
      print_line(data_text(result));
    }
    if (json) print_line(result.dump());
    return code;
  });
}
