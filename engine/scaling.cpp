// SPDX-License-Identifier: MIT
#include "engine/scaling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>
#include <stdexcept>

namespace gradlibra {

double all_reduce_seconds(double bytes, int ranks, const Interconnect& links) {
  if (ranks == 1) return 0;
  const int inside = std::min(ranks, links.ranks_per_host);
  if (ranks < 1 || ranks % inside != 0)
    throw std::invalid_argument(fmt::format("{} ranks: not a multiple of the {} of a host", ranks, inside));
  const double g = inside, h = ranks / inside;
  // Reduce-scatter and all-gather: the two halves of the ring.
  double seconds = 2 * (g - 1) / g * bytes / links.host_bytes_per_s + 2 * (g - 1) * links.host_latency_s;
  if (h > 1)
    seconds += 2 * (h - 1) / h * (bytes / g) / links.network_bytes_per_s + 2 * std::log2(h) * links.network_latency_s;
  return seconds;
}

double StepModel::seconds() const {
  return std::accumulate(backward.begin(), backward.end(), forward_seconds + rest_seconds,
                         [](double sum, const BackwardPart& part) { return sum + part.seconds; });
}

double StepModel::gradient_bytes() const {
  return std::accumulate(backward.begin(), backward.end(), 0.0,
                         [](double sum, const BackwardPart& part) { return sum + part.gradient_bytes; });
}

StepModel step_model(const std::vector<Detector::PartCost>& parts, double step_seconds, double rest_share) {
  double forward = 0, backward = 0;
  const auto backward_of = [](const Detector::PartCost& part) {
    if (!part.trainable) return 0.0;
    return (part.reads_image ? 1 : 2) * static_cast<double>(part.multiply_adds);
  };
  for (const auto& part : parts) {
    forward += static_cast<double>(part.multiply_adds);
    backward += backward_of(part);
  }
  if (!(forward + backward > 0)) throw std::invalid_argument("scaling: a model without multiply-adds");
  StepModel result;
  result.rest_seconds = rest_share * step_seconds;
  const double seconds_per_add = (step_seconds - result.rest_seconds) / (forward + backward);
  result.forward_seconds = forward * seconds_per_add;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part)
    if (part->trainable)
      result.backward.push_back(
          {part->part, backward_of(*part) * seconds_per_add, static_cast<double>(part->parameters) * sizeof(float)});
  return result;
}

namespace {

struct TimedBucket {
  double bytes, ready;  // ready: seconds since backward began
};

std::vector<TimedBucket> model_buckets(const StepModel& step, const ScalingOptions& options) {
  std::vector<TimedBucket> buckets;
  double now = 0;
  double filled = 0;  // bytes in the open bucket
  const auto limit = [&] { return buckets.empty() ? options.first_bucket_bytes : options.bucket_bytes; };
  for (const BackwardPart& part : step.backward) {
    double left = part.gradient_bytes;
    while (left > 0 && filled + left >= limit()) {
      left -= limit() - filled;
      buckets.push_back({limit(), now + part.seconds * (1 - left / part.gradient_bytes)});
      filled = 0;
    }
    filled += left;
    now += part.seconds;
  }
  if (filled > 0) buckets.push_back({filled, now});
  return buckets;
}

std::vector<TimedBucket> measured_buckets(const StepModel& step, const std::vector<ReadyBucket>& replay) {
  std::vector<TimedBucket> buckets;
  buckets.reserve(replay.size());
  const double both = step.seconds() - step.rest_seconds;
  for (const ReadyBucket& bucket : replay)
    buckets.push_back({bucket.bytes, bucket.share * both - step.forward_seconds});
  return buckets;
}

}  // namespace

std::vector<ReadyBucket> parse_buckets(const std::string& text) {
  std::vector<ReadyBucket> buckets;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    std::istringstream numbers(word);
    double mb = 0, percent = 0;
    char at = 0;
    if (!(numbers >> mb >> at >> percent) || at != '@' || !(numbers >> std::ws).eof() || !(mb > 0 && mb < 1e9) ||
        !(percent >= 0 && percent <= 100))
      throw std::invalid_argument("'" + word + "' is not MB@PERCENT, such as 25.3@80");
    buckets.push_back({mb * (1 << 20), percent / 100});
  }
  return buckets;
}

std::string to_string(std::span<const ReadyBucket> buckets) {
  std::string text;
  for (const ReadyBucket& bucket : buckets)
    text += fmt::format("{}{:.5g}@{:.4g}", text.empty() ? "" : ",", bucket.bytes / (1 << 20), 100 * bucket.share);
  return text;
}

ScalingResult simulate_step(const StepModel& step, int ranks, const Interconnect& links,
                            const ScalingOptions& options) {
  ScalingResult result{.ranks = ranks};
  const double backward = step.seconds() - step.forward_seconds - step.rest_seconds;
  double stream_free = 0;  // when the reductions so far are done
  for (const TimedBucket& bucket :
       options.replay.empty() ? model_buckets(step, options) : measured_buckets(step, options.replay)) {
    const double seconds = all_reduce_seconds(bucket.bytes, ranks, links);
    stream_free = std::max(stream_free, bucket.ready) + seconds;
    result.all_reduce_seconds += seconds;
    ++result.buckets;
  }
  if (ranks == 1) stream_free = 0;
  result.exposed_seconds = std::max(0.0, stream_free - backward);
  // Some doubles: latency alone.
  result.small_seconds = options.small_reductions * all_reduce_seconds(64, ranks, links);
  result.straggler_seconds = options.jitter * std::sqrt(2 * std::log(static_cast<double>(ranks))) * step.seconds();
  result.step_seconds = step.seconds() + result.exposed_seconds + result.small_seconds + result.straggler_seconds;
  result.efficiency = step.seconds() / result.step_seconds;
  return result;
}

std::string scaling_table(const StepModel& step, std::span<const int> ranks, const Interconnect& links,
                          const ScalingOptions& options) {
  const auto ms = [](double seconds) { return 1e3 * seconds; };
  std::string text =
      fmt::format("one rank: {:.2f} ms, of it backward {:.2f}; gradients of {:.1f} MB\n", ms(step.seconds()),
                  ms(step.seconds() - step.forward_seconds - step.rest_seconds), step.gradient_bytes() * 1e-6);
  text += fmt::format("{:>6} {:>8} {:>14} {:>12} {:>12} {:>14} {:>10} {:>11}\n", "ranks", "buckets", "all-reduce, ms",
                      "exposed, ms", "small, ms", "stragglers, ms", "step, ms", "efficiency");
  for (const int n : ranks) {
    const ScalingResult r = simulate_step(step, n, links, options);
    text += fmt::format("{:>6} {:>8} {:>14.3f} {:>12.3f} {:>12.3f} {:>14.3f} {:>10.2f} {:>9.1f} %\n", n, r.buckets,
                        ms(r.all_reduce_seconds), ms(r.exposed_seconds), ms(r.small_seconds), ms(r.straggler_seconds),
                        ms(r.step_seconds), 100 * r.efficiency);
  }
  return text;
}

}  // namespace gradlibra
