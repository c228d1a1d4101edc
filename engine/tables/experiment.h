// SPDX-License-Identifier: MIT
// What `experiment` does: runs the rows of tables over seeds and writes the tables.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/tables/experiment_runs.h"

namespace gradlibra {

struct TableOptions {
  std::vector<std::string> tables;  // of paper_table_names()
  TablePlan plan;                   // folder, data, device, overrides; the rest follows from the options below
  std::string scale = "small";
  std::filesystem::path configs;   // empty: configs/paper here, beside the build, or where the programs are installed
  std::filesystem::path settings;  // read_settings(); empty: none
  std::vector<std::filesystem::path> results;  // tables' JSON files: the runs that they have are not made here
  int seeds = 3;
  int64_t first_seed = 1;
  int jobs = 1, gpus = 0;
  bool only_tables = false;
};

enum class TableOutcome { complete, incomplete, interrupted };

// Prints a line as each run ends, and at the end the tables, which it writes as <table>.md and <table>.json, and fig3
// and fig4 as <table>.svg too. A run that fails costs no other. Errors before the first run: std::invalid_argument,
// ConfigError, std::runtime_error; the last also where another process has the folder.
TableOutcome run_tables(TableOptions options, const std::atomic<int>& signal);

}  // namespace gradlibra
