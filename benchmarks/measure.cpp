// SPDX-License-Identifier: MIT
#include "benchmarks/measure.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/elementwise.h"

namespace gradlibra {

std::unique_ptr<Timer> make_timer(Context& context) {
  std::unique_ptr<Timer> timer;
  context.run([&](auto& device) { timer = make_timer(device); });
  return timer;
}

namespace {

int threads_of(const Cpu& cpu) { return cpu.threads(); }
[[maybe_unused]] int threads_of(const Cuda&) { return 1; }

}  // namespace

int host_threads(Context& context) {
  int threads = 1;
  context.run([&](auto& device) { threads = threads_of(device); });
  return threads;
}

double quantile(std::span<const double> values, double q) {
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const auto rank = static_cast<int64_t>(std::ceil(q * static_cast<double>(sorted.size()))) - 1;
  return sorted[static_cast<size_t>(std::clamp<int64_t>(rank, 0, static_cast<int64_t>(sorted.size()) - 1))];
}

Timing measure(Context& context, Timer& timer, const std::function<void()>& work, double seconds) {
  constexpr double kSampleSeconds = 5e-3;
  constexpr int kMostCalls = 200, kLeastSamples = 3, kMostSamples = 50;
  work();
  context.synchronize();
  timer.start();
  work();
  const double first = std::max(timer.stop(), 1e-7);
  const int calls = static_cast<int>(std::clamp(std::ceil(kSampleSeconds / first), 1.0, double{kMostCalls}));
  const int samples =
      static_cast<int>(std::clamp(std::floor(seconds / (calls * first)), double{kLeastSamples}, double{kMostSamples}));
  const auto sample = [&] {
    for (int i = 0; i < calls; ++i) work();
  };
  const std::unique_ptr<CapturedWork> recorded = context.capture(sample);
  if (recorded) {
    recorded->launch();  // the first one uploads the graph
    context.synchronize();
  }
  std::vector<double> times;
  for (int s = 0; s < samples; ++s) {
    timer.start();
    if (recorded)
      recorded->launch();
    else
      sample();
    times.push_back(timer.stop() / calls);
  }
  return {.median_s = quantile(times, 0.5), .min_s = quantile(times, 0), .calls = samples * calls};
}

namespace {

struct ConvolutionRate {
  double flops_per_s, seconds;  // best rate, and the time of one call
};

ConvolutionRate convolution_rate(Context& context, Timer& timer, DType maps, const Shape& x_shape,
                                 const Shape& weight_shape, double seconds) {
  const int dilation = context.on_host() ? 2 : 1;  // what is counted is multiplied: no algorithm of Winograd's
  const kernels::ConvShape shape{.padding = dilation * static_cast<int>(weight_shape[1] / 2), .dilation = dilation};
  Tensor x = context.empty(x_shape, maps), weight = context.empty(weight_shape, maps);
  Tensor y = context.empty({x_shape[0], x_shape[1], x_shape[2], weight_shape[0]}, maps);
  // Zeros would let a GPU run at a higher clock than it holds with real values.
  for (Tensor* t : {&x, &weight}) {
    std::vector<float> values(static_cast<size_t>(t->size()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 7919) % 2003) / 1001.0f - 1.0f;
    if (maps == DType::f32) {
      context.upload<float>(values, *t);
    } else {
      std::vector<bfloat16> rounded(values.size());
      std::transform(values.begin(), values.end(), rounded.begin(), to_bfloat16);
      context.upload<bfloat16>(rounded, *t);
    }
  }
  const Timing timing = measure(
      context, timer, [&] { context.convolution().forward({.x = x, .weight = weight, .shape = shape, .y = y}); },
      seconds);
  const double per_output = 2.0 * static_cast<double>(weight.size() / weight_shape[0]);
  return {per_output * static_cast<double>(y.size()) / timing.min_s, timing.min_s};
}

// The best of growing problems, until one is long enough to keep all of the device busy: what is large for two
// processors is nothing for a GPU, and what is large for a GPU takes a processor minutes.
double matrix_rate(Context& context, Timer& timer, DType maps, double seconds) {
  constexpr double kLongEnough = 10e-3;
  double best = 0;
  const auto long_enough = [&](const Shape& x, const Shape& weight) {
    const ConvolutionRate rate = convolution_rate(context, timer, maps, x, weight, seconds);
    context.memory().trim();
    best = std::max(best, rate.flops_per_s);
    return rate.seconds >= kLongEnough;
  };
  for (int64_t n = 512; n <= 8192 && !long_enough({1, n, 1, n}, {n, 1, 1, n}); n *= 2) {
  }
  for (int64_t N = 1; N <= 64 && !long_enough({N, 32, 32, 256}, {256, 3, 3, 256}); N *= 2) {
  }
  return best;
}

}  // namespace

double copy_seconds(Context& context, Timer& timer, int64_t bytes, double seconds) {
  const int64_t values = std::max<int64_t>(1, bytes / 8);
  const Tensor from = context.zeros({values});
  Tensor to = context.zeros({values});
  // Two ways to copy: the device's own, and a kernel with all threads. Either may be the faster one.
  const Timing plain = measure(
      context, timer, [&] { context.copy(from, to); }, seconds);
  const Timing kernel = measure(
      context, timer,
      [&] { context.run([&](auto& device) { kernels::copy(device, from.view(), to.view(), Accumulate::overwrite); }); },
      seconds);
  return std::min(plain.min_s, kernel.min_s);
}

DeviceRates measure_rates(Context& context, Timer& timer, DType maps, double seconds) {
  DeviceRates rates;
  constexpr int64_t kCopied = int64_t{512} << 20;
  rates.copy_bytes_per_s = static_cast<double>(kCopied) / copy_seconds(context, timer, kCopied, seconds);
  context.memory().trim();
  rates.matrix_flops_per_s = matrix_rate(context, timer, maps, seconds);
  return rates;
}

}  // namespace gradlibra
