// SPDX-License-Identifier: MIT
#include "engine/class_diagnostics.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "models/losses/classification_loss.h"

namespace gradlibra {

namespace {

std::vector<double> ratios(std::span<const double> totals, size_t classes) {
  std::vector<double> result(classes);
  for (size_t c = 0; c < classes; ++c) result[c] = totals[c] / (totals[classes + c] + 1e-10);
  return result;
}

// What part of the sums from `whole` on the sums from `part` on are; 0 of nothing.
std::vector<double> shares(std::span<const double> totals, size_t part, size_t whole, size_t classes) {
  std::vector<double> result(classes, 0);
  for (size_t c = 0; c < classes; ++c)
    if (totals[whole + c] > 0) result[c] = totals[part + c] / totals[whole + c];
  return result;
}

// The root of the sum of squares over the anchors of a class.
std::vector<double> norms(std::span<const double> squares, const ClassificationLoss& loss, size_t classes) {
  const std::vector<int32_t> places = loss.class_logits().channels;
  const auto channels = static_cast<size_t>(loss.channels());
  std::vector<double> result(classes, 0);
  for (size_t c = 0; c < classes; ++c) {
    const size_t place = places.empty() ? c : static_cast<size_t>(places[c]);
    for (size_t first = 0; first + channels <= squares.size(); first += channels) result[c] += squares[first + place];
    result[c] = std::sqrt(result[c]);
  }
  return result;
}

}  // namespace

std::optional<ClassDiagnostics> class_diagnostics(const TrainStep::Result& result, const Classifier& classifier,
                                                  int classes) {
  if (result.class_gradients.empty()) return std::nullopt;
  const auto C = static_cast<size_t>(classes);
  const std::span<const double> totals(result.class_gradients);
  return ClassDiagnostics{.loss_ratio = ratios(totals.subspan(2 * C), C),
                          .ce_ratio = ratios(totals, C),
                          .hard_positive = shares(totals, 4 * C + 1, 2 * C, C),
                          .hard_negative = shares(totals, 5 * C + 1, 3 * C, C),
                          .weight_norm = norms(result.classifier_squares, *classifier.loss, C)};
}

void add_to_log(const ClassDiagnostics& diagnostics, const std::vector<std::string>& classes,
                nlohmann::ordered_json& line) {
  const auto by_class = [&](const std::vector<double>& values, double divisor = 1) {
    nlohmann::ordered_json result = nlohmann::ordered_json::object();
    for (size_t c = 0; c < classes.size(); ++c) result[classes[c]] = values[c] / divisor;
    return result;
  };
  const std::vector<double>& norm = diagnostics.weight_norm;
  const double largest = *std::max_element(norm.begin(), norm.end());
  line["gradient_ratio"] = by_class(diagnostics.loss_ratio);
  line["gradient_ratio_ce"] = by_class(diagnostics.ce_ratio);
  line["gradient_hard_positive"] = by_class(diagnostics.hard_positive);
  line["gradient_hard_negative"] = by_class(diagnostics.hard_negative);
  line["weight_norm"] = by_class(norm, largest > 0 ? largest : 1);
  line["weight_norm_raw"] = by_class(norm);
}

}  // namespace gradlibra
