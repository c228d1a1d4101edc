// SPDX-License-Identifier: MIT
#include "data/metrics/bootstrap.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>

#include "data/metrics/metrics_checks.h"
#include "runtime/base/random.h"

namespace gradlibra {
namespace {

// What a class needs to be evaluated on any multiset of the images: matching happens within an image and is done once.
struct MatchedClass {
  std::vector<VocMatch> matches;
  std::vector<int64_t> truths;  // of each image
};

// Average precision where image i occurs times[i] times; empty without truths. Copies of a detection follow one another
// in the ranking, and no step of the curve within a block of copies is above the block's last.
std::optional<double> average_precision(const MatchedClass& one, const std::vector<int64_t>& times) {
  int64_t truths = 0, right = 0, all = 0;
  for (size_t image = 0; image < times.size(); ++image) truths += times[image] * one.truths[image];
  if (truths == 0) return {};
  for (const VocMatch& match : one.matches) {
    all += times[match.image];
    if (match.right) right += times[match.image];
  }
  double sum = 0, envelope = 0;
  for (size_t i = one.matches.size(); i-- > 0;) {
    const int64_t copies = times[one.matches[i].image];
    if (copies == 0) continue;
    envelope = std::max(envelope, static_cast<double>(right) / static_cast<double>(all));
    if (one.matches[i].right) {
      sum += envelope * static_cast<double>(copies);
      right -= copies;
    }
    all -= copies;
  }
  return sum / static_cast<double>(truths);
}

std::optional<double> mean_of(const std::vector<std::optional<double>>& values, const std::vector<size_t>& members) {
  double sum = 0;
  int count = 0;
  for (const size_t member : members)
    if (values[member]) {
      sum += *values[member];
      ++count;
    }
  return count > 0 ? std::optional(sum / count) : std::nullopt;
}

std::optional<Spread> spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  // Between order statistics, linearly.
  const auto quantile = [&](double q) {
    const double at = q * (n - 1), floor = std::floor(at);
    const auto below = static_cast<size_t>(floor), above = std::min(below + 1, values.size() - 1);
    return values[below] + (at - floor) * (values[above] - values[below]);
  };
  return Spread{values.size() > 1 ? std::sqrt(squares / (n - 1)) : 0, quantile(0.025), quantile(0.975)};
}

nlohmann::ordered_json json_of(const std::optional<Spread>& spread) {
  if (!spread) return {};
  return {{"deviation", spread->deviation}, {"low", spread->low}, {"high", spread->high}};
}

}  // namespace

BootstrapResult bootstrap_metrics(const Dataset& dataset, const Detections& detections, const VocOptions& options,
                                  int samples, uint64_t seed) {
  check_metrics_input(dataset, detections);
  if (samples < 2) throw std::invalid_argument("bootstrap: " + std::to_string(samples) + " samples, at least 2");
  const size_t images = dataset.images.size(), count = dataset.classes.size();
  std::vector<MatchedClass> classes(count);
  for (size_t label = 0; label < count; ++label) {
    MatchedClass& one = classes[label];
    one.truths.resize(images);
    for (size_t image = 0; image < images; ++image)
      for (const Object& object : dataset.images[image].objects)
        one.truths[image] += object.label == static_cast<int>(label) && is_target(object);
    one.matches = match_class(static_cast<int>(label), dataset, detections, options);
  }
  std::vector<size_t> all(count);
  std::iota(all.begin(), all.end(), size_t{0});
  std::map<std::string, std::vector<size_t>> groups;
  for (const auto& [group, names] : dataset.groups)
    for (size_t label = 0; label < count; ++label)
      if (std::find(names.begin(), names.end(), dataset.classes[label]) != names.end()) groups[group].push_back(label);

  std::vector<double> maps;
  std::vector<std::vector<double>> aps(count);
  std::map<std::string, std::vector<double>> group_aps;
  std::vector<int64_t> times(images);
  for (int sample = 0; sample < samples; ++sample) {
    RandomStream random(seed, {static_cast<uint64_t>(sample)});
    std::fill(times.begin(), times.end(), 0);
    for (size_t i = 0; i < images; ++i) ++times[static_cast<size_t>(random.uniform_int(static_cast<int64_t>(images)))];
    std::vector<std::optional<double>> ap(count);
    for (size_t label = 0; label < count; ++label) {
      ap[label] = average_precision(classes[label], times);
      if (ap[label]) aps[label].push_back(*ap[label]);
    }
    if (const auto map = mean_of(ap, all)) maps.push_back(*map);
    for (const auto& [group, members] : groups)
      if (const auto value = mean_of(ap, members)) group_aps[group].push_back(*value);
  }

  BootstrapResult result{.samples = samples, .map = spread_of(maps), .classes = {}, .group_ap = {}};
  for (const std::vector<double>& values : aps) result.classes.push_back(spread_of(values));
  for (const auto& [group, members] : groups) result.group_ap[group] = spread_of(group_aps[group]);
  return result;
}

std::string bootstrap_text(const BootstrapResult& result) {
  if (!result.map) return "";
  return fmt::format(
      "mAP@0.5 over {} samples of these images: standard deviation {:.3f}, 95 % between {:.3f} and {:.3f}\n",
      result.samples, result.map->deviation, result.map->low, result.map->high);
}

std::string bootstrap_json(const BootstrapResult& result, const std::vector<std::string>& classes) {
  nlohmann::ordered_json json{{"samples", result.samples}, {"mAP", json_of(result.map)}};
  for (const auto& [group, spread] : result.group_ap) json["groups"][group] = json_of(spread);
  for (size_t c = 0; c < classes.size(); ++c) json["classes"][classes[c]] = json_of(result.classes[c]);
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace gradlibra
