// SPDX-License-Identifier: MIT
#include "engine/tables/table_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <stdexcept>

namespace gradlibra {
namespace {

// 97.5 % quantiles of Student's t by degrees of freedom, from 1.
constexpr double kStudent[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                               2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                               2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};

double student(int freedom) { return freedom <= static_cast<int>(std::size(kStudent)) ? kStudent[freedom - 1] : 1.96; }

std::vector<double> ranks_of(const std::vector<double>& values) {
  std::vector<double> ranks;
  for (const double value : values) {
    const auto below = std::count_if(values.begin(), values.end(), [&](double other) { return other < value; });
    const auto equal = std::count(values.begin(), values.end(), value);
    ranks.push_back(static_cast<double>(below) + static_cast<double>(equal + 1) / 2);
  }
  return ranks;
}

std::string cell(const Spread& here, const Values& printed, const std::string& name) {
  std::string text = here.count == 0   ? "-"
                     : here.count == 1 ? fmt::format("{:.1f}", here.mean)
                                       : fmt::format("{:.1f} ± {:.1f}", here.mean, here.deviation);
  if (const auto found = printed.find(name); found != printed.end()) text += fmt::format(" ({:.1f})", found->second);
  return text;
}

void add_row(std::string& text, const std::vector<std::string>& cells) {
  text += "|";
  for (const std::string& one : cells) text += " " + one + " |";
  text += "\n";
}

void add_header(std::string& text, const std::vector<std::string>& cells) {
  add_row(text, cells);
  add_row(text, std::vector<std::string>(cells.size(), "---"));
}

// A failure's text as one cell of a Markdown table.
std::string plain(std::string text) {
  for (char& c : text)
    if (c == '|' || c == '\n' || c == '\r') c = ' ';
  return text;
}

bool is_class(const std::string& value) {
  return value != "mAP" && value != "detections" && !value.starts_with("AP_") && !value.starts_with("mR_");
}

std::string missing_lines(const PaperTable& table, const std::vector<RowResults>& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i)
    for (const auto& [seed, why] : rows[i].missing)
      text += fmt::format("- {}, seed {}: {}\n", table.rows[i].label, seed, plain(why));
  return text.empty() ? "" : "\nMissing, and in no mean above:\n\n" + text;
}

std::string differences(const PaperTable& table, const std::vector<RowResults>& rows) {
  const std::vector<std::string> names{"mAP", "AP_f", "AP_c", "AP_r", "mR_r"};
  const bool one_baseline =
      std::none_of(table.rows.begin(), table.rows.end(), [](const PaperRow& row) { return row.against.has_value(); });
  std::string text;
  std::vector<std::string> header{one_baseline ? "minus " + table.rows[table.baseline].label : "difference", "seeds"};
  header.insert(header.end(), names.begin(), names.end());
  add_header(text, header);
  bool any = false;
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t base = compared_with(table, i);
    const int seeds = base == i ? 0 : paired_difference(rows[i], rows[base], "mAP").count;
    if (seeds < 2) continue;
    any = true;
    const std::string& label = table.rows[i].label;
    std::vector<std::string> cells{one_baseline ? label : label + " - " + table.rows[base].label,
                                   std::to_string(seeds)};
    for (const std::string& name : names) {
      const PairedDifference d = paired_difference(rows[i], rows[base], name);
      cells.push_back(
          d.count < 2 ? "-" : fmt::format("{:+.1f} ({:+.1f} to {:+.1f})", d.mean, d.mean - d.half, d.mean + d.half));
    }
    add_row(text, cells);
  }
  if (!any) return "";
  return "\nDifferences, paired by seed, with 95 % intervals (Student's t):\n\n" + text;
}

// What all of the table's runs whose configuration is known have alike.
ConfigKeys common_keys(const PaperTable& table, const TableMaking& made) {
  std::optional<ConfigKeys> common;
  for (const PaperRow& row : table.rows) {
    const auto of_run = made.configurations.find(row.run.name);
    if (of_run == made.configurations.end()) continue;
    if (!common) common = of_run->second;
    std::erase_if(*common, [&keys = of_run->second](const auto& entry) {
      const auto found = keys.find(entry.first);
      return found == keys.end() || found->second != entry.second;
    });
  }
  return common.value_or(ConfigKeys{});
}

// How far the order of the rows by mAP is the paper's.
std::string order_line(const PaperTable& table, const std::vector<RowResults>& rows) {
  std::vector<double> here, paper;
  std::vector<std::pair<double, std::string>> order;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Spread mean = spread_of(rows[i], "mAP");
    const auto printed = table.rows[i].printed.find("mAP");
    if (mean.count == 0 || printed == table.rows[i].printed.end()) continue;
    here.push_back(mean.mean);
    paper.push_back(printed->second);
    order.emplace_back(mean.mean, table.rows[i].label);
  }
  const double correlation = rank_correlation(here, paper);
  if (!std::isfinite(correlation)) return "";
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string names;
  for (const auto& [value, label] : order) names += (names.empty() ? "" : ", ") + label;
  return fmt::format("\nOrder by mAP, best first: {}. Rank correlation with the paper's order: {:.2f}.\n", names,
                     correlation);
}

}  // namespace

Spread spread_of(const std::vector<double>& values) {
  Spread result{.count = static_cast<int>(values.size())};
  if (values.empty()) return result;
  result.mean = std::accumulate(values.begin(), values.end(), 0.0) / result.count;
  double squares = 0;
  for (const double value : values) squares += (value - result.mean) * (value - result.mean);
  if (result.count > 1) result.deviation = std::sqrt(squares / (result.count - 1));
  return result;
}

Spread spread_of(const RowResults& row, const std::string& name) {
  std::vector<double> values;
  for (const auto& [seed, result] : row.by_seed)
    if (const auto found = result.find(name); found != result.end()) values.push_back(found->second);
  return spread_of(values);
}

PairedDifference paired_difference(const RowResults& row, const RowResults& baseline, const std::string& name) {
  std::vector<double> values;
  for (const auto& [seed, result] : row.by_seed) {
    const auto other = baseline.by_seed.find(seed);
    if (other == baseline.by_seed.end() || !result.contains(name) || !other->second.contains(name)) continue;
    values.push_back(result.at(name) - other->second.at(name));
  }
  const Spread spread = spread_of(values);
  PairedDifference result{.count = spread.count, .mean = spread.mean, .half = std::numeric_limits<double>::infinity()};
  if (spread.count > 1) result.half = student(spread.count - 1) * spread.deviation / std::sqrt(spread.count);
  return result;
}

double rank_correlation(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) throw std::invalid_argument("rank_correlation: lists of different lengths");
  const std::vector<double> x = ranks_of(a), y = ranks_of(b);
  const Spread mean_x = spread_of(x), mean_y = spread_of(y);
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (x[i] - mean_x.mean) * (y[i] - mean_y.mean);
  if (x.size() < 3) return std::numeric_limits<double>::quiet_NaN();
  return sum / (static_cast<double>(x.size() - 1) * mean_x.deviation * mean_y.deviation);
}

size_t compared_with(const PaperTable& table, size_t i) { return table.rows[i].against.value_or(table.baseline); }

std::string classes_without_truth(const PaperTable& table, const std::vector<RowResults>& rows) {
  if (std::all_of(rows.begin(), rows.end(), [](const RowResults& row) { return row.by_seed.empty(); })) return "";
  std::string names;
  for (const std::string& column : table.columns)
    if (is_class(column) &&
        std::all_of(rows.begin(), rows.end(), [&](const RowResults& row) { return spread_of(row, column).count == 0; }))
      names += (names.empty() ? "" : ", ") + column;
  return names;
}

PaperTable table_on_data(PaperTable table, const std::vector<RowResults>& rows) {
  std::set<std::string> classes;
  for (const RowResults& row : rows)
    for (const auto& [seed, values] : row.by_seed)
      for (const auto& [name, value] : values)
        if (is_class(name)) classes.insert(name);
  const std::vector<std::string> papers = paper_table("table1").columns;
  const auto is_papers = [&](const std::string& name) {
    return std::find(papers.begin(), papers.end(), name) != papers.end();
  };
  if (std::all_of(classes.begin(), classes.end(), is_papers)) return table;  // also before the first result
  if (std::erase_if(table.columns, is_class) > 0)
    table.columns.insert(table.columns.begin(), classes.begin(), classes.end());
  for (PaperRow& row : table.rows) std::erase_if(row.printed, [](const auto& value) { return value.first != "mAP"; });
  table.note += std::string(table.note.empty() ? "" : " ") +
                "The data's classes are others than the paper's, whose mAP is that of its own data.";
  return table;
}

std::string table_markdown(const PaperTable& table, const std::vector<RowResults>& rows, const TableMaking& made) {
  std::string text = "# " + table.title + "\n\n";
  for (const std::string& line : made.lines) text += line + "\n";
  text += "\nPer cent: mean ± standard deviation over seeds; in brackets what the paper printed.\n\n";
  std::vector<std::string> header{"method", "seeds"};
  header.insert(header.end(), table.columns.begin(), table.columns.end());
  add_header(text, header);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<std::string> cells{table.rows[i].label, std::to_string(rows[i].by_seed.size())};
    for (const std::string& column : table.columns)
      cells.push_back(cell(spread_of(rows[i], column), table.rows[i].printed, column));
    add_row(text, cells);
  }
  if (const std::string without = classes_without_truth(table, rows); !without.empty())
    text += "\nWithout truth in the test split, and in no mean: " + without + ".\n";
  text += differences(table, rows) + order_line(table, rows) + missing_lines(table, rows);
  if (!table.note.empty()) text += "\n" + table.note + "\n";
  return text;
}

std::string table_json(const PaperTable& table, const std::vector<RowResults>& rows, const TableMaking& made) {
  using Json = nlohmann::ordered_json;
  Json json{{"table", table.name},
            {"title", table.title},
            {"how", made.lines},
            {"baseline", table.rows[table.baseline].label}};
  const ConfigKeys common = common_keys(table, made);
  if (!common.empty()) json["configuration"] = common;
  json["note"] = table.note;
  json["rows"] = Json::array();
  for (size_t i = 0; i < rows.size(); ++i) {
    Json row{
        {"label", table.rows[i].label}, {"run", table.rows[i].run.name}, {"overrides", table.rows[i].run.overrides}};
    if (const auto found = made.configurations.find(table.rows[i].run.name); found != made.configurations.end()) {
      row["configuration"] = Json::object();
      for (const auto& [key, value] : found->second)
        if (!common.contains(key)) row["configuration"][key] = value;
    }
    row["mean"] = row["deviation"] = row["minus_baseline"] = Json::object();
    for (const std::string& column : table.columns) {
      const Spread spread = spread_of(rows[i], column);
      row["mean"][column] = spread.count > 0 ? Json(spread.mean) : Json();
      row["deviation"][column] = spread.count > 1 ? Json(spread.deviation) : Json();
      const size_t base = compared_with(table, i);
      const PairedDifference d = paired_difference(rows[i], rows[base], column);
      if (i != base && d.count > 1)
        row["minus_baseline"][column] = {{"mean", d.mean}, {"low", d.mean - d.half}, {"high", d.mean + d.half}};
    }
    row["printed"] = table.rows[i].printed;
    if (table.rows[i].against) row["baseline"] = table.rows[*table.rows[i].against].label;
    row["seeds"] = Json::array();
    for (const auto& [seed, values] : rows[i].by_seed) {
      Json one{{"seed", seed}, {"values", values}};
      if (const auto found = rows[i].of_classes.find(seed); found != rows[i].of_classes.end())
        for (const auto& [name, of_classes] : found->second) one[name] = of_classes;
      row["seeds"].push_back(one);
    }
    row["missing"] = Json::array();
    for (const auto& [seed, why] : rows[i].missing) row["missing"].push_back({{"seed", seed}, {"why", why}});
    json["rows"].push_back(row);
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace gradlibra
