// SPDX-License-Identifier: MIT
#include "engine/scalar_log.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>

#include "runtime/base/files.h"

namespace gradlibra {

namespace {

// The table as it is, but for lines behind `step`, which is the first column; a last line without its end was being
// written when the program died.
void cut(const std::filesystem::path& path, int64_t step) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return;
  std::string kept, line;
  for (bool header = true; std::getline(file, line) && !file.eof(); header = false)
    if (header || std::strtoll(line.c_str(), nullptr, 10) <= step) kept += line + "\n";
  file.close();
  write_file(path, std::span<const char>(kept));
}

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string line;
  std::getline(file, line);
  return line;
}

// Runs what must not end a training.
template <class Body>
void leniently(Body&& body) {
  try {
    body();
  } catch (const std::exception&) {
    // log.jsonl holds the same.
  }
}

}  // namespace

ScalarLog::ScalarLog(std::filesystem::path folder, int64_t step)
    : steps_{.path = folder / "log.csv"}, validations_{.path = folder / "validation.csv"} {
  leniently([&] {
    cut(steps_.path, step);
    cut(validations_.path, step);
  });
  leniently([&] { events_ = std::make_unique<EventFile>(folder, step); });
}

void ScalarLog::append(Table& table, const nlohmann::ordered_json& line) {
  leniently([&] {
    if (!table.open) {
      for (const auto& [name, value] : line.items())
        if (value.is_primitive()) table.header += (table.header.empty() ? "" : ",") + name;
      table.open = true;
      const std::string there = first_line(table.path);
      if (!there.empty() && there != table.header) move_aside(table.path);
      if (there != table.header) std::ofstream(table.path, std::ios::binary) << table.header << "\n";
    }
    std::string text;
    for (size_t begin = 0; begin <= table.header.size();) {
      const size_t end = std::min(table.header.find(',', begin), table.header.size());
      const auto value = line.find(table.header.substr(begin, end - begin));
      if (begin > 0) text += ',';
      if (value != line.end() && value->is_number()) text += value->dump();
      begin = end + 1;
    }
    std::ofstream(table.path, std::ios::app | std::ios::binary) << text + "\n";
  });
}

void ScalarLog::events(const nlohmann::ordered_json& line, const std::string& group) {
  if (!events_) return;
  std::vector<std::pair<std::string, double>> values;
  for (const auto& [name, value] : line.items()) {
    if (name == "step") continue;
    if (value.is_number())
      values.emplace_back(group + "/" + (name.starts_with("val_") ? name.substr(4) : name), value.get<double>());
    if (value.is_object())
      for (const auto& [part, of_part] : value.items())
        if (of_part.is_number()) values.emplace_back(name + "/" + part, of_part.get<double>());
  }
  events_->write(line.at("step").get<int64_t>(), values);
}

void ScalarLog::step(const nlohmann::ordered_json& line, bool shown) {
  append(steps_, line);
  if (shown) events(line, "train");
}

void ScalarLog::validation(const nlohmann::ordered_json& line) {
  append(validations_, line);
  events(line, "validation");
}

}  // namespace gradlibra
