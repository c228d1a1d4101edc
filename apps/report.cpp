// SPDX-License-Identifier: MIT
// report: a training or an experiment as one page of HTML.
#include <fmt/format.h>

#include "engine/program.h"
#include "engine/report/report.h"
#include "runtime/base/utf8.h"

using namespace gradlibra;

int main(int argc, char** argv) {
  CLI::App app{
      "Writes one HTML file on a training (curves, AP of each class, precision by recall, confusion, calibration, "
      "gradients, best and worst pictures, configuration) or on an experiment (its tables and figures beside the "
      "paper's numbers, and its runs). The file needs nothing beside it: no network, no script. What has not been "
      "computed yet is said in its place, with the command that computes it.\n"
      "Exit codes: 0 written, 1 a file is damaged (one of a single run costs an experiment's page no other), 2 wrong "
      "command line or configuration.",
      "report"};
  ReportOptions options;
  app.add_option("folder", options.run.folder,
                 "a training's --work-dir, an experiment's --output, or a single run in an experiment's runs/")
      ->required()
      ->type_name("FOLDER");
  app.add_option("--evaluation", options.run.evaluation,
                 "what `evaluate --output` has written; not given: FOLDER, or the folder in it that has a metrics.json")
      ->type_name("DIR");
  app.add_option("--output", options.output, "file to write; not given: report.html in FOLDER")->type_name("FILE");
  app.add_option("--pictures", options.run.pictures, "how many best pictures, and how many worst; 0: none")
      ->check(CLI::Range(0, 200))
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--split", options.run.split, "of the pictures; not given: the split that was evaluated")
      ->check(CLI::IsMember({"train", "val", "test"}));
  app.add_flag("--runs", options.runs, "of an experiment: also a page for every run, linked from the first");
  app.add_option("overrides", options.run.overrides,
                 "values of the stored configuration to change, such as data.root=/other/place")
      ->type_name("key.path=value");
  app.footer(
      "Example (after those of `train --help` and `evaluate --help`):\n  report out/mine --evaluation out/mine/test");
  return run_program(app, argc, argv, [&] {
    int code = kSuccess;
    const auto say = [](const std::string& line) { fmt::print("{}\n", line); };
    const auto skip = [&code](const std::string& damaged) {
      fmt::print(stderr, "report: skipped: {}\n", printable(damaged));
      code = kFailure;
    };
    write_report(options, say, skip);
    return code;
  });
}
