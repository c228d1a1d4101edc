// SPDX-License-Identifier: MIT
#include "benchmarks/data_loading.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace gradlibra {

namespace {

using Clock = std::chrono::steady_clock;

// The next `batches` batches. `wait_share`: the part of the time in which next() had no batch to give.
nlohmann::ordered_json measure_batches(Loader& loader, Batch& batch, int64_t batches, Clock::time_point start) {
  const double waited = loader.seconds_waited();
  int64_t images = 0;
  for (int64_t b = 0; b < batches; ++b) {
    loader.next(batch);
    images += batch.N;
  }
  const double seconds = std::max(std::chrono::duration<double>(Clock::now() - start).count(), 1e-9);
  return {{"batches", batches},
          {"images", images},
          {"seconds", seconds},
          {"images_per_s", static_cast<double>(images) / seconds},
          {"wait_share", std::clamp((loader.seconds_waited() - waited) / seconds, 0.0, 1.0)}};
}

}  // namespace

nlohmann::ordered_json benchmark_data(const ExperimentConfig& config, const DataBenchmarkOptions& options) {
  if (options.batches < 1) throw std::invalid_argument(fmt::format("--batches {}: at least 1", options.batches));
  std::vector<Finding> findings;
  Dataset dataset = read_dataset(config.data, Split::train, findings);
  if (dataset.images.empty()) throw std::runtime_error(config.data.root + ": the training split has no images");
  const auto wanted = static_cast<size_t>(options.batches * config.loader.batch_size);
  if (dataset.images.size() > wanted) dataset.images.resize(wanted);

  nlohmann::ordered_json json{{"what", "data"},
                              {"implementation", "gradlibra"},
                              {"version", GRADLIBRA_VERSION},
                              {"batch", config.loader.batch_size},
                              {"height", config.loader.height},
                              {"width", config.loader.width},
                              {"cache_mb", config.loader.cache_mb},
                              {"rows", nlohmann::ordered_json::array()}};
  for (const int workers : options.workers.empty() ? std::vector<int>{config.loader.workers} : options.workers) {
    LoaderConfig loader_config = config.loader;
    loader_config.workers = workers;
    const auto add = [&](const char* cache, const nlohmann::ordered_json& numbers) {
      nlohmann::ordered_json row{{"cache", cache}, {"workers", workers}};
      row.update(numbers);
      json["rows"].push_back(std::move(row));
    };
    Batch batch;
    const auto start = Clock::now();  // workers begin to decode when the loader is made
    Loader loader(dataset, loader_config, config.data, LoaderMode::train,
                  {.seed = static_cast<uint64_t>(config.train.seed)});
    const int64_t epoch = loader.batches_per_epoch(), ahead = workers + 1;  // the loader's depth
    add("cold", measure_batches(loader, batch, epoch, start));
    (void)measure_batches(loader, batch, ahead, Clock::now());
    add("warm", measure_batches(loader, batch, std::max(epoch, 8 * ahead), Clock::now()));
  }
  return json;
}

std::string data_text(const nlohmann::ordered_json& result) {
  std::string text =
      fmt::format("{:<6} {:>8} {:>8} {:>12} {:>10}", "cache", "workers", "images", "images/s", "waiting");
  for (const auto& row : result["rows"])
    text += fmt::format("\n{:<6} {:>8} {:>8} {:>12.1f} {:>8.1f} %", row["cache"].get<std::string>(),
                        row["workers"].get<int>(), row["images"].get<int64_t>(), row["images_per_s"].get<double>(),
                        100 * row["wait_share"].get<double>());
  return text;
}

}  // namespace gradlibra
