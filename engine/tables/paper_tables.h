// SPDX-License-Identifier: MIT
// Tables and figures of the paper (arXiv:2208.03779): which runs they are made of, and what was printed.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace gradlibra {

// Names of what is compared: the classes (average precision at IoU 0.5), "AP_f", "AP_c", "AP_r", "mR_f", "mR_c", "mR_r"
// and "mAP", in per cent.
using Values = std::map<std::string, double>;

// One training: a name for its folder and for configs/paper/<name>.yaml, and how it differs from
// configs/paper/base.yaml ("key.path=value"). Two tables that need the same training name the same run.
struct PaperRun {
  std::string name;
  std::vector<std::string> overrides;
};

struct PaperRow {
  std::string label;
  PaperRun run;
  Values printed;  // what the paper says; a value that it does not print, or that is illegible, is not there
  std::optional<size_t> against = {};  // the row that this one is compared with, if it is not the table's baseline
};

struct PaperTable {
  std::string name, title;
  std::vector<std::string> columns;
  std::vector<PaperRow> rows;
  size_t baseline = 0;  // the row that the others are compared with
  std::string note;     // where the printed numbers contradict each other, or are not numbers of a single run
};

// table1, table2, table3, fig3, fig4.
[[nodiscard]] std::vector<std::string> paper_table_names();
// std::invalid_argument lists the names.
[[nodiscard]] PaperTable paper_table(const std::string& name);

}  // namespace gradlibra
