// SPDX-License-Identifier: MIT
#include "engine/training_log.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <stdexcept>

#include "runtime/base/json_text.h"

namespace gradlibra {

using Json = nlohmann::ordered_json;

TrainingLog read_training_log(const std::filesystem::path& log) {
  const std::filesystem::path path = std::filesystem::is_directory(log) ? log / "log.jsonl" : log;
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path.string() + ": cannot be read; is it a training's folder?");
  TrainingLog result;
  int64_t number = 0;
  for (std::string text; std::getline(file, text);) {
    ++number;
    if (text.empty()) continue;
    Json line = parse_json_or_discard<Json>(text);
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer()) {
      if (result.unreadable++ == 0) result.first_unreadable = number;
      continue;
    }
    const auto step = line["step"].get<int64_t>();
    TrainingLog::Lines& lines = line.contains("loss") ? result.steps : result.validations;
    lines[step] = std::move(line);
  }
  if (result.steps.empty()) throw std::runtime_error(path.string() + ": holds no step");
  return result;
}

std::vector<Series> series_of(const TrainingLog::Lines& lines, const std::function<bool(const std::string&)>& wanted) {
  std::vector<Series> all;
  for (const auto& [step, line] : lines)
    for (const auto& [name, value] : line.items()) {
      if (!value.is_number() || !wanted(name)) continue;
      auto series = std::find_if(all.begin(), all.end(), [&, key = name](const Series& s) { return s.name == key; });
      if (series == all.end()) series = all.insert(all.end(), Series{.name = name, .x = {}, .y = {}});
      series->x.push_back(static_cast<double>(step));
      series->y.push_back(value.get<double>());
    }
  return all;
}

TrainingLog::Lines objects_of(const TrainingLog::Lines& lines, const char* key) {
  TrainingLog::Lines result;
  for (const auto& [step, line] : lines)
    if (const auto found = line.find(key); found != line.end() && found->is_object()) result[step] = *found;
  return result;
}

void smooth(Series& s) {
  const size_t width = std::max<size_t>(1, s.y.size() / 50);
  Series means = s;
  means.x.clear();
  means.y.clear();
  for (size_t begin = 0; begin < s.y.size(); begin += width) {
    const size_t end = std::min(begin + width, s.y.size());
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += s.y[i];
    means.x.push_back(s.x[end - 1]);
    means.y.push_back(sum / static_cast<double>(end - begin));
  }
  s = means;
}

void thin(Series& s) {
  constexpr size_t kMost = 400;
  if (s.x.size() <= kMost) return;
  const size_t step = (s.x.size() + kMost - 2) / (kMost - 1);
  Series few = s;
  few.x.clear();
  few.y.clear();
  for (size_t i = 0; i < s.x.size(); i += step) {
    few.x.push_back(s.x[i]);
    few.y.push_back(s.y[i]);
  }
  if (few.x.back() != s.x.back()) {
    few.x.push_back(s.x.back());
    few.y.push_back(s.y.back());
  }
  s = few;
}

ClassRecord last_record(const TrainingLog& log, const char* key) {
  const TrainingLog::Lines objects = objects_of(log.steps, key);
  ClassRecord record;
  if (objects.empty()) return record;
  record.step = objects.rbegin()->first;
  for (const auto& [name, value] : objects.rbegin()->second.items())
    record.values.emplace_back(name,
                               value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN());
  return record;
}

}  // namespace gradlibra
