// SPDX-License-Identifier: MIT
// Measuring on a device: how long a piece of work takes, and how fast the device is at its best.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "runtime/device/context.h"
#include "runtime/device/timer.h"

namespace gradlibra {

[[nodiscard]] std::unique_ptr<Timer> make_timer(Context& context);

// Host threads that compute: those of a CPU context, 1 (which enqueues) with a GPU.
[[nodiscard]] int host_threads(Context& context);

struct Timing {
  double median_s = 0, min_s = 0;  // of one call
  int calls = 0;                   // measured ones
};

// Calls `work` once to warm up, then about `seconds` long in samples of several calls each, at least three samples. A
// sample lasts some milliseconds if 200 calls do, so that neither the clock's resolution nor a first launch counts. On
// a GPU a sample is a recorded graph: small kernels would else be timed by how fast the host launches them. `work` must
// be one that can be recorded.
[[nodiscard]] Timing measure(Context& context, Timer& timer, const std::function<void()>& work, double seconds);

// The q-quantile (0 to 1) by nearest rank; values may be in any order, there is at least one.
[[nodiscard]] double quantile(std::span<const double> values, double q);

// Best rates of this device in this process: what percentages refer to. Not the data sheet's numbers.
struct DeviceRates {
  // Bytes read plus bytes written per second of a copy between two arrays of 256 MiB, far larger than any cache.
  double copy_bytes_per_s = 0;
  // Floating point operations per second (a multiply-add is two) on maps of the type asked for: the fastest of square
  // matrix products and 3x3 convolutions of 256 channels in growing sizes, through the context's Convolution. On a host
  // these are dilated, so that what is counted is multiplied: others may take Winograd's algorithm.
  double matrix_flops_per_s = 0;
};
// Seconds of one copy that reads `bytes` / 2 and writes as many, by the faster of the device's own and a kernel; the
// same memory each time, so that few bytes stay in a cache.
[[nodiscard]] double copy_seconds(Context& context, Timer& timer, int64_t bytes, double seconds);
[[nodiscard]] DeviceRates measure_rates(Context& context, Timer& timer, DType maps, double seconds);

}  // namespace gradlibra
