// SPDX-License-Identifier: MIT
// `benchmark step`: whole training steps on synthetic input that lies on the device.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "data/loading/loader.h"
#include "engine/experiment_config.h"
#include "models/detector.h"

namespace gradlibra {

struct StepBenchmarkOptions {
  int64_t batch = 8, height = 512, width = 512;
  int steps = 20, warmup = 3;
  double seconds = 0.3;           // for measuring the device's matrix rate
  double matrix_flops_per_s = 0;  // that rate if it is known
};

// The fields of --json. With a data set its images come through the loader, as in training; else random ones lie on the
// device. std::invalid_argument for options out of range, std::runtime_error if the loss is not finite.
[[nodiscard]] nlohmann::ordered_json benchmark_step(Context& context, const ExperimentConfig& config, int classes,
                                                    const StepBenchmarkOptions& options,
                                                    const Dataset* dataset = nullptr);

// Random pixels, and 8 to 40 boxes of 16 to 128 pixels per image (fewer if max_boxes is less), labels uniform over the
// classes.
[[nodiscard]] Batch synthetic_batch(int64_t N, int64_t height, int64_t width, int64_t max_boxes, int classes);

// Classes of which each has half the boxes of the one before, for losses that look at frequencies.
[[nodiscard]] ClassInfo long_tailed_classes(int count);

// Floating point operations of a training step of N images, a multiply-add being two: 2 * multiply-adds forward; for
// parts with trainable parameters as much again for the gradient of the weights and of the input. Parts that are frozen
// count forward only, the stem never has a gradient of its input (the image), and the sampling of deformable
// convolutions is not counted, as in the literature. The input gradient of the first trained convolution behind a
// frozen part is counted though nobody computes it: below one percent.
[[nodiscard]] double training_flops(const Detector& detector, int64_t N, int64_t height, int64_t width);

}  // namespace gradlibra
