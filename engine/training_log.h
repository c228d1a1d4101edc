// SPDX-License-Identifier: MIT
// A training's log.jsonl, read again: by step, and as curves.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/plots/svg_plot.h"

namespace gradlibra {

struct TrainingLog {
  using Lines = std::map<int64_t, nlohmann::ordered_json>;
  Lines steps, validations;      // by step; of a step that stands there twice the later line
  int64_t unreadable = 0;        // lines that were cut off or are none of a log
  int64_t first_unreadable = 0;  // counted from 1
};

// From a training's folder or the file itself. std::runtime_error names the file if it cannot be read or holds no step.
[[nodiscard]] TrainingLog read_training_log(const std::filesystem::path& log);

// A curve for each number that `wanted` takes by its key, in the order in which keys come up.
[[nodiscard]] std::vector<Series> series_of(const TrainingLog::Lines& lines,
                                            const std::function<bool(const std::string&)>& wanted);
// Of values by class: the objects under `key` as lines.
[[nodiscard]] TrainingLog::Lines objects_of(const TrainingLog::Lines& lines, const char* key);
// Means of neighbouring values, about fifty of them.
void smooth(Series& series);
// At most four hundred of the points, evenly, and the last: a figure is not wider than that.
void thin(Series& series);

// What a training recorded last of each class under `key` (gradient_ratio, weight_norm, ..), in the order of the
// classes; `step` is that of the record. Empty: nothing was recorded.
struct ClassRecord {
  int64_t step = 0;
  std::vector<std::pair<std::string, double>> values;
};
[[nodiscard]] ClassRecord last_record(const TrainingLog& log, const char* key);

}  // namespace gradlibra
