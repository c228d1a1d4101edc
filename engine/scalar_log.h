// SPDX-License-Identifier: MIT
// What log.jsonl says, for other tools: a table for spreadsheets and an event file for TensorBoard.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/event_file.h"

namespace gradlibra {

// In a training's folder:
//   log.csv          a line per step: the numbers of a step's line, columns as in its first line
//   validation.csv   the same for lines of a validation
//   events.out.tfevents.*   TensorBoard's, a file per start of the training: train/<key>, validation/<key>
//                           (without val_), and <key>/<name> for values by name
// A training that goes on from `step` drops the lines behind it. A table with other columns is kept as log.1.csv, ..
// These files are copies: one that cannot be written (a full disk) is left and never ends a training.
class ScalarLog {
 public:
  ScalarLog(std::filesystem::path folder, int64_t step);

  // Of a line of log.jsonl with "step". shown: whether it goes to the event file too.
  void step(const nlohmann::ordered_json& line, bool shown);
  void validation(const nlohmann::ordered_json& line);

 private:
  struct Table {
    std::filesystem::path path;
    std::string header;
    bool open = false;
  };
  void append(Table& table, const nlohmann::ordered_json& line);
  void events(const nlohmann::ordered_json& line, const std::string& group);

  Table steps_, validations_;
  std::unique_ptr<EventFile> events_;
};

}  // namespace gradlibra
