// SPDX-License-Identifier: MIT
#include "engine/report/report.h"

#include <fmt/format.h>

#include <stdexcept>

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

}  // namespace

void write_report(const ReportOptions& options, const std::function<void(const std::string&)>& say) {
  const fs::path& folder = options.run.folder;
  if (!fs::is_directory(folder)) throw std::invalid_argument(folder.string() + ": no such folder");
  const fs::path output = options.output.empty() ? folder / "report.html" : options.output;
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
  if (options.runs)
    for (const fs::path& run : finished_runs(folder)) {
      RunPageOptions one = options.run;
      one.folder = run;
      write(run / "report.html", run_page(one));
    }
  write(output, experiment_page(folder));
}

}  // namespace gradlibra
