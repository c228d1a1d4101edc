// SPDX-License-Identifier: MIT
#include "apps/batches.h"

namespace gradlibra {

namespace {

template <class T>
void put(Context& context, const std::vector<T>& values, Shape shape, Tensor& to) {
  if (to.empty() || to.shape() != shape) to = context.empty(shape, dtype_of<T>());
  context.upload<T>(values, to);
}

}  // namespace

void upload(Context& context, const Batch& batch, DeviceBatch& to) {
  const int64_t N = batch.N, M = batch.max_boxes;
  put(context, batch.images, {N, batch.H, batch.W, 3}, to.images.pixels);
  put(context, batch.orientations, {N}, to.images.orientations);
  put(context, batch.sizes, {N, 2}, to.images.sizes);
  put(context, batch.gt_boxes, {N, M, 4}, to.truth.boxes);
  put(context, batch.gt_labels, {N, M}, to.truth.labels);
  put(context, batch.gt_counts, {N}, to.truth.counts);
}

}  // namespace gradlibra
