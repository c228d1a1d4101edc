// SPDX-License-Identifier: MIT
// Results of runs that were made elsewhere: on another machine, with other seeds.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/tables/paper_tables.h"

namespace gradlibra {

class OtherResults {
 public:
  OtherResults() = default;
  // `files`: what table_json wrote. std::runtime_error names a file that cannot be read, and two that differ in the
  // result of one run.
  explicit OtherResults(const std::vector<std::filesystem::path>& files);

  // Null: none of the files has it. std::runtime_error if one has it with other overrides of its row.
  [[nodiscard]] const Values* find(const PaperRun& run, int64_t seed) const;
  // For the reader of a table that took these (run, seed): a line for each file, with how its runs were made.
  using Taken = std::vector<std::pair<std::string, int64_t>>;
  [[nodiscard]] std::vector<std::string> how(const Taken& taken) const;

 private:
  struct Source {
    std::string file;
    std::vector<std::string> how;
  };
  struct Result {
    Values values;
    std::vector<std::string> overrides;
    size_t source;
  };
  std::vector<Source> sources_;
  std::map<std::pair<std::string, int64_t>, Result> results_;  // by run and seed
};

}  // namespace gradlibra
