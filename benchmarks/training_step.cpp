// SPDX-License-Identifier: MIT
#include "benchmarks/training_step.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <vector>

#include "benchmarks/measure.h"
#include "engine/batches.h"
#include "engine/builder.h"
#include "engine/train_step.h"
#include "runtime/base/random.h"
#include "runtime/device/profiling.h"
#include "runtime/training/optimizer.h"
#include "runtime/training/schedule.h"

namespace gradlibra {

namespace {

void require_options(const StepBenchmarkOptions& o) {
  if (o.batch < 1 || o.steps < 1 || o.warmup < 0)
    throw std::invalid_argument(
        fmt::format("--batch {} and --steps {} are at least 1, --warmup {} at least 0", o.batch, o.steps, o.warmup));
  if (o.height < 32 || o.width < 32 || o.height % 32 != 0 || o.width % 32 != 0)
    throw std::invalid_argument(
        fmt::format("--height {} --width {}: both are positive multiples of 32", o.height, o.width));
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
  double multiply_adds = 0;
  for (const Detector::PartCost& part : detector.costs(height, width)) {
    if (part.sampling) continue;
    const int passes = !part.trainable ? 1 : part.reads_image ? 2 : 3;
    multiply_adds += passes * static_cast<double>(part.multiply_adds);
  }
  return 2 * multiply_adds * static_cast<double>(N);
}

ClassInfo long_tailed_classes(int count) {
  ClassInfo classes = unknown_classes(count);
  int64_t instances = 20000;
  for (int c = 0; c < count; ++c) {
    classes.instances.push_back(instances);
    instances = std::max<int64_t>(30, instances / 2);
  }
  return classes;
}

nlohmann::ordered_json benchmark_step(Context& context, const ExperimentConfig& config, int classes,
                                      const StepBenchmarkOptions& options, const Dataset* dataset) {
  require_options(options);
  const Training training =
      build_training(context, config, dataset != nullptr ? class_info(*dataset) : long_tailed_classes(classes));
  Detector& detector = *training.detector;
  SingleProcess alone;
  TrainStep train_step(detector, *training.optimizer, alone, {.graph = config.runtime.cuda_graph});
  std::unique_ptr<Loader> loader;
  Batch batch;
  if (dataset != nullptr) {
    LoaderConfig sizes = config.loader;
    sizes.batch_size = static_cast<int>(options.batch);
    sizes.height = static_cast<int>(options.height);
    sizes.width = static_cast<int>(options.width);
    loader = std::make_unique<Loader>(*dataset, sizes, config.data, LoaderMode::train, LoaderState{.seed = 1});
  } else {
    train_step.stage(synthetic_batch(options.batch, options.height, options.width, config.loader.max_boxes, classes));
  }
  const double base_lr = scaled_lr(config.schedule, options.batch);

  // A step's time is that from the end of the one before it to its own end: on a GPU they overlap with the launches.
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds;
  double loss = 0;
  int finished = 0;
  Clock::time_point last;
  double waited_before = 0;
  const auto finish = [&] {
    loss = train_step.wait().total;
    const Clock::time_point now = Clock::now();
    if (!std::isfinite(loss))
      throw std::runtime_error(fmt::format("the loss is {} at step {}; lower schedule.lr", loss, finished));
    if (finished > options.warmup) seconds.push_back(std::chrono::duration<double>(now - last).count());
    last = now;
    ++finished;
  };
  // One step more than measured: the first one only says when the second began.
  const int steps = options.warmup + 1 + options.steps;
  for (int step = 0; step < steps; ++step) {
    if (step == options.warmup) profiler_start(context);  // a profiler sees the measured steps only
    if (loader) {
      if (step == options.warmup + 1) waited_before = loader->seconds_waited();
      profiled("data", [&] { loader->next(batch); });
      profiled("upload", [&] { train_step.stage(batch); });
    }
    const Range range("step");
    train_step.enqueue(learning_rate(config.schedule, base_lr, 0, step));
    while (step + 1 - finished > static_cast<int>(train_step.lag())) finish();
  }
  while (finished < steps) finish();
  profiler_stop(context);
  double sum = 0;
  for (const double s : seconds) sum += s;
  const double mean = sum / static_cast<double>(seconds.size());
  // Read before the device's rate is measured, which takes memory as well.
  const int64_t peak_bytes = context.memory().peak_bytes_in_use(), reserved_bytes = context.memory().bytes_reserved();
  const Convolution::Fusion fusion = context.convolution().fusion();
  nlohmann::ordered_json timed_products = nlohmann::ordered_json::array();
  for (const Convolution::TimedProduct& t : context.convolution().timed_products())
    timed_products.push_back({{"problem", t.problem}, {"cublaslt_ms", t.cublaslt}, {"cudnn_ms", t.cudnn}});
  double matrix_flops_per_s = options.matrix_flops_per_s;
  if (matrix_flops_per_s <= 0)
    matrix_flops_per_s =
        measure_rates(context, *make_timer(context), context.map_dtype(), options.seconds).matrix_flops_per_s;
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
          {"precision", config.runtime.precision},
          {"graph", train_step.uses_graph()},
          {"parallel_levels", context.has_branches()},
          {"compile", false},
          {"ms_median", quantile(seconds, 0.5) * 1e3},
          {"ms_min", quantile(seconds, 0) * 1e3},
          {"ms_p90", quantile(seconds, 0.9) * 1e3},
          {"images_per_s", static_cast<double>(options.batch) / mean},
          {"peak_memory_mb", static_cast<double>(peak_bytes) / 1048576.0},
          {"reserved_memory_mb", static_cast<double>(reserved_bytes) / 1048576.0},
          {"steps", options.steps},
          {"loss", loss},
          {"data", loader ? "real" : "synthetic"},
          {"data_wait_percent", loader ? 100 * (loader->seconds_waited() - waited_before) / sum : 0.0},
          {"tflops", flops_per_s * 1e-12},
          {"percent_of_matrix_rate", 100 * flops_per_s / matrix_flops_per_s},
          {"matrix_tflops", matrix_flops_per_s * 1e-12},
          {"fused_convolutions", fusion.fused},
          {"unfused_convolutions", fusion.apart},
          {"timed_products", timed_products}};
}

}  // namespace gradlibra
