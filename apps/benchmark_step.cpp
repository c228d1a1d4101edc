// SPDX-License-Identifier: MIT
#include "apps/benchmark_step.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "apps/batches.h"
#include "apps/measure.h"
#include "runtime/optimizer.h"
#include "runtime/profiling.h"
#include "runtime/random.h"
#include "runtime/schedule.h"

namespace gradlibra {

namespace {

void require_options(const StepBenchmarkOptions& o) {
  // The one place that knows which precisions a step can be run in.
  if (o.precision != "fp32")
    throw std::invalid_argument(fmt::format("--precision {}: this version trains in fp32 only", o.precision));
  if (o.batch < 1 || o.steps < 1 || o.warmup < 0)
    throw std::invalid_argument(
        fmt::format("--batch {} and --steps {} are at least 1, --warmup {} at least 0", o.batch, o.steps, o.warmup));
  if (o.height < 32 || o.width < 32 || o.height % 32 != 0 || o.width % 32 != 0)
    throw std::invalid_argument(
        fmt::format("--height {} --width {}: both are positive multiples of 32", o.height, o.width));
}

// A training step as apps/trainer.cpp takes it, from the batch on the device to the update. Gives the total loss.
double train_step(Detector& detector, Optimizer& optimizer, const DeviceBatch& batch, double lr) {
  const Range range("step");
  Context& context = detector.context();
  SingleProcess alone;
  Tape tape(context);
  const std::vector<LossTerm> terms = detector.loss(tape, detector.normalize(tape, batch.images), batch.truth, alone);
  double total = 0;
  for (const LossTerm& term : terms) total += context.download<double>(term.value)[0];
  in_range("backward", [&] {
    tape.backward();
    detector.parameters().finish_backward();
  });
  in_range("update", [&] { optimizer.step(lr, alone); });
  return total;
}

}  // namespace

Batch synthetic_batch(int64_t N, int64_t height, int64_t width, int64_t max_boxes, int classes) {
  RandomStream random(1);
  Batch batch{.N = N, .H = height, .W = width, .max_boxes = max_boxes};
  batch.images.resize(static_cast<size_t>(N * height * width * 3));
  for (uint8_t& v : batch.images) v = static_cast<uint8_t>(random.bits());
  batch.orientations.assign(static_cast<size_t>(N), 0);
  batch.gt_boxes.assign(static_cast<size_t>(N * max_boxes * 4), 0);
  batch.gt_labels.assign(static_cast<size_t>(N * max_boxes), -1);
  const auto H = static_cast<double>(height), W = static_cast<double>(width);
  for (int64_t n = 0; n < N; ++n) {
    batch.sizes.insert(batch.sizes.end(), {static_cast<int32_t>(height), static_cast<int32_t>(width)});
    const int64_t count = std::min(max_boxes, 8 + random.uniform_int(33));
    batch.gt_counts.push_back(static_cast<int32_t>(count));
    for (int64_t k = 0; k < count; ++k) {
      const double w = std::min(W, random.uniform(16, 128)), h = std::min(H, random.uniform(16, 128));
      const double x = random.uniform(0, W - w), y = random.uniform(0, H - h);
      const auto row = static_cast<size_t>(n * max_boxes + k);
      const double box[4] = {x, y, x + w, y + h};
      for (size_t i = 0; i < 4; ++i) batch.gt_boxes[row * 4 + i] = static_cast<float>(box[i]);
      batch.gt_labels[row] = static_cast<int32_t>(random.uniform_int(classes));
    }
  }
  return batch;
}

double training_flops(const Detector& detector, int64_t N, int64_t height, int64_t width) {
  const auto trains = [&](const std::string& part) {
    // The stem is the one part that is no prefix of its parameters' names.
    const std::string prefix = part == "backbone.stem" ? "backbone.conv1" : part;
    for (const Parameter& p : detector.parameters().all())
      if (p.trainable && p.name.starts_with(prefix + ".")) return true;
    return false;
  };
  double multiply_adds = 0;
  for (const Detector::PartCost& part : detector.costs(height, width)) {
    if (part.part.find('#') != std::string::npos) continue;
    const int passes = !trains(part.part) ? 1 : part.part == "backbone.stem" ? 2 : 3;
    multiply_adds += passes * static_cast<double>(part.multiply_adds);
  }
  return 2 * multiply_adds * static_cast<double>(N);
}

nlohmann::ordered_json benchmark_step(Context& context, const ExperimentConfig& config, int classes,
                                      const StepBenchmarkOptions& options) {
  require_options(options);
  const std::unique_ptr<Timer> timer = make_timer(context);
  Detector detector(context, config.model, classes);
  detector.parameters().initialize(static_cast<uint64_t>(config.train.seed));
  Optimizer optimizer(detector.parameters(), config.optimizer);
  DeviceBatch batch;
  upload(context, synthetic_batch(options.batch, options.height, options.width, config.loader.max_boxes, classes),
         batch);
  const double base_lr = scaled_lr(config.schedule, options.batch);

  std::vector<double> seconds;
  double loss = 0;
  for (int step = 0; step < options.warmup + options.steps; ++step) {
    const double lr = learning_rate(config.schedule, base_lr, 0, step);
    if (step == options.warmup) profiler_start(context);  // a profiler sees the measured steps only
    timer->start();
    loss = train_step(detector, optimizer, batch, lr);
    const double elapsed = timer->stop();
    if (!std::isfinite(loss))
      throw std::runtime_error(fmt::format("the loss is {} at step {}; lower schedule.lr", loss, step));
    if (step >= options.warmup) seconds.push_back(elapsed);
  }
  profiler_stop(context);
  double sum = 0;
  for (const double s : seconds) sum += s;
  const double mean = sum / static_cast<double>(seconds.size());
  // Read before the device's rate is measured, which takes memory as well.
  const int64_t peak_bytes = context.memory().peak_bytes_in_use();
  const DeviceRates rates = measure_rates(context, *timer, options.seconds);
  const double flops_per_s =
      training_flops(detector, options.batch, options.height, options.width) / quantile(seconds, 0.5);
  return {{"what", "step"},
          {"implementation", "gradlibra"},
          {"version", GRADLIBRA_VERSION},
          {"device", context.device_name()},
          {"threads", host_threads(context)},
          {"model", fmt::format("{}_r{}", config.model.detector, config.model.backbone.depth)},
          {"batch", options.batch},
          {"height", options.height},
          {"width", options.width},
          {"precision", options.precision},
          {"graph", false},  // options.graph has no effect until a step can be captured
          {"compile", false},
          {"ms_median", quantile(seconds, 0.5) * 1e3},
          {"ms_min", quantile(seconds, 0) * 1e3},
          {"ms_p90", quantile(seconds, 0.9) * 1e3},
          {"images_per_s", static_cast<double>(options.batch) / mean},
          {"peak_memory_mb", static_cast<double>(peak_bytes) / 1048576.0},
          {"steps", options.steps},
          {"loss", loss},
          {"tflops", flops_per_s * 1e-12},
          {"percent_of_matrix_rate", 100 * flops_per_s / rates.matrix_flops_per_s}};
}

}  // namespace gradlibra
