// SPDX-License-Identifier: MIT
#include "benchmarks/kernels.h"

#include <fmt/format.h>

#include "benchmarks/cases.h"
#include "benchmarks/measure.h"
#include "runtime/device/profiling.h"

namespace gradlibra {

namespace {

void require_options(const KernelBenchmarkOptions& options) {
  if (options.size < 32 || options.size % 32 != 0)
    throw std::invalid_argument(fmt::format("--size {} is not a positive multiple of 32", options.size));
  for (const int64_t N : options.batches)
    if (N < 1) throw std::invalid_argument(fmt::format("--batch {}: at least 1", N));
  if (!(options.seconds > 0))
    throw std::invalid_argument(fmt::format("--seconds {}: must be positive", options.seconds));
}

// Of all batches, those whose kernel has `filter` in its name.
std::vector<std::pair<int64_t, KernelCase>> chosen_cases(const KernelBenchmarkOptions& options, bool mixed) {
  std::vector<std::pair<int64_t, KernelCase>> chosen;
  std::vector<std::string> names;
  for (const int64_t N : options.batches)
    for (KernelCase& c : kernel_cases({.N = N, .size = options.size}, mixed)) {
      if (std::find(names.begin(), names.end(), c.kernel) == names.end()) names.push_back(c.kernel);
      if (c.kernel.find(options.filter) != std::string::npos) chosen.emplace_back(N, std::move(c));
    }
  if (!chosen.empty()) return chosen;
  throw std::invalid_argument(
      fmt::format("--filter {}: no kernel has this in its name; there are {}", options.filter, fmt::join(names, ", ")));
}

std::string rate_text(double value, const char* unit) {
  return value > 0 ? fmt::format("{:.4g} {}", value, unit) : "-";
}

}  // namespace

nlohmann::ordered_json benchmark_kernels(Context& context, const KernelBenchmarkOptions& options,
                                         const std::function<void(const std::string&)>& say) {
  require_options(options);
  const bool mixed = !context.on_host();  // a host computes in bfloat16 only to compare
  const auto chosen = chosen_cases(options, mixed);
  const std::unique_ptr<Timer> timer = make_timer(context);
  const DeviceRates rates = measure_rates(context, *timer, DType::f32, options.seconds);
  const double mixed_flops_per_s =
      mixed ? measure_rates(context, *timer, DType::bf16, options.seconds).matrix_flops_per_s : 0;
  nlohmann::ordered_json json{{"what", "kernels"},
                              {"implementation", "gradlibra"},
                              {"version", GRADLIBRA_VERSION},
                              {"device", context.device_name()},
                              {"threads", host_threads(context)},
                              {"size", options.size},
                              {"copy_gb_per_s", rates.copy_bytes_per_s * 1e-9},
                              {"matrix_tflops", rates.matrix_flops_per_s * 1e-12},
                              {"matrix_tflops_bf16", mixed_flops_per_s * 1e-12},
                              {"rows", nlohmann::ordered_json::array()}};
  say(fmt::format("{}\n100 % of `copy`: {:.4g} GB/s; of `matrix`: {:.4g} TFLOP/s in float32{}\n", context.device_name(),
                  rates.copy_bytes_per_s * 1e-9, rates.matrix_flops_per_s * 1e-12,
                  mixed ? fmt::format(", {:.4g} in bfloat16", mixed_flops_per_s * 1e-12) : ""));
  say(fmt::format("{:<32} {:<36} {:<5} {:>10} {:>10} {:>12} {:>14} {:>12}", "kernel", "shape", "type", "median ms",
                  "min ms", "traffic", "arithmetic", "share") +
      (options.copies ? "  copy of as much" : ""));
  for (const auto& [N, c] : chosen) {
    Timing timing;
    Effort effort;
    {
      CaseMemory memory(context);
      const Work work = c.prepare(memory);
      effort = work.effort;
      const Range range(c.kernel.c_str());
      timing = measure(context, *timer, work.run, options.seconds);
    }
    context.memory().trim();  // a case's buffers fit hardly any other
    const double bytes_per_s = effort.bytes / timing.median_s, flops_per_s = effort.flops / timing.median_s;
    const double matrix_rate = c.dtype == "bf16" ? mixed_flops_per_s : rates.matrix_flops_per_s;
    const double percent = 100 * (effort.is_matrix ? flops_per_s / matrix_rate : bytes_per_s / rates.copy_bytes_per_s);
    const char* of = effort.is_matrix ? "matrix" : "copy";
    double copy_s = 0;
    if (options.copies && !effort.is_matrix && effort.bytes > 0) {
      copy_s = copy_seconds(context, *timer, static_cast<int64_t>(effort.bytes), options.seconds / 4);
      context.memory().trim();
    }
    const std::string copy =
        copy_s > 0 ? fmt::format("  {:>10.4f} ms, {:.1f} %", copy_s * 1e3, 100 * copy_s / timing.median_s) : "";
    say(fmt::format("{:<32} {:<36} {:<5} {:>10.4f} {:>10.4f} {:>12} {:>14} {:>5.1f} % {}{}", c.kernel, c.shape, c.dtype,
                    timing.median_s * 1e3, timing.min_s * 1e3, rate_text(bytes_per_s * 1e-9, "GB/s"),
                    rate_text(flops_per_s * 1e-12, "TFLOP/s"), percent, of, copy));
    json["rows"].push_back({{"kernel", c.kernel},
                            {"shape", c.shape},
                            {"dtype", c.dtype},
                            {"batch", N},
                            {"ms_median", timing.median_s * 1e3},
                            {"ms_min", timing.min_s * 1e3},
                            {"calls", timing.calls},
                            {"bytes", effort.bytes},
                            {"flops", effort.flops},
                            {"gb_per_s", bytes_per_s * 1e-9},
                            {"tflops", flops_per_s * 1e-12},
                            {"percent", percent},
                            {"percent_of", of}});
    if (copy_s > 0) json["rows"].back()["ms_copy"] = copy_s * 1e3;
  }
  return json;
}

}  // namespace gradlibra
