// SPDX-License-Identifier: MIT
// The pictures on which a detector did best and worst, with what it found and what is there.
#pragma once

#include <string>
#include <vector>

#include "data/metrics/metrics.h"

namespace gradlibra {

// One picture, told by the pairs that the confusion matrix counts (ImagePairs).
struct Judgement {
  size_t image = 0;
  int64_t right = 0;    // truths found as what they are
  int64_t other = 0;    // found, and taken for another class
  int64_t nothing = 0;  // detections where nothing is, or what is there is found already
  int64_t missed = 0;   // truths that nothing found
  [[nodiscard]] int64_t errors() const { return other + nothing + missed; }
  // Share of right ones of all of these; 1 of a picture with nothing in it.
  [[nodiscard]] double quality() const;
};
[[nodiscard]] Judgement judge(size_t image, const std::vector<Object>& objects,
                              const std::vector<Detection>& detections, const ConfusionOptions& options);

struct Choice {
  std::vector<size_t> best, worst;  // the best first, the worst first; no picture is in both
};
// Best: the highest quality, among equals that with more right ones. Worst: the lowest, among equals that with more
// errors; a picture without any error is none of the worst.
[[nodiscard]] Choice choose_pictures(const Dataset& dataset, const Detections& detections,
                                     const ConfusionOptions& options, size_t count);

// A figure of HTML: the picture, shrunk and embedded, boxes drawn over it with numbers, and what they are in a list.
// std::runtime_error names a picture that cannot be read.
[[nodiscard]] std::string picture_figure(const Dataset& dataset, size_t image, const std::vector<Detection>& detections,
                                         const ConfusionOptions& options, bool apply_exif, const std::string& id);
// What the lines of the boxes mean.
[[nodiscard]] std::string picture_legend();

}  // namespace gradlibra
