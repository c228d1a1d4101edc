// SPDX-License-Identifier: MIT
#include "engine/rank_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>

#include "runtime/base/files.h"
#include "runtime/base/xxh64.h"
#include "runtime/distributed/launch.h"

namespace gradlibra {

namespace {

std::set<std::string> lines_of(const std::string& text) {
  std::set<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.insert(line);
  return lines;
}

// "lr: 0.01 there, lr: 0.02 here", or the values themselves where they are one line.
std::string difference(const std::string& first, const std::string& other) {
  constexpr size_t kShown = 6;
  if (first.find('\n') == std::string::npos) return fmt::format("{} and {}", first, other);
  std::string text;
  size_t shown = 0;
  const std::set<std::string> here = lines_of(first), there = lines_of(other);
  const auto show = [&](const std::set<std::string>& lines, const std::set<std::string>& without) {
    for (const std::string& line : lines)
      if (!without.contains(line) && ++shown <= kShown) text += fmt::format("{}'{}'", text.empty() ? "" : ", ", line);
  };
  show(here, there);
  show(there, here);
  return text + (shown > kShown ? ", .." : "");
}

}  // namespace

void require_same_marks(Communicator& communicator, const RankMarks& own, const std::string& when) {
  if (communicator.world_size() == 1) return;
  using nlohmann::json;
  const json mark = {{"host", host_name()}, {"marks", own}};
  const std::vector<std::string> texts = communicator.gather(mark.dump(-1, ' ', false, json::error_handler_t::replace));
  const json first = json::parse(texts[0]);
  const auto first_marks = first["marks"].get<RankMarks>();
  for (size_t r = 1; r < texts.size(); ++r) {
    const json other = json::parse(texts[r]);
    const auto marks = other["marks"].get<RankMarks>();
    for (size_t i = 0; i < first_marks.size() && i < marks.size(); ++i)
      if (marks[i] != first_marks[i])
        throw RanksDiffer(fmt::format("rank 0 on {} and rank {} on {} differ {} in the {}: {}",
                                      first["host"].get<std::string>(), r, other["host"].get<std::string>(), when,
                                      marks[i].first, difference(first_marks[i].second, marks[i].second)));
  }
}

namespace {

bool is_running_statistic(const Parameter& p) {
  return p.role == Role::running_mean || p.role == Role::running_variance;
}

}  // namespace

std::string hash_of_weights(Detector& detector) {
  uint64_t hash = 0;
  const auto add = [&](const auto& values) { hash = xxh64(std::as_bytes(std::span(values)), hash); };
  Context& context = detector.context();
  for (const Parameter& p : detector.parameters().all())
    if (!is_running_statistic(p)) add(context.download<float>(p.node.value));
  for (const TrainingState& part : detector.state()) add(context.download<double>(*part.values));
  return fmt::format("{:016x}", hash);
}

std::string hash_of_images(const Dataset& dataset) {
  constexpr size_t kLooked = 16;
  constexpr int64_t kMostBytes = int64_t{1} << 30;
  const size_t images = dataset.images.size(), looked = std::min(images, kLooked);
  uint64_t hash = 0;
  for (size_t i = 0; i < looked; ++i) {
    const ImageRecord& image = dataset.images[i * images / looked];
    std::string bytes;
    try {
      bytes = read_file(image.path, kMostBytes);
    } catch (const std::runtime_error&) {
      bytes = "cannot be read: " + image.id;  // whoever needs it will say why
    }
    hash = xxh64(std::as_bytes(std::span(bytes)), hash);
  }
  return fmt::format("{:016x}", hash);
}

void share_running_statistics(Detector& detector, Communicator& communicator) {
  if (communicator.world_size() == 1) return;
  for (Parameter& p : detector.parameters().all())
    if (is_running_statistic(p)) communicator.broadcast(p.node.value.view(), /*root=*/0);
}

}  // namespace gradlibra
