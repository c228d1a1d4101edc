// SPDX-License-Identifier: MIT
#include "engine/read_split.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>

namespace gradlibra {

Split split_named(const std::string& name) {
  for (const Split split : {Split::train, Split::val, Split::test})
    if (name == to_string(split)) return split;
  throw std::invalid_argument("no split is called '" + name + "': train, val or test");
}

namespace {

// A line every few seconds: decoding every image of a large set takes minutes.
class Progress {
 public:
  Progress(std::string what, const Say& say) : what_(std::move(what)), say_(say) {}
  void operator()(int64_t done, int64_t total) {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (now < next_ || done == total) return;
    next_ = now + std::chrono::seconds(10);
    say_(fmt::format("data: checking {}: {} of {} images", what_, done, total));
  }

 private:
  using Clock = std::chrono::steady_clock;
  const std::string what_;
  const Say& say_;
  std::mutex mutex_;
  Clock::time_point next_ = Clock::now() + std::chrono::seconds(5);
};

// "4 tiny_box, 1 no_objects".
std::string by_kind(const std::vector<Finding>& findings) {
  std::map<std::string, int64_t> counts;
  for (const Finding& finding : findings) ++counts[to_string(finding.kind)];
  std::string text;
  for (const auto& [kind, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, kind);
  return text;
}

Dataset read(const ExperimentConfig& config, Split split, bool evaluation, std::vector<Finding>& findings,
             const Say& say) {
  Progress progress(fmt::format("the {} split", to_string(split)), say);
  const ReadOptions options{.decode = config.data.check_images == "full",
                            .evaluation = evaluation,
                            .limits = input_limits(config.loader),
                            .progress = [&](int64_t done, int64_t total) { progress(done, total); }};
  Dataset dataset = read_dataset(config.data, split, findings, options);
  say(fmt::format("data: {} split: {}", to_string(split), dataset.summary.text()));
  if (!findings.empty())
    say(fmt::format("data: {} finding{} ({}); `inspect data` lists them", findings.size(),
                    findings.size() == 1 ? "" : "s", by_kind(findings)));
  return dataset;
}

}  // namespace

Dataset read_training_split(const ExperimentConfig& config, const Say& say) {
  std::vector<Finding> findings;
  Dataset dataset = read(config, Split::train, /*evaluation=*/false, findings, say);
  if (const std::string problem = training_problem(config.data, dataset, findings); !problem.empty())
    throw std::runtime_error(config.data.root + ": " + problem);
  if (const auto missing = classes_without_boxes(config.data, dataset); !missing.empty())
    say(
        fmt::format("warning: no usable box of [{}] in the training split: nothing can be learned of {} "
                    "(data.missing_class=error stops here)",
                    fmt::join(missing, ", "), missing.size() == 1 ? "it" : "them"));
  return dataset;
}

Dataset read_evaluation_split(const ExperimentConfig& config, Split split, const Say& say) {
  std::vector<Finding> findings;
  Dataset dataset = read(config, split, /*evaluation=*/true, findings, say);
  if (dataset.images.empty())
    throw std::runtime_error(fmt::format("{}: the {} split has no images", config.data.root, to_string(split)));
  if (dataset.summary.targets() == 0)
    say(fmt::format("warning: the {} split has no truth: there will be no figures (\"-\", null)", to_string(split)));
  return dataset;
}

int64_t shared_images(const Dataset& a, const Dataset& b) {
  std::set<std::string> files;
  for (const ImageRecord& image : a.images) files.insert(image.path.lexically_normal().string());
  int64_t shared = 0;
  for (const ImageRecord& image : b.images) shared += files.contains(image.path.lexically_normal().string());
  return shared;
}

}  // namespace gradlibra
