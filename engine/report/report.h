// SPDX-License-Identifier: MIT
// What `report` does: a page for a training, or for an experiment and, if wanted, for each of its runs.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "engine/report/run_page.h"

namespace gradlibra {

struct ReportOptions {
  RunPageOptions run;            // run.folder: of a training or of an experiment
  std::filesystem::path output;  // empty: report.html in the folder
  bool runs = false;             // of an experiment: a page in the folder of every run that has a result
};

// Writes the pages and says which. std::invalid_argument for options that do not fit what the folder is;
// std::runtime_error, ConfigError name what is damaged, and then nothing is written but pages of runs before it. What
// is damaged of one run of an experiment costs no other: `skip` is told of it, once, and so is the experiment's page.
void write_report(const ReportOptions& options, const std::function<void(const std::string&)>& say,
                  const std::function<void(const std::string&)>& skip);

}  // namespace gradlibra
