// SPDX-License-Identifier: MIT
// experiment: a table or figure of the paper, run over seeds and written beside the paper's numbers.
#include <fmt/format.h>

#include "engine/option_checks.h"
#include "engine/program.h"
#include "engine/signals.h"
#include "engine/tables/experiment.h"

using namespace gradlibra;

int main(int argc, char** argv) {
  CLI::App app{
      "Runs tables and figures of the paper: trains and evaluates every row with several seeds, several runs side by "
      "side, and writes Markdown and JSON (and SVG of figures) in the paper's layout, beside what the paper printed. "
      "What has a result is not run again: the same command goes on after an interruption, and repeats what failed.\n"
      "Exit codes: 0 all results are there, 1 a run failed (the others are in the table), 2 wrong command line or "
      "configuration, 128 + its number stopped by a signal (130: Ctrl-C).",
      "experiment"};
  TableOptions options;
  app.add_option("tables", options.tables, "any of: " + fmt::format("{}", fmt::join(paper_table_names(), ", ")))
      ->required()
      ->check(CLI::IsMember(paper_table_names()))
      ->type_name("TABLE");
  app.add_option("--output", options.plan.folder, "folder for data, runs and tables")->required()->type_name("DIR");
  app.add_option("--scale", options.scale,
                 "tiny: a minute, to see that it works; small: drawn smears, minutes a run on a CPU; paper: ResNet-50, "
                 "512 x 512, 12 epochs, for GPUs")
      ->check(CLI::IsMember({"tiny", "small", "paper"}))
      ->capture_default_str();
  app.add_option("--configs", options.configs,
                 "folder with base.yaml, small.yaml and tiny.yaml; empty: the program's own")
      ->type_name("DIR");
  app.add_option("--data", options.plan.data, "a data set that is there (data.root); empty: drawn under --output")
      ->type_name("DIR");
  app.add_option("--settings", options.settings,
                 "overrides for single runs: settings: {cross_entropy: [schedule.lr=0.02]}")
      ->type_name("FILE");
  app.add_option(
         "--results", options.results,
         "tables (.json) of runs made elsewhere, on another machine or with other seeds: what they have is taken from "
         "there, and not run here")
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  app.add_option("--seeds", options.seeds, "how many seeds for each row")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--first-seed", options.first_seed, "the first of them")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 53))
      ->capture_default_str();
  app.add_option("--jobs", options.jobs, "runs side by side, each with its share of the processors")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--gpus", options.gpus, "deal the runs to so many GPUs in turn; 0: leave it to --device")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--device", options.plan.device, "of every run; auto takes a GPU if one can be used")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_flag("--keep-checkpoints", options.plan.keep_checkpoints, "keep the last checkpoint of every run");
  app.add_flag("--only-tables", options.only_tables, "run nothing: write the tables of what is there");
  app.add_option("--set", options.plan.overrides, "override of the configuration of every run (repeatable)")
      ->type_name("key.path=value");
  app.footer("Example:\n  experiment table1 --scale tiny --seeds 1 --output out/table1");
  return run_program(app, argc, argv, [&] {
    const std::atomic<int>& signal = catch_signals();
    switch (run_tables(options, signal)) {
      case TableOutcome::complete:
        return static_cast<int>(kSuccess);
      case TableOutcome::incomplete:
        return static_cast<int>(kFailure);
      case TableOutcome::interrupted:
        break;
    }
    return stopped_by(signal.load());
  });
}
