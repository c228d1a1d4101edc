// SPDX-License-Identifier: MIT
// A training's log as figures.
#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace gradlibra {

struct TrainingFigures {
  std::map<std::string, std::string> files;  // name.svg to its content
  std::string text;                          // for a person: the last values of each class
};

// From the log.jsonl of a training's folder (or the file itself):
//   loss.svg               each term and their sum (running mean of a fiftieth of the steps), by step
//   learning_rate.svg
//   validation.svg         if there were validations
//   gradient_ratio.svg     cumulative ratio of positive to negative gradients of each class, by step
//                          (arXiv:2208.03779, fig. 3a over the training)
//   gradient_ratio_bars.svg  the same at the end: of the loss that was trained (fig. 3a)
//   weight_norm.svg        norm of the classifier's weights of each class, divided by the largest, at the end (fig. 3b)
// Of a step that stands there twice the later line counts; a line that was cut off is passed over and counted in the
// text. std::runtime_error names the file if there is nothing in it.
[[nodiscard]] TrainingFigures training_figures(const std::filesystem::path& log);

}  // namespace gradlibra
