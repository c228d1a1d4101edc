// SPDX-License-Identifier: MIT
// The page of an experiment: the paper's tables and figures, and every run behind them.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace gradlibra {

// Whether a folder is what `experiment --output` writes: it has runs/ or a table's JSON.
[[nodiscard]] bool is_experiment(const std::filesystem::path& folder);
// Folders of its runs that have a result, in order.
[[nodiscard]] std::vector<std::filesystem::path> finished_runs(const std::filesystem::path& folder);

// HTML. A run that has a page of its own (report.html in its folder) is linked. `damaged`: messages on what could not
// be read of single runs, which the page repeats; those on logs that it cannot read itself are added.
// std::runtime_error names the file and place of a damaged table, and what to run if there is no table yet.
[[nodiscard]] std::string experiment_page(const std::filesystem::path& folder, std::set<std::string>& damaged);

}  // namespace gradlibra
