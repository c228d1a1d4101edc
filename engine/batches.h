// SPDX-License-Identifier: MIT
// Batches from the loader to the device.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "data/datasets/dataset.h"
#include "data/loading/loader.h"
#include "models/detector.h"
#include "runtime/base/safetensors.h"

namespace gradlibra {

struct DeviceBatch {
  ImageBatch images;
  GroundTruth truth;
};

// Uploads a batch; buffers of an earlier batch of the same shape are used again.
void upload(Context& context, const Batch& batch, DeviceBatch& to);
// The same as a list of copies that are still to be made.
[[nodiscard]] std::vector<Prefetch::Item> prepare(Context& context, const Batch& batch, DeviceBatch& to);

// The classes of a data set, and how many boxes of each its training split trains on.
[[nodiscard]] ClassInfo class_info(const Dataset& training);

// A batch as a file, and back: what training writes when a loss is not a number, so that `inspect step --batch` can run
// it again. std::runtime_error names the file if it is not such a batch, and tensor, image and box of a value that no
// batch for a detector of this many classes has; without their number any label from 0 on is taken.
[[nodiscard]] SafetensorsFile batch_file(const Batch& batch);
[[nodiscard]] Batch read_batch(const std::filesystem::path& path, std::optional<int64_t> classes = {});

}  // namespace gradlibra
