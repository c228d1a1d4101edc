// SPDX-License-Identifier: MIT
// Batches from the loader to the device.
#pragma once

#include "data/loader.h"
#include "models/detector.h"

namespace gradlibra {

struct DeviceBatch {
  ImageBatch images;
  GroundTruth truth;
};

// Uploads a batch; buffers of an earlier batch of the same shape are used again.
void upload(Context& context, const Batch& batch, DeviceBatch& to);

}  // namespace gradlibra
