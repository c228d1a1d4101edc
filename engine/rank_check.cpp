// SPDX-License-Identifier: MIT
#include "engine/rank_check.h"

#include <fmt/format.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "runtime/base/random.h"
#include "runtime/distributed/launch.h"

namespace gradlibra {

namespace {

// Four sums side by side: each waits for its own last product alone, which makes it as fast as memory.
class BitHash {
 public:
  void add(const void* data, size_t bytes) {
    const auto* at = static_cast<const unsigned char*>(data);
    for (; bytes >= sizeof parts_; bytes -= sizeof parts_, at += sizeof parts_)
      for (size_t i = 0; i < 4; ++i) add_word(i, at + i * sizeof(uint64_t), sizeof(uint64_t));
    for (size_t i = 0; bytes > 0; ++i) {
      const size_t count = std::min(bytes, sizeof(uint64_t));
      add_word(i, at, count);
      at += count, bytes -= count;
    }
  }
  [[nodiscard]] std::string text() const {
    uint64_t all = 0;
    for (const uint64_t part : parts_) all = mix_bits(all + part);
    return fmt::format("{:016x}", all);
  }

 private:
  void add_word(size_t i, const unsigned char* from, size_t bytes) {
    uint64_t word = 0;
    std::memcpy(&word, from, bytes);
    parts_[i] = (parts_[i] ^ word) * 0x9e3779b97f4a7c15ULL;
    parts_[i] ^= parts_[i] >> 29;
  }
  uint64_t parts_[4] = {1, 2, 3, 4};
};

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
  BitHash hash;
  Context& context = detector.context();
  for (const Parameter& p : detector.parameters().all()) {
    if (is_running_statistic(p)) continue;
    const std::vector<float> values = context.download<float>(p.node.value);
    hash.add(values.data(), values.size() * sizeof(float));
  }
  for (const TrainingState& part : detector.state()) {
    const std::vector<double> values = context.download<double>(*part.values);
    hash.add(values.data(), values.size() * sizeof(double));
  }
  return hash.text();
}

void share_running_statistics(Detector& detector, Communicator& communicator) {
  if (communicator.world_size() == 1) return;
  for (Parameter& p : detector.parameters().all())
    if (is_running_statistic(p)) communicator.broadcast(p.node.value.view(), /*root=*/0);
}

}  // namespace gradlibra
