// SPDX-License-Identifier: MIT
// train: a detector from a configuration file, with checkpoints to continue from.
#include <fmt/format.h>

#include <csignal>

#include "engine/program.h"
#include "engine/trainer.h"

using namespace gradlibra;

int main(int argc, char** argv) {
  CLI::App app{
      "Trains a detector. Progress goes to the terminal and to log.jsonl; checkpoints, the resolved configuration and "
      "the log lie in "
      "--work-dir. Ctrl-C or SIGTERM ends after the running step with a checkpoint; --resume continues bit for bit.\n"
      "Exit codes: 0 finished (or SIGTERM/SIGUSR1 with a checkpoint), 1 failure, 2 wrong command line or "
      "configuration, 3 non-finite "
      "loss, 130 Ctrl-C with a checkpoint.",
      "train"};
  CommonOptions common;
  Trainer::Options options;
  std::string work_dir;
  add_config_options(app, common, true);
  app.add_option("--work-dir", work_dir, "folder for everything this run writes")->required()->type_name("DIR");
  app.add_flag("--resume", options.resume,
               "continue from the newest checkpoint in --work-dir (start if there is none)");
  app.add_option("--stop-after-step", options.stop_after_step,
                 "leave with a checkpoint after this many steps in total; not given: at the end")
      ->type_name("N");
  bool no_graph = false;
  std::string profile;
  app.add_flag("--no-graph", no_graph,
               "on a GPU: kernel by kernel, not the recorded step (as runtime.cuda_graph=false)");
  app.add_option("--profile-steps", profile,
                 "on a GPU: record steps A to B - 1, counted from 0, for a profiler that waits for the program; not "
                 "given: none")
      ->type_name("A:B");
  add_device_options(app, common);
  app.footer(
      "Example (after that of `synthesize --help`):\n  train --config configs/quickstart.yaml --work-dir out/mine "
      "data.root=out/smears schedule.epochs=2");
  return run_program(app, argc, argv, [&] {
    ExperimentConfig config = read_experiment(common);
    if (no_graph) config.runtime.cuda_graph = false;
    if (!profile.empty()) options.profile_steps = parse_step_range(profile);
    const std::unique_ptr<Context> context = open_device(common);
    options.work_dir = work_dir;
    options.signal = &catch_signals();
    SingleProcess alone;
    Trainer trainer(*context, alone, config, options);
    const Trainer::Outcome outcome = trainer.run();
    if (outcome == Trainer::Outcome::finished)
      fmt::print("finished: {} steps, checkpoints in {}/checkpoints\n", trainer.step(), work_dir);
    return outcome == Trainer::Outcome::stopped && options.signal->load() == SIGINT ? kInterrupted : kSuccess;
  });
}
