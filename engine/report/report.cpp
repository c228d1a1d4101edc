// SPDX-License-Identifier: MIT
#include "engine/report/report.h"

#include <fmt/format.h>

#include <set>
#include <stdexcept>

#include "engine/experiment_config.h"
#include "engine/report/experiment_page.h"
#include "runtime/base/files.h"

namespace gradlibra {
namespace fs = std::filesystem;
namespace {

bool is_run(const fs::path& folder) {
  for (const char* name : {"log.jsonl", "config.yaml", "run.yaml", "metrics.json"})
    if (fs::exists(folder / name)) return true;
  return false;
}

using Say = std::function<void(const std::string&)>;
using WritePage = std::function<void(const fs::path&, const std::string&)>;

// Returns what `skip` was told of.
std::set<std::string> write_run_pages(const RunPageOptions& options, const WritePage& write, const Say& skip) {
  ExperimentConfig usual;  // an override that no configuration takes is not the damage of every run
  ConfigSource({}, options.overrides).read_into(usual);
  std::set<std::string> damaged;
  for (const fs::path& run : finished_runs(options.folder)) {
    RunPageOptions one = options;
    one.folder = run;
    std::string page;
    try {
      page = run_page(one);
    } catch (const std::runtime_error& error) {
      if (damaged.insert(error.what()).second) skip(error.what());
      continue;
    }
    write(run / "report.html", page);
  }
  return damaged;
}

}  // namespace

void write_report(const ReportOptions& options, const Say& say, const Say& skip) {
  const fs::path& folder = options.run.folder;
  if (!fs::is_directory(folder)) throw std::invalid_argument(folder.string() + ": no such folder");
  const fs::path output = options.output.empty() ? folder / "report.html" : options.output;
  if (fs::is_regular_file(output) && output.extension() != ".html" && output.extension() != ".htm")
    throw std::invalid_argument("--output " + output.string() +
                                ": is there and is no page (.html), which would be written over it: name another file");
  const auto write = [&](const fs::path& file, const std::string& page) {
    write_file(file, page);
    say(fmt::format("{} ({} kB)", file.string(), (page.size() + 999) / 1000));
  };
  if (is_run(folder)) {
    if (options.runs) throw std::invalid_argument("--runs: " + folder.string() + " is one training, no experiment");
    return write(output, run_page(options.run));
  }
  if (!is_experiment(folder))
    throw std::invalid_argument(folder.string() +
                                ": is neither a training's folder (log.jsonl, config.yaml) nor an experiment's (runs/, "
                                "table1.json or another)");
  if (!options.run.evaluation.empty())
    throw std::invalid_argument("--evaluation: an experiment's runs have their own evaluations");
  std::set<std::string> skipped;
  if (options.runs) skipped = write_run_pages(options.run, write, skip);
  std::set<std::string> damaged = skipped;
  const std::string page = experiment_page(folder, damaged);
  for (const std::string& one : damaged)
    if (!skipped.contains(one)) skip(one);
  write(output, page);
}

}  // namespace gradlibra
