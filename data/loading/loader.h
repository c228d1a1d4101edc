// SPDX-License-Identifier: MIT
// Batches for training and evaluation: decoding ahead on threads, geometric augmentation, a fixed batch shape, a
// position that can be stored and resumed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/loading/batch.h"
#include "data/loading/loader_config.h"

namespace gradlibra {

// Where an epoch stands; the order of images and every random choice follow from it and the dataset alone.
struct LoaderState {
  uint64_t seed = 0;
  int64_t epoch = 0;
  int64_t batch = 0;  // batches already taken from this epoch
};

// Training: every epoch shuffles its images (seed, epoch; data/loading/sampling.h), the last batch is filled by
// repeating from the epoch's start; random flips, turns, sections and colours per (seed, epoch, position), never
// depending on worker timing. Where data.bad_image is `drop`, an image that cannot be read gives its place to the next
// in the order, up to 1 % of the images (at least 5): with more, next() throws. Difficult and crowd objects are not
// training targets. Turns need height == width or else only 180 degrees are used. Every rank has the
// same number of batches: rank r takes the r-th slice of each run of batch_size * world_size positions.
// Evaluation: each image once, in order, no augmentation; the last batch may be short (N smaller, never 0). Ranks are
// sliced in the same way, so that higher ranks may have one batch less.
// Boxes lie in [0, width] x [0, height] of the image's own content after resizing and orientation.
enum class LoaderMode { train, evaluate };

class Loader {
 public:
  // `dataset` must outlive the loader. std::runtime_error names the image that does not fit (`loader.resize` none) or
  // holds too many boxes; std::invalid_argument the key of `config` that is out of range, or a state that this
  // dataset cannot continue.
  Loader(const Dataset& dataset, const LoaderConfig& config, const DatasetConfig& files, LoaderMode mode,
         LoaderState state, int rank = 0, int world_size = 1);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  [[nodiscard]] int64_t batches_per_epoch() const;
  // Training: the next batch, epoch after epoch. Evaluation: false after the last. Blocks for the decoding threads;
  // their errors (named file and remedy) are thrown here, ReadError where the file could not be read; a further call
  // tries the same batch again. The memory of `batch` goes back to the loader: where the
  // same one is passed every time, nothing is allocated after the first few.
  bool next(Batch& batch);
  // State after the batches taken so far: a loader built from it continues with the same batches.
  [[nodiscard]] LoaderState state() const;
  // Seconds next() has waited for data so far.
  [[nodiscard]] double seconds_waited() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gradlibra
