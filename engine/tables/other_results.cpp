// SPDX-License-Identifier: MIT
#include "engine/tables/other_results.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>

#include "engine/tables/table_json.h"

namespace gradlibra {

OtherResults::OtherResults(const std::vector<std::filesystem::path>& files) {
  for (const std::filesystem::path& file : files) {
    const TableFile read = read_table(file);
    sources_.push_back({file.string(), read.how});
    for (size_t i = 0; i < read.rows.size(); ++i) {
      const PaperRun& run = read.table.rows[i].run;
      for (const auto& [seed, values] : read.rows[i].by_seed) {
        const auto [found, is_new] =
            results_.try_emplace({run.name, seed}, Result{values, run.overrides, sources_.size() - 1});
        if (!is_new && found->second.values != values)  // tables share runs
          throw std::runtime_error(fmt::format("{} and {} differ in the result of {}, seed {}: leave one out",
                                               sources_[found->second.source].file, file.string(), run.name, seed));
      }
    }
  }
}

const Values* OtherResults::find(const PaperRun& run, int64_t seed) const {
  const auto found = results_.find({run.name, seed});
  if (found == results_.end()) return nullptr;
  const Result& result = found->second;
  if (result.overrides != run.overrides)
    throw std::runtime_error(fmt::format("{}: its {} was run with {}, and is {} here", sources_[result.source].file,
                                         run.name, fmt::join(result.overrides, " "), fmt::join(run.overrides, " ")));
  return &result.values;
}

std::vector<std::string> OtherResults::how(const Taken& taken) const {
  std::vector<std::string> lines;
  for (size_t i = 0; i < sources_.size(); ++i) {
    std::map<int64_t, int> runs;  // by seed
    for (const auto& [name, seed] : taken)
      if (const auto found = results_.find({name, seed}); found != results_.end() && found->second.source == i)
        ++runs[seed];
    if (runs.empty()) continue;
    std::string seeds;
    for (const auto& [seed, count] : runs)
      seeds += fmt::format("{}seed {} of {} row{}", seeds.empty() ? "" : ", ", seed, count, count == 1 ? "" : "s");
    lines.push_back(fmt::format("Made elsewhere ({}): {}. {}",
                                std::filesystem::path(sources_[i].file).filename().string(), seeds,
                                fmt::join(sources_[i].how, " ")));
  }
  return lines;
}

}  // namespace gradlibra
