// SPDX-License-Identifier: MIT
#include "engine/tables/other_results.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>

#include "engine/tables/experiment_weights.h"
#include "engine/tables/table_json.h"

namespace gradlibra {
namespace {

// Tables have the same name wherever they were made; their folder tells them apart.
std::string short_name(const std::filesystem::path& file) {
  return (file.parent_path().filename() / file.filename()).string();
}

}  // namespace

OtherResults::OtherResults(const std::vector<std::filesystem::path>& files, TableMaking here)
    : here_(std::move(here)), plain_(deciding_keys(ExperimentConfig{})) {
  for (const std::filesystem::path& file : files) {
    TableFile read;
    try {
      read = read_table(file);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(fmt::format("--results: not a table that experiment wrote: {}", error.what()));
    }
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
    const auto refuse = [&](const std::string& what) {
      throw std::runtime_error(fmt::format("--results {}: its {} was run {}", source.file.string(), run.name, what));
    };
    if (result.overrides != run.overrides)
      refuse(fmt::format("with '{}', and would be with '{}' here", fmt::join(result.overrides, " "),
                         fmt::join(run.overrides, " ")));
    const auto there = source.made.configurations.find(run.name), here = here_.configurations.find(run.name);
    if (there != source.made.configurations.end() && here != here_.configurations.end()) {
      ConfigKeys keys = there->second, ours = here->second;
      for (ConfigKeys* of : {&keys, &ours}) of->erase(kStartWeights);
      keep_deciding(keys);                                  // older tables have all, with values that say nothing
      for (const auto& entry : plain_) keys.insert(entry);  // keys that have come to be since
      if (const std::string names = difference(keys, ours); !names.empty())
        refuse("with another configuration (" + names + " differ)");
    }
    if (result.values != first.values)
      throw std::runtime_error(
          fmt::format("--results: {} and {} differ in the result of {}, seed {}: leave one of them out, or make one "
                      "table at a time",
                      sources_[first.source].file.string(), source.file.string(), run.name, seed));
  }
  return &first.values;
}

bool OtherResults::is_known(const std::string& run, int64_t seed) const {
  return sources_[results_.at({run, seed}).front().source].made.configurations.contains(run);
}

std::map<std::filesystem::path, std::string> OtherResults::start_weights(const std::string& run, int64_t seed) const {
  std::map<std::filesystem::path, std::string> told;
  const auto found = results_.find({run, seed});
  if (found == results_.end()) return told;
  for (const Result& result : found->second) {
    const Source& source = sources_[result.source];
    const auto keys = source.made.configurations.find(run);
    if (keys == source.made.configurations.end()) continue;
    if (const auto hash = keys->second.find(kStartWeights); hash != keys->second.end())
      told[source.file] = hash->second;
  }
  return told;
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
    parts.reserve(rows.size());
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
    const auto any_taken_from_it = [&](const auto& lacks) {
      return std::any_of(taken.begin(), taken.end(), [&](const auto& key) {
        const auto found = results_.find(key);
        return found != results_.end() && found->second.front().source == i && lacks(key.first, key.second);
      });
    };
    if (rows_by_seed(i, taken).empty())
      lines.push_back(
          fmt::format("--results {}: has nothing to take: none of these tables' runs and seeds, or those of Figure 3 "
                      "alone, which needs logs",
                      file));
    else if (any_taken_from_it([&](const std::string& run, int64_t seed) { return !is_known(run, seed); }))
      lines.push_back(fmt::format(
          "--results {}: does not say with which configuration its runs were made; they are taken as made like here",
          file));
    else if (any_taken_from_it([&](const auto& run, int64_t seed) { return start_weights(run, seed).empty(); }))
      lines.push_back(fmt::format(
          "--results {}: does not say from which weights its runs began; they are taken as begun from those here",
          file));
  }
  return lines;
}

}  // namespace gradlibra
