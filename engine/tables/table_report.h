// SPDX-License-Identifier: MIT
// Results of a table's runs over seeds, in the paper's layout and beside what it printed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/tables/paper_tables.h"
#include "engine/tables/run_configuration.h"

namespace gradlibra {

// What there is of a row: results by seed, and why others are missing.
struct RowResults {
  std::map<int64_t, Values> by_seed;
  std::map<int64_t, std::map<std::string, Values>>
      of_classes;                          // by seed, what a figure draws of each class: ratio, norm
  std::map<int64_t, std::string> missing;  // "not run yet", or why the run failed
};

// Over those seeds that have the value.
struct Spread {
  int count = 0;
  double mean = 0;
  double deviation = 0;  // sample standard deviation; 0 for a single value
};
[[nodiscard]] Spread spread_of(const std::vector<double>& values);
[[nodiscard]] Spread spread_of(const RowResults& row, const std::string& name);

// Of the differences row - baseline, over the seeds that both have: mean and half the width of the 95 % interval
// (Student's t). Half is infinite with fewer than two seeds.
struct PairedDifference {
  int count = 0;
  double mean = 0, half = 0;
};
[[nodiscard]] PairedDifference paired_difference(const RowResults& row, const RowResults& baseline,
                                                 const std::string& name);

// Spearman's rank correlation of two lists of equal length, ties with their mean rank; NaN for fewer than three values
// or without any spread.
[[nodiscard]] double rank_correlation(const std::vector<double>& a, const std::vector<double>& b);

// How a table's runs were made.
struct TableMaking {
  std::map<std::string, ConfigKeys> configurations;  // by run, deciding_keys(); not there: nobody knows
  std::vector<std::string> lines;                    // for the reader
};

// The row that row i is compared with; its own number: with none.
[[nodiscard]] size_t compared_with(const PaperTable& table, size_t i);

// Classes in the table's columns that no result has a value of, though there are results: "SCC, ASC_H".
[[nodiscard]] std::string classes_without_truth(const PaperTable& table, const std::vector<RowResults>& rows);

// The table as it is on the data of these results. Unless all of their classes are the paper's, theirs take its place
// in the columns, and of what was printed mAP alone stays, by which orders are compared.
[[nodiscard]] PaperTable table_on_data(PaperTable table, const std::vector<RowResults>& rows);

// `rows` in the order of the table's.
[[nodiscard]] std::string table_markdown(const PaperTable& table, const std::vector<RowResults>& rows,
                                         const TableMaking& made);
[[nodiscard]] std::string table_json(const PaperTable& table, const std::vector<RowResults>& rows,
                                     const TableMaking& made);

}  // namespace gradlibra
