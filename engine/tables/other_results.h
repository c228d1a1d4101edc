// SPDX-License-Identifier: MIT
// Results of runs that were made elsewhere: on another machine, with other seeds.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/tables/table_report.h"

namespace gradlibra {

class OtherResults {
 public:
  // `files`: what table_json wrote; `here`: how runs are made here. std::runtime_error names a file that is no such
  // table.
  OtherResults(const std::vector<std::filesystem::path>& files, TableMaking here);

  // Null: none of the files has it. std::runtime_error if one has it with another configuration, or two differ in it.
  // The weights that it began from are the caller's to compare.
  [[nodiscard]] const Values* find(const PaperRun& run, int64_t seed) const;
  // For the reader of a table that took these (run, seed): a line for each file, with how its runs were made.
  using Taken = std::vector<std::pair<std::string, int64_t>>;
  [[nodiscard]] std::vector<std::string> how(const Taken& taken) const;
  // Whether the file that `find` takes it from says with which configuration it was run.
  [[nodiscard]] bool is_known(const std::string& run, int64_t seed) const;
  // The hash of the weights that it began from (experiment_weights.h), by the files that have it and tell.
  [[nodiscard]] std::map<std::filesystem::path, std::string> start_weights(const std::string& run, int64_t seed) const;
  // What the user should know: files without any of these (run, seed), files that do not say how runs were made or from
  // which weights they began.
  [[nodiscard]] std::vector<std::string> warnings(const Taken& taken) const;

 private:
  struct Source {
    std::filesystem::path file;
    TableMaking made;
  };
  struct Result {
    Values values;
    std::vector<std::string> overrides;
    size_t source;
  };
  [[nodiscard]] std::map<int64_t, int> rows_by_seed(size_t source, const Taken& taken) const;

  TableMaking here_;
  ConfigKeys plain_;  // the defaults
  std::vector<Source> sources_;
  std::map<std::pair<std::string, int64_t>, std::vector<Result>> results_;  // by run and seed; tables share runs
};

}  // namespace gradlibra
