// SPDX-License-Identifier: MIT
#include "engine/tables/other_results.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>

#include "engine/tables/table_json.h"

namespace gradlibra {
namespace {

std::vector<std::string> settings_of(const TableMaking& made, const std::string& run) {
  const auto found = made.settings.find(run);
  return found == made.settings.end() ? std::vector<std::string>{} : found->second;
}

// Tables have the same name wherever they were made; their folder tells them apart.
std::string short_name(const std::filesystem::path& file) {
  return (file.parent_path().filename() / file.filename()).string();
}

}  // namespace

OtherResults::OtherResults(const std::vector<std::filesystem::path>& files, TableMaking here) : here_(std::move(here)) {
  for (const std::filesystem::path& file : files) {
    TableFile read;
    try {
      read = read_table(file);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(fmt::format("--results: not a table that experiment wrote: {}", error.what()));
    }
    if (!read.made.scale.empty() && read.made.scale != here_.scale)
      throw std::runtime_error(fmt::format("--results {}: was made at scale {}, and this is scale {}", file.string(),
                                           read.made.scale, here_.scale));
    for (size_t i = 0; i < read.rows.size(); ++i) {
      const PaperRun& run = read.table.rows[i].run;
      for (const auto& [seed, values] : read.rows[i].by_seed)
        results_[{run.name, seed}].push_back({values, run.overrides, sources_.size()});
    }
    sources_.push_back({file, std::move(read.made)});
  }
}

const Values* OtherResults::find(const PaperRun& run, int64_t seed) const {
  const auto found = results_.find({run.name, seed});
  if (found == results_.end()) return nullptr;
  const Result& first = found->second.front();
  for (const Result& result : found->second) {
    const Source& source = sources_[result.source];
    const auto require_same = [&](const std::vector<std::string>& there, const std::vector<std::string>& here) {
      if (there != here)
        throw std::runtime_error(fmt::format("--results {}: its {} was run with '{}', and would be with '{}' here",
                                             source.file.string(), run.name, fmt::join(there, " "),
                                             fmt::join(here, " ")));
    };
    require_same(result.overrides, run.overrides);
    if (!source.made.scale.empty()) require_same(settings_of(source.made, run.name), settings_of(here_, run.name));
    if (result.values != first.values)
      throw std::runtime_error(
          fmt::format("--results: {} and {} differ in the result of {}, seed {}: leave one of them out, or make one "
                      "table at a time",
                      sources_[first.source].file.string(), source.file.string(), run.name, seed));
  }
  return &first.values;
}

std::map<int64_t, int> OtherResults::rows_by_seed(size_t source, const Taken& taken) const {
  std::map<int64_t, int> rows;
  for (const auto& [name, seed] : taken)
    if (const auto found = results_.find({name, seed}); found != results_.end())
      rows[seed] += static_cast<int>(std::count_if(found->second.begin(), found->second.end(),
                                                   [&](const Result& result) { return result.source == source; }));
  std::erase_if(rows, [](const auto& entry) { return entry.second == 0; });
  return rows;
}

std::vector<std::string> OtherResults::how(const Taken& taken) const {
  std::vector<std::string> lines;
  Taken left = taken;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const auto rows = rows_by_seed(i, left);
    if (rows.empty()) continue;
    // A run that two files have is told of once.
    std::erase_if(left, [&](const auto& key) {
      const auto& results = results_.at(key);
      return std::any_of(results.begin(), results.end(), [&](const Result& result) { return result.source == i; });
    });
    std::vector<std::string> parts;
    for (const auto& [seed, count] : rows)
      parts.push_back(fmt::format("{} row{} of seed {}", count, count == 1 ? "" : "s", seed));
    lines.push_back(fmt::format("Made elsewhere ({}): {}. {}", short_name(sources_[i].file), fmt::join(parts, ", "),
                                fmt::join(sources_[i].made.lines, " ")));
  }
  return lines;
}

std::vector<std::string> OtherResults::warnings(const Taken& taken) const {
  std::vector<std::string> lines;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const std::string file = sources_[i].file.string();
    if (rows_by_seed(i, taken).empty())
      lines.push_back(fmt::format("--results {}: has none of these tables' runs and seeds", file));
    else if (sources_[i].made.scale.empty())
      lines.push_back(
          fmt::format("--results {}: does not say at which scale and with which settings its runs were "
                      "made; they are taken as made like those here",
                      file));
  }
  return lines;
}

}  // namespace gradlibra
