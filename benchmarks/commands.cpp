// SPDX-License-Identifier: MIT
#include "benchmarks/commands.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "benchmarks/communication.h"
#include "benchmarks/data_loading.h"
#include "benchmarks/kernels.h"
#include "benchmarks/step_table.h"
#include "engine/program.h"
#include "engine/ranks.h"

namespace gradlibra {

namespace {

void print_line(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

// Several values, separated by commas; what follows are overrides.
CLI::Option* several(CLI::Option* option, const char* type) {
  return option->delimiter(',')->allow_extra_args(false)->type_name(type);
}

void add_step_options(CLI::App& command, StepBenchmarkOptions& options) {
  command.add_option("--height", options.height, "of the images, a multiple of 32")
      ->capture_default_str()
      ->type_name("H");
  command.add_option("--width", options.width, "of the images, a multiple of 32")
      ->capture_default_str()
      ->type_name("W");
  command.add_option("--steps", options.steps, "measured steps")->capture_default_str()->type_name("S");
  command.add_option("--warmup", options.warmup, "steps before them that do not count")
      ->capture_default_str()
      ->type_name("S");
}

// The command with its example as a footer.
BenchmarkCommand command(CLI::App* parser, std::string example, std::function<nlohmann::ordered_json(int& code)> run) {
  parser->footer("Example:\n  " + example);
  return {parser, std::move(run), std::move(example)};
}

}  // namespace

BenchmarkCommand add_kernels_command(CLI::App& app) {
  struct Options {
    CommonOptions common;
    KernelBenchmarkOptions kernels;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* parser = app.add_subcommand(
      "kernels",
      "every kernel at the shapes that RepPoints on ResNet-50 gives it: time, and how much of the device's best rate "
      "that is. `copy` rows are judged by the bytes that must be moved at least, `matrix` rows by multiply-adds; both "
      "best rates are measured first. Small maps stay in a cache and may pass 100 % of `copy`.");
  add_device_options(*parser, o->common);
  parser->add_option("--batch", o->kernels.batches, "images per batch, several separated by commas")
      ->delimiter(',')
      ->type_name("N")
      ->capture_default_str();
  parser->add_option("--size", o->kernels.size, "height and width of the images in pixels, a multiple of 32")
      ->type_name("PIXELS")
      ->capture_default_str();
  parser
      ->add_option("--filter", o->kernels.filter, "only kernels with this in their name, such as norm; not given: all")
      ->type_name("TEXT");
  parser->add_option("--seconds", o->kernels.seconds, "about how long to measure each row")->capture_default_str();
  parser->add_flag(
      "--copies", o->kernels.copies,
      "behind each `copy` row the time of a plain copy that moves as many bytes: what a small map can reach, "
      "in a cache and with a launch to pay for, where 100 % is a large one's");
  return command(parser, "benchmark kernels --filter sgd_step --batch 1 --size 64 --seconds 0.1", [o](int&) {
    const std::unique_ptr<Context> context = open_device(o->common);
    return benchmark_kernels(*context, o->kernels, print_line);
  });
}

BenchmarkCommand add_step_command(CLI::App& app) {
  struct Options {
    CommonOptions common;
    StepBenchmarkOptions step;
    StepChoices choices;
    bool real_data = false;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* parser = app.add_subcommand(
      "step",
      "whole training steps (forward, loss, backward, update) on random pixels and boxes that already lie on the "
      "device: images per second, memory, arithmetic. Of options that take several values, every combination");
  add_config_options(*parser, o->common, true);
  add_device_options(*parser, o->common);
  several(parser->add_option("--precision", o->choices.precision, "instead of the configuration's runtime.precision"),
          "fp32|tf32|bf16,..")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16"}));
  several(parser->add_option("--batch", o->choices.batch, "images per step"), "N,..")->capture_default_str();
  add_step_options(*parser, o->step);
  const auto on_or_off = CLI::IsMember({"on", "off"});
  several(
      parser->add_option("--graph", o->choices.graph,
                         "GPU: replay the recorded step, or launch kernel by kernel; instead of runtime.cuda_graph"),
      "on|off,..")
      ->check(on_or_off);
  several(parser->add_option("--parallel-levels", o->choices.parallel_levels,
                             "GPU: levels of the pyramid side by side, or in turn; instead of runtime.parallel_levels"),
          "on|off,..")
      ->check(on_or_off);
  parser->add_flag("--real-data", o->real_data,
                   "the configuration's training images through its loader (at --height x --width, not the "
                   "configuration's size) instead of random pixels; also prints which part of the time the step waited "
                   "for them");
  return command(parser, "benchmark step --config configs/quickstart.yaml --batch 1 --height 64 --width 64 --steps 3",
                 [o](int& code) {
                   bool complete = true;
                   nlohmann::ordered_json result =
                       benchmark_choices(o->common, o->choices, o->step, o->real_data, print_line, complete);
                   if (!complete) code = kFailure;
                   return result;
                 });
}

BenchmarkCommand add_data_command(CLI::App& app) {
  struct Options {
    CommonOptions common;
    DataBenchmarkOptions data;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* parser = app.add_subcommand(
      "data",
      "the loader alone: images per second with files to be decoded (cold) and from the cache of decoded images "
      "(warm), and which part of the time it waited for its decoding threads");
  add_config_options(*parser, o->common, true);
  parser->add_option("--batches", o->data.batches, "batches of the training split to go through, twice")
      ->capture_default_str()
      ->type_name("N");
  several(parser->add_option("--workers", o->data.workers,
                             "numbers of decoding threads to try, separated by commas; not given: loader.workers"),
          "N,..");
  return command(parser,
                 "benchmark data --config configs/quickstart.yaml --batches 4 --workers 1,2 data.root=out/smears",
                 [o](int&) {
                   nlohmann::ordered_json result = benchmark_data(read_experiment(o->common), o->data);
                   print_line(data_text(result));
                   return result;
                 });
}

BenchmarkCommand add_comm_command(CLI::App& app) {
  struct Options {
    CommonOptions common;
    CommunicationOptions comm;
    LaunchFlags launch;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* parser = app.add_subcommand(
      "comm",
      "on several ranks: how fast they sum arrays, and how much of the time that the sums of gradients take a training "
      "step hides behind its backward pass");
  add_config_options(*parser, o->common, true);
  add_device_options(*parser, o->common);
  add_rank_options(*parser, o->launch);
  several(parser->add_option("--mb", o->comm.megabytes, "sizes of the sums"), "MB,..")->capture_default_str();
  parser->add_option("--batch", o->comm.step.batch, "images of each rank")->capture_default_str()->type_name("N");
  add_step_options(*parser, o->comm.step);
  parser->add_option("--rounds", o->comm.rounds, "of so many steps with, and as many without sums of gradients")
      ->capture_default_str()
      ->type_name("R");
  return command(
      parser,
      "mpirun -np 2 benchmark comm --config configs/quickstart.yaml --device cpu --batch 1 --height 64 --width 64",
      [o, &app](int& code) {
        const Launch launch = find_launch(o->launch);
        const ExperimentConfig config = read_experiment(o->common);
        std::unique_ptr<Context> context;  // outlives what connects it with others
        Ranks ranks(app, launch, config.distributed);
        nlohmann::ordered_json result;
        code = ranks.run([&] {
          context = open_device(o->common, /*quiet=*/!ranks.leads(), launch.local_rank);
          const std::string who = ranks.connect(*context);
          result = benchmark_communication(*context, ranks.communicator(), config, class_count(config), o->comm);
          if (ranks.leads()) print_line(who + "\n" + communication_text(result));
          return static_cast<int>(kSuccess);
        });
        return ranks.leads() ? result : nlohmann::ordered_json();
      });
}

}  // namespace gradlibra
