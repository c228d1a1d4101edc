// SPDX-License-Identifier: MIT
// train: a detector from a configuration file, with checkpoints to continue from.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "engine/local_ranks.h"
#include "engine/program.h"
#include "engine/ranks.h"
#include "engine/resume.h"
#include "engine/signals.h"
#include "engine/trainer.h"
#include "runtime/base/processors.h"
#include "runtime/training/checkpoint_writer.h"

using namespace gradlibra;

namespace {

// The command line without --ranks, and with each rank's share of the processors where it says nothing of threads.
std::vector<std::string> arguments_of_a_rank(int argc, char** argv, int ranks, int threads) {
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--ranks") == 0)
      ++i;
    else if (std::strncmp(argv[i], "--ranks=", 8) != 0)
      arguments.emplace_back(argv[i]);
  }
  if (threads == 0 && std::getenv("OMP_NUM_THREADS") == nullptr)
    arguments.insert(arguments.end(), {"--threads", std::to_string(std::max(1, usable_processors() / ranks))});
  return arguments;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Trains a detector. Progress goes to the terminal and to log.jsonl; checkpoints, the resolved configuration and "
      "the log lie in --work-dir. Ctrl-C, Ctrl-\\, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 end after the running step with "
      "a checkpoint, a second one at once; --resume continues bit for bit.\n"
      "Exit codes: 0 finished (or a signal but Ctrl-C, with a checkpoint; only a finished run leaves the file "
      "`finished`), 1 failure, 2 wrong command line or configuration, 3 non-finite loss, 5 another rank was lost, 130 "
      "Ctrl-C with a checkpoint.\n"
      "Several ranks train as one with a batch that is so many times as large: --ranks on this machine, mpirun or srun "
      "on several.",
      "train"};
  CommonOptions common;
  Trainer::Options options;
  ResumeFlags resume;
  LaunchFlags launch_flags;
  int local_ranks = 1, stopped_code = kSuccess;
  add_config_options(app, common, false);
  app.add_option("--work-dir", resume.work_dir, "folder for everything this run writes; not given: that of --resume")
      ->type_name("DIR");
  CLI::Option* resumes =
      app.add_option(
             "--resume", resume.folder,
             "continue the training in DIR, or in --work-dir, from its newest checkpoint. Needs no --config; "
             "with --config and --work-dir it starts if there is nothing to continue; not given: a new training")
          ->expected(0, 1)
          ->type_name("[DIR]");
  app.add_flag("--changed-data", options.changed_data,
               "resume though the training data are not those of the checkpoint");
  app.add_option("--stop-after-step", options.stop_after_step,
                 "leave with a checkpoint after this many steps in total; not given: at the end")
      ->check(at_least_zero())
      ->type_name("N");
  std::string profile;
  app.add_option("--profile-steps", profile,
                 "on a GPU: record steps A to B - 1, counted from 0, for a profiler that waits for the program; not "
                 "given: none")
      ->type_name("A:B");
  app.add_option("--ranks", local_ranks,
                 "start so many ranks on this machine, each with a GPU of its own, or with mpirun on the CPU, and pass "
                 "signals and the exit code on")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str()
      ->type_name("N");
  add_rank_options(app, launch_flags);
  app.add_option("--stopped-code", stopped_code,
                 "exit code when a signal but Ctrl-C ended it with a checkpoint, for a scheduler that is to start it "
                 "again")
      ->check(CLI::Range(0, 125))
      ->capture_default_str()
      ->type_name("CODE");
  add_device_options(app, common);
  app.footer(
      "Examples (after that of `synthesize --help`):\n  train --config configs/quickstart.yaml --work-dir out/mine "
      "data.root=out/smears schedule.epochs=2\n  train --resume out/mine");
  keep_overrides_from_resume(argc, argv);
  return run_program(app, argc, argv, [&] {
    resume.given = options.resume = resumes->count() > 0;
    resume.starts_as_well = !common.config.empty();
    options.work_dir = training_folder(resume);
    const Launch launch = find_launch(launch_flags);
    const ExperimentConfig config =
        common.config.empty() ? config_of_training(options.work_dir, common.overrides) : read_experiment(common);
    if (!profile.empty()) options.profile_steps = parse_step_range(profile);
    if (local_ranks > 1 && launch.world_size > 1)
      throw std::invalid_argument(fmt::format(
          "--ranks {} starts its own processes, but {} has started this one as rank {} of {}: leave --ranks "
          "out, or start one process without a launcher",
          local_ranks, launch.source, launch.rank, launch.world_size));
    if (local_ranks > 1)
      return run_local_ranks(local_ranks, common.device != "cpu", launch_flags.share_gpus,
                             arguments_of_a_rank(argc, argv, local_ranks, common.threads));
    if (!launch.note.empty()) fmt::print(stderr, "{}: {}\n", app.get_name(), launch.note);
    // Ranks that wait for each other have nothing to save, and end at once.
    if (launch.world_size == 1) options.signal = &catch_signals();
    std::unique_ptr<Context> context;  // outlives what connects it with others
    // For a whole checkpoint in memory whose file is half written, of the time in which all are to have ended.
    const double patience = std::min(10.0, 0.15 * config.distributed.timeout);
    Ranks ranks(app, launch, config.distributed, [patience] { await_checkpoints(patience); });
    options.watchdog = ranks.watchdog();
    return ranks.run([&]() -> int {
      context = open_device(common, /*quiet=*/!ranks.leads(), launch.local_rank);
      if (const std::string who = ranks.connect(*context); ranks.leads() && !who.empty()) std::puts(who.c_str());
      options.signal = &catch_signals();
      Trainer trainer(*context, ranks.communicator(), config, options);
      const Trainer::Outcome outcome = ranks.watched([&] { return trainer.run(); });
      if (outcome == Trainer::Outcome::finished && ranks.leads())
        std::puts(
            fmt::format("finished: {} steps, checkpoints in {}/checkpoints", trainer.step(), options.work_dir.string())
                .c_str());
      const int signal = trainer.stop_signal();
      if (outcome == Trainer::Outcome::finished || signal == 0) return kSuccess;
      return signal == SIGINT ? static_cast<int>(kInterrupted) : stopped_code;
    });
  });
}
