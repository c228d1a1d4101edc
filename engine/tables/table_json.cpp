// SPDX-License-Identifier: MIT
#include "engine/tables/table_json.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/json_file.h"

namespace gradlibra {
namespace {

Values read_values(const JsonValue& json) {
  Values values;
  for (const auto& [name, value] : json.members()) values[name] = value.number();
  return values;
}

// Averages, recalls and their means are in per cent; `detections` is a number of boxes.
Values read_metrics(const JsonValue& json) {
  constexpr double kMost = 100 + 1e-9;  // a mean of ones may be rounded up
  Values values = read_values(json);
  for (const auto& [name, value] : values) {
    if (name == "detections" ? value < 0 : value < 0 || value > kMost)
      json[name].fail(
          fmt::format("is {}, and {}", value, name == "detections" ? "a count is 0 or more" : "per cent are 0 to 100"));
  }
  return values;
}

ConfigKeys read_keys(const JsonValue& json) {
  ConfigKeys keys;
  for (const auto& [name, value] : json.members()) keys[name] = value.text();
  return keys;
}

std::vector<std::string> read_texts(const JsonValue& json) {
  std::vector<std::string> texts;
  for (const JsonValue& one : json.list()) texts.push_back(one.text());
  return texts;
}

RowResults read_results(const JsonValue& row) {
  RowResults results;
  for (const JsonValue& one : row["seeds"].list()) {
    const int64_t seed = one["seed"].integer();
    results.by_seed[seed] = read_metrics(one["values"]);
    for (const char* name : {"ratio", "norm"})
      if (one.has(name)) results.of_classes[seed][name] = read_values(one[name]);
  }
  for (const JsonValue& one : row["missing"].list()) results.missing[one["seed"].integer()] = one["why"].text();
  return results;
}

}  // namespace

TableFile read_table(const std::filesystem::path& file) {
  const JsonValue::Json text = read_json_file(file);
  const JsonValue json(text, file.string());
  TableFile read;
  read.table.name = json["table"].text();
  read.table.title = json["title"].text();
  if (json.has("note")) read.table.note = json["note"].text();
  read.made.lines = read_texts(json["how"]);
  const ConfigKeys common = json.has("configuration") ? read_keys(json["configuration"]) : ConfigKeys{};
  const std::string baseline = json["baseline"].text();
  std::map<size_t, std::string> against;
  bool found = false;
  for (const JsonValue& row : json["rows"].list()) {
    PaperRow& one = read.table.rows.emplace_back();
    one.label = row["label"].text();
    one.run = {row["run"].text(), read_texts(row["overrides"])};
    if (row.has("configuration")) {
      ConfigKeys& keys = read.made.configurations[one.run.name] = read_keys(row["configuration"]);
      keys.insert(common.begin(), common.end());
    }
    one.printed = row["printed"].is_null() ? Values{} : read_metrics(row["printed"]);
    if (row.has("baseline")) against[read.table.rows.size() - 1] = row["baseline"].text();
    if (one.label == baseline && !found) {
      found = true;
      read.table.baseline = read.table.rows.size() - 1;
    }
    if (read.table.columns.empty())
      for (const auto& [name, value] : row["mean"].members()) read.table.columns.push_back(name);
    read.rows.push_back(read_results(row));
  }
  if (!found) json["baseline"].fail("'" + baseline + "' is the label of no row");
  for (const auto& entry : against) {
    const auto is = [&entry](const PaperRow& one) { return one.label == entry.second; };
    const auto other = std::find_if(read.table.rows.begin(), read.table.rows.end(), is);
    if (other == read.table.rows.end()) json["rows"].fail("the baseline '" + entry.second + "' is the label of no row");
    read.table.rows[entry.first].against = static_cast<size_t>(other - read.table.rows.begin());
  }
  return read;
}

}  // namespace gradlibra
