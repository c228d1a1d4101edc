// SPDX-License-Identifier: MIT
#include "benchmarks/step_table.h"

#include <fmt/format.h>

#include <stdexcept>

namespace gradlibra {

std::vector<StepChoice> combinations(const StepChoices& choices, const RuntimeConfig& configured) {
  const auto each = [](const auto& values, const auto& otherwise, const auto& body) {
    if (values.empty()) return body(otherwise);
    for (const auto& value : values) body(value);
  };
  const auto switched = [](bool on) -> std::string { return on ? "on" : "off"; };
  std::vector<StepChoice> all;
  each(choices.precision, configured.precision, [&](const std::string& precision) {
    for (const int64_t batch : choices.batch)
      each(choices.graph, switched(configured.cuda_graph), [&](const std::string& graph) {
        each(choices.parallel_levels, switched(configured.parallel_levels), [&](const std::string& levels) {
          RuntimeConfig runtime = configured;
          runtime.precision = precision;
          runtime.cuda_graph = graph == "on";
          runtime.parallel_levels = levels == "on";
          all.push_back({runtime, batch});
        });
      });
  });
  return all;
}

namespace {

constexpr const char* kRow = "{:<9} {:>6} {:<6} {:<8} {:>10} {:>10} {:>10} {:>9} {:>12} {:>9} {:>9} {:>8}";

std::string heading() {
  return fmt::format(kRow, "precision", "batch", "graph", "levels", "images/s", "median ms", "p90 ms", "peak MiB",
                     "reserved MiB", "TFLOP/s", "of matrix", "unfused");
}

std::string row_text(const nlohmann::ordered_json& j) {
  const auto number = [&](const char* name, int digits) {
    return fmt::format("{:.{}f}", j[name].get<double>(), digits);
  };
  return fmt::format(kRow, j["precision"].get<std::string>(), j["batch"].get<int64_t>(),
                     j["graph"].get<bool>() ? "on" : "off", j["parallel_levels"].get<bool>() ? "parallel" : "serial",
                     number("images_per_s", 1), number("ms_median", 2), number("ms_p90", 2),
                     number("peak_memory_mb", 0), number("reserved_memory_mb", 0), number("tflops", 2),
                     number("percent_of_matrix_rate", 1) + " %", j["unfused_convolutions"].size());
}

}  // namespace

nlohmann::ordered_json benchmark_steps(const std::vector<StepChoice>& all,
                                       const std::function<nlohmann::ordered_json(const StepChoice&)>& measure,
                                       const std::function<void(const std::string&)>& say, bool& complete) {
  nlohmann::ordered_json result{{"what", "steps"}, {"rows", nlohmann::ordered_json::array()}};
  complete = true;
  for (const StepChoice& choice : all) {
    try {
      const nlohmann::ordered_json row = measure(choice);
      if (result["rows"].empty()) {
        say(fmt::format("{} {}x{} on {}", row["model"].get<std::string>(), row["width"].get<int64_t>(),
                        row["height"].get<int64_t>(), row["device"].get<std::string>()));
        say(heading());
      }
      say(row_text(row));
      for (const auto& t : row.value("timed_products", nlohmann::ordered_json::array()))
        say(fmt::format("  cuBLASLt {:.4f} ms, cuDNN {:.4f} ms: {}", t["cublaslt_ms"].get<double>(),
                        t["cudnn_ms"].get<double>(), t["problem"].get<std::string>()));
      result["rows"].push_back(row);
    } catch (const std::runtime_error& e) {
      say(fmt::format("{:<9} {:>6} failed: {}", choice.runtime.precision, choice.batch, e.what()));
      complete = false;
    }
  }
  return result;
}

}  // namespace gradlibra
