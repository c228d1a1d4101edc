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
#include "engine/signals.h"
#include "engine/trainer.h"
#include "runtime/base/processors.h"

using namespace gradlibra;

namespace {

// `--resume key.path=value`: the value is an override and no folder. The flag moves to the end, where nothing follows.
void keep_overrides_from_resume(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--resume") != 0) continue;
    if (std::strchr(argv[i + 1], '=') == nullptr || argv[i + 1][0] == '-' || std::filesystem::exists(argv[i + 1]))
      return;
    std::rotate(argv + i, argv + i + 1, argv + argc);
    return;
  }
}

// Where a run without --config has its configuration from: the folder itself, as its last start left it, or its newest
// checkpoint.
ExperimentConfig config_of(const std::filesystem::path& folder, const CommonOptions& common) {
  if (!std::filesystem::is_directory(folder))
    throw std::invalid_argument(folder.string() + ": no such folder; nothing to resume");
  ExperimentConfig config;
  if (std::filesystem::exists(folder / "config.yaml")) {
    ConfigSource(folder / "config.yaml", common.overrides).read_into(config);
    return config;
  }
  if (!std::filesystem::exists(folder / "checkpoints"))
    throw std::invalid_argument(folder.string() +
                                ": holds no training (neither config.yaml nor checkpoints); nothing to resume");
  const OpenedCheckpoint newest = open_checkpoint(folder);
  return stored_config(newest.file, newest.name, common.overrides);
}

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
      "the log lie in --work-dir. Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 end after the running step with a "
      "checkpoint, a second one at once; --resume continues bit for bit.\n"
      "Exit codes: 0 finished (or a signal but Ctrl-C, with a checkpoint; only a finished run leaves the file "
      "`finished`), 1 failure, 2 wrong command line or configuration, 3 non-finite loss, 5 another rank was lost, 130 "
      "Ctrl-C with a checkpoint.\n"
      "Several ranks train as one with a batch that is so many times as large: --ranks on this machine, mpirun or srun "
      "on several.",
      "train"};
  CommonOptions common;
  Trainer::Options options;
  std::string work_dir, resume;
  LaunchFlags launch_flags;
  int local_ranks = 1, stopped_code = kSuccess;
  add_config_options(app, common, false);
  app.add_option("--work-dir", work_dir, "folder for everything this run writes; not given: that of --resume")
      ->type_name("DIR");
  CLI::Option* resumes =
      app.add_option(
             "--resume", resume,
             "continue the training in DIR, or in --work-dir, from its newest checkpoint. Needs no --config; "
             "with --config and --work-dir it starts if there is nothing to continue; not given: a new training")
          ->expected(0, 1)
          ->type_name("[DIR]");
  app.add_flag("--changed-data", options.changed_data,
               "resume though the training data are not those of the checkpoint");
  app.add_option("--stop-after-step", options.stop_after_step,
                 "leave with a checkpoint after this many steps in total; not given: at the end")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  bool no_graph = false;
  std::string profile;
  app.add_flag("--no-graph", no_graph,
               "on a GPU: kernel by kernel, not the recorded step (as runtime.cuda_graph=false)");
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
    options.resume = resumes->count() > 0;
    if (!resume.empty() && !work_dir.empty() &&
        std::filesystem::weakly_canonical(resume) != std::filesystem::weakly_canonical(work_dir))
      throw std::invalid_argument("--resume " + resume + " and --work-dir " + work_dir + " are two folders; name one");
    if (work_dir.empty()) work_dir = resume;
    if (work_dir.empty()) throw std::invalid_argument("--work-dir is required, or --resume with a folder");
    if (common.config.empty() && !options.resume)
      throw std::invalid_argument("--config is required to start a training (--resume continues one without)");
    if (!resume.empty() && !std::filesystem::is_directory(resume))
      throw std::invalid_argument(resume + ": no such folder; nothing to resume");
    const Launch launch = find_launch(launch_flags);
    ExperimentConfig config = common.config.empty() ? config_of(work_dir, common) : read_experiment(common);
    if (no_graph) config.runtime.cuda_graph = false;
    if (!profile.empty()) options.profile_steps = parse_step_range(profile);
    if (local_ranks > 1 && launch.world_size == 1)
      return run_local_ranks(local_ranks, common.device != "cpu", launch_flags.share_gpus,
                             arguments_of_a_rank(argc, argv, local_ranks, common.threads));
    if (!launch.note.empty()) fmt::print(stderr, "{}: {}\n", app.get_name(), launch.note);
    options.work_dir = work_dir;
    options.signal = &catch_signals();
    std::unique_ptr<Context> context;  // outlives what connects it with others
    Ranks ranks(app, launch, config.distributed);
    options.watchdog = ranks.watchdog();
    return ranks.run([&]() -> int {
      context = open_device(common, /*quiet=*/!ranks.leads(), launch.local_rank);
      if (const std::string who = ranks.connect(*context); ranks.leads() && !who.empty()) std::puts(who.c_str());
      Trainer trainer(*context, ranks.communicator(), config, options);
      const Trainer::Outcome outcome = trainer.run();
      if (outcome == Trainer::Outcome::finished && ranks.leads())
        std::puts(fmt::format("finished: {} steps, checkpoints in {}/checkpoints", trainer.step(), work_dir).c_str());
      const int signal = trainer.stop_signal();
      if (outcome == Trainer::Outcome::finished || signal == 0) return kSuccess;
      return signal == SIGINT ? static_cast<int>(kInterrupted) : stopped_code;
    });
  });
}
