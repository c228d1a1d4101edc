// SPDX-License-Identifier: MIT
#include "benchmarks/communication.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "benchmarks/measure.h"
#include "engine/builder.h"
#include "engine/ranks.h"
#include "engine/scaling.h"
#include "engine/train_step.h"
#include "runtime/training/gradient_buckets.h"
#include "runtime/training/schedule.h"

namespace gradlibra {

namespace {

using Clock = std::chrono::steady_clock;
constexpr double kMegabyte = 1 << 20;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The seconds of one call each, all ranks beginning together.
double seconds_of(Context& context, Communicator& communicator, int calls, const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i <= calls; ++i) {
    context.synchronize();
    communicator.barrier();
    const auto start = Clock::now();
    work();
    context.synchronize();
    if (i > 0) seconds.push_back(seconds_since(start));  // the first makes buffers and connections
  }
  return quantile(seconds, 0.5);
}

// Leaves gradients where they are, and notes when their sums would have begun.
class WithoutGradients final : public Communicator {
 public:
  explicit WithoutGradients(Communicator& inner) : inner_(inner) {}
  [[nodiscard]] int rank() const override { return inner_.rank(); }
  [[nodiscard]] int world_size() const override { return inner_.world_size(); }
  void sum(View<float> values) override { inner_.sum(values); }
  void sum(View<double> values) override { inner_.sum(values); }
  void begin_sum(View<float> values) override {
    begun_.emplace_back(static_cast<double>(values.size()) * sizeof(float), seconds_since(start_));
  }
  void join_sums() override { backward_end_ = seconds_since(start_); }
  void broadcast(View<float> values, int root) override { inner_.broadcast(values, root); }
  void barrier() override { inner_.barrier(); }
  [[nodiscard]] std::vector<std::string> gather(const std::string& own) override { return inner_.gather(own); }

  void start_step() {
    start_ = Clock::now();
    begun_.clear();
  }
  // Of the step since start_step(), on a host, which does at once what it is given.
  [[nodiscard]] std::vector<ReadyBucket> ready() const {
    std::vector<ReadyBucket> buckets;
    for (const auto& [bytes, seconds] : begun_) buckets.push_back({bytes, seconds / backward_end_});
    return buckets;
  }

 private:
  Communicator& inner_;
  Clock::time_point start_;
  std::vector<std::pair<double, double>> begun_;  // bytes, seconds of the step
  double backward_end_ = 1;
};

// Seconds of one of `steps` steps.
double seconds_of_step(TrainStep& train_step, int steps, double lr) {
  const auto start = Clock::now();
  int finished = 0;
  for (int i = 0; i < steps; ++i) {
    train_step.enqueue(lr);
    for (; i + 1 - finished > static_cast<int>(train_step.lag()); ++finished) (void)train_step.wait();
  }
  for (; finished < steps; ++finished) (void)train_step.wait();
  return seconds_since(start) / steps;
}

nlohmann::ordered_json measure_sums(Context& context, Communicator& communicator, const CommunicationOptions& options) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const double mb : options.megabytes) {
    const auto values = std::max<int64_t>(1, static_cast<int64_t>(mb * kMegabyte / sizeof(float)));
    Tensor ones = context.zeros({values});
    const int calls = std::clamp(static_cast<int>(100 / mb), 3, 100);
    const double seconds = seconds_of(context, communicator, calls, [&] { communicator.sum(ones.view()); });
    const double bytes = static_cast<double>(values) * sizeof(float);
    rows.push_back({{"mb", bytes / kMegabyte},
                    {"ms", 1e3 * seconds},
                    {"bus_gb_per_s", 1e-9 * bus_bandwidth(bytes, communicator.world_size(), seconds)}});
  }
  return rows;
}

nlohmann::ordered_json measure_step(Context& context, Communicator& communicator, const ExperimentConfig& config,
                                    int classes, const CommunicationOptions& options) {
  const Training training = build_training(context, config, long_tailed_classes(classes));
  WithoutGradients silent(communicator);
  const BucketConfig sizes{config.distributed.first_bucket_mb, config.distributed.bucket_mb};
  const TrainStep::Options how{
      .graph = config.runtime.cuda_graph, .buckets = sizes, .sync_norm = config.distributed.sync_norm};
  TrainStep with(*training.detector, *training.optimizer, communicator, how),
      without(*training.detector, *training.optimizer, silent, how);
  const StepBenchmarkOptions& o = options.step;
  const Batch batch = synthetic_batch(o.batch, o.height, o.width, config.loader.max_boxes, classes);
  const double lr = learning_rate(config.schedule, scaled_lr(config.schedule, o.batch), 0, 0);
  for (TrainStep* step : {&with, &without}) {
    step->stage(batch);
    (void)seconds_of_step(*step, o.warmup + 1, lr);
  }
  std::vector<double> with_seconds, without_seconds;
  for (int round = 0; round < options.rounds; ++round) {
    communicator.barrier();
    with_seconds.push_back(seconds_of_step(with, o.steps, lr));
    communicator.barrier();
    without_seconds.push_back(seconds_of_step(without, o.steps, lr));
  }
  std::string ready;
  if (context.on_host()) {
    silent.start_step();
    (void)seconds_of_step(without, 1, lr);
    ready = to_string(silent.ready());
  }

  ParameterStore& parameters = training.detector->parameters();
  const GradientBuckets& buckets = with.buckets();
  nlohmann::ordered_json of_buckets = nlohmann::ordered_json::array();
  for (const GradientBuckets::Bucket& bucket : buckets.buckets())
    of_buckets.push_back(static_cast<double>(bucket.gradients.end - bucket.gradients.begin) * sizeof(float) /
                         kMegabyte);
  const double alone = seconds_of(context, communicator, std::max(3, o.steps), [&] {
    for (const GradientBuckets::Bucket& bucket : buckets.buckets())
      communicator.begin_sum({parameters.flat_grads().view().data() + bucket.gradients.begin,
                              {bucket.gradients.end - bucket.gradients.begin}});
    communicator.join_sums();
  });
  const double step = quantile(with_seconds, 0.5), bare = quantile(without_seconds, 0.5);
  const double exposed = std::max(0.0, step - bare);
  return {{"batch", o.batch},
          {"height", o.height},
          {"width", o.width},
          {"ms", 1e3 * step},
          {"ms_without_gradients", 1e3 * bare},
          {"buckets_mb", of_buckets},
          {"ready", ready},
          {"ms_of_sums_alone", 1e3 * alone},
          {"exposed_ms", 1e3 * exposed},
          {"hidden_percent", 100 * std::clamp(1 - exposed / alone, 0.0, 1.0)},
          {"images_per_s", static_cast<double>(o.batch * communicator.world_size()) / step}};
}

}  // namespace

nlohmann::ordered_json benchmark_communication(Context& context, Communicator& communicator,
                                               const ExperimentConfig& config, int classes,
                                               const CommunicationOptions& options) {
  if (communicator.world_size() == 1)
    throw std::invalid_argument("comm needs several ranks, such as mpirun -np 2 benchmark comm ..");
  if (options.step.steps < 1 || options.step.warmup < 0 || options.rounds < 1)
    throw std::invalid_argument("--steps and --rounds are at least 1, --warmup at least 0");
  for (const double mb : options.megabytes)
    if (!(mb > 0 && mb <= 4096)) throw std::invalid_argument(fmt::format("--mb {} is not in (0, 4096]", mb));
  nlohmann::ordered_json result{{"what", "comm"},
                                {"version", GRADLIBRA_VERSION},
                                {"device", context.device_name()},
                                {"ranks", communicator.world_size()},
                                {"library", communicator.library()}};
  result["sums"] = measure_sums(context, communicator, options);
  result["step"] = measure_step(context, communicator, config, classes, options);
  return result;
}

std::string communication_text(const nlohmann::ordered_json& result) {
  std::string text = fmt::format("{:>10}  {:>10}  {:>10}\n", "MB", "ms", "GB/s a rank");
  for (const auto& row : result["sums"])
    text += fmt::format("{:10.4g}  {:10.4g}  {:10.3g}\n", row["mb"].get<double>(), row["ms"].get<double>(),
                        row["bus_gb_per_s"].get<double>());
  const auto& step = result["step"];
  const auto ms = [&](const char* key) { return step[key].get<double>(); };
  text += fmt::format(
      "a step of {} x {} images takes {:.4g} ms, {:.4g} ms without sums of gradients; {:.4g} images/s\n"
      "those are {} sums, {:.4g} ms one after another: {:.4g} ms of it exposed, {:.0f} % hidden",
      result["ranks"].get<int>(), step["batch"].get<int>(), ms("ms"), ms("ms_without_gradients"), ms("images_per_s"),
      step["buckets_mb"].size(), ms("ms_of_sums_alone"), ms("exposed_ms"), ms("hidden_percent"));
  if (const std::string ready = step["ready"]; !ready.empty())
    text += "\nready (MiB at % of forward and backward, for inspect scaling --replay): " + ready;
  return text;
}

}  // namespace gradlibra
