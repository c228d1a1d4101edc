// SPDX-License-Identifier: MIT
#include "data/loading/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <stdexcept>

#include "data/loading/augment.h"
#include "runtime/base/random.h"

namespace gradlibra {
namespace {

constexpr uint64_t kRepeatStream = hash_name("repeat_factor", 13), kClassStream = hash_name("class_order", 11);

// The classes an image trains on.
std::set<int> classes_of(const ImageRecord& image) {
  std::set<int> classes;
  for (const Object& object : image.objects)
    if (is_target(object)) classes.insert(object.label);
  return classes;
}

}  // namespace

void SamplingConfig::describe(ConfigVisitor& v) {
  v.choice("by", by, {"image", "repeat_factor", "class"},
           "image: every image once an epoch; repeat_factor: images with rare classes more often; class: classes in "
           "turn, each with one of its images");
  v.field("threshold", threshold,
          "repeat_factor: a class on a smaller share f of the images is shown sqrt(threshold / f) times as often",
          between(0, 1));
}

std::vector<double> repeat_factors(const Dataset& dataset, double threshold) {
  std::vector<int64_t> holding(dataset.classes.size(), 0);
  for (const ImageRecord& image : dataset.images)
    for (const int c : classes_of(image)) ++holding[static_cast<size_t>(c)];
  std::vector<double> factors;
  for (const ImageRecord& image : dataset.images) {
    double factor = 1;
    for (const int c : classes_of(image)) {
      const double share =
          static_cast<double>(holding[static_cast<size_t>(c)]) / static_cast<double>(dataset.images.size());
      factor = std::max(factor, std::sqrt(threshold / share));
    }
    factors.push_back(factor);
  }
  return factors;
}

Sampler::Sampler(const Dataset& dataset, const SamplingConfig& config, uint64_t seed)
    : config_(config), seed_(seed), images_(static_cast<int64_t>(dataset.images.size())), length_(images_) {
  if (config.by == "repeat_factor") {
    if (!(config.threshold > 0 && config.threshold <= 1))
      throw std::invalid_argument(
          fmt::format("loader.sampling.threshold is {}, must be above 0 and at most 1", config.threshold));
    factors_ = repeat_factors(dataset, config.threshold);
    double sum = 0;
    for (const double factor : factors_) sum += factor;
    length_ = std::llround(sum);
    for (double& factor : factors_) factor *= static_cast<double>(length_) / sum;
  } else if (config.by == "class") {
    std::vector<std::vector<int64_t>> all(dataset.classes.size());
    for (int64_t i = 0; i < images_; ++i)
      for (const int c : classes_of(dataset.images[static_cast<size_t>(i)])) all[static_cast<size_t>(c)].push_back(i);
    for (std::vector<int64_t>& members : all)
      if (!members.empty()) of_class_.push_back(std::move(members));
    if (of_class_.empty() && images_ > 0)
      throw std::invalid_argument("loader.sampling.by is 'class', but no image holds an object");
  } else if (config.by != "image") {
    throw std::invalid_argument(
        fmt::format("loader.sampling.by is '{}', must be image, repeat_factor or class", config.by));
  }
}

std::vector<int64_t> Sampler::order(int64_t epoch) const {
  if (config_.by == "image") return epoch_order(images_, seed_, epoch);
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(length_));
  if (config_.by == "repeat_factor") {
    RandomStream random(seed_, {kRepeatStream, static_cast<uint64_t>(epoch)});
    // Image i is shown once for each whole number in [sum before it + u, sum behind it + u).
    const double offset = random.uniform();
    double sum = 0;
    for (int64_t i = 0; i < images_; ++i) {
      sum += factors_[static_cast<size_t>(i)];
      const int64_t until =
          i + 1 == images_ ? length_ : std::min(length_, static_cast<int64_t>(std::floor(sum + offset)));
      while (static_cast<int64_t>(order.size()) < until) order.push_back(i);
    }
    random.shuffle(std::span(order));
    return order;
  }
  // Turn k shows class k mod C; each class goes through its images, shuffled anew every time round.
  const auto classes = static_cast<int64_t>(of_class_.size());
  std::vector<std::vector<int64_t>> members = of_class_;
  std::vector<size_t> at(members.size(), 0);
  RandomStream random(seed_, {kClassStream, static_cast<uint64_t>(epoch)});
  for (std::vector<int64_t>& one : members) random.shuffle(std::span(one));
  std::vector<int64_t> turn(members.size());
  for (int64_t k = 0; k < length_; ++k) {
    if (k % classes == 0) {
      for (int64_t c = 0; c < classes; ++c) turn[static_cast<size_t>(c)] = c;
      random.shuffle(std::span(turn));
    }
    const auto c = static_cast<size_t>(turn[static_cast<size_t>(k % classes)]);
    if (at[c] == members[c].size()) {
      random.shuffle(std::span(members[c]));
      at[c] = 0;
    }
    order.push_back(members[c][at[c]++]);
  }
  return order;
}

}  // namespace gradlibra
